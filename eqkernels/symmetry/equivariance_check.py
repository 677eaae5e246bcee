"""The largest violation of each law of symmetry by a model, ours or anyone's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from eqkernels._numeric import check_integer
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch
from eqkernels.testing import _checked, _rotated_tensor, random_rotation, transformed

_OPERATIONS = ("rotation", "inversion", "translation", "permutation", "supercell", "choice of cell")


@dataclass(frozen=True)
class EquivarianceReport:
    """Largest violation of each operation.

    Attributes
    ----------
    violations : dict of str to float
        By operation, relative to the largest value of the model; NaN where no structure can show it (cells without
        periodic structures).
    structures : dict of str to int
        The structure with the largest violation; -1 where there is none.
    tolerance : float
        Below which the table says that a law holds.

    Examples
    --------
    >>> print(EquivarianceReport({"rotation": 2e-15, "inversion": 0.4}, {"rotation": 3, "inversion": 0}, 1e-8))
    operation      violation  structure
    rotation         2.0e-15          3  holds
    inversion        4.0e-01          0  broken
    """

    violations: dict[str, float]
    structures: dict[str, int]
    tolerance: float

    @property
    def broken(self) -> list[str]:
        """Operations whose violation is larger than the tolerance."""
        return [name for name, value in self.violations.items() if value > self.tolerance]

    def __str__(self):
        lines = [f"{'operation':<14} {'violation':>9}  structure"]
        for name, value in self.violations.items():
            if np.isnan(value):
                lines.append(f"{name:<14} {'-':>9}  {'-':>9}  no periodic structure")
            else:
                verdict = "broken" if name in self.broken else "holds"
                lines.append(f"{name:<14} {value:9.1e}  {self.structures[name]:9d}  {verdict}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw the violations as bars on a logarithmic axis, with the tolerance.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None: a new figure.

        Returns
        -------
        matplotlib Axes
        """
        from eqkernels.plotting._matplotlib import single_axes

        ax = single_axes(ax, (5.2, 3.0))
        names = [name for name, value in self.violations.items() if not np.isnan(value)]
        values = np.maximum([self.violations[name] for name in names], 1e-17)
        ax.barh(names, values, color=["tab:red" if name in self.broken else "tab:green" for name in names])
        ax.axvline(self.tolerance, color="black", linewidth=1.0, linestyle="--")
        ax.set_xscale("log")
        ax.invert_yaxis()
        ax.set_xlabel("largest violation, relative to the largest value")
        return ax


def check_equivariance(
    model: Any,
    frames: Sequence[Atoms],
    target: str | CartesianTensor | None = None,
    *,
    property: str = "energy",
    extensive: bool = True,
    n_transformations: int = 3,
    tolerance: float = 1e-8,
    random_state: int | np.random.RandomState | None = 0,
) -> EquivarianceReport:
    """Measure how far a model breaks each law of symmetry.

    Parameters
    ----------
    model : estimator, callable or ase.calculators.calculator.Calculator
        Something with ``predict``, already fitted; a function of a list of frames; or a calculator of
        ASE. It returns Cartesian tensors (n_structures, 3, ..., 3), or a list of one array (n_atoms, 3, ..., 3) for
        each structure.
    frames : sequence of ase.Atoms
        Structures to try it on, periodic ones to tile and to choose another cell.
    target : str or CartesianTensor, default=None
        Index symmetry, for tensors with axial indices; None: each axis of length 3 after the first is a polar index.
    property : str, default="energy"
        What a calculator is asked for: ``"energy"``, ``"forces"``, ``"dipole"``, ``"stress"`` (as a matrix), ...
    extensive : bool, default=True
        Whether the value of a supercell is that of the cell times the number of cells, or the same.
    n_transformations : int, default=3
        Number of random rotations, translations and permutations.
    tolerance : float, default=1e-8
        Largest violation that counts as rounding; models in single precision reach 1e-5.
    random_state : int or numpy.random.RandomState, default=0

    Returns
    -------
    EquivarianceReport
        A table with ``print``, bars with ``plot``.

    See Also
    --------
    eqkernels.testing.assert_equivariant : Raises an error instead, for tests.

    Examples
    --------
    >>> from ase.build import molecule
    >>> def height(frames):
    ...     return [float(atoms.positions[:, 2].max() - atoms.positions[:, 2].min()) for atoms in frames]
    >>> check_equivariance(height, [molecule("H2O"), molecule("CH3OH")]).broken
    ['rotation']
    """
    check_integer(n_transformations, "n_transformations", 1, 10**6)
    StructureBatch.from_frames(frames)
    frames = [atoms.copy() for atoms in frames]
    call = _function_of(model, property)
    random = random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)
    reference, per_atom = _values(call, frames)
    scale = max((float(np.abs(one).max(initial=0.0)) for one in reference), default=0.0) or 1e-300
    violations = dict.fromkeys(_OPERATIONS, np.nan)
    structures = dict.fromkeys(_OPERATIONS, -1)
    for name, moved, expected in _trials(frames, reference, per_atom, target, extensive, n_transformations, random):
        for k, (one, other) in enumerate(zip(_values(call, moved)[0], expected, strict=True)):
            which = k if len(moved) == len(frames) else _periodic(frames)[k]
            if one.shape != other.shape:
                raise ValueError(
                    f"{name}: the value of structure {which} has shape {one.shape}, expected {other.shape}"
                )
            size = float(np.nan_to_num(np.abs(one - other), nan=np.inf).max(initial=0.0)) / scale
            if not size <= violations[name]:
                violations[name], structures[name] = size, which
    return EquivarianceReport(violations, structures, tolerance)


def _function_of(model, property):
    if hasattr(model, "get_property"):
        return lambda frames: [_calculated(model, atoms, property) for atoms in frames]
    call = getattr(model, "predict", None) or model
    if not callable(call):
        raise TypeError(
            f"model is {model!r}, expected an estimator with predict, a function of frames or a calculator of ASE"
        )
    return call


def _calculated(calculator, atoms, property):
    value = np.asarray(calculator.get_property(property, atoms))
    if property == "stress" and value.shape == (6,):
        value = value[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    return value


def _values(call: Callable[..., Any], frames: list[Atoms]) -> tuple[list[np.ndarray], bool]:
    """One array for each structure, and whether its rows are atoms."""
    value = _checked(call(frames), frames)
    per_atom = isinstance(value, list)
    if not per_atom and np.shape(value)[:1] != (len(frames),):
        raise ValueError(
            f"the model returned {np.shape(value) or type(value).__name__} for {len(frames)} structures, expected one "
            "value, or one array (n_atoms, ...), for each"
        )
    return [np.asarray(one, dtype=float) for one in value], per_atom


def _trials(frames, reference, per_atom, target, extensive, n, random) -> Iterator[tuple[str, list[Atoms], list[Any]]]:
    """Yield the name of an operation, structures it was applied to, and values that they should have."""

    def rotated(matrix):
        return [_rotated_tensor(one if per_atom else one[None], matrix, target) for one in reference]

    def as_value(values):
        return values if per_atom else [one[0] for one in values]

    for _ in range(n):
        rotation, shift = random_rotation(random), random.normal(scale=3.0, size=3)
        orders = [random.permutation(len(atoms)) for atoms in frames]
        yield "rotation", [transformed(atoms, rotation) for atoms in frames], as_value(rotated(rotation))
        yield "translation", [transformed(atoms, translation=shift) for atoms in frames], reference
        moved = [transformed(atoms, order=order) for atoms, order in zip(frames, orders, strict=True)]
        permuted = [one[order] for one, order in zip(reference, orders, strict=True)] if per_atom else reference
        yield "permutation", moved, permuted
    yield "inversion", [transformed(atoms, -np.eye(3)) for atoms in frames], as_value(rotated(-np.eye(3)))
    periodic = _periodic(frames)
    if periodic:
        some, values = [frames[k] for k in periodic], [reference[k] for k in periodic]
        copies = [np.where(atoms.pbc, 2, 1) for atoms in some]
        tiled = [transformed(atoms).repeat(tuple(map(int, one))) for atoms, one in zip(some, copies, strict=True)]
        yield (
            "supercell",
            tiled,
            [
                np.tile(value, (int(np.prod(one)),) + (1,) * (value.ndim - 1))
                if per_atom
                else value * (np.prod(one) if extensive else 1)
                for value, one in zip(values, copies, strict=True)
            ],
        )
        yield "choice of cell", [_other_cell(atoms, random) for atoms in some], values


def _periodic(frames):
    return [k for k, atoms in enumerate(frames) if atoms.pbc.any() and atoms.cell.rank == 3]


def _other_cell(atoms, random):
    """Return the same crystal in a sheared cell, with atoms moved by lattice vectors."""
    copy, cell, axes = transformed(atoms), atoms.cell.array.copy(), np.flatnonzero(atoms.pbc)
    copy.positions += (random.randint(-1, 2, size=(len(atoms), 3)) * atoms.pbc) @ cell
    if len(axes) > 1:
        cell[axes[0]] += cell[axes[1]]
    copy.set_cell(cell, scale_atoms=False)
    return copy
