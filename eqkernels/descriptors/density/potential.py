r"""Coefficients of the fields of all atoms of a structure, however far away: the potential density.

Around center i, the field of the atoms of species a and its expansion are

.. math::
    V_i^a(\mathbf r) = \sum_{j \in a} V_p(|\mathbf r - \mathbf r_{ij}|)
    = \sum_{nlm} c^i_{anlm} R_{nl}(r) Y_{lm}(\hat{\mathbf r}) ,

with the smeared power law :math:`V_p` of :mod:`eqkernels.radial.power_laws`. In molecules it is the sum over all other
atoms, in crystals that over wave vectors of :mod:`eqkernels.descriptors.density.reciprocal`. The central atom's own
field counts with ``center_weight``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eqkernels.descriptors.density._density_loops import expand_density
from eqkernels.descriptors.density._derivative_loops import sum_pairs
from eqkernels.descriptors.density._gradient_loops import contract_gradients
from eqkernels.descriptors.density._reciprocal_loops import structure_pairs
from eqkernels.descriptors.density.expand import RADIAL_BASES, DensityBlock, DensityExpansion
from eqkernels.descriptors.density.moves import Moves, gradient_of_pairs, pair_strains
from eqkernels.descriptors.density.reciprocal import Crystal
from eqkernels.radial.power_laws import PotentialTable, TransformTable, first_reach
from eqkernels.so3.spherical_harmonics import harmonics_prefactors
from eqkernels.structures import NeighborPairs, find_neighbors

# Tables reach this many times their first part; more is atoms that are kilometers apart, or another unit.
_LARGEST_REACH = 1000
# Atoms that coincide are looked for within this distance.
_NEAR = 0.5


@lru_cache(maxsize=32)
def transform_table(basis, n_max, l_max, radius, sigma, exponent, accuracy):
    """Table for sums over wave vectors, kept for the parameters that were used last."""
    return TransformTable(RADIAL_BASES[basis](n_max, radius), l_max, sigma, exponent, accuracy)


@lru_cache(maxsize=32)
def potential_table(basis, n_max, l_max, radius, sigma, exponent, accuracy, reach):
    """Table for sums over pairs, kept likewise."""
    return PotentialTable(RADIAL_BASES[basis](n_max, radius), l_max, sigma, exponent, reach, accuracy)


@dataclass(frozen=True)
class PotentialExpansion(DensityExpansion):
    """Coefficients c[i, lm, (a n)] of the fields of all atoms around the centers of a batch.

    Attributes
    ----------
    table : None
        There is one for pairs and one for wave vectors instead.
    parameters : tuple
        Basis, n_max, l_max, radius, sigma, exponent and accuracy.
    """

    parameters: tuple = ()

    @property
    def _transforms(self):
        return transform_table(*self.parameters)

    def _pair_table(self, batch):
        """Table that reaches as far as any structure of the batch is large."""
        highest = np.maximum.reduceat(batch.positions, batch.offsets[:-1])
        extents = highest - np.minimum.reduceat(batch.positions, batch.offsets[:-1])
        extents[batch.pbc.any(axis=1)] = 0
        extent = np.linalg.norm(extents, axis=1)
        first, farthest = first_reach(RADIAL_BASES[self.parameters[0]](self.n_max, self.parameters[3]),
                                      self.parameters[4]), extent.max(initial=0.0)  # fmt: skip
        if farthest > _LARGEST_REACH * first:
            raise ValueError(
                f"structure {batch.number(int(extent.argmax()))} has atoms {farthest:.3g} apart, in whose fields "
                f"nothing is resolved within {self.parameters[3]:g}: check the units of its positions, or set "
                "atoms.pbc = True if it is a crystal"
            )
        reach = 1 if farthest < first else 2 ** int(np.ceil(np.log2(1.001 * farthest / first)))
        return potential_table(*self.parameters, max(1, reach))

    def _block(self, batch, is_center, start, stop, first_row):
        part = batch.select(start, stop)
        find_neighbors(part, _NEAR)  # refuses atoms that coincide
        centers = np.flatnonzero(is_center[batch.offsets[start] : batch.offsets[stop]])
        channels = self._first_channels()[part.numbers]
        return PotentialBlock(self, part, centers, channels, first_row, start, stop)

    def expand(self, block, a, b, dtype=np.float64):
        """Coefficients of the centers a .. b - 1 of a block, shape (b - a, (l_max + 1)^2, n_channels)."""
        density = np.empty((b - a, (self.l_max + 1) ** 2, len(self.species) * self.n_max))
        own = np.sqrt(1 / (4 * np.pi)) * block.table.center
        # the sums over wave vectors contain the field of the center itself
        expand_density(*self._arguments(block.piece(a, b)), self.center_weight * own, *block.table.loop_arguments(),
                       density)  # fmt: skip
        for crystal, rows, atoms in block.crystals_between(a, b):
            crystal.add_density(atoms, density[rows])
            counted = np.flatnonzero(crystal.species[atoms] >= 0)
            channels = crystal.species[atoms][counted, None] * self.n_max + np.arange(self.n_max)
            density[rows.start + counted[:, None], 0, channels] -= own
        return self.contracted(density).astype(dtype, copy=False)

    def _arguments(self, piece, *_):
        pairs = piece.pairs
        return (
            piece.centers, pairs.offsets, pairs.neighbors, pairs.vectors, pairs.distances, piece.channels,
            len(self.species), self.l_max, self.n_max, harmonics_prefactors(self.l_max),
        )  # fmt: skip

    def moves(self, block):
        """List, for each species, which atoms move which centers: all others of the structure."""
        return [block.moves(s) for s in range(len(self.species))]

    def n_moves(self, batch):
        """Count the atoms of the structure of each atom, that move it."""
        return np.diff(batch.offsets)[batch.structure_of_atom]

    def changes(self, block, moves, s, a, b):
        """Differentiate the coefficients of a species by the moves of the centers a .. b - 1, as for densities."""
        own = slice(moves.offsets[a], moves.offsets[b])
        centers, moved = block.centers[moves.owners[own]], moves.moved[own]
        out = np.zeros((len(moved), 3, (self.l_max + 1) ** 2, self.n_max))
        structures = block.structures[moved]
        alone = np.flatnonzero(~block.periodic[structures])
        vectors = block.part.positions[moved[alone]] - block.part.positions[centers[alone]]
        pairs = NeighborPairs(block.part, moved[alone], vectors, np.linalg.norm(vectors, axis=1), moves.offsets)
        out[alone] = self._gradient(block.table, pairs)
        for k in np.unique(structures[block.periodic[structures]]):
            rows = np.flatnonzero(structures == k)
            first = block.part.offsets[k]
            change = np.zeros((len(rows), *out.shape[1:]))
            block.crystal(k).moves(centers[rows] - first, moved[rows] - first, change)
            out[rows] = change
        return out

    def _gradient(self, table, pairs):
        order = np.arange(len(pairs.neighbors))
        return gradient_of_pairs(self.with_table(table), pairs, order, order, len(order))

    def with_table(self, table):
        """Make an expansion of pairs with a table."""
        return DensityExpansion(table, self.n_max, self.l_max, self.center_weight, self.species)

    def strains(self, block, a, b):
        """Differentiate the coefficients of the centers a .. b - 1 by strain, (b - a, 9, (l_max + 1)^2, n_channels)."""
        piece = block.piece(a, b)
        changes = pair_strains(self.with_table(block.table), piece, 0, b - a)
        for crystal, rows, atoms in block.crystals_between(a, b):
            crystal.strains(atoms, changes[rows])
        return changes

    def collector(self, block):
        """Make what gathers the derivatives of a contraction with cotangents."""
        return FieldCollector(self, block)


class PotentialBlock:
    """Some whole structures of a batch, with the fields of the crystals among them.

    Attributes
    ----------
    part : StructureBatch
    centers, channels, first_row, start, stop
        As of :class:`DensityBlock`.
    structures : ndarray of int, shape (n_atoms,)
    periodic : ndarray of bool, shape (n_structures,)
    """

    def __init__(self, expansion, part, centers, channels, first_row, start, stop):
        self.expansion, self.part, self.centers, self.channels = expansion, part, centers, channels
        self.first_row, self.start, self.stop = first_row, start, stop
        self.structures, self.periodic = part.structure_of_atom, part.pbc.all(axis=1)
        self.table = expansion._pair_table(part)
        self._crystals = {k: self._crystal(k) for k in np.flatnonzero(self.periodic)}

    def _crystal(self, k):
        expansion, atoms = self.expansion, slice(self.part.offsets[k], self.part.offsets[k + 1])
        species = np.where(self.channels[atoms] >= 0, self.channels[atoms] // expansion.n_max, -1)
        return Crystal(expansion._transforms, expansion.n_max, self.part.positions[atoms], self.part.cells[k], species,
                       len(expansion.species))  # fmt: skip

    def crystal(self, k):
        """Field of a structure that is periodic."""
        return self._crystals[k]

    def crystals_between(self, a, b):
        """Yield the crystals of the centers a .. b - 1, the rows of their centers among these, and the atoms."""
        structures = self.structures[self.centers[a:b]]
        for k in np.unique(structures[self.periodic[structures]]):
            rows = slice(*np.searchsorted(structures, [k, k + 1]))
            yield self._crystals[k], rows, self.centers[a:b][rows] - self.part.offsets[k]

    def piece(self, a, b):
        """Centers a .. b - 1 with all pairs of them in molecules, as a block of its own."""
        centers, offsets = self.centers[a:b], self.part.offsets
        structures = self.structures[centers]
        starts = np.where(self.periodic[structures], centers, offsets[structures])
        stops = np.where(self.periodic[structures], centers + 1, offsets[structures + 1])
        n_pairs = int(np.sum(stops - starts - 1))
        neighbors, vectors, distances = np.empty(n_pairs, np.int64), np.empty((n_pairs, 3)), np.empty(n_pairs)
        of_atoms = np.empty(self.part.n_atoms + 1, np.int64)
        structure_pairs(centers, starts, stops, self.part.positions, neighbors, vectors, distances, of_atoms)
        pairs = NeighborPairs(self.part, neighbors, vectors, distances, of_atoms)
        return DensityBlock(pairs, centers, self.channels, self.first_row + a, self.start, self.stop, self.part)

    def moves(self, s):
        """List the moves of all centers by the other atoms of a species in their structures."""
        offsets, first = self.part.offsets, s * self.expansion.n_max
        chosen = np.flatnonzero(self.channels == first)
        ends = np.searchsorted(chosen, offsets)
        structures = self.structures[self.centers]
        counts = ends[structures + 1] - ends[structures]
        owners = np.repeat(np.arange(len(self.centers)), counts)
        starts = np.cumsum(counts) - counts
        moved = chosen[np.arange(len(owners)) - np.repeat(starts - ends[structures], counts)]
        keep = moved != self.centers[owners]
        owners, moved = owners[keep], moved[keep]
        nothing = np.empty(0, np.int64)
        bounds = np.searchsorted(owners, np.arange(len(self.centers) + 1))
        return Moves(owners, moved, bounds, nothing, nothing, nothing)


class FieldCollector:
    """Derivatives of sum(cotangent * coefficients) of the centers of a block, gathered from ranges of centers.

    Parameters
    ----------
    expansion : PotentialExpansion
    block : PotentialBlock
    """

    def __init__(self, expansion, block):
        self.expansion, self.block, self.parts = expansion, block, []

    def contract(self, a, b, cotangent):
        """Take the cotangents of the centers a .. b - 1; ranges may come from several threads."""
        expansion, block = self.expansion, self.block
        cotangent = expansion.uncontracted(cotangent)
        positions, strain = np.zeros((block.part.n_atoms, 3)), np.zeros((len(block.part), 3, 3))
        piece = block.piece(a, b)
        pairs, by_vectors = piece.pairs, np.zeros((len(piece.pairs.neighbors), 3))
        contract_gradients(*expansion._arguments(piece), *block.table.loop_arguments(), cotangent, by_vectors)
        sum_pairs(pairs.offsets, pairs.neighbors, pairs.vectors, by_vectors, block.structures, positions, strain)
        for crystal, rows, atoms in block.crystals_between(a, b):
            k = block.structures[block.centers[a + rows.start]]
            own = slice(block.part.offsets[k], block.part.offsets[k + 1])
            crystal.contract(atoms, cotangent[rows], positions[own], strain[k])
        self.parts.append((a, positions, strain))

    def add_to(self, positions, strain):
        """Add all derivatives, in the order of the ranges, to those by positions and by strain."""
        for _, by_positions, by_strain in sorted(self.parts, key=lambda part: part[0]):
            positions += by_positions
            strain += by_strain
