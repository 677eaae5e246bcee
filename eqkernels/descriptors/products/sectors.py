r"""Products of density channels of several sectors: those with inputs of other parities than the density's.

Channels of the sector :math:`(\sigma, \tau)` have parity :math:`\sigma (-1)^l` and the sign :math:`\tau` under time
reversal, see :mod:`eqkernels.descriptors.density.input_channels`. The product of two,

.. math:: p^{\lambda\mu}_{q l, q' l'} = \sum_{mm'} \langle l m\, l' m' | \lambda\mu \rangle\, c_{qlm}\, c_{q'l'm'} ,

has parity :math:`\sigma\sigma' (-1)^{l + l'}` and the sign :math:`\tau\tau'`. Within a sector the products are those of
:mod:`eqkernels.descriptors.products.channels`. Those of two sectors have each unordered pair once, with the weight
:math:`\sqrt 2`, for all l and l', the channels of the second sector fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eqkernels.so3 import Irrep, clebsch_gordan


@dataclass(frozen=True)
class Channels:
    """Channels of a density, sector by sector.

    Attributes
    ----------
    labels : tuple of (int, int)
        Species, or a negative number of what is made of inputs, and radial index.
    live : tuple of tuple of bool
        For each channel, whether it can differ from zero at each degree.
    sectors : tuple of (int, int, (int, int))
        First channel, the one after the last, and sigma and tau of each sector.
    roles : tuple of tuple of int, default=()
        For each channel, whether it may be the first and the second factor; none: all may be both, and pairs of
        channels are kept once.
    """

    labels: tuple[tuple[int, int], ...]
    live: tuple[tuple[bool, ...], ...]
    sectors: tuple[tuple[int, int, tuple[int, int]], ...]
    roles: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_arrays(cls, labels, live, sectors, roles=()):
        """Channels of arrays (n_channels, 2), (n_channels, l_max + 1), (n_sectors, 4), and perhaps (n_channels, 2)."""
        places = tuple((first, stop, (sigma, tau)) for first, stop, sigma, tau in np.array(sectors).tolist())
        labels, live, roles = (tuple(map(tuple, np.array(one).tolist())) for one in (labels, live, roles))
        return cls(labels, live, places, roles)

    def of_fields(self, species, n_far):
        """Channels with those of fields of all atoms behind them, as a sector of its own."""
        first, stop = len(self.labels), len(self.labels) + len(species) * n_far
        n_radial = 1 + max(n for _, n in self.labels)
        labels = tuple((int(one), n_radial + n) for one in species for n in range(n_far))
        live = tuple((True,) * len(self.live[0]) for _ in labels)
        return Channels(self.labels + labels, self.live + live, (*self.sectors, (first, stop, (1, 1))))

    @cached_property
    def is_live(self):
        """Array (n_channels, l_max + 1)."""
        return np.array(self.live, dtype=bool)


@dataclass(frozen=True)
class CrossBlock:
    """Products of the channels of two sectors, with the methods of :class:`FeatureBlock`.

    Attributes
    ----------
    irrep : Irrep
    l_max : int
    channels : Channels
    left, right : (int, int)
        First channel and the one after the last of the two sectors.
    parity : int
        Product of their sigma.
    weight : float, default=sqrt(2)
        Of the products; 1 where those of both orders of the factors are kept, or only one is there.
    """

    irrep: Irrep
    l_max: int
    channels: Channels
    left: tuple[int, int]
    right: tuple[int, int]
    parity: int
    weight: float = np.sqrt(2.0)

    @cached_property
    def groups(self):
        """Degrees, channels of both sectors and first feature: (l1, l2, q1, q2, start)."""
        degrees, out, start = range(self.l_max + 1), [], 0
        for l1, l2 in ((a, b) for a in degrees for b in degrees):
            if abs(l1 - l2) <= self.irrep.l <= l1 + l2 and self.parity * (-1) ** (l1 + l2) == self.irrep.p:
                q1, q2 = self._factors_at(l1, self.left, 0), self._factors_at(l2, self.right, 1)
                if len(q1) and len(q2):
                    out.append((l1, l2, q1, q2, start))
                    start += len(q1) * len(q2)
        return out

    def _factors_at(self, l, sector, role):
        """Channels of a sector that can be a factor of this degree, the first (0) or the second (1)."""
        first, stop = sector
        chosen = self.channels.is_live[first:stop, l]
        if self.channels.roles:
            chosen = chosen & np.array(self.channels.roles, dtype=bool)[first:stop, role]
        return first + np.flatnonzero(chosen)

    @cached_property
    def width(self):
        """Number of features."""
        return sum(len(q1) * len(q2) for _, _, q1, q2, _ in self.groups)

    def factors(self):
        """Degree and channel of the two factors of each feature, (l1, q1, l2, q2)."""
        parts = [np.zeros((4, 0), dtype=np.int64)]
        for l1, l2, q1, q2, _ in self.groups:
            first, second = np.repeat(q1, len(q2)), np.tile(q2, len(q1))
            parts.append(np.stack([np.full_like(first, l1), first, np.full_like(first, l2), second]))
        return np.concatenate(parts, axis=1)

    def add(self, first, second, out):
        """Add the products of two densities to ``out`` (n, 2 lambda + 1, width)."""
        for l1, l2, q1, q2, start in self.groups:
            left = first[:, l1 * l1 : (l1 + 1) ** 2][:, :, q1]
            right = second[:, l2 * l2 : (l2 + 1) ** 2][:, :, q2]
            products = np.einsum("imak,iaq->imqk", self._coupled(right, l1, l2), left, optimize=True)
            width = len(q1) * len(q2)
            out[:, :, start : start + width] += products.reshape(*products.shape[:2], width)

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        for l1, l2, q1, q2, start in self.groups:
            rows, others = slice(l1 * l1, (l1 + 1) ** 2), slice(l2 * l2, (l2 + 1) ** 2)
            weights = cotangent[:, :, start : start + len(q1) * len(q2)].reshape(*cotangent.shape[:2], len(q1), len(q2))
            left, right = density[:, rows][:, :, q1], density[:, others][:, :, q2]
            by_left = np.einsum("imak,imqk->iaq", self._coupled(right, l1, l2), weights, optimize=True)
            by_right = np.einsum("abm,iaq,imqk->ibk", self._coefficients(l1, l2), left, weights, optimize=True)
            for m, row in enumerate(range(rows.start, rows.stop)):
                out[:, row, q1] += by_left[:, m]
            for m, row in enumerate(range(others.start, others.stop)):
                out[:, row, q2] += by_right[:, m]

    def _coefficients(self, l1, l2):
        return self.weight * clebsch_gordan(l1, l2, self.irrep.l)

    def _coupled(self, right, l1, l2):
        return np.einsum("abm,ibk->imak", self._coefficients(l1, l2).astype(right.dtype), right, optimize=True)


@dataclass(frozen=True)
class SectorBlock:
    """All products that couple to one irrep, with the methods of :class:`FeatureBlock`.

    Attributes
    ----------
    irrep : Irrep
    channels : Channels
    within : tuple of (ProductBlock, (int, int))
        Products within sectors, and the first channel of each sector and the one after its last.
    across : tuple of CrossBlock
        Products of two sectors.
    """

    irrep: Irrep
    channels: Channels
    within: tuple[tuple[Any, tuple[int, int]], ...]
    across: tuple[CrossBlock, ...]

    @property
    def shape(self):
        """(2 lambda + 1, n_features)."""
        return self.irrep.dim, self.width

    @cached_property
    def width(self):
        """Number of features."""
        return self._starts[-1]

    @cached_property
    def _starts(self):
        """First feature of each part, and their number."""
        return np.cumsum(
            [0, *(block.width for block, _ in self.within), *(block.width for block in self.across)]
        ).tolist()

    def _columns(self):
        return [slice(*pair) for pair in zip(self._starts, self._starts[1:], strict=False)]

    def labels(self):
        """Species, radial index and degree of the factors of each feature; -1 for factors that it has not."""
        parts = [block.labels() for block, _ in self.within]
        labels = np.array(self.channels.labels).reshape(-1, 2)
        names = [f"{what}_{factor}" for factor in (1, 2) for what in ("species", "n", "l")]
        for block in self.across:
            l1, q1, l2, q2 = block.factors()
            columns = [*labels[q1].T, l1, *labels[q2].T, l2]
            parts.append(np.array(list(zip(*columns, strict=True)), dtype=[(name, np.int64) for name in names]))
        names = list(dict.fromkeys(name for part in parts if len(part) for name in part.dtype.names)) or names
        out = np.full(self.width, -1, dtype=[(name, np.int64) for name in names])
        for columns, part in zip(self._columns(), parts, strict=True):
            for name in part.dtype.names if len(part) else ():
                out[name][columns] = part[name]
        return out

    def fill(self, density, out):
        """Write the features."""
        out[...] = 0
        columns = iter(self._columns())
        for block, (first, stop) in self.within:
            part = np.empty((len(density), *block.shape), density.dtype)
            block.fill(np.ascontiguousarray(density[:, :, first:stop]), part)
            out[:, :, next(columns)] = part
        for cross in self.across:
            cross.add(density, density, out[:, :, next(columns)])

    def changing(self, first, width):
        """Features with a factor among the channels ``first`` .. ``first + width - 1``."""
        found = [np.zeros(0, dtype=np.int64)]
        for (block, sector), start in zip(self.within, self._starts, strict=False):
            begin, size = _overlap(first, width, sector)
            if size:
                found.append(start + block.changing(begin - sector[0], size))
        for cross, start in zip(self.across, self._starts[len(self.within) :], strict=False):
            _, q1, _, q2 = cross.factors()
            chosen = ((q1 >= first) & (q1 < first + width)) | ((q2 >= first) & (q2 < first + width))
            found.append(start + np.flatnonzero(chosen))
        return np.concatenate(found)

    def fill_derivatives(self, density, owners, changes, first, out):
        """Write the derivatives that belong to changes of the density."""
        n_items, n_directions, _, width = changes.shape
        chosen, position = self.changing(first, width), 0
        for block, sector in self.within:
            begin, size = _overlap(first, width, sector)
            if size:
                part = np.zeros((n_items, n_directions, block.irrep.dim, len(block.changing(begin - sector[0], size))))
                of_sector = np.ascontiguousarray(density[:, :, slice(*sector)])
                change = np.ascontiguousarray(changes[..., begin - first : begin - first + size])
                block.fill_derivatives(of_sector, owners, change, begin - sector[0], part)
                out[..., position : position + part.shape[3]] = part
                position += part.shape[3]
        rest = chosen[position:]
        if len(rest):
            whole = np.zeros((n_items * n_directions, *density.shape[1:]))
            whole[:, :, first : first + width] = changes.reshape(-1, *changes.shape[2:])
            density = np.repeat(density[owners], n_directions, axis=0)
            total = np.zeros((len(whole), self.irrep.dim, self.width))
            for cross, columns in zip(self.across, self._columns()[len(self.within) :], strict=True):
                cross.add(whole, density, total[:, :, columns])
                cross.add(density, whole, total[:, :, columns])
            out[..., position:] = total[:, :, rest].reshape(n_items, n_directions, self.irrep.dim, len(rest))

    def contract(self, density, cotangent, out):
        """Add the derivative of sum(cotangent * features) by the density."""
        columns = iter(self._columns())
        for block, sector in self.within:
            of_sector = np.ascontiguousarray(density[:, :, slice(*sector)])
            by_sector = np.zeros_like(of_sector)
            block.contract(of_sector, np.ascontiguousarray(cotangent[:, :, next(columns)]), by_sector)
            out[:, :, slice(*sector)] += by_sector
        for cross in self.across:
            cross.contract(density, cotangent[:, :, next(columns)], out)


def _overlap(first, width, sector):
    """First channel and number of those that are in a sector too."""
    begin, stop = max(first, sector[0]), min(first + width, sector[1])
    return begin, max(0, stop - begin)
