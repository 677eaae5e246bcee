"""Derivatives of coefficients by the vectors of neighbor pairs, gathered by what moves: atoms, or the strain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels.descriptors.density._derivative_loops import sum_pairs, sum_strains
from eqkernels.descriptors.density._gradient_loops import expand_gradients
from eqkernels.so3.spherical_harmonics import harmonics_prefactors


@dataclass(frozen=True)
class Moves:
    """Which atoms of one species move which centers of a block.

    Attributes
    ----------
    owners, moved : ndarray of int, shape (n_moves,)
        The center (counted in the block) and the atom (of the block), sorted.
    offsets : ndarray of int, shape (n_centers + 1,)
        First move of each center.
    order, items : ndarray of int, shape (n_pairs,)
        Pairs of other atoms than the center, sorted by move, and the move that each belongs to.
    pair_offsets : ndarray of int, shape (n_centers + 1,)
        First pair of each center.
    """

    owners: np.ndarray
    moved: np.ndarray
    offsets: np.ndarray
    order: np.ndarray
    items: np.ndarray
    pair_offsets: np.ndarray


def pair_moves(block, channel):
    """List the moves of centers by neighbors of a species, whose first channel is ``channel``."""
    pairs = block.pairs
    center_of_atom = np.full(len(block.channels), -1)
    center_of_atom[block.centers] = np.arange(len(block.centers))
    atoms = pairs.centers
    # an atom does not move relative to its own images
    moving = (block.channels[pairs.neighbors] == channel) & (center_of_atom[atoms] >= 0) & (pairs.neighbors != atoms)
    order = np.flatnonzero(moving)
    owners, moved = center_of_atom[atoms[order]], pairs.neighbors[order]
    sorting = np.lexsort((moved, owners))
    order, owners, moved = order[sorting], owners[sorting], moved[sorting]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(owners) != 0) | (np.diff(moved) != 0)
    bounds = np.arange(len(block.centers) + 1)
    pair_offsets = np.searchsorted(owners, bounds)
    owners, moved = owners[new], moved[new]
    return Moves(owners, moved, np.searchsorted(owners, bounds), order, np.cumsum(new) - 1, pair_offsets)


def gradient_of_pairs(expansion, pairs, order, items, n_items):
    """Differentiate the coefficients of one species by the vectors of pairs, summed over the pairs of an item.

    Parameters
    ----------
    expansion : DensityExpansion
    pairs : NeighborPairs
    order, items : ndarray of int, shape (n,)
        Some pairs, and the item that each belongs to.
    n_items : int

    Returns
    -------
    ndarray of shape (n_items, 3, (l_max + 1)^2, n_max)
    """
    l_max, n_max = expansion.l_max, expansion.n_max
    gradient = np.zeros((n_items, 3, (l_max + 1) ** 2, n_max))
    arguments = l_max, n_max, harmonics_prefactors(l_max), *expansion.table.loop_arguments()
    expand_gradients(order, items, pairs.vectors, pairs.distances, *arguments, gradient)
    return gradient


def pair_changes(expansion, pairs, moves, a, b):
    """Differentiate by the moves of the centers a .. b - 1, see :meth:`DensityExpansion.changes`."""
    own, first = slice(moves.pair_offsets[a], moves.pair_offsets[b]), moves.offsets[a]
    return gradient_of_pairs(expansion, pairs, moves.order[own], moves.items[own] - first, moves.offsets[b] - first)


def pair_strains(expansion, block, a, b):
    """Differentiate by the strain, see :meth:`DensityExpansion.strains`."""
    n_channels, pairs = len(expansion.species) * expansion.n_max, block.pairs
    changes = np.zeros((b - a, 9, (expansion.l_max + 1) ** 2, n_channels))
    for i, atom in enumerate(block.centers[a:b]):
        order = np.arange(pairs.offsets[atom], pairs.offsets[atom + 1])
        order = order[block.channels[pairs.neighbors[order]] >= 0]
        gradient = gradient_of_pairs(expansion, pairs, order, np.arange(len(order)), len(order))
        firsts = block.channels[pairs.neighbors[order]]
        sum_strains(firsts, pairs.vectors[order], gradient, expansion.n_max, changes[i])
    return changes


class PairCollector:
    """Derivatives of sum(cotangent * density) of the centers of a block, gathered from ranges of centers.

    Parameters
    ----------
    expansion : DensityExpansion
    block : DensityBlock
    """

    def __init__(self, expansion, block):
        self.expansion, self.block = expansion, block
        self.by_vectors = np.zeros((len(block.pairs.neighbors), 3))

    def contract(self, a, b, cotangent):
        """Take the cotangents of the centers a .. b - 1; ranges may come from several threads."""
        self.expansion.contract(self.block, a, b, cotangent, self.by_vectors)

    def add_to(self, positions, strain):
        """Add all derivatives to those by the positions (n_atoms, 3) and strain (n_structures, 3, 3) of the block."""
        pairs = self.block.pairs
        of_atom = pairs.batch.structure_of_atom
        sum_pairs(pairs.offsets, pairs.neighbors, pairs.vectors, self.by_vectors, of_atom, positions, strain)
