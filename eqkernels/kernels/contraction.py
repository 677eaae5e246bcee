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
For invariants, :math:`\mathbf g_j = c_j \mathbf s_j`, so that s and c are enough.
"""

from __future__ import annotations

import numpy as np

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels.centers import all_alike
from eqkernels.kernels.environments import cost_from_densities, environment_arrays, environment_counts

# Elements of features that are made at once (64 MiB).
_ELEMENTS = 2**23
# Elements of an array of which a part may be taken, and the largest part that is worth it.
_LARGE, _WORTH = 2**19, 0.6
# Elements of what is contracted (512 MiB): with more, kernels are summed pair by pair.
_MOST_ELEMENTS = 2**26
# So many (64 MiB) always may be contracted.
_FEW_ELEMENTS = 2**23


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
    mean : bool
        Whether the sum over the environments of a structure is divided by their number.
    alike : bool, default=False
        Whether the centers of all species are compared, not only those of the same.
    """

    def __init__(self, training_set, irrep, zeta, normalize, coef, mean, alike=False):
        self.alike = alike
        training_set = all_alike(training_set) if alike else training_set
        self.training_set, self.irrep, self.zeta, self.normalize = training_set, irrep, zeta, normalize
        self.coef, self.mean = coef, mean
        self._widths = training_set.block_shape("0e" if zeta > 1 else irrep)[2], training_set.block_shape(irrep)[2]
        self._of_species = None

    def pays(self):
        """Whether it is cheaper than pairs of environments, in memory that is bounded."""
        counts = np.unique(self.training_set.species, return_counts=True)[1]
        elements = [min(self._elements(n)) for n in counts]
        if sum(elements) > self._room():
            return False
        cost = cost_from_densities(self.training_set, self.irrep, self.normalize)
        return cost is None or counts @ elements < cost * (counts @ counts)

    def _room(self):
        """Elements that may be held: of a training set of densities, which is small, not many times as many."""
        density = self.training_set.density
        return _MOST_ELEMENTS if density is None else min(_MOST_ELEMENTS, max(_FEW_ELEMENTS, 4 * density.density.size))

    def __call__(self, X: EquivariantFeatures) -> Floats:
        """Sum for each structure, shape (n_structures, 2 lambda + 1, n_columns)."""
        out = np.zeros((len(X), *self.coef.shape[1:]))
        for contracted, rows, (block, scalars, scale) in self._parts(X):
            for part in _alike(scalars) if contracted.is_large else [slice(None)]:
                sums = contracted(block[part], None if scalars is None else scalars[part], scale[part])
                np.add.at(out, X.structures[rows[part]], sums)
        return out / environment_counts(X)[:, None, None] if self.mean else out

    def scalars_vjp(self, X: EquivariantFeatures, cotangents: Floats) -> Floats:
        """Differentiate sum(cotangents * sums of structures) by invariant features, for the irrep 0e.

        Parameters
        ----------
        X : EquivariantFeatures
        cotangents : ndarray of shape (n_structures, 1, n_columns)

        Returns
        -------
        ndarray of shape (n_environments, 1, n_features)
        """
        return self.scalars_and_vjp(X, cotangents)[1]

    def scalars_and_vjp(self, X: EquivariantFeatures, cotangents: Floats) -> tuple[Floats, Floats]:
        """Sum for each structure, and its derivatives, for the irrep 0e: both take the products with the training set.

        Parameters
        ----------
        X : EquivariantFeatures
        cotangents : ndarray of shape (n_structures, 1, n_columns)

        Returns
        -------
        sums : ndarray of shape (n_structures, 1, n_columns)
            As of calling this.
        gradient : ndarray of shape (n_environments, 1, n_features)
            As of ``scalars_vjp``.
        """
        sums = np.zeros((len(X), 1, self.coef.shape[2]))
        if self.mean:
            cotangents = cotangents / environment_counts(X)[:, None, None]
        out = np.zeros(X.block_shape("0e"))
        for contracted, rows, (block, scalars, scale) in self._parts(X):
            # the sum is that of s.along, of which the degree in s is zeta
            along = contracted.along(scalars).reshape(-1, self.coef.shape[2], block.shape[2])
            own = np.matmul(np.broadcast_to(along, (len(rows), *along.shape[1:])), block.transpose(0, 2, 1))[:, :, 0]
            np.add.at(sums, (X.structures[rows], 0), scale[:, None] * own)
            weights = self.zeta * scale[:, None] * cotangents[X.structures[rows], 0]
            if weights.shape[1] == 1:
                gradient = weights * along[:, 0]
            else:
                gradient = np.einsum("ik,ikf->if", weights, np.broadcast_to(along, (len(rows), *along.shape[1:])))
            if self.normalize is not False:
                unit = scale[:, None] * block[:, 0] if scalars is None else scalars
                gradient -= np.einsum("if,if->i", gradient, unit)[:, None] * unit
            out[rows, 0] = gradient
        return sums / environment_counts(X)[:, None, None] if self.mean else sums, out

    def _parts(self, X):
        """Contracted environments of a species, and some environments of X of this species: rows, arrays."""
        if self._of_species is None:
            self._of_species = {
                int(one): _Contracted(self._contract(one), self.zeta, self.coef.shape[2], self.irrep == "0e")
                for one in np.unique(self.training_set.species)
            }
        X = all_alike(X) if self.alike else X
        for species, contracted in self._of_species.items():
            for rows in self._ranges(X, species):
                yield contracted, rows, self._environments(X, rows)

    def _contract(self, species):
        """Vector of weights, the matrix G^T, or s and g of the environments of a species, s and c of invariants."""
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
        if self.irrep == "0e":
            return np.concatenate([scalars for scalars, _ in parts]), self.coef[rows, 0]
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


class _Contracted:
    """Sum over the environments of a species, for blocks and scalars of others.

    Environments without neighbors of some species have no features of these: only the rest of a large array is read.
    Such parts are kept, the last of them, as long as they are not larger than the whole.
    """

    def __init__(self, arrays, zeta, n_columns, invariant):
        self.arrays, self.zeta, self.n_columns = arrays, zeta, n_columns
        self.has_coef = invariant and len(arrays) == 2
        self.is_large = zeta > 1 and sum(one.size for one in arrays) > _LARGE
        self._kept = {}

    def __call__(self, block, scalars, scale):
        """Compute sums (n, d, n_columns)."""
        arrays = self.arrays
        if self.is_large and len(scalars):
            of_scalars, of_block = scalars.any(axis=0), block.any(axis=(0, 1))
            if of_scalars.mean() * of_block.mean() < _WORTH:
                arrays = self._part(of_scalars, of_block)
                block, scalars = block.compress(of_block, axis=2), scalars.compress(of_scalars, axis=1)
        if self.has_coef:
            return ((scalars @ arrays[0].T) ** self.zeta @ arrays[1])[:, None]
        along = self._product(arrays, scalars)
        sums = block @ along.reshape(len(along), self.n_columns, block.shape[2]).transpose(0, 2, 1)
        return scale[:, None, None] * sums

    def along(self, scalars):
        """Return what the blocks are multiplied by, (n, n_columns n_features), or one row for all."""
        return self._product(self.arrays, scalars)

    def _product(self, arrays, scalars):
        if self.zeta == 1:
            return arrays[0]
        if len(arrays) == 1:
            return scalars @ arrays[0]
        powers = (scalars @ arrays[0].T) ** (self.zeta - 1)
        if not self.has_coef:
            return powers @ arrays[1]
        weighted = powers[:, None] * arrays[1].T
        return (weighted.reshape(-1, len(arrays[0])) @ arrays[0]).reshape(len(scalars), -1)

    def _part(self, of_scalars, of_block):
        key = of_scalars.tobytes() + of_block.tobytes()
        part = self._kept.pop(key, None)
        if part is None:
            of_columns = np.tile(of_block, self.n_columns)
            if len(self.arrays) == 1:
                part = (self.arrays[0][np.ix_(of_scalars, of_columns)],)
            elif self.has_coef:
                part = np.ascontiguousarray(self.arrays[0][:, of_scalars]), self.arrays[1]
            else:
                part = tuple(
                    np.ascontiguousarray(one[:, used])
                    for one, used in zip(self.arrays, (of_scalars, of_columns), strict=True)
                )
        self._kept[key] = part
        room = sum(one.size for one in self.arrays)
        while len(self._kept) > 1 and sum(one.size for part in self._kept.values() for one in part) > room:
            self._kept.pop(next(iter(self._kept)))
        return part


def _alike(scalars):
    """Environments with the same neighboring species: ranges or arrays of rows."""
    present = scalars != 0
    if present.all():
        return [slice(None)]
    keys = np.packbits(present, axis=1)
    _, kinds = np.unique(keys.view(np.dtype((np.void, keys.shape[1]))).ravel(), return_inverse=True)
    order = np.argsort(kinds, kind="stable")
    return np.split(order, np.cumsum(np.bincount(kinds))[:-1])
