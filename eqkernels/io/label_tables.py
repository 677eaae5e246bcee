"""Labels in a separate file: csv with a row, npz and npy with an entry for each structure."""

from __future__ import annotations

import csv
import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# alpha_xy, alpha_5, alpha.xy, alpha[5]
_COMPONENT = re.compile(r"^(?P<key>.*?[^_.\s\[])[_.\s\[]+(?P<index>[xyzXYZ]+|\d+)\]?$")
# dipole_x [D], dipole_x (D)
_UNIT = re.compile(r"^(?P<name>.+?)\s+[\[(](?P<unit>[^\])]+)[\])]$")
# Numbers that are an array without brackets: two may be a decimal comma.
_SHORTEST = 3
# Parts of an array as text.
_TOKEN = re.compile(r"[\[\]()]|[^\s,;\[\]()]+")
# Numbers of components of tensors.
_SIZES = {3**rank for rank in range(1, 7)}


class Pickled:
    """What stands in place of Python objects, which are not read."""

    def __repr__(self):
        return "Python objects, which can run code when they are read: save numbers with numpy.savez"


def read_table(path: Any, n_atoms: NDArray[np.int64]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Read the labels of structures from a file of their own.

    Parameters
    ----------
    path : str or Path
        A csv file with a header, in which the components of a tensor are the columns ``key_x``, ``key_xy`` or, row by
        row, ``key_0`` (or from 1), or one column of arrays as text, ``"[1 2 3]"``; an npz or a npy file.
    n_atoms : ndarray of int, shape (n_structures,)
        Number of atoms of each structure; arrays in npz and npy files may also have one row for each atom.

    Returns
    -------
    columns : dict of str to list
        For each key one entry a structure, None where it is missing.
    units : dict of str to str
        Units that the header states, as in ``dipole_x [D]``.

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        If there is no such file, it cannot be read, or its length is not that of the frames.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"labels must be the name of one csv, npz or npy file, got {type(path).__name__}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"labels: there is no file {str(path)!r}")
    if path.suffix == ".csv":
        return _read_csv(path, len(n_atoms))
    if path.suffix not in (".npz", ".npy"):
        raise ValueError(f"labels={str(path)!r} must be a csv, npz or npy file")
    arrays = _load(path)
    columns = {key: _by_structure(values, n_atoms) for key, values in arrays.items()}
    if not any(columns.values()):
        lengths = ", ".join(f"{key}: {np.shape(one)}" for key, one in arrays.items())
        raise ValueError(
            f"{path} ({lengths}) fits {len(n_atoms)} structures with {n_atoms.sum()} atoms in all in no array: the "
            "first axis must be as long as the structures, or as all of their atoms"
        )
    return {key: one for key, one in columns.items() if one is not None}, {}


def _load(path):
    try:
        stored = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = repr(Pickled()) if "allow_pickle" in str(error) and path.suffix == ".npy" else error
        raise ValueError(f"{path} cannot be read: {reason}") from error
    if path.suffix == ".npy":
        return {path.stem: stored}
    arrays = {}
    with stored:
        for key in stored.files:
            try:
                arrays[key] = stored[key]
            except ValueError:  # objects
                arrays[key] = Pickled()
    return arrays


def _by_structure(values, n_atoms):
    if isinstance(values, Pickled):
        return [values] * len(n_atoms)
    if values.ndim and len(values) == len(n_atoms):
        return list(values)
    if values.ndim and len(values) == n_atoms.sum():
        return np.split(values, np.cumsum(n_atoms)[:-1])
    return None


def _read_csv(path, n):
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True) or [""]  # cells may have several lines
        delimiter = max(",;\t", key=lines[0].count)
        header, *rows = [row for row in csv.reader(lines, delimiter=delimiter) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a csv file in UTF-8: {error}") from error
    if len(rows) != n:
        raise ValueError(
            f"{path} has {len(rows)} rows below its header, there are {n} structures: one row each is needed"
        )
    for k, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {k} (below the header) has {len(row)} cells, the header has {len(header)}")
    names, units = [], {}
    for name in header:
        match = _UNIT.match(name.strip())
        names.append(match["name"] if match else name.strip())
        if match:
            units[_key(names[-1])] = match["unit"]
    if len(set(names)) < len(names):
        raise ValueError(f"{path} has several columns {next(one for one in names if names.count(one) > 1)!r}")
    cells = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    columns: dict[str, list[Any]] = {}
    for key, parts in _components(names).items():
        rows_of_key = zip(*(cells[one] for one in parts), strict=True)
        columns[key] = [_tensor([_number(one) for one in row]) for row in rows_of_key]
    return columns, units


def _key(name):
    match = _COMPONENT.match(name)
    return match["key"] if match else name


def _components(names):
    """Columns of each key, row by row; those that are no complete set of components stand for themselves."""
    sets: dict[str, dict[str, str]] = {}
    for name in names:
        match = _COMPONENT.match(name)
        sets.setdefault(_key(name), {})[match["index"].lower() if match else ""] = name
    columns = {}
    for key, by_index in sets.items():
        order = _order(set(by_index))
        if order is None:
            columns.update({name: [name] for name in by_index.values()})
        else:
            columns[key] = [by_index[index] for index in order]
    return columns


def _order(there):
    """Sort indices row by row, of a symmetric tensor those of the other half repeated; None if some are missing."""
    if all(one.isdigit() for one in there):
        order = sorted(there, key=int)
        complete = len(order) in _SIZES and int(order[0]) in (0, 1) and int(order[-1]) - int(order[0]) == len(order) - 1
        return order if complete else None
    rank = len(max(there, key=len))
    full = ["".join(one) for one in itertools.product("xyz", repeat=rank)]
    if set(full) == there or not rank:
        return full
    by_sorted = {"".join(sorted(one)): one for one in there}
    if len(by_sorted) < len(there):  # xy and yx, but not all: nothing is filled in
        return None
    order = [by_sorted.get("".join(sorted(one)), "") for one in full]
    return order if set(order) == there else None


def _number(cell):
    """Read the number in a cell, None if it is empty, the text if it is none."""
    cell = cell.strip()
    if not cell:
        return None
    for kind in (int, float) if "_" not in cell else ():  # 1_000 is a number in Python only
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell


def _array(cell):
    """Read the array that a cell holds as text, ``[1 2 3]``, ``1, 2, 3`` or ``[[1, 2], [3, 4]]``; else None."""
    levels: list[list[Any]] = [[]]
    for token in _TOKEN.findall(cell):
        if token in "([":
            levels.append([])
        elif token in ")]":
            if len(levels) == 1:
                return None
            closed = levels.pop()
            levels[-1].append(closed)
        else:
            try:
                levels[-1].append(float("nan" if token in ("None", "NaN") else token))
            except ValueError:
                return None
    whole = levels[0][0] if len(levels[0]) == 1 and isinstance(levels[0][0], list) else levels[0]
    try:
        array = np.array(whole, dtype=float)
    except ValueError:  # rows of different lengths
        return None
    has_brackets = whole is not levels[0]
    return array if len(levels) == 1 and array.size and (has_brackets or array.size >= _SHORTEST) else None


def _tensor(numbers):
    """Components of a structure; the first text among them if there is any."""
    text = next((one for one in numbers if isinstance(one, str)), None)
    if text is not None:
        array = _array(text) if len(numbers) == 1 else None
        return text if array is None else array
    if all(one is None for one in numbers):
        return None
    if len(numbers) == 1:
        return numbers[0]
    return np.array([np.nan if one is None else one for one in numbers])
