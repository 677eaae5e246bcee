r"""Sums of kernels times coefficients that cancel: to rounding of the sum, not of its terms.

Where environments resemble each other, a model of little noise has coefficients many orders of magnitude larger than
its predictions. Kernels in working precision would then leave their rounding in the prediction, which depends on the
orientation and on the order of the atoms. Here scalar products of features are exact to twice that precision: features
are split into leading bits, whose products sum up without rounding in any order, and the rest (K. Ozaki et al., Numer.
Algorithms 59, 95 (2012)). It costs three matrix products instead of one.
"""

from __future__ import annotations

import numpy as np

from eqkernels.kernels._precise_loops import contract_powers, weigh_powers

# Elements of the matrices between environments that are in memory at once.
_ELEMENTS = 2**21
# Bits of a float.
_BITS = 53


def contract_covariant(X, Y, irrep, coef, zeta, scales):
    """Sum polynomial kernels with the environments of Y times coefficients.

    Parameters
    ----------
    X, Y : EquivariantFeatures
    irrep : str
    coef : ndarray of shape (n_environments_Y, 2 lambda + 1, n_columns)
    zeta : int
    scales : tuple of four ndarray
        Inverse norms of the blocks of X and Y, and of their invariant features; ones where not normalized.

    Returns
    -------
    ndarray of shape (n_environments_X, 2 lambda + 1, n_columns)
    """
    own = scales[0] * scales[2] ** (zeta - 1)
    coef = coef * (scales[1] * scales[3] ** (zeta - 1))[:, None, None]
    out = np.zeros((len(X.species), *coef.shape[1:]))
    for i, m in _ranges(X, Y, coef.shape[1]):
        blocks = _block_products(X, Y, irrep, i, m)
        if irrep == "0e":
            scalars = tuple(one[:, 0, :, 0] for one in blocks)
        else:
            scalars = tuple(one[:, 0, :, 0] for one in _block_products(X, Y, "0e", i, m)) if zeta > 1 else None
        if scalars is None:
            scalars = np.ones((len(i), len(m))), np.zeros((len(i), len(m)))
        part = np.empty((len(i), *coef.shape[1:]))
        contract_powers(*blocks, *scalars, zeta - 1, coef[m], part)
        out[i] = own[i, None, None] * part
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
    out = np.zeros(X.blocks["0e"].shape)
    for i, m in _ranges(X, Y, 1):
        scalars = tuple(one[:, 0, :, 0] for one in _block_products(X, Y, "0e", i, m))
        weights, along = tuple(np.empty((len(i), len(m))) for _ in range(2)), np.empty(len(i))
        weigh_powers(*scalars, zeta - 1, coef[m], *weights, along)
        points = Y.blocks["0e"][m, 0].astype(float, copy=False)
        part = sum(_products(weights[0], points)) + weights[1] @ points
        if scales is not None:
            part -= (along * own[i] ** 2)[:, None] * X.blocks["0e"][i, 0]
        out[i, 0] = (own[i] ** zeta)[:, None] * part
    return out


def _ranges(X, Y, d):
    """Environments of X and all those of Y of the same species."""
    for species in np.intersect1d(X.species, Y.species):
        rows, columns = np.flatnonzero(X.species == species), np.flatnonzero(Y.species == species)
        size = max(1, _ELEMENTS // (len(columns) * d**2))
        for start in range(0, len(rows), size):
            yield rows[start : start + size], columns


def _block_products(X, Y, irrep, i, m):
    """Products of blocks as high and low parts, each (n, d, n_points, d)."""
    p, q = (one.blocks[irrep][rows].astype(float, copy=False) for one, rows in ((X, i), (Y, m)))
    n, d, width = p.shape
    return [one.reshape(n, d, len(m), d) for one in _products(p.reshape(n * d, width), q.reshape(-1, width).T)]


def _products(left, right):
    """Matrix product as the exact product of the leading bits, and the rest."""
    bits = (_BITS - int(np.ceil(np.log2(max(2, left.shape[1]))))) // 2
    first, second = _leading(left, bits, 1), _leading(right, bits, 0)
    return first @ second, (left - first) @ right + first @ (right - second)


def _leading(matrix, bits, axis):
    """Matrix rounded to multiples of a power of two, the same along an axis, with so many bits at most."""
    _, exponent = np.frexp(np.abs(matrix).max(axis=axis, keepdims=True, initial=0.0))
    unit = np.ldexp(1.0, exponent - bits)
    return np.rint(matrix / unit) * unit
