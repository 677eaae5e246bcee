r"""Sums of kernels times coefficients without the training set: what it contributes is contracted once.

A prediction is the sum over training environments j of kernels (:mod:`eqkernels.kernels.covariant`) times coefficients,

.. math::
    y_{i\mu} = \sum_{j\mu'} k^\lambda_{\mu\mu'}(i, j)\, c_{j\mu'}
    = \frac{1}{N_i} \mathbf p_i^{\lambda\mu} \cdot \sum_j \left[ \mathbf s_i \cdot \mathbf s_j \right]^{\zeta - 1}
      \mathbf g_j , \quad
    \mathbf g_j = \frac{1}{N_j} \sum_{\mu'} c_{j\mu'}\, \mathbf p_j^{\lambda\mu'} , \quad
    \mathbf s_j = \frac{\mathbf p_j}{|\mathbf p_j|} .

So a pair of environments costs the lengths of s and g, not the :math:`(2 \lambda + 1)^2` products of the rows of two
blocks. For :math:`\zeta = 1` the sum is a vector of weights, for :math:`\zeta = 2` a matrix
:math:`\mathbf G = \sum_j \mathbf g_j \mathbf s_j^T`, both for each species and of a size that does not grow with the
training set. The matrix is taken where it has fewer elements than the vectors, so that it needs fewer operations too.
"""

from __future__ import annotations

import numpy as np

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels.environments import cost_from_densities, environment_arrays

# Elements of features that are made at once (64 MiB).
_ELEMENTS = 2**23
# Elements of what is contracted (2 GiB): with more, kernels are summed pair by pair.
_MOST_ELEMENTS = 2**28


class Contraction:
    """Sum of a polynomial kernel times coefficients, of which the training set is contracted at the first call.

    Parameters
    ----------
    training_set : EquivariantFeatures
    irrep : str
    zeta : int
    normalize : {"invariant", True, False}
    coef : ndarray of shape (n_environments, 2 lambda + 1, n_columns)
        Coefficients of the environments.
    """

    def __init__(self, training_set, irrep, zeta, normalize, coef):
        self.training_set, self.irrep, self.zeta, self.normalize, self.coef = training_set, irrep, zeta, normalize, coef
        self._widths = training_set.block_shape("0e" if zeta > 1 else irrep)[2], training_set.block_shape(irrep)[2]
        self._of_species = None

    def pays(self):
        """Whether it is cheaper than pairs of environments, in memory that is bounded."""
        counts = np.unique(self.training_set.species, return_counts=True)[1]
        elements = [min(self._elements(n)) for n in counts]
        if sum(elements) > _MOST_ELEMENTS:
            return False
        cost = cost_from_densities(self.training_set, self.irrep, self.normalize)
        return cost is None or counts @ elements < cost * (counts @ counts)

    def __call__(self, X: EquivariantFeatures) -> Floats:
        """Sum for each structure, shape (n_structures, 2 lambda + 1, n_columns)."""
        if self._of_species is None:
            self._of_species = {int(one): self._contract(one) for one in np.unique(self.training_set.species)}
        out = np.zeros((len(X), *self.coef.shape[1:]))
        for species, contracted in self._of_species.items():
            for rows in self._ranges(X, species):
                block, scalars, scale = self._environments(X, rows)
                along = self._along(contracted, scalars).reshape(-1, self.coef.shape[2], block.shape[2])
                np.add.at(out, X.structures[rows], scale[:, None, None] * (block @ along.transpose(0, 2, 1)))
        return out

    def _along(self, contracted, scalars):
        """Return what the blocks of environments are multiplied by, (n, n_columns n_features), or one row for all."""
        if self.zeta == 1:
            return contracted[0]
        if len(contracted) == 1:
            return scalars @ contracted[0]
        return (scalars @ contracted[0].T) ** (self.zeta - 1) @ contracted[1]

    def _contract(self, species):
        """Vector of weights, the matrix G^T, or s and g of the environments of a species."""
        rows = np.flatnonzero(self.training_set.species == species)
        matrix, vectors = self._elements(len(rows))
        parts = (self._contract_rows(part) for part in self._ranges(self.training_set, species))
        if self.zeta == 1:
            return (sum(g.sum(axis=0, keepdims=True) for _, g in parts),)
        if matrix <= vectors:
            out = np.zeros((self._widths[0], self.coef.shape[2] * self._widths[1]))
            for scalars, g in parts:
                out += scalars.T @ g
            return (out,)
        return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _contract_rows(self, rows):
        block, scalars, scale = self._environments(self.training_set, rows)
        g = (self.coef[rows] * scale[:, None, None]).transpose(0, 2, 1) @ block
        return scalars, g.reshape(len(rows), -1)

    def _environments(self, features, rows):
        return environment_arrays(features, self.irrep, self.normalize, rows, self.zeta > 1)

    def _elements(self, n):
        """Elements of the matrix and of the vectors of n environments; so many multiplications a prediction takes."""
        first, second = self._widths[0], self.coef.shape[2] * self._widths[1]
        if self.zeta == 1:
            return second, second
        return first * second if self.zeta == 2 else np.inf, n * (first + second)

    def _ranges(self, features, species):
        rows = np.flatnonzero(features.species == species)
        size = max(1, _ELEMENTS // (self._widths[0] + (self.coef.shape[1] + self.coef.shape[2]) * self._widths[1]))
        return [rows[start : start + size] for start in range(0, len(rows), size)]
