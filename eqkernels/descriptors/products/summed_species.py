r"""Products in which one density keeps its species and the other is the sum over all of them.

.. math:: p^{\lambda\mu}_{a n l, n' l'} =
          \sum_{mm'} \langle l m\, l' m' | \lambda\mu \rangle\, c_{anlm}\, \bar c_{n'l'm'} ,
          \qquad \bar c_{nlm} = \sum_a c_{anlm} .

Their number grows with the number of species, not with its square: the compression mu1nu1 of J. P. Darby, J. R.
Kermode, G. Csanyi, npj Comput. Mater. 8, 166 (2022). (With the sum in both places, their mu2, the species are
embedded in one channel, see :mod:`eqkernels.descriptors.density.compression`.) The two factors are different things,
so that both orders of l and l' are kept, without a weight. The channels of a density are here those of the first
factor, then those of the sum.
"""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors.products.channels import degree_pairs
from eqkernels.descriptors.products.pairs import ProductBlock
from eqkernels.so3 import clebsch_gordan


class SummedSpeciesBlock(ProductBlock):
    """Products of the channels of one density with the sum over species of another, coupled to one irrep."""

    @property
    def _pairs(self):
        """Pairs (l1, l2), in both orders, that couple to the irrep."""
        pairs = degree_pairs(self.l_max, self.irrep.l, self.irrep.p)
        return sorted({*pairs, *((l2, l1) for l1, l2 in pairs)})

    @property
    def width(self):
        """Number of features."""
        return len(self._pairs) * self.n_channels * self.n_radial

    def labels(self):
        """Species, radial index and degree of the factors of each feature, the species of the sum being -1."""
        q, k = (part.ravel() for part in np.indices((self.n_channels, self.n_radial)))
        names = [(f"{what}_{factor}", np.int64) for factor in (1, 2) for what in ("species", "n", "l")]
        parts = [np.zeros(0, dtype=names)]
        for l1, l2 in self._pairs:
            labels = np.empty(len(q), dtype=names)
            labels["species_1"], labels["n_1"], labels["l_1"] = (
                np.take(self.species, q // self.n_radial), q % self.n_radial, l1
            )  # fmt: skip
            labels["species_2"], labels["n_2"], labels["l_2"] = -1, k, l2
            parts.append(labels)
        return np.concatenate(parts)

    def fill(self, density, out):
        """Write the features."""
        out[...] = 0
        self._add(density, density, out)

    def changing(self, first, width):
        """All features: each has all species in its second factor."""
        return np.arange(self.width)

    def fill_derivatives(self, density, owners, changes, first, out):
        """Write the derivatives that belong to changes of the density, all of whose channels change."""
        c = np.repeat(density[owners], changes.shape[1], axis=0)
        change, rows = changes.reshape(c.shape), out.reshape(-1, *out.shape[2:])
        self._add(change, c, rows)
        self._add(c, change, rows)

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        start, n = 0, self.n_channels
        for l1, l2 in self._pairs:
            rows, others = slice(l1 * l1, (l1 + 1) ** 2), slice(l2 * l2, (l2 + 1) ** 2)
            coupled = self._coupled(density, l1, l2)
            width = n * coupled.shape[3]
            weights = cotangent[:, :, start : start + width].reshape(len(density), self.irrep.dim, n, -1)
            out[:, rows, :n] += (coupled @ weights.transpose(0, 1, 3, 2)).sum(axis=1)
            by_coupled = density[:, rows, :n][:, None] @ weights  # (i, mu, m1, k)
            coefficients = clebsch_gordan(l1, l2, self.irrep.l).astype(density.dtype)
            out[:, others, n:] += np.einsum("abm,imak->ibk", coefficients, by_coupled, optimize=True)
            start += width

    def _add(self, first, second, out):
        """Add the products of the channels of one density with the summed ones of another."""
        start = 0
        for l1, l2 in self._pairs:
            left, coupled = first[:, l1 * l1 : (l1 + 1) ** 2, : self.n_channels], self._coupled(second, l1, l2)
            width = self.n_channels * coupled.shape[3]
            products = left.transpose(0, 2, 1)[:, None] @ coupled
            out[:, :, start : start + width] += products.reshape(*products.shape[:2], width)
            start += width

    def _coupled(self, density, l1, l2):
        """Coefficients times the summed channels, shape (n, 2 lambda + 1, 2 l1 + 1, n_summed)."""
        coefficients = clebsch_gordan(l1, l2, self.irrep.l).astype(density.dtype)
        summed = density[:, l2 * l2 : (l2 + 1) ** 2, self.n_channels :]
        return np.einsum("abm,ibk->imak", coefficients, summed, optimize=True)
