"""Two kinds of coefficients of the same centers side by side: of the density with a cutoff, and of fields of all atoms.

Channels of the first come first. A change of the positions of a species changes a range of the channels of each; the
two are passed on as pairs (first, second).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eqkernels.descriptors.density._derivative_loops import subtract_changes
from eqkernels.descriptors.density.expand import DensityExpansion
from eqkernels.descriptors.density.potential import PotentialExpansion


@dataclass(frozen=True)
class CombinedExpansion(DensityExpansion):
    """Coefficients c[i, lm, q] of a density and of a potential density.

    Attributes
    ----------
    table, n_max, l_max, center_weight, species
        Those of the density.
    far : PotentialExpansion
    """

    far: PotentialExpansion = None  # type: ignore[assignment]

    @cached_property
    def near(self):
        """Density with a cutoff."""
        numbers = self.n_max, self.l_max, self.center_weight, self.species
        return DensityExpansion(self.table, *numbers, self.contraction)

    @property
    def n_channels(self):
        """Number of channels of both."""
        return self.near.n_channels + self.far.n_channels

    @property
    def n_made(self):
        """Number of channels that are made, before they are contracted."""
        return self.near.n_made + self.far.n_made

    def _block(self, *arguments):
        return BlockPair(self.near._block(*arguments), self.far._block(*arguments))

    def expand(self, block, a, b, dtype=np.float64):
        """Coefficients of the centers a .. b - 1 of a block, shape (b - a, (l_max + 1)^2, n_channels)."""
        parts = self.near.expand(block.near, a, b, dtype), self.far.expand(block.far, a, b, dtype)
        return np.concatenate(parts, axis=2)

    def _split(self, array, s=None):
        """Both parts of coefficients of all channels that are made, or of those of a species."""
        width = self.near.n_made if s is None else self.near.n_max
        return np.ascontiguousarray(array[..., :width]), np.ascontiguousarray(array[..., width:])

    def contracted(self, coefficients, s=None):
        """Contract the channels of both, of all species or of that number s."""
        if self.contraction is None:
            return coefficients
        near, far = self._split(coefficients, s)
        return np.concatenate([self.near.contracted(near, s), self.far.contracted(far, s)], axis=-1)

    def changed(self, s=None):
        """First of the channels that change, and how many, of both: ((first, first), (width, width))."""
        return tuple(zip(self.near.changed(s), self.far.changed(s), strict=True))

    def moves(self, block):
        """List, for each species, which atoms move which centers: all others of the structure."""
        return self.far.moves(block.far)

    def n_moves(self, batch):
        """Count the atoms that move each atom."""
        return self.far.n_moves(batch)

    def changes(self, block, moves, s, a, b):
        """Differentiate the coefficients of a species in both parts by the moves of the centers a .. b - 1."""
        few, rows = self._near_rows(block, moves, s, a, b)
        n_moves = moves.offsets[b] - moves.offsets[a]
        out = np.zeros((n_moves, 3, (self.l_max + 1) ** 2, self.near.n_max + self.far.n_max))
        out[..., self.near.n_max :] = self.far.changes(block.far, moves, s, a, b)
        out[rows, ..., : self.near.n_max] = self.near.changes(block.near, few, s, a, b)
        return out

    def _near_rows(self, block, moves, s, a, b):
        """List the moves by neighbors within the cutoff, and where they are among those of the centers a .. b - 1."""
        few, own = block.near_moves(self.near)[s], slice(moves.offsets[a], moves.offsets[b])
        near, n_atoms = slice(few.offsets[a], few.offsets[b]), len(block.channels)
        places = moves.owners[own] * n_atoms + moves.moved[own]
        return few, np.searchsorted(places, few.owners[near] * n_atoms + few.moved[near])

    def strains(self, block, a, b):
        """Differentiate the coefficients of the centers a .. b - 1 by strain, (b - a, 9, (l_max + 1)^2, n_made)."""
        return np.concatenate([self.near.strains(block.near, a, b), self.far.strains(block.far, a, b)], axis=3)

    def subtract(self, owners, first, changes, out):
        """Subtract changes of some channels of both from those of their centers."""
        width = changes.shape[3] - self.far.changed(0)[1]
        near, far = out[..., : self.near.n_channels], out[..., self.near.n_channels :]
        subtract_changes(owners, first[0], changes[..., :width], near)
        subtract_changes(owners, first[1], changes[..., width:], far)

    def collector(self, block):
        """Make what gathers the derivatives of a contraction with cotangents."""
        return PairOfCollectors(self, block)


class BlockPair:
    """The same structures as blocks of both densities; attributes of either where they are the same."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.centers, self.first_row, self.start, self.stop = near.centers, near.first_row, near.start, near.stop
        self.channels, self._near_moves = near.channels, None
        self.pairs, self.batch = near.pairs, near.batch

    def near_moves(self, expansion):
        """List the moves by neighbors within the cutoff, once."""
        if self._near_moves is None:
            self._near_moves = expansion.moves(self.near)
        return self._near_moves


class PairOfCollectors:
    """Collectors of both densities."""

    def __init__(self, expansion, block):
        self.width = expansion.near.n_channels
        self.near, self.far = expansion.near.collector(block.near), expansion.far.collector(block.far)

    def contract(self, a, b, cotangent):
        """Take the cotangents of the centers a .. b - 1."""
        self.near.contract(a, b, np.ascontiguousarray(cotangent[..., : self.width]))
        self.far.contract(a, b, np.ascontiguousarray(cotangent[..., self.width :]))

    def add_to(self, positions, strain):
        """Add all derivatives to those by positions and by strain."""
        self.near.add_to(positions, strain)
        self.far.add_to(positions, strain)
