"""Loops that sum kernels times coefficients in twice the working precision.

Numbers are unevaluated sums of two floats, high + low (T. J. Dekker, Numer. Math. 18, 224 (1971)). Without fastmath:
what a rounding leaves over is computed from operations that a compiler must not reorder.
"""

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
def contract_powers(blocks, blocks_low, scalars, scalars_low, exponent, coef, out):
    """Fill out[i, mu, k] with the sum over m and nu of blocks[i, mu, m, nu] scalars[i, m]**exponent coef[m, nu, k].

    blocks (n, d, n_points, d); scalars (n, n_points), negative ones count as zero; coef (n_points, d, n_columns);
    out (n, d, n_columns).
    """
    n, d, n_points, _ = blocks.shape
    for i in range(n):
        for k in range(coef.shape[2]):
            for mu in range(d):
                high, low = 0.0, 0.0
                for m in range(n_points):
                    weight, weight_low = _power(scalars[i, m], scalars_low[i, m], exponent)
                    for nu in range(d):
                        term, term_low = _times(blocks[i, mu, m, nu], blocks_low[i, mu, m, nu], weight, weight_low)
                        term, term_low = _times(term, term_low, coef[m, nu, k], 0.0)
                        high, low = _plus(high, low, term, term_low)
                out[i, mu, k] = high + low


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
