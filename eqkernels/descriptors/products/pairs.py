"""Coupled products of density coefficients: the blocks of lambda-SOAP, their derivatives, and the tables they need."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eqkernels.descriptors.products._cotangent_loops import contract_equivariants, contract_invariants
from eqkernels.descriptors.products._product_loops import fill_derivatives, fill_equivariants, fill_invariants
from eqkernels.descriptors.products._triple_loops import add_pseudoscalars, contract_pseudoscalars
from eqkernels.descriptors.products.channels import (
    degree_pairs,
    degree_triples,
    feature_labels,
    feature_layout,
    n_features,
    triple_channels,
)
from eqkernels.descriptors.products.summed_species import add_traces, contract_traces, ordered_pairs, trace_labels
from eqkernels.so3 import Irrep, clebsch_gordan_sparse

# The species of channels that are made of several.
_ALL_SPECIES = (-1,)


class ProductBlocks:
    """Blocks of lambda-SOAP and their derivatives; for a transformer with ``l_max``, ``n_max`` and ``_irreps()``.

    The methods take densities (n_centers, (l_max + 1)^2, n_channels) and write blocks (n_centers, 2 lambda + 1,
    n_features), all C-contiguous. The channels of a species, n_max of them, are skipped where it does not occur.
    """

    #: contracts the channels of the block 0o, (l_max + 1, n_channels, n_components)
    triple_contraction_: np.ndarray | None = None

    def _block_shapes(self, expansion):
        """(2 lambda + 1, n_features) of every block."""
        return {str(irrep): (irrep.dim, self._n_features(irrep)) for irrep in self._irreps()}

    def _n_features(self, irrep):
        species, n_radial = self._channels
        if str(irrep) == "0o" and self.triple_contraction_ is not None:
            return n_features(self.l_max, self.triple_contraction_.shape[2], irrep)
        if self.compression == "mu1nu1":
            return len(ordered_pairs(self.l_max, irrep)) * len(species) * n_radial**2
        return n_features(self.l_max, len(species) * n_radial, irrep)

    @property
    def _n_kept(self):
        """Number of channels of the factor that keeps its species."""
        species, n_radial = self._channels
        return len(species) * n_radial

    def _labels(self, irrep):
        species, n_radial = self._channels
        if str(irrep) == "0o" and self.triple_contraction_ is not None:
            return feature_labels(self.l_max, self.triple_contraction_.shape[2], _ALL_SPECIES, irrep)
        labels = trace_labels if self.compression == "mu1nu1" else feature_labels
        return labels(self.l_max, n_radial, species, irrep)

    def _fill(self, key, density, out):
        """Write one block into ``out``, of the type of the density."""
        if self.compression == "mu1nu1" or key == "0o":
            out[...] = 0
        if self.compression == "mu1nu1":
            add_traces(density, density, self._n_kept, self.l_max, _irrep(key), out)
            return
        if key == "0o":
            factor = self._triple_factor(density)
            add_pseudoscalars(factor, factor, factor, *_triple_couplings(self.l_max), out[:, 0])
            return
        irrep, n_channels = _irrep(key), density.shape[2]
        bases, _ = _layout(self.l_max, n_channels, irrep, 0, n_channels)
        if key == "0e":
            fill_invariants(density, self.n_max, bases, out[:, 0])
        else:
            couplings = pair_couplings(self.l_max, irrep.l, irrep.p, density.dtype.char)
            fill_equivariants(density, self.n_max, irrep.l, *couplings, bases, out)

    def _triple_factor(self, density, first=0):
        """Coefficients that the block 0o is made of, from those of the channels from ``first`` on."""
        if self.triple_contraction_ is None:
            return density
        matrices = self.triple_contraction_[:, first : first + density.shape[2]].astype(density.dtype, copy=False)
        parts = [density[:, l * l : (l + 1) ** 2] @ matrix for l, matrix in enumerate(matrices)]
        return np.concatenate(parts, axis=1)

    def _changing(self, key, n_channels, first, width):
        """Features that change with the channels ``first`` .. ``first + width - 1``."""
        if self.compression == "mu1nu1" or (key == "0o" and self.triple_contraction_ is not None):
            return np.arange(self._n_features(_irrep(key)))
        if key == "0o":
            factors = [np.stack(triple_channels(n_channels, *degrees)) for degrees in degree_triples(self.l_max)]
            chosen = [((q >= first) & (q < first + width)).any(axis=0) for q in factors]
            return np.flatnonzero(np.concatenate(chosen))
        return _layout(self.l_max, n_channels, _irrep(key), first, width)[1]

    def _fill_derivatives(self, key, density, owners, changes, first, out):
        """Write the derivatives that belong to changes (n_items, n_directions, (l_max + 1)^2, width) of the density.

        Item e changes the channels ``first`` .. ``first + width - 1`` of the center ``owners[e]`` (ascending); ``out``
        (n_items, n_directions, 2 lambda + 1, n_changing) takes the features that :meth:`_changing` names.
        """
        n_channels, width = density.shape[2], changes.shape[3]
        if self.compression == "mu1nu1":
            c = np.repeat(density[owners], changes.shape[1], axis=0)
            change, rows = changes.reshape(c.shape), out.reshape(-1, *out.shape[2:])
            for factors in ((change, c), (c, change)):
                add_traces(*factors, self._n_kept, self.l_max, _irrep(key), rows)
            return
        if key != "0o":
            irrep = _irrep(key)
            bases, _ = _layout(self.l_max, n_channels, irrep, first, width)
            couplings = pair_couplings(self.l_max, irrep.l, irrep.p)
            fill_derivatives(density, self.n_max, owners, changes, first, irrep.l, *couplings, bases, out)
            return
        chosen = self._changing(key, n_channels, first, width)
        for e, owner in enumerate(owners):
            c = np.repeat(self._triple_factor(density[owner, None]), changes.shape[1], axis=0)
            total = np.zeros((len(c), self._n_features(_irrep(key))))
            if self.triple_contraction_ is None:
                change = np.zeros_like(c)
                change[:, :, first : first + width] = changes[e]
            else:
                change = self._triple_factor(changes[e], first)
            for factors in ((change, c, c), (c, change, c), (c, c, change)):
                add_pseudoscalars(*factors, *_triple_couplings(self.l_max), total)
            out[e, :, 0] = total[:, chosen]

    def _contract(self, key, density, cotangent, out):
        """Add to ``out`` the derivative of sum(cotangent * block) by the density."""
        if self.compression == "mu1nu1":
            contract_traces(density, self._n_kept, self.l_max, _irrep(key), cotangent, out)
        elif key == "0o":
            factor = self._triple_factor(density)
            slopes = out if factor is density else np.zeros_like(factor)
            contract_pseudoscalars(factor, *_triple_couplings(self.l_max), cotangent[:, 0], slopes)
            if factor is not density:
                for l, matrix in enumerate(self.triple_contraction_):
                    out[:, l * l : (l + 1) ** 2] += slopes[:, l * l : (l + 1) ** 2] @ matrix.T
        else:
            irrep, n_channels = _irrep(key), density.shape[2]
            bases, _ = _layout(self.l_max, n_channels, irrep, 0, n_channels)
            if key == "0e":
                contract_invariants(density, self.n_max, bases, cotangent[:, 0], out)
            else:
                couplings = pair_couplings(self.l_max, irrep.l, irrep.p)
                contract_equivariants(density, self.n_max, irrep.l, *couplings, bases, cotangent, out)


_irrep = lru_cache(maxsize=256)(Irrep.parse)


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


@lru_cache(maxsize=32)
def _triple_couplings(l_max):
    """Degrees, and 3j entries weighted by sqrt 6 for the six orders of each triple."""
    triples = degree_triples(l_max)
    entries = [clebsch_gordan_sparse(*degrees) for degrees in triples]
    return _flat(triples, 3, entries, [np.sqrt(6.0 / (2 * l3 + 1)) for _, _, l3 in triples])


def _flat(degrees, width, entries, weights):
    starts = np.concatenate([[0], np.cumsum([len(entry[0]) for entry in entries])]).astype(np.int64)
    if not entries:
        entries, weights = [(np.zeros(0, np.int64),) * 3 + (np.zeros(0),)], [1.0]
    m1, m2, m3 = (np.concatenate([entry[k] for entry in entries]) for k in range(3))
    values = np.concatenate([weight * entry[3] for weight, entry in zip(weights, entries, strict=True)])
    return np.array(degrees, dtype=np.int64).reshape(-1, width), starts, m1, m2, m3, values
