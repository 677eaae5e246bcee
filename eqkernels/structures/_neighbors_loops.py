"""Loops of the neighbor search: atoms in bins, whose rows along the last axis are scanned without a branch."""

import numpy as np
from numba import njit

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# Below this size a free molecule is one bin; binning pays beyond it.
_SINGLE_BIN_ATOMS = 100
# Bins along one direction, at most.
_MOST_BINS = 1024
# Room made at first for the neighbors of an atom of a molecule; the search is repeated where it is too small.
_NEIGHBORS_IN_MOLECULE = 48


@njit(**_options)
def _cross(a, b, out):
    """Write the cross product and return its length."""
    for x in range(3):
        y, z = (x + 1) % 3, (x + 2) % 3
        out[x] = a[y] * b[z] - a[z] * b[y]
    return np.sqrt(out[0] ** 2 + out[1] ** 2 + out[2] ** 2)


@njit(**_options)
def complete_cells(cells, pbc):
    """Cells (n_structures, 3, 3) with unit vectors, orthogonal to all others, along the directions that are not
    periodic; and their inverses.
    """  # noqa: D205
    completed, inverses = np.zeros(cells.shape), np.empty(cells.shape)
    other = np.empty(3)
    for k in range(len(cells)):
        cell, inverse = completed[k], inverses[k]
        n_periodic, last = 0, 0
        for axis in range(3):
            if pbc[k, axis]:
                n_periodic, last = n_periodic + 1, axis
                cell[axis] = cells[k, axis]
        if n_periodic == 0:
            for axis in range(3):
                cell[axis, axis] = 1.0
        elif n_periodic == 1:
            a, b = (last + 1) % 3, (last + 2) % 3
            other[:] = 0.0
            other[np.argmin(np.abs(cell[last]))] = 1.0  # the direction in which the vector points least
            length = _cross(cell[last], other, cell[a])
            cell[a] /= length
            length = _cross(cell[last], cell[a], cell[b])
            cell[b] /= length
        elif n_periodic == 2:
            for axis in range(3):
                if not pbc[k, axis]:
                    length = _cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3], cell[axis])
                    cell[axis] /= length
        for axis in range(3):
            _cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3], inverse[:, axis])
        volume = cell[0, 0] * inverse[0, 0] + cell[0, 1] * inverse[1, 0] + cell[0, 2] * inverse[2, 0]
        inverse /= volume
    return completed, inverses


@njit(**_options)
def expected_pairs(offsets, cells, pbc, cutoff):
    """About how many pairs there are, rather too many."""
    total, normal = 0.0, np.empty(3)
    for k in range(len(cells)):
        n = float(offsets[k + 1] - offsets[k])
        if not (pbc[k, 0] or pbc[k, 1] or pbc[k, 2]):
            total += n * min(n - 1, _NEIGHBORS_IN_MOLECULE)
            continue
        _cross(cells[k, 0], cells[k, 1], normal)
        volume = abs(normal[0] * cells[k, 2, 0] + normal[1] * cells[k, 2, 1] + normal[2] * cells[k, 2, 2])
        if not (pbc[k, 0] and pbc[k, 1] and pbc[k, 2]):
            volume *= 2 * cutoff  # the periodic lengths hold all atoms; none are assumed beyond along the others
        total += n * (n / volume * 4.19 * cutoff**3 * 1.1 + 8)
    return total


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
    wrapped, sorted_positions, squares = np.empty((largest, 3)), np.empty((3, largest)), np.empty(largest)
    bins, atoms, hits = np.empty((largest, 3), np.int64), np.empty(largest, np.int64), np.empty(largest, np.int64)
    # bins do not outnumber atoms by more than this, see _choose_bins
    firsts, n_bins, reach = np.empty(2 * largest + 10, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    count = 0
    for k in range(len(offsets) - 1):
        begin, n_atoms = offsets[k], offsets[k + 1] - offsets[k]
        for i in range(n_atoms):
            for axis in range(3):
                wrapped[i, axis], bins[i, axis] = positions[begin + i, axis], 0
        if n_atoms <= _SINGLE_BIN_ATOMS and not (pbc[k, 0] or pbc[k, 1] or pbc[k, 2]):
            for axis in range(3):
                n_bins[axis], reach[axis] = 1, 0
        else:
            _choose_bins(wrapped, n_atoms, cells[k], inverses[k], pbc[k], cutoff, n_bins, reach, bins)
        _sort(wrapped, n_atoms, bins, n_bins, firsts, atoms, sorted_positions)
        count = _search(k, begin, wrapped, n_atoms, cells[k], pbc[k], cutoff, smallest, n_bins, reach, bins, firsts,
                        atoms, sorted_positions, squares, hits, neighbors, vectors, distances, count, ends,
                        bad)  # fmt: skip
    return count


@njit(**_options)
def _choose_bins(wrapped, n_atoms, cell, inverse, pbc, cutoff, n_bins, reach, bins):
    """Wrap positions into the cell, divide it into bins about as wide as the cutoff, and find the bin of every atom."""
    fractional, low, length, widths = np.empty((n_atoms, 3)), np.zeros(3), np.ones(3), np.empty(3)
    for axis in range(3):
        first, last = np.inf, -np.inf
        for i in range(n_atoms):
            s = wrapped[i, 0] * inverse[0, axis] + wrapped[i, 1] * inverse[1, axis] + wrapped[i, 2] * inverse[2, axis]
            fractional[i, axis] = s - np.floor(s) if pbc[axis] else s
            first, last = min(first, s), max(last, s)
        if not pbc[axis]:
            low[axis], length[axis] = first, last - first
        # the distance of the planes that bound the cell is the inverse of this norm
        norm = np.sqrt(inverse[0, axis] ** 2 + inverse[1, axis] ** 2 + inverse[2, axis] ** 2)
        widths[axis] = length[axis] / norm
        n_bins[axis] = int(min(max(1.0, widths[axis] / cutoff), float(_MOST_BINS)))
    for i in range(n_atoms):
        for x in range(3):
            wrapped[i, x] = (
                fractional[i, 0] * cell[0, x] + fractional[i, 1] * cell[1, x] + fractional[i, 2] * cell[2, x]
            )
    while n_bins[0] * n_bins[1] * n_bins[2] > 2 * n_atoms + 8:  # vacuum: bins would outnumber atoms
        axis = 0
        for other in range(1, 3):
            if n_bins[other] > n_bins[axis]:
                axis = other
        n_bins[axis] = (n_bins[axis] + 1) // 2
    for axis in range(3):
        # one more than enough for an atom whose bin was rounded; without periodicity there is nothing beyond the bins
        if pbc[axis] or n_bins[axis] > 1:
            reach[axis] = int(np.ceil(cutoff / (widths[axis] / n_bins[axis]) * (1 + 1e-12)))
        else:
            reach[axis] = 0
        if not pbc[axis]:
            reach[axis] = min(reach[axis], n_bins[axis] - 1)
        for i in range(n_atoms):
            position = (fractional[i, axis] - low[axis]) / length[axis] if length[axis] > 0 else 0.0
            bins[i, axis] = min(max(int(position * n_bins[axis]), 0), n_bins[axis] - 1)


@njit(**_options)
def _sort(wrapped, n_atoms, bins, n_bins, firsts, atoms, positions):
    """Sort atoms by bin: where each bin begins, the atoms in this order, and their positions (3, n_atoms)."""
    n = n_bins[0] * n_bins[1] * n_bins[2]
    for b in range(n + 1):
        firsts[b] = 0
    for i in range(n_atoms):
        firsts[(bins[i, 0] * n_bins[1] + bins[i, 1]) * n_bins[2] + bins[i, 2] + 1] += 1
    for b in range(n):
        firsts[b + 1] += firsts[b]
    for i in range(n_atoms - 1, -1, -1):  # from behind: each bin is filled down to its beginning
        b = (bins[i, 0] * n_bins[1] + bins[i, 1]) * n_bins[2] + bins[i, 2] + 1
        firsts[b] -= 1
        atoms[firsts[b]] = i
        for x in range(3):
            positions[x, firsts[b]] = wrapped[i, x]
    for b in range(n):  # the beginning of bin b stands at b + 1 now
        firsts[b] = firsts[b + 1]
    firsts[n] = n_atoms


@njit(**_options)
def _search(k, begin, wrapped, n_atoms, cell, pbc, cutoff, smallest, n_bins, reach, bins, firsts, atoms, positions,
            squares, hits, neighbors, vectors, distances, count, ends, bad):  # fmt: skip
    """Add the pairs of one structure, from the bins around each atom and their periodic images."""
    na, nb, nc = n_bins[0], n_bins[1], n_bins[2]
    x, y, z, square_of_cutoff = positions[0], positions[1], positions[2], cutoff * cutoff
    for i in range(n_atoms):
        for a in range(bins[i, 0] - reach[0], bins[i, 0] + reach[0] + 1):
            sa = a // na
            if sa != 0 and not pbc[0]:
                continue
            for b in range(bins[i, 1] - reach[1], bins[i, 1] + reach[1] + 1):
                sb = b // nb
                if sb != 0 and not pbc[1]:
                    continue
                row = ((a - sa * na) * nb + b - sb * nb) * nc
                low, high = bins[i, 2] - reach[2], bins[i, 2] + reach[2]
                for sc in range(low // nc, high // nc + 1):
                    if sc != 0 and not pbc[2]:
                        continue
                    first = firsts[row + max(low - sc * nc, 0)]
                    n_candidates = firsts[row + min(high - sc * nc, nc - 1) + 1] - first
                    cx = wrapped[i, 0] - (sa * cell[0, 0] + sb * cell[1, 0] + sc * cell[2, 0])
                    cy = wrapped[i, 1] - (sa * cell[0, 1] + sb * cell[1, 1] + sc * cell[2, 1])
                    cz = wrapped[i, 2] - (sa * cell[0, 2] + sb * cell[1, 2] + sc * cell[2, 2])
                    for j in range(n_candidates):
                        dx, dy, dz = x[first + j] - cx, y[first + j] - cy, z[first + j] - cz
                        squares[j] = dx * dx + dy * dy + dz * dz
                    n_hits = 0
                    for j in range(n_candidates):
                        hits[n_hits] = j
                        n_hits += squares[j] < square_of_cutoff
                    for h in range(n_hits):
                        place, square = first + hits[h], squares[hits[h]]
                        neighbor = atoms[place]
                        if neighbor == i and sa == 0 and sb == 0 and sc == 0:
                            continue
                        if square < smallest * smallest and bad[0] < 0:
                            bad[0], bad[1], bad[2] = k, begin + i, begin + neighbor
                        if count < len(neighbors):
                            neighbors[count], distances[count] = begin + neighbor, np.sqrt(square)
                            vectors[count, 0], vectors[count, 1] = x[place] - cx, y[place] - cy
                            vectors[count, 2] = z[place] - cz
                        count += 1
        ends[begin + i] = count
    return count
