"""Systems of DeePMD-kit: a directory with type.raw and sets of npy files, or the raw text that these are made from.

The layout and the order of components are those of https://docs.deepmodeling.com/projects/deepmd/en/stable/data/system.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

# Shapes behind the frames, or behind the atoms; matrices in the order xx xy xz yx yy yz zx zy zz.
_OF_STRUCTURES: dict[str, tuple[int, ...]] = {
    "energy": (), "virial": (3, 3), "dipole": (3,), "polarizability": (3, 3),
}  # fmt: skip
_OF_ATOMS: dict[str, tuple[int, ...]] = {
    "force": (3,), "atom_ener": (), "atom_pref": (), "atomic_dipole": (3,), "atomic_polarizability": (3, 3),
}  # fmt: skip
# Raw files that are not one line a frame.
_TYPES = ("type.raw", "type_map.raw")
#: Units that the format prescribes.
UNITS = {"energy": "eV", "force": "eV/Angstrom", "virial": "eV", "atom_ener": "eV"}


def systems_in(path: Path) -> list[Path]:
    """Directories of systems: the directory itself, or those in it at any depth, by name."""
    if (path / "type.raw").exists():
        return [path]
    return sorted(one.parent for one in path.rglob("type.raw"))


def read_system(path: Path) -> list[Atoms]:
    """Read the frames of a system.

    Parameters
    ----------
    path : Path
        The directory with ``type.raw`` and ``set.*``, or without sets with ``coord.raw`` and others, a frame a line.

    Returns
    -------
    list of ase.Atoms
        Labels of structures in ``info``, those of atoms in ``arrays``, under the names of their files.

    Raises
    ------
    ValueError
        If a file is missing or does not have the size that the format prescribes; the message names it.
    """
    sets = sorted(path.glob("set.*"))
    if not sets and not (path / "coord.raw").exists():
        raise ValueError(f"{path} has neither set.* nor coord.raw: there are no frames")
    types = np.loadtxt(path / "type.raw", dtype=int, ndmin=1).ravel()
    numbers = _numbers_of_types(path, types)
    frames: list[Atoms] = []
    for one in sets or [path]:
        frames += _read_set(one, types, numbers, (path / "nopbc").exists())
    return frames


def _numbers_of_types(path, types):
    """Atomic number of each type."""
    names = path / "type_map.raw"
    if not names.exists():
        raise ValueError(
            f"{path} has no type_map.raw, so that the elements of the types {sorted(set(types.tolist()))} are not "
            "known: write one with the symbol of each type, starting with type 0"
        )
    symbols = names.read_text().split()
    unknown = [one for one in symbols if one not in atomic_numbers]
    if unknown:
        raise ValueError(f"{names} names {unknown[0]!r}, which is no element: write the symbol of the periodic table")
    return np.array([atomic_numbers[one] for one in symbols])


def _read_set(path, types, numbers, molecule):
    ending = ".npy" if next(path.glob("*.npy"), None) or not (path / "coord.raw").exists() else ".raw"
    files = {one.stem: _load(one) for one in sorted(path.glob(f"*{ending}")) if one.name not in _TYPES}
    if "coord" not in files:
        raise ValueError(f"{path} has no coord.npy")
    n, n_atoms = len(files["coord"]), len(types)
    positions = _shaped(path / f"coord{ending}", files.pop("coord"), (n, n_atoms, 3))
    if molecule:
        files.pop("box", None)
    elif "box" not in files:
        raise ValueError(
            f"{path} has no box{ending}: if the system is not periodic, write an empty file "
            f"{path if ending == '.raw' else path.parent}/nopbc"
        )
    cells = [None] * n if molecule else _shaped(path / f"box{ending}", files.pop("box"), (n, 3, 3))
    kinds = files.pop("real_atom_types", np.broadcast_to(types, (n, n_atoms)))  # of systems of several compositions
    kinds = kinds.astype(int)
    if np.max(kinds, initial=0) >= len(numbers):
        raise ValueError(f"{path} has atoms of type {kinds.max()}, type_map.raw names {len(numbers)} types only")
    of_structures: dict[str, NDArray[Any]] = {}
    of_atoms: dict[str, NDArray[Any]] = {}
    for name, values in files.items():
        if name in _OF_ATOMS:
            of_atoms[name] = _shaped(path / f"{name}{ending}", values, (n, n_atoms, *_OF_ATOMS[name]))
        else:
            known = _OF_STRUCTURES.get(name, values.shape[1:])
            of_structures[name] = _shaped(path / f"{name}{ending}", values, (n, *known))
    frames = []
    for k in range(n):
        real = kinds[k] >= 0  # -1 fills up to the same number of atoms
        atoms = Atoms(numbers[kinds[k][real]], positions[k][real], cell=cells[k], pbc=not molecule)
        atoms.info.update({name: values[k] for name, values in of_structures.items()})
        for name, values in of_atoms.items():
            atoms.set_array(name, values[k][real])
        frames.append(atoms)
    return frames


def _load(path):
    try:
        return np.loadtxt(path, ndmin=2) if path.suffix == ".raw" else np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no {path.suffix[1:]} file of numbers: {error}") from error


def _shaped(path, values, shape):
    if values.size != np.prod(shape) or len(values) != shape[0]:
        advice = ""
        if path.name.startswith("atomic_"):
            advice = ": labels of selected atoms only cannot be read, for the files do not say which atoms those are"
        raise ValueError(f"{path} has shape {values.shape}, expected {shape} or its rows flat{advice}")
    return np.asarray(values).reshape(shape)
