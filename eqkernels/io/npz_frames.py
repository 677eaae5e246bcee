"""Frames from npz files of one molecule, as MD17 and sGDML have them: positions, atomic numbers, and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

_POSITIONS = ("R", "coords", "positions", "pos", "coordinates")
_NUMBERS = ("z", "Z", "nuclear_charges", "numbers", "atomic_numbers")
_CELLS = ("cell", "lattice")


def read_npz(path: Path) -> list[Atoms]:
    """Read frames with the same number of atoms each.

    Parameters
    ----------
    path : Path
        With positions (n_structures, n_atoms, 3) under one of the keys R, coords, positions, pos and coordinates, and
        atomic numbers (n_atoms,) or (n_structures, n_atoms) under z, Z, nuclear_charges, numbers or atomic_numbers;
        cells (3, 3) or (n_structures, 3, 3), if there are any, under cell or lattice.

    Returns
    -------
    list of ase.Atoms
        Everything else with an entry for each structure stands in ``info``.
    """
    with np.load(path, allow_pickle=False) as stored:
        positions, numbers = _one(stored, _POSITIONS, path), _one(stored, _NUMBERS, path)
        cell = next((stored[key] for key in _CELLS if key in stored.files), None)
        if (
            positions.ndim != 3
            or positions.shape[2] != 3
            or numbers.shape not in (positions.shape[:2], positions.shape[1:2])
        ):
            raise ValueError(
                f"positions have shape {positions.shape} and atomic numbers {numbers.shape}, expected "
                "(n_structures, n_atoms, 3) and (n_atoms,) or (n_structures, n_atoms)"
            )
        n = len(positions)
        others = [key for key in stored.files if key not in (*_POSITIONS, *_NUMBERS, *_CELLS)]
        labels = {key: one for key in others if (one := _numbers(stored, key)) is not None and one.shape[:1] == (n,)}
    numbers = np.broadcast_to(numbers, positions.shape[:2])
    cells = [None] * n if cell is None else np.broadcast_to(cell, (n, 3, 3))
    frames = []
    for k in range(n):
        atoms = Atoms(numbers[k], positions[k], cell=cells[k], pbc=cell is not None)
        atoms.info.update({key: one[k] for key, one in labels.items()})
        frames.append(atoms)
    return frames


def _one(stored: Any, keys: tuple[str, ...], path: Path) -> Any:
    found = [key for key in keys if key in stored.files]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} of the keys {', '.join(keys)} are there, expected one; {path.name} has "
            f"{', '.join(stored.files)}. A file of labels alone is passed as labels=, with path= naming the frames"
        )
    return stored[found[0]]


def _numbers(stored, key):
    try:
        return stored[key]
    except ValueError:  # Python objects
        return None
