"""Loops of the vector-Jacobian product of lambda-SOAP: from cotangents of the features to those of the density."""

import numpy as np
from numba import njit

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

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}

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
    n_degrees, here, ranges = int(np.sqrt(n_lm)), np.empty(n_channels, np.int64), np.empty((n_channels, 3), np.int64)
    source, given, target, places = memory(density), memory(cotangent), memory(out), memory(bases)
    stride, step = n_channels + lanes(source), cotangent.shape[1]
    coefficients = np.zeros((n_lm + 2 * _ROWS) * n_channels + lanes(source))  # rows are read beyond the last one
    symmetric, derivative = np.zeros(n_channels * stride), np.empty((2 * n_degrees + _ROWS) * stride)
    c, s, d = memory(coefficients), memory(symmetric), memory(derivative)
    for i in range(n_centers):
        n, position = _channels_that_occur(density[i], group, here), i * n_lm * n_channels
        n_ranges = _contiguous(here, n, ranges)
        for lm in range(n_lm):
            for r in range(n_ranges):
                first, start, size = position + lm * n_channels + ranges[r, 0], lm * n + ranges[r, 1], ranges[r, 2]
                for k in range(0, size, lanes(source)):
                    store(c, start + k, load_first(source, first + k, size - k))
        for l in range(n_degrees):
            for a in range(n):
                base = i * step + element(places, l * n_channels + here[a])
                _complete(given, base, a, ranges, n_ranges, np.sqrt(2.0 / (2 * l + 1)), stride, s)
                for b in range(a + 1, n):
                    symmetric[b * stride + a] = symmetric[a * stride + b]
                symmetric[a * stride + a] *= np.sqrt(2.0)
            _multiply(c, l * l * n, n, 2 * l + 1, s, stride, d)
            for m in range(2 * l + 1):
                for r in range(n_ranges):
                    first, size = position + (l * l + m) * n_channels + ranges[r, 0], ranges[r, 2]
                    for k in range(0, size, lanes(source)):
                        change = load(d, m * stride + ranges[r, 1] + k)
                        before = load_first(target, first + k, size - k)
                        store_first(target, first + k, add_product(before, 1.0, change), size - k)
    keep(coefficients)
    keep(symmetric)
    keep(derivative)


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
def _complete(triangle, base, a, ranges, n_ranges, scale, stride, out):
    """Write ``scale`` times row ``a`` of the triangle, from the diagonal on, without channels that do not occur."""
    for r in range(n_ranges):
        start, size = ranges[r, 1], ranges[r, 2]
        for k in range(max(a - start, 0), size, lanes(out)):
            store(out, a * stride + start + k, scaled(scale, load_first(triangle, base + ranges[r, 0] + k, size - k)))


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
def _multiply(left, first, n, n_rows, right, stride, out):
    """Write out[m, k] = sum_t left[first + m n + t] right[t stride + k]; whole vectors, and rows up to a multiple."""
    for m in range(0, n_rows, _ROWS):
        row = first + m * n
        for k in range(0, n, lanes(right)):
            a, b, c, d = zero(right), zero(right), zero(right), zero(right)
            for t in range(n):
                terms = load(right, t * stride + k)
                a = add_product(a, element(left, row + t), terms)
                b = add_product(b, element(left, row + n + t), terms)
                c = add_product(c, element(left, row + 2 * n + t), terms)
                d = add_product(d, element(left, row + 3 * n + t), terms)
            store(out, m * stride + k, a)
            store(out, (m + 1) * stride + k, b)
            store(out, (m + 2) * stride + k, c)
            store(out, (m + 3) * stride + k, d)


@njit(**_options)
def contract_equivariants(density, group, lam, degrees, rows, sources, values, cotangent, out):
    """Add to out the derivative of sum(cotangent * features) by the density.

    With p[mu; q, q'] = sum_m1 c[m1, q] K[m1, mu, q'] and K[m1, mu] = sum_m2 C[mu, m1, m2] c[m2], the derivatives by c
    and K are matrix products with the cotangent g[q, mu, q']. Only channels that occur take part, for no other atom is
    there to be moved. cotangent (n_centers, 2 lam + 1, n_features); out like the density; all else as in
    fill_equivariants.
    """
    n_centers, n_lm, n_channels = density.shape
    n_mu, first = 2 * lam + 1, lam % 2
    here, coefficients = np.empty(n_channels, np.int64), np.empty(n_lm * n_channels)
    derivative = np.empty((n_lm, n_channels))
    coupled_room, given_room = np.empty(n_lm * n_mu * n_channels), np.empty(n_channels * n_mu * n_channels)
    turned_room, result_room = np.empty(n_channels * n_mu * n_channels), np.empty(n_lm * n_mu * n_channels)
    for i in range(n_centers):
        n = _channels_that_occur(density[i], group, here)
        c = coefficients[: n_lm * n].reshape(n_lm, n)
        for lm in range(n_lm):
            for a in range(n):
                c[lm, a] = density[i, lm, here[a]]
        derivative[:] = 0.0
        column = 0
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            n_terms, first1, first2 = 2 * l1 + 1, l1 * l1, l2 * l2
            coupled = coupled_room[: n_terms * n_mu * n].reshape(n_terms, n_mu, n)
            given = given_room[: n * n_mu * n].reshape(n, n_mu, n)
            turned = turned_room[: n_mu * n * n].reshape(n_mu, n, n)
            for mu in range(n_mu):
                for m in range(n_terms):
                    at = rows[p] + mu * n_terms + m
                    one, other = c[first2 + sources[at, 0]], c[first2 + sources[at, 1]]
                    for a in range(n):
                        coupled[m, mu, a] = values[at, 0] * one[a] + values[at, 1] * other[a]
                source = cotangent[i, mu, column:]
                for a in range(n):
                    q = here[a]
                    if l1 < l2:
                        start, begin = q * n_channels, 0
                    else:
                        start, begin = q * (n_channels - first) - q * (q - 1) // 2 - q - first, min(a + first, n)
                    for b in range(begin):
                        given[a, mu, b] = 0.0
                        turned[mu, b, a] = 0.0
                    for b in range(begin, n):
                        value = source[start + here[b]]
                        given[a, mu, b] = value
                        turned[mu, b, a] = value
                    if l1 == l2 and first == 0:  # the weight of the diagonal
                        given[a, mu, a] *= np.sqrt(0.5)
                        turned[mu, a, a] *= np.sqrt(0.5)
            result = result_room[: n_terms * n].reshape(n_terms, n)
            np.dot(coupled.reshape(n_terms, n_mu * n), turned.reshape(n_mu * n, n), result)
            derivative[first1 : first1 + n_terms, :n] += result
            result = result_room[: n_terms * n_mu * n].reshape(n_terms, n_mu * n)
            np.dot(c[first1 : first1 + n_terms], given.reshape(n, n_mu * n), result)
            for mu in range(n_mu):
                for m in range(n_terms):
                    at = rows[p] + mu * n_terms + m
                    for a in range(n):
                        derivative[first2 + sources[at, 0], a] += values[at, 0] * result[m, mu * n + a]
                        derivative[first2 + sources[at, 1], a] += values[at, 1] * result[m, mu * n + a]
            column += n_channels * n_channels if l1 < l2 else n_channels * (n_channels + 1 - 2 * first) // 2
        for lm in range(n_lm):
            for a in range(n):
                out[i, lm, here[a]] += derivative[lm, a]
