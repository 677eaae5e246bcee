"""Arrays of numbers from what users pass in, or a message that names the argument."""

import math
from numbers import Integral, Real

import numpy as np

from eqkernels._numeric import check_plain

# Squares of larger numbers, and sums of them, overflow.
_LARGEST = 1e150


def real_array(values, name, finite=False):
    """Array of float64 from real numbers.

    Parameters
    ----------
    values : array-like
    name : str
        What the message calls them.
    finite : bool, default=False
        Whether to refuse NaN, infinity, and numbers whose squares overflow.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        If they are no real numbers, or carry units.
    ValueError
        If they are ragged or masked, or not finite where they must be.
    """
    check_plain(values, name)
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked entries: remove them, or fill them in")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has entries of different shapes, which make no array") from error
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real numbers, got complex ones")
    try:
        array = array.astype(float, copy=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be real numbers: {error}") from error
    if finite and not (np.abs(array) <= _LARGEST).all():
        place = np.argwhere(~(np.abs(array) <= _LARGEST))[0].tolist()
        value = array[tuple(place)]
        raise ValueError(f"{name} must be finite numbers up to {_LARGEST:g}, got {value} (NaN or too large) at {place}")
    return array


def check_integer(value, name, low, high):
    """Refuse what is no integer between two bounds."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be an integer")
    if not low <= value <= high:
        raise ValueError(f"{name}={value} must lie between {low} and {high}")


def check_positive(value, name):
    """Refuse what is no positive, finite number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number")
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} must be a positive, finite number")
