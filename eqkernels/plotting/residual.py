"""Errors against the distance from the training set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.plotting._matplotlib import single_axes, with_unit
from eqkernels.plotting.similarity import atoms_of_centers, features_of, nearest_distances
from eqkernels.regression.fitted_targets import is_per_atom
from eqkernels.structures import as_list, by_structure
from eqkernels.structures.paired import join_atoms, paired_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

# Points that each bin of the running RMSE has at least, and the most bins.
_IN_A_BIN, _MOST_BINS = 20, 10


class ResidualDisplay:
    """Norm of the error against the distance to the nearest training structure (of per-atom targets, environment).

    Errors that grow with the distance call for more training structures of the kind that is far; errors that do not,
    for other features or labels. The line is the root mean square in bins with equal numbers of points.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Frobenius norms of the errors.
    distances : ndarray of shape (n,)
        Between 0 and the square root of 2, see :func:`eqkernels.plotting.similarity.nearest_distances`.
    unit : str, default=""
        Unit of y, for the axis.
    of : {"structure", "environment"}, default="structure"
        What the points are.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : matplotlib PathCollection
    trend_ : matplotlib Line2D or None
        None for fewer than 40 points.

    Examples
    --------
    >>> from eqkernels import TensorKernelRidge
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> train, test = data.frames[:40], data.frames[40:60]
    >>> model = TensorKernelRidge().fit(train, data.dipole[:40])
    >>> display = ResidualDisplay.from_estimator(model, test, data.dipole[40:60], train, unit="e a0")
    >>> display.ax_.get_xlabel()
    'distance to the nearest training structure'
    """

    def __init__(
        self, residuals: NDArray[np.float64], distances: NDArray[np.float64], unit: str = "", of: str = "structure"
    ):
        self.residuals = residuals
        self.distances = distances
        self.unit = unit
        self.of = of

    @classmethod
    def from_predictions(
        cls, y_true: ArrayLike, y_pred: ArrayLike, distances: ArrayLike, *, unit: str = "", ax: Axes | None = None
    ) -> ResidualDisplay:
        """Draw from true and predicted tensors, and distances from the training set.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n, 3, ..., 3), or lists of one array for each structure
        distances : array-like of shape (n,), or list of arrays of shape (n_atoms,)
        unit : str, default=""
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        ResidualDisplay
        """
        pairs = paired_rows(y_true, y_pred)
        pairs.check("y_pred", np.isfinite(pairs.pred), "is NaN or infinite: leave it out (atoms: with NaN in y_true)")
        values = np.asarray(distances, dtype=float) if pairs.n_atoms is None else join_atoms(distances, "distances")[0]
        expected = len(pairs.rows) if pairs.n_atoms is None else pairs.n_atoms.sum()
        if values.shape != (expected,):
            raise ValueError(f"distances has shape {values.shape}, expected ({expected},), one for each tensor of y")
        pairs.check("the distance", np.isfinite(values[pairs.rows]), "is NaN or infinite")
        errors = np.linalg.norm((pairs.pred - pairs.true).reshape(len(pairs.rows), -1), axis=1)
        of = "structure" if pairs.n_atoms is None else "environment"
        return cls(errors, values[pairs.rows], unit, of).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms] | EquivariantFeatures,
        y: ArrayLike,
        X_train: Iterable[Atoms] | EquivariantFeatures,
        *,
        kernel: TensorKernel | None = None,
        unit: str = "",
        ax: Axes | None = None,
    ) -> ResidualDisplay:
        """Draw from a fitted model.

        Parameters
        ----------
        estimator : fitted estimator, or pipeline or search of one
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like
            True tensors.
        X_train : sequence of ase.Atoms, or EquivariantFeatures
            What the model was fitted to.
        kernel : kernel, default=None
            Of which the distance is; None: ``CovariantKernel(zeta=2, aggregate="mean")`` of the features of the model.
        unit : str, default=""
        ax : matplotlib Axes, default=None

        Returns
        -------
        ResidualDisplay
        """
        X = X if isinstance(X, EquivariantFeatures) else as_list(X)
        features, train = features_of(estimator, X), features_of(estimator, X_train)
        if is_per_atom(estimator):
            rows = nearest_distances(features.split_centers(), train.split_centers(), kernel)
            distances = np.full(features.n_atoms.sum(), np.nan)
            distances[atoms_of_centers(features)] = rows
            distances = by_structure(distances, features.n_atoms)
        else:
            distances = nearest_distances(features, train, kernel)
        return cls.from_predictions(y, estimator.predict(X), distances, unit=unit, ax=ax)

    def plot(self, ax: Axes | None = None) -> ResidualDisplay:
        """Draw the points, with the norms of the errors on a logarithmic axis, and their root mean square.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        self
        """
        self.ax_: Axes = single_axes(ax, (5.2, 4.0))
        self.figure_ = self.ax_.figure
        self.points_: PathCollection = self.ax_.scatter(self.distances, self.residuals, s=10, alpha=0.5, linewidths=0)
        self.trend_: Line2D | None = None
        centers, errors = _running_rmse(self.distances, self.residuals)
        if len(centers):
            self.trend_ = self.ax_.plot(centers, errors, color="black", linewidth=1.2, label="RMSE")[0]
            self.ax_.legend(fontsize=8, frameon=False)
        if (self.residuals > 0).any():
            self.ax_.set_yscale("log")
        self.ax_.set_xlabel(f"distance to the nearest training {self.of}")
        self.ax_.set_ylabel(with_unit("norm of the error", self.unit))
        return self


def _running_rmse(distances: Floats, residuals: Floats) -> tuple[Floats, Floats]:
    """Mean distance and RMSE of bins of equal numbers of points; empty where there are too few."""
    n_bins = min(_MOST_BINS, len(distances) // _IN_A_BIN)
    if n_bins < 2:
        return np.zeros(0), np.zeros(0)
    bins = np.array_split(np.argsort(distances, kind="stable"), n_bins)
    centers = [distances[rows].mean() for rows in bins]
    return np.array(centers), np.array([np.sqrt(np.mean(residuals[rows] ** 2)) for rows in bins])
