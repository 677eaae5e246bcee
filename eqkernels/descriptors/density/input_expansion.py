"""Density coefficients with the channels of inputs behind those of the density, and their derivatives.

See :mod:`eqkernels.descriptors.density.input_channels` for the channels and their formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels.descriptors.density._derivative_loops import sum_strains
from eqkernels.descriptors.density._input_loops import add_weighted, contract_weighted
from eqkernels.descriptors.density.expand import DensityExpansion
from eqkernels.descriptors.density.moves import gradient_of_pairs
from eqkernels.so3 import clebsch_gordan, spherical_harmonics


@dataclass(frozen=True)
class InputExpansion(DensityExpansion):
    """Density coefficients c[i, lm, q] of the centers of a batch that was read with its inputs.

    Attributes are those of :class:`DensityExpansion`, with ``inputs``.
    """

    @property
    def n_channels(self):
        """Number of channels, with those of inputs."""
        return self.inputs.n_channels

    @property
    def weights(self):
        """Components of inputs, among those of all, that weight the Gaussians of neighbors."""
        used = np.zeros(int(self.inputs.dim), dtype=bool)
        for group in self.inputs.from_neighbors:
            used[group.part] = True
        return np.flatnonzero(used)

    def values(self, batch):
        """Components of all inputs of the atoms of a batch, shape (n_atoms, dim)."""
        inputs = self.inputs
        return np.concatenate([inputs.scales[name] * batch.inputs[name].values for name in inputs.kinds], axis=1)

    def _values(self, block):
        return self.values(block.batch)

    # -- coefficients -----------------------------------------------------------------------------------------------

    def expand(self, block, a, b, dtype=np.float64):
        """Density coefficients of the centers a .. b - 1 of a block, shape (b - a, (l_max + 1)^2, n_channels)."""
        out = np.zeros((b - a, (self.l_max + 1) ** 2, self.n_channels), dtype)
        values, weights = self._values(block), self.weights
        out[:, :, : self.inputs.n_density] = super().expand(block, a, b, dtype)
        self._add_own(values[block.centers[a:b]], out)
        if len(weights):
            pairs = self._pairs(block, a, b)
            self._couple(self._weighted(block, pairs, values[pairs.neighbors][:, weights], pairs.rows, b - a), out)
        return out

    def _add_own(self, values, out):
        """Write the channels of the centers, values (..., dim) and out (..., (l_max + 1)^2, n_channels)."""
        for group in self.inputs.groups:
            if group.shift is None:
                out[..., group.degree**2 : (group.degree + 1) ** 2, group.first] = values[..., group.part]

    def _pairs(self, block, a, b):
        """Pairs of the centers a .. b - 1 whose neighbors count."""
        offsets, centers = block.pairs.offsets, block.centers[a:b]
        of_centers = [np.arange(offsets[i], offsets[i + 1]) for i in centers]
        rows = np.repeat(np.arange(b - a), [len(one) for one in of_centers])
        chosen = np.concatenate([np.zeros(0, dtype=np.int64), *of_centers])
        counts = block.channels[block.pairs.neighbors[chosen]] >= 0
        return _Pairs(chosen[counts], rows[counts], block.pairs.neighbors[chosen[counts]])

    def _functions(self, block, pairs):
        """First channels, harmonics and radial weights of pairs."""
        vectors, distances = block.pairs.vectors[pairs.chosen], block.pairs.distances[pairs.chosen]
        radial = np.ascontiguousarray(self.table(distances))
        return block.channels[pairs.neighbors], spherical_harmonics(vectors, self.l_max), radial

    def _weighted(self, block, pairs, weights, rows, n_rows):
        """Densities of weighted Gaussians, summed over the pairs of a row: (n_weights, n_rows, lm, n_density)."""
        firsts, harmonics, radial = self._functions(block, pairs)
        out = np.zeros((weights.shape[1], n_rows, (self.l_max + 1) ** 2, len(self.species) * self.n_max))
        add_weighted(rows, firsts, np.ascontiguousarray(weights), harmonics, radial, self.n_max, out)
        return self.contracted(out)

    def _couplings(self):
        """For each channel group of neighbors: weights, components of the densities and of the channels, coupling."""
        place = np.full(self.inputs.dim, -1)
        place[self.weights] = np.arange(len(self.weights))
        for group in self.inputs.from_neighbors:
            first = place[group.part.start]
            weights = slice(first, first + 2 * group.degree + 1)
            for l, source in group.degrees(self.l_max):
                rows, sources = slice(l * l, (l + 1) ** 2), slice(source * source, (source + 1) ** 2)
                yield group, weights, sources, rows, clebsch_gordan(source, group.degree, l)

    def _couple(self, weighted, out):
        """Add the couplings of weighted densities (n_weights, ..., lm, n_density) to (..., lm, n_channels)."""
        for group, weights, sources, rows, coefficients in self._couplings():
            part = weighted[weights][..., sources, :]
            out[..., rows, group.channels] += np.einsum("sMm,M...sq->...mq", coefficients, part, optimize=True)

    def _uncouple(self, cotangent):
        """Turn derivatives by channels (n, lm, n_channels) into those by weighted densities (n_weights, n, lm, q)."""
        out = np.zeros((len(self.weights), *cotangent.shape[:2], self.inputs.n_density))
        for group, weights, sources, rows, coefficients in self._couplings():
            part = cotangent[:, rows, group.channels]
            out[weights][:, :, sources] += np.einsum("sMm,imq->Misq", coefficients, part, optimize=True)
        return out

    # -- derivatives by positions and strain --------------------------------------------------------------------------

    def contract(self, block, a, b, cotangent, out):
        """Write, for the pairs of some centers, the derivative of sum(cotangent * density) by their vectors."""
        super().contract(block, a, b, np.ascontiguousarray(cotangent[:, :, : self.inputs.n_density]), out)
        weights = self.weights
        if not len(weights) or a == b:
            return
        pairs, values = self._pairs(block, a, b), self._values(block)
        by_pair = np.zeros_like(out)
        for d, part in zip(weights, self._uncouple(cotangent), strict=True):
            super().contract(block, a, b, np.ascontiguousarray(part), by_pair)
            out[pairs.chosen] += values[pairs.neighbors, d, None] * by_pair[pairs.chosen]

    def changed(self, s=None):
        """First of the channels that change with species number s (None: any), and how many they are."""
        return (0, self.n_channels) if self.inputs.from_neighbors else super().changed(s)

    def channel_changes(self, block, moves, s, a, b):
        """Make the changes of the channels that :meth:`changed` names by the moves of the centers a .. b - 1."""
        if not self.inputs.from_neighbors:
            return super().channel_changes(block, moves, s, a, b)
        gradient = self.changes(block, moves, s, a, b)
        wide = np.zeros((*gradient.shape[:-1], len(self.species) * self.n_max))
        wide[..., s * self.n_max : (s + 1) * self.n_max] = gradient
        plain = self.contracted(wide)
        values = self._values(block)[moves.moved[moves.offsets[a] : moves.offsets[b]]][:, self.weights]
        return self._with_weighted(plain, np.einsum("e...,ed->de...", plain, values))

    def strain_changes(self, block, a, b):
        """Make the changes (b - a, 9, (l_max + 1)^2, n_channels) of the centers a .. b - 1 by strain."""
        shape = b - a, 9, (self.l_max + 1) ** 2, len(self.species) * self.n_max
        pairs, values, weights = block.pairs, self._values(block), self.weights
        out = np.zeros((1 + len(weights), *shape))
        for i, atom in enumerate(block.centers[a:b]):
            order = np.arange(pairs.offsets[atom], pairs.offsets[atom + 1])
            order = order[block.channels[pairs.neighbors[order]] >= 0]
            neighbors = pairs.neighbors[order]
            gradient = gradient_of_pairs(self, pairs, order, np.arange(len(order)), len(order))
            arguments = block.channels[neighbors], pairs.vectors[order]
            sum_strains(*arguments, gradient, self.n_max, out[0, i])
            for part, d in zip(out[1:, i], weights, strict=True):
                sum_strains(*arguments, gradient * values[neighbors, d, None, None, None], self.n_max, part)
        plain, *weighted = self.contracted(out)
        return self._with_weighted(plain, np.array(weighted).reshape(-1, *plain.shape))

    def _with_weighted(self, plain, weighted):
        out = np.zeros((*plain.shape[:-1], self.n_channels))
        out[..., : self.inputs.n_density] = plain
        self._couple(weighted, out)
        return out

    # -- derivatives by inputs ----------------------------------------------------------------------------------------

    def contract_inputs(self, block, a, b, cotangent, own, by_pairs):
        """Write the derivatives of sum(cotangent * density) by the inputs of centers and of the neighbors of pairs.

        Parameters
        ----------
        block : DensityBlock
        a, b : int
        cotangent : ndarray of shape (b - a, (l_max + 1)^2, n_channels)
        own : ndarray of shape (n_centers, dim)
        by_pairs : ndarray of shape (n_pairs, n_weights)
        """
        for group in self.inputs.groups:
            if group.shift is None:
                rows = slice(group.degree**2, (group.degree + 1) ** 2)
                own[a:b, group.part] = cotangent[:, rows, group.first]
        if len(self.weights):
            pairs = self._pairs(block, a, b)
            by_density = self._uncouple(cotangent)
            shape = -1, *by_density.shape[2:]
            by_density = self.uncontracted(by_density.reshape(shape)).reshape(*by_density.shape[:3], -1)
            by_weights = np.empty((len(pairs.chosen), len(self.weights)))
            functions = self._functions(block, pairs)
            contract_weighted(pairs.rows, *functions, self.n_max, by_density, by_weights)
            by_pairs[pairs.chosen] = by_weights

    def input_changes(self, block, a, b):
        """Make the changes of the density by the components of all inputs of the atoms that it depends on.

        Returns
        -------
        owners, atoms : ndarray of int, shape (n_items,)
            The center (from a on), ascending, and the atom of the block whose inputs change, itself among them.
        changes : ndarray of shape (n_items, dim, (l_max + 1)^2, n_channels)
        """
        n, weights = b - a, self.weights
        pairs = self._pairs(block, a, b) if len(weights) else _Pairs(*np.zeros((3, 0), dtype=np.int64))
        own = np.stack([np.arange(n), block.centers[a:b]])
        keys = np.concatenate([own, np.stack([pairs.rows, pairs.neighbors])], axis=1)
        (owners, atoms), place = np.unique(keys, axis=1, return_inverse=True)
        itself = atoms == block.centers[a + owners]
        changes = np.zeros((len(owners), self.inputs.dim, (self.l_max + 1) ** 2, self.n_channels))
        self._add_own(itself[:, None, None] * np.eye(self.inputs.dim), changes)
        if len(weights):
            ones = np.ones((len(pairs.rows), 1))
            plain = self._weighted(block, pairs, ones, place.reshape(-1)[n:], len(owners))[0]
            for k, d in enumerate(weights):
                weighted = np.zeros((len(weights), *plain.shape))
                weighted[k] = plain
                self._couple(weighted, changes[:, d])
        return owners, atoms, changes


@dataclass(frozen=True)
class _Pairs:
    """Some pairs of a block: which, the row of the center of each, and the neighbor."""

    chosen: np.ndarray
    rows: np.ndarray
    neighbors: np.ndarray
