"""Structures, or the environments of atoms, on a map: similar ones near each other."""

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
from eqkernels.plotting.similarity import atoms_of_centers, features_of, kernel_map
from eqkernels.structures import as_list, by_structure
from eqkernels.structures.paired import join_atoms, paired_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection


class KernelMapDisplay:
    """Kernel principal component analysis of structures or of environments, colored by a value or an error.

    Parameters
    ----------
    coordinates : ndarray of shape (n, 2)
    shares : ndarray of shape (2,)
        Part of the variance of each component, for the axes.
    values : ndarray of shape (n,), default=None
        For the colors; points with NaN are gray.
    label : str, default=""
        What the values are, with their unit.
    log : bool, default=False
        Whether the colors are logarithmic.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : matplotlib PathCollection

    Examples
    --------
    Thirty kinds of molecules and their energies:

    >>> from eqkernels import LambdaSOAP
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> features = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2, irreps="0e").fit_transform(data.frames[:90])
    >>> display = KernelMapDisplay.from_features(features, data.energy[:90], label="energy (Hartree)")
    >>> display.ax_.get_xlabel()
    'component 1 (29% of the variance)'
    """

    def __init__(
        self,
        coordinates: NDArray[np.float64],
        shares: NDArray[np.float64],
        values: NDArray[np.float64] | None = None,
        label: str = "",
        log: bool = False,
    ):
        self.coordinates = coordinates
        self.shares = shares
        self.values = values
        self.label = label
        self.log = log

    @classmethod
    def from_features(
        cls,
        features: EquivariantFeatures,
        values: ArrayLike | None = None,
        *,
        per_atom: bool = False,
        kernel: TensorKernel | None = None,
        label: str = "",
        log: bool = False,
        ax: Axes | None = None,
    ) -> KernelMapDisplay:
        """Draw from features.

        Parameters
        ----------
        features : EquivariantFeatures
            With a block ``0e``.
        values : array-like of shape (n_structures,), or list of arrays of shape (n_atoms,), default=None
            For the colors: of structures, or one array for each structure with ``per_atom=True``.
        per_atom : bool, default=False
            Whether the points are the environments of atoms, not structures.
        kernel : kernel, default=None
            Its irrep ``0e`` is used; None: ``CovariantKernel(zeta=2, aggregate="mean")``.
        label : str, default=""
        log : bool, default=False
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        KernelMapDisplay
        """
        colors = None if values is None else _colors(values, features, per_atom)
        points = features.split_centers() if per_atom else features
        return cls(*kernel_map(points, kernel), colors, label, log).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms] | EquivariantFeatures,
        y: ArrayLike,
        *,
        kernel: TensorKernel | None = None,
        unit: str = "",
        ax: Axes | None = None,
    ) -> KernelMapDisplay:
        """Draw the structures (for per-atom targets, environments) by the features of a fitted model and its errors.

        Parameters
        ----------
        estimator : fitted estimator, or pipeline or search of one
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like
            True tensors: the colors are Frobenius norms of the errors, on a logarithmic scale.
        kernel : kernel, default=None
            As for :meth:`from_features`.
        unit : str, default=""
            Unit of y.
        ax : matplotlib Axes, default=None

        Returns
        -------
        KernelMapDisplay
        """
        X = X if isinstance(X, EquivariantFeatures) else as_list(X)
        features, pairs = features_of(estimator, X), paired_rows(y, estimator.predict(X))
        errors = np.full(len(pairs.true) if pairs.n_atoms is None else pairs.n_atoms.sum(), np.nan)
        errors[pairs.rows] = np.linalg.norm((pairs.pred - pairs.true).reshape(len(pairs.rows), -1), axis=1)
        values = errors if pairs.n_atoms is None else by_structure(errors, pairs.n_atoms)
        options: dict[str, Any] = {"per_atom": pairs.n_atoms is not None, "kernel": kernel, "log": True, "ax": ax}
        return cls.from_features(features, values, label=with_unit("norm of the error", unit), **options)

    def plot(self, ax: Axes | None = None) -> KernelMapDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None

        Returns
        -------
        self
        """
        self.ax_: Axes = single_axes(ax, (5.6, 4.2))
        self.figure_ = self.ax_.figure
        x, y = self.coordinates.T
        known = np.zeros(len(x), dtype=bool) if self.values is None else np.isfinite(self.values)
        plain = {"color": "tab:blue"} if self.values is None else {"color": "0.8", "zorder": 0}
        self.points_: PathCollection = self.ax_.scatter(x[~known], y[~known], s=14, linewidths=0, **plain)
        if self.values is not None and known.any():
            norm = "log" if self.log and (self.values[known] > 0).all() else None
            colors = {"c": self.values[known], "norm": norm, "cmap": "viridis"}
            self.points_ = self.ax_.scatter(x[known], y[known], s=14, linewidths=0, **colors)
            self.ax_.figure.colorbar(self.points_, ax=self.ax_, label=self.label)
        for axis, share, number in zip((self.ax_.xaxis, self.ax_.yaxis), self.shares, (1, 2), strict=True):
            axis.set_label_text(f"component {number} ({share:.0%} of the variance)")
            axis.set_ticks([])
        return self


def _colors(values: Any, features: EquivariantFeatures, per_atom: bool) -> Floats:
    """Check values, a number for each structure, or for each center of the features."""
    if any(np.ndim(one) != per_atom for one in values):
        wanted = "one array of numbers for each structure" if per_atom else "a number for each structure"
        raise ValueError(f"values must be {wanted} with per_atom={per_atom}")
    if per_atom:
        values, n_atoms = join_atoms(values, "values")
        if not np.array_equal(n_atoms, features.n_atoms):
            raise ValueError("values and features have different numbers of structures or of atoms")
        values = values[atoms_of_centers(features)]
    colors = np.asarray(values, dtype=float)
    expected = len(features.species) if per_atom else len(features)
    if colors.shape != (expected,):
        raise ValueError(f"values has shape {colors.shape}, expected ({expected},), a number for each point")
    return colors
