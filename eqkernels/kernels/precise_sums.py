r"""Sums of kernels times coefficients that cancel: to rounding of the sum, not of its terms.

Where environments resemble each other, a model of little noise has coefficients many orders of magnitude larger than
its predictions. Kernels in working precision would then leave their rounding in the prediction, which depends on the
orientation and on the order of the atoms. Here scalar products of features are exact to twice that precision: features
are split into leading bits, whose products sum up without rounding in any order, and the rest (K. Ozaki et al., Numer.
Algorithms 59, 95 (2012)). It costs three matrix products instead of one.
"""

from __future__ import annotations

import numpy as np

from eqkernels.kernels._precise_loops import (
    add,
    add_powers,
    contract,
    inverse_norm_rest,
    multiply,
    reciprocal_rest,
    weigh_powers,
)
from eqkernels.kernels.centers import center_groups, center_similarity

# Elements of the matrices between environments that are in memory at once.
_ELEMENTS = 2**21
# Environments whose features are in memory at once, where these are made of densities.
_ROWS = 512
# Bits of a float.
_BITS = 53


def precise_covariant(X, Y, irrep, zeta, weights, similarity=0.0):
    """Polynomial kernels between structures, to twice the working precision.

    Parameters
    ----------
    X, Y : EquivariantFeatures
    irrep : str
    zeta : int
    weights : pair of pairs of ndarray
        Factor of each environment of X and of Y, as high and low parts.
    similarity : float, default=0.0
        Of centers of different species, see :mod:`eqkernels.kernels.centers`.

    Returns
    -------
    high, low : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)
        Their sum is the kernel.
    """
    d = X.block_shape(irrep)[1]
    high, low = np.zeros((len(X), len(Y), d, d)), np.zeros((len(X), len(Y), d, d))
    for i, m in _ranges(X, Y, d, _ROWS, similarity):
        blocks = _block_products(X, Y, irrep, i, m)
        if zeta == 1:
            scalars = np.ones((len(i), len(m))), np.zeros((len(i), len(m)))
        else:
            scalars = blocks if irrep == "0e" else _block_products(X, Y, "0e", i, m)
            scalars = tuple(part[:, 0, :, 0] for part in scalars)
        if similarity > 0:
            alike = center_similarity(X.species[i], Y.species[m], similarity)[:, None, :, None]
            blocks = multiply_kernels(blocks, (alike, np.zeros_like(alike)))
        factors = (part[rows] for pair, rows in zip(weights, (i, m), strict=True) for part in pair)
        add_powers(*blocks, *scalars, zeta - 1, *factors, X.structures[i], Y.structures[m], high, low)
    return high, low


def precise_products(X, Y, vectors, zeta, weights):
    """Sum over pairs of environments the outer product of two vectors times the power zeta of their scalars.

    Parameters
    ----------
    X, Y : EquivariantFeatures
    vectors : pair of ndarray of shape (n_environments, d)
    zeta : int
    weights
        As of :func:`precise_covariant`.

    Returns
    -------
    high, low : ndarray of shape (n_structures_X, n_structures_Y, d, d)
    """
    d = vectors[0].shape[1]
    high, low = np.zeros((len(X), len(Y), d, d)), np.zeros((len(X), len(Y), d, d))
    for i, m in _ranges(X, Y, d, _ROWS):
        blocks = _products(vectors[0][i].reshape(-1, 1), vectors[1][m].reshape(1, -1))
        blocks = [one.reshape(len(i), d, len(m), d) for one in blocks]
        scalars = tuple(part[:, 0, :, 0] for part in _block_products(X, Y, "0e", i, m))
        factors = (part[rows] for pair, rows in zip(weights, (i, m), strict=True) for part in pair)
        add_powers(*blocks, *scalars, zeta, *factors, X.structures[i], Y.structures[m], high, low)
    return high, low


def precise_weights(features, scales, aggregate):
    """Factor of each environment, to twice the working precision.

    Parameters
    ----------
    features : EquivariantFeatures
    scales : list of (str, ndarray)
        Inverse norms of the blocks of these names, of which the factor is the product.
    aggregate : {"sum", "mean"}

    Returns
    -------
    high, low : ndarray of shape (n_environments,)
    """
    high, low = np.ones(len(features.species)), np.zeros(len(features.species))
    for key, scale in scales:
        for start in range(0, len(scale), _ROWS):
            rows = slice(start, start + _ROWS)
            block = features.block_rows(key, rows).astype(float, copy=False)
            rest = inverse_norm_rest(*_products(block, block.transpose(0, 2, 1)), scale[rows])
            multiply(high[rows], low[rows], scale[rows], rest)
    if aggregate == "mean":
        counts = np.diff(features.offsets)[features.structures].astype(float)
        multiply(high, low, 1.0 / counts, reciprocal_rest(counts))
    return high, low


def multiply_kernels(first, second):
    """Product of kernels that are pairs of high and low parts; the second one has blocks of one element."""
    high, low = (part.copy() for part in first)
    factor, factor_low = (np.broadcast_to(part, high.shape).ravel() for part in second)
    multiply(high.ravel(), low.ravel(), factor, factor_low)
    return high, low


def add_kernels(first, second):
    """Sum of kernels that are pairs of high and low parts."""
    high, low = (part.copy() for part in first)
    add(high.ravel(), low.ravel(), *(part.ravel() for part in second))
    return high, low


def contract_precisely(kernel, X, Y, irrep, coef):
    """Sum the kernels of a TensorKernel times coefficients (n_structures_Y, 2 lambda + 1, n_columns).

    Returns
    -------
    ndarray of shape (n_structures_X, 2 lambda + 1, n_columns)
    """
    out = np.empty((len(X), *coef.shape[1:]))
    size = max(1, _ELEMENTS // (len(Y) * coef.shape[1] ** 2))
    for start in range(0, len(X), size):
        contract(*kernel.precise(X[start : start + size], Y, irrep), coef, out[start : start + size])
    return out


def contract_scalars_vjp(X, Y, coef, zeta, scales):
    """Differentiate the sum of polynomial kernels of scalars times coefficients by the features of each environment.

    Parameters
    ----------
    X, Y : EquivariantFeatures
    coef : ndarray of shape (n_environments_Y,)
    zeta : int
    scales : tuple of two ndarray, or None
        Inverse norms of the environments of X and Y; None where they are not normalized.

    Returns
    -------
    ndarray of shape (n_environments_X, 1, n_features)
    """
    own = np.ones(len(X.species)) if scales is None else scales[0]
    coef = zeta * coef if scales is None else zeta * coef * scales[1] ** zeta
    out = np.zeros(X.block_shape("0e"))
    for i, m in _ranges(X, Y, 1):
        scalars = tuple(one[:, 0, :, 0] for one in _block_products(X, Y, "0e", i, m))
        weights, along = tuple(np.empty((len(i), len(m))) for _ in range(2)), np.empty(len(i))
        weigh_powers(*scalars, zeta - 1, coef[m], *weights, along)
        points = Y.block("0e")[m, 0].astype(float, copy=False)
        part = sum(_products(weights[0], points)) + weights[1] @ points
        if scales is not None:
            part -= (along * own[i] ** 2)[:, None] * X.block("0e")[i, 0]
        out[i, 0] = (own[i] ** zeta)[:, None] * part
    return out


def _ranges(X, Y, d, n_columns=None, similarity=0.0):
    """Environments of X and of Y that are compared, of Y all or so many at once."""
    for rows, columns in center_groups(X.species, Y.species, similarity):
        step = len(columns) if n_columns is None else n_columns
        for first in range(0, len(columns), step):
            part = columns[first : first + step]
            size = max(1, _ELEMENTS // (len(part) * d**2))
            for start in range(0, len(rows), size):
                yield rows[start : start + size], part


def _block_products(X, Y, irrep, i, m):
    """Products of blocks as high and low parts, each (n, d, n_points, d)."""
    p, q = (one.block_rows(irrep, rows).astype(float, copy=False) for one, rows in ((X, i), (Y, m)))
    n, d, width = p.shape
    return [one.reshape(n, d, len(m), d) for one in _products(p.reshape(n * d, width), q.reshape(-1, width).T)]


def _products(left, right):
    """Matrix product, and what is lost by rounding it: the product of the leading bits is exact, the rest is added.

    The second part is below half a unit in the last place of the first, as products of both parts assume.
    """
    bits = (_BITS - int(np.ceil(np.log2(max(2, left.shape[-1]))))) // 2
    first, second = _leading(left, bits, -1), _leading(right, bits, -2)
    exact, rest = first @ second, (left - first) @ right + first @ (right - second)
    high = exact + rest
    of_rest = high - exact
    return high, (exact - (high - of_rest)) + (rest - of_rest)


def _leading(matrix, bits, axis):
    """Matrix rounded to multiples of a power of two, the same along an axis, with so many bits at most."""
    _, exponent = np.frexp(np.abs(matrix).max(axis=axis, keepdims=True, initial=0.0))
    unit = np.ldexp(1.0, exponent - bits)
    return np.rint(matrix / unit) * unit
