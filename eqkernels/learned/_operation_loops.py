"""Loops of the operations.

Features are (rows, components, channels); entries of a coupling are lists of
``out[third] += value * weight[path] * left[first] * right[second]``.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    element,
    fused,
    keep,
    lanes,
    load,
    load_first,
    memory,
    scaled,
    store,
    store_first,
    zero,
)

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# Rows whose features stay in the first-level cache.
_ROWS = 32


@njit(nogil=True, fastmath=_FAST)
def mix_rows(x, weights, ends, places, targets, irreps, adds, out):
    """Write x[n, place] @ weights[species of n, irrep] to out[n, target], four rows and two vectors at a time.

    x (n, components, channels); weights (n_species, n_irreps, channels, new channels); ends (n_species + 1): the rows
    of each species; places, targets, irreps: of each component that is mixed. With ``adds``, it is added to what is in
    ``out``. The last group of rows repeats the last row.
    """
    n_channels = x.shape[2]
    n_irreps, n_new = weights.shape[1], weights.shape[3]
    source, matrix, target = memory(x), memory(weights), memory(out)
    width, stride, step = lanes(source), x.shape[1] * n_channels, out.shape[1] * n_new
    for s in range(len(ends) - 1):
        for n in range(ends[s], ends[s + 1], 4):
            last = ends[s + 1] - 1 - n
            n1, n2, n3 = min(1, last), min(2, last), min(3, last)
            for q in range(len(places)):
                at, to = n * stride + places[q] * n_channels, n * step + targets[q] * n_new
                row = (s * n_irreps + irreps[q]) * n_channels * n_new
                for d in range(0, n_new, 2 * width):
                    count, rest = n_new - d, n_new - d - width
                    a0, a1, b0, b1 = zero(source), zero(source), zero(source), zero(source)
                    c0, c1, d0, d1 = zero(source), zero(source), zero(source), zero(source)
                    if adds:
                        a0, a1 = load_first(target, to + d, count), load_first(target, to + d + width, rest)
                        b0 = load_first(target, to + n1 * step + d, count)
                        b1 = load_first(target, to + n1 * step + d + width, rest)
                        c0 = load_first(target, to + n2 * step + d, count)
                        c1 = load_first(target, to + n2 * step + d + width, rest)
                        d0 = load_first(target, to + n3 * step + d, count)
                        d1 = load_first(target, to + n3 * step + d + width, rest)
                    for k in range(n_channels):
                        one = load_first(matrix, row + k * n_new + d, count)
                        two = load_first(matrix, row + k * n_new + d + width, rest)
                        value = element(source, at + k)
                        a0, a1 = add_product(a0, value, one), add_product(a1, value, two)
                        value = element(source, at + n1 * stride + k)
                        b0, b1 = add_product(b0, value, one), add_product(b1, value, two)
                        value = element(source, at + n2 * stride + k)
                        c0, c1 = add_product(c0, value, one), add_product(c1, value, two)
                        value = element(source, at + n3 * stride + k)
                        d0, d1 = add_product(d0, value, one), add_product(d1, value, two)
                    store_first(target, to + d, a0, count)
                    store_first(target, to + d + width, a1, rest)
                    store_first(target, to + n1 * step + d, b0, count)
                    store_first(target, to + n1 * step + d + width, b1, rest)
                    store_first(target, to + n2 * step + d, c0, count)
                    store_first(target, to + n2 * step + d + width, c1, rest)
                    store_first(target, to + n3 * step + d, d0, count)
                    store_first(target, to + n3 * step + d + width, d1, rest)


@njit(nogil=True, fastmath=_FAST)
def add_mixing_gradients(x, gradient, ends, places, targets, irreps, out):
    """Add x[n, place]^T gradient[n, target] to out[species of n, irrep]: gradient of :func:`mix_rows` by the weights.

    Four rows and two vectors of a matrix at a time, over so many rows that these stay in the cache.
    """
    n_channels = x.shape[2]
    n_irreps, n_new = out.shape[1], out.shape[3]
    source, slopes, target = memory(x), memory(gradient), memory(out)
    width, stride, step = lanes(source), x.shape[1] * n_channels, gradient.shape[1] * n_new
    for s in range(len(ends) - 1):
        for begin in range(ends[s], ends[s + 1], _ROWS):
            end = min(begin + _ROWS, ends[s + 1])
            for q in range(len(places)):
                row = (s * n_irreps + irreps[q]) * n_channels * n_new
                for k in range(0, n_channels, 4):
                    last = n_channels - 1 - k
                    k1, k2, k3 = min(1, last), min(2, last), min(3, last)
                    for d in range(0, n_new, 2 * width):
                        count, rest, to = n_new - d, n_new - d - width, row + k * n_new + d
                        a0, a1 = load_first(target, to, count), load_first(target, to + width, rest)
                        b0 = load_first(target, to + k1 * n_new, count)
                        b1 = load_first(target, to + k1 * n_new + width, rest)
                        c0 = load_first(target, to + k2 * n_new, count)
                        c1 = load_first(target, to + k2 * n_new + width, rest)
                        d0 = load_first(target, to + k3 * n_new, count)
                        d1 = load_first(target, to + k3 * n_new + width, rest)
                        for n in range(begin, end):
                            at = n * stride + places[q] * n_channels + k
                            one = load_first(slopes, n * step + targets[q] * n_new + d, count)
                            two = load_first(slopes, n * step + targets[q] * n_new + d + width, rest)
                            value = element(source, at)
                            a0, a1 = add_product(a0, value, one), add_product(a1, value, two)
                            value = element(source, at + k1)
                            b0, b1 = add_product(b0, value, one), add_product(b1, value, two)
                            value = element(source, at + k2)
                            c0, c1 = add_product(c0, value, one), add_product(c1, value, two)
                            value = element(source, at + k3)
                            d0, d1 = add_product(d0, value, one), add_product(d1, value, two)
                        store_first(target, to, a0, count)
                        store_first(target, to + width, a1, rest)
                        store_first(target, to + k1 * n_new, b0, count)
                        store_first(target, to + k1 * n_new + width, b1, rest)
                        store_first(target, to + k2 * n_new, c0, count)
                        store_first(target, to + k2 * n_new + width, c1, rest)
                        store_first(target, to + k3 * n_new, d0, count)
                        store_first(target, to + k3 * n_new + width, d1, rest)


@njit(nogil=True, fastmath=_FAST)
def add_products(left, right, weights, groups, first, second, values, out):
    """Weighted Clebsch-Gordan product of two sets of features, row by row, channel by channel.

    Rows of ``groups`` are (first entry, end, path, third): entries of one path that end in one component.
    """
    n_left, n_channels = left.shape[1:]
    n_right, n_out = right.shape[1], out.shape[1]
    ones, twos, jumps = first * n_channels, second * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    x, y, w, v, z = memory(left), memory(right), memory(weights), memory(values), memory(out)
    for n in range(left.shape[0]):
        for c in range(0, n_channels, lanes(x)):
            a, b, count = n * n_left * n_channels + c, n * n_right * n_channels + c, n_channels - c
            for g in range(jumps.shape[0]):
                total = zero(x)
                for k in range(jumps[g, 0], jumps[g, 1]):
                    weighted = scaled(element(v, k), load_first(x, a + ones[k], count))
                    total = fused(weighted, load_first(y, b + twos[k], count), total)
                at, weight = n * n_out * n_channels + jumps[g, 3] + c, load_first(w, jumps[g, 2] + c, count)
                store_first(z, at, fused(total, weight, load_first(z, at, count)), count)


@njit(nogil=True, fastmath=_FAST)
def add_product_gradients(left, right, weights, groups, third, second, values, gradient, weighs, to_left, to_weights):
    """Gradients of :func:`add_products` by the left factor and, if it ``weighs``, by the weights.

    The same contraction, seen from another factor: rows of ``groups`` are (first entry, end, path, first). For the
    gradient by the right factor, left and right change places.
    """
    n_left, n_channels = left.shape[1:]
    n_right, n_out = right.shape[1], gradient.shape[1]
    twos, threes, jumps = second * n_channels, third * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    x, y, w, v, z = memory(left), memory(right), memory(weights), memory(values), memory(gradient)
    to_x, to_w = memory(to_left), memory(to_weights)
    for n in range(left.shape[0]):
        for c in range(0, n_channels, lanes(x)):
            b, o, count = n * n_right * n_channels + c, n * n_out * n_channels + c, n_channels - c
            slope = zero(x)
            for g in range(jumps.shape[0]):
                total = zero(x)
                for k in range(jumps[g, 0], jumps[g, 1]):
                    weighted = scaled(element(v, k), load_first(z, o + threes[k], count))
                    total = fused(weighted, load_first(y, b + twos[k], count), total)
                at, path = n * n_left * n_channels + jumps[g, 3] + c, jumps[g, 2] + c
                store_first(to_x, at, fused(total, load_first(w, path, count), load_first(to_x, at, count)), count)
                slope = fused(total, load_first(x, at, count), slope)
                if g + 1 == jumps.shape[0] or jumps[g + 1, 2] != jumps[g, 2]:
                    if weighs:
                        store_first(to_w, path, add_product(load_first(to_w, path, count), 1.0, slope), count)
                    slope = zero(x)


@njit(nogil=True, fastmath=_FAST)
def add_messages(features, harmonics, radial, centers, neighbors, pairs, groups, first, second, values, out):
    """Convolution: features of the neighbors times harmonics of the edge, weighted by radial functions.

    ``pairs`` are the rows of the radial functions, which both directions of an edge share. Rows of ``groups`` are
    (first entry, end, path, third): entries of one path that end in one component.
    """
    n_in, n_channels = features.shape[1:]
    n_paths, n_out = radial.shape[1], out.shape[1]
    coefficients, starts, jumps = np.empty(values.shape[0]), first * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    x, r, y, factors = memory(features), memory(radial), memory(out), memory(coefficients)
    width = lanes(x)
    for e in range(centers.shape[0]):
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        c, source, weight = 0, neighbors[e] * n_in * n_channels, pairs[e] * n_paths * n_channels
        target = centers[e] * n_out * n_channels
        while c + 2 * width <= n_channels:
            _add_two_vectors(x, r, y, factors, jumps, starts, source + c, weight + c, target + c)
            c += 2 * width
        while c < n_channels:
            _add_one_vector(x, r, y, factors, jumps, starts, source + c, weight + c, target + c, n_channels - c)
            c += width
    keep(coefficients)


@njit(nogil=True, fastmath=_FAST)
def _add_two_vectors(x, r, y, factors, jumps, starts, source, weight, target):
    width = lanes(x)
    for g in range(jumps.shape[0]):
        one, two = zero(x), zero(x)
        for k in range(jumps[g, 0], jumps[g, 1]):
            at, factor = source + starts[k], element(factors, k)
            one, two = add_product(one, factor, load(x, at)), add_product(two, factor, load(x, at + width))
        at, radius = target + jumps[g, 3], weight + jumps[g, 2]
        store(y, at, fused(one, load(r, radius), load(y, at)))
        store(y, at + width, fused(two, load(r, radius + width), load(y, at + width)))


@njit(nogil=True, fastmath=_FAST)
def _add_one_vector(x, r, y, factors, jumps, starts, source, weight, target, count):
    for g in range(jumps.shape[0]):
        total = zero(x)
        for k in range(jumps[g, 0], jumps[g, 1]):
            total = add_product(total, element(factors, k), load_first(x, source + starts[k], count))
        at, radius = target + jumps[g, 3], load_first(r, weight + jumps[g, 2], count)
        store_first(y, at, fused(total, radius, load_first(y, at, count)), count)


@njit(nogil=True, fastmath=_FAST)
def add_message_gradients(
    features,
    harmonics,
    radial,
    centers,
    neighbors,
    pairs,
    groups,
    third,
    second,
    values,
    gradient,
    to_features,
    to_radial,
):
    """Gradients of :func:`add_messages` with respect to the features and the radial functions.

    Rows of ``groups`` are (first entry, end, path, first): entries of one path that start from one component.
    """
    n_in, n_channels = features.shape[1:]
    n_paths, n_out = radial.shape[1], gradient.shape[1]
    coefficients, ends, jumps = np.empty(values.shape[0]), third * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    x, r, factors, y = memory(features), memory(radial), memory(coefficients), memory(gradient)
    to_x, to_r = memory(to_features), memory(to_radial)
    width = lanes(x)
    for e in range(centers.shape[0]):
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        c, source, weight = 0, neighbors[e] * n_in * n_channels, pairs[e] * n_paths * n_channels
        target = centers[e] * n_out * n_channels
        while c + 2 * width <= n_channels:
            _back_two_vectors(x, r, y, factors, jumps, ends, source + c, weight + c, target + c, to_x, to_r)
            c += 2 * width
        while c < n_channels:
            places = source + c, weight + c, target + c
            _back_one_vector(x, r, y, factors, jumps, ends, *places, to_x, to_r, n_channels - c)
            c += width
    keep(coefficients)


@njit(nogil=True, fastmath=_FAST)
def _back_two_vectors(x, r, y, factors, jumps, ends, source, weight, target, to_x, to_r):
    width, slope, other = lanes(x), zero(x), zero(x)
    for g in range(jumps.shape[0]):
        one, two = zero(x), zero(x)
        for k in range(jumps[g, 0], jumps[g, 1]):
            at, factor = target + ends[k], element(factors, k)
            one, two = add_product(one, factor, load(y, at)), add_product(two, factor, load(y, at + width))
        at, radius = source + jumps[g, 3], weight + jumps[g, 2]
        slope, other = fused(one, load(x, at), slope), fused(two, load(x, at + width), other)
        store(to_x, at, fused(one, load(r, radius), load(to_x, at)))
        store(to_x, at + width, fused(two, load(r, radius + width), load(to_x, at + width)))
        if g + 1 == jumps.shape[0] or jumps[g + 1, 2] != jumps[g, 2]:
            store(to_r, radius, add_product(load(to_r, radius), 1.0, slope))
            store(to_r, radius + width, add_product(load(to_r, radius + width), 1.0, other))
            slope, other = zero(x), zero(x)


@njit(nogil=True, fastmath=_FAST)
def _back_one_vector(x, r, y, factors, jumps, ends, source, weight, target, to_x, to_r, count):
    slope = zero(x)
    for g in range(jumps.shape[0]):
        total = zero(x)
        for k in range(jumps[g, 0], jumps[g, 1]):
            total = add_product(total, element(factors, k), load_first(y, target + ends[k], count))
        at, radius = source + jumps[g, 3], weight + jumps[g, 2]
        slope = fused(total, load_first(x, at, count), slope)
        store_first(to_x, at, fused(total, load_first(r, radius, count), load_first(to_x, at, count)), count)
        if g + 1 == jumps.shape[0] or jumps[g + 1, 2] != jumps[g, 2]:
            store_first(to_r, radius, add_product(load_first(to_r, radius, count), 1.0, slope), count)
            slope = zero(x)


@njit(nogil=True, fastmath=_FAST)
def add_harmonic_gradients(
    features, radial, centers, neighbors, pairs, first, second, third, path, values, gradient, to_harmonics
):
    """Gradient of :func:`add_messages` with respect to the harmonics, for derivatives by positions."""
    n_channels = features.shape[2]
    for e in range(centers.shape[0]):
        i, j = centers[e], neighbors[e]
        for k in range(values.shape[0]):
            a, o, p = first[k], third[k], path[k]
            total = 0.0
            for c in range(n_channels):
                total += gradient[i, o, c] * radial[pairs[e], p, c] * features[j, a, c]
            to_harmonics[e, second[k]] += values[k] * total


@njit(nogil=True, fastmath=_FAST)
def add_density(harmonics, radial, centers, pairs, columns, out):
    """Density coefficients out[i, lm, a n] of the edges, ``columns`` being where species a of the neighbor starts."""
    n_radial = radial.shape[1]
    for e in range(centers.shape[0]):
        i, start, pair = centers[e], columns[e], pairs[e]
        for m in range(harmonics.shape[1]):
            y = harmonics[e, m]
            for n in range(n_radial):
                out[i, m, start + n] += y * radial[pair, n]


@njit(nogil=True, fastmath=_FAST)
def add_density_gradients(harmonics, radial, centers, pairs, columns, gradient, to_harmonics, to_radial):
    """Gradients of :func:`add_density`."""
    n_radial = radial.shape[1]
    for e in range(centers.shape[0]):
        i, start, pair = centers[e], columns[e], pairs[e]
        for m in range(harmonics.shape[1]):
            y, total = harmonics[e, m], 0.0
            for n in range(n_radial):
                g = gradient[i, m, start + n]
                total += g * radial[pair, n]
                to_radial[pair, n] += g * y
            to_harmonics[e, m] += total


@njit(nogil=True, fastmath=_FAST)
def add_segments(rows, segments, columns, weights, out):
    """Sum of rows (components, channels) of each segment, at the columns of the row's species; -1: no segment."""
    for r in range(rows.shape[0]):
        s, start, weight = segments[r], columns[r], weights[r]
        if s >= 0:
            for m in range(rows.shape[1]):
                for c in range(rows.shape[2]):
                    out[s, m, start + c] += weight * rows[r, m, c]


@njit(nogil=True, fastmath=_FAST)
def spread_segments(gradient, segments, columns, weights, out):
    """Gradient of :func:`add_segments`."""
    for r in range(out.shape[0]):
        s, start, weight = segments[r], columns[r], weights[r]
        if s >= 0:
            for m in range(out.shape[1]):
                for c in range(out.shape[2]):
                    out[r, m, c] = weight * gradient[s, m, start + c]


@njit(nogil=True, fastmath=_FAST)
def multiply_irreps(x, factors, irrep_of_component, out):
    """Features times a factor for each row, irrep and channel."""
    for n in range(x.shape[0]):
        for m in range(x.shape[1]):
            q = irrep_of_component[m]
            for c in range(x.shape[2]):
                out[n, m, c] = factors[n, q, c] * x[n, m, c]


@njit(nogil=True, fastmath=_FAST)
def multiply_irreps_gradients(x, factors, irrep_of_component, gradient, to_x, to_factors):
    """Gradients of :func:`multiply_irreps`."""
    for n in range(x.shape[0]):
        for m in range(x.shape[1]):
            q = irrep_of_component[m]
            for c in range(x.shape[2]):
                g = gradient[n, m, c]
                to_x[n, m, c] = factors[n, q, c] * g
                to_factors[n, q, c] += g * x[n, m, c]
