"""Loops of the neighbor search: atoms in bins, whose rows along the last axis are scanned without a branch."""

import numpy as np
from numba import njit

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# Below this size a free molecule is one bin; binning pays beyond it.
_SINGLE_BIN_ATOMS = 100


@njit(**_options)
def find_pairs(
    positions, offsets, cells, inverses, pbc, cutoff, smallest, neighbors, vectors, distances, ends, bad
):  # fmt: skip
    """Fill the pairs of all structures, in the order of the centers; return how many there are.

    cells, inverses (n_structures, 3, 3): completed cells and their inverses. ends (n_atoms): number of pairs up to each
    center. bad (3,): structure and atoms of the first pair closer than ``smallest``. Where there is less room than
    pairs, the rest is only counted.
    """
    largest = 0
    for k in range(len(offsets) - 1):
        largest = max(largest, offsets[k + 1] - offsets[k])
    squares, hits = np.empty(largest), np.empty(largest, np.int64)
    count = 0
    for k in range(len(offsets) - 1):
        begin, end = offsets[k], offsets[k + 1]
        own, periodic = positions[begin:end], pbc[k, 0] or pbc[k, 1] or pbc[k, 2]
        if end - begin <= _SINGLE_BIN_ATOMS and not periodic:
            x, y, z = own[:, 0].copy(), own[:, 1].copy(), own[:, 2].copy()
            atoms = np.arange(end - begin)
            for i in range(end - begin):
                count = _scan(x, y, z, atoms, 0, end - begin, i, x[i], y[i], z[i], cutoff, smallest, begin, k,
                              squares, hits, neighbors, vectors, distances, count, bad)  # fmt: skip
                ends[begin + i] = count
        else:
            count = _search_bins(k, begin, own, cells[k], inverses[k], pbc[k], cutoff, smallest, squares, hits,
                                 neighbors, vectors, distances, count, ends, bad)  # fmt: skip
    return count


@njit(forceinline=True, **_options)
def _scan(x, y, z, atoms, first, last, itself, cx, cy, cz, cutoff, smallest, begin, structure, squares, hits,
          neighbors, vectors, distances, count, bad):  # fmt: skip
    """Add the atoms first .. last - 1 (in the order of the bins) that are near (cx, cy, cz), but not ``itself``."""
    n_candidates, n_hits, reach = last - first, 0, cutoff * cutoff
    for j in range(n_candidates):
        dx, dy, dz = x[first + j] - cx, y[first + j] - cy, z[first + j] - cz
        squares[j] = dx * dx + dy * dy + dz * dz
    for j in range(n_candidates):
        hits[n_hits] = first + j
        n_hits += squares[j] < reach
    for h in range(n_hits):
        j = hits[h]
        if j == itself:
            continue
        square = squares[j - first]
        if square < smallest * smallest and bad[0] < 0:
            bad[0], bad[1], bad[2] = structure, begin + atoms[max(itself, 0)], begin + atoms[j]
        if count < len(neighbors):
            neighbors[count] = begin + atoms[j]
            vectors[count, 0], vectors[count, 1], vectors[count, 2] = x[j] - cx, y[j] - cy, z[j] - cz
            distances[count] = np.sqrt(square)
        count += 1
    return count


@njit(**_options)
def _search_bins(k, begin, positions, cell, inverse, pbc, cutoff, smallest, squares, hits,
                 neighbors, vectors, distances, count, ends, bad):  # fmt: skip
    """Add the pairs of one structure, from the bins around each atom and their periodic images."""
    n_bins, reach, bin_of_atom, wrapped = _bins(positions, cell, inverse, pbc, cutoff)
    na, nb, nc = n_bins
    firsts, atoms, place = _sort(bin_of_atom, na, nb, nc)
    x, y, z = wrapped[atoms, 0], wrapped[atoms, 1], wrapped[atoms, 2]
    for i in range(len(positions)):
        here = place[i]
        for a in range(bin_of_atom[i, 0] - reach[0], bin_of_atom[i, 0] + reach[0] + 1):
            sa = a // na
            if sa != 0 and not pbc[0]:
                continue
            for b in range(bin_of_atom[i, 1] - reach[1], bin_of_atom[i, 1] + reach[1] + 1):
                sb = b // nb
                if sb != 0 and not pbc[1]:
                    continue
                row = ((a - sa * na) * nb + b - sb * nb) * nc
                low, high = bin_of_atom[i, 2] - reach[2], bin_of_atom[i, 2] + reach[2]
                for sc in range(low // nc, high // nc + 1):
                    if sc != 0 and not pbc[2]:
                        continue
                    first = firsts[row + max(low - sc * nc, 0)]
                    last = firsts[row + min(high - sc * nc, nc - 1) + 1]
                    cx = x[here] - (sa * cell[0, 0] + sb * cell[1, 0] + sc * cell[2, 0])
                    cy = y[here] - (sa * cell[0, 1] + sb * cell[1, 1] + sc * cell[2, 1])
                    cz = z[here] - (sa * cell[0, 2] + sb * cell[1, 2] + sc * cell[2, 2])
                    itself = here if sa == 0 and sb == 0 and sc == 0 else -1
                    before = bad[0]
                    count = _scan(x, y, z, atoms, first, last, itself, cx, cy, cz, cutoff, smallest, begin, k,
                                  squares, hits, neighbors, vectors, distances, count, bad)  # fmt: skip
                    if bad[0] != before:
                        bad[1] = begin + i
        ends[begin + i] = count
    return count


@njit(**_options)
def _bins(positions, cell, inverse, pbc, cutoff):
    """Numbers of bins, how many of them to search, and the bin and the wrapped position of every atom."""
    n_atoms = len(positions)
    fractional, wrapped = np.empty((n_atoms, 3)), positions.copy()
    low, length = np.zeros(3), np.ones(3)
    n_bins, reach, bins = np.empty(3, np.int64), np.empty(3, np.int64), np.empty((n_atoms, 3), np.int64)
    for axis in range(3):
        column = np.sqrt(inverse[0, axis] ** 2 + inverse[1, axis] ** 2 + inverse[2, axis] ** 2)
        for i in range(n_atoms):
            s = 0.0
            for x in range(3):
                s += positions[i, x] * inverse[x, axis]
            if pbc[axis]:
                wrap = np.floor(s)
                s -= wrap
                for x in range(3):
                    wrapped[i, x] -= wrap * cell[axis, x]
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
    return n_bins, reach, bins, wrapped


@njit(**_options)
def _sort(bins, na, nb, nc):
    """Sort atoms by bin: where each bin begins, the atoms in this order, and the place of each atom in it."""
    n_atoms = len(bins)
    firsts = np.zeros(na * nb * nc + 1, np.int64)
    atoms, place = np.empty(n_atoms, np.int64), np.empty(n_atoms, np.int64)
    for i in range(n_atoms):
        firsts[(bins[i, 0] * nb + bins[i, 1]) * nc + bins[i, 2] + 1] += 1
    for b in range(na * nb * nc):
        firsts[b + 1] += firsts[b]
    following = firsts.copy()
    for i in range(n_atoms):
        b = (bins[i, 0] * nb + bins[i, 1]) * nc + bins[i, 2]
        place[i] = following[b]
        atoms[following[b]] = i
        following[b] += 1
    return firsts, atoms, place
