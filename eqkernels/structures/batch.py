"""The door for structures: frames are checked once and become a few flat arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from eqkernels.structures._door_loops import all_usable
from eqkernels.structures.neighbors import find_neighbors

# |det| of the cell with its vectors scaled to unit length; below this they are linearly dependent to rounding.
_FLAT_CELL = 1e-10


@dataclass(frozen=True)
class StructureBatch:
    """Structures as flat arrays.

    Attributes
    ----------
    positions : ndarray of shape (n_atoms, 3)
        In the units of the frames.
    numbers : ndarray of int, shape (n_atoms,)
        Atomic numbers.
    cells : ndarray of shape (n_structures, 3, 3)
        Cell vectors as rows.
    pbc : ndarray of bool, shape (n_structures, 3)
        Periodic directions.
    offsets : ndarray of int, shape (n_structures + 1,)
        Atoms ``offsets[k]:offsets[k + 1]`` belong to structure k.
    first_structure : int
        Index of the first structure in the input, for messages.

    Examples
    --------
    >>> from ase.build import bulk, molecule
    >>> batch = StructureBatch.from_frames([molecule("H2O"), bulk("Si")])
    >>> batch.offsets
    array([0, 3, 5])
    >>> batch.neighbor_pairs(2.5).offsets  # two O-H pairs and four bonds of each silicon, seen from both sides
    array([ 0,  2,  4,  6, 10, 14])
    """

    positions: np.ndarray
    numbers: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    offsets: np.ndarray
    first_structure: int = field(default=0, compare=False)

    @classmethod
    def from_frames(cls, frames):
        """Read and check frames.

        Parameters
        ----------
        frames : sequence of ase.Atoms
            List, tuple, one-dimensional object array, Series or trajectory.

        Returns
        -------
        StructureBatch

        Raises
        ------
        TypeError
            If frames is a single ase.Atoms, or contains something else.
        ValueError
            If there is no structure, or one of them is unusable: no atoms, positions that are not finite, unknown
            elements, periodic directions without a cell vector. The message names the structure and the atom.

        Warns
        -----
        UserWarning
            If structures claim to be periodic without any cell; they are read as molecules.
        """
        frames = _as_list(frames)
        positions = [atoms.arrays["positions"] for atoms in frames]
        counts = [len(one) for one in positions]
        if 0 in counts:
            raise ValueError(f"structure {counts.index(0)} has no atoms: remove it")
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        positions = np.concatenate(positions).astype(float, copy=False)
        numbers = np.concatenate([atoms.arrays["numbers"] for atoms in frames]).astype(np.int64, copy=False)
        # far faster than an array of a list of small ones
        cells = np.concatenate([atoms.cell.array for atoms in frames]).reshape(-1, 3, 3).astype(float, copy=False)
        pbc = np.concatenate([atoms.pbc for atoms in frames]).reshape(-1, 3)
        if all_usable(positions, numbers, cells, pbc, _FLAT_CELL):
            return cls(positions, numbers, cells, pbc, offsets)
        batch = cls(positions, numbers, cells, _check_cells(cells, pbc), offsets)
        _check_atoms(batch)
        return batch

    @property
    def n_structures(self):
        """Number of structures."""
        return len(self.offsets) - 1

    @property
    def n_atoms(self):
        """Number of atoms of all structures."""
        return len(self.numbers)

    @property
    def structure_of_atom(self):
        """Structure of each atom."""
        return np.repeat(np.arange(self.n_structures), np.diff(self.offsets))

    @property
    def atom_in_structure(self):
        """Index of each atom within its structure."""
        return np.arange(self.n_atoms) - np.repeat(self.offsets[:-1], np.diff(self.offsets))

    @property
    def species(self):
        """Atomic numbers that occur, ascending."""
        return np.unique(self.numbers)

    def select(self, start, stop):
        """Batch of the structures start .. stop - 1, sharing memory with this one.

        Parameters
        ----------
        start, stop : int

        Returns
        -------
        StructureBatch
        """
        atoms, structures = slice(self.offsets[start], self.offsets[stop]), slice(start, stop)
        return StructureBatch(
            self.positions[atoms],
            self.numbers[atoms],
            self.cells[structures],
            self.pbc[structures],
            self.offsets[start : stop + 1] - self.offsets[start],
            self.first_structure + start,
        )

    def neighbor_pairs(self, cutoff):
        """All ordered pairs of atoms closer than the cutoff, periodic images included.

        Parameters
        ----------
        cutoff : float
            In the units of the positions.

        Returns
        -------
        NeighborPairs

        Raises
        ------
        ValueError
            If the cutoff is not positive, or two atoms coincide; the message names them.
        """
        return find_neighbors(self, cutoff)


def _as_list(frames):
    if isinstance(frames, Atoms):
        raise TypeError("X is a single ase.Atoms: wrap it in a list, [atoms]")
    if isinstance(frames, str | bytes) or not isinstance(frames, Iterable):
        raise TypeError(
            f"X must be a sequence of ase.Atoms, got {type(frames).__name__}: read files with ase.io.read(path, ':')"
        )
    frames = list(frames)
    if not frames:
        raise ValueError("X has no structures (0 samples): give at least one (a minimum of 1 is required)")
    for k, atoms in enumerate(frames):
        if not isinstance(atoms, Atoms):
            raise TypeError(f"structure {k} is a {type(atoms).__name__}, expected ase.Atoms")
    return frames


def _check_cells(cells, pbc):
    """Periodic directions, with those of structures that have no cell at all removed."""
    bad = np.flatnonzero(~np.isfinite(cells).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(f"the cell of structure {bad[0]} contains NaN or infinity")
    if not pbc.any():
        return pbc
    lengths = np.linalg.norm(cells, axis=2)
    no_cell = pbc.any(axis=1) & (lengths == 0).all(axis=1)
    if no_cell.any():
        warnings.warn(
            f"{no_cell.sum()} structures (first: {np.argmax(no_cell)}) are flagged periodic but have no cell: they are "
            "read as molecules. Set atoms.pbc = False to say so",
            stacklevel=4,
        )
        pbc = pbc & ~no_cell[:, None]
    missing = pbc & (lengths == 0)
    if missing.any():
        structure, axis = np.argwhere(missing)[0]
        raise ValueError(
            f"structure {structure} is periodic along direction {axis} but its cell vector there is zero: set the "
            f"vector, or atoms.pbc[{axis}] = False"
        )
    unit = np.where(pbc[:, :, None], cells / np.where(lengths > 0, lengths, 1.0)[:, :, None], 0.0)
    gram = unit @ unit.transpose(0, 2, 1) + np.eye(3) * ~pbc[:, None, :]
    flat = np.flatnonzero(np.linalg.det(gram) < _FLAT_CELL)
    if len(flat):
        raise ValueError(f"the periodic cell vectors of structure {flat[0]} are linearly dependent: its volume is zero")
    return pbc


def _check_atoms(batch):
    if np.isfinite(batch.positions).all() and batch.numbers.min() > 0 and batch.numbers.max() <= 118:
        return
    for bad, what in (
        (~np.isfinite(batch.positions).all(axis=1), "has a position that is NaN or infinite"),
        (batch.numbers <= 0, "is a placeholder (X, atomic number 0): remove it or name its element"),
        (batch.numbers > 118, "has an atomic number beyond 118"),
    ):
        atoms = np.flatnonzero(bad)
        if len(atoms):
            where = f"structure {batch.structure_of_atom[atoms[0]]}, atom {batch.atom_in_structure[atoms[0]]}"
            raise ValueError(f"{where} {what}")
