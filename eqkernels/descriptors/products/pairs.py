r"""Blocks of the products of two density coefficients: lambda-SOAP, its derivatives, and the tables that they need.

See :mod:`eqkernels.descriptors.products.channels` for the formula, and for which products are kept in which order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from eqkernels.descriptors.products._cotangent_loops import contract_equivariants, contract_invariants
from eqkernels.descriptors.products._product_loops import fill_derivatives, fill_equivariants, fill_invariants
from eqkernels.descriptors.products.channels import degree_pairs, feature_labels, feature_layout, n_features
from eqkernels.so3 import Irrep, clebsch_gordan_sparse


@dataclass(frozen=True)
class ProductBlock:
    """Base class of blocks made of products of densities, which are those that :class:`FeatureBlock` describes.

    Attributes
    ----------
    irrep : Irrep
    l_max : int
    species : tuple of int
        Atomic numbers of the channels, or numbers of the combinations of species.
    n_radial : int
        Radial functions of each of them.
    group : int
        So many channels at a time are skipped where they are all zero, as those of an absent species.
    extra : tuple of (int, int), default=()
        Labels, species and radial index, of further channels behind these.
    """

    irrep: Irrep
    l_max: int
    species: tuple[int, ...]
    n_radial: int
    group: int
    extra: tuple[tuple[int, int], ...] = ()

    @property
    def shape(self):
        """(2 lambda + 1, n_features)."""
        return self.irrep.dim, self.width

    @property
    def n_channels(self):
        """Number of channels that keep their species."""
        return len(self.species) * self.n_radial + len(self.extra)

    @property
    def width(self):
        """Number of features."""
        return n_features(self.l_max, self.n_channels, self.irrep)

    def labels(self):
        """Species, radial index and degree of the factors of each feature."""
        return feature_labels(self.l_max, self.n_radial, self.species, self.irrep, self.extra)


class PairBlock(ProductBlock):
    """Products of two densities, coupled to one irrep."""

    @cached_property
    def _bases(self):
        return _layout(self.l_max, self.n_channels, self.irrep, 0, self.n_channels)[0]

    def _couplings(self, dtype="d"):
        return pair_couplings(self.l_max, self.irrep.l, self.irrep.p, dtype)

    def fill(self, density, out):
        """Write the features."""
        couplings = self._couplings(density.dtype.char)
        fill_equivariants(density, self.group, self.irrep.l, *couplings, self._bases, out)

    def changing(self, first, width):
        """Features with a factor among the channels ``first`` .. ``first + width - 1``."""
        return _layout(self.l_max, self.n_channels, self.irrep, first, width)[1]

    def fill_derivatives(self, density, owners, changes, first, out):
        """Write the derivatives that belong to changes of the density."""
        bases, _ = _layout(self.l_max, self.n_channels, self.irrep, first, changes.shape[3])
        fill_derivatives(density, self.group, owners, changes, first, self.irrep.l, *self._couplings(), bases, out)

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        contract_equivariants(density, self.group, self.irrep.l, *self._couplings(), self._bases, cotangent, out)


class InvariantBlock(PairBlock):
    """The power spectrum, block 0e: the same products, by loops that need no coupling."""

    def fill(self, density, out):
        """Write the features."""
        fill_invariants(density, self.group, self._bases, out[:, 0])

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        contract_invariants(density, self.group, self._bases, cotangent[:, 0], out)


@lru_cache(maxsize=512)
def _layout(l_max, n_channels, irrep, first, width):
    return feature_layout(l_max, n_channels, irrep, first, width)


@lru_cache(maxsize=128)
def pair_couplings(l_max, lam, parity, dtype="d"):
    """Tables of the Clebsch-Gordan coefficients that couple two density coefficients to one irrep.

    Returns
    -------
    degrees : ndarray of int, shape (n_pairs, 2)
        The coupled (l1, l2).
    rows : ndarray of int, shape (n_pairs,)
        Where the rows (mu, m1) of each pair begin.
    sources : ndarray of int, shape (n_rows, 2)
        The components m2 that contribute to a row. There are at most two: abs(m2) is the sum or the difference of
        abs(m1) and abs(mu), and its sign is fixed by theirs.
    values : ndarray of shape (n_rows, 2)
        Their coefficients, times sqrt 2 for the two orders of the factors; 0 where a row has fewer.
    """
    pairs = degree_pairs(l_max, lam, parity)
    sizes = [(2 * lam + 1) * (2 * l1 + 1) for l1, _ in pairs]
    rows = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    sources, values = np.zeros((rows[-1], 2), dtype=np.int64), np.zeros((rows[-1], 2), dtype=dtype)
    for (l1, l2), first in zip(pairs, rows[:-1], strict=True):
        m1, m2, mu, coefficients = clebsch_gordan_sparse(l1, l2, lam)
        row = first + mu * (2 * l1 + 1) + m1
        # entries of a row are neighbors, since they are sorted
        second = np.concatenate([[0], row[1:] == row[:-1]]).astype(int)
        sources[row, second] = m2
        values[row, second] = np.sqrt(2.0) * coefficients
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), rows[:-1].copy(), sources, values
