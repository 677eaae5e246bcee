r"""From frames to density coefficients, in ranges of centers that fit the cache.

The density around center i and its expansion in orthonormal functions are

.. math::
    \rho_i^a(\mathbf r) = \sum_{j \in a} f_{cut}(r_{ij})\, u(r_{ij})\, g_\sigma(\mathbf r - \mathbf r_{ij})
    = \sum_{nlm} c^i_{anlm} R_{nl}(r) Y_{lm}(\hat{\mathbf r}) ,

with g a Gaussian of unit integral (Bartok et al., Phys. Rev. B 87, 184115 (2013)). The central atom contributes
``center_weight`` times a Gaussian at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs

from eqkernels.descriptors._density_loops import expand_density
from eqkernels.radial import GTO, LaplacianEigenstates, RadialTable
from eqkernels.so3.spherical_harmonics import harmonics_prefactors

RADIAL_BASES = {"gto": GTO, "laplacian": LaplacianEigenstates}

# Neighbor pairs are made for this many atoms at once: some ten MB for dense crystals.
_ATOMS_PER_BLOCK = 4096
# Bytes of density coefficients that are made and used up at once: they stay in the second-level cache.
_DENSITY_PER_RANGE = 2**19


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
    """

    table: RadialTable
    n_max: int
    l_max: int
    center_weight: float
    species: np.ndarray

    @property
    def n_channels(self):
        """Number of channels (species, radial index)."""
        return len(self.species) * self.n_max

    def for_each_range(self, batch, is_center, consume, n_jobs=None, progress=None):
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
        """
        first_channel = np.full(256, -1)
        first_channel[self.species] = np.arange(len(self.species)) * self.n_max
        n_threads, first_row = effective_n_jobs(n_jobs), 0
        for start, stop in structure_blocks(batch.offsets, _ATOMS_PER_BLOCK * n_threads):
            block = batch.select(start, stop)
            pairs = block.neighbor_pairs(self.table.cutoff)
            centers = np.flatnonzero(is_center[batch.offsets[start] : batch.offsets[stop]])
            channels = first_channel[block.numbers]

            def work(ranges, pairs=pairs, centers=centers, channels=channels, first_row=first_row):
                for a, b in ranges:
                    density = self._expand(pairs, centers[a:b], channels)
                    consume(slice(first_row + a, first_row + b), density)

            ranges = self._ranges(len(centers))
            if n_threads == 1:
                work(ranges)
            else:  # a few tasks a thread: enough to balance, few enough that handing them out costs nothing
                tasks = np.array_split(ranges, min(len(ranges), 4 * n_threads)) if ranges else []
                Parallel(n_jobs=n_jobs, require="sharedmem")(delayed(work)(task) for task in tasks)
            first_row += len(centers)
            if progress is not None:
                progress(stop)

    def _expand(self, pairs, centers, channels):
        density = np.zeros((len(centers), (self.l_max + 1) ** 2, self.n_channels))
        expand_density(
            centers, pairs.offsets, pairs.neighbors, pairs.vectors, pairs.distances, channels, len(self.species),
            self.l_max, self.n_max, harmonics_prefactors(self.l_max), self.center_values, *self.table.loop_arguments,
            density,
        )  # fmt: skip
        return density

    def _ranges(self, n_centers):
        size = max(1, _DENSITY_PER_RANGE // (8 * (self.l_max + 1) ** 2 * self.n_channels))
        return [(start, min(start + size, n_centers)) for start in range(0, n_centers, size)]

    @property
    def center_values(self):
        """What the central atom adds to its own coefficients at l = 0, shape (n_max,)."""
        return self.center_weight / np.sqrt(4 * np.pi) * self.table.center


def structure_blocks(offsets, size):
    """Ranges (start, stop) of whole structures with at most ``size`` atoms, or a single larger structure."""
    start, n_structures = 0, len(offsets) - 1
    while start < n_structures:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1)
        yield start, stop
        start = stop
