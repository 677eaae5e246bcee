r"""The block of pseudoscalars: products of three density coefficients, of which the channels may be contracted.

See :mod:`eqkernels.descriptors.products.channels` for the formula, and for which products are kept in which order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eqkernels.descriptors.products._triple_loops import add_pseudoscalars, contract_pseudoscalars
from eqkernels.descriptors.products.channels import degree_triples, feature_labels, n_features, triple_channels
from eqkernels.descriptors.products.pairs import ProductBlock
from eqkernels.so3 import clebsch_gordan_sparse

# The species of channels that are made of several.
_ALL_SPECIES = (-1,)


@dataclass(frozen=True)
class TripleBlock(ProductBlock):
    """Products of three densities, coupled to the irrep 0o.

    Attributes
    ----------
    contraction : ndarray of shape (l_max + 1, n_channels, n_components), optional
        What the channels of each degree are contracted with; None: the channels themselves.
    """

    contraction: np.ndarray | None = None

    @property
    def _n_factors(self):
        """Number of channels that the factors have, after contraction."""
        return self.n_channels if self.contraction is None else self.contraction.shape[2]

    @property
    def width(self):
        """Number of features."""
        return n_features(self.l_max, self._n_factors, self.irrep)

    def labels(self):
        """Species, radial index and degree of the factors of each feature."""
        if self.contraction is None:
            return super().labels()
        return feature_labels(self.l_max, self._n_factors, _ALL_SPECIES, self.irrep)

    def _factor(self, density, first=0):
        """Coefficients to be multiplied, from those of the channels from ``first`` on."""
        if self.contraction is None:
            return density
        matrices = self.contraction[:, first : first + density.shape[2]].astype(density.dtype, copy=False)
        parts = [density[:, l * l : (l + 1) ** 2] @ matrix for l, matrix in enumerate(matrices)]
        return np.concatenate(parts, axis=1)

    def fill(self, density, out):
        """Write the features."""
        out[...] = 0
        factor = self._factor(density)
        add_pseudoscalars(factor, factor, factor, *_couplings(self.l_max), out[:, 0])

    def changing(self, first, width):
        """Features with a factor among the channels ``first`` .. ``first + width - 1``."""
        if self.contraction is not None:
            return np.arange(self.width)
        factors = [np.stack(triple_channels(self.n_channels, *degrees)) for degrees in degree_triples(self.l_max)]
        chosen = [((q >= first) & (q < first + width)).any(axis=0) for q in factors]
        return np.flatnonzero(np.concatenate(chosen))

    def fill_derivatives(self, density, owners, changes, first, out):
        """Write the derivatives that belong to changes of the density."""
        chosen = self.changing(first, changes.shape[3])
        for e, owner in enumerate(owners):
            c = np.repeat(self._factor(density[owner, None]), changes.shape[1], axis=0)
            total = np.zeros((len(c), self.width))
            if self.contraction is None:
                change = np.zeros_like(c)
                change[:, :, first : first + changes.shape[3]] = changes[e]
            else:
                change = self._factor(changes[e], first)
            for factors in ((change, c, c), (c, change, c), (c, c, change)):
                add_pseudoscalars(*factors, *_couplings(self.l_max), total)
            out[e, :, 0] = total[:, chosen]

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        if self.contraction is None:
            contract_pseudoscalars(density, *_couplings(self.l_max), cotangent[:, 0], out)
            return
        factor = self._factor(density)
        by_factor = np.zeros_like(factor)
        contract_pseudoscalars(factor, *_couplings(self.l_max), cotangent[:, 0], by_factor)
        for l, matrix in enumerate(self.contraction):
            rows = slice(l * l, (l + 1) ** 2)
            out[:, rows] += by_factor[:, rows] @ matrix.T


@lru_cache(maxsize=32)
def _couplings(l_max):
    """Degrees, and 3j entries weighted by sqrt 6 for the six orders of each triple: arguments of the loops."""
    triples = degree_triples(l_max)
    entries = [clebsch_gordan_sparse(*degrees) for degrees in triples]
    starts = np.concatenate([[0], np.cumsum([len(entry[0]) for entry in entries])]).astype(np.int64)
    weights = [np.sqrt(6.0 / (2 * l3 + 1)) for _, _, l3 in triples]
    if not entries:
        entries, weights = [(np.zeros(0, np.int64),) * 3 + (np.zeros(0),)], [1.0]
    m1, m2, m3 = (np.concatenate([entry[k] for entry in entries]) for k in range(3))
    values = np.concatenate([weight * entry[3] for weight, entry in zip(weights, entries, strict=True)])
    return np.array(triples, dtype=np.int64).reshape(-1, 3), starts, m1, m2, m3, values
