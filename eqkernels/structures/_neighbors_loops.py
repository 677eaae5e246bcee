"""Loops of the neighbor search: all periodic images near a structure, in columns that are scanned without a branch.

Images are laid out explicitly, so that molecules, wires, slabs and crystals are searched alike. They are sorted into
columns as wide as the cutoff and, along z, into bins. The neighbors of an atom are in few columns, and in each of them
in one contiguous range, cut to the sphere.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    filled,
    fused,
    keep,
    lanes,
    lanes_below,
    load,
    lowest,
    memory,
    times,
)

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# So few images are scanned as one bin.
_SINGLE_BIN_IMAGES = 64
# Bins along one direction, at most.
_MOST_BINS = 1024
# Bins along z are shorter than the cutoff by this factor.
_BINS_PER_CUTOFF = 4.0
# Columns and bins are chosen with so much more than the cutoff, far beyond the rounding of their edges.
_MARGIN = 1 + 1e-6
# Vectors are read beyond the end of the images.
_PADDING = 8
# Neighbors that an atom of a molecule may have at first; the search is repeated where it has more.
_NEIGHBORS_IN_MOLECULE = 48


@njit(**_options)
def _cross(a, b, out):
    """Write the cross product and return its length."""
    for x in range(3):
        y, z = (x + 1) % 3, (x + 2) % 3
        out[x] = a[y] * b[z] - a[z] * b[y]
    return np.sqrt(out[0] ** 2 + out[1] ** 2 + out[2] ** 2)


@njit(**_options)
def _set_normal(cell, axis, a, b):
    """Set a cell vector to the unit vector orthogonal to two others."""
    length = _cross(a, b, cell[axis])
    for x in range(3):
        cell[axis, x] /= length


@njit(**_options)
def complete_cells(cells, pbc):
    """Cells (n_structures, 3, 3) with unit vectors, orthogonal to all others, along the directions that are not
    periodic; and their inverses.
    """  # noqa: D205
    completed, inverses = np.zeros(cells.shape), np.empty(cells.shape)
    other = np.empty(3)
    for k in range(len(cells)):
        cell, inverse = completed[k], inverses[k]
        n_periodic, last, open_axis = 0, 0, 0
        for axis in range(3):
            if pbc[k, axis]:
                n_periodic, last = n_periodic + 1, axis
                for x in range(3):
                    cell[axis, x] = cells[k, axis, x]
            else:
                open_axis = axis
        if n_periodic == 0:
            for axis in range(3):
                cell[axis, axis] = 1.0
        elif n_periodic == 1:
            least = 0  # the direction in which the vector points least
            for x in range(3):
                other[x] = 0.0
                if abs(cell[last, x]) < abs(cell[last, least]):
                    least = x
            other[least] = 1.0
            _set_normal(cell, (last + 1) % 3, cell[last], other)
            _set_normal(cell, (last + 2) % 3, cell[last], cell[(last + 1) % 3])
        elif n_periodic == 2:
            _set_normal(cell, open_axis, cell[(open_axis + 1) % 3], cell[(open_axis + 2) % 3])
        for axis in range(3):
            _cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3], other)
            volume = cell[axis, 0] * other[0] + cell[axis, 1] * other[1] + cell[axis, 2] * other[2]
            for x in range(3):
                inverse[x, axis] = other[x] / volume
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
    """Fill the pairs of all structures, in the order of the centers.

    cells, inverses (n_structures, 3, 3): completed cells and their inverses. ends (n_atoms): number of pairs up to each
    center. bad (3,): structure and atoms of the first pair closer than ``smallest``. Where there is less space than
    pairs, the rest is only counted.
    """
    reach, low, high = np.empty(3), np.empty(3), np.empty(3)
    n_bins, widths = np.empty(3, np.int64), np.empty(3)
    images, owners, capacity = np.empty((0, 3)), np.empty(0, np.int64), -1
    ordered, atoms, firsts, bins = np.empty((3, 0)), owners, owners, owners
    for k in range(len(offsets) - 1):
        begin, n_atoms = offsets[k], offsets[k + 1] - offsets[k]
        most = n_atoms
        for axis in range(3):
            # the distance of the planes that bound the cell is the inverse of this norm
            norm = np.sqrt(inverses[k, 0, axis] ** 2 + inverses[k, 1, axis] ** 2 + inverses[k, 2, axis] ** 2)
            reach[axis] = cutoff * norm * _MARGIN if pbc[k, axis] else 0.0
            most *= int(1 + 2 * reach[axis] * _MARGIN) + 1 if pbc[k, axis] else 1
        if most > capacity:
            capacity = most
            images, owners, bins = np.empty((capacity, 3)), np.empty(capacity, np.int64), np.empty(capacity, np.int64)
            ordered, atoms = np.zeros((3, capacity + _PADDING)), np.empty(capacity, np.int64)
            firsts = np.empty(2 * capacity + 10, np.int64)  # bins do not outnumber images by more, see _choose_bins
        _wrap(positions[begin : begin + n_atoms], cells[k], inverses[k], pbc[k], images, owners, low, high)
        n_images = n_atoms
        if pbc[k, 0] or pbc[k, 1] or pbc[k, 2]:
            n_images = _add_images(n_atoms, cells[k], inverses[k], pbc[k], reach, cutoff, images, owners, low, high)
        _choose_bins(n_images, cutoff, low, high, n_bins, widths)
        _sort(images, owners, n_images, low, n_bins, widths, bins, firsts, atoms, ordered)
        _search(k, begin, images, n_atoms, cutoff, smallest, low, n_bins, widths, bins, firsts, atoms, ordered,
                neighbors, vectors, distances, ends, bad)  # fmt: skip


@njit(**_options)
def _wrap(positions, cell, inverse, pbc, images, owners, low, high):
    """Write the atoms, moved into the cell, as the first images, and the bounds of their positions."""
    for x in range(3):
        low[x], high[x] = np.inf, -np.inf
    for i in range(len(positions)):
        owners[i] = i
        for x in range(3):
            images[i, x] = positions[i, x]
        for axis in range(3):
            if pbc[axis]:
                s = positions[i, 0] * inverse[0, axis] + positions[i, 1] * inverse[1, axis]
                cells_away = np.floor(s + positions[i, 2] * inverse[2, axis])
                if cells_away != 0:
                    for x in range(3):
                        images[i, x] -= cells_away * cell[axis, x]
        for x in range(3):
            low[x], high[x] = min(low[x], images[i, x]), max(high[x], images[i, x])


@njit(**_options)
def _add_images(n_atoms, cell, inverse, pbc, reach, cutoff, images, owners, low, high):
    """Write the periodic images that may be within the cutoff of an atom; return how many images there are in all.

    reach: cutoff in units of the distance of the planes that bound the cell; low, high: bounds of the atoms on entry,
    of the images on return.
    """
    margin, n_images = cutoff * _MARGIN, n_atoms
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for i in range(n_atoms):
        for axis in range(3):
            if pbc[axis]:
                s = images[i, 0] * inverse[0, axis] + images[i, 1] * inverse[1, axis] + images[i, 2] * inverse[2, axis]
                first[axis], last[axis] = int(np.ceil(-reach[axis] - s)), int(np.floor(1 + reach[axis] - s))
        for a in range(first[0], last[0] + 1):
            for b in range(first[1], last[1] + 1):
                for c in range(first[2], last[2] + 1):
                    if a == 0 and b == 0 and c == 0:
                        continue  # the atom itself: there may be no space for it at the end
                    inside = True
                    for x in range(3):
                        position = images[i, x] + (a * cell[0, x] + b * cell[1, x] + c * cell[2, x])
                        images[n_images, x] = position
                        inside = inside and low[x] - margin <= position <= high[x] + margin
                    if inside:
                        owners[n_images] = i
                        n_images += 1
    for i in range(n_atoms, n_images):
        for x in range(3):
            low[x], high[x] = min(low[x], images[i, x]), max(high[x], images[i, x])
    return n_images


@njit(**_options)
def _choose_bins(n_images, cutoff, low, high, n_bins, widths):
    """Divide the box around the images into columns about as wide as the cutoff, and these into bins."""
    for axis in range(3):
        length = cutoff / _BINS_PER_CUTOFF if axis == 2 else cutoff
        n_bins[axis] = int(min(max(1.0, (high[axis] - low[axis]) / length), float(_MOST_BINS)))
        if n_images <= _SINGLE_BIN_IMAGES:
            n_bins[axis] = 1
    while n_bins[0] * n_bins[1] * n_bins[2] > 2 * n_images + 8:  # vacuum: bins would outnumber images
        axis = 0
        for other in range(1, 3):
            if n_bins[other] > n_bins[axis]:
                axis = other
        n_bins[axis] = (n_bins[axis] + 1) // 2
    for axis in range(3):
        widths[axis] = (high[axis] - low[axis]) / n_bins[axis]


@njit(forceinline=True, **_options)
def _bin_of(position, low, width, n_bins):
    """Bin of a position, the first or the last one for positions outside."""
    return int(min(max((position - low) / width, 0.0), n_bins - 1.0)) if width > 0 else 0


@njit(**_options)
def _sort(images, owners, n_images, low, n_bins, widths, bins, firsts, atoms, ordered):
    """Sort images by bin: where each bin begins, their atoms and positions (3, n_images) in this order.

    ``bins`` becomes the place of each image.
    """
    n = n_bins[0] * n_bins[1] * n_bins[2]
    for b in range(n + 1):
        firsts[b] = 0
    for i in range(n_images):
        bins[i] = 0
        for axis in range(3):
            bins[i] = bins[i] * n_bins[axis] + _bin_of(images[i, axis], low[axis], widths[axis], n_bins[axis])
        firsts[bins[i] + 1] += 1
    for b in range(n):
        firsts[b + 1] += firsts[b]
    for i in range(n_images - 1, -1, -1):  # from behind: each bin is filled down to its beginning
        firsts[bins[i] + 1] -= 1
        place = firsts[bins[i] + 1]
        bins[i], atoms[place] = place, owners[i]
        for x in range(3):
            ordered[x, place] = images[i, x]
    for b in range(n):  # the beginning of bin b stands at b + 1 now
        firsts[b] = firsts[b + 1]
    firsts[n] = n_images


@njit(**_options)
def _search(k, begin, images, n_atoms, cutoff, smallest, low, n_bins, widths, places, firsts, atoms, ordered,
            neighbors, vectors, distances, ends, bad):  # fmt: skip
    """Add the pairs of one structure, from the columns around each atom, cut to the sphere."""
    count = ends[begin - 1] if begin > 0 else 0
    reach, x, y, z = cutoff * _MARGIN, ordered[0], ordered[1], ordered[2]
    for i in range(n_atoms):
        px, py, pz = images[i, 0], images[i, 1], images[i, 2]
        for a in range(_bin_of(px - reach, low[0], widths[0], n_bins[0]),
                       _bin_of(px + reach, low[0], widths[0], n_bins[0]) + 1):  # fmt: skip
            left = low[0] + a * widths[0]
            gap = max(0.0, left - px, px - left - widths[0])
            rest = reach * reach - gap * gap
            for b in range(_bin_of(py - reach, low[1], widths[1], n_bins[1]),
                           _bin_of(py + reach, low[1], widths[1], n_bins[1]) + 1):  # fmt: skip
                left = low[1] + b * widths[1]
                gap = max(0.0, left - py, py - left - widths[1])
                if gap * gap >= rest:
                    continue
                height, column = np.sqrt(rest - gap * gap), (a * n_bins[1] + b) * n_bins[2]
                first = firsts[column + _bin_of(pz - height, low[2], widths[2], n_bins[2])]
                last = firsts[column + _bin_of(pz + height, low[2], widths[2], n_bins[2]) + 1]
                count = _scan(k, begin, i, px, py, pz, cutoff * cutoff, smallest * smallest, first, last, places[i], x,
                              y, z, atoms, neighbors, vectors, distances, count, bad)  # fmt: skip
        ends[begin + i] = count


@njit(forceinline=True, **_options)
def _scan(k, begin, i, px, py, pz, largest, smallest, first, last, place_of_i, x, y, z, atoms, neighbors, vectors,
          distances, count, bad):  # fmt: skip
    """Add the pairs of one atom with the images first .. last - 1; largest, smallest: bounds of squared distances."""
    at_x, at_y, at_z = memory(x), memory(y), memory(z)
    one = filled(at_x, 1.0)
    for start in range(first, last, lanes(at_x)):
        dx = add_product(load(at_x, start), -px, one)
        dy, dz = add_product(load(at_y, start), -py, one), add_product(load(at_z, start), -pz, one)
        squares = fused(dx, dx, fused(dy, dy, times(dz, dz)))
        hits = lanes_below(squares, largest, last - start)
        while hits != 0:
            place = start + lowest(hits)
            hits &= hits - 1
            if place == place_of_i:
                continue
            vx, vy, vz = x[place] - px, y[place] - py, z[place] - pz
            square = vx * vx + vy * vy + vz * vz
            if square < smallest and bad[0] < 0:
                bad[0], bad[1], bad[2] = k, begin + i, begin + atoms[place]
            if count < len(neighbors):
                neighbors[count], distances[count] = begin + atoms[place], np.sqrt(square)
                vectors[count, 0], vectors[count, 1], vectors[count, 2] = vx, vy, vz
            count += 1
    keep(x)
    keep(y)
    keep(z)
    return count
