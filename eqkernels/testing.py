"""Checks of symmetry for any model: ours, and those of users.

A function of structures is equivariant when rotating, mirroring, moving or relabelling a structure changes its value
in the one way that its type prescribes, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import check_integer, check_positive, real_array
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.so3 import CartesianTensor, cartesian_tensor, wigner_d
from eqkernels.structures import StructureBatch
from eqkernels.structures.inputs import turned_inputs

__all__ = ["assert_equivariant", "random_rotation", "transformed"]

# What rounding leaves of sums that cancel, relative to their terms.
_ROUNDING = 1e-13


def assert_equivariant(
    model: Any,
    frames: Sequence[Atoms],
    target: str | CartesianTensor | None = None,
    *,
    n_transformations: int = 3,
    tolerance: float = 1e-10,
    random_state: int | np.random.RandomState | None = 0,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Check that a model follows rotations, inversion, translations and permutations of its structures.

    Parameters
    ----------
    model : estimator or callable
        Something with ``predict`` or ``transform``, already fitted, or a function of a list of frames. It may return
        Cartesian tensors (n_structures, 3, ..., 3), a list of one array (n_atoms, 3, ..., 3) for each structure, or
        :class:`~eqkernels.descriptors.EquivariantFeatures`.
    frames : sequence of ase.Atoms
        Structures to try it on.
    target : str or CartesianTensor, default=None
        Only for tensors with axial indices: ``CartesianTensor("ij", axial="j")``. Otherwise every index is polar, and
        arrays without axes of length 3 are invariants.
    n_transformations : int, default=3
        Number of random rotations, every other one with an inversion.
    tolerance : float, default=1e-10
        Largest deviation, relative to the largest value that the model returns (at least 1e-300).
    random_state : int or numpy.random.RandomState, default=0
        Seed of the transformations.
    inputs : dict of str to str, default=None
        Inputs of the model beyond the geometry, as those of its descriptor: they are rotated with their structure.

    Raises
    ------
    AssertionError
        With the transformation, the structure and the deviation.

    Examples
    --------
    >>> from ase.build import molecule
    >>> frames = [molecule("H2O"), molecule("CH3OH")]
    >>> assert_equivariant(lambda frames: [atoms.get_center_of_mass() - atoms.positions[0] for atoms in frames], frames)
    Traceback (most recent call last):
        ...
    AssertionError: permutation of the atoms: structure 1 deviates by ...
    """
    check_integer(n_transformations, "n_transformations", 1, 10**6)
    check_positive(tolerance, "tolerance")
    StructureBatch.from_frames(frames)
    frames = list(frames)
    call = getattr(model, "predict", None) or getattr(model, "transform", None) or model

    if not callable(call):
        raise TypeError(f"model is {model!r}, expected an estimator with predict or transform, or a function of frames")

    def function(frames):
        return _checked(call(frames), frames)

    random = (
        np.random.RandomState(random_state) if not isinstance(random_state, np.random.RandomState) else random_state
    )
    reference = function(frames)
    for k in range(n_transformations):
        rotation = random_rotation(random) * (-1) ** k
        what = f"{'im' if k % 2 else ''}proper rotation {np.array2string(rotation, precision=4)}"
        moved = [transformed(atoms, rotation, inputs=inputs) for atoms in frames]
        _compare(function(moved), _rotated(reference, rotation, target), what, tolerance)
    shift = random.normal(scale=3.0, size=3)
    moved = [transformed(atoms, translation=shift, inputs=inputs) for atoms in frames]
    _compare(function(moved), reference, f"translation by {np.round(shift, 4)}", tolerance)
    orders = [random.permutation(len(atoms)) for atoms in frames]
    moved = [transformed(atoms, order=order, inputs=inputs) for atoms, order in zip(frames, orders, strict=True)]
    _compare(function(moved), _permuted(reference, orders), "permutation of the atoms", tolerance)


def random_rotation(random_state: int | np.random.RandomState | None = None) -> NDArray[np.float64]:
    """Proper rotation matrix, uniform over all of them.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState or None
        Seed.

    Returns
    -------
    ndarray of shape (3, 3)
    """
    random = random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)
    q, r = np.linalg.qr(random.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def transformed(
    atoms: Atoms,
    rotation: ArrayLike | None = None,
    translation: ArrayLike | None = None,
    order: ArrayLike | None = None,
    inputs: Mapping[str, str] | None = None,
    time_reversed: bool = False,
) -> Atoms:
    """Copy of a structure, its positions and cell rotated (or mirrored), then moved, its atoms reordered.

    Parameters
    ----------
    atoms : ase.Atoms
    rotation : ndarray of shape (3, 3), default=None
        Orthogonal matrix, proper or improper.
    translation : ndarray of shape (3,), default=None
    order : ndarray of int, shape (n_atoms,), default=None
        The atom at position k of the copy is ``order[k]`` of the original.
    inputs : dict of str to str, default=None
        Kinds of the inputs of the structure (keys of ``atoms.info`` and ``atoms.arrays``) that are to follow it.
    time_reversed : bool, default=False
        Whether inputs that are odd under time reversal change their sign.

    Returns
    -------
    ase.Atoms
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(f"atoms is a {type(atoms).__name__}, expected ase.Atoms")
    rotation = np.eye(3) if rotation is None else real_array(rotation, "rotation", finite=True)
    translation = np.zeros(3) if translation is None else real_array(translation, "translation", finite=True)
    if rotation.shape != (3, 3) or translation.shape != (3,):
        raise ValueError(f"rotation has shape {rotation.shape}, expected (3, 3); translation {translation.shape}, (3,)")
    positions = atoms.positions @ rotation.T + translation
    order = np.arange(len(atoms)) if order is None else np.asarray(order)
    if order.ndim != 1 or order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(len(atoms))):
        raise ValueError(f"order={order!r} must be a permutation of the {len(atoms)} atoms")
    cell = atoms.cell.array @ rotation.T
    new = Atoms(numbers=atoms.numbers[order], positions=positions[order], cell=cell, pbc=atoms.pbc)
    for name, values in turned_inputs(atoms, rotation, inputs or {}, time_reversed).items():
        if name in atoms.arrays:
            new.arrays[name] = values[order]
        else:
            new.info[name] = values
    return new


def _checked(value, frames):
    """Value of a model: features, an array, or a list of arrays when each of them has a row for every atom."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = list(value)
    if not isinstance(value, list | tuple):
        return value if isinstance(value, EquivariantFeatures) else np.asarray(value)
    arrays = [np.asarray(one) for one in value]
    of_atoms = all(one.ndim > 0 and len(one) == len(atoms) for one, atoms in zip(arrays, frames, strict=True))
    return arrays if of_atoms else np.array(arrays)


def _rotated(value, rotation, target):
    if isinstance(value, EquivariantFeatures):
        blocks = {key: np.einsum("ab,nbf->naf", wigner_d(key, rotation), block) for key, block in value.blocks.items()}
        return EquivariantFeatures(blocks, value.species, value.structures, value.atoms, value.n_atoms)
    if isinstance(value, list):
        return [_rotated_tensor(one, rotation, target) for one in value]
    return _rotated_tensor(value, rotation, target)


def _rotated_tensor(value, rotation, target):
    # trailing axes of length 3 are tensor indices, except that the first axis counts structures or atoms
    axial = ""
    if target is not None:
        tensor = cartesian_tensor(target)
        axes, axial = list(range(value.ndim - tensor.rank, value.ndim)), tensor.axial
        axial_axes = [axis for axis, letter in zip(axes, tensor.formula.split("=")[0], strict=True) if letter in axial]
    else:
        axes = [axis for axis in range(1, value.ndim) if value.shape[axis] == 3]
        axial_axes = []
    sign = np.sign(np.linalg.det(rotation)) ** len(axial_axes)
    for axis in axes:
        value = np.moveaxis(np.tensordot(value, rotation, axes=(axis, 1)), -1, axis)
    return sign * value


def _permuted(value, orders):
    if isinstance(value, EquivariantFeatures):
        rows = []
        for k, order in enumerate(orders):
            row_of_atom = dict(
                zip(value.atoms[value.structures == k], np.flatnonzero(value.structures == k), strict=True)
            )
            rows += [row_of_atom[atom] for atom in order if atom in row_of_atom]
        blocks = {key: block[rows] for key, block in value.blocks.items()}
        return EquivariantFeatures(blocks, value.species[rows], value.structures, value.atoms, value.n_atoms)
    if isinstance(value, list):
        return [one[order] for one, order in zip(value, orders, strict=True)]
    n_atoms = sum(map(len, orders))
    if len(value) == n_atoms != len(orders):
        starts = np.cumsum([0, *map(len, orders)])
        return value[np.concatenate([start + order for start, order in zip(starts, orders, strict=False)])]
    return value


def _compare(got, expected, what, tolerance):
    if isinstance(got, EquivariantFeatures):
        # a block that vanishes by symmetry is what rounding left of products as large as those of the others
        rounding = _ROUNDING * max(np.abs(block).max(initial=0.0) for block in expected.blocks.values())
        for key, block in expected.blocks.items():
            name = f"{what}, block {key}"
            _compare_rows(got.blocks[key], block, expected.structures, name, tolerance, rounding)
    elif isinstance(expected, list):
        structures = np.repeat(np.arange(len(expected)), [len(one) for one in expected])
        _compare_rows(np.concatenate(got), np.concatenate(expected), structures, what, tolerance)
    else:
        _compare_rows(got, expected, np.arange(len(expected)), what, tolerance)


def _compare_rows(got, expected, structures, what, tolerance, rounding=0.0):
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: the shape changed from {expected.shape} to {got.shape}")
    if not np.array_equal(np.isnan(got), np.isnan(expected)):
        raise AssertionError(f"{what}: NaN in other places")
    deviation = np.nan_to_num(np.abs(got - expected)).reshape(len(got), -1).max(axis=1, initial=0.0)
    scale = max(np.nan_to_num(np.abs(expected)).max(initial=0.0), 1e-300)
    worst, allowed = int(np.argmax(deviation)), tolerance * scale + rounding
    if deviation[worst] > allowed:
        raise AssertionError(
            f"{what}: structure {structures[worst]} deviates by {deviation[worst]:.1e}, allowed {allowed:.1e}"
        )
