"""Loops of the neighbor search: all pairs of small molecules, linked cells for everything else."""

import numpy as np
from numba import njit

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# Below this size a free molecule is searched pair by pair; binning pays beyond it.
_DIRECT_SEARCH_ATOMS = 100


@njit(**_options)
def _store(count, i, j, x, y, z, distance, s, centers, neighbors, vectors, distances, shifts):
    """Write one pair if there is room for it; return the number of pairs found so far."""
    if count < len(centers):
        centers[count] = i
        neighbors[count] = j
        vectors[count, 0], vectors[count, 1], vectors[count, 2] = x, y, z
        distances[count] = distance
        shifts[count, 0], shifts[count, 1], shifts[count, 2] = s
    return count + 1


@njit(**_options)
def find_pairs(
    positions,
    offsets,
    cells,
    inverses,
    pbc,
    cutoff,
    smallest,
    centers,
    neighbors,
    vectors,
    distances,
    shifts,
    ends,
    bad,
):
    """Fill the pairs of all structures, in the order of the centers; return how many there are.

    cells, inverses (n_structures, 3, 3): completed cells and their inverses. ends (n_atoms): number of pairs up to each
    center. bad (3,): structure and atoms of the first pair closer than ``smallest``. Where there is less room than
    pairs, the rest is only counted.
    """
    count = 0
    for k in range(len(offsets) - 1):
        begin, n_atoms = offsets[k], offsets[k + 1] - offsets[k]
        if n_atoms <= _DIRECT_SEARCH_ATOMS and not (pbc[k, 0] or pbc[k, 1] or pbc[k, 2]):
            for i in range(begin, begin + n_atoms):
                for j in range(begin, begin + n_atoms):
                    x = positions[j, 0] - positions[i, 0]
                    y = positions[j, 1] - positions[i, 1]
                    z = positions[j, 2] - positions[i, 2]
                    square = x * x + y * y + z * z
                    if i == j or square >= cutoff * cutoff:
                        continue
                    if square < smallest * smallest and bad[0] < 0:
                        bad[0], bad[1], bad[2] = k, i, j
                    count = _store(count, i, j, x, y, z, np.sqrt(square), (0, 0, 0),
                                   centers, neighbors, vectors, distances, shifts)  # fmt: skip
                ends[i] = count
        else:
            count = _linked_cells(
                k, begin, n_atoms, positions, cells[k], inverses[k], pbc[k], cutoff, smallest, count,
                centers, neighbors, vectors, distances, shifts, ends, bad,
            )  # fmt: skip
    return count


@njit(**_options)
def _linked_cells(
    k, begin, n_atoms, positions, cell, inverse, pbc, cutoff, smallest, count,
    centers, neighbors, vectors, distances, shifts, ends, bad,
):  # fmt: skip
    n_bins, reach, bin_of_atom, wrapped, wraps = _bins(positions[begin : begin + n_atoms], cell, inverse, pbc, cutoff)
    first, following = _lists(bin_of_atom, n_bins)
    for i in range(n_atoms):
        a0, b0, c0 = bin_of_atom[i, 0], bin_of_atom[i, 1], bin_of_atom[i, 2]
        for a in range(a0 - reach[0], a0 + reach[0] + 1):
            sa = a // n_bins[0]
            if sa != 0 and not pbc[0]:
                continue
            for b in range(b0 - reach[1], b0 + reach[1] + 1):
                sb = b // n_bins[1]
                if sb != 0 and not pbc[1]:
                    continue
                for c in range(c0 - reach[2], c0 + reach[2] + 1):
                    sc = c // n_bins[2]
                    if sc != 0 and not pbc[2]:
                        continue
                    j = first[a - sa * n_bins[0], b - sb * n_bins[1], c - sc * n_bins[2]]
                    image_x = sa * cell[0, 0] + sb * cell[1, 0] + sc * cell[2, 0] - wrapped[i, 0]
                    image_y = sa * cell[0, 1] + sb * cell[1, 1] + sc * cell[2, 1] - wrapped[i, 1]
                    image_z = sa * cell[0, 2] + sb * cell[1, 2] + sc * cell[2, 2] - wrapped[i, 2]
                    while j >= 0:
                        x, y, z = wrapped[j, 0] + image_x, wrapped[j, 1] + image_y, wrapped[j, 2] + image_z
                        square = x * x + y * y + z * z
                        itself = i == j and sa == 0 and sb == 0 and sc == 0
                        if square < cutoff * cutoff and not itself:
                            if square < smallest * smallest and bad[0] < 0:
                                bad[0], bad[1], bad[2] = k, begin + i, begin + j
                            shift = (
                                sa + wraps[i, 0] - wraps[j, 0],
                                sb + wraps[i, 1] - wraps[j, 1],
                                sc + wraps[i, 2] - wraps[j, 2],
                            )
                            count = _store(count, begin + i, begin + j, x, y, z, np.sqrt(square), shift,
                                           centers, neighbors, vectors, distances, shifts)  # fmt: skip
                        j = following[j]
        ends[begin + i] = count
    return count


@njit(**_options)
def _bins(positions, cell, inverse, pbc, cutoff):
    """Sort atoms into bins: numbers of bins, search ranges; bin, wrapped position and wrap of every atom."""
    n_atoms = len(positions)
    fractional, wraps, wrapped = np.empty((n_atoms, 3)), np.zeros((n_atoms, 3), np.int64), positions.copy()
    low, length = np.zeros(3), np.ones(3)
    n_bins, reach, bins = np.empty(3, np.int64), np.empty(3, np.int64), np.empty((n_atoms, 3), np.int64)
    for axis in range(3):
        column = np.sqrt(inverse[0, axis] ** 2 + inverse[1, axis] ** 2 + inverse[2, axis] ** 2)
        for i in range(n_atoms):
            s = 0.0
            for x in range(3):
                s += positions[i, x] * inverse[x, axis]
            if pbc[axis]:
                wraps[i, axis] = int(np.floor(s))
                s -= wraps[i, axis]
                for x in range(3):
                    wrapped[i, x] -= wraps[i, axis] * cell[axis, x]
            fractional[i, axis] = s
        if not pbc[axis]:
            low[axis] = fractional[:, axis].min()
            length[axis] = fractional[:, axis].max() - low[axis]
        n_bins[axis] = int(min(max(1.0, length[axis] / column / cutoff), 1024.0))
    while n_bins[0] * n_bins[1] * n_bins[2] > 2 * n_atoms + 8:  # vacuum: bins would outnumber atoms
        axis = np.argmax(n_bins)
        n_bins[axis] = (n_bins[axis] + 1) // 2
    for axis in range(3):
        column = np.sqrt(inverse[0, axis] ** 2 + inverse[1, axis] ** 2 + inverse[2, axis] ** 2)
        width = length[axis] / n_bins[axis] / column
        # one more than enough for an atom whose bin was rounded; without periodicity there is nothing beyond the bins
        reach[axis] = int(np.ceil(cutoff / width * (1 + 1e-12))) if pbc[axis] or n_bins[axis] > 1 else 0
        if not pbc[axis]:
            reach[axis] = min(reach[axis], n_bins[axis] - 1)
        for i in range(n_atoms):
            position = (fractional[i, axis] - low[axis]) / length[axis] if length[axis] > 0 else 0.0
            bins[i, axis] = min(max(int(position * n_bins[axis]), 0), n_bins[axis] - 1)
    return n_bins, reach, bins, wrapped, wraps


@njit(**_options)
def _lists(bins, n_bins):
    """Linked lists: the first atom of every bin, and the atom that follows each; -1 ends a list."""
    first = np.full((n_bins[0], n_bins[1], n_bins[2]), -1, np.int64)
    following = np.empty(len(bins), np.int64)
    for i in range(len(bins) - 1, -1, -1):
        following[i] = first[bins[i, 0], bins[i, 1], bins[i, 2]]
        first[bins[i, 0], bins[i, 1], bins[i, 2]] = i
    return first, following
