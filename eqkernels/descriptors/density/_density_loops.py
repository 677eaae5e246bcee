"""Loops of the density expansion: harmonics, radial weights, and their outer products summed over the neighbors.

Pairs are taken in the order of (center, species), 32 at a time. For such a block the harmonics are made with the pairs
innermost, the radial weights with the functions innermost, and each run of pairs of one center and species adds
its outer products to a few rows of the density that are held in registers.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    divided,
    dot,
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
from eqkernels.radial.table import DEGREE

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# The harmonics of this many pairs stay in the first-level cache.
BLOCK = 32
# The radial weights of this many pairs stay in the second-level cache; a multiple of BLOCK.
RADIAL_BLOCK = 512


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
def _unit_vectors(order, start, size, vectors, distances, x, y, z, r):
    """Directions and distances of the pairs order[start] .. order[start + size - 1]."""
    for k in range(size):
        p = order[start + k]
        r[k] = distances[p]
        inverse = 1.0 / r[k]
        x[k], y[k], z[k] = vectors[p, 0] * inverse, vectors[p, 1] * inverse, vectors[p, 2] * inverse


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
        _unit_vectors(order, start, size, vectors, distances, x, y, z, r)
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


@njit(**_options)
def gradients_block(x, y, z, r, l_max, legendre, cosine, sine, gradients):
    """Fill the gradients (3, (l_max + 1)^2, BLOCK) of Y_lm(v / |v|) with respect to v = r (x, y, z).

    With f = legendre(z) cosine(x, y) extended from the sphere into space, the gradient is the tangential part of that
    of f, over r. The derivative of legendre[l, m] is legendre[l, m + 1] but for the norm.
    """
    at_x, at_y, at_z, at_r = memory(x), memory(y), memory(z), memory(r)
    legendres, cosines, sines, out = memory(legendre), memory(cosine), memory(sine), memory(gradients)
    n_lm = (l_max + 1) * (l_max + 1)
    for k in range(0, BLOCK, lanes(at_x)):
        vx, vy, vz, nothing = load(at_x, k), load(at_y, k), load(at_z, k), zero(at_x)
        inverse = divided(filled(at_x, 1.0), load(at_r, k))
        for l in range(l_max + 1):
            for m in range(l + 1):
                row = l * (l + 1) // 2 + m
                p, slope = scaled(float(m), load(legendres, row * BLOCK + k)), nothing
                if m < l:
                    norm = np.sqrt((l - m) * (l + m + 1) * (0.5 if m == 0 else 1.0))
                    slope = scaled(norm, load(legendres, (row + 1) * BLOCK + k))
                lower = max(m - 1, 0) * BLOCK + k
                c, s = load(cosines, lower), load(sines, lower)
                for sign in range(1 if m == 0 else 2):
                    lm = l * l + l + (m if sign == 0 else -m)
                    if sign == 0:
                        gx, gy, gz = times(p, c), scaled(-1.0, times(p, s)), times(slope, load(cosines, m * BLOCK + k))
                    else:
                        gx, gy, gz = times(p, s), times(p, c), times(slope, load(sines, m * BLOCK + k))
                    radial = scaled(-1.0, fused(gx, vx, fused(gy, vy, times(gz, vz))))
                    store(out, lm * BLOCK + k, times(fused(radial, vx, gx), inverse))
                    store(out, (n_lm + lm) * BLOCK + k, times(fused(radial, vy, gy), inverse))
                    store(out, (2 * n_lm + lm) * BLOCK + k, times(fused(radial, vz, gz), inverse))


@njit(**_options)
def slopes_block(distances, size, split, cutoff, n_inner, coefficients, radial, slopes):
    """Fill radial and slopes (BLOCK, n_functions): the tabulated functions and their derivatives."""
    n_intervals, n_powers, n_functions = coefficients.shape
    table, out, derivative = memory(coefficients), memory(radial), memory(slopes)
    for k in range(size):
        interval, t, dt = table_interval(distances[k], split, cutoff, n_inner, n_intervals)
        start = interval * n_powers * n_functions
        for f in range(0, n_functions, lanes(table)):
            value, slope = load(table, start + (n_powers - 1) * n_functions + f), zero(table)
            for power in range(n_powers - 2, -1, -1):
                slope = add_product(value, t, slope)
                value = add_product(load(table, start + power * n_functions + f), t, value)
            store(out, k * n_functions + f, value)
            store(derivative, k * n_functions + f, scaled(dt, slope))


@njit(**_options)
def _add_gradient(harmonics, gradients, radial, slopes, stride, k, x, y, z, l_max, n_max, gradient, start):
    """Add the gradient of the coefficients of pair k of a block: d(Y W) = Y W' v / r + W dY, for three directions."""
    n_lm, width = (l_max + 1) * (l_max + 1), lanes(gradient)
    for l in range(l_max + 1):
        for n in range(0, n_max, width):
            count, source = n_max - n, k * stride + l * n_max + n
            weight, slope = load(radial, source), load(slopes, source)
            for lm in range(l * l, (l + 1) * (l + 1)):
                along, at = scaled(element(harmonics, lm * BLOCK + k), slope), start + lm * n_max + n
                total = add_product(load_first(gradient, at, count), x, along)
                store_first(gradient, at, add_product(total, element(gradients, lm * BLOCK + k), weight), count)
                at += n_lm * n_max
                total = add_product(load_first(gradient, at, count), y, along)
                change = element(gradients, (n_lm + lm) * BLOCK + k)
                store_first(gradient, at, add_product(total, change, weight), count)
                at += n_lm * n_max
                total = add_product(load_first(gradient, at, count), z, along)
                change = element(gradients, (2 * n_lm + lm) * BLOCK + k)
                store_first(gradient, at, add_product(total, change, weight), count)


@njit(**_options)
def expand_gradients(order, items, vectors, distances, l_max, n_max, prefactors, split, cutoff, n_inner, coefficients,
                     gradient):  # fmt: skip
    """Add to gradient[items[k]] the derivative of c[lm, n] by the position of the neighbor of pair order[k].

    gradient (n_items, 3, (l_max + 1)^2, n_max), contiguous; all else as in expand_density.
    """
    n_lm = (l_max + 1) * (l_max + 1)
    x, y, z, r = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    legendre = np.empty(((l_max + 1) * (l_max + 2) // 2, BLOCK))
    cosine, sine = np.empty((l_max + 1, BLOCK)), np.empty((l_max + 1, BLOCK))
    harmonics, turned = np.empty((n_lm, BLOCK)), np.empty((3, n_lm, BLOCK))
    radial, slopes = np.zeros((BLOCK + 1, coefficients.shape[2])), np.zeros((BLOCK + 1, coefficients.shape[2]))
    out = memory(gradient)
    for start in range(0, len(order), BLOCK):
        size = min(BLOCK, len(order) - start)
        _unit_vectors(order, start, size, vectors, distances, x, y, z, r)
        harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics)
        gradients_block(x, y, z, r, l_max, legendre, cosine, sine, turned)
        slopes_block(r, size, split, cutoff, n_inner, coefficients, radial, slopes)
        for k in range(size):
            _add_gradient(memory(harmonics), memory(turned), memory(radial), memory(slopes), radial.shape[1], k,
                          x[k], y[k], z[k], l_max, n_max, out, items[start + k] * 3 * n_lm * n_max)  # fmt: skip


@njit(**_options)
def _contract_pair(harmonics, gradients, radial, slopes, stride, k, l_max, n_max, n_channels, cotangent, first):
    """Sum over lm, n of a cotangent times Y W', and times W dY for three directions, for pair k of a block."""
    n_lm, width = (l_max + 1) * (l_max + 1), lanes(cotangent)
    along, gx, gy, gz = zero(cotangent), zero(cotangent), zero(cotangent), zero(cotangent)
    for l in range(l_max + 1):
        for n in range(0, n_max, width):
            a, b, c, d = zero(cotangent), zero(cotangent), zero(cotangent), zero(cotangent)
            for lm in range(l * l, (l + 1) * (l + 1)):
                factor, at = load_first(cotangent, first + lm * n_channels + n, n_max - n), lm * BLOCK + k
                a = add_product(a, element(harmonics, at), factor)
                b = add_product(b, element(gradients, at), factor)
                c = add_product(c, element(gradients, n_lm * BLOCK + at), factor)
                d = add_product(d, element(gradients, 2 * n_lm * BLOCK + at), factor)
            weight = load(radial, k * stride + l * n_max + n)
            along = fused(a, load(slopes, k * stride + l * n_max + n), along)
            gx, gy, gz = fused(b, weight, gx), fused(c, weight, gy), fused(d, weight, gz)
    ones = filled(cotangent, 1.0)
    return dot(along, ones), dot(gx, ones), dot(gy, ones), dot(gz, ones)


@njit(**_options)
def contract_gradients(centers, offsets, neighbors, vectors, distances, channels, n_species, l_max, n_max, prefactors,
                       split, cutoff, n_inner, coefficients, cotangent, out):  # fmt: skip
    """Write, for every pair, the derivative by its vector of sum(cotangent * density) over the centers.

    cotangent (n_centers, (l_max + 1)^2, n_channels); out (n_pairs, 3), left as it is for pairs that do not count; all
    else as in expand_density.
    """
    order, rows, firsts, starts = sort_pairs(centers, offsets, neighbors, channels, n_max, n_species)
    n_channels, n_lm = n_species * n_max, (l_max + 1) * (l_max + 1)
    x, y, z, r = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    legendre = np.empty(((l_max + 1) * (l_max + 2) // 2, BLOCK))
    cosine, sine = np.empty((l_max + 1, BLOCK)), np.empty((l_max + 1, BLOCK))
    harmonics, turned = np.empty((n_lm, BLOCK)), np.empty((3, n_lm, BLOCK))
    radial, slopes = np.zeros((BLOCK + 1, coefficients.shape[2])), np.zeros((BLOCK + 1, coefficients.shape[2]))
    run, given = 0, memory(cotangent)
    for start in range(0, len(order), BLOCK):
        size = min(BLOCK, len(order) - start)
        _unit_vectors(order, start, size, vectors, distances, x, y, z, r)
        harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics)
        gradients_block(x, y, z, r, l_max, legendre, cosine, sine, turned)
        slopes_block(r, size, split, cutoff, n_inner, coefficients, radial, slopes)
        for k in range(size):
            while starts[run + 1] <= start + k:
                run += 1
            first = rows[run] * n_lm * n_channels + firsts[run]
            along, gx, gy, gz = _contract_pair(
                memory(harmonics), memory(turned), memory(radial), memory(slopes), radial.shape[1], k, l_max, n_max,
                n_channels, given, first,
            )  # fmt: skip
            p = order[start + k]
            out[p, 0], out[p, 1], out[p, 2] = gx + along * x[k], gy + along * y[k], gz + along * z[k]
