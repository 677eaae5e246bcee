"""Predictions and their error bars to extended xyz files."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian

from eqkernels._numeric import as_floats
from eqkernels.io.found_targets import entries, stands_for_atoms
from eqkernels.io.usual_keys import quantity_of
from eqkernels.so3 import cartesian_tensor
from eqkernels.structures.batch import each_frame
from eqkernels.structures.labels import is_by_structure, of_atoms

_ERROR_BAR = "_std"
_SYMMETRIC = "stress"  # ASE keeps six components of it
_AS_MATRIX = {"stress", "virial"}  # ASE writes them flat itself
# What ASE calls its arrays in a file.
_COLUMN_NAMES = {"charges": "charge"}
_RESERVED = {
    "pos",
    "positions",
    "species",
    "symbols",
    "numbers",
    "Z",
    "charge",
    "Lattice",
    "Properties",
    "pbc",
    "move_mask",
}
_END = object()


def write(
    path: Any,
    frames: Iterable[Atoms],
    predictions: Any,
    std: Any = None,
    *,
    target: Any = None,
    key: str | None = None,
    per_atom: bool | None = None,
    format: str | None = None,
    append: bool = False,
) -> None:
    """Write frames with predictions and their error bars to an extended xyz file.

    The frames are written one by one and may come from an iterator, as the predictions, which need not fit into
    memory. What they carry is written, too. Numbers are written with all digits, so that :func:`read` gives them back
    exactly. The file appears when it is complete.

    Parameters
    ----------
    path : str or Path
        ``.xyz`` or ``.extxyz``, also compressed (``.xyz.gz``).
    frames : iterable of ase.Atoms
        They are not changed.
    predictions : array-like of shape (n_structures, 3, ..., 3), object array of arrays (n_atoms, 3, ..., 3), or dict
        As ``predict`` returns them, or an iterator over those of the structures; or a dict of several by key.
    std : as predictions, default=None
        Error bars, written under the key with ``_std`` appended; a dict if `predictions` is one.
    target : str or CartesianTensor, default=None
        Name of the property, which is the key if `key` is None.
    key : str, default=None
        Where the predictions stand.
    per_atom : bool, default=None
        Whether they belong to atoms. None: as the target says, or if it does not, those in object arrays do; of
        iterators and lists it must be said.
    format : {"extxyz"}, default=None
        Of a file with another ending.
    append : bool, default=False
        Add to the file if there is one.

    Raises
    ------
    TypeError, ValueError
        If there is no key, a frame has something under it already, or the numbers do not fit the frames; the message
        names the frame.

    See Also
    --------
    read : Read them again: ``read(path, key="polarizability_std")``.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> from eqkernels.io import read
    >>> frames, y = [molecule("H2O"), molecule("NH3")], np.array([9.6 * np.eye(3), 14.2 * np.eye(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "predicted.xyz")
    ...     write(path, frames, y, std=0.1 * y, target="polarizability")
    ...     std = read(path, key="polarizability_std").y
    >>> bool((std == 0.1 * y).all())
    True
    """
    path = Path(path)
    if format not in (None, "extxyz") or (format is None and not {".xyz", ".extxyz"} & set(path.suffixes[-2:])):
        raise ValueError(
            f"predictions are written as extended xyz files, not as {format or path.name!r}: end the name with "
            ".xyz, or write format='extxyz'"
        )
    columns = _columns(predictions, std, target, key, per_atom)
    with _file(path.resolve(), append) as file:
        _write_frames(file, frames, columns)


@contextmanager
def _file(path, append):
    """Open a file that an error leaves as it was: it is written beside it, or cut to its former length."""
    open_text = partial(gzip.open if path.suffix == ".gz" else open, encoding="utf-8")
    if append or (path.exists() and not path.is_file()):  # pipes and terminals have no length
        length = path.stat().st_size if path.is_file() else None
        try:
            with open_text(path, "at" if append else "wt") as file:
                yield file
        except BaseException:
            if path.is_file():
                os.truncate(path, length or 0)
            raise
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open_text(part, "wt") as file:  # not the file itself, from which frames may still be read
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _columns(predictions, std, target, key, per_atom):
    """Return what is written under each key."""
    if not isinstance(predictions, Mapping):
        key = _key(target, key)
        predictions, std = {key: predictions}, {} if std is None else {key: std}
    elif key is not None or target is not None:
        raise ValueError("predictions is a dict with keys of its own: leave key and target out")
    std = {} if std is None else std
    if not isinstance(std, Mapping) or not set(std) <= set(predictions):
        raise ValueError(f"std must be a dict with keys of predictions, which are {', '.join(predictions)}")
    rank = None if target is None else cartesian_tensor(target).rank
    columns = {}
    for name, values in {**predictions, **{f"{name}{_ERROR_BAR}": one for name, one in std.items()}}.items():
        if not isinstance(values, Iterable) or isinstance(values, str | bytes | Atoms):
            raise TypeError(f"{name} must have one entry for each frame, got {type(values).__name__}")
    for name, values in predictions.items():
        columns[name] = _Column(iter(values), _belongs_to_atoms(name, values, target, per_atom), rank)
    for name, values in std.items():
        columns[f"{name}{_ERROR_BAR}"] = _Column(iter(values), columns[name].of_atoms)
    for name in columns:
        _check_key(name)
    return columns


def _key(target, key):
    """Key of the predictions, by default the name of the target."""
    name = getattr(target, "formula", target) if key is None else key
    if key is None and (name is None or quantity_of(name) is None):
        raise ValueError(
            f"target={name!r} is no property by name, so that the predictions have no key: write key='polarizability' "
            "or the like"
        )
    return name


def _check_key(name):
    if not isinstance(name, str) or not re.fullmatch(r"[^\s:=,\"'{}\[\]\\]+", name) or name in _RESERVED:
        raise ValueError(
            f"key={name!r} must be a text without blanks and quotes, and none of {', '.join(sorted(_RESERVED))}, which "
            "stand for the structure in extended xyz files"
        )


def _belongs_to_atoms(name, values, target, per_atom):
    declared = of_atoms(target, per_atom)
    if declared is not None:
        return declared
    if isinstance(values, np.ndarray):
        return is_by_structure(values)
    if isinstance(values, list | tuple) and not any(np.ndim(one) for one in values):
        return False
    raise ValueError(f"{name}: write per_atom=True or per_atom=False, which only arrays, as predict returns them, say")


@dataclass
class _Column:
    """Numbers to write: one array for each structure, its rank if it is known."""

    values: Iterator[Any]
    of_atoms: bool
    rank: int | None = None

    def next(self, name, k, n_atoms):
        """Return the numbers of structure k, checked."""
        value = next(self.values, _END)
        if value is _END:
            raise ValueError(f"{name} has {k} entries, there are more frames: one entry for each is needed")
        value = as_floats(value, f"{name} of structure {k}")
        expected = [] if self.rank is None else [(3,) * self.rank, (3**self.rank,)[: self.rank]]
        trailing = value.shape[1:] if self.of_atoms else value.shape
        if (self.of_atoms and value.shape[:1] != (n_atoms,)) or (expected and trailing not in expected):
            wanted = (*((n_atoms,) if self.of_atoms else ()), *(expected[0] if expected else (...,)))
            raise ValueError(
                f"{name} of structure {k}, which has {n_atoms} atoms, has shape {value.shape}, expected "
                f"{str(wanted).replace('Ellipsis', '...')}: per_atom= says whether each atom has {name}, or each "
                "structure"
            )
        if name == _SYMMETRIC and value.shape == (3, 3) and not np.array_equal(value, value.T):
            raise ValueError(
                f"{name} of structure {k} is not symmetric, and ASE reads six components: write another key"
            )
        return value


def _write_frames(file: TextIO, frames: Iterable[Atoms], columns: dict[str, _Column]) -> None:
    k = -1
    for k, atoms in enumerate(each_frame(frames)):
        extra = {name: (one.next(name, k, len(atoms)), one.of_atoms) for name, one in columns.items()}
        file.write(_frame(atoms, extra, k))
    if k < 0:
        raise ValueError("frames is empty, or an iterator that was read before")
    for name, one in columns.items():
        if next(one.values, _END) is not _END:
            raise ValueError(f"{name} has more entries than there are frames ({k + 1}): one entry for each is needed")


def _frame(atoms, extra, k):
    """Text of a frame, with what it carries and what is added."""
    from ase.io.extxyz import key_val_dict_to_str

    info, columns = _carried(atoms, k)
    for name, (value, per_atom) in extra.items():
        if name in info or name in columns:
            raise ValueError(
                f"structure {k} has something under {name!r} already, which would be lost: write another key, such as "
                f"key='predicted_{name.removesuffix(_ERROR_BAR)}'"
            )
        if per_atom:
            columns[name] = value
        else:
            info[name] = value if name in _AS_MATRIX else value.ravel() if value.ndim else float(value)
    for name in _AS_MATRIX & set(info):
        if np.shape(info[name]) != (3, 3):
            raise ValueError(
                f"{name} of structure {k} has shape {np.shape(info[name])}, ASE reads (3, 3) only: reshape it"
            )
        info[name] = np.asarray(info[name])
    properties, texts = ["species:S:1"], [atoms.get_chemical_symbols()]
    for name, column in {"pos": atoms.positions, **columns}.items():
        letter, parts = _texts(np.asarray(column), len(atoms))
        if letter == "S" and not all(re.fullmatch(r"\S+", one) for part in parts for one in part):
            raise ValueError(f"{name} of structure {k} has a text with blanks, or none, which a column cannot hold")
        properties.append(f"{name}:{letter}:{len(parts)}")
        texts += parts
    comment = f"Properties={':'.join(properties)} {key_val_dict_to_str({**info, 'pbc': atoms.pbc})}"
    if atoms.cell.any():
        comment = f'Lattice="{" ".join(map(repr, atoms.cell.array.ravel().tolist()))}" {comment}'
    if "\n" in comment:
        raise ValueError(f"structure {k} has a text with a line break in info, which extended xyz files cannot hold")
    return "\n".join([str(len(atoms)), comment, *(" ".join(row) for row in zip(*texts, strict=True))]) + "\n"


def _carried(atoms, k):
    """List what a frame has beside the structure: for the comment line, and for the columns of atoms."""
    info: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for where, key, value in entries(atoms):
        per_atom = bool(stands_for_atoms(where, key))
        place = columns if per_atom else info
        if key in place:
            raise ValueError(f"structure {k} has {key!r} twice, in its calculator and outside: remove one of them")
        place[_COLUMN_NAMES.get(key, key) if per_atom else key] = value
    fixed = _fixed(atoms)
    return info, {**columns, "move_mask": ~fixed} if fixed.any() else columns


def _fixed(atoms):
    """Constraints that extended xyz files can hold, by atom or by component."""
    of_components = any(isinstance(one, FixCartesian) for one in atoms.constraints)
    fixed = np.zeros((len(atoms), 3) if of_components else len(atoms), dtype=bool)
    for one in atoms.constraints:
        if isinstance(one, FixAtoms):
            fixed[one.index] = True
        elif isinstance(one, FixCartesian):
            fixed[one.index] |= one.mask
    return fixed


def _texts(column, n_atoms):
    """Letter of the type, and the text of each component of all atoms."""
    kind = column.dtype.kind
    parts = column.reshape(n_atoms, -1).T.tolist()
    if kind in "iu":
        return "I", [[str(one) for one in part] for part in parts]
    if kind == "b":
        return "L", [["T" if one else "F" for one in part] for part in parts]
    if kind == "f":
        return "R", [[repr(one) for one in part] for part in parts]
    return "S", [[str(one) for one in part] for part in parts]
