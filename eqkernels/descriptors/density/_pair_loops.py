"""Loops over neighbor pairs, 32 at a time: their order, unit vectors, harmonics, and intervals of the radial table.

Pairs are taken in the order of (center, species). The harmonics of a block are made with the pairs innermost.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import add_product, filled, fused, lanes, load, memory, scaled, store, times, zero

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# The harmonics of this many pairs stay in the first-level cache.
BLOCK = 32


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
def unit_vectors(order, start, size, vectors, distances, x, y, z, r):
    """Directions and distances of the pairs order[start] .. order[start + size - 1]."""
    for k in range(size):
        p = order[start + k]
        r[k] = distances[p]
        inverse = 1.0 / r[k]
        x[k], y[k], z[k] = vectors[p, 0] * inverse, vectors[p, 1] * inverse, vectors[p, 2] * inverse


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
                    step = times(scaled(prefactors[1, l, m], vz), value)
                    before, value = value, add_product(step, -prefactors[2, l, m], before)
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
