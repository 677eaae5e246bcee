"""Errors against the number of training structures, with a power law through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, ShuffleSplit, check_cv, learning_curve

from eqkernels._parameters import is_integer
from eqkernels._types import Floats, Ints
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.metrics import neg_frobenius_rmse
from eqkernels.plotting._matplotlib import single_axes, with_unit
from eqkernels.structures import as_list

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.lines import Line2D


class LearningCurveDisplay:
    r"""Error of predictions against the number of training structures, and the law :math:`a N^{-b}` fitted to it.

    The law is fitted to the logarithm of the mean errors by least squares. A curve that bends away from it upwards has
    reached what features, noise or regularization leave.

    Parameters
    ----------
    train_sizes : array-like of int, shape (n_sizes,)
        Numbers of training structures, ascending.
    errors : array-like of shape (n_sizes, n_splits)
        Error on the structures held back, for each split.
    label : str, default=""
    unit : str, default=""
        Unit of the errors, for the axis.
    error_name : str, default="RMSE"

    Attributes
    ----------
    amplitude_, exponent_ : float
        a and b of the fit; NaN with a single size, or where an error is zero.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbar_ : matplotlib ErrorbarContainer
        Means over the splits, and their standard deviations.
    fit_ : matplotlib Line2D or None

    Examples
    --------
    >>> display = LearningCurveDisplay([10, 20, 40, 80], [[8.0], [4.0], [2.0], [1.0]], unit="D").plot()
    >>> round(display.amplitude_, 6), round(display.exponent_, 6)
    (80.0, 1.0)
    """

    def __init__(
        self, train_sizes: ArrayLike, errors: ArrayLike, label: str = "", unit: str = "", error_name: str = "RMSE"
    ):
        self.train_sizes = np.asarray(train_sizes)
        self.errors = np.asarray(errors, dtype=float)
        self.label = label
        self.unit = unit
        self.error_name = error_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms] | EquivariantFeatures,
        y: ArrayLike,
        *,
        train_sizes: ArrayLike | None = None,
        cv: Any = None,
        groups: ArrayLike | None = None,
        scoring: Callable[..., float] | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        label: str = "",
        unit: str = "",
        error_name: str = "RMSE",
        ax: Axes | None = None,
    ) -> LearningCurveDisplay:
        """Fit a model to more and more structures; each training set contains the smaller ones of its split.

        Parameters
        ----------
        estimator : estimator
            Clones of it are fitted.
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like
            True tensors.
        train_sizes : array-like, default=None
            Numbers of structures, or fractions of the largest training set; None: five from 1/16 of it to all.
        cv : int, splitter or iterable of (train, test), default=None
            None: a quarter of the structures, or of the groups, is held back, three times at random.
        groups : array-like of shape (n_structures,), default=None
            Structures of one group, such as the geometries of a molecule, never train and test the same model.
        scoring : callable, default=None
            Negative error, such as those of :mod:`eqkernels.metrics`, e.g. ``neg_irrep_rmse("2e")``; None: the
            Frobenius RMSE.
        random_state : int, RandomState or None, default=None
            Seed of the splits and of the order in which structures are added.
        n_jobs : int, default=None
        label, unit, error_name : str
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        ValueError
            If a model cannot be fitted, as where the smallest training set lacks a species.
        """
        X = X if isinstance(X, EquivariantFeatures) else as_list(X)
        splits = list(_splitter(cv, groups, random_state).split(X, y, groups))
        sizes = _sizes(train_sizes, min(len(train) for train, _ in splits))
        scoring = neg_frobenius_rmse if scoring is None else scoring
        options: dict[str, Any] = {"train_sizes": sizes, "cv": splits, "scoring": scoring, "n_jobs": n_jobs}
        options |= {"shuffle": True, "random_state": random_state, "error_score": "raise"}
        try:
            scores = learning_curve(estimator, X, y, **options)[2]
        except ValueError as error:
            raise ValueError(
                f"a model of the learning curve failed: {error}. Training sets begin with {sizes[0]} structures; if "
                "these lack a species, raise train_sizes"
            ) from error
        return cls(sizes, -scores, label, unit, error_name).plot(ax)

    def plot(self, ax: Axes | None = None) -> LearningCurveDisplay:
        """Draw the errors and the fit, on logarithmic axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        self
        """
        self.ax_: Axes = single_axes(ax, (5.2, 4.0))
        self.figure_ = self.ax_.figure
        mean, std = self.errors.mean(axis=1), self.errors.std(axis=1)
        self.amplitude_, self.exponent_ = _power_law(self.train_sizes, mean)
        label = ": ".join(part for part in (self.label, self._law()) if part)
        self.ax_.set(xscale="log", yscale="log")
        self.errorbar_: ErrorbarContainer = self.ax_.errorbar(
            self.train_sizes, mean, std, fmt="o", markersize=4, capsize=2, label=label or self.error_name
        )
        room = np.array([1 / 1.1, 1.1])  # a single point has limits, too
        self.ax_.update_datalim(np.stack([self.train_sizes[[0, -1]] * room, mean[[0, -1]] * room], axis=1))
        self.fit_: Line2D | None = None
        if np.isfinite(self.exponent_):
            law = self.amplitude_ * self.train_sizes**-self.exponent_
            color = self.errorbar_.lines[0].get_color()
            self.fit_ = self.ax_.plot(self.train_sizes, law, "--", color=color, linewidth=1)[0]
        self.ax_.set(xlabel="training structures", ylabel=with_unit(self.error_name, self.unit))
        _plain_ticks(self.ax_)
        self.ax_.legend(fontsize=8, frameon=False)
        return self

    def _law(self):
        if not np.isfinite(self.exponent_):
            return ""
        return f"{self.amplitude_:.3g} $N^{{{-self.exponent_:.2f}}}$"


def _splitter(cv, groups, random_state):
    if cv is None:
        split = ShuffleSplit if groups is None else GroupShuffleSplit
        return split(3, test_size=0.25, random_state=random_state)
    return GroupKFold(cv) if is_integer(cv) and groups is not None else check_cv(cv)


def _sizes(train_sizes: Any, largest: int) -> Ints:
    """Numbers of structures, ascending, each once."""
    wanted = np.geomspace(1 / 16, 1, 5) if train_sizes is None else np.atleast_1d(train_sizes)
    sizes = wanted
    if wanted.dtype.kind == "f":
        if ((wanted <= 0) | (wanted > 1)).any():
            raise ValueError(f"train_sizes={train_sizes} must be integers, or fractions above 0 and up to 1")
        sizes = np.maximum(np.round(wanted * largest).astype(int), min(2, largest))
    if sizes.dtype.kind not in "iu" or (sizes < 1).any() or (sizes > largest).any():
        raise ValueError(f"train_sizes={train_sizes} must lie between 1 and {largest}, the smallest training set of cv")
    return np.unique(sizes)


def _power_law(sizes: Any, errors: Floats) -> tuple[float, float]:
    """Amplitude a and exponent b of errors = a sizes^-b."""
    if len(sizes) < 2 or not (errors > 0).all():
        return np.nan, np.nan
    slope, offset = np.polyfit(np.log(sizes), np.log(errors), 1)
    return float(np.exp(offset)), float(-slope)


def _plain_ticks(ax):
    """Ticks on logarithmic axes, few enough to be legible, written as plain numbers."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        decades = np.log10(high / low)
        few = MaxNLocator(5, integer=axis is ax.xaxis)
        axis.set_major_locator(few if decades < 0.7 else LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
        axis.set_major_formatter("{x:g}")
    ax.minorticks_off()
