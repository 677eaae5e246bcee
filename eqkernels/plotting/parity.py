"""Predicted against true components: a panel for each irrep, each Cartesian component or each species."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.plotting._matplotlib import pyplot, with_unit
from eqkernels.plotting.similarity import atoms_of_centers
from eqkernels.so3 import CartesianTensor, cartesian_tensor
from eqkernels.so3.inference import infer_formula
from eqkernels.structures import StructureBatch, as_list
from eqkernels.structures.paired import paired_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = ("irrep", "cartesian", "species")
_MOST_COLUMNS = 4  # of panels, in a figure that is made here
_LONG_NAME = 10  # that takes a line of its own in a title, in characters
_MANY_POINTS = 100  # are drawn smaller


class ParityDisplay:
    """Predicted against true components of a tensor.

    Use :meth:`from_predictions` or :meth:`from_estimator` to make one. The errors in the titles are root mean squares
    per component; those of irreps and of species do not depend on the lab frame.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n, 3, ..., 3)
        Tensors, one for each structure or labelled atom.
    target : str or CartesianTensor, default=None
        Index symmetry; None: found from y_true.
    unit : str, default=""
        Unit of y, for the axes.
    kind : {"irrep", "cartesian", "species"}, default="irrep"
        A panel for each irrep (components in the orthonormal basis), for each Cartesian component that is not equal to
        another by symmetry, or for each species of atoms (all Cartesian components).
    species : ndarray of int, shape (n,), default=None
        Atomic number of each row, for ``kind="species"``.
    max_panels : int, default=12
        The last panel takes all components or species that are beyond; the most frequent species come first.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : list of matplotlib Axes
        The panels.

    Examples
    --------
    >>> import numpy as np
    >>> dipoles = np.random.default_rng(0).normal(size=(50, 3))
    >>> display = ParityDisplay.from_predictions(dipoles, 0.9 * dipoles, kind="cartesian", unit="D")
    >>> [ax.get_title().split(":")[0] for ax in display.axes_]
    ['x', 'y', 'z']
    """

    def __init__(
        self,
        y_true: NDArray[np.float64],
        y_pred: NDArray[np.float64],
        target: str | CartesianTensor | None = None,
        unit: str = "",
        *,
        kind: str = "irrep",
        species: NDArray[np.int64] | None = None,
        max_panels: int = 12,
    ):
        self.y_true = y_true
        self.y_pred = y_pred
        self.target = target
        self.unit = unit
        self.kind = kind
        self.species = species
        self.max_panels = max_panels

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        target: str | CartesianTensor | None = None,
        unit: str = "",
        kind: str = "irrep",
        frames: Iterable[Atoms] | EquivariantFeatures | None = None,
        max_panels: int = 12,
        axes: Sequence[Axes] | None = None,
    ) -> ParityDisplay:
        """Draw from true and predicted tensors.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n, 3, ..., 3), or lists of one array for each structure
        target : str or CartesianTensor, default=None
        unit : str, default=""
        kind : {"irrep", "cartesian", "species"}, default="irrep"
        frames : sequence of ase.Atoms, or EquivariantFeatures, default=None
            Structures of per-atom targets, needed for ``kind="species"`` only.
        max_panels : int, default=12
        axes : sequence of matplotlib Axes, default=None
            Where to draw, one for each panel; None: a new figure.

        Returns
        -------
        ParityDisplay

        Raises
        ------
        ValueError
            If a prediction is not finite, or species are asked for of tensors that do not belong to atoms.
        """
        pairs = paired_rows(y_true, y_pred)
        pairs.check("y_pred", np.isfinite(pairs.pred), "is NaN or infinite: leave it out (atoms: with NaN in y_true)")
        species = _species(frames, pairs) if kind == "species" else None
        options: dict[str, Any] = {"kind": kind, "species": species, "max_panels": max_panels}
        return cls(pairs.true, pairs.pred, target, unit, **options).plot(axes)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Iterable[Atoms] | EquivariantFeatures,
        y: ArrayLike,
        *,
        target: str | CartesianTensor | None = None,
        unit: str = "",
        kind: str = "irrep",
        max_panels: int = 12,
        axes: Sequence[Axes] | None = None,
    ) -> ParityDisplay:
        """Draw from a fitted model; the other parameters are those of :meth:`from_predictions`."""
        X = X if isinstance(X, EquivariantFeatures) else as_list(X)
        options: dict[str, Any] = {"target": target, "unit": unit, "kind": kind, "max_panels": max_panels, "axes": axes}
        return cls.from_predictions(y, estimator.predict(X), frames=X, **options)

    def plot(self, axes: Sequence[Axes] | None = None) -> ParityDisplay:
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None

        Returns
        -------
        self
        """
        panels = self._panels()
        if axes is None:
            axes = _grid(len(panels))
        if len(axes) != len(panels):
            raise ValueError(f"axes has {len(axes)} axes, the panels are {len(panels)}: {', '.join(panels)}")
        self.axes_: list[Axes] = list(axes)
        self.figure_ = self.axes_[0].figure
        for axis, (name, (true, pred)) in zip(self.axes_, panels.items(), strict=True):
            self._panel(axis, name, true.ravel(), pred.ravel())
        return self

    def _panels(self) -> dict[str, tuple[Floats, Floats]]:
        """Split true and predicted components into panels, by their names."""
        if self.kind not in _KINDS:
            raise ValueError(f"kind={self.kind!r} must be {', '.join(map(repr, _KINDS[:-1]))} or {_KINDS[-1]!r}")
        if self.max_panels < 1:
            raise ValueError(f"max_panels={self.max_panels} must be at least 1")
        if self.kind == "species":
            groups = _groups_of_species(self.species, self.max_panels)
            return {name: (self.y_true[rows], self.y_pred[rows]) for name, rows in groups.items()}
        tensor = cartesian_tensor(infer_formula(self.y_true) if self.target is None else self.target)
        if self.kind == "irrep":
            blocks = tensor.to_irreps(self.y_pred)
            return {irrep: (block, blocks[irrep]) for irrep, block in tensor.to_irreps(self.y_true).items()}
        true, pred = (values.reshape(len(values), -1) for values in (self.y_true, self.y_pred))
        groups = _limited(_distinct_components(tensor), self.max_panels, "components")
        return {name: (true[:, columns], pred[:, columns]) for name, columns in groups.items()}

    def _panel(self, axis, name, true, pred):
        low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
        margin = 0.05 * (high - low) or 1.0
        limits = (low - margin, high + margin)
        axis.plot(limits, limits, color="0.7", linewidth=1, zorder=0)
        axis.scatter(true, pred, s=6 if len(true) > _MANY_POINTS else 20, alpha=0.5, linewidths=0)
        axis.set(xlim=limits, ylim=limits, aspect="equal")
        axis.set(xlabel=with_unit("true", self.unit), ylabel=with_unit("predicted", self.unit))
        axis.locator_params(nbins=6)  # the same ticks on both axes
        error = np.sqrt(np.mean((pred - true) ** 2))
        separator = ":\n" if len(name) > _LONG_NAME else ": "
        axis.set_title(f"{name}{separator}RMSE {_short(error)}, spread {_short(true.std())}", fontsize=10)


def _grid(n):
    """Axes of n panels in a new figure, rows filled one after the other."""
    rows = -(-n // _MOST_COLUMNS)
    columns = -(-n // rows)
    axes = pyplot().subplots(rows, columns, figsize=(3.4 * columns, 3.5 * rows), squeeze=False, layout="constrained")[1]
    for spare in axes.ravel()[n:]:
        spare.remove()
    return axes.ravel()[:n].tolist()


def _species(frames, pairs):
    """Atomic number of each row."""
    if pairs.n_atoms is None:
        raise ValueError("kind='species' is for per-atom targets, y has tensors of structures: use kind='irrep'")
    if frames is None:
        raise ValueError("kind='species' needs the structures of the atoms: frames=")
    if isinstance(frames, EquivariantFeatures):
        n_atoms = frames.n_atoms
        numbers = np.zeros(n_atoms.sum(), dtype=int)
        numbers[atoms_of_centers(frames)] = frames.species
    else:
        batch = StructureBatch.from_frames(frames)
        n_atoms, numbers = np.diff(batch.offsets), batch.numbers
    if not np.array_equal(n_atoms, pairs.n_atoms):
        raise ValueError("frames and y have different numbers of structures or of atoms")
    return numbers[pairs.rows]


def _groups_of_species(species, most):
    """Rows of each species, the most frequent first."""
    if species is None:
        raise ValueError("kind='species' needs species, the atomic number of each row")
    numbers, counts = np.unique(species, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows = {chemical_symbols[number]: np.flatnonzero(species == number) for number in numbers[order]}
    return _limited(rows, most, "species")


def _limited(groups, most, what):
    """At most so many groups of indices: the last one takes the rest."""
    names = list(groups)
    if len(names) <= most:
        return groups
    kept, rest = names[: most - 1], names[most - 1 :]
    name = f"{'other' if kept else 'all'} {len(rest)} {what}"
    return {name: groups[name] for name in kept} | {name: np.concatenate([groups[one] for one in rest])}


def _distinct_components(tensor):
    """Flat indices of components that are neither zero nor, up to a sign, equal to an earlier one; by their names."""
    projector = tensor.change_of_basis.T @ tensor.change_of_basis
    found: dict[str, NDArray[np.int64]] = {}
    for index, row in enumerate(projector):
        earlier = [projector[one[0]] for one in found.values()]
        same = any(np.abs(row - sign * one).max() < 1e-9 for one in earlier for sign in (1, -1))
        if np.abs(row).max() > 1e-9 and not same:
            axes = np.unravel_index(index, tensor.shape) if tensor.rank else ()
            found["".join("xyz"[axis] for axis in axes) or "value"] = np.array([index])
    return found


def _short(number):
    """Two digits, and no power of ten where all digits of an integer are as short."""
    return f"{number:.0f}" if 99.5 <= number < 1e5 else f"{number:.2g}"
