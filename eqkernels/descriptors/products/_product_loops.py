"""Loops of the products of density coefficients, with contiguous channels innermost.

The sums over m of eight rows of products stay in registers while m runs. Only channels of species that occur near the
center are multiplied; where some do not occur, the row is zeroed first. Arrays are contiguous and addressed by their
flat index.

A product is a sum over m of a left factor, with channels q, and a right one, with channels q' and components mu. Eight
rows q by a vector of q' are a tile, which is made for one mu after the other. Where both degrees are the same, only the
triangle q' >= q + first is kept (first = lambda % 2), else all q' (first = -1)::

    right, one mu                  out, one mu, first = 0
    q'   0 1 2 3 4 5 6 7 8 9       q'   0 1 2 3 4 5 6 7|8 9
    m=0  . . . . . . . . . .       q=0  d x x x x x x x|x x        x: kept, in a row that begins at bases[p + q] + q
    m=1  . . . . . . . . . .       q=1    d x x x x x x|x x        d: the diagonal, weighted with sqrt(1/2)
    m=2  . . . . . . . . . .       q=2      d x x x x x|x x        |: the next tile

The many arguments of these loops are the addresses and strides of the three arrays: packed into named tuples, which
give the same bits, they cost up to 10 % of the time of cells of one species.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    element,
    keep,
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

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


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
def _copy(source, start, begin, end, scale, out):
    """Write scale * source[start + k] to out[k], k = begin .. end - 1, and up to a vector of zeros behind them."""
    for k in range(begin, end, lanes(out)):
        store(out, k, scaled(scale, load_first(source, start + k, end - k)))


@njit(forceinline=True, **_options)
def _clear(out, begin, end):
    """Write zeros to out[begin .. end - 1]."""
    for k in range(begin, end, lanes(out)):
        store_first(out, k, zero(out), end - k)


@njit(forceinline=True, **_options)
def _four_sums(left, a, stride_a, right, b, stride_b, n_terms, count):
    """Vectors of sum_m left[a + i + m stride_a] right[b + k + m stride_b], k < count, i = 0 .. 3."""
    s0, s1, s2, s3 = zero(right), zero(right), zero(right), zero(right)
    for _ in range(n_terms):
        terms = load_first(right, b, count)
        s0 = add_product(s0, element(left, a), terms)
        s1 = add_product(s1, element(left, a + 1), terms)
        s2 = add_product(s2, element(left, a + 2), terms)
        s3 = add_product(s3, element(left, a + 3), terms)
        a, b = a + stride_a, b + stride_b
    return s0, s1, s2, s3


@njit(forceinline=True, **_options)
def _eight_sums(left, a, stride_a, right, b, stride_b, n_terms, count):
    """As _four_sums, i = 0 .. 7: twice in one loop, for the processor to work at eight sums at once."""
    s0, s1, s2, s3 = zero(right), zero(right), zero(right), zero(right)
    s4, s5, s6, s7 = zero(right), zero(right), zero(right), zero(right)
    for _ in range(n_terms):
        terms = load_first(right, b, count)
        s0 = add_product(s0, element(left, a), terms)
        s1 = add_product(s1, element(left, a + 1), terms)
        s2 = add_product(s2, element(left, a + 2), terms)
        s3 = add_product(s3, element(left, a + 3), terms)
        s4 = add_product(s4, element(left, a + 4), terms)
        s5 = add_product(s5, element(left, a + 5), terms)
        s6 = add_product(s6, element(left, a + 6), terms)
        s7 = add_product(s7, element(left, a + 7), terms)
        a, b = a + stride_a, b + stride_b
    return s0, s1, s2, s3, s4, s5, s6, s7


@njit(forceinline=True, **_options)
def _store_eight(out, position, bases, q, s0, s1, s2, s3, s4, s5, s6, s7):
    """Write whole vectors into the eight rows q, q + 1, ... that begin at ``bases``."""
    store(out, position + element(bases, q), s0)
    store(out, position + element(bases, q + 1), s1)
    store(out, position + element(bases, q + 2), s2)
    store(out, position + element(bases, q + 3), s3)
    store(out, position + element(bases, q + 4), s4)
    store(out, position + element(bases, q + 5), s5)
    store(out, position + element(bases, q + 6), s6)
    store(out, position + element(bases, q + 7), s7)


@njit(forceinline=True, **_options)
def _store_rows(out, position, bases, q, count, last, s0, s1, s2, s3):
    """Write the first ``count`` elements of the rows q .. q + min(3, last)."""
    if last >= 0:
        store_first(out, position + element(bases, q), s0, count)
    if last > 0:
        store_first(out, position + element(bases, q + 1), s1, count)
    if last > 1:
        store_first(out, position + element(bases, q + 2), s2, count)
    if last > 2:
        store_first(out, position + element(bases, q + 3), s3, count)


@njit(forceinline=True, **_options)
def _store_triangle(out, position, bases, q, below, weights, w, count, last, s0, s1, s2, s3):
    """Write the weighted elements ``below`` .. ``count`` of up to four rows, each with one more below the diagonal."""
    if last >= 0:
        store_between(out, position + element(bases, q), times(load(weights, w), s0), below, count)
    if last > 0:
        store_between(out, position + element(bases, q + 1), times(load(weights, w - 1), s1), below + 1, count)
    if last > 1:
        store_between(out, position + element(bases, q + 2), times(load(weights, w - 2), s2), below + 2, count)
    if last > 2:
        store_between(out, position + element(bases, q + 3), times(load(weights, w - 3), s3), below + 3, count)


@njit(**_options)
def _diagonal_weights(weights):
    """Fill what a row of a triangle is multiplied with: the pair (q, q) stands once in the double sum, others twice."""
    weights[:] = 1.0
    weights[_DIAGONAL] = np.sqrt(0.5)


@njit(forceinline=True, **_options)
def _fill_tile(left, a, right, b, stride, n_terms, n_channels, n_mu, block, weights, first, ahead, last, count, bases,
               q, out, position, step):  # fmt: skip
    """Write the products of up to eight channels, the first of them at a, and a vector of channels, at b.

    The vector is ``ahead`` channels ahead of the first of the eight, of which last + 1 count.
    """
    below, w = first - ahead, _DIAGONAL + min(ahead, lanes(out))  # below: elements left of the diagonal, in row q
    whole = last >= 7 and count >= lanes(out) and (first < 0 or ahead >= 8)
    for _ in range(n_mu):
        if last < 4:
            s0, s1, s2, s3 = _four_sums(left, a, n_channels, right, b, stride, n_terms, count)
            if first < 0:
                _store_rows(out, position, bases, q, count, last, s0, s1, s2, s3)
            else:
                _store_triangle(out, position, bases, q, below, weights, w, count, last, s0, s1, s2, s3)
        else:
            s0, s1, s2, s3, s4, s5, s6, s7 = _eight_sums(left, a, n_channels, right, b, stride, n_terms, count)
            if whole:
                _store_eight(out, position, bases, q, s0, s1, s2, s3, s4, s5, s6, s7)
            elif first < 0:
                _store_rows(out, position, bases, q, count, 3, s0, s1, s2, s3)
                _store_rows(out, position, bases, q + 4, count, last - 4, s4, s5, s6, s7)
            else:
                _store_triangle(out, position, bases, q, below, weights, w, count, 3, s0, s1, s2, s3)
                _store_triangle(out, position, bases, q + 4, below + 4, weights, w - 4, count, last - 4,
                                s4, s5, s6, s7)  # fmt: skip
        b, position = b + block * stride, position + step


@njit(**_options)
def _fill_pairs(left, a, left_step, right, b, right_step, stride, n_terms, n_channels, n_directions, n_mu, block,
                weights, first, rows, n_rows, cols, n_cols, bases, p, out, position, step):  # fmt: skip
    """Write sum_m left[x, m, q] right[x, mu, m, q'] for q, q' in ranges of rows and columns.

    From one direction x to the next are left_step and right_step elements, and the memory of left goes on for a
    vector behind its end. Each mu has a block of ``block`` rows m of ``right``, of which n_terms count from the flat
    index b on. With first >= 0 only q' >= q + first, weighted; with first = -1 all of them. The element (q, q') of a
    component goes to bases[p + q] + q', and that of the next component ``step`` farther.
    """
    for _ in range(n_directions):
        for r in range(n_rows):
            end = rows[r, 1]
            for q in range(rows[r, 0], end, 8):
                for s in range(n_cols):
                    begin = cols[s, 0] if first < 0 else max(q, cols[s, 0])
                    for k in range(begin, cols[s, 1], lanes(out)):
                        _fill_tile(left, a + q, right, b + k, stride, n_terms, n_channels, n_mu, block, weights,
                                   first, k - q, end - 1 - q, cols[s, 1] - k, bases, p + q, out, position + k,
                                   step)  # fmt: skip
        a, b, position = a + left_step, b + right_step, position + n_mu * step


@njit(**_options)
def fill_invariants(density, group, bases, out):
    """Write the power spectrum of every center.

    density (n_centers, (l_max + 1)^2, n_channels); group: number of channels of a species; bases as in
    fill_equivariants; out (n_centers, n_features).
    """
    n_centers, n_lm, n_channels = density.shape
    source, target, places = memory(density), memory(out), memory(bases)
    ranges = np.empty((n_channels, 2), np.int64)
    coefficients = np.empty(n_lm * n_channels + lanes(source), density.dtype)
    weights = np.empty(2 * lanes(source) + 2 * _DIAGONAL, density.dtype)
    _diagonal_weights(weights)
    scales = np.empty(int(np.sqrt(n_lm)), density.dtype)
    for l in range(len(scales)):
        scales[l] = (2.0 / (2 * l + 1)) ** 0.25  # in both factors of a product
    c, factors = memory(coefficients), memory(weights)
    for i in range(n_centers):
        for l in range(len(scales)):
            begin, end = l * l * n_channels, (l + 1) ** 2 * n_channels
            _copy(source, i * n_lm * n_channels, begin, end, scales[l], c)
        n_ranges = present_ranges(c, 0, n_lm, n_channels, group, ranges)
        if n_ranges != 1 or ranges[0, 1] - ranges[0, 0] < n_channels:
            _clear(target, i * out.shape[1], (i + 1) * out.shape[1])
        for l in range(len(scales)):
            begin = l * l * n_channels
            _fill_pairs(c, begin, 0, c, begin, 0, n_channels, 2 * l + 1, n_channels, 1, 1, 0, factors, 0, ranges,
                        n_ranges, ranges, n_ranges, places, l * n_channels, target, i * out.shape[1], 0)  # fmt: skip
    keep(coefficients)
    keep(weights)


@njit(**_options)
def sum_rows(rows, members, sums):
    """Add rows (n, n_features) to the sums that they belong to, members (n)."""
    source, target, n = memory(rows), memory(sums), rows.shape[1]
    for i in range(len(rows)):
        begin, row = members[i] * n, i * n
        for k in range(0, n, lanes(source)):
            total = add_product(load_first(target, begin + k, n - k), 1.0, load_first(source, row + k, n - k))
            store_first(target, begin + k, total, n - k)


@njit(**_options)
def _couple(density, begin, step, row, n_mu, n_terms, sources, values, ranges, n_ranges, coupled, at, block, stride):
    """Write coupled[mu, m1] = sum_m2 C[mu, m1, m2] density[m2], in which at most two m2 contribute.

    density[m2] begins at the flat index ``begin`` + m2 ``step``; coupled[0, 0] at the index ``at``, and each mu has
    ``block`` rows of ``stride`` elements.
    """
    for r in range(n_ranges):
        last = ranges[r, 1]
        for k in range(ranges[r, 0], last, lanes(coupled)):
            e = 2 * row
            for mu in range(n_mu):
                place = at + mu * block * stride + k
                for _ in range(n_terms):
                    one = load_first(density, begin + element(sources, e) * step + k, last - k)
                    other = load_first(density, begin + element(sources, e + 1) * step + k, last - k)
                    store(coupled, place, add_product(scaled(element(values, e), one), element(values, e + 1), other))
                    e, place = e + 2, place + stride


@njit(**_options)
def fill_equivariants(density, group, lam, degrees, rows, sources, values, bases, out):
    """Write the lambda-SOAP block of every center.

    density (n_centers, (l_max + 1)^2, n_channels); group: number of channels of a species; degrees (n_pairs, 2)
    the coupled (l1, l2); rows (n_pairs): where the rows (mu, m1) of each pair begin in sources and values, the two
    components m2 and Clebsch-Gordan coefficients (weight included) of a row; bases (n_pairs n_channels): where a
    channel q' = 0 would stand among the features of each pair of degrees and channel q; out (n_centers, 2 lam + 1,
    n_features).
    """
    n_centers, n_lm, n_channels = density.shape
    source, target, places = memory(density), memory(out), memory(bases)
    origins, couplings = memory(sources), memory(values)
    ranges = np.empty((n_channels, 2), np.int64)
    stride, first, n_mu, step = n_channels + lanes(source), lam % 2, 2 * lam + 1, out.shape[2]
    coefficients = np.empty(n_lm * n_channels + lanes(source), density.dtype)
    coupled = np.empty(n_mu * 2 * n_lm * stride, density.dtype)
    weights = np.empty(2 * lanes(source) + 2 * _DIAGONAL, density.dtype)
    _diagonal_weights(weights)
    c, room, factors = memory(coefficients), memory(coupled), memory(weights)
    for i in range(n_centers):
        position = i * n_mu * step
        _copy(source, i * n_lm * n_channels, 0, n_lm * n_channels, weights[0], c)
        n_ranges = present_ranges(c, 0, n_lm, n_channels, group, ranges)
        if n_ranges != 1 or ranges[0, 1] - ranges[0, 0] < n_channels:
            _clear(target, position, position + n_mu * step)
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            n_terms = 2 * l1 + 1
            _couple(c, l2 * l2 * n_channels, n_channels, rows[p], n_mu, n_terms, origins, couplings, ranges, n_ranges,
                    room, 0, n_terms, stride)  # fmt: skip
            _fill_pairs(c, l1 * l1 * n_channels, 0, room, 0, 0, stride, n_terms, n_channels, 1, n_mu, n_terms, factors,
                        -1 if l1 < l2 else first, ranges, n_ranges, ranges, n_ranges, places, p * n_channels, target,
                        position, step)  # fmt: skip
    keep(coefficients)
    keep(coupled)
    keep(weights)


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
def _copy_rows(source, start, width, out, top, first, rows):
    """Copy rows of ``width`` contiguous elements into the columns from ``first`` on of the rows top + rows of out."""
    target, stride = memory(out), out.shape[1]
    for row in rows:
        for k in range(0, width, lanes(source)):
            store_first(target, (top + row) * stride + first + k, load_first(source, start + k, width - k), width - k)
        start += width


@njit(**_options)
def fill_derivatives(density, group, owners, changes, first_channel, lam, degrees, rows, sources, values, bases, out):
    """Write the derivatives of lambda-SOAP blocks, from those of the density coefficients.

    By the product rule, d(c c') = dc c' + c dc': both terms are one sum over the rows [dc; c] and [c'; dc'].
    owners (n_items), ascending: center of each derivative; changes (n_items, n_directions, (l_max + 1)^2, width): dc
    of the channels first_channel .. first_channel + width - 1, the others do not change; out (n_items, n_directions,
    2 lam + 1, n_features), of those features that change; all else as in fill_equivariants.
    """
    n_items, n_directions, n_lm, width = changes.shape
    source, given, target, places = memory(density), memory(changes), memory(out), memory(bases)
    n_channels, n_mu, step = density.shape[2], 2 * lam + 1, out.shape[3]
    stride = n_channels + lanes(source)
    present, changed = np.empty((n_channels, 2), np.int64), np.empty((n_channels, 2), np.int64)
    rest = np.empty((2 * n_channels, 2), np.int64)
    # more rows than there are: what is read behind the end of the others
    stacked = np.zeros((n_directions * 2 * n_lm + 1 + lanes(source) // n_channels, n_channels))
    coupled = np.zeros(n_directions * 2 * len(sources) * stride)
    left_step, right_step = 2 * n_lm * n_channels, 2 * len(sources) * stride
    left, room, origins, couplings = memory(stacked), memory(coupled), memory(sources), memory(values)
    weights = np.empty(2 * lanes(source) + 2 * _DIAGONAL)
    _diagonal_weights(weights)
    factors = memory(weights)
    every = np.arange(n_lm)
    degree = np.sqrt(every).astype(np.int64)
    upper, lower = every + degree**2, every + (degree + 1) ** 2  # rows of dc and c in the stack
    n_changed, n_rest = 1, 0
    for e in range(n_items):
        if e == 0 or owners[e] != owners[e - 1]:
            start = owners[e] * n_lm * n_channels
            n_present = present_ranges(source, start, n_lm, n_channels, group, present)
            for x in range(n_directions):
                _copy_rows(source, start, n_channels, stacked, x * 2 * n_lm, 0, lower)
                for p in range(degrees.shape[0]):
                    n_terms, l2 = 2 * degrees[p, 0] + 1, degrees[p, 1]
                    _couple(source, start + l2 * l2 * n_channels, n_channels, rows[p], n_mu, n_terms, origins,
                            couplings, present, n_present, room, x * right_step + 2 * rows[p] * stride, 2 * n_terms,
                            stride)  # fmt: skip
            if width == n_channels:
                changed[:n_present], n_changed = present[:n_present], n_present
            else:
                changed[0, 0], changed[0, 1] = first_channel, first_channel + width
                n_rest = _without(present, n_present, first_channel, first_channel + width, rest)
        begin, size, position = e * n_directions * n_lm * width, n_lm * width, e * n_directions * n_mu * step
        for x in range(n_directions):
            _copy_rows(given, begin + x * size, width, stacked, x * 2 * n_lm, first_channel, upper)
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            n_terms, b = 2 * l1 + 1, 2 * rows[p] * stride
            a, place, first = 2 * l1 * l1 * n_channels, p * n_channels, -1 if l1 < l2 else lam % 2
            for x in range(n_directions):
                _couple(given, begin + x * size + l2 * l2 * width - first_channel, width, rows[p], n_mu, n_terms,
                        origins, couplings, changed, n_changed, room, x * right_step + b + n_terms * stride,
                        2 * n_terms, stride)  # fmt: skip
            _fill_pairs(left, a, left_step, room, b, right_step, stride, 2 * n_terms, n_channels, n_directions, n_mu,
                        2 * n_terms, factors, first, changed, n_changed, changed, n_changed, places, place, target,
                        position, step)  # fmt: skip
            if n_rest > 0:  # there, only one of the two factors changes
                _fill_pairs(left, a, left_step, room, b, right_step, stride, n_terms, n_channels, n_directions, n_mu,
                            2 * n_terms, factors, first, changed, n_changed, rest, n_rest, places, place, target,
                            position, step)  # fmt: skip
                _fill_pairs(left, a + n_terms * n_channels, left_step, room, b + n_terms * stride, right_step, stride,
                            n_terms, n_channels, n_directions, n_mu, 2 * n_terms, factors, first, rest, n_rest, changed,
                            n_changed, places, place, target, position, step)  # fmt: skip
    keep(stacked)
    keep(coupled)
    keep(weights)
