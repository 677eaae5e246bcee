r"""Derivatives of kernels by the features of environments.

The kernel of a structure A with one environment m depends on the features of its environments through their scalar
products, with each other and with themselves. That of scalars has

.. math:: \frac{\partial k(A, m)}{\partial \mathbf p_i} = a_{im}\, \mathbf p_m + b_{im}\, \mathbf p_i ,

that of tensors, with the scalar products :math:`\mathbf p_i^\mu \cdot \mathbf p_m^\nu` of a block :math:`\lambda`,

.. math:: \frac{\partial k_{\mu\nu}(A, m)}{\partial \mathbf p_i^{0}} = a_{im}^{\mu\nu}\, \mathbf p_m^0 +
    b_{im}^{\mu\nu}\, \mathbf p_i^0 , \quad
    \frac{\partial k_{\mu\nu}(A, m)}{\partial \mathbf p_i^{\lambda\kappa}} = \delta_{\kappa\mu}\, a_{im}\,
    \mathbf p_m^{\lambda\nu} + b_{im}^{\mu\nu}\, \mathbf q_i^{\lambda\kappa} ,

where the last term is that of a norm of the block itself. With these factors and the derivatives of the features follow
those of each k(A, m) by positions, from which models are fitted to forces (A. P. Bartok, G. Csanyi, Int. J. Quantum
Chem. 115, 1051 (2015)) and to derivatives of dipoles and polarizabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eqkernels.kernels.centers import center_groups, center_similarity


@dataclass(frozen=True)
class KernelGradient:
    """Derivatives by a range of the features of a block.

    Attributes
    ----------
    points : ndarray of shape (n_centers, n_points) or (n_centers, n_points, 2 lambda + 1, 2 lambda + 1), or None
        Factors a of the features of the points: the former for scalar kernels and for the block of the tensor itself,
        the latter for the invariant features of a kernel of tensors. None: zero.
    own : ndarray of that shape, with one for each pair of components wherever the kernel has such, or None
        Factors b of the features of the environment itself. None: zero.
    columns : (int, int) or None
        First of the features and the one after the last; None: all.
    block : str
        The features: ``"0e"`` or the irrep of the kernel.
    direction : ndarray of shape (n_centers, 2 lambda + 1, n_columns), or None
        What ``own`` multiplies; None: the features of the environment.
    lift : ndarray of shape (n_centers, 2 lambda + 1, d), or None
        Matrices that make features of the kernel from the d components of the block, as dipoles of atoms make a
        quadrupole.
    lifted : ndarray of shape (n_points, 2 lambda + 1, n_columns), or None
        Features of the points that were made so, which ``points`` multiplies.
    """

    points: np.ndarray | None
    own: np.ndarray | None
    columns: tuple[int, int] | None = None
    block: str = "0e"
    direction: np.ndarray | None = None
    lift: np.ndarray | None = None
    lifted: np.ndarray | None = None

    def times(self, factor):
        """Gradient of the kernel times a number or an array (n_centers, n_points), or with more axes for scalars."""
        return replace(self, points=_times(self.points, factor), own=_times(self.own, factor))

    def spread(self, rows, n_centers, columns):
        """Gradient for all centers, when these are those of some rows and of a range of the features."""

        def spread(array):
            if array is None:
                return None
            out = np.zeros((n_centers, *array.shape[1:]))
            out[rows] = array
            return out

        arrays = {name: spread(getattr(self, name)) for name in ("points", "own", "direction", "lift")}
        return replace(self, columns=self.columns if columns is None else columns, **arrays)


def _times(array, factor):
    """Product of arrays (n_centers, n_points) or with two axes of components more."""
    if array is None or not np.ndim(factor) or np.ndim(factor) == array.ndim:
        return None if array is None else factor * array
    if array.ndim == 2:
        return array[:, :, None, None] * factor
    return array * factor[:, :, None, None]


def sum_gradients(gradients):
    """Sum those by the same features.

    Parameters
    ----------
    gradients : list of KernelGradient or PositionGradient

    Returns
    -------
    list of KernelGradient or PositionGradient
    """
    sums: dict[tuple, Any] = {}
    for k, one in enumerate(gradients):
        if one.block == "positions" or one.lift is not None:
            sums[(k,)] = one
            continue
        key = one.block, one.columns, None if one.direction is None else k
        other = sums.get(key)
        if other is not None:
            points, own = (_sum(getattr(one, name), getattr(other, name)) for name in ("points", "own"))
            one = replace(one, points=points, own=own)
        sums[key] = one
    return list(sums.values())


def _sum(one, other):
    if one is None or other is None:
        return other if one is None else one
    return one + other


def polynomial_gradient(X, Y, zeta, scales, mean, similarity=0.0):
    r"""Gradient of the sum over environments of :math:`u^\zeta`, u a scaled scalar product.

    Parameters
    ----------
    X, Y : EquivariantFeatures
        Structures, and structures of one environment at most.
    zeta : int
    scales : pair of ndarray of shape (n_centers,), or None
        Inverse norms of the features of X and Y; None: they are not normalized.
    mean : bool
        Whether the kernel is the mean over environments.
    similarity : float, default=0.0
        Of centers of different species, see :mod:`eqkernels.kernels.centers`.

    Returns
    -------
    KernelGradient
    """
    _check_single(Y)
    ones = np.ones(len(X.species)), np.ones(len(Y.species))
    left, right = ones if scales is None else scales
    counts = np.diff(X.offsets)[X.structures] if mean else ones[0]
    points, own = np.zeros((2, len(X.species), len(Y)))
    for i, m in center_groups(X.species, Y.species, similarity):
        scale = left[i, None] * right[m]
        product = scale * (X.block("0e")[i, 0] @ Y.block("0e")[m, 0].T)
        slope = zeta * product ** (zeta - 1) / counts[i, None]
        slope *= center_similarity(X.species[i], Y.species[m], similarity)
        target = np.ix_(i, Y.structures[m])
        points[target] = scale * slope
        if scales is not None:  # moving along the features changes nothing
            own[target] = -slope * product * left[i, None] ** 2
    return KernelGradient(points, own)


def covariant_gradient(X, Y, irrep, zeta, scales, own_norm, mean, similarity=0.0):
    r"""Gradients of the sum over environments of :math:`u^{\zeta - 1}` times a scaled block of scalar products.

    Parameters
    ----------
    X, Y : EquivariantFeatures
        Structures, and structures of one environment at most.
    irrep : str
        Not 0e.
    zeta : int
    scales : tuple of four ndarray
        Inverse norms of the blocks of X and Y, and of their invariant features; ones where not normalized.
    own_norm : bool or None
        Whether blocks are normalized by their own norm; None: not at all.
    mean : bool
        Whether the kernel is the mean over environments.
    similarity : float, default=0.0
        Of centers of different species, see :mod:`eqkernels.kernels.centers`.

    Returns
    -------
    list of KernelGradient
    """
    _check_single(Y)
    (n, d, _), n_points = X.block_shape(irrep), len(Y)
    along, across = np.zeros((2, n, n_points, d, d))
    points, direction = np.zeros((n, n_points)), None
    counts = np.diff(X.offsets)[X.structures] if mean else np.ones(n)
    for i, m in center_groups(X.species, Y.species, similarity):
        p, q = (one.block(irrep)[rows].astype(float, copy=False) for one, rows in ((X, i), (Y, m)))
        products = (p.reshape(len(i) * d, -1) @ q.reshape(len(m) * d, -1).T).reshape(len(i), d, len(m), d)
        products = products.transpose(0, 2, 1, 3)
        target, scale = np.ix_(i, Y.structures[m]), scales[0][i, None] * scales[1][m] / counts[i, None]
        scale *= center_similarity(X.species[i], Y.species[m], similarity)
        if zeta != 1:
            scale0 = scales[2][i, None] * scales[3][m]
            k0 = scale0 * (X.block("0e")[i, 0].astype(float) @ Y.block("0e")[m, 0].astype(float).T)
            slope = (zeta - 1) * scale * k0 ** (zeta - 2)
            across[target] = (slope * scale0)[:, :, None, None] * products
            if own_norm is not None:  # moving along the invariant features changes nothing
                along[target] -= (slope * k0 * scales[2][i, None] ** 2)[:, :, None, None] * products
            scale = scale * k0 ** (zeta - 1)
        points[target] = scale
        if own_norm is False:
            along[target] -= (scale * scales[0][i, None] ** 2)[:, :, None, None] * products
    gradients = [KernelGradient(points, None, block=irrep)]
    if own_norm:
        own, direction = _of_own_norm(X, Y, irrep, scales[0], points)
        gradients.append(KernelGradient(None, own, block=irrep, direction=direction))
    if zeta != 1 or own_norm is False:
        gradients.append(KernelGradient(across if zeta != 1 else None, None if own_norm is None else along))
    return gradients


def _of_own_norm(X, Y, irrep, scale, points):
    """Factors of the change of the norms, whose fourth power is that of the matrix of scalar products."""
    p, q = (one.block(irrep).astype(float, copy=False) for one in (X, Y))
    n, d, width = p.shape
    own = np.zeros((n, len(Y), d, d))
    products = (p.reshape(n * d, width) @ q.reshape(-1, width).T).reshape(n, d, len(Y.species), d)
    own[:, Y.structures] = products.transpose(0, 2, 1, 3)
    own *= -points[:, :, None, None]
    gram = p @ p.transpose(0, 2, 1)
    return own, scale[:, None, None] ** 4 * (gram @ p)


def _check_single(Y):
    if np.diff(Y.offsets).max(initial=0) > 1:
        raise ValueError("gradients are those of kernels with single environments: make Y by split_centers()")
