"""Point groups of molecules: candidates from pairs of equivalent atoms, checked on all atoms.

A rotation is determined by where it takes two atoms that are not in line with the center, a reflection or an improper
rotation as well; both come among the atoms of their elements that are as far from the center.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from eqkernels.symmetry.group_algebra import idealized, rotation
from eqkernels.symmetry.group_names import generators_of, schoenflies_of
from eqkernels.symmetry.point_groups import PointGroup

# Two atoms in line with the center to this sine do not determine a rotation well.
_SMALLEST_SINE = 0.2
# A candidate is made of two atoms, and others move by more than these.
_AMPLIFICATION = 10


def molecular_group(positions: NDArray[np.float64], numbers: NDArray[np.int64], tolerance: float) -> PointGroup:
    """Point group of a molecule.

    Parameters
    ----------
    positions : ndarray of shape (n_atoms, 3)
    numbers : ndarray of int of shape (n_atoms,)
        Atoms of different numbers are different.
    tolerance : float
        Largest distance, in Angstrom, between where an operation takes an atom and the atom that is there.

    Returns
    -------
    PointGroup

    Raises
    ------
    ValueError
        If two atoms are within the tolerance of one another.
    """
    _refuse_coinciding(positions, tolerance)
    center = positions.mean(axis=0)
    vectors = positions - center
    distances = np.linalg.norm(vectors, axis=1)
    if len(numbers) == 1:
        matrices, permutations = generators_of("Kh"), np.zeros((3, 1), dtype=int)
        return PointGroup("Kh", matrices, center - matrices @ center, permutations, np.eye(3))
    direction = np.linalg.svd(vectors, full_matrices=False)[2][0]
    if np.linalg.norm(vectors - np.outer(vectors @ direction, direction), axis=1).max() <= tolerance:
        return _linear_group(vectors, numbers, direction, center, tolerance)
    kinds = _kinds(numbers, distances, tolerance)
    found = {}
    for candidate in _candidates(vectors, kinds, tolerance):
        matrix, permutation, error = _refined(candidate, vectors, numbers, tolerance)
        if error <= tolerance:
            found[(*permutation, round(np.linalg.det(matrix)))] = (error, matrix)
    keys = _largest_group(found)
    matrices = idealized(np.array([found[key][1] for key in keys]))
    permutations = np.array([key[:-1] for key in keys])
    return PointGroup(schoenflies_of(matrices), matrices, center - matrices @ center, permutations)


def _refuse_coinciding(positions, tolerance):
    close = np.triu(cdist(positions, positions) <= tolerance, k=1)
    if close.any():
        a, b = np.argwhere(close)[0]
        distance = np.linalg.norm(positions[a] - positions[b])
        raise ValueError(
            f"atoms {a} and {b} are {distance:.4f} Angstrom apart, within tolerance={tolerance}: remove one of them or "
            "reduce the tolerance"
        )


def _linear_group(vectors, numbers, direction, center, tolerance):
    """C_inf_v, or D_inf_h where inversion takes each atom to another."""
    permutation, error = _permutation(-vectors, vectors, numbers)
    name = "Dinfh" if error <= tolerance else "Cinfv"
    normal = np.cross([0, 0, 1], direction)
    frame = rotation(normal, np.arccos(np.clip(direction[2], -1, 1))) if np.linalg.norm(normal) > 1e-8 else np.eye(3)
    matrices = frame @ generators_of(name) @ frame.T
    staying = np.arange(len(numbers))
    turning = matrices @ direction @ direction < 0
    permutations = np.where(turning[:, None], permutation, staying)
    return PointGroup(name, matrices, center - matrices @ center, permutations, frame)


def _kinds(numbers, distances, tolerance):
    """Label atoms by element and distance from the center; steps below twice the tolerance are none."""
    kinds = np.zeros(len(numbers), dtype=int)
    rows = np.lexsort((distances, numbers))
    steps = (np.diff(numbers[rows]) != 0) | (np.diff(distances[rows]) > 2 * tolerance)
    kinds[rows[1:]] = np.cumsum(steps)
    return kinds


def _reference_atoms(vectors, kinds):
    """Two atoms, not in line with the center, that have few equivalent ones."""
    counts = np.bincount(kinds)[kinds]
    lengths = np.linalg.norm(vectors, axis=1)
    areas = np.linalg.norm(np.cross(vectors[:, None], vectors[None]), axis=2)
    sines = areas / np.maximum(np.outer(lengths, lengths), 1e-12)
    far = lengths > 0.3 * lengths.max()
    cost = np.outer(counts, counts) / np.where(far[:, None] & far & (sines > _SMALLEST_SINE), 1, 1e-12)
    if cost.min() >= 1e12:  # almost linear
        cost = -areas
    return np.unravel_index(np.argmin(cost), cost.shape)


def _candidates(vectors, kinds, tolerance):
    first, second = _reference_atoms(vectors, kinds)
    frame = _frame(vectors[first], vectors[second])
    distance = np.linalg.norm(vectors[first] - vectors[second])
    for a in np.flatnonzero(kinds == kinds[first]):
        for b in np.flatnonzero(kinds == kinds[second]):
            if a != b and abs(np.linalg.norm(vectors[a] - vectors[b]) - distance) <= 2 * tolerance:
                other = _frame(vectors[a], vectors[b])
                yield other @ frame.T
                yield other @ np.diag([1, 1, -1]) @ frame.T


def _frame(first, second):
    """Orthonormal axes, as columns, of which the third is perpendicular to both vectors."""
    normal = np.cross(first, second)
    if np.linalg.norm(normal) == 0:
        normal = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    x, z = first / np.linalg.norm(first), normal / np.linalg.norm(normal)
    return np.array([x, np.cross(z, x), z]).T


def _permutation(moved, vectors, numbers):
    """Atom at the place of each moved one, and the largest distance; infinite where it is no permutation."""
    distances = cdist(moved, vectors)
    distances[numbers[:, None] != numbers] = np.inf
    permutation = distances.argmin(axis=1)
    if len(np.unique(permutation)) < len(permutation):
        return permutation, np.inf
    return permutation, distances[np.arange(len(permutation)), permutation].max()


def _refined(candidate, vectors, numbers, tolerance):
    """Orthogonal matrix of the same determinant that fits all atoms best, after Kabsch."""
    permutation, error = _permutation(vectors @ candidate.T, vectors, numbers)
    if error > _AMPLIFICATION * tolerance:
        return candidate, permutation, np.inf
    u, _, v = np.linalg.svd(vectors[permutation].T @ vectors)
    sign = np.linalg.det(u @ v) * np.linalg.det(candidate)
    matrix = u @ np.diag([1, 1, np.sign(sign)]) @ v
    return matrix, permutation, np.linalg.norm(vectors @ matrix.T - vectors[permutation], axis=1).max()


def _largest_group(found):
    """Keys of the operations with errors below the largest threshold for which they are a group, identity first."""
    keys = sorted(found, key=lambda key: (key[-1] < 0, list(key) != [*range(len(key) - 1), 1]))
    while True:
        table = np.array(keys)
        permutations, signs = table[:, :-1], table[:, -1]
        products = np.array([permutations[:, row] for row in permutations])
        rows = np.concatenate([products, (signs[:, None] * signs)[:, :, None]], axis=2).reshape(-1, table.shape[1])
        known = {key for key in keys}
        if all(tuple(row) in known for row in rows.tolist()):
            return keys
        keys.remove(max(keys[1:], key=lambda key: found[key][0]))
