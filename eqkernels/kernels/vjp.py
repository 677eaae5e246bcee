r"""Vector-Jacobian products of covariant kernels: derivatives of one weighted sum of kernels by all features.

With the weights W, the sum over structures A and B of :math:`\operatorname{tr} W^T k^\lambda(A, B)` depends on an
environment i through its block, through the invariant kernel :math:`k_0` with the power :math:`\zeta - 1`, and through
the norms. Derivatives by positions follow with the vector-Jacobian product of the descriptor.
"""

from __future__ import annotations

import numpy as np

from eqkernels.kernels.centers import center_groups, center_similarity

# Rows of one product of environments: its few temporary arrays take some MB for each thousand columns.
_ROWS = 512


def covariant_vjp(X, Y, irrep, weights, zeta, scales, own_norm, similarity=0.0):
    """Differentiate sum(weights * kernel) for the sum over environments.

    Parameters
    ----------
    X, Y : EquivariantFeatures
    irrep : str
    weights : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)
    zeta : int
    scales : tuple of four ndarray
        Inverse norms of the blocks of X and Y, and of their invariant features; ones where not normalized.
    own_norm : bool or None
        Whether blocks are normalized by their own norm; None: not at all.
    similarity : float, default=0.0
        Of centers of different species, see :mod:`eqkernels.kernels.centers`.

    Returns
    -------
    dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        Derivatives by the features of X.
    """
    out = {key: np.zeros(X.block_shape(key)) for key in dict.fromkeys([irrep, "0e"]) if key in X.blocks}
    for rows, columns in center_groups(X.species, Y.species, similarity):
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            factors = center_similarity(X.species[part], Y.species[columns], similarity)
            of_part = weights[np.ix_(X.structures[part], Y.structures[columns])] * factors[:, :, None, None]
            _add(X, Y, irrep, of_part, zeta, scales, own_norm, part, columns, out)
    return out


def _add(X, Y, irrep, w, zeta, scales, own_norm, i, m, out):
    p, q = (one.block(irrep)[rows].astype(float, copy=False) for one, rows in ((X, i), (Y, m)))
    n, d, width = p.shape
    scale = scales[0][i, None] * scales[1][m]
    products = (p.reshape(n * d, width) @ q.reshape(-1, width).T).reshape(n, d, len(m), d)
    total = np.einsum("imab,iamb->im", w, products) * scale
    if zeta != 1:
        p0, q0 = (one.block("0e")[rows, 0].astype(float, copy=False) for one, rows in ((X, i), (Y, m)))
        scale0 = scales[2][i, None] * scales[3][m]
        k0 = scale0 * (p0 @ q0.T)
        power = k0 ** (zeta - 1)
        slope = (zeta - 1) * total * k0 ** (zeta - 2)
        out["0e"][i, 0] += (scale0 * slope) @ q0
        if own_norm is not None:
            out["0e"][i, 0] -= (np.sum(slope * k0, axis=1) * scales[2][i] ** 2)[:, None] * p0
        scale, total = scale * power, total * power
    w = (w * scale[:, :, None, None]).transpose(0, 2, 1, 3).reshape(n * d, -1)
    out[irrep][i] += (w @ q.reshape(-1, width)).reshape(p.shape)
    add_norm_vjp(X, irrep, i, np.sum(total, axis=1), scales[0][i], own_norm, out)


def add_norm_vjp(X, irrep, rows, along, scale, own_norm, out):
    """Add the derivatives that are due to the inverse norms of some environments.

    Parameters
    ----------
    X : EquivariantFeatures
    irrep : str
    rows : ndarray of int
    along : ndarray of shape (n_rows,)
        What each norm divides.
    scale : ndarray of shape (n_rows,)
        The inverse norms.
    own_norm : bool or None
        Whether it is that of the block, not of the invariant features; None: there is none.
    out : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
    """
    if own_norm:  # N^2 is the norm of p p^T
        p = X.block(irrep)[rows].astype(float, copy=False)
        gram = p @ p.transpose(0, 2, 1)
        out[irrep][rows] -= (along * scale**4)[:, None, None] * (gram @ p)
    elif own_norm is not None:
        p0 = X.block("0e")[rows, 0]
        out["0e"][rows, 0] -= (along * scale**2)[:, None] * p0


def sum_vjps(*terms):
    """Sum dicts of arrays by their keys."""
    out: dict[str, np.ndarray] = {}
    for term in terms:
        for key, array in term.items():
            out[key] = out[key] + array if key in out else array
    return out
