"""Loops that sum kernels times coefficients in twice the working precision.

Numbers are unevaluated sums of two floats, high + low (T. J. Dekker, Numer. Math. 18, 224 (1971)). Without fastmath:
what a rounding leaves over is computed from operations that a compiler must not reorder.
"""

import numpy as np

from eqkernels._compile import njit

# Splits a float into two halves of 26 bits.
_SPLITTER = 134217729.0


@njit(nogil=True)
def _two_sum(a, b):
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@njit(nogil=True)
def _two_product(a, b):
    c, d = _SPLITTER * a, _SPLITTER * b
    a_high, b_high = c - (c - a), d - (d - b)
    a_low, b_low = a - a_high, b - b_high
    product = a * b
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@njit(nogil=True)
def _times(a, a_low, b, b_low):
    product, rest = _two_product(a, b)
    rest += a * b_low + a_low * b
    high = product + rest
    return high, rest - (high - product)


@njit(nogil=True)
def _plus(a, a_low, b, b_low):
    total, rest = _two_sum(a, b)
    rest += a_low + b_low
    high = total + rest
    return high, rest - (high - total)


@njit(nogil=True)
def _power(a, a_low, exponent):
    high, low = 1.0, 0.0
    if exponent > 0 and a + a_low <= 0.0:
        return 0.0, 0.0
    for _ in range(exponent):
        high, low = _times(high, low, a, a_low)
    return high, low


@njit(nogil=True)
def add_powers(
    blocks, blocks_low, scalars, scalars_low, exponent, own, own_low, other, other_low, rows, columns, out, out_low
):
    """Add blocks[i, :, m, :] scalars[i, m]**exponent own[i] other[m] to out[rows[i], columns[m]].

    blocks (n, d, n_points, d); scalars (n, n_points), negative ones count as zero; own (n,); other (n_points,);
    rows, columns: structure of each environment; out (n_structures, m_structures, d, d).
    """
    n, d, n_points, _ = blocks.shape
    for i in range(n):
        for m in range(n_points):
            weight, weight_low = _power(scalars[i, m], scalars_low[i, m], exponent)
            weight, weight_low = _times(weight, weight_low, own[i], own_low[i])
            weight, weight_low = _times(weight, weight_low, other[m], other_low[m])
            high, low = out[rows[i], columns[m]], out_low[rows[i], columns[m]]
            for mu in range(d):
                for nu in range(d):
                    term, term_low = _times(blocks[i, mu, m, nu], blocks_low[i, mu, m, nu], weight, weight_low)
                    high[mu, nu], low[mu, nu] = _plus(high[mu, nu], low[mu, nu], term, term_low)


@njit(nogil=True)
def contract(kernels, kernels_low, coef, out):
    """Fill out[i, mu, k] with the sum over m and nu of kernels[i, m, mu, nu] coef[m, nu, k].

    kernels (n, n_points, d, d); coef (n_points, d, n_columns); out (n, d, n_columns).
    """
    n, n_points, d, _ = kernels.shape
    for i in range(n):
        for mu in range(d):
            for k in range(coef.shape[2]):
                high, low = 0.0, 0.0
                for m in range(n_points):
                    for nu in range(d):
                        term, term_low = _times(kernels[i, m, mu, nu], kernels_low[i, m, mu, nu], coef[m, nu, k], 0.0)
                        high, low = _plus(high, low, term, term_low)
                out[i, mu, k] = high + low


@njit(nogil=True)
def multiply(high, low, factor, factor_low):
    """Multiply numbers by others, in place; all (n,)."""
    for i in range(len(high)):
        high[i], low[i] = _times(high[i], low[i], factor[i], factor_low[i])


@njit(nogil=True)
def add(high, low, other, other_low):
    """Add numbers to others, in place; all (n,)."""
    for i in range(len(high)):
        high[i], low[i] = _plus(high[i], low[i], other[i], other_low[i])


@njit(nogil=True)
def reciprocal_rest(numbers):
    """Compute what 1 / number loses by rounding; (n,)."""
    rest = np.empty(len(numbers))
    for i in range(len(numbers)):
        product, product_low = _two_product(numbers[i], 1.0 / numbers[i])
        rest[i] = ((1.0 - product) - product_low) / numbers[i]
    return rest


@njit(nogil=True)
def inverse_norm_rest(grams, grams_low, scale):
    """Compute what scale = |G|_F^(-1/2) loses by rounding: to first order, scale (1 - scale^4 |G|_F^2) / 4.

    grams (n, d, d): scalar products G of the rows of each block; scale (n,), zero where there is no norm.
    """
    rest = np.empty(len(scale))
    for i in range(len(scale)):
        high, low = 0.0, 0.0
        for mu in range(grams.shape[1]):
            for nu in range(grams.shape[2]):
                gram, gram_low = grams[i, mu, nu], grams_low[i, mu, nu]
                term, term_low = _times(gram, gram_low, gram, gram_low)
                high, low = _plus(high, low, term, term_low)
        for _ in range(4):
            high, low = _times(high, low, scale[i], 0.0)
        rest[i] = scale[i] * ((1.0 - high) - low) / 4 if scale[i] > 0.0 else 0.0
    return rest


@njit(nogil=True)
def weigh_powers(scalars, scalars_low, exponent, coef, out, out_low, along):
    """Make coef[m] scalars[i, m]**exponent, and for each i the sum of this times scalars[i, m].

    scalars, out (n, n_points), negative scalars count as zero; coef (n_points,); along (n,).
    """
    n, n_points = scalars.shape
    for i in range(n):
        high, low = 0.0, 0.0
        for m in range(n_points):
            weight, weight_low = _power(scalars[i, m], scalars_low[i, m], exponent)
            weight, weight_low = _times(weight, weight_low, coef[m], 0.0)
            out[i, m], out_low[i, m] = weight, weight_low
            term, term_low = _times(weight, weight_low, scalars[i, m], scalars_low[i, m])
            high, low = _plus(high, low, term, term_low)
        along[i] = high + low
