"""Loops of the products of density coefficients, with contiguous channels innermost.

The sum over m of a product stays in registers while m runs. Only channels of species that occur near the center are
multiplied; the others leave the zeros that ``out`` comes with. Arrays are contiguous and addressed by their flat index.
"""

import numpy as np
from numba import njit

from eqkernels.descriptors._vectors import (
    add_product,
    element,
    lanes,
    load,
    load_first,
    memory,
    scaled,
    store,
    store_between,
    store_first,
    times,
    zero,
)

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


# Place of the weight of the diagonal in the weights of a row, which are shifted by up to seven.
_DIAGONAL = 8


@njit(**_options)
def present_ranges(density, start, n_lm, n_channels, group, ranges):
    """Write the ranges (begin, end) of channels that are not zero, in units of a group; return how many they are."""
    n_ranges = 0
    for begin in range(0, n_channels, group):
        end, occurs = min(begin + group, n_channels), False
        for lm in range(n_lm):
            for q in range(start + lm * n_channels + begin, start + lm * n_channels + end):
                occurs = occurs or element(density, q) != 0.0
            if occurs:
                break
        if not occurs:
            continue
        if n_ranges > 0 and ranges[n_ranges - 1, 1] == begin:
            ranges[n_ranges - 1, 1] = end
        else:
            ranges[n_ranges, 0], ranges[n_ranges, 1] = begin, end
            n_ranges += 1
    return n_ranges


@njit(forceinline=True, **_options)
def _eight_sums(left, a, last, stride_a, right, b, stride_b, n_terms, count):
    """Vectors of sum_m left[a + i + m stride_a] right[b + k + m stride_b], k < count, for i = 0 .. 7 (at most last)."""
    a1, a2, a3, a4 = min(1, last), min(2, last), min(3, last), min(4, last)
    a5, a6, a7 = min(5, last), min(6, last), min(7, last)
    s0, s1, s2, s3 = zero(right), zero(right), zero(right), zero(right)
    s4, s5, s6, s7 = zero(right), zero(right), zero(right), zero(right)
    for _ in range(n_terms):
        terms = load_first(right, b, count)
        s0 = add_product(s0, element(left, a), terms)
        s1 = add_product(s1, element(left, a + a1), terms)
        s2 = add_product(s2, element(left, a + a2), terms)
        s3 = add_product(s3, element(left, a + a3), terms)
        s4 = add_product(s4, element(left, a + a4), terms)
        s5 = add_product(s5, element(left, a + a5), terms)
        s6 = add_product(s6, element(left, a + a6), terms)
        s7 = add_product(s7, element(left, a + a7), terms)
        a, b = a + stride_a, b + stride_b
    return s0, s1, s2, s3, s4, s5, s6, s7


@njit(forceinline=True, **_options)
def _store_rows(out, at, step, count, last, s0, s1, s2, s3):
    """Write the first ``count`` elements of up to four rows, ``step`` apart."""
    if last >= 0:
        store_first(out, at, s0, count)
    if last > 0:
        store_first(out, at + step, s1, count)
    if last > 1:
        store_first(out, at + 2 * step, s2, count)
    if last > 2:
        store_first(out, at + 3 * step, s3, count)


@njit(**_options)
def _fill_square(left, a, right, stride, n_terms, n_channels, n_mu, ranges, n_ranges, out, position, step):
    """Write sum_m left[m, q] right[mu, m, q'] for all pairs of channels that occur, row by row, mu by mu."""
    for mu in range(n_mu):
        b, start = mu * n_terms * stride, position + mu * step
        for r in range(n_ranges):
            end = ranges[r, 1]
            for q in range(ranges[r, 0], end, 8):
                last = end - 1 - q
                for s in range(n_ranges):
                    for k in range(ranges[s, 0], ranges[s, 1], lanes(out)):
                        count, at = ranges[s, 1] - k, start + q * n_channels + k
                        s0, s1, s2, s3, s4, s5, s6, s7 = _eight_sums(
                            left, a + q, last, n_channels, right, b + k, stride, n_terms, count
                        )
                        _store_rows(out, at, n_channels, count, last, s0, s1, s2, s3)
                        _store_rows(out, at + 4 * n_channels, n_channels, count, last - 4, s4, s5, s6, s7)


@njit(forceinline=True, **_options)
def _store_triangle(out, at, row, below, weights, w, count, last, s0, s1, s2, s3):
    """Write the weighted elements ``below`` .. ``count`` of up to four rows.

    row: length of the first row, each next one is shorter by one element and has one more below the diagonal.
    """
    if last >= 0:
        store_between(out, at, times(load(weights, w), s0), below, count)
    if last > 0:
        store_between(out, at + row - 1, times(load(weights, w - 1), s1), below + 1, count)
    if last > 1:
        store_between(out, at + 2 * row - 3, times(load(weights, w - 2), s2), below + 2, count)
    if last > 2:
        store_between(out, at + 3 * row - 6, times(load(weights, w - 3), s3), below + 3, count)


@njit(**_options)
def diagonal_weights(weights, scale):
    """Fill what a row of a triangle is multiplied with: ``scale``, and at _DIAGONAL half as much (in squares).

    The pair (q, q) stands once in the double sum, all others twice.
    """
    weights[:] = scale
    weights[_DIAGONAL] = np.sqrt(0.5) * scale


@njit(**_options)
def _fill_triangle(left, a, right, b, stride, n_terms, n_channels, weights, first, ranges, n_ranges, out, position):
    """Write sum_m left[m, q] right[m, q'], weighted, for the pairs q' >= q + first that occur, row by row, no gaps."""
    for r in range(n_ranges):
        end = ranges[r, 1]
        for q in range(ranges[r, 0], end, 8):
            last, row = end - 1 - q, n_channels - first - q
            # behind the rows before it, of n_channels - first, n_channels - first - 1, ... elements
            start = position + q * (n_channels - first) - q * (q - 1) // 2 - q - first
            for s in range(r, n_ranges):
                for k in range(max(q, ranges[s, 0]), ranges[s, 1], lanes(out)):
                    count, at = ranges[s, 1] - k, start + k
                    s0, s1, s2, s3, s4, s5, s6, s7 = _eight_sums(
                        left, a + q, last, n_channels, right, b + k, stride, n_terms, count
                    )
                    below = first - (k - q)  # so many elements of row q lie below the diagonal
                    w = _DIAGONAL if k == q else _DIAGONAL + lanes(out)
                    _store_triangle(out, at, row, below, weights, w, count, last, s0, s1, s2, s3)
                    _store_triangle(out, at + 4 * row - 10, row - 4, below + 4, weights, w - 4, count, last - 4,
                                    s4, s5, s6, s7)  # fmt: skip


@njit(**_options)
def fill_invariants(density, group, out):
    """Write the power spectrum of every center.

    density (n_centers, (l_max + 1)^2, n_channels); group: number of channels of a species; out (n_centers, n_features).
    """
    n_centers, n_lm, n_channels = density.shape
    source, target = memory(density), memory(out)
    ranges = np.empty((n_channels, 2), np.int64)
    weights = np.empty((int(np.sqrt(n_lm)), 2 * lanes(source) + 2 * _DIAGONAL), density.dtype)
    for l in range(len(weights)):
        diagonal_weights(weights[l], np.sqrt(2.0 / (2 * l + 1)))
    for i in range(n_centers):
        start, position = i * n_lm * n_channels, i * out.shape[1]
        n_ranges = present_ranges(source, start, n_lm, n_channels, group, ranges)
        for l in range(len(weights)):
            begin = start + l * l * n_channels
            _fill_triangle(source, begin, source, begin, n_channels, 2 * l + 1, n_channels, memory(weights[l]), 0,
                           ranges, n_ranges, target, position)  # fmt: skip
            position += n_channels * (n_channels + 1) // 2


@njit(**_options)
def _couple(density, begin, n_channels, row, n_rows, sources, values, ranges, n_ranges, coupled):
    """Write coupled[m1] = sum_m2 C[m1, m2] density[m2], in which at most two m2 contribute."""
    width = lanes(coupled)
    for r in range(n_ranges):
        last = ranges[r, 1]
        for k in range(ranges[r, 0], last, width):
            for m in range(n_rows):
                one = load_first(density, begin + sources[row + m, 0] * n_channels + k, last - k)
                other = load_first(density, begin + sources[row + m, 1] * n_channels + k, last - k)
                total = add_product(scaled(values[row + m, 0], one), values[row + m, 1], other)
                store(coupled, m * (n_channels + width) + k, total)


@njit(**_options)
def fill_equivariants(density, group, lam, degrees, rows, sources, values, out):
    """Write the lambda-SOAP block of every center.

    density (n_centers, (l_max + 1)^2, n_channels); group: number of channels of a species; degrees (n_pairs, 2)
    the coupled (l1, l2); rows (n_pairs): where the rows (mu, m1) of each pair begin in sources and values, the two
    components m2 and Clebsch-Gordan coefficients (weight included) of a row; out (n_centers, 2 lam + 1, n_features).
    """
    n_centers, n_lm, n_channels = density.shape
    source, target = memory(density), memory(out)
    ranges = np.empty((n_channels, 2), np.int64)
    stride, first, n_mu = n_channels + lanes(source), lam % 2, 2 * lam + 1
    coupled = np.empty(n_mu * 2 * n_lm * stride, density.dtype)
    weights = np.empty(2 * lanes(source) + 2 * _DIAGONAL, density.dtype)
    diagonal_weights(weights, 1.0)
    room, factors = memory(coupled), memory(weights)
    for i in range(n_centers):
        start, column = i * n_lm * n_channels, 0
        n_ranges = present_ranges(source, start, n_lm, n_channels, group, ranges)
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            left, right, n_terms = start + l1 * l1 * n_channels, start + l2 * l2 * n_channels, 2 * l1 + 1
            _couple(source, right, n_channels, rows[p], n_mu * n_terms, sources, values, ranges, n_ranges, room)
            position, step = i * n_mu * out.shape[2] + column, out.shape[2]
            if l1 < l2:
                _fill_square(source, left, room, stride, n_terms, n_channels, n_mu, ranges, n_ranges, target, position,
                             step)  # fmt: skip
            else:
                for mu in range(n_mu):
                    begin = mu * n_terms * stride
                    _fill_triangle(source, left, room, begin, stride, n_terms, n_channels, factors, first, ranges,
                                   n_ranges, target, position + mu * step)  # fmt: skip
            column += n_channels**2 if l1 < l2 else n_channels * (n_channels + 1 - 2 * first) // 2


@njit(**_options)
def fill_pseudoscalars(density, degrees, starts, m1, m2, m3, values, out):
    """Write the pseudoscalar triple products of every center, out (n_centers, n_features); arguments as above."""
    n_channels = density.shape[2]
    work = np.empty(2 * int(np.sqrt(density.shape[1])))
    for i in range(density.shape[0]):
        position = 0
        for t in range(degrees.shape[0]):
            l1, l2, l3 = degrees[t, 0], degrees[t, 1], degrees[t, 2]
            c1, c2, c3 = density[i, l1 * l1 :], density[i, l2 * l2 :], density[i, l3 * l3 :]
            for q1 in range(n_channels):
                for q2 in range(q1 + 1 if l1 == l2 else 0, n_channels):
                    coupled = work[: 2 * l3 + 1]
                    coupled[:] = 0.0
                    for entry in range(starts[t], starts[t + 1]):
                        coupled[m3[entry]] += values[entry] * c1[m1[entry], q1] * c2[m2[entry], q2]
                    begin = q2 + 1 if l2 == l3 else 0
                    row = out[i, position : position + n_channels - begin]
                    row[:] = 0.0
                    for m in range(2 * l3 + 1):
                        source = c3[m, begin:]
                        for k in range(n_channels - begin):
                            row[k] += coupled[m] * source[k]
                    position += n_channels - begin
