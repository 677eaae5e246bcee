r"""Derivatives of energies and other tensors, as users have them, are checked and become rows of labels.

Forces and stress are those of ASE. Derivatives of a tensor T by positions are arrays D with the atom first and the
direction in which it moves last, :math:`D_{a i \ldots j} = \partial T_{i \ldots} / \partial r_{aj}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from eqkernels._numeric import LARGEST, as_floats, check_plain, is_missing
from eqkernels.so3 import Irrep

# Stress whose parts across the diagonal differ by less, relative to the largest, is symmetric up to rounding.
_ROUNDING = 1e-6
# Columns of a symmetric matrix in ASE's order, xx, yy, zz, yz, xz, xy, and weights that keep its Frobenius norm.
VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
VOIGT_WEIGHTS = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


@dataclass(frozen=True)
class DerivativeLabels:
    """Checked labels of one kind.

    Attributes
    ----------
    values : ndarray of shape (n_labels, n_components) or (n_labels, 3, n_components of a tensor)
        Forces (x, y, z), or stress as the 6 components of a symmetric matrix with its Frobenius norm; or for each
        direction in which the atom moves the derivatives of the components of all irreps of a tensor, one irrep after
        the other, NaN in directions where they are not known.
    owners : ndarray of int, shape (n_labels,)
        The atom (counted over all atoms of all structures) or structure of each label, ascending.
    by_structure : bool
        Whether owners are structures.
    """

    values: np.ndarray
    owners: np.ndarray
    by_structure: bool = False

    def __len__(self) -> int:
        return len(self.owners)

    def between(self, first: int, stop: int) -> DerivativeLabels:
        """Labels of the owners first .. stop - 1, counted from the first."""
        rows = slice(*np.searchsorted(self.owners, [first, stop]))
        return DerivativeLabels(self.values[rows], self.owners[rows] - first, self.by_structure)

    def of_irrep(self, irrep: str, multiplicities: Mapping[str, int]) -> NDArray[np.float64]:
        """Labels of an irrep, (n_labels, n_directions, 2 lambda + 1, multiplicity), of a tensor with all of these."""
        if self.values.ndim == 2:
            return self.values[:, :, None, None]
        start = 0
        for key, multiplicity in multiplicities.items():
            d = Irrep.parse(key).dim
            if key == irrep:
                return self.values[:, :, start : start + d * multiplicity].reshape(len(self), 3, d, multiplicity)
            start += d * multiplicity
        raise KeyError(irrep)

    def directions(self) -> NDArray[np.int64]:
        """Count the rows of one component that each label makes."""
        return np.isfinite(self.values if self.values.ndim == 2 else self.values[:, :, 0]).sum(axis=1)


def read_forces(forces: Sequence[Any], n_atoms: NDArray[np.int64]) -> DerivativeLabels:
    """Check forces.

    Parameters
    ----------
    forces : sequence of array-like of shape (n_atoms, 3), or None
        One array for each structure; None or rows of NaN where they are not known.
    n_atoms : ndarray of int, shape (n_structures,)

    Returns
    -------
    DerivativeLabels

    Raises
    ------
    TypeError, ValueError
        If they do not fit the structures; the message says which one.

    Examples
    --------
    >>> import numpy as np
    >>> read_forces([np.zeros((2, 3)), None], n_atoms=np.array([2, 3])).owners
    array([0, 1])
    """
    _check_length(forces, "forces", len(n_atoms))
    parts = []
    for k, (one, n) in enumerate(zip(forces, n_atoms, strict=True)):
        one = np.full((n, 3), np.nan) if is_missing(one) else as_floats(one, f"forces[{k}]")
        one = np.full((n, 3), np.nan) if one.ndim == 0 and np.isnan(one) else one
        if one.shape != (n, 3):
            raise ValueError(f"forces[{k}] has shape {one.shape}, structure {k} has {n} atoms: expected ({n}, 3)")
        parts.append(one)
    values = np.concatenate(parts)
    ends = np.cumsum(n_atoms)

    def where(atom):
        k = int(np.searchsorted(ends, atom, side="right"))
        return f"the force on structure {k}, atom {atom - ends[k] + n_atoms[k]}"

    return known_rows(values, where)


def read_derivatives(
    derivatives: Sequence[Any], n_atoms: NDArray[np.int64], rank: int | None = None
) -> NDArray[np.float64]:
    """Check derivatives of tensors by the positions of atoms.

    Parameters
    ----------
    derivatives : sequence of array-like of shape (n_atoms, 3, ..., 3), or None
        One array for each structure: first the atom that moves, then the indices of the tensor, last the direction in
        which the atom moves. None, or NaN in all components of a direction, of an atom or of a structure, where they
        are not known.
    n_atoms : ndarray of int, shape (n_structures,)
    rank : int, default=None
        Number of indices of the tensor; None: what the arrays have.

    Returns
    -------
    ndarray of shape (n_atoms_in_all, 3, ..., 3)
        NaN where they are not known.

    Raises
    ------
    TypeError, ValueError
        If they do not fit the structures; the message says which structure and atom.

    Examples
    --------
    >>> import numpy as np
    >>> read_derivatives([np.zeros((2, 3, 3)), None], n_atoms=np.array([2, 3])).shape
    (5, 3, 3)
    """
    _check_length(derivatives, "derivatives", len(n_atoms))
    arrays = [None if is_missing(one) else as_floats(one, f"derivatives[{k}]") for k, one in enumerate(derivatives)]
    arrays = [None if one is not None and one.ndim == 0 and np.isnan(one) else one for one in arrays]
    ranks = {one.ndim - 2 for one in arrays if one is not None}
    rank = min(ranks, default=0) if rank is None else rank
    shape, parts = (3,) * (rank + 1), []
    for k, (one, n) in enumerate(zip(arrays, n_atoms, strict=True)):
        one = np.full((n, *shape), np.nan) if one is None else one
        if one.shape != (n, *shape):
            raise ValueError(_wrong_shape(k, one.shape, int(n), shape))
        parts.append(one)
    values = np.concatenate(parts)
    ends = np.cumsum(n_atoms)

    def where(row):
        atom, direction = divmod(int(row), 3)
        k = int(np.searchsorted(ends, atom, side="right"))
        return f"the derivative of structure {k} by {'xyz'[direction]} of atom {atom - ends[k] + n_atoms[k]}"

    _check_known(np.moveaxis(values, -1, 1).reshape(3 * len(values), -1), where)
    return values


def _wrong_shape(k, shape, n, expected):
    """Say what is wrong with the shape of the derivatives of a structure, and what to do about the usual mistakes."""
    text = f"derivatives[{k}] has shape {shape}, structure {k} has {n} atoms: expected {(n, *expected)}, the atom first"
    text += " and the direction in which it moves last"
    if len(shape) == len(expected) + 1 and sorted(shape) == sorted((n, *expected)):
        text += f"; np.moveaxis(derivatives[{k}], {shape.index(n)}, 0) puts the atoms first"
    elif int(np.prod(shape)) == n * 3 ** len(expected):
        text += f"; if its order is that one, derivatives[{k}].reshape{(n, *expected)} will do"
    return text


def read_stress(stress: Sequence[Any] | NDArray[np.float64], volumes: NDArray[np.float64]) -> DerivativeLabels:
    """Check stress.

    Parameters
    ----------
    stress : array-like of shape (n_structures, 3, 3) or (n_structures, 6)
        The latter as ``Atoms.get_stress()`` gives it; NaN, or None in a list, where it is not known.
    volumes : ndarray of shape (n_structures,)
        Of the cells, 0 without.

    Returns
    -------
    DerivativeLabels

    Raises
    ------
    TypeError, ValueError
        If it does not fit the structures, is not symmetric, or belongs to a structure without a cell.
    """
    _check_length(stress, "stress", len(volumes))
    full = np.full((len(volumes), 3, 3), np.nan)
    for k, one in enumerate(stress):
        if is_missing(one):
            continue
        one = as_floats(one, f"stress[{k}]")
        if one.ndim == 0 and np.isnan(one):
            continue
        if one.shape not in ((3, 3), (6,)):
            raise ValueError(f"stress[{k}] has shape {one.shape}, expected (3, 3), or (6,) as from Atoms.get_stress()")
        full[k] = one if one.ndim == 2 else voigt_6_to_full_3x3_stress(one)
    labels = known_rows(full.reshape(-1, 9), lambda k: f"the stress of structure {k}")
    skew = np.abs(full - full.transpose(0, 2, 1)).max(axis=(1, 2))[labels.owners]
    uneven = np.flatnonzero(skew > _ROUNDING * np.abs(labels.values).max(initial=0.0))
    if len(uneven):
        raise ValueError(
            f"the stress of structure {labels.owners[uneven[0]]} is not symmetric, by up to {skew[uneven[0]]:.2g}: an "
            "energy that does not change with rotations has a symmetric one"
        )
    check_volumes(volumes, labels.owners)
    matrices = labels.values.reshape(-1, 3, 3)
    return DerivativeLabels(to_voigt(matrices), labels.owners, by_structure=True)


def check_volumes(volumes, structures):
    """Refuse structures without a cell in three dimensions."""
    flat = structures[volumes[structures] == 0]
    if len(flat):
        raise ValueError(
            f"structure {flat[0]} has no cell of three vectors, so that its stress is not defined: set its cell, or "
            "its stress to NaN"
        )


def to_voigt(matrices):
    """Symmetric part of matrices (..., 3, 3) as vectors (..., 6) of the same norm."""
    rows, columns = VOIGT
    matrices = np.asarray(matrices)
    return 0.5 * VOIGT_WEIGHTS * (matrices[..., rows, columns] + matrices[..., columns, rows])


def _check_length(given, name, n):
    check_plain(given, name)
    if isinstance(given, str | bytes | dict) or not hasattr(given, "__len__"):
        raise TypeError(f"{name} must be a sequence with one array for each structure, got {type(given).__name__}")
    if len(given) != n:
        raise ValueError(f"{name} has {len(given)} entries for {n} structures: give one for each, or None or NaN")


def known_rows(values, where):
    """Labels of the rows that are not NaN; ``where(row)`` names a row in messages on those that are unusable."""
    owners = np.flatnonzero(_check_known(values, where))
    return DerivativeLabels(np.ascontiguousarray(values[owners]), owners)


def _check_known(values, where):
    """Which rows are known; those that are so in part, infinite or too large are refused."""
    missing = np.isnan(values).all(axis=1)
    bad = np.flatnonzero(~missing & ~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{where(bad[0])} has NaN or infinity in some components: where it is not known, all must be NaN"
        )
    large = np.flatnonzero(~missing & (np.abs(values).max(axis=1) > LARGEST))
    if len(large):
        raise ValueError(f"{where(large[0])} is larger than {LARGEST:.0e}, too large to be squared: check its unit")
    return ~missing
