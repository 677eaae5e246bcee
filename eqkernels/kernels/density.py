r"""Covariant kernels straight from density coefficients, without the features in between.

The scalar product of two lambda-SOAP vectors is a contraction of the overlaps of their densities,

.. math:: \mathbf p_i^{\lambda\mu} \cdot \mathbf p_j^{\lambda\mu'} = \sum_{l l'} \sum_{m m' n n'}
          \langle l m\, l' m' | \lambda\mu \rangle \langle l n\, l' n' | \lambda\mu' \rangle\,
          A^l_{mn} A^{l'}_{m'n'} , \qquad A^l_{mn} = \sum_q c^i_{qlm} c^j_{qln} ,

over the pairs l, l' of one parity: the power spectrum is never made. Its cost per pair of environments does not depend
on the square of the number of channels q, so that it pays for many species: with n features of a component, n against
some hundred operations, and in memory (l_max + 1)^2 channels against n for each environment.
"""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.products import pair_couplings
from eqkernels.kernels._overlap_loops import contract_overlaps
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.covariant import _VANISHING, CovariantKernel, _Pair, _Pairs, _zeros
from eqkernels.so3 import Irrep

# Environments of a block of rows: their overlaps with as many others take some MB.
_ROWS_PER_BLOCK = 64


class DensityKernel(CovariantKernel):
    """The :class:`CovariantKernel` of lambda-SOAP, from the features of a :class:`SphericalExpansion`.

    The same numbers as with the features of :class:`LambdaSOAP` of the same parameters. Prefer it where those would not
    fit into memory: with eight species and eight radial functions they are dozens of times larger.

    Parameters
    ----------
    zeta, normalize, aggregate
        As in :class:`CovariantKernel`.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP, SphericalExpansion
    >>> frames = [molecule("H2O"), molecule("NH3")]
    >>> density = SphericalExpansion(n_max=4, l_max=3).fit_transform(frames)
    >>> features = LambdaSOAP(n_max=4, l_max=3, irreps="0e+1o").fit_transform(frames)
    >>> one, other = DensityKernel()(density, irrep="1o"), CovariantKernel()(features, irrep="1o")
    >>> bool(np.allclose(one, other))
    True
    """

    def __init__(self, zeta=2, normalize="invariant", aggregate="sum"):
        super().__init__(zeta, normalize, aggregate)

    def __call__(self, X, Y=None, irrep="0e"):
        """Kernel matrices between structures.

        Parameters
        ----------
        X, Y : EquivariantFeatures
            Density coefficients of the two sets of structures; None for Y means X.
        irrep : str, default="0e"
            Any irrep that two densities couple to, e.g. ``"1o"``.

        Returns
        -------
        ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Raises
        ------
        ValueError
            If X or Y are no density coefficients, or not of the same descriptor.
        """
        for one in (X, X if Y is None else Y):
            _check_density(one)
        scalars = EquivariantFeatures({"0e": X.blocks["0e"]}, X.species, X.structures, X.atoms, X.n_atoms)
        self._check(scalars, None, "0e")
        if Y is not None and [b.shape[1:] for b in X.blocks.values()] != [b.shape[1:] for b in Y.blocks.values()]:
            raise ValueError("X and Y have different channels: make them with the same fitted descriptor")
        left = _Densities(X, irrep, self.normalize, self._needs_scalars)
        right = left if Y is None else _Densities(Y, irrep, self.normalize, self._needs_scalars)
        out, moduli = _zeros(left, right)
        for pair in _DensityPairs(left, right):
            pair.add(self._weights(pair), out, moduli)
        return self._aggregated(out, moduli, left, right)

    def slopes(self, X, Y):
        """Not available: without the features there are no derivatives by them."""
        return TensorKernel.slopes(self, X, Y)

    def vjp(self, X, Y, irrep, weights):
        """Not available, as slopes."""
        return TensorKernel.vjp(self, X, Y, irrep, weights)


class _Densities:
    """Density coefficients with the norms of their environments."""

    def __init__(self, features, irrep, normalize, needs_scalars):
        self.features, self.irrep, self.l_max = features, irrep, len(features.blocks) - 1
        self.block = np.empty((0, Irrep.parse(irrep).dim, 0))  # of the features that are not made
        self.counts = np.diff(features.offsets)
        n = len(features.species)
        invariant = np.concatenate([np.zeros(0), *(self._norms(rows, "0e") for rows in self._ranges(n))])
        own = invariant
        if normalize is True and irrep != "0e":
            own = np.concatenate([np.zeros(0), *(self._norms(rows, irrep) for rows in self._ranges(n))])
        present = own > _VANISHING * invariant
        self.scale = np.ones(n) if normalize is False else np.where(present, 1 / np.sqrt(np.where(present, own, 1)), 0)
        scale = np.where(invariant > 0, 1 / np.sqrt(np.where(invariant > 0, invariant, 1)), 0)
        self.scalar_scale = (np.ones(n) if normalize is False else scale) if needs_scalars else None

    def chunks(self, species):
        rows = np.flatnonzero(self.features.species == species)
        return [rows[part] for part in self._ranges(len(rows))]

    def products(self, rows, other, columns, irrep):
        """Scalar products of lambda-SOAP vectors, shape (n_rows, n_columns, 2 lambda + 1, 2 lambda + 1)."""
        overlaps = [
            np.einsum("imq,jnq->ijmn", block[rows], other.features.blocks[key][columns], optimize=True)
            for key, block in self.features.blocks.items()
        ]
        return self._contracted(overlaps, (len(rows), len(columns)), irrep)

    def _norms(self, rows, irrep):
        """Frobenius norms of the products of environments with themselves."""
        overlaps = [
            np.einsum("imq,inq->imn", block[rows], block[rows], optimize=True)
            for block in self.features.blocks.values()
        ]
        products = self._contracted(overlaps, (len(overlaps[0]), 1), irrep)
        return np.linalg.norm(products[:, 0], axis=(1, 2))

    def _contracted(self, overlaps, shape, irrep):
        irrep = Irrep.parse(irrep)
        flat = np.concatenate([one.reshape(*shape, -1) for one in overlaps], axis=2, dtype=float)
        starts = np.cumsum([0, *((2 * l + 1) ** 2 for l in range(self.l_max))])
        out = np.zeros((*shape, irrep.dim, irrep.dim))
        contract_overlaps(flat, starts, *pair_couplings(self.l_max, irrep.l, irrep.p), out)
        return out

    @staticmethod
    def _ranges(n):
        return [slice(start, min(start + _ROWS_PER_BLOCK, n)) for start in range(0, n, _ROWS_PER_BLOCK)]


class _DensityPair(_Pair):
    """Environments of one species in a range of rows and a range of columns."""

    def __init__(self, left, row, right, column, mirror):
        products = left.products(row, right, column, left.irrep)
        self.products = np.ascontiguousarray(products.transpose(0, 2, 1, 3))
        self.scale = left.scale[row, None] * right.scale[column]
        self.structures = left.features.structures[row], right.features.structures[column]
        self.mirror = mirror
        if left.scalar_scale is not None:
            scalars = left.products(row, right, column, "0e")[:, :, 0, 0]
            self.scalars = np.maximum(scalars * left.scalar_scale[row, None] * right.scalar_scale[column], 0.0)


class _DensityPairs(_Pairs):
    """All pairs of ranges of one species."""

    def _pair(self, key, row, column, mirror):
        return _DensityPair(self.left, row, self.right, column, mirror)


def _check_density(features):
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(f"expected EquivariantFeatures of a SphericalExpansion, got {type(features).__name__}")
    expected = [f"{l}{'eo'[l % 2]}" for l in range(len(features.blocks))]
    if list(features.blocks) != expected or len({block.shape[2] for block in features.blocks.values()}) != 1:
        raise ValueError(
            f"the blocks {list(features.blocks)} are not those of density coefficients, {expected} with the same "
            "channels: make them with SphericalExpansion, or use CovariantKernel for features of LambdaSOAP"
        )
