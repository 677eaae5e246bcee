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
def _eight_sums(left, a, last, step, stride_a, right, b, stride_b, n_terms, count):
    """Vectors of sum_m left[a + i step + m stride_a] right[b + k + m stride_b], k < count, i = 0 .. 7 (at most last)."""
    a1, a2, a3, a4 = min(1, last) * step, min(2, last) * step, min(3, last) * step, min(4, last) * step
    a5, a6, a7 = min(5, last) * step, min(6, last) * step, min(7, last) * step
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
def fill_square(left, a, right, b, stride, n_terms, n_channels, n_mu, block, rows, n_rows, cols, n_cols, out, position,
                step):  # fmt: skip
    """Write sum_m left[m, q] right[mu, m, q'] for q, q' in ranges of rows and columns, row by row, mu by mu.

    Each mu has a block of ``block`` rows m of ``right``, of which n_terms count from the flat index b on.
    """
    for mu in range(n_mu):
        first, start = b + mu * block * stride, position + mu * step
        for r in range(n_rows):
            end = rows[r, 1]
            for q in range(rows[r, 0], end, 8):
                last = end - 1 - q
                for s in range(n_cols):
                    for k in range(cols[s, 0], cols[s, 1], lanes(out)):
                        count, at = cols[s, 1] - k, start + q * n_channels + k
                        s0, s1, s2, s3, s4, s5, s6, s7 = _eight_sums(
                            left, a + q, last, 1, n_channels, right, first + k, stride, n_terms, count
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
def fill_triangle(left, a, right, b, stride, n_terms, n_channels, weights, first, rows, n_rows, cols, n_cols, out,
                  position):  # fmt: skip
    """Write sum_m left[m, q] right[m, q'], weighted, for q' >= q + first in ranges of rows and columns, without gaps."""
    for r in range(n_rows):
        end = rows[r, 1]
        for q in range(rows[r, 0], end, 8):
            last, row = end - 1 - q, n_channels - first - q
            # behind the rows before it, of n_channels - first, n_channels - first - 1, ... elements
            start = position + q * (n_channels - first) - q * (q - 1) // 2 - q - first
            for s in range(n_cols):
                for k in range(max(q, cols[s, 0]), cols[s, 1], lanes(out)):
                    count, at = cols[s, 1] - k, start + k
                    s0, s1, s2, s3, s4, s5, s6, s7 = _eight_sums(
                        left, a + q, last, 1, n_channels, right, b + k, stride, n_terms, count
                    )
                    below = first - (k - q)  # so many elements of row q lie below the diagonal
                    w = _DIAGONAL + min(k - q, lanes(out))
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
            fill_triangle(source, begin, source, begin, n_channels, 2 * l + 1, n_channels, memory(weights[l]), 0,
                          ranges, n_ranges, ranges, n_ranges, target, position)  # fmt: skip
            position += n_channels * (n_channels + 1) // 2


@njit(**_options)
def _couple(density, begin, n_channels, row, n_mu, n_terms, sources, values, ranges, n_ranges, coupled, first, block):
    """Write coupled[mu, m1] = sum_m2 C[mu, m1, m2] density[m2], in which at most two m2 contribute.

    Each mu has ``block`` rows in coupled, of which those from ``first`` on are written.
    """
    width = lanes(coupled)
    for r in range(n_ranges):
        last = ranges[r, 1]
        for k in range(ranges[r, 0], last, width):
            for mu in range(n_mu):
                for m in range(n_terms):
                    at = row + mu * n_terms + m
                    one = load_first(density, begin + sources[at, 0] * n_channels + k, last - k)
                    other = load_first(density, begin + sources[at, 1] * n_channels + k, last - k)
                    total = add_product(scaled(values[at, 0], one), values[at, 1], other)
                    store(coupled, (mu * block + first + m) * (n_channels + width) + k, total)


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
            _couple(source, right, n_channels, rows[p], n_mu, n_terms, sources, values, ranges, n_ranges, room, 0,
                    n_terms)  # fmt: skip
            position, step = i * n_mu * out.shape[2] + column, out.shape[2]
            if l1 < l2:
                fill_square(source, left, room, 0, stride, n_terms, n_channels, n_mu, n_terms, ranges, n_ranges, ranges,
                            n_ranges, target, position, step)  # fmt: skip
            else:
                for mu in range(n_mu):
                    begin = mu * n_terms * stride
                    fill_triangle(source, left, room, begin, stride, n_terms, n_channels, factors, first, ranges,
                                  n_ranges, ranges, n_ranges, target, position + mu * step)  # fmt: skip
            column += n_channels**2 if l1 < l2 else n_channels * (n_channels + 1 - 2 * first) // 2


@njit(**_options)
def _without(ranges, n_ranges, begin, end, rest):
    """Write the parts of the ranges outside of begin .. end; return how many they are."""
    n_rest = 0
    for r in range(n_ranges):
        if ranges[r, 0] < min(begin, ranges[r, 1]):
            rest[n_rest, 0], rest[n_rest, 1] = ranges[r, 0], min(begin, ranges[r, 1])
            n_rest += 1
        if max(end, ranges[r, 0]) < ranges[r, 1]:
            rest[n_rest, 0], rest[n_rest, 1] = max(end, ranges[r, 0]), ranges[r, 1]
            n_rest += 1
    return n_rest


@njit(**_options)
def fill_derivatives(density, group, owners, changes, firsts, lam, degrees, rows, sources, values, out):
    """Write the derivatives of lambda-SOAP blocks, from those of the density coefficients.

    By the product rule, d(c c') = dc c' + c dc': both terms are one sum over the rows [dc; c] and [c'; dc'].
    owners (n_items): center of each derivative; changes (n_items, n_directions, (l_max + 1)^2, width): dc of the
    channels firsts[item] .. firsts[item] + width - 1, the others do not change; out (n_items, n_directions,
    2 lam + 1, n_features); all else as in fill_equivariants.
    """
    n_items, n_directions, n_lm, width = changes.shape
    n_channels, first, n_mu = density.shape[2], lam % 2, 2 * lam + 1
    stride = n_channels + lanes(memory(density))
    present, changed = np.empty((n_channels, 2), np.int64), np.empty((n_channels, 2), np.int64)
    rest = np.empty((2 * n_channels, 2), np.int64)
    stacked, coupled = np.zeros((2 * n_lm, n_channels)), np.zeros(4 * n_mu * n_lm * stride)
    change = np.zeros((n_lm, n_channels))
    weights = np.empty(2 * lanes(memory(density)) + 2 * _DIAGONAL)
    diagonal_weights(weights, 1.0)
    source, left, derivative = memory(density), memory(stacked), memory(change)
    room, factors, target = memory(coupled), memory(weights), memory(out)
    for e in range(n_items):
        start = owners[e] * n_lm * n_channels
        n_present = present_ranges(source, start, n_lm, n_channels, group, present)
        if width == n_channels:
            n_changed, n_rest = n_present, 0
            changed[:n_present] = present[:n_present]
        else:
            changed[0, 0], changed[0, 1], n_changed = firsts[e], firsts[e] + width, 1
            n_rest = _without(present, n_present, firsts[e], firsts[e] + width, rest)
        for x in range(n_directions):
            for lm in range(n_lm):
                l = int(np.sqrt(lm))
                upper, lower = lm + l * l, lm + (l + 1) * (l + 1)  # rows of dc and c in the stack
                change[lm, firsts[e] : firsts[e] + width] = changes[e, x, lm]
                stacked[upper, firsts[e] : firsts[e] + width] = changes[e, x, lm]
                stacked[lower] = density[owners[e], lm]
            column, base = 0, (e * n_directions + x) * n_mu * out.shape[3]
            for p in range(degrees.shape[0]):
                l1, l2 = degrees[p, 0], degrees[p, 1]
                n_terms, begin = 2 * l1 + 1, l2 * l2 * n_channels
                a, c = 2 * l1 * l1 * n_channels, (2 * l1 * l1 + n_terms) * n_channels
                _couple(source, start + begin, n_channels, rows[p], n_mu, n_terms, sources, values, present, n_present,
                        room, 0, 2 * n_terms)  # fmt: skip
                _couple(derivative, begin, n_channels, rows[p], n_mu, n_terms, sources, values, changed, n_changed,
                        room, n_terms, 2 * n_terms)  # fmt: skip
                position, step, b = base + column, out.shape[3], n_terms * stride
                if l1 < l2:
                    fill_square(left, a, room, 0, stride, 2 * n_terms, n_channels, n_mu, 2 * n_terms, changed, n_changed,
                                changed, n_changed, target, position, step)  # fmt: skip
                    fill_square(left, a, room, 0, stride, n_terms, n_channels, n_mu, 2 * n_terms, changed, n_changed,
                                rest, n_rest, target, position, step)  # fmt: skip
                    fill_square(left, c, room, b, stride, n_terms, n_channels, n_mu, 2 * n_terms, rest, n_rest,
                                changed, n_changed, target, position, step)  # fmt: skip
                    column += n_channels * n_channels
                    continue
                for mu in range(n_mu):
                    block, at = 2 * mu * n_terms * stride, position + mu * step
                    fill_triangle(left, a, room, block, stride, 2 * n_terms, n_channels, factors, first, changed,
                                  n_changed, changed, n_changed, target, at)  # fmt: skip
                    fill_triangle(left, a, room, block, stride, n_terms, n_channels, factors, first, changed, n_changed,
                                  rest, n_rest, target, at)  # fmt: skip
                    fill_triangle(left, c, room, block + b, stride, n_terms, n_channels, factors, first, rest, n_rest,
                                  changed, n_changed, target, at)  # fmt: skip
                column += n_channels * (n_channels + 1 - 2 * first) // 2
