"""Constraints of parameters, one table for each estimator: type, range, and the message for what is outside of them.

A table is a dict ``_constraints`` of the class, from names of parameters to what they may be::

    _constraints = {"n_max": Integer(1, 50), "sigma": Number(above=0), "solver": Choice("lbfgs", "adam")}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from eqkernels._progress import ask


@dataclass(frozen=True)
class Integer:
    """An integer between two bounds, of which the upper may be missing, or None where that is allowed."""

    low: int
    high: int | None = None
    none: bool = False

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if value is None and self.none:
            return None
        if is_integer(value) and self.low <= value and (self.high is None or value <= self.high):
            return None
        bounds = f", at least {self.low}" if self.high is None else f" between {self.low} and {self.high}"
        return f"must be an integer{bounds}" + self.none * ", or None"


@dataclass(frozen=True)
class Number:
    """A finite number in an interval, or None where that is allowed.

    Parameters
    ----------
    above, low : float
        Bounds from below, of which ``above`` is not allowed itself.
    high, below : float
        Bounds from above, of which ``below`` is not allowed itself.
    none : bool
    why : str
        What is said to those who exceed ``high``.
    """

    above: float = -np.inf
    low: float = -np.inf
    high: float = np.inf
    below: float = np.inf
    none: bool = False
    why: str = ""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if value is None and self.none:
            return None
        if is_number(value) and self.above < value < self.below and value >= self.low:
            if value <= self.high:
                return None
            return f"must not exceed {self.high:g}{self.why}"
        return f"must be {self._range()}" + self.none * ", or None"

    def _range(self) -> str:
        if self.above == 0 and self.below == np.inf:
            return "a positive, finite number"
        if self.low == 0 and self.below == np.inf:
            return "a finite number, zero or positive"
        if self.above > -np.inf and self.below < np.inf:
            return f"a number between {self.above:g} and {self.below:g}"
        return "a finite number"


class Choice:
    """One of some values, which are strings, None, True or False."""

    def __init__(self, *values: Any):
        self.values = values

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if any(
            value is one or (isinstance(one, str) and isinstance(value, str) and value == one) for one in self.values
        ):
            return None
        return f"must be one of {self.values}"


class Flag:
    """True or False."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        return None if isinstance(value, bool | np.bool_) else "must be True or False"


class Heads:
    """True, False, or a number of heads of attention."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if isinstance(value, bool | np.bool_) or (is_integer(value) and value >= 1):
            return None
        return "must be True, False, or a positive integer, the number of heads"


@dataclass(frozen=True)
class ArrayName:
    """A name, of an array of atoms, or None where that is allowed."""

    none: bool = False

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if (value is None and self.none) or (isinstance(value, str) and value):
            return None
        return "must be the name of an array of the atoms" + self.none * ", or None"


class Jobs:
    """Number of threads or processes, with joblib's meaning."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if value is None or (is_integer(value) and value != 0):
            return None
        return "must be None or an integer other than 0, the number of threads (-1: all)"


class Verbosity:
    """An integer or a bool."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        return None if isinstance(value, Integral | np.bool_) else "must be an integer or a bool"


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_parameters(estimator: Any, more: Iterable[str] = ()) -> None:
    """Refuse all parameters that are out of range at once.

    Parameters
    ----------
    estimator : object
        With a table ``_constraints``.
    more : iterable of str
        Problems that no table of single parameters can know.

    Raises
    ------
    ValueError
        That names the class, each parameter with its value, and what it may be.
    """
    ask(getattr(estimator, "verbose", 0))
    problems = [*_problems(estimator), *more]
    if problems:
        raise ValueError(f"{type(estimator).__name__}: " + "; ".join(problems))


def _problems(estimator: Any) -> Iterator[str]:
    for name, constraint in estimator._constraints.items():
        value = getattr(estimator, name)
        problem = constraint.problem(value)
        if problem is not None:
            yield f"{name}={value!r} {problem}"
