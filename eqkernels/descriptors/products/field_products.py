r"""Products of the density with itself, and with fields of all atoms.

.. math:: p^{\lambda\mu}_{q l, q' l'} = \sum_{mm'} \langle l m\, l' m' | \lambda\mu \rangle\, c_{qlm}\, v_{q'l'm'}

with the coefficients c of the density and v of the potential density stand behind the products c c. The factors are
different things, so that both orders of l and l' are kept, without a weight. Channels of a density are those of c, then
those of v; what changes of them are pairs (of c, of v), see :mod:`eqkernels.descriptors.density.combined`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eqkernels.descriptors.products.channels import degree_pairs
from eqkernels.so3 import Irrep, clebsch_gordan


@dataclass(frozen=True)
class LongRangeBlock:
    """A block of products of the density, and the products with fields that couple to the same irrep.

    Attributes
    ----------
    near : ProductBlock
        Products of the density with itself.
    n_far : int
        Radial functions of the fields of each species.
    """

    near: Any
    n_far: int

    @property
    def irrep(self) -> Irrep:
        """That of both."""
        return self.near.irrep

    @property
    def shape(self):
        """(2 lambda + 1, n_features)."""
        return self.irrep.dim, self.width

    @property
    def _sizes(self):
        """Number of channels of the density, and of the fields."""
        return self.near.n_channels, len(self.near.species) * self.n_far

    @property
    def _pairs(self):
        """Pairs (l, l'), in both orders, that couple to the irrep; none for 0o, which needs three factors."""
        pairs = degree_pairs(self.near.l_max, self.irrep.l, self.irrep.p)
        return sorted({*pairs, *((l2, l1) for l1, l2 in pairs)})

    @property
    def width(self):
        """Number of features."""
        return self.near.width + len(self._pairs) * int(np.prod(self._sizes))

    def labels(self):
        """Species, radial index and degree of the factors of each feature; n of fields is behind that of densities."""
        (n, n_far), n_radial, species = self._sizes, self.near.n_radial, np.asarray(self.near.species)
        q, k = (part.ravel() for part in np.indices((n, n_far)))
        near = self.near.labels()
        parts = [near]
        for l1, l2 in self._pairs:
            labels = np.empty(len(q), dtype=near.dtype)
            labels["species_1"], labels["n_1"], labels["l_1"] = species[q // n_radial], q % n_radial, l1
            labels["species_2"], labels["n_2"], labels["l_2"] = species[k // self.n_far], n_radial + k % self.n_far, l2
            parts.append(labels)
        return np.concatenate(parts)

    def fill(self, density, out):
        """Write the features."""
        near, far = self._split(density)
        features = np.empty((len(density), self.irrep.dim, self.near.width), out.dtype)
        self.near.fill(near, features)
        start = self.near.width
        out[..., :start] = features
        for products in self._products(near, far):
            stop = start + products.shape[2] * products.shape[3]
            out[..., start:stop] = _rows(products)
            start = stop

    def changing(self, first, width):
        """Features with a factor among some channels of the density, or of the fields."""
        chosen = np.flatnonzero(self._chosen(first, width))
        size = int(np.prod(self._sizes))
        starts = self.near.width + size * np.arange(len(self._pairs))
        return np.concatenate([self.near.changing(first[0], width[0]), (starts[:, None] + chosen).ravel()])

    def fill_derivatives(self, density, owners, changes, first, out):
        """Write the derivatives that belong to changes of the density."""
        near, far = self._split(density)
        width = self._widths(first, changes.shape[3])
        of_near, of_far = (np.ascontiguousarray(part) for part in np.split(changes, [width[0]], axis=3))
        columns = len(self.near.changing(first[0], width[0]))
        part = np.zeros((*out.shape[:3], columns))
        self.near.fill_derivatives(near, owners, of_near, first[0], part)
        out[..., :columns] = part
        chosen = self._chosen(first, width)
        places = (np.cumsum(chosen) - 1).reshape(chosen.shape)
        rows, ends = (slice(f, f + w) for f, w in zip(first, width, strict=True))
        n_directions = changes.shape[1]
        c, v = (np.repeat(one[owners], n_directions, axis=0) for one in (near, far))
        of_near, of_far = (one.reshape(-1, *one.shape[2:]) for one in (of_near, of_far))
        target = out.reshape(-1, *out.shape[2:])
        left, right = self._products(of_near, v), self._products(c, of_far)
        for by_near, by_far in zip(left, right, strict=True):
            by_near, by_far = _rows(by_near), _rows(by_far)
            target[..., columns + places[rows].ravel()] += by_near
            target[..., columns + places[:, ends].ravel()] += by_far
            columns += int(chosen.sum())

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        (n, n_far), start = self._sizes, self.near.width
        near, far = self._split(density)
        by_near, by_far = np.zeros_like(near), np.zeros_like(far)
        self.near.contract(near, np.ascontiguousarray(cotangent[..., :start]), by_near)
        for l1, l2 in self._pairs:
            rows, others = slice(l1 * l1, (l1 + 1) ** 2), slice(l2 * l2, (l2 + 1) ** 2)
            weights = cotangent[..., start : start + n * n_far].reshape(len(density), self.irrep.dim, n, n_far)
            coupled = _coupled(far, l1, l2, self.irrep.l)
            by_near[:, rows] += (coupled @ weights.transpose(0, 1, 3, 2)).sum(axis=1)
            by_coupled = near[:, rows][:, None] @ weights  # (i, mu, m, k)
            coefficients = clebsch_gordan(l1, l2, self.irrep.l).astype(density.dtype)
            by_far[:, others] += np.einsum("abm,imak->ibk", coefficients, by_coupled, optimize=True)
            start += n * n_far
        out[..., :n] += by_near
        out[..., n:] += by_far

    def _split(self, density):
        """Coefficients of the density and of the fields."""
        n = self.near.n_channels
        return np.ascontiguousarray(density[..., :n]), np.ascontiguousarray(density[..., n:])

    def _widths(self, first, total):
        """How many channels of the density, and of the fields, change together: those of a species, or all."""
        n, n_far = self._sizes
        if total == n + n_far:
            return n, n_far
        return total - self.n_far, self.n_far

    def _chosen(self, first, width):
        """Which pairs of channels (of the density, of the fields) contain some of them."""
        chosen = np.zeros(self._sizes, dtype=bool)
        chosen[first[0] : first[0] + width[0]] = True
        chosen[:, first[1] : first[1] + width[1]] = True
        return chosen

    def _products(self, near, far):
        """Yield the products (n, 2 lambda + 1, channels, channels of fields) of each pair of degrees."""
        for l1, l2 in self._pairs:
            left = near[:, l1 * l1 : (l1 + 1) ** 2].transpose(0, 2, 1)[:, None]
            yield left @ _coupled(far, l1, l2, self.irrep.l)


def _rows(products):
    """Join the two axes of channels."""
    n, n_components, n_near, n_far = products.shape
    return products.reshape(n, n_components, n_near * n_far)


def _coupled(far, l1, l2, lam):
    """Coefficients times fields, shape (n, 2 lambda + 1, 2 l1 + 1, channels of fields)."""
    coefficients = clebsch_gordan(l1, l2, lam).astype(far.dtype)
    return np.einsum("abm,ibk->imak", coefficients, far[:, l2 * l2 : (l2 + 1) ** 2], optimize=True)
