r"""From frames to density coefficients, in ranges of centers that fit the cache.

The density around center i and its expansion in orthonormal functions are

.. math::
    \rho_i^a(\mathbf r) = \sum_{j \in a} f_{cut}(r_{ij})\, u(r_{ij})\, g_\sigma(\mathbf r - \mathbf r_{ij})
    = \sum_{nlm} c^i_{anlm} R_{nl}(r) Y_{lm}(\hat{\mathbf r}) ,

with g a Gaussian of unit integral (Bartok et al., Phys. Rev. B 87, 184115 (2013)). The central atom contributes
``center_weight`` times a Gaussian at the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import numpy as np
from joblib import effective_n_jobs

from eqkernels._ranges import over_ranges, structure_blocks
from eqkernels.descriptors.density._density_loops import expand_density
from eqkernels.descriptors.density._derivative_loops import subtract_changes
from eqkernels.descriptors.density._gradient_loops import contract_gradients
from eqkernels.descriptors.density.moves import PairCollector, pair_changes, pair_moves, pair_strains
from eqkernels.radial import GTO, LaplacianEigenstates, RadialTable
from eqkernels.radial.basis import RadialBasis
from eqkernels.so3.spherical_harmonics import harmonics_prefactors
from eqkernels.structures import NeighborPairs, StructureBatch, find_neighbors

RADIAL_BASES: dict[str, Callable[[int, float], RadialBasis]] = {"gto": GTO, "laplacian": LaplacianEigenstates}

# Neighbor pairs are made for this many atoms at once: some MB for dense crystals.
_ATOMS_PER_BLOCK = 512
# Bytes of density coefficients made and used up at once: they stay in the caches, and a range is worth handing out.
_DENSITY_PER_RANGE = 2**20


def centers_per_range(bytes_per_center: int) -> int:
    """So many centers that their density coefficients stay in the caches."""
    return max(1, _DENSITY_PER_RANGE // max(1, bytes_per_center))


@lru_cache(maxsize=32)
def radial_table(basis, n_max, l_max, sigma, cutoff, cutoff_width, scaling, accuracy):
    """Table of the radial weights, kept for the parameters that were used last."""
    return RadialTable(RADIAL_BASES[basis](n_max, cutoff), l_max, sigma, cutoff, cutoff_width, scaling, accuracy)


@dataclass(frozen=True)
class DensityExpansion:
    """Density coefficients c[i, lm, (a n)] of the centers of a batch.

    Attributes
    ----------
    table : RadialTable
    n_max, l_max : int
    center_weight : float
    species : ndarray of int
        Atomic numbers of the neighbor channels.
    contraction : ndarray of shape (l_max + 1, n_species * n_max, n_channels), default=None
        Contracts the channels (species, radial index) of each degree, see
        :mod:`eqkernels.descriptors.density.compression`.
    inputs : InputChannels, default=None
        Channels of inputs, which :class:`~eqkernels.descriptors.density.input_expansion.InputExpansion` adds.
    """

    table: RadialTable
    n_max: int
    l_max: int
    center_weight: float
    species: np.ndarray
    contraction: np.ndarray | None = None
    inputs: Any = None

    @property
    def n_channels(self):
        """Number of channels: (species, radial index), or what they are contracted to."""
        return len(self.species) * self.n_max if self.contraction is None else self.contraction.shape[2]

    @property
    def n_made(self):
        """Number of channels that are made, before they are contracted."""
        return len(self.species) * self.n_max

    def for_each_range(self, batch, is_center, consume, n_jobs=None, progress=None, dtype=np.float64):
        """Call ``consume(rows, density)`` for ranges of centers, possibly from several threads.

        Parameters
        ----------
        batch : StructureBatch
        is_center : ndarray of bool, shape (n_atoms,)
        consume : callable
            Receives the slice of rows (centers counted over the whole batch) and their coefficients, an array
            (n_rows, (l_max + 1)^2, n_channels) that it may keep.
        n_jobs : int, optional
            Number of threads, with joblib's meaning.
        progress : callable, optional
            Called with the number of structures done.
        dtype : dtype, default=float64
            Type of the coefficients, and of the arithmetic that makes them.
        """
        size = centers_per_range(8 * (self.l_max + 1) ** 2 * self.n_made)
        plan = _plan(batch.offsets, is_center)
        n_jobs = effective_n_jobs(n_jobs)
        # threads share out the blocks, or where these are few, the centers of each
        by_block = len(plan) >= 4 * n_jobs
        lock, n_done = Lock(), 0

        def handle(first, last):
            nonlocal n_done
            for start, stop, first_row in plan[first:last]:
                block = self._block(batch, is_center, start, stop, first_row)

                def work(a, b, block=block):
                    consume(slice(block.first_row + a, block.first_row + b), self.expand(block, a, b, dtype))

                over_ranges(len(block.centers), size, work, 1 if by_block else n_jobs)
                if progress is not None:
                    with lock:
                        n_done += stop - start
                        progress(n_done)

        over_ranges(len(plan), 1, handle, n_jobs if by_block else 1)

    def blocks(self, batch, is_center):
        """Yield whole structures with their neighbor pairs, so many that the pairs fit into memory."""
        for start, stop, first_row in _plan(batch.offsets, is_center):
            yield self._block(batch, is_center, start, stop, first_row)

    def _block(self, batch, is_center, start, stop, first_row):
        part = batch.select(start, stop)
        centers = np.flatnonzero(is_center[batch.offsets[start] : batch.offsets[stop]])
        pairs = find_neighbors(part, self.table.cutoff)
        return DensityBlock(pairs, centers, self._first_channels()[part.numbers], first_row, start, stop, part)

    def _first_channels(self):
        """First channel of each atomic number, -1 for species that do not count."""
        first_channel = np.full(256, -1)
        first_channel[self.species] = np.arange(len(self.species)) * self.n_max
        return first_channel

    def expand(self, block, a, b, dtype=np.float64):
        """Density coefficients of the centers a .. b - 1 of a block, shape (b - a, (l_max + 1)^2, n_channels)."""
        density = np.empty((b - a, (self.l_max + 1) ** 2, len(self.species) * self.n_max), dtype)
        table = self.table.loop_arguments(density.dtype.char)
        expand_density(*self._arguments(block, a, b), self.center_values, *table, density)
        return self.contracted(density)

    def contracted(self, coefficients, s=None):
        """Contract the channels of coefficients (..., (l_max + 1)^2, width): of all species, or of that number s."""
        if self.contraction is None:
            return coefficients
        first = 0 if s is None else s * self.n_max
        out = np.empty((*coefficients.shape[:-1], self.contraction.shape[2]), coefficients.dtype)
        matrices = self.contraction[:, first : first + coefficients.shape[-1]].astype(out.dtype, copy=False)
        for l, matrix in enumerate(matrices):
            np.matmul(coefficients[..., l * l : (l + 1) ** 2, :], matrix, out=out[..., l * l : (l + 1) ** 2, :])
        return out

    def uncontracted(self, cotangent):
        """Cotangents of the coefficients before they are contracted."""
        if self.contraction is None:
            return cotangent
        parts = [cotangent[:, l * l : (l + 1) ** 2] @ matrix.T for l, matrix in enumerate(self.contraction)]
        return np.concatenate(parts, axis=1)

    def contract(self, block, a, b, cotangent, out):
        """Write, for the pairs of some centers, the derivative of sum(cotangent * density) by their vectors."""
        cotangent = self.uncontracted(cotangent)
        contract_gradients(*self._arguments(block, a, b), *self.table.loop_arguments(), cotangent, out)

    def changed(self, s=None):
        """First of the channels that change with species number s (None: any), and how many: all when contracted."""
        if s is None:
            return 0, self.n_channels
        return (s * self.n_max, self.n_max) if self.contraction is None else (0, self.contraction.shape[2])

    def channel_changes(self, block, moves, s, a, b):
        """Make the changes of the channels that :meth:`changed` names by the moves of the centers a .. b - 1."""
        return self.contracted(self.changes(block, moves, s, a, b), s)

    def strain_changes(self, block, a, b):
        """Make the changes (b - a, 9, (l_max + 1)^2, n_channels) of the centers a .. b - 1 by strain."""
        return self.contracted(self.strains(block, a, b))

    def moves(self, block):
        """List, for each species, which atoms move which centers of a block."""
        return [pair_moves(block, first) for first in range(0, self.n_max * len(self.species), self.n_max)]

    def n_moves(self, batch):
        """Count the neighbors of each atom, that move it."""
        return np.diff(find_neighbors(batch, self.table.cutoff).offsets)

    def changes(self, block, moves, s, a, b):
        """Differentiate the coefficients of a species by the moves of the centers a .. b - 1.

        Returns
        -------
        ndarray of shape (n_moves, 3, (l_max + 1)^2, n_max)
        """
        return pair_changes(self, block.pairs, moves, a, b)

    def strains(self, block, a, b):
        """Differentiate the coefficients of the centers a .. b - 1 by strain, (b - a, 9, (l_max + 1)^2, n_channels)."""
        return pair_strains(self, block, a, b)

    def subtract(self, owners, first, changes, out):
        """Subtract changes of some channels from those of their centers, out (n_owners, 3, n_lm, n_channels)."""
        subtract_changes(owners, first, changes, out)

    def collector(self, block):
        """Make what gathers the derivatives of a contraction with cotangents."""
        return PairCollector(self, block)

    def _arguments(self, block, a, b):
        pairs = block.pairs
        return (
            block.centers[a:b], pairs.offsets, pairs.neighbors, pairs.vectors, pairs.distances, block.channels,
            len(self.species), self.l_max, self.n_max, harmonics_prefactors(self.l_max),
        )  # fmt: skip

    @cached_property
    def center_values(self):
        """What the central atom adds to its own coefficients at l = 0, shape (n_max,)."""
        return self.center_weight / np.sqrt(4 * np.pi) * self.table.center


@dataclass(frozen=True)
class DensityBlock:
    """Some whole structures of a batch.

    Attributes
    ----------
    pairs : NeighborPairs
    centers : ndarray of int
        Atoms of the block that are centers.
    channels : ndarray of int, shape (n_atoms,)
        First channel of the species of each atom, -1 where it does not count.
    first_row : int
        Number of centers before those of this block.
    start, stop : int
        The structures.
    batch : StructureBatch
        These structures.
    """

    pairs: NeighborPairs
    centers: np.ndarray
    channels: np.ndarray
    first_row: int
    start: int
    stop: int
    batch: StructureBatch


def _plan(offsets, is_center):
    """List blocks of whole structures: (start, stop, number of centers before them)."""
    rows = np.concatenate([[0], np.cumsum(is_center)])[offsets]
    return [(start, stop, int(rows[start])) for start, stop in structure_blocks(offsets, _ATOMS_PER_BLOCK)]
