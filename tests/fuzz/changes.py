"""Changes of a structure that change nothing, or only its frame; and derivatives by its atoms and its cell."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.neighborlist import neighbor_list


def other_cell(atoms, random):
    """Copy with other vectors of the same lattice, and others along the directions that are not periodic."""
    matrix = np.eye(3, dtype=int)
    periodic = np.flatnonzero(atoms.pbc)
    for _ in range(3):
        a, b = random.integers(3, size=2)
        if a != b and atoms.pbc[a] and atoms.pbc[b]:
            matrix[a] += int(random.integers(-1, 2)) * matrix[b]
    order = np.arange(3)
    order[periodic] = random.permutation(periodic)
    cell = (matrix @ atoms.cell.array)[order]
    cell[~atoms.pbc] = random.normal(size=(int((~atoms.pbc).sum()), 3)) * random.choice([0.0, 5.0])
    return Atoms(atoms.numbers, positions=atoms.positions, cell=cell, pbc=atoms.pbc)


def other_images(atoms, random):
    """Copy in which every atom is one of its own images."""
    shifts = random.integers(-2, 3, size=(len(atoms), 3)) * atoms.pbc
    return Atoms(atoms.numbers, positions=atoms.positions + shifts @ atoms.cell.array, cell=atoms.cell, pbc=atoms.pbc)


def supercell(atoms, random):
    """Several cells in one, and how many; the copies of an atom are those with its ``tags``."""
    copy = atoms.copy()
    copy.set_tags(np.arange(len(atoms)))
    if not atoms.pbc.any():
        return copy, 1
    matrix = np.eye(3, dtype=int)
    axes = np.flatnonzero(atoms.pbc)
    matrix[axes[0], axes[0]] = 2
    if len(axes) > 1 and len(atoms) <= 4:
        matrix[axes[1], axes[1]] = int(random.integers(1, 3))
        matrix[axes[0], axes[1]] = int(random.integers(0, 2))
    cell = copy.cell.array
    missing = np.flatnonzero(~cell.any(axis=1))
    # orthogonal to the others
    cell[missing] = 37.0 * np.linalg.svd(np.vstack([cell, np.zeros((1, 3))]))[2][3 - len(missing) :]
    copy.set_cell(cell)
    large = make_supercell(copy, matrix, wrap=False)
    large.pbc = atoms.pbc
    return large, round(abs(np.linalg.det(matrix)))


# Of a difference of fourth order: its own error is (step / sigma)^4 of the value over sigma, 2e-13 / sigma for the
# smallest sigma, and that of rounding 1e-16 / step; between the intervals of the tabulated radial functions, whose
# curvature jumps by 1e-9 / sigma^2 times a few hundred, 1e-7 or so of the largest.
STEP = 1e-4


def moved(structures, directions, step):
    out = []
    for atoms, direction in zip(structures, directions, strict=True):
        atoms = atoms.copy()
        atoms.positions += step * direction
        out.append(atoms)
    return out


def strained(structures, strains, step):
    out = []
    for atoms, strain in zip(structures, strains, strict=True):
        matrix = np.eye(3) + step * strain
        out.append(Atoms(atoms.numbers, positions=atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T,
                         pbc=atoms.pbc))  # fmt: skip
    return out


def derivative(function, step=STEP):
    """Central difference of fourth order at 0, of each entry of a dict."""
    values = [function(k * step) for k in (-2, -1, 1, 2)]
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    return {key: sum(w * value[key] for w, value in zip(weights, values, strict=True)) for key in values[0]}


def kinks(structures, descriptors):
    """Whether a pair is so close to where a cutoff function begins or ends that its curvature jumps within a step."""
    for one in descriptors:
        width = getattr(one, "cutoff_width", one.cutoff)
        edges = np.array([one.cutoff, one.cutoff - width])
        for atoms in structures:
            d = neighbor_list("d", atoms, one.cutoff + 0.1)
            # a strain or move of 2 steps changes a distance by less than this
            if (np.abs(d[:, None] - edges) < 60 * STEP).any():
                return True
    return False
