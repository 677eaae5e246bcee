"""What a model returned for some structures, and what it should return for the same structures transformed.

Rotating the structures by R turns each Cartesian index by R, each block of features by D(R); other orders of the atoms
reorder rows of atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.so3 import CartesianTensor, cartesian_tensor, wigner_d
from eqkernels.so3.cartesian import PSEUDO

# What rounding leaves of sums that cancel, relative to their terms.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class ModelValues:
    """Values of a model, split by structures.

    Attributes
    ----------
    blocks : dict of str to list of ndarray
        One array for each structure; by irrep for features, else under the key ``""``.
    rows : list of ndarray of int, or None
        Atom of each row; None where values belong to structures.
    target : str, CartesianTensor or None
        Index symmetry, for tensors with axial indices.
    """

    blocks: dict[str, list[NDArray[Any]]]
    rows: list[NDArray[np.int64]] | None
    target: str | CartesianTensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.blocks.values())))

    def rotated(self, rotation: NDArray[np.float64]) -> ModelValues:
        """Values that the rotated structures should have."""
        blocks = {key: [self._turned(key, one, rotation) for one in values] for key, values in self.blocks.items()}
        return replace(self, blocks=blocks)

    def _turned(self, key, value, rotation):
        if key:
            return np.einsum("ab,nbf->naf", wigner_d(key, rotation), value)
        return _turned_tensor(value, rotation, self.target, 0 if self.rows is None else 1)

    def permuted(self, orders: list[NDArray[np.int64]]) -> ModelValues:
        """Values of structures whose atom at position k was ``order[k]`` before."""
        if self.rows is None:
            return self
        places = [_places(rows, order) for rows, order in zip(self.rows, orders, strict=True)]
        blocks = {
            key: [one[place] for one, place in zip(values, places, strict=True)] for key, values in self.blocks.items()
        }
        return replace(self, blocks=blocks)

    def tiled(self, copies: list[int], extensive: bool) -> ModelValues:
        """Values of supercells."""

        def of(value, n):
            if self.rows is None:
                return value * (n if extensive else 1)
            return np.tile(value, (n,) + (1,) * (value.ndim - 1))

        blocks = {key: [of(*one) for one in zip(values, copies, strict=True)] for key, values in self.blocks.items()}
        return replace(self, blocks=blocks, rows=None)

    def of(self, structures: list[int]) -> ModelValues:
        """Values of some structures."""
        blocks = {key: [values[k] for k in structures] for key, values in self.blocks.items()}
        return replace(self, blocks=blocks, rows=None if self.rows is None else [self.rows[k] for k in structures])

    def deviations(self, expected: ModelValues, reference: ModelValues) -> NDArray[np.float64]:
        """Largest deviation of each structure from values that were expected.

        Parameters
        ----------
        expected : ModelValues
        reference : ModelValues
            Whose largest value in each block is the unit.

        Returns
        -------
        ndarray of shape (n_structures,)
            Infinite where the shape, or the place of a NaN, is another.
        """
        sizes = {key: max(map(_largest, values), default=0.0) for key, values in reference.blocks.items()}
        # a block that vanishes by symmetry is what rounding left of products as large as those of the others
        rounding = _ROUNDING * max(sizes.values()) if len(sizes) > 1 or "" not in sizes else 0.0
        worst = np.zeros(len(expected))
        for key, values in expected.blocks.items():
            for k, (one, other) in enumerate(zip(self.blocks[key], values, strict=True)):
                size = max(_deviation(one, other) - rounding, 0.0) / max(sizes[key], 1e-300)
                worst[k] = max(worst[k], size)
        return worst


def _largest(values):
    return float(np.nan_to_num(np.abs(values)).max(initial=0.0))


def _deviation(value, expected):
    if value.shape != expected.shape or not np.array_equal(np.isnan(value), np.isnan(expected)):
        return np.inf
    return _largest(value - expected)


def _places(rows, order):
    place = {int(atom): k for k, atom in enumerate(rows)}
    return np.array([place[int(atom)] for atom in order if int(atom) in place], dtype=int)


def _turned_tensor(value, rotation, target, first):
    """Turn the tensor indices: the last axes of a target, else all axes of length 3 from the first on."""
    sign = 1.0
    if target is None:
        axes = [axis for axis in range(first, value.ndim) if value.shape[axis] == 3]
    else:
        tensor = cartesian_tensor(target)
        axes = list(range(value.ndim - tensor.rank, value.ndim))
        sign = np.sign(np.linalg.det(rotation)) ** (1 if tensor.axial == PSEUDO else len(set(tensor.axial)))
    for axis in axes:
        value = np.moveaxis(np.tensordot(value, rotation, axes=(axis, 1)), -1, axis)
    return sign * value


def values_of(
    call: Callable[..., Any], frames: Sequence[Atoms], target: str | CartesianTensor | None = None
) -> ModelValues:
    """Call a model and split what it returns by structures.

    Parameters
    ----------
    call : callable
        Returns an array with a row for each structure or for each atom, a list of one array for each structure, or
        features.
    frames : list of ase.Atoms
    target : str, CartesianTensor or None

    Returns
    -------
    ModelValues

    Raises
    ------
    ValueError
        If what it returns has another number of rows.
    """
    value = call(frames)
    if isinstance(value, EquivariantFeatures):
        ends = value.offsets[1:-1]
        blocks = {key: np.split(value.blocks[key], ends) for key in value.blocks}
        return ModelValues(blocks, np.split(value.atoms, ends), target)
    sizes = [len(atoms) for atoms in frames]
    ragged = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object)
    arrays = [np.asarray(one, dtype=float) for one in value] if ragged else np.asarray(value, dtype=float)
    if np.ndim(arrays[0] if ragged and len(arrays) else arrays) == 0 and not ragged:
        raise ValueError(f"the model returned one number for {len(frames)} structures, expected one value for each")
    of_atoms = ragged and all(one.ndim > 0 and len(one) == n for one, n in zip(arrays, sizes, strict=False))
    if not ragged and len(arrays) == sum(sizes) != len(frames):
        arrays, of_atoms = np.split(arrays, np.cumsum(sizes)[:-1]), True
    if len(arrays) != len(frames):
        raise ValueError(
            f"the model returned {len(arrays)} rows for {len(frames)} structures, expected one value, or one array "
            "(n_atoms, ...), for each"
        )
    return ModelValues({"": list(arrays)}, [np.arange(n) for n in sizes] if of_atoms else None, target)
