"""Which values the parameters of a kernel may have, and the bounds within which a Gaussian process chooses them."""

from __future__ import annotations

from math import ceil, floor
from numbers import Real

import numpy as np

from eqkernels._parameters import is_number

#: weight of charges where it is still to be chosen
AUTO_WEIGHT = 0.01


def check_bounds(bounds, name):
    """Bounds as a pair of floats, or an error that names them."""
    try:
        low, high = (float(one) for one in bounds)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={bounds!r} must be a pair of positive numbers, or 'fixed'") from error
    if not 0 < low <= high < np.inf:
        raise ValueError(f"{name}={bounds!r} must be a pair of positive numbers, the smaller first, or 'fixed'")
    return low, high


def check_zeta(zeta):
    """Refuse a degree that is no positive integer."""
    number = is_number(zeta) and zeta >= 1
    if number and zeta == int(zeta):
        return
    remedy = ""
    if number:
        low = int(zeta)
        remedy = (
            ", for other powers of a kernel are not positive definite; between them lie sums such as 0.5 * "
            f"CovariantKernel(zeta={low}) + 0.5 * CovariantKernel(zeta={low + 1})"
        )
    raise ValueError(f"zeta={zeta!r} must be an integer, at least 1{remedy}")


def integers(bounds, name):
    """Positive integers within bounds."""
    low, high = check_bounds(bounds, name)
    within = range(max(ceil(low), 1), floor(high) + 1)
    if not within:
        raise ValueError(f"{name}={bounds!r} contains no positive integer, which alone make a kernel positive definite")
    return within


def is_exponent(name):
    """Whether a parameter is an exponent of a kernel or another integer that is chosen, by its name."""
    return name.split("__")[-1] in ("zeta", "body_order")


def is_fixed(bounds):
    """Whether bounds say that a parameter is not free."""
    return isinstance(bounds, str) and bounds == "fixed"


def start_value(value, name):
    """Value of a factor from which a search starts: a positive one as it is."""
    return AUTO_WEIGHT if is_open(value) else positive(value, name)


def is_open(value):
    """Whether a factor is one that models choose before the others."""
    return isinstance(value, str) and value == "auto"


def positive(value, name):
    """Refuse a factor with which a kernel would not be positive definite."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name}={value!r} must be positive, or the kernel is not positive definite")
    return value
