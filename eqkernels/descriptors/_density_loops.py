"""Loops of the density expansion: harmonics, radial weights, and their outer products summed over the neighbors.

Pairs are taken in the order of (center, species), 32 at a time. For such a block the harmonics are made with the pairs
innermost, the radial weights with the functions innermost, and each run of pairs of one center and species adds
its outer products to a few rows of the density that are held in registers.
"""

import numpy as np
from numba import njit

from eqkernels.descriptors._vectors import (
    add_product,
    element,
    filled,
    fused,
    lanes,
    load,
    load_first,
    memory,
    scaled,
    store,
    store_first,
    times,
    zero,
)

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# Harmonics and radial weights of this many pairs stay in the first-level cache.
BLOCK = 32


@njit(**_options)
def harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics):
    """Fill the harmonics ((l_max + 1)^2, BLOCK) of unit vectors, and the factors that they are made of.

    Y_lm = legendre[l, m] cosine[m] and Y_l-m = legendre[l, m] sine[m], where legendre depends on z alone and is kept at
    l (l + 1) / 2 + m. prefactors (3, l_max + 1, l_max + 1): start values and recurrence coefficients.
    """
    at_x, at_y, at_z = memory(x), memory(y), memory(z)
    legendres, cosines, sines, out = memory(legendre), memory(cosine), memory(sine), memory(harmonics)
    for k in range(0, BLOCK, lanes(at_x)):
        vx, vy, vz = load(at_x, k), load(at_y, k), load(at_z, k)
        c, s, nothing = filled(at_x, 1.0), zero(at_x), zero(at_x)
        for m in range(l_max + 1):
            if m > 0:
                c, s = fused(c, vx, scaled(-1.0, times(s, vy))), fused(c, vy, times(s, vx))
            store(cosines, m * BLOCK + k, c)
            store(sines, m * BLOCK + k, s)
            before, value = nothing, filled(at_x, prefactors[0, m, m])
            for l in range(m, l_max + 1):
                if l > m:
                    turned = times(scaled(prefactors[1, l, m], vz), value)
                    before, value = value, add_product(turned, -prefactors[2, l, m], before)
                store(legendres, (l * (l + 1) // 2 + m) * BLOCK + k, value)
                store(out, (l * l + l - m) * BLOCK + k, times(value, s))
                store(out, (l * l + l + m) * BLOCK + k, times(value, c))


@njit(**_options)
def table_interval(d, split, cutoff, n_inner, n_intervals):
    """Interval of the radial table in which a distance lies, position in it (-1 .. 1), and its derivative by d."""
    n_outer = n_intervals - n_inner
    if d < split or n_outer == 0:
        slope = n_inner / split
        x = d * slope
        interval = min(int(x), n_inner - 1)
        return interval, 2 * (x - interval) - 1, 2 * slope
    slope = n_outer / (cutoff - split)
    x = (d - split) * slope
    interval = min(int(x), n_outer - 1)
    return n_inner + interval, 2 * (x - interval) - 1, 2 * slope


@njit(**_options)
def radial_block(distances, size, split, cutoff, n_inner, coefficients, radial):
    """Fill radial (BLOCK, n_functions) with the tabulated functions at ``size`` distances, by Horner's rule."""
    n_intervals, n_powers, n_functions = coefficients.shape
    table, out = memory(coefficients), memory(radial)
    for k in range(size):
        interval, t, _ = table_interval(distances[k], split, cutoff, n_inner, n_intervals)
        start = interval * n_powers * n_functions
        for f in range(0, n_functions, lanes(table)):
            value = load(table, start + (n_powers - 1) * n_functions + f)
            for power in range(n_powers - 2, -1, -1):
                value = add_product(load(table, start + power * n_functions + f), t, value)
            store(out, k * n_functions + f, value)


@njit(**_options)
def _add_run(harmonics, radial, stride, k0, k1, l_max, n_max, first, n_channels, density):
    """Add the outer products of the pairs k0 .. k1 - 1 of a block to the channels of one species of one center.

    first: flat index of the channel in the density of the center, at l = m = 0.
    """
    width = lanes(density)
    for l in range(l_max + 1):
        for n in range(0, n_max, width):
            count = min(width, n_max - n)
            row, source = first + l * l * n_channels + n, l * n_max + n
            lm, end = l * l, (l + 1) * (l + 1)
            while lm + 3 < end:
                a, b = load_first(density, row, count), load_first(density, row + n_channels, count)
                c = load_first(density, row + 2 * n_channels, count)
                d = load_first(density, row + 3 * n_channels, count)
                for k in range(k0, k1):
                    weights = load(radial, k * stride + source)
                    a = add_product(a, element(harmonics, lm * BLOCK + k), weights)
                    b = add_product(b, element(harmonics, (lm + 1) * BLOCK + k), weights)
                    c = add_product(c, element(harmonics, (lm + 2) * BLOCK + k), weights)
                    d = add_product(d, element(harmonics, (lm + 3) * BLOCK + k), weights)
                store_first(density, row, a, count)
                store_first(density, row + n_channels, b, count)
                store_first(density, row + 2 * n_channels, c, count)
                store_first(density, row + 3 * n_channels, d, count)
                lm, row = lm + 4, row + 4 * n_channels
            while lm < end:
                a = load_first(density, row, count)
                for k in range(k0, k1):
                    a = add_product(a, element(harmonics, lm * BLOCK + k), load(radial, k * stride + source))
                store_first(density, row, a, count)
                lm, row = lm + 1, row + n_channels


@njit(**_options)
def sort_pairs(centers, offsets, neighbors, channels, n_max, n_species):
    """Sort the pairs of some centers by (center, species), without those of species that do not count.

    Returns
    -------
    order (n_pairs), and for every run of pairs of one center and one species: the row of its center, its first channel,
    and its first pair (n_runs + 1).
    """
    total = 0
    for i in centers:
        total += offsets[i + 1] - offsets[i]
    order = np.empty(total, np.int64)
    rows, firsts = np.empty(total, np.int64), np.empty(total, np.int64)
    starts = np.zeros(total + 1, np.int64)
    counts = np.empty(n_species, np.int64)
    n_pairs, n_runs = 0, 0
    for row, i in enumerate(centers):
        counts[:] = 0
        for p in range(offsets[i], offsets[i + 1]):
            channel = channels[neighbors[p]]
            if channel >= 0:
                counts[channel // n_max] += 1
        for s in range(n_species):
            count = counts[s]
            counts[s] = n_pairs  # from here on the next place of this species
            if count > 0:
                rows[n_runs], firsts[n_runs], starts[n_runs] = row, s * n_max, n_pairs
                n_runs += 1
                n_pairs += count
        for p in range(offsets[i], offsets[i + 1]):
            channel = channels[neighbors[p]]
            if channel >= 0:
                order[counts[channel // n_max]] = p
                counts[channel // n_max] += 1
    starts[n_runs] = n_pairs
    return order[:n_pairs], rows[:n_runs], firsts[:n_runs], starts[: n_runs + 1]


@njit(**_options)
def expand_density(
    centers, offsets, neighbors, vectors, distances, channels, n_species, l_max, n_max, prefactors, center_values,
    split, cutoff, n_inner, coefficients, density,
):  # fmt: skip
    """Add to the density of every center c[i, lm, channel + n] += Y_lm W_nl of its neighbors, and that of itself.

    centers: atoms; offsets (n_atoms + 1): pairs of each atom; neighbors, vectors, distances (n_pairs); channels
    (n_atoms): first channel of the species of an atom, negative where it does not count; center_values (n_max): what
    a center adds to its own density at l = 0; split .. coefficients: the radial table; density (n_centers,
    (l_max + 1)^2, n_channels), contiguous.
    """
    order, rows, firsts, starts = sort_pairs(centers, offsets, neighbors, channels, n_max, n_species)
    n_channels, n_lm = n_species * n_max, (l_max + 1) * (l_max + 1)
    x, y, z, r = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK)
    legendre = np.empty(((l_max + 1) * (l_max + 2) // 2, BLOCK))
    cosine, sine = np.empty((l_max + 1, BLOCK)), np.empty((l_max + 1, BLOCK))
    harmonics = np.empty((n_lm, BLOCK))
    radial = np.zeros((BLOCK + 1, coefficients.shape[2]))  # one more: vectors are read beyond the last function
    run, out = 0, memory(density)
    for start in range(0, len(order), BLOCK):
        size = min(BLOCK, len(order) - start)
        for k in range(size):
            p = order[start + k]
            r[k] = distances[p]
            inverse = 1.0 / r[k]
            x[k], y[k], z[k] = vectors[p, 0] * inverse, vectors[p, 1] * inverse, vectors[p, 2] * inverse
        harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics)
        radial_block(r, size, split, cutoff, n_inner, coefficients, radial)
        while run < len(rows) and starts[run] < start + size:
            k0, k1 = max(starts[run], start) - start, min(starts[run + 1], start + size) - start
            first = rows[run] * n_lm * n_channels + firsts[run]
            _add_run(memory(harmonics), memory(radial), radial.shape[1], k0, k1, l_max, n_max, first, n_channels, out)
            if starts[run + 1] > start + size:
                break  # the run goes on in the next block
            run += 1
    for row, i in enumerate(centers):
        if channels[i] >= 0:
            for n in range(n_max):
                density[row, 0, channels[i] + n] += center_values[n]
