"""Observed against expected coverage of error bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._fitted import gives_std, last_step
from eqkernels.calibration import calibration_curve, miscalibration_area
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.plotting._matplotlib import single_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


class CalibrationDisplay:
    """Fraction of true values within the regions that should contain it with a given probability.

    Use :meth:`from_predictions` or :meth:`from_estimator` to make one. Below the diagonal error bars are too small,
    above it too large.

    Parameters
    ----------
    expected, observed : ndarray of shape (n_levels,)
        As :func:`eqkernels.calibration.calibration_curve` returns them.
    area : float
        Miscalibration area, for the legend.
    label : str, default=""

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
    """

    def __init__(self, expected: NDArray[np.float64], observed: NDArray[np.float64], area: float, label: str = ""):
        self.expected = expected
        self.observed = observed
        self.area = area
        self.label = label

    @classmethod
    def from_predictions(
        cls, y_true: ArrayLike, y_pred: ArrayLike, uncertainty: ArrayLike, *, label: str = "", ax: Axes | None = None
    ) -> CalibrationDisplay:
        """Draw from true and predicted tensors and their error bars.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n, 3, ..., 3), or lists of one array for each structure
        uncertainty : array-like
            Standard deviations or covariances, as in :func:`eqkernels.calibration.calibration_curve`.
        label : str, default=""
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        CalibrationDisplay
        """
        expected, observed = calibration_curve(y_true, y_pred, uncertainty, 99)
        area = miscalibration_area(y_true, y_pred, uncertainty)
        return cls(expected, observed, area, label).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms] | EquivariantFeatures,
        y: ArrayLike,
        *,
        label: str = "",
        ax: Axes | None = None,
    ) -> CalibrationDisplay:
        """Draw from a fitted model that predicts standard deviations, or a pipeline that ends in one.

        Parameters
        ----------
        estimator : TensorGPR, SparseTensorGPR, TensorCommittee, ...
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like
            True tensors.
        label : str, default=""
        ax : matplotlib Axes, default=None

        Returns
        -------
        CalibrationDisplay

        Raises
        ------
        TypeError
            If the estimator predicts no standard deviations.
        """
        if not gives_std(estimator):
            raise TypeError(
                f"{type(last_step(estimator)).__name__} predicts no standard deviations: use TensorGPR, "
                "SparseTensorGPR, TensorCommittee or EquivariantNetworkRegressor(error_bars=True) (of a search, its "
                "best_estimator_)"
            )
        return cls.from_predictions(y, *estimator.predict(X, return_std=True), label=label, ax=ax)

    def plot(self, ax: Axes | None = None) -> CalibrationDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        self
        """
        ax = single_axes(ax)
        if not ax.lines:
            ax.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
        label = f"{self.label} (area {self.area:.3f})" if self.label else f"area {self.area:.3f}"
        self.line_: Line2D = ax.plot([0, *self.expected, 1], [0, *self.observed, 1], label=label)[0]
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="expected coverage", ylabel="observed coverage")
        ax.legend(loc="lower right", fontsize=8, frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
