"""Operations of a structure as they act on fields: on tensors at its atoms, and on those of the structure as a whole.

Of a crystal in a supercell they are those of the primitive cell, each combined with all translations, that take the
supercell to itself. The wave vectors of a field are the characters of the pure translations among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels.so3 import wigner_d
from eqkernels.symmetry.group_algebra import SAME
from eqkernels.symmetry.point_groups import PointGroup
from eqkernels.symmetry.space_groups import structure_group

_INVARIANT = 1 - 1e-6
# Wave vectors are searched in this many reciprocal cells in each direction, for centered cells.
_ZONES = (0, 1, -1, 2)
# Deviation from whole numbers of a lattice that is taken to itself.
_SAME_LATTICE = 1e-3
# Operations of the exact group move atoms of a structure that is nearly symmetric by a few tolerances.
_AMPLIFICATION = 10


@dataclass(frozen=True, eq=False)
class ActingGroup:
    """Operations that take a structure to itself.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure, or the supercell.
    matrices : ndarray of shape (n, 3, 3)
    permutations : ndarray of int of shape (n, n_atoms)
        Atom i comes to the place of atom ``permutations[k, i]``.
    translations : ndarray of shape (n, 3)
        In Angstrom, modulo the supercell.
    wave_vectors : ndarray of shape (n_wave_vectors, 3)
        Of all fields, in units of the reciprocal vectors of the cell that was given; (0, 0, 0) first.
    phases : ndarray of shape (n_wave_vectors, n_pure)
        Characters exp(i q t) of the pure translations.
    """

    atoms: Atoms
    matrices: NDArray[np.float64]
    permutations: NDArray[np.int64]
    translations: NDArray[np.float64]
    wave_vectors: NDArray[np.float64]
    phases: NDArray[np.complex128]

    @property
    def pure(self) -> NDArray[np.int64]:
        """Which operations are pure translations."""
        return np.flatnonzero(np.abs(self.matrices - np.eye(3)).max(axis=(1, 2)) < SAME)

    def orbits(self) -> list[NDArray[np.int64]]:
        """List the sets of equivalent atoms."""
        first = self.permutations.min(axis=0)
        return [np.flatnonzero(first == atom) for atom in np.unique(first)]

    def moved(self, fields: NDArray[np.float64], k: int, turn: NDArray[np.float64], sites: NDArray[np.int64] | None):
        """Fields (..., n_sites, dim) after an operation.

        Parameters
        ----------
        fields : ndarray of shape (..., n_sites, dim)
        k : int
            Operation.
        turn : ndarray of shape (dim, dim)
            What it does to a tensor.
        sites : ndarray of int, or None
            Atoms, an orbit; None: one tensor, of the structure.
        """
        turned = fields @ turn.T
        if sites is None:
            return turned
        result = np.empty_like(turned)
        result[..., np.searchsorted(sites, self.permutations[k, sites]), :] = turned
        return result

    def invariants(self, irreps, sites: NDArray[np.int64] | None, members: NDArray[np.int64]) -> NDArray[np.float64]:
        """Orthonormal fields (dimension, n_sites, dim) that some operations leave unchanged."""
        turns = wigner_d(irreps, self.matrices[members])
        n_sites, dim = 1 if sites is None else len(sites), turns.shape[-1]
        unit = np.eye(n_sites * dim).reshape(-1, n_sites, dim)
        mean = sum(self.moved(unit, k, turn, sites) for k, turn in zip(members, turns, strict=True)) / len(members)
        matrix = mean.reshape(n_sites * dim, -1)
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return vectors[:, values > _INVARIANT].T.reshape(-1, n_sites, dim)

    def leaving(self, field: NDArray[np.float64], irreps, sites: NDArray[np.int64] | None, tolerance: float):
        """Mask of the operations that leave a field (n_sites, dim) unchanged, up to a part of its largest value."""
        limit = tolerance * np.abs(field).max()
        turns = wigner_d(irreps, self.matrices)
        return np.array([
            np.abs(self.moved(field, k, turn, sites) - field).max() <= limit for k, turn in enumerate(turns)
        ])  # fmt: skip

    def at(self, fields: NDArray[np.float64], which: NDArray[np.int64], sites: NDArray[np.int64] | None):
        """Part of fields (..., n_sites, dim) with some wave vectors."""
        if sites is None:
            return fields if 0 in which else np.zeros_like(fields)
        weights = self.phases[which].sum(axis=0).real / len(self.phases)
        unit = np.eye(fields.shape[-1])
        return sum(w * self.moved(fields, k, unit, sites) for k, w in zip(self.pure, weights, strict=True))

    def stars(self) -> list[NDArray[np.int64]]:
        """List the sets of wave vectors that operations take into each other, or into their negatives."""
        pure = self.translations[self.pure]
        cell = self.atoms.cell.complete().array
        found: dict[tuple[int, ...], None] = {}
        for phase in self.phases:
            star = set()
            for matrix in np.unique(self.matrices.round(9), axis=0):
                # exp(i (R q) t) = exp(i q R^T t): which translation R^T t is, modulo the supercell
                turned = [_find(pure, one, cell) for one in pure @ matrix]
                star |= {self.number(phase[turned]), self.number(phase[turned].conj())}
            found[tuple(sorted(star))] = None
        return [np.array(star) for star in found]

    def number(self, phase: NDArray[np.complex128]) -> int:
        """Wave vector of given phases."""
        return int(np.argmax((self.phases.conj() @ phase).real))


def _find(translations, wanted, cell):
    if len(translations) == 1:
        return 0
    steps = (translations - wanted) @ np.linalg.inv(cell)
    return int(np.argmin(np.linalg.norm((steps - steps.round()) @ cell, axis=1)))


def acting_group(atoms: Atoms, supercell: tuple[int, int, int], tolerance: float, l_max: int) -> ActingGroup:
    """Operations of a molecule, or of a crystal in a supercell.

    Parameters
    ----------
    atoms : ase.Atoms
    supercell : tuple of int
        Copies of the cell along each of its vectors.
    tolerance : float
    l_max : int
        Largest degree of the fields, for which continuous groups stand.

    Returns
    -------
    ActingGroup
    """
    group = structure_group(atoms, tolerance)
    if isinstance(group, PointGroup):
        if tuple(supercell) != (1, 1, 1):
            raise ValueError(f"supercell={supercell!r} of a structure that is not periodic: it must be (1, 1, 1)")
        matrices, permutations = group.elements(l_max)
        zero = np.zeros((len(matrices), 3))
        return ActingGroup(atoms, matrices, np.asarray(permutations), zero, np.zeros((1, 3)), np.ones((1, 1), complex))
    repeated = atoms.repeat(supercell)
    operations = _in_supercell(group, atoms, repeated, supercell, tolerance)
    matrices, translations, permutations = (np.array(one) for one in zip(*operations, strict=True))
    pure = translations[np.abs(matrices - np.eye(3)).max(axis=(1, 2)) < SAME]
    vectors, phases = _wave_vectors(atoms.cell.complete().array, supercell, pure)
    return ActingGroup(repeated, matrices, permutations, translations, vectors, phases)


def _in_supercell(group, atoms, repeated, supercell, tolerance):
    """Yield matrix, translation and permutation of each operation that takes the supercell to itself."""
    cell = repeated.cell.complete().array
    seen = set()
    shifts = [np.array(one) @ atoms.cell.array for one in product(*map(range, supercell))]
    shifts = [shift + center for shift in shifts for center in _centering(atoms, tolerance)]
    for matrix, translation in zip(group.matrices, group.translations, strict=True):
        lattice = cell @ matrix.T @ np.linalg.inv(cell)
        if np.abs(lattice - lattice.round()).max() > _SAME_LATTICE:
            continue
        for shift in shifts:
            permutation, error = _permutation(repeated, matrix, translation + shift)
            key = (*permutation, *matrix.round(6).ravel())
            if error < _AMPLIFICATION * tolerance and key not in seen:
                seen.add(key)
                yield matrix, translation + shift, permutation


def _centering(atoms, tolerance):
    """Find translations within a cell that is not primitive, zero among them."""
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    wanted = np.flatnonzero(atoms.numbers == numbers[np.argmin(counts)])
    shifts = atoms.positions[wanted] - atoms.positions[wanted[0]]
    return [shift for shift in shifts if _permutation(atoms, np.eye(3), shift)[1] < _AMPLIFICATION * tolerance]


def _permutation(atoms, matrix, translation):
    """Atom at the place to which each one comes, and the largest distance; infinite where it is no permutation."""
    cell = atoms.cell.complete().array
    steps = (atoms.positions @ matrix.T + translation)[:, None] - atoms.positions
    fractional = steps @ np.linalg.inv(cell)
    distances = np.linalg.norm((fractional - fractional.round() * atoms.pbc) @ cell, axis=2)
    distances[atoms.numbers[:, None] != atoms.numbers] = np.inf
    permutation = distances.argmin(axis=1)
    if len(np.unique(permutation)) < len(permutation):
        return permutation, np.inf
    return permutation, distances[np.arange(len(permutation)), permutation].max()


def _wave_vectors(cell, supercell, pure):
    """Wave vectors that the translations tell apart, the shortest first, and their phases."""
    fractional = pure @ np.linalg.inv(cell)
    steps = [sorted({n / count + zone for n in range(count) for zone in _ZONES}, key=abs) for count in supercell]
    trials = sorted(product(*steps), key=lambda q: (round(float(np.linalg.norm(np.linalg.inv(cell) @ q)), 9),
                                                    [-one for one in q]))  # fmt: skip
    vectors: list[tuple[float, ...]] = []
    phases = np.zeros((0, len(pure)), dtype=complex)
    for trial in trials:
        phase = np.exp(2j * np.pi * fractional @ np.array(trial))
        if not len(phases) or np.abs(phases.conj() @ phase).max() < 0.5 * len(pure):
            vectors.append(trial)
            phases = np.concatenate([phases, phase[None]])
        if len(vectors) == len(pure):
            break
    return np.array(vectors), phases
