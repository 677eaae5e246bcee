"""Numbers that users pass in: to plain float arrays, and nothing about them dropped on the way.

``np.asarray`` alone strips units, forgets masks, and reads text and booleans as numbers.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Squares of larger numbers, summed and weighted, come near the end of double precision.
LARGEST = 1e100
# Squares of larger numbers, and sums of them, overflow.
LARGEST_TO_SQUARE = 1e150
_PLAIN = (int, float, np.integer, np.floating)
_REFUSED = {"b": "booleans", "S": "text", "U": "text", "M": "dates", "m": "time differences", "V": "records"}


def as_floats(values: Any, name: str) -> NDArray[np.float64]:
    """Float array of numbers, NaN where they are missing (None, pandas.NA, masked).

    Parameters
    ----------
    values : array-like
    name : str
        What they are called in messages.

    Returns
    -------
    ndarray of float

    Raises
    ------
    TypeError
        If they carry units, or are text, booleans or dates, or no array at all.
    ValueError
        If they are complex.

    Examples
    --------
    >>> as_floats([1, None, np.ma.masked], "y")
    array([ 1., nan, nan])
    """
    check_plain(values, name)
    if is_missing(values):
        return np.array(np.nan)
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, as_floats(values.filled(0), name))
    if isinstance(values, list | tuple) and not written_out(values):
        values = [as_floats(one, f"{name}[{k}]") for k, one in enumerate(values)]
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"{name} is not an array of numbers: its rows have different lengths or kinds") from error
    if array.dtype.kind == "O":
        array = np.array([_number(one, name) for one in array.ravel()], dtype=float).reshape(array.shape)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} is complex, fit its real and imaginary parts one by one")
    if array.dtype.kind not in "iuf":
        what = _REFUSED.get(array.dtype.kind, f"of type {array.dtype}")
        raise TypeError(f"{name} is not numeric but {what}: give numbers")
    return array.astype(float)


def check_plain(values, name):
    """Refuse what carries units, which would be lost."""
    if type(values) in (int, float, np.ndarray):
        return
    units = [one for one in ("units", "unit") if hasattr(values, one)]
    if units and not hasattr(values, "iloc"):  # columns of a table are attributes of it, too
        numbers = [one for one in ("magnitude", "value", "values") if hasattr(values, one)]
        cure = f", {name.partition('[')[0]}.{numbers[0]}" if numbers else ""
        raise TypeError(
            f"{name} carries units ({getattr(values, units[0])}), which would be lost: convert it to the unit that you "
            f"want and give its numbers{cure}"
        )


def is_missing(value):
    """Whether a value is None, or what pandas or numpy.ma write where there is none."""
    return value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType")


def written_out(values):
    """Whether nested lists hold nothing but plain numbers."""
    types, pending = set(), [values]
    while pending:
        for one in pending.pop():
            if isinstance(one, list | tuple):
                pending.append(one)
            else:
                types.add(type(one))
    return all(issubclass(one, _PLAIN) and one is not bool for one in types)


def _number(value, name):
    if is_missing(value):
        return np.nan
    if isinstance(value, _PLAIN) and not isinstance(value, bool):
        return float(value)
    check_plain(value, name)
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind != "O":
        return float(as_floats(array, name))
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not numeric: it holds a {type(value).__name__}") from error


def real_array(values: Any, name: str, finite: bool = False) -> NDArray[np.float64]:
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
    if finite and not (np.abs(array) <= LARGEST_TO_SQUARE).all():
        place = np.argwhere(~(np.abs(array) <= LARGEST_TO_SQUARE))[0].tolist()
        value = array[tuple(place)]
        raise ValueError(
            f"{name} must be finite numbers up to {LARGEST_TO_SQUARE:g}, got {value} (NaN or too large) at {place}"
        )
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
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{name}={value!r} must be a positive, finite number")
