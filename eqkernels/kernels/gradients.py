r"""Derivatives of kernels by the invariant features of environments.

The scalar kernel of a structure A with one environment m depends on the features of its environments through their
scalar products, with each other and with themselves, so that

.. math:: \frac{\partial k(A, m)}{\partial \mathbf p_i} = a_{im}\, \mathbf p_m + b_{im}\, \mathbf p_i .

With these two matrices and the derivatives of the features follow those of each k(A, m) by positions, from which
models are fitted to forces (A. P. Bartok, G. Csanyi, Int. J. Quantum Chem. 115, 1051 (2015)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels.kernels.centers import center_groups, center_similarity


@dataclass(frozen=True)
class KernelGradient:
    """Derivatives by a range of the features.

    Attributes
    ----------
    points : ndarray of shape (n_centers, n_points)
        Factors a of the features of the points.
    own : ndarray of shape (n_centers, n_points)
        Factors b of the features of the environment itself.
    columns : (int, int) or None
        First of the features and the one after the last; None: all.
    """

    points: np.ndarray
    own: np.ndarray
    columns: tuple[int, int] | None = None

    def times(self, factor):
        """Gradient of the kernel times a number, or times an array (n_centers, n_points)."""
        return KernelGradient(factor * self.points, factor * self.own, self.columns)

    def spread(self, rows, n_centers, columns):
        """Gradient for all centers, when these are those of some rows and of a range of the features."""
        points, own = np.zeros((2, n_centers, self.points.shape[1]))
        points[rows], own[rows] = self.points, self.own
        return KernelGradient(points, own, self.columns if columns is None else columns)


def sum_gradients(gradients):
    """Sum those by the same features.

    Parameters
    ----------
    gradients : list of KernelGradient

    Returns
    -------
    list of KernelGradient
    """
    sums: dict[tuple | None, KernelGradient] = {}
    for one in gradients:
        other = sums.get(one.columns)
        if other is not None:
            one = KernelGradient(one.points + other.points, one.own + other.own, one.columns)
        sums[one.columns] = one
    return list(sums.values())


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
    if np.diff(Y.offsets).max(initial=0) > 1:
        raise ValueError("gradients are those of kernels with single environments: make Y by split_centers()")
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
