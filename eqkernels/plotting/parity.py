"""Predicted against true components, a panel for each irrep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.metrics import irrep_rmse
from eqkernels.so3 import CartesianTensor, cartesian_tensor
from eqkernels.so3.inference import infer_formula
from eqkernels.structures.paired import paired_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ParityDisplay:
    """Predicted against true components of every irrep of a tensor.

    Use :meth:`from_predictions` or :meth:`from_estimator` to make one.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n, 3, ..., 3)
        Tensors, one for each structure or labelled atom.
    target : str or CartesianTensor, default=None
        Index symmetry; None: found from y_true.
    unit : str, default=""
        Unit of y, for the axes.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        A panel for each irrep.
    """

    def __init__(
        self,
        y_true: NDArray[np.float64],
        y_pred: NDArray[np.float64],
        target: str | CartesianTensor | None = None,
        unit: str = "",
    ):
        self.y_true = y_true
        self.y_pred = y_pred
        self.target = target
        self.unit = unit

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        target: str | CartesianTensor | None = None,
        unit: str = "",
        axes: Sequence[Axes] | None = None,
    ) -> ParityDisplay:
        """Draw from true and predicted tensors.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n, 3, ..., 3), or lists of one array for each structure
        target : str or CartesianTensor, default=None
        unit : str, default=""
        axes : sequence of matplotlib Axes, default=None
            Where to draw, a panel for each irrep; None: a new figure.

        Returns
        -------
        ParityDisplay
        """
        pairs = paired_rows(y_true, y_pred)
        pairs.check("y_pred", np.isfinite(pairs.pred), "is NaN or infinite: leave it out (atoms: with NaN in y_true)")
        return cls(pairs.true, pairs.pred, target, unit).plot(axes)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms] | EquivariantFeatures,
        y: ArrayLike,
        *,
        target: str | CartesianTensor | None = None,
        unit: str = "",
        axes: Sequence[Axes] | None = None,
    ) -> ParityDisplay:
        """Draw from a fitted model; the other parameters are those of :meth:`from_predictions`."""
        return cls.from_predictions(y, estimator.predict(X), target=target, unit=unit, axes=axes)

    def plot(self, axes: Sequence[Axes] | None = None) -> ParityDisplay:
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None

        Returns
        -------
        self
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError('pictures need matplotlib: pip install "eqkernels[plot]"') from error
        tensor = cartesian_tensor(self.target or infer_formula(self.y_true))
        true, pred = tensor.to_irreps(self.y_true), tensor.to_irreps(self.y_pred)
        errors = irrep_rmse(self.y_true, self.y_pred, target=tensor)
        if axes is None:
            size = (3.4 * len(true), 3.5)
            axes = plt.subplots(1, len(true), figsize=size, squeeze=False, layout="constrained")[1].ravel().tolist()
        self.axes_: list[Axes] = list(axes)
        self.figure_ = self.axes_[0].figure
        for axis, irrep in zip(self.axes_, true, strict=True):
            self._panel(axis, irrep, true[irrep].ravel(), pred[irrep].ravel(), errors[irrep])
        return self

    def _panel(self, axis, irrep, true, pred, error):
        low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
        margin = 0.05 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axis.plot(limits, limits, color="0.7", linewidth=1, zorder=0)
        axis.scatter(true, pred, s=6, alpha=0.5, linewidths=0)
        unit = f" ({self.unit})" if self.unit else ""
        axis.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"true{unit}", ylabel=f"predicted{unit}")
        axis.locator_params(nbins=6)  # the same ticks on both axes
        axis.set_title(f"{irrep}: RMSE {error:.2g}, spread {true.std():.2g}", fontsize=10)
