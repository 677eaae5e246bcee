"""Loops of the density expansion: radial weights, and their outer products with the harmonics, summed over neighbors.

Pairs are taken in the order of (center, species), 32 at a time. The radial weights are made with the functions
innermost, and each run of pairs of one center and species adds its outer products to a few rows of the density, which
are held in registers.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import add_product, element, lanes, load, load_first, memory, store, store_first, zero
from eqkernels.descriptors.density._pair_loops import BLOCK, harmonics_block, sort_pairs, table_interval, unit_vectors
from eqkernels.radial.table import DEGREE

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# The radial weights of this many pairs stay in the second-level cache; a multiple of BLOCK.
RADIAL_BLOCK = 512


@njit(**_options)
def radial_block(order, start, size, distances, split, cutoff, n_inner, coefficients, radial):
    """Fill radial (>= size, n_functions) with the tabulated functions of the pairs order[start : start + size].

    Horner's rule, one interval of the table after the other and two pairs of an interval at once, so that its
    coefficients are fetched seldom.
    """
    n_intervals, n_functions = coefficients.shape[0], coefficients.shape[2]
    table, out = memory(coefficients), memory(radial)
    counts, places = np.zeros(n_intervals + 1, np.int64), np.empty(size + 1, np.int64)
    positions, intervals = np.empty(size), np.empty(size, np.int64)
    for k in range(size):
        intervals[k], positions[k], _ = table_interval(distances[order[start + k]], split, cutoff, n_inner, n_intervals)
        counts[intervals[k] + 1] += 1
    for interval in range(n_intervals):
        counts[interval + 1] += counts[interval]
    for k in range(size):
        places[counts[intervals[k]]] = k
        counts[intervals[k]] += 1
    places[size] = places[size - 1]
    done = 0
    while done < size:
        k, other = places[done], places[done + 1]
        if intervals[other] != intervals[k]:
            other = k
        begin, s, t = intervals[k] * (DEGREE + 1) * n_functions, positions[k], positions[other]
        for f in range(0, n_functions, lanes(table)):
            one = load(table, begin + DEGREE * n_functions + f)
            two = one
            for power in range(DEGREE - 1, -1, -1):
                term = load(table, begin + power * n_functions + f)
                one, two = add_product(term, s, one), add_product(term, t, two)
            store(out, k * n_functions + f, one)
            store(out, other * n_functions + f, two)
        done += 1 if other == k else 2


@njit(forceinline=True, **_options)
def _add_four(harmonics, at, radial, source, stride, k0, k1, density, row, step, count):
    """Add sum_k harmonics[at + i BLOCK + k] radial[source + k stride] to four rows of ``count`` channels."""
    a, b = load_first(density, row, count), load_first(density, row + step, count)
    c, d = load_first(density, row + 2 * step, count), load_first(density, row + 3 * step, count)
    for k in range(k0, k1):
        weights = load(radial, k * stride + source)
        a = add_product(a, element(harmonics, at + k), weights)
        b = add_product(b, element(harmonics, at + BLOCK + k), weights)
        c = add_product(c, element(harmonics, at + 2 * BLOCK + k), weights)
        d = add_product(d, element(harmonics, at + 3 * BLOCK + k), weights)
    store_first(density, row, a, count)
    store_first(density, row + step, b, count)
    store_first(density, row + 2 * step, c, count)
    store_first(density, row + 3 * step, d, count)


@njit(forceinline=True, **_options)
def _add_last(harmonics, at, radial, source, stride, k0, k1, density, row, step, count, n_rows):
    """As _add_four for the last one, three or five rows: sums of few rows wait for each other."""
    a, b, c = load_first(density, row, count), zero(density), zero(density)
    d, e = zero(density), zero(density)
    if n_rows == 1:
        for k in range(k0, k1):
            a = add_product(a, element(harmonics, at + k), load(radial, k * stride + source))
        store_first(density, row, a, count)
        return
    b, c = load_first(density, row + step, count), load_first(density, row + 2 * step, count)
    if n_rows == 3:
        for k in range(k0, k1):
            weights = load(radial, k * stride + source)
            a = add_product(a, element(harmonics, at + k), weights)
            b = add_product(b, element(harmonics, at + BLOCK + k), weights)
            c = add_product(c, element(harmonics, at + 2 * BLOCK + k), weights)
    else:
        d, e = load_first(density, row + 3 * step, count), load_first(density, row + 4 * step, count)
        for k in range(k0, k1):
            weights = load(radial, k * stride + source)
            a = add_product(a, element(harmonics, at + k), weights)
            b = add_product(b, element(harmonics, at + BLOCK + k), weights)
            c = add_product(c, element(harmonics, at + 2 * BLOCK + k), weights)
            d = add_product(d, element(harmonics, at + 3 * BLOCK + k), weights)
            e = add_product(e, element(harmonics, at + 4 * BLOCK + k), weights)
        store_first(density, row + 3 * step, d, count)
        store_first(density, row + 4 * step, e, count)
    store_first(density, row, a, count)
    store_first(density, row + step, b, count)
    store_first(density, row + 2 * step, c, count)


@njit(**_options)
def _add_run(harmonics, radial, start, stride, k0, k1, l_max, n_max, first, n_channels, density):
    """Add the outer products of the pairs k0 .. k1 - 1 of a block to the channels of one species of one center.

    start: place of the first pair of the block in radial; first: flat index of the channel in the density of the
    center, at l = m = 0.
    """
    width = lanes(density)
    for l in range(l_max + 1):
        for n in range(0, n_max, width):
            count, source = n_max - n, start * stride + l * n_max + n
            lm, end = l * l, (l + 1) * (l + 1)
            while end - lm > 5:
                _add_four(harmonics, lm * BLOCK, radial, source, stride, k0, k1, density, first + lm * n_channels + n,
                          n_channels, count)  # fmt: skip
                lm += 4
            _add_last(harmonics, lm * BLOCK, radial, source, stride, k0, k1, density, first + lm * n_channels + n,
                      n_channels, count, end - lm)  # fmt: skip


@njit(**_options)
def expand_density(
    centers, offsets, neighbors, vectors, distances, channels, n_species, l_max, n_max, prefactors, center_values,
    split, cutoff, n_inner, coefficients, density,
):  # fmt: skip
    """Write the density of every center: c[i, lm, channel + n] is the sum of Y_lm W_nl of its neighbors and itself.

    centers: atoms; offsets (n_atoms + 1): pairs of each atom; neighbors, vectors, distances (n_pairs); channels
    (n_atoms): first channel of the species of an atom, negative where it does not count; center_values (n_max): what
    a center adds to its own density at l = 0; split .. coefficients: the radial table, of the type of the density;
    density (n_centers, (l_max + 1)^2, n_channels), contiguous.
    """
    order, rows, firsts, starts = sort_pairs(centers, offsets, neighbors, channels, n_max, n_species)
    n_channels, n_lm, dtype = n_species * n_max, (l_max + 1) * (l_max + 1), density.dtype
    x, y, z = np.zeros(BLOCK, dtype), np.zeros(BLOCK, dtype), np.zeros(BLOCK, dtype)
    legendre, r = np.empty(((l_max + 1) * (l_max + 2) // 2, BLOCK), dtype), np.zeros(BLOCK)
    cosine, sine = np.empty((l_max + 1, BLOCK), dtype), np.empty((l_max + 1, BLOCK), dtype)
    harmonics = np.empty((n_lm, BLOCK), dtype)
    # one more row: vectors are read beyond the last function
    radial = np.zeros((RADIAL_BLOCK + 1, coefficients.shape[2]), dtype)
    run, n_cleared, out, size_of_row = 0, 0, memory(density), n_lm * n_channels
    for start in range(0, len(order), BLOCK):
        size = min(BLOCK, len(order) - start)
        unit_vectors(order, start, size, vectors, distances, x, y, z, r)
        harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics)
        offset = start % RADIAL_BLOCK
        if offset == 0:
            ahead = min(RADIAL_BLOCK, len(order) - start)
            radial_block(order, start, ahead, distances, split, cutoff, n_inner, coefficients, radial)
        while run < len(rows) and starts[run] < start + size:
            k0, k1 = max(starts[run], start) - start, min(starts[run + 1], start + size) - start
            if rows[run] >= n_cleared:  # just before they are added to: they are in the cache then
                _clear(out, n_cleared * size_of_row, (rows[run] + 1) * size_of_row)
                n_cleared = rows[run] + 1
            first = rows[run] * size_of_row + firsts[run]
            _add_run(memory(harmonics), memory(radial), offset, radial.shape[1], k0, k1, l_max, n_max, first,
                     n_channels, out)  # fmt: skip
            if starts[run + 1] > start + size:
                break  # the run goes on in the next block
            run += 1
    _clear(out, n_cleared * size_of_row, len(centers) * size_of_row)
    for row, i in enumerate(centers):
        if channels[i] >= 0:
            for n in range(n_max):
                density[row, 0, channels[i] + n] += center_values[n]


@njit(forceinline=True, **_options)
def _clear(out, begin, end):
    """Write zeros to out[begin .. end - 1]."""
    for k in range(begin, end, lanes(out)):
        store_first(out, k, zero(out), end - k)
