"""The largest violation of each law of symmetry by a model, ours or anyone's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from eqkernels._numeric import check_integer
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch
from eqkernels.symmetry.model_values import ModelValues, values_of
from eqkernels.symmetry.transformations import random_rotation, transformed

_OPERATIONS = ("rotation", "inversion", "translation", "permutation", "supercell", "choice of cell")


@dataclass(frozen=True)
class EquivarianceReport:
    """Largest violation of each operation.

    Attributes
    ----------
    violations : dict of str to float
        By operation, relative to the largest value of the model (of features, in each block); infinite where the shape
        changed; NaN where no structure can show it (cells without
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
    inputs: Mapping[str, str] | None = None,
) -> EquivarianceReport:
    """Measure how far a model breaks each law of symmetry.

    Parameters
    ----------
    model : estimator, callable or ase.calculators.calculator.Calculator
        Something with ``predict`` or ``transform``, already fitted; a function of a list of frames; or a calculator of
        ASE. It returns Cartesian tensors (n_structures, 3, ..., 3), a list of one array (n_atoms, 3, ..., 3) for each
        structure, or :class:`~eqkernels.descriptors.EquivariantFeatures`.
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
    inputs : dict of str to str, default=None
        Inputs of the model beyond the geometry, as those of its descriptor: they are rotated with their structure.

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
    random_ones = dict.fromkeys(("rotation", "translation", "permutation"), n_transformations)
    counts = dict.fromkeys(_OPERATIONS, 1) | random_ones
    return measured(_function_of(model, property), frames, target, counts, tolerance, random_state, extensive, inputs)


def measured(
    call: Callable[..., Any],
    frames: Sequence[Atoms],
    target: str | CartesianTensor | None,
    counts: dict[str, int],
    tolerance: float,
    random_state: int | np.random.RandomState | None = 0,
    extensive: bool = True,
    inputs: Mapping[str, str] | None = None,
) -> EquivarianceReport:
    """Try each operation as often as it is counted.

    Parameters
    ----------
    call : callable
        Of a list of frames.
    frames : sequence of ase.Atoms
    target : str, CartesianTensor or None
    counts : dict of str to int
        Operations to try.
    tolerance, random_state, extensive, inputs
        As for :func:`check_equivariance`.

    Returns
    -------
    EquivarianceReport
    """
    StructureBatch.from_frames(frames)
    frames = [atoms.copy() for atoms in frames]
    random = random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)
    reference = values_of(call, frames, target)
    violations, structures = dict.fromkeys(counts, np.nan), dict.fromkeys(counts, -1)
    for name, which, moved, expected in _trials(frames, reference, counts, extensive, random, inputs):
        sizes = values_of(call, moved, target).deviations(expected, reference)
        worst = int(np.argmax(sizes))
        if not sizes[worst] <= violations[name]:
            violations[name], structures[name] = float(sizes[worst]), which[worst]
    return EquivarianceReport(violations, structures, tolerance)


def _function_of(model, property):
    if hasattr(model, "get_property"):
        return lambda frames: [_calculated(model, atoms, property) for atoms in frames]
    call = getattr(model, "predict", None) or getattr(model, "transform", None) or model
    if not callable(call):
        raise TypeError(
            f"model is {model!r}, expected an estimator with predict or transform, a function of frames or a "
            "calculator of ASE"
        )
    return call


def _calculated(calculator, atoms, property):
    value = np.asarray(calculator.get_property(property, atoms))
    if property == "stress" and value.shape == (6,):
        value = value[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    return value


def _trials(
    frames: list[Atoms], reference: ModelValues, counts: dict[str, int], extensive: bool, random: Any, inputs: Any
) -> Iterator[tuple[str, list[int], list[Atoms], ModelValues]]:
    """Yield an operation, the structures it was applied to, what they became, and values that they should have."""
    everything = list(range(len(frames)))
    for _ in range(counts.get("rotation", 0)):
        rotation = random_rotation(random)
        moved = [transformed(one, rotation, inputs=inputs) for one in frames]
        yield "rotation", everything, moved, reference.rotated(rotation)
    for _ in range(counts.get("translation", 0)):
        shift = random.normal(scale=3.0, size=3)
        moved = [transformed(one, translation=shift, inputs=inputs) for one in frames]
        yield "translation", everything, moved, reference
    for _ in range(counts.get("permutation", 0)):
        orders = [random.permutation(len(one)) for one in frames]
        moved = [transformed(one, order=order, inputs=inputs) for one, order in zip(frames, orders, strict=True)]
        yield "permutation", everything, moved, reference.permuted(orders)
    if counts.get("inversion"):
        mirror = -np.eye(3)
        moved = [transformed(one, mirror, inputs=inputs) for one in frames]
        yield "inversion", everything, moved, reference.rotated(mirror)
    periodic = [k for k, atoms in enumerate(frames) if atoms.pbc.any() and atoms.cell.rank == 3]
    if not periodic:
        return
    some, values = [frames[k] for k in periodic], reference.of(periodic)
    if counts.get("supercell"):
        copies = [tuple(2 if one else 1 for one in atoms.pbc) for atoms in some]
        tiled = [transformed(atoms, inputs=inputs).repeat(one) for atoms, one in zip(some, copies, strict=True)]
        yield "supercell", periodic, tiled, values.tiled([int(np.prod(one)) for one in copies], extensive)
    if counts.get("choice of cell"):
        yield "choice of cell", periodic, [_other_cell(atoms, random, inputs) for atoms in some], values


def _other_cell(atoms, random, inputs):
    """Return the same crystal in a sheared cell, with atoms moved by lattice vectors."""
    copy, cell, axes = transformed(atoms, inputs=inputs), atoms.cell.array.copy(), np.flatnonzero(atoms.pbc)
    copy.positions += (random.randint(-1, 2, size=(len(atoms), 3)) * atoms.pbc) @ cell
    if len(axes) > 1:
        cell[axes[0]] += cell[axes[1]]
    copy.set_cell(cell, scale_atoms=False)
    return copy
