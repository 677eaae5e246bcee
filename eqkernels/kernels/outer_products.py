r"""Kernels between structures of many environments, without pairs of environments.

For :math:`\zeta = 2` the sum over pairs of environments is a scalar product of sums over environments,

.. math::
    \sum_{ij} \frac{\mathbf p_i^{\lambda\mu} \cdot \mathbf p_j^{\lambda\mu'}}{N_i N_j}\, \mathbf s_i \cdot \mathbf s_j
    = \mathbf T^\mu(A) \cdot \mathbf T^{\mu'}(B) , \quad
    \mathbf T^\mu(A) = \sum_{i \in A} \frac{\mathbf p_i^{\lambda\mu}}{N_i} \otimes \mathbf s_i

with the normalized invariant features s, for each species of the centers; for :math:`\zeta = 1` T is the sum of the
features. The work grows with the number of environments and with the square of the number of structures, not with the
square of the number of environments. T is made for some of the invariant features at once.
"""

from __future__ import annotations

import numpy as np

from eqkernels._progress import advance
from eqkernels.kernels.environments import cost_from_densities, environment_arrays

# Elements of all T that are in memory at once (128 MiB).
_ELEMENTS = 2**24
# Operations on single environments and their features take this many times as long as those of large products.
_OVERHEAD = 3
# Elements of features that are made at once (64 MiB).
_FEATURES = 2**23


def operations(X, Y, irrep, zeta, normalize):
    """Operations by pairs of environments, and by sums over environments; infinite where there are no such sums.

    Parameters
    ----------
    X, Y : EquivariantFeatures
        None for Y means X.
    irrep : str
    zeta : int
    normalize : {"invariant", True, False}

    Returns
    -------
    pairs, sums : float
    """
    Y = X if Y is None else Y
    _, d, width = X.block_shape(irrep)
    n_scalars = X.block_shape("0e")[2] if zeta > 1 else 0
    of_pair = d**2 * width + n_scalars
    if X.density is not None and Y.density is not None:
        of_pair = min(of_pair, cost_from_densities(X, irrep, normalize) or of_pair)
    pairs = sums = 0.0
    for species in np.intersect1d(X.species, Y.species):
        n, m = (float(np.sum(features.species == species)) for features in (X, Y))
        pairs += n * m * of_pair
        sums += (_OVERHEAD * (n + m) + d * float(len(X)) * len(Y)) * d * width * max(n_scalars, 1)
    return pairs, sums if zeta <= 2 else np.inf


def outer_product_kernel(X, Y, irrep, zeta, normalize):
    """Sum of kernels over all pairs of environments of two sets of structures.

    Parameters
    ----------
    X, Y : EquivariantFeatures
        The same object for a symmetric matrix.
    irrep : str
    zeta : {1, 2}
    normalize : {"invariant", True, False}

    Returns
    -------
    kernel : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)
    moduli : ndarray of shape (n_structures_X, n_structures_Y)
        Upper bound of the sum of the moduli of all terms.
    """
    d = X.block_shape(irrep)[1]
    matrix, moduli = np.zeros((len(X) * d, len(Y) * d)), np.zeros((len(X), len(Y)))
    common = np.intersect1d(X.species, Y.species)
    pairs = sum(np.sum(X.species == one) * np.sum(Y.species == one) for one in common)
    for species in common:
        sides = [_Side(one, species, irrep, zeta, normalize) for one in ((X,) if X is Y else (X, Y))]
        share = pairs / len(common) / (2 if X is Y else 1)
        for part, weight in _ranges(sides):
            sums = [side.sums(part) for side in sides]
            matrix += sums[0] @ sums[-1].T
            advance(share * weight)
        moduli += sides[0].sizes[:, None] * sides[-1].sizes
    return matrix.reshape(len(X), d, len(Y), d).transpose(0, 2, 1, 3), moduli


def _ranges(sides):
    """Ranges of the invariant features, and what part of all each is."""
    n_scalars, width, n_structures = sides[0].n_scalars, sides[0].width, sum(len(side.features) for side in sides)
    size = min(n_scalars, max(1, _ELEMENTS // (n_structures * width)))
    for start in range(0, n_scalars, size):
        part = slice(start, min(start + size, n_scalars))
        yield part, (part.stop - start) / n_scalars


class _Side:
    """Environments of a species in a set of structures.

    Attributes
    ----------
    sizes : ndarray of shape (n_structures,)
        Sum of the square roots of the kernel of each environment with itself, after the first of the sums.
    """

    def __init__(self, features, species, irrep, zeta, normalize):
        self.features, self.options = features, (irrep, normalize)
        self.rows = np.flatnonzero(features.species == species)
        self.zeta, (_, self.dim, n_features) = zeta, features.block_shape(irrep)
        self.n_scalars, self.width = features.block_shape("0e")[2] if zeta == 2 else 1, self.dim * n_features
        self.offsets = np.searchsorted(features.structures[self.rows], np.arange(len(features) + 1))
        self.step = max(1, _FEATURES // (self.width + self.n_scalars))
        self.sizes = np.zeros(len(features))

    def sums(self, part):
        """T of all structures for a range of the invariant features, (n_structures d, n_features n_part)."""
        n_part = part.stop - part.start
        out = np.zeros((len(self.features), self.width, n_part))
        for first, last in self._structures():
            rows, block, scalars = self._environments(first, last)
            if part.start == 0:
                norms = np.sqrt(np.einsum("if,if->i", block, block) * np.einsum("if,if->i", scalars, scalars))
                self.sizes += np.bincount(self.features.structures[rows], norms, minlength=len(self.features))
            start, scalars = self.offsets[first], np.ascontiguousarray(scalars[:, part])
            for k in range(first, last):
                own = slice(self.offsets[k] - start, self.offsets[k + 1] - start)
                if own.start < own.stop:
                    np.matmul(block[own].T, scalars[own], out=out[k])
        return out.reshape(len(self.features) * self.dim, -1)

    def _structures(self):
        """Ranges of structures whose features are made at once."""
        first, n = 0, len(self.features)
        while first < n:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + self.step, side="right")) - 1
            last = min(max(last, first + 1), n)
            yield first, last
            first = last

    def _environments(self, first, last):
        """Rows of the environments, their scaled blocks (n, d n_features) and their scalars (n, n_scalars)."""
        rows = self.rows[self.offsets[first] : self.offsets[last]]
        irrep, normalize = self.options
        block, scalars, scale = environment_arrays(self.features, irrep, normalize, rows, self.zeta == 2)
        block = (scale[:, None, None] * block).reshape(len(rows), self.width)
        return rows, block, np.ones((len(rows), 1)) if scalars is None else scalars
