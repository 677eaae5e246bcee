"""Frames from files: whatever ASE reads, its databases, npz files, and systems of DeePMD-kit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from eqkernels.io import deepmd
from eqkernels.io.npz_frames import read_npz

# Of results of calculators; but what stands in an xyz file is in the unit of who wrote it.
_UNITS_OF_ASE = {
    "energy": "eV", "free_energy": "eV", "energies": "eV", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3",
    "stresses": "eV/Angstrom^3", "dipole": "e Angstrom", "charges": "e", "magmom": "mu_B", "magmoms": "mu_B",
}  # fmt: skip
_WITHOUT_UNITS = {"xyz", "extxyz", "npz"}
_DATABASES = {".db", ".json"}


@dataclass(frozen=True)
class FrameFile:
    """Frames of one file, or of one system of DeePMD-kit.

    Attributes
    ----------
    path : str
    frames : list of ase.Atoms
    units : dict of (str, str) to str
        Unit that the format prescribes, by place and key.
    """

    path: str
    frames: list[Atoms]
    units: dict[tuple[str, str], str]


def read_files(path: Any, index: Any = ":", format: str | None = None) -> list[FrameFile]:
    """Read the frames of files.

    Parameters
    ----------
    path : str, Path, or sequence of them
        Files, or directories with systems of DeePMD-kit.
    index : str, int or slice, default=":"
        Which frames of each file, as for ``ase.io.read``.
    format : str, default=None
        Name of a format of ASE, or ``"deepmd"``; None: by name and contents of the file.

    Returns
    -------
    list of FrameFile

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        If a file is missing, cannot be read, or has no such frame; the message names it.
    """
    if isinstance(path, str | os.PathLike):
        path = [path]
    if not isinstance(path, Sequence) or not all(isinstance(one, str | os.PathLike) for one in path):
        raise TypeError(
            f"path must be the name of a file or directory, or a list of names, got {type(path).__name__}; what frames "
            "in memory carry is listed by eqkernels.io.find_targets(frames)"
        )
    if not len(path):
        raise ValueError("path is an empty list: name at least one file")
    wanted = _index(index)
    files: list[FrameFile] = []
    for one in map(Path, path):
        if not one.exists():
            raise FileNotFoundError(f"there is no file or directory {str(one)!r} in {os.getcwd()}")
        files += _systems(one, wanted, format) if one.is_dir() else [_file(one, wanted, format)]
    return files


def _index(index):
    if isinstance(index, slice) or (isinstance(index, int) and not isinstance(index, bool)):
        return index
    if isinstance(index, str):
        from ase.io.formats import string2index

        try:
            found = string2index(index)
        except (TypeError, ValueError):
            found = index
        if not isinstance(found, str):
            return found
    raise ValueError(f"index={index!r} must be an integer or a slice, as in index=10, index='-1' or index='::10'")


def picked(frames: list[Any], index: Any, path: Any) -> list[Any]:
    """Frames that an index picks; an error if there are none."""
    wanted = _index(index)
    found = frames[wanted] if isinstance(wanted, slice) else frames[wanted : wanted + 1 or None]
    if not found:
        raise ValueError(f"{path} has {len(frames)} structures, of which index={_text(wanted)} picks none")
    return found


def _text(wanted):
    if isinstance(wanted, int):
        return str(wanted)
    parts = [wanted.start, wanted.stop, wanted.step]
    return repr(":".join("" if one is None else str(one) for one in parts[: 2 if wanted.step is None else 3]))


def _systems(path, wanted, format):
    systems = deepmd.systems_in(path)
    if not systems or format not in (None, "deepmd"):
        raise ValueError(
            f"{path} is a directory{'' if systems else ' without a system of DeePMD-kit (a file type.raw)'}: name the "
            "files in it, as in sorted(pathlib.Path(...).glob('*.xyz'))"
        )
    units = {(where, key): unit for key, unit in deepmd.UNITS.items() for where in ("info", "arrays")}
    return [FrameFile(str(one), picked(deepmd.read_system(one), wanted, one), units) for one in systems]


def _file(path, wanted, format):
    from ase.io.formats import filetype

    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    kind = format
    try:
        kind = format or ("npz" if path.suffix == ".npz" else filetype(str(path)))
        whole = _WHOLE.get(kind)
        frames = _read(path, wanted, kind) if whole is None else whole(path)
    except Exception as error:  # readers of ASE raise whatever they meet
        where = _first_unreadable(path) if kind == "extxyz" else ""
        advice = "write format='extxyz', or another name that `ase info --formats` lists, if it is something else"
        raise ValueError(
            f"{path}{where} cannot be read as {kind or 'a file of a known format'} ({type(error).__name__}: {error}): "
            + ("correct the file" if kind == "extxyz" else advice)
        ) from error
    frames = frames if whole is None else picked(frames, wanted, path)
    if not frames:
        raise ValueError(f"{path} has no structure at index={_text(wanted)}")
    units = {} if kind in _WITHOUT_UNITS else {("calculator", key): unit for key, unit in _UNITS_OF_ASE.items()}
    return FrameFile(str(path), frames, units)


def _first_unreadable(path):
    """Name the structure at which reading a file fails, where that can be found."""
    from ase.io import iread

    k = 0
    try:
        for _ in iread(str(path), index=":", format="extxyz", do_not_split_by_at_sign=True):
            k += 1
    except Exception:  # what it raises is known
        return f", structure {k}" if k else ""
    return ""


def _read(path, wanted, format):
    from ase.io import read

    if isinstance(wanted, slice):
        return read(str(path), index=wanted, format=format, do_not_split_by_at_sign=True)
    if wanted < 0:  # ASE counts those beyond the first from the end again
        frames = _read(path, slice(wanted, None), format)
        return frames[:1] if len(frames) == -wanted else []
    try:
        return [read(str(path), index=wanted, format=format, do_not_split_by_at_sign=True)]
    except (IndexError, StopIteration):  # beyond the last frame
        return []


def _database(path):
    """Read an ase.db, with the key-value pairs and the data of each row in info."""
    import ase.db

    frames = []
    with ase.db.connect(
        str(path), type=path.suffix[1:] if path.suffix in _DATABASES else "db", serial=True
    ) as database:
        for row in database.select():
            atoms = row.toatoms()
            atoms.info.update({**row.data, **row.key_value_pairs})
            frames.append(atoms)
    return frames


# Read as a whole, by format.
_WHOLE = {"db": _database, "json": _database, "npz": read_npz}
