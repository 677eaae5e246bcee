"""Loops of the vector-Jacobian product of lambda-SOAP: from cotangents of the features to those of the density."""

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
    store_first,
    zero,
)

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

# Rows of a product that are summed at once.
_ROWS = 4


@njit(**_options)
def contract_invariants(density, group, bases, cotangent, out):
    """Add to out the derivative of sum(cotangent * power spectrum) by the density.

    For every l it is the matrix product of the coefficients with the cotangents, completed to a symmetric matrix. Only
    channels that occur take part. cotangent (n_centers, n_features); out like the density; group and bases as in
    fill_invariants.
    """
    n_centers, n_lm, n_channels = density.shape
    here, ranges = np.empty(n_channels, np.int64), np.empty((n_channels, 3), np.int64)
    source, change, target, places = memory(density), memory(cotangent), memory(out), memory(bases)
    stride, step, n_degrees = n_channels + lanes(source), cotangent.shape[1], int(np.sqrt(n_lm))
    coefficients, derivative = _room(n_lm, n_channels, stride), np.empty((2 * n_degrees + _ROWS) * stride)
    symmetric = np.zeros(n_channels * stride)
    c, s, d = memory(coefficients), memory(symmetric), memory(derivative)
    for i in range(n_centers):
        n, position = _channels_that_occur(density[i], group, here), i * n_lm * n_channels
        n_ranges = _contiguous(here, n, ranges)
        for lm in range(n_lm):
            _gather(source, position + lm * n_channels, ranges, n_ranges, 0, 1.0, c, lm * n)
        for l in range(n_degrees):
            for a in range(n):
                base = i * step + element(places, l * n_channels + here[a])
                _gather(change, base, ranges, n_ranges, a, np.sqrt(2.0 / (2 * l + 1)), s, a * stride)
                for b in range(a + 1, n):
                    symmetric[b * stride + a] = symmetric[a * stride + b]
                symmetric[a * stride + a] *= np.sqrt(2.0)
            _multiply(c, l * l * n, n, 2 * l + 1, n, s, 0, stride, n, d, stride)
            for m in range(2 * l + 1):
                _scatter_add(d, m * stride, ranges, n_ranges, target, position + (l * l + m) * n_channels)
    keep(coefficients)
    keep(symmetric)
    keep(derivative)


@njit(**_options)
def contract_equivariants(density, group, lam, degrees, rows, sources, values, bases, cotangent, out):
    """Add to out the derivative of sum(cotangent * features) by the density.

    With p[mu; q, q'] = sum_m1 c[m1, q] K[mu, m1, q'] and K[mu, m1] = sum_m2 C[mu, m1, m2] c[m2], the derivatives by c
    and K are matrix products with the cotangent g[q, mu, q']. Only channels that occur take part, for no other atom is
    there to be moved. cotangent (n_centers, 2 lam + 1, n_features); out like the density; all else as in
    fill_equivariants.
    """
    n_centers, n_lm, n_channels = density.shape
    here, ranges = np.empty(n_channels, np.int64), np.empty((n_channels, 3), np.int64)
    source, change, target, places = memory(density), memory(cotangent), memory(out), memory(bases)
    n_mu, first, step, width = 2 * lam + 1, lam % 2, cotangent.shape[2], lanes(source)
    stride, tall = n_channels + width, 2 * int(np.sqrt(n_lm)) + width  # of rows of channels, and of m
    coefficients, derivative = _room(n_lm, n_channels, stride), np.empty(n_lm * stride)
    weights, coupled = _room(n_channels, n_mu * n_channels, stride), np.empty(n_mu * n_channels * tall)
    by_coupled, by_left = np.empty((n_lm + _ROWS) * stride), np.empty((n_channels + _ROWS) * tall)
    c, g, k, r, d, left = (
        memory(coefficients), memory(weights), memory(coupled), memory(by_coupled), memory(derivative), memory(by_left)
    )  # fmt: skip
    for i in range(n_centers):
        n, position = _channels_that_occur(density[i], group, here), i * n_lm * n_channels
        n_ranges = _contiguous(here, n, ranges)
        for lm in range(n_lm):
            _gather(source, position + lm * n_channels, ranges, n_ranges, 0, 1.0, c, lm * n)
        derivative[:] = 0.0
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            n_terms, begin1, begin2 = 2 * l1 + 1, l1 * l1, l2 * l2
            for a in range(n):
                place, row = i * n_mu * step + element(places, p * n_channels + here[a]), a * n_mu * n
                for mu in range(n_mu):
                    _gather(
                        change,
                        place + mu * step,
                        ranges,
                        n_ranges,
                        0 if l1 < l2 else a + first,
                        1.0,
                        g,
                        row + mu * n,
                    )
                if l1 == l2:
                    _complete_triangle(n_mu, n, a, first, row, weights)
            for mu in range(n_mu):
                _multiply(c, begin1 * n, n, n_terms, n, g, mu * n, n_mu * n, n, r, stride)
                at = rows[p] + mu * n_terms
                for m in range(n_terms):
                    for term in range(2):
                        target_row = (begin2 + sources[at + m, term]) * stride
                        _add_row(values[at + m, term], r, m * stride, n, d, target_row)
                _couple_columns(coefficients, begin2, n, n_terms, at, sources, values, mu * n * tall, tall, coupled)
            _multiply(g, 0, n_mu * n, n, n_mu * n, k, 0, tall, n_terms, left, tall)
            for a in range(n):
                for m in range(n_terms):
                    derivative[(begin1 + m) * stride + a] += by_left[a * tall + m]
        for lm in range(n_lm):
            _scatter_add(d, lm * stride, ranges, n_ranges, target, position + lm * n_channels)
    keep(coefficients)
    keep(weights)
    keep(coupled)
    keep(by_coupled)
    keep(derivative)
    keep(by_left)


@njit(forceinline=True, **_options)
def _complete_triangle(n_mu, n, a, first, row, out):
    """Write the zeros before the triangle in row ``a`` of every component, and weight its diagonal (first = 0)."""
    for mu in range(n_mu):
        begin = row + mu * n
        for b in range(min(a + first, n)):
            out[begin + b] = 0.0
        if first == 0:
            out[begin + a] *= np.sqrt(0.5)


@njit(forceinline=True, **_options)
def _couple_columns(coefficients, begin, n, n_terms, at, sources, values, place, step, out):
    """Write out[q, m1] = sum_m2 C[m1, m2] c[m2, q] for one component, a column for each m1."""
    for m in range(n_terms):
        one, other = (begin + sources[at + m, 0]) * n, (begin + sources[at + m, 1]) * n
        for a in range(n):
            value = values[at + m, 0] * coefficients[one + a] + values[at + m, 1] * coefficients[other + a]
            out[place + a * step + m] = value


@njit(**_options)
def _room(n_rows, n_columns, more):
    """Zeros for a matrix whose rows are read in groups, and in vectors that begin anywhere."""
    return np.zeros((n_rows + _ROWS) * n_columns + more)


@njit(**_options)
def _channels_that_occur(density, group, here):
    """Write the channels of the groups that are not zero; return how many they are."""
    n_lm, n_channels = density.shape
    n = 0
    for begin in range(0, n_channels, group):
        end, occurs = min(begin + group, n_channels), False
        for lm in range(n_lm):
            for q in range(begin, end):
                occurs = occurs or density[lm, q] != 0.0
            if occurs:
                break
        if occurs:
            for q in range(begin, end):
                here[n] = q
                n += 1
    return n


@njit(**_options)
def _contiguous(here, n, ranges):
    """Write the ranges (first, position, size) of successive numbers among the first n; return how many they are."""
    n_ranges = 0
    for a in range(n):
        if a == 0 or here[a] != here[a - 1] + 1:
            ranges[n_ranges, 0], ranges[n_ranges, 1], ranges[n_ranges, 2] = here[a], a, 0
            n_ranges += 1
        ranges[n_ranges - 1, 2] += 1
    return n_ranges


@njit(forceinline=True, **_options)
def _gather(source, begin, ranges, n_ranges, lowest, scale, out, row):
    """Write ``scale`` times the channels that occur, from ``lowest`` on, to a row of out, and zeros behind it."""
    for r in range(n_ranges):
        first, start, size = begin + ranges[r, 0], row + ranges[r, 1], ranges[r, 2]
        for k in range(max(lowest - ranges[r, 1], 0), size, lanes(out)):
            store(out, start + k, scaled(scale, load_first(source, first + k, size - k)))


@njit(forceinline=True, **_options)
def _scatter_add(source, row, ranges, n_ranges, out, begin):
    """Add a row of channels that occur to those of out."""
    for r in range(n_ranges):
        first, start, size = begin + ranges[r, 0], row + ranges[r, 1], ranges[r, 2]
        for k in range(0, size, lanes(out)):
            total = add_product(load_first(out, first + k, size - k), 1.0, load(source, start + k))
            store_first(out, first + k, total, size - k)


@njit(forceinline=True, **_options)
def _add_row(scale, source, begin, n, out, row):
    """Add ``scale`` times n elements of the source to those of out, whole vectors."""
    for k in range(0, n, lanes(out)):
        store(out, row + k, add_product(load(out, row + k), scale, load(source, begin + k)))


@njit(**_options)
def _multiply(left, first, left_stride, n_rows, n_terms, right, begin, right_stride, n_columns, out, stride):
    """Write out[m, k] = sum_t left[m, t] right[t, k]; whole vectors, and rows up to a multiple of four.

    left and right begin at the flat indices ``first`` and ``begin``.
    """
    for m in range(0, n_rows, _ROWS):
        row = first + m * left_stride
        for k in range(0, n_columns, lanes(right)):
            a, b, c, d = zero(right), zero(right), zero(right), zero(right)
            for t in range(n_terms):
                terms = load(right, begin + t * right_stride + k)
                a = add_product(a, element(left, row + t), terms)
                b = add_product(b, element(left, row + left_stride + t), terms)
                c = add_product(c, element(left, row + 2 * left_stride + t), terms)
                d = add_product(d, element(left, row + 3 * left_stride + t), terms)
            store(out, m * stride + k, a)
            store(out, (m + 1) * stride + k, b)
            store(out, (m + 2) * stride + k, c)
            store(out, (m + 3) * stride + k, d)
