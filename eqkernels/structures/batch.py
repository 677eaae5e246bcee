"""Frames are read and checked once, and become a few flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atom, Atoms
from numpy.typing import NDArray

from eqkernels._numeric import check_integer
from eqkernels._warnings import warn
from eqkernels.structures._validation_loops import all_usable

# |det| of the cell with its vectors scaled to unit length; below this they are linearly dependent to rounding.
_FLAT_CELL = 1e-10
# Larger coordinates and cell vectors (10 cm, in Angstrom) are mistakes; distances of atoms would drown in rounding.
_LARGEST_LENGTH = 1e9


@dataclass(frozen=True)
class StructureBatch:
    """Structures as flat arrays.

    A batch is a sequence too: slices and arrays of indices give batches, integers and iteration ``ase.Atoms``. Every
    transformer takes it in place of frames, and does not check them again.

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
    origin : int or ndarray of int, shape (n_structures,)
        Index of the structures in the input of the user, for messages: of the first where they are consecutive.
    charges : ndarray of shape (n_structures, 2), or None
        Total charge, of ``atoms.info["charge"]`` (NaN: no finite number), and the sum of the initial charges of the
        atoms (NaN: there are none); None: all are neutral.
    inputs : dict of str to InputValues
        Inputs beyond the geometry, where they were read (:mod:`eqkernels.structures.inputs`).
    groups : ndarray of int, shape (n_atoms,), or None
        Label of the group of each atom, the same in a structure for atoms of one group
        (:mod:`eqkernels.structures.groups`); None: none were read.

    Examples
    --------
    >>> from ase.build import bulk, molecule
    >>> batch = StructureBatch.from_frames([molecule("H2O"), bulk("Si")])
    >>> batch.offsets
    array([0, 3, 5])
    """

    positions: np.ndarray
    numbers: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    offsets: np.ndarray
    origin: int | np.ndarray = field(default=0, compare=False)
    charges: np.ndarray | None = field(default=None, compare=False)
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    groups: np.ndarray | None = field(default=None, compare=False)

    @classmethod
    def from_frames(
        cls, frames: Iterable[Atoms] | StructureBatch, origin: int | NDArray[np.int64] = 0, quiet: bool = False
    ) -> StructureBatch:
        """Read and check frames.

        Parameters
        ----------
        frames : sequence or iterable of ase.Atoms
            List, tuple, one-dimensional object array, Series, trajectory or a part of it, generator, rows of an
            ase.db; or a StructureBatch, which is returned as it is.
        origin : int or ndarray of int, default=0
            Index of the first of these frames in the input of the user, or of each, for messages.
        quiet : bool, default=False
            Do not warn again, of frames that were read before.

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
        if isinstance(frames, cls):
            return frames
        frames = as_list(frames, origin)
        of_frames = [atoms.arrays["positions"] for atoms in frames]
        counts = [len(one) for one in of_frames]
        if 0 in counts:
            raise ValueError(f"structure {structure_number(origin, counts.index(0))} has no atoms: remove it")
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        positions = np.concatenate(of_frames).astype(float, copy=False)
        numbers = np.concatenate([atoms.arrays["numbers"] for atoms in frames]).astype(np.int64, copy=False)
        # far faster than an array of a list of small ones
        cells = np.concatenate([atoms.cell.array for atoms in frames]).reshape(-1, 3, 3).astype(float, copy=False)
        pbc = np.concatenate([atoms.pbc for atoms in frames]).reshape(-1, 3)
        batch = cls(positions, numbers, cells, pbc, offsets, origin, _charges(frames))
        if not all_usable(positions, numbers, cells, pbc, _FLAT_CELL, _LARGEST_LENGTH):
            batch = replace(batch, pbc=_check_cells(batch, quiet))
            _check_atoms(batch)
        return batch

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, key):
        if isinstance(key, int | np.integer):
            return self._atoms(range(len(self))[key])
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self.select(start, max(start, stop))
        return self._pick(np.arange(len(self))[key])

    def __iter__(self) -> Iterator[Atoms]:
        return (self._atoms(k) for k in range(len(self)))

    def _atoms(self, k):
        atoms = slice(self.offsets[k], self.offsets[k + 1])
        charge = 0.0 if self.charges is None else float(self.charges[k, 0])
        info = {"charge": charge} if charge else None
        return Atoms(self.numbers[atoms], self.positions[atoms], cell=self.cells[k], pbc=self.pbc[k], info=info)

    def _pick(self, picked):
        counts = np.diff(self.offsets)[picked]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        atoms = np.repeat(self.offsets[picked] - offsets[:-1], counts) + np.arange(offsets[-1])
        cells = self.cells[picked], self.pbc[picked]
        charges = None if self.charges is None else self.charges[picked]
        rest: Any = (self.number(picked), charges, self._inputs_of(atoms), self.groups_of(atoms))
        return StructureBatch(self.positions[atoms], self.numbers[atoms], *cells, offsets, *rest)

    def _inputs_of(self, atoms):
        return {name: replace(one, values=one.values[atoms]) for name, one in self.inputs.items()}

    def groups_of(self, atoms: Any) -> NDArray[np.int64] | None:
        """Labels of the groups of some atoms, None if none were read."""
        return None if self.groups is None else self.groups[atoms]

    def number(self, structure: Any) -> Any:
        """Index of a structure of the batch, or of several, in the input of the user."""
        return structure_number(self.origin, structure)

    def where(self, atom: int) -> str:
        """Name an atom, counted over the batch, in a message."""
        return f"structure {self.number(self.structure_of_atom[atom])}, atom {self.atom_in_structure[atom]}"

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self)

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return len(self.numbers)

    @property
    def structure_of_atom(self) -> NDArray[np.int64]:
        """Structure of each atom."""
        return np.repeat(np.arange(self.n_structures), np.diff(self.offsets))

    @property
    def atom_in_structure(self) -> NDArray[np.int64]:
        """Index of each atom within its structure."""
        return np.arange(self.n_atoms) - np.repeat(self.offsets[:-1], np.diff(self.offsets))

    @property
    def species(self) -> NDArray[np.int64]:
        """Atomic numbers that occur, ascending."""
        return np.unique(self.numbers)

    def select(self, start: int, stop: int) -> StructureBatch:
        """Batch of the structures start .. stop - 1, sharing memory with this one.

        Parameters
        ----------
        start, stop : int

        Returns
        -------
        StructureBatch
        """
        check_integer(start, "start", 0, self.n_structures)
        check_integer(stop, "stop", start, self.n_structures)
        atoms, structures = slice(self.offsets[start], self.offsets[stop]), slice(start, stop)
        return StructureBatch(
            self.positions[atoms],
            self.numbers[atoms],
            self.cells[structures],
            self.pbc[structures],
            self.offsets[start : stop + 1] - self.offsets[start],
            self.origin[structures] if isinstance(self.origin, np.ndarray) else self.origin + start,
            None if self.charges is None else self.charges[structures],
            self._inputs_of(atoms),
            self.groups_of(atoms),
        )


def structure_number(origin, structure):
    """Index in the input of the user of a structure whose origin is that of :class:`StructureBatch`."""
    return origin + structure if np.ndim(origin) == 0 else origin[structure]


def as_list(frames: Iterable[Atoms] | StructureBatch, origin: int | NDArray[np.int64] = 0) -> list[Atoms]:
    """Make a list of frames of whatever holds them, and refuse what are none.

    Parameters
    ----------
    frames : sequence or iterable of ase.Atoms
    origin : int or ndarray of int, default=0
        As of :class:`StructureBatch`.

    Returns
    -------
    list of ase.Atoms
    """
    found = list(each_frame(frames, origin))
    if not found:
        spent = "an iterator can be read only once, make a list of it with list(X)"
        hint = spent if hasattr(frames, "__next__") else "give at least one (a minimum of 1 is required)"
        raise ValueError(f"X has no structures (0 samples): {hint}")
    return found


def each_frame(frames: Iterable[Atoms] | StructureBatch, origin: int | NDArray[np.int64] = 0) -> Iterator[Atoms]:
    """Yield frames one by one, checked to be ase.Atoms; see :func:`as_list`."""
    if isinstance(frames, Atoms):
        raise TypeError("X is a single ase.Atoms: wrap it in a list, [atoms]")
    if hasattr(frames, "columns") and hasattr(frames, "iloc"):
        raise TypeError(f"X is a table with the columns {list(frames.columns)}: pass the column with the structures")
    sequence = isinstance(frames, Iterable) or (hasattr(frames, "__len__") and hasattr(frames, "__getitem__"))
    if isinstance(frames, str | bytes | Mapping) or not sequence or getattr(frames, "shape", None) == ():
        raise TypeError(
            f"X must be a sequence of ase.Atoms, got {type(frames).__name__}: read files with ase.io.read(path, ':')"
        )
    for k, atoms in enumerate(iter(frames)):
        yield atoms if isinstance(atoms, Atoms) else _row_of_database(atoms, structure_number(origin, k))


def atom_counts(X: Any) -> NDArray[np.int64]:
    """Count the atoms of each structure of a batch, of a list of frames or of features, shape (n_structures,)."""
    if isinstance(X, StructureBatch):
        return np.diff(X.offsets)
    return X.n_atoms if hasattr(X, "n_atoms") else np.array([len(atoms) for atoms in X], dtype=np.int64)


def cell_volumes(X: Iterable[Atoms] | StructureBatch) -> NDArray[np.float64]:
    """Volumes of the cells of a batch or of a list of frames, 0 for those without, shape (n_structures,)."""
    cells = X.cells if isinstance(X, StructureBatch) else np.array([atoms.cell.array for atoms in X])
    return np.abs(np.linalg.det(cells))


def _charges(frames):
    """Total charges and sums of the initial charges, as far as there are any."""
    stated = [(atoms.info.get("charge"), atoms.arrays.get("initial_charges")) for atoms in frames]
    if all(total is None and initial is None for total, initial in stated):
        return None
    sums = [np.nan if initial is None else float(np.sum(initial)) for _, initial in stated]
    return np.array([[0.0 if one is None else _finite(one) for one, _ in stated], sums]).T


def _finite(charge):
    try:
        value = float(charge)
    except (TypeError, ValueError):
        return np.nan
    return value if np.isfinite(value) else np.nan


def _row_of_database(row, k):
    """Structure of a row of an ase.db."""
    if hasattr(row, "toatoms"):
        return row.toatoms()
    taken_apart = isinstance(row, Atom) or (
        isinstance(row, np.ndarray) and row.dtype == object and row.size and isinstance(row.flat[0], Atom)
    )
    if taken_apart:
        raise TypeError(
            "X is made of single atoms: np.array(frames) takes structures apart, pass the list of ase.Atoms itself"
        )
    raise TypeError(f"structure {k} is a {type(row).__name__}, expected ase.Atoms")


def _check_cells(batch, quiet):
    """Periodic directions, with those of structures that have no cell at all removed."""
    cells, pbc = batch.cells, batch.pbc
    bad = np.flatnonzero(~np.isfinite(cells).all(axis=(1, 2)))
    if len(bad):
        raise ValueError(f"the cell of structure {batch.number(bad[0])} contains NaN or infinity")
    bad = np.flatnonzero((np.abs(cells) > _LARGEST_LENGTH).any(axis=(1, 2)))
    if len(bad):
        largest = np.abs(cells[bad[0]]).max()
        raise ValueError(
            f"the cell of structure {batch.number(bad[0])} has a component of {largest:.3g}: check its units"
        )
    if not pbc.any():
        return pbc
    lengths = np.linalg.norm(cells, axis=2)
    no_cell = pbc.any(axis=1) & (lengths == 0).all(axis=1)
    if no_cell.any():
        if not quiet:
            warn(
                f"{no_cell.sum()} structures (first: {batch.number(np.argmax(no_cell))}) are flagged periodic but have "
                "no cell: they are read as molecules. Set atoms.pbc = False to say so"
            )
        pbc = pbc & ~no_cell[:, None]
    missing = pbc & (lengths == 0)
    if missing.any():
        structure, axis = np.argwhere(missing)[0]
        raise ValueError(
            f"structure {batch.number(structure)} is periodic along direction {axis} but its cell vector there is zero:"
            f" set the vector, or atoms.pbc[{axis}] = False"
        )
    unit = np.where(pbc[:, :, None], cells / np.where(lengths > 0, lengths, 1.0)[:, :, None], 0.0)
    gram = unit @ unit.transpose(0, 2, 1) + np.eye(3) * ~pbc[:, None, :]
    flat = np.flatnonzero(np.linalg.det(gram) < _FLAT_CELL)
    if len(flat):
        raise ValueError(
            f"the periodic cell vectors of structure {batch.number(flat[0])} are linearly dependent: its volume is zero"
        )
    return pbc


def _check_atoms(batch):
    for bad, what in (
        (~np.isfinite(batch.positions).all(axis=1), "has a position that is NaN or infinite"),
        (
            (np.abs(batch.positions) > _LARGEST_LENGTH).any(axis=1),
            f"has a coordinate beyond {_LARGEST_LENGTH:g}: check the units, or move it closer to the origin",
        ),
        (batch.numbers <= 0, "is a placeholder (X, atomic number 0): remove it or name its element"),
        (batch.numbers > 118, "has an atomic number beyond 118"),
    ):
        atoms = np.flatnonzero(bad)
        if len(atoms):
            raise ValueError(f"{batch.where(atoms[0])} {what}")
