"""Neighbor pairs of all structures of a batch, in one search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eqkernels._memory import check_memory
from eqkernels._numeric import check_positive
from eqkernels.structures._neighbors_loops import complete_cells, expected_pairs, find_pairs

if TYPE_CHECKING:
    from eqkernels.structures.batch import StructureBatch

# Nuclei are never this close (in Angstrom, or Bohr); two atoms on one site are an error of the input.
MIN_DISTANCE = 1e-3
# Neighbors of an atom (in solids, those within 100 Angstrom or more): beyond, units or the cell are wrong.
_MOST_NEIGHBORS = 10**6
_BYTES_PER_PAIR = 40


@dataclass(frozen=True)
class NeighborPairs:
    """All ordered pairs closer than a cutoff, by center.

    Attributes
    ----------
    batch : StructureBatch
        The structures.
    neighbors : ndarray of int, shape (n_pairs,)
        Atom j, counted over all structures.
    vectors : ndarray of shape (n_pairs, 3)
        From i to the image of j: ``positions[j] + shifts @ cell - positions[i]``.
    distances : ndarray of shape (n_pairs,)
    offsets : ndarray of int, shape (n_atoms + 1,)
        Pairs ``offsets[i]:offsets[i + 1]`` have the center i.
    """

    batch: StructureBatch
    neighbors: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
    offsets: np.ndarray

    @property
    def centers(self) -> np.ndarray:
        """Atom i of each pair, counted over all structures; ascending."""
        return np.repeat(np.arange(self.batch.n_atoms), np.diff(self.offsets))

    @property
    def shifts(self) -> np.ndarray:
        """Which periodic image of j, shape (n_pairs, 3)."""
        centers, positions = self.centers, self.batch.positions
        images = self.vectors - positions[self.neighbors] + positions[centers]
        _, inverses = complete_cells(self.batch.cells, self.batch.pbc)
        inverses = inverses[self.batch.structure_of_atom[centers]]
        shifts = np.rint(np.einsum("pi,pij->pj", images, inverses))
        return np.where(self.batch.pbc[self.batch.structure_of_atom[centers]], shifts, 0).astype(int)


def find_neighbors(batch: StructureBatch, cutoff: float, closest: float = MIN_DISTANCE) -> NeighborPairs:
    """Find all ordered pairs of atoms closer than the cutoff, periodic images included.

    Parameters
    ----------
    batch : StructureBatch
    cutoff : float
        In the units of the positions.
    closest : float, default=1e-3
        Distance below which two atoms coincide, which is an error; 0: they may.

    Returns
    -------
    NeighborPairs

    Raises
    ------
    ValueError
        If the cutoff is not positive, or two atoms coincide; the message names them.
    MemoryError
        If there are more pairs than fit into memory.

    Examples
    --------
    >>> from ase.build import bulk, molecule
    >>> from eqkernels.structures import StructureBatch
    >>> batch = StructureBatch.from_frames([molecule("H2O"), bulk("Si")])
    >>> find_neighbors(batch, 2.5).offsets  # two O-H pairs and four bonds of each silicon, seen from both sides
    array([ 0,  2,  4,  6, 10, 14])
    """
    check_positive(cutoff, "cutoff")
    cells, inverses = complete_cells(batch.cells, batch.pbc)
    expected = expected_pairs(batch.offsets, cells, batch.pbc, float(cutoff))
    _check_number(expected, batch, float(cutoff))
    capacity = int(expected)
    bad, ends = np.full(3, -1), np.empty(batch.n_atoms, dtype=np.int64)
    while True:
        neighbors, vectors, distances = np.empty(capacity, dtype=np.int64), np.empty((capacity, 3)), np.empty(capacity)
        arguments = (batch.positions, batch.offsets, cells, inverses, batch.pbc, float(cutoff), closest)
        find_pairs(*arguments, neighbors, vectors, distances, ends, bad)
        if bad[0] >= 0:
            raise ValueError(_coincidence(batch, bad))
        found = int(ends[-1]) if len(ends) else 0
        if found <= capacity:
            offsets = np.concatenate([[0], ends])
            return NeighborPairs(batch, neighbors[:found], vectors[:found], distances[:found], offsets)
        capacity = found


def _check_number(expected, batch, cutoff):
    """Refuse what would take more memory or time than anybody wants, before the search."""
    per_atom = expected / max(batch.n_atoms, 1)  # of none, where all atoms of a structure are left out
    if per_atom > _MOST_NEIGHBORS:
        raise ValueError(
            f"an atom would have about {per_atom:.1e} neighbors within cutoff={cutoff:g}: use a smaller cutoff, or "
            "check the units of the cell and the positions, in which the cutoff is given"
        )
    check_memory(
        _BYTES_PER_PAIR * expected,
        f"about {expected:.1e} neighbor pairs within cutoff={cutoff:g}",
        "use a smaller cutoff, or fewer structures at a time",
    )


def _coincidence(batch, bad):
    structure, i, j = bad
    first = batch.offsets[structure]
    where = f"structure {batch.number(structure)}"
    if i == j:
        return f"{where}, atom {i - first} coincides with its own periodic image: the cell is too small"
    return (
        f"{where}: atoms {i - first} and {j - first} coincide (closer than {MIN_DISTANCE:g}): remove one of them, or "
        "check the positions and the cell"
    )
