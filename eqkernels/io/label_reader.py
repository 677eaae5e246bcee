"""Frames and one of their labels from files, as models take them."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from eqkernels.io.found_targets import NUMBERS, is_absent, kind_and_shape
from eqkernels.io.frame_files import picked, read_files
from eqkernels.io.label_sources import LabelSource
from eqkernels.io.usual_keys import quantity_of
from eqkernels.so3 import CartesianTensor, cartesian_tensor
from eqkernels.structures.labels import of_atoms
from eqkernels.structures.readings import VOIGT, Reading, possible_readings


def read(
    path: Any,
    target: str | CartesianTensor | None = None,
    *,
    key: str | None = None,
    per_atom: bool | None = None,
    index: Any = ":",
    format: str | None = None,
    labels: Any = None,
    groups: str | None = None,
) -> Bunch:
    """Read frames and one label of each from files.

    Parameters
    ----------
    path : str, Path, or list of them
        Files that ASE reads (extxyz, ase.db, trajectories, outputs of programs), npz files as MD17 and sGDML have
        them, or directories with systems of DeePMD-kit. Several are read one after the other.
    target : str or CartesianTensor, default=None
        Name of a property, such as ``"polarizability"``, whose usual keys are looked up, or index symmetry, such as
        ``"ij=ji"``. None: the only label that there is.
    key : str, default=None
        Where the label stands: a key of ``atoms.info``, of ``atoms.arrays``, of the results of the calculator, or of
        the file `labels`; if several of them have it, ``"info:key"``, ``"arrays:key"`` or ``"calculator:key"``.
    per_atom : bool, default=None
        Whether the label is one of atoms, where neither the property nor the file decides.
    index : str, int or slice, default=":"
        Which frames of each file, as for ``ase.io.read``.
    format : str, default=None
        Name of a format of ASE, or ``"deepmd"``; None: by name and contents of the file.
    labels : str or Path, default=None
        A separate csv, npz or npy file with the labels, one row (entry) for each structure of the files, in their
        order. In csv files, a header names the components ``alpha_xx, alpha_xy, ...`` (the six of a symmetric matrix
        suffice) or, row by row, ``alpha_0, alpha_1, ...``; or a cell holds the whole array, ``"[1 2 3]"``. Arrays of
        per-atom labels have one row for each atom of all structures.
    groups : str, default=None
        What belongs together in cross-validation: ``"composition"``, ``"file"``, or a key of ``atoms.info`` or a
        column of `labels`, such as ``"trajectory"``. None: the file if there are several, which fits one file for
        each trajectory; for a single file there are no groups, for which part of it makes a trajectory is not known.

    Returns
    -------
    Bunch
        With the attributes

        frames : list of ase.Atoms
            As they are in the file.
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
            Labels, NaN where they are missing. Those of atoms are one array (n_atoms, 3, ..., 3) for each structure.
            Nine numbers are a matrix row by row, 27 and 81 accordingly; stress is the full matrix.
        target : str, CartesianTensor or None
            `target`, or the property that the key means, if it is known.
        key : str
            Where the label was found.
        per_atom : bool
            Whether it is one of atoms.
        units : str or None
            Unit that the file states (``info[key + "_unit"]``, a csv header ``dipole_x [D]``) or its format
            prescribes; None if it does not say. Nothing is converted.
        groups : ndarray of shape (n_structures,), or None
            For ``GroupKFold``.
        path : list of str
            The files.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file cannot be read, no label or several are found, it can be read in several ways, or its shape does not
        fit the target. The message lists what the files hold.

    See Also
    --------
    find_targets : List the labels that frames carry.
    write : Write predictions and their error bars.

    Examples
    --------
    >>> import os, tempfile
    >>> import ase.io
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> water.info["alpha"] = [9.6, 0.0, 0.0, 0.0, 9.9, 0.0, 0.0, 0.0, 9.5]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "water.xyz")
    ...     ase.io.write(path, [water, water])
    ...     data = read(path, "polarizability")
    >>> data.y.shape, data.key, data.per_atom
    ((2, 3, 3), 'alpha', False)
    """
    if key is not None and not isinstance(key, str):
        raise TypeError(f"key={key!r} must be a text")
    of_atoms(None, per_atom)  # refuses what is neither None nor bool
    files = read_files(path, ":" if labels is not None else index, format)
    source = LabelSource(files, labels)
    tensor = _tensor_of(target, source)
    found = _choose(source, target, key, per_atom)
    y, target, reading = labels_of(source, found, target, tensor, per_atom)
    of_group = source.groups(groups)
    kept = np.arange(len(y)) if labels is None else _kept(files, index)
    return Bunch(
        frames=[source.frames[k] for k in kept],
        y=y[kept],
        target=target,
        key=found.key,
        per_atom=reading.per_atom,
        units=source.unit(found),
        groups=None if of_group is None else of_group[kept],
        path=[one.path for one in files],
    )


def _tensor_of(target, source):
    try:
        return None if target is None else cartesian_tensor(target)
    except ValueError as error:
        if target in [one.key for one in source.found]:
            raise ValueError(
                f"target={target!r} is a key of {source.name}, but no property by name: write key={target!r}"
            ) from error
        raise


def labels_of(source, found, target=None, tensor=None, per_atom=None):
    """Labels of a source under a key that was found, what they are of, and how they were read.

    Parameters
    ----------
    source : LabelSource
    found : FoundTarget
    target : str, CartesianTensor or None
        None: the property that the key means, if it is known.
    tensor : CartesianTensor or None
        That of the target.
    per_atom : bool or None

    Returns
    -------
    y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
    target : str, CartesianTensor or None
    reading : Reading
    """
    if target is None and found.guesses and per_atom in (None, found.per_atom):
        target = found.guesses[0]
        tensor = cartesian_tensor(target)
    reading, values = _read_one_way(source, found, target, tensor, per_atom)
    return _joined(values, reading, source.n_atoms), target, reading


def _kept(files, index):
    """Structures that index picks, for a separate file of labels has those of the whole files."""
    kept, first = [], 0
    for one in files:
        kept += picked(list(range(first, first + len(one.frames))), index, one.path)
        first += len(one.frames)
    return np.array(kept)


def _choose(source, target, key, per_atom):
    """Find the label that is meant."""
    if key is not None:
        matches = [one for one in source.found if key in (one.key, f"{one.where}:{one.key}")]
        wanted = f" under the key {key!r}"
    elif target is None:
        matches, wanted = [one for one in source.found if one.is_target], ""
    else:
        matches = _of_target(source.found, target)
        wanted = f" for target={getattr(target, 'formula', target)!r}"
    of_kind = [one for one in matches if one.per_atom in (None, of_atoms(target, per_atom))]
    matches = of_kind if len(matches) > 1 and of_kind else matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        same = len({one.key for one in matches}) == 1
        keys = [repr(f"{one.where}:{one.key}" if same else one.key) for one in matches]
        raise ValueError(
            f"{source.name} has {len(matches)} labels{wanted}: write key={' or key='.join(keys)}" + _listed(matches)
        )
    if not source.found:
        raise ValueError(
            f"{source.name} has structures only, no label{wanted}: labels=... names a separate file with them"
        )
    near = difflib.get_close_matches(key or "", [one.key for one in source.found], n=2)
    advice = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else "write key=... for one of those that are there"
    )
    raise ValueError(
        f"{source.name} has no label{wanted or ' that is known by its key'}; {advice}" + _listed(source.found)
    )


def _of_target(found, target):
    name = target if isinstance(target, str) else target.formula
    quantity = quantity_of(name)
    if quantity is None:
        rank = cartesian_tensor(target).rank
        return [one for one in found if one.is_target and any(reading.rank == rank for reading in one.readings)]
    named = [one for one in found if quantity_of(one.key) == quantity and one.kind not in ("error bar", "input")]
    return [one for one in named if quantity in one.guesses] or named


def _listed(found):
    return "".join(f"\n  {one}" for one in found)


def _read_one_way(source, found, target, tensor, per_atom):
    """Find the only reading of a label, and its entries as arrays of numbers, None where they are missing."""
    values = [_numbers(source, found, k, one) for k, one in enumerate(source.values(found))]
    shapes = [None if one is None else one.shape for one in values]
    pairs = {(shape, int(n)) for shape, n in zip(shapes, source.n_atoms, strict=True) if shape is not None}
    in_columns = found.of_atoms
    wanted, rank = of_atoms(target, per_atom), None if tensor is None else tensor.rank
    if in_columns is not None and wanted is not None and in_columns != wanted:
        raise ValueError(
            f"{found.key!r} of {source.name} belongs to {'atoms' if in_columns else 'structures'} ({found.where}), "
            f"{'per_atom=' + str(per_atom) if per_atom is not None else f'target={target!r}'} asks for those of "
            f"{'atoms' if wanted else 'structures'}: write per_atom={in_columns} if that is meant, or another key"
        )
    readings = possible_readings(pairs, rank, wanted if in_columns is None else in_columns)
    if not readings:
        raise _misfit(source, found, shapes, tensor, wanted if in_columns is None else in_columns)
    if len(readings) > 1:
        ways = "; ".join(f"per_atom={one.per_atom} for {one}" for one in readings)
        raise ValueError(
            f"{found.key!r} of {source.name} has shape {next(iter(pairs))[0]}, and all structures have "
            f"{next(iter(pairs))[1]} atoms, so that it can be read in {len(readings)} ways: write target= with the "
            f"name of the property, or {ways}"
        )
    return readings[0], values


def _numbers(source, found, k, value):
    if is_absent(value):
        return None
    kind, _ = kind_and_shape(value)
    if kind not in NUMBERS:
        what = {"U": "text", "S": "text", "b": "true or false", "c": "complex"}.get(kind, "no array of numbers")
        raise ValueError(
            f"{found.key!r} of {source.structure(k)} is {what}, {value!r:.60}: numbers are needed, "
            "nan where there is none"
        )
    return np.asarray(value, dtype=float)


def _misfit(source, found, shapes, tensor, per_atom):
    """Error of a label that fits no reading: where, and what to do."""
    rank = None if tensor is None else tensor.rank
    first = next(k for k, shape in enumerate(shapes) if shape is not None)
    for k in range(first, len(shapes)):
        both = {(shapes[j], int(source.n_atoms[j])) for j in (first, k) if shapes[j] is not None}
        if not possible_readings(both, rank, per_atom):
            break
    start = f"{found.key!r} of {source.structure(k)} has shape {shapes[k]}"
    if k > first:
        return ValueError(
            f"{start}, that of {source.structure(first)} has shape {shapes[first]}: they are no tensors of one kind. "
            "Write another key, or correct the file"
        )
    trailing = shapes[k][1:] if per_atom else shapes[k]
    for one, voigt in VOIGT.items():
        if trailing == voigt and rank in (None, one):
            return ValueError(
                f"{start}, Voigt's notation, in an order that the file does not state: make it a full tensor, for "
                "xx, yy, zz, yz, xz, xy by ase.stress.voigt_6_to_full_3x3_stress, and pass that to the model as y"
            )
    return ValueError(f"{start}, expected {_expected(rank, per_atom, int(source.n_atoms[k]))}")


def _expected(rank, per_atom, n_atoms):
    """Words for a kind of label and its shapes."""
    if rank is None:
        return f"{f'({n_atoms}, ...) with ' if per_atom else ''}3, (3, 3), ... numbers, or 9, 27, ... row by row"
    shapes = [Reading(bool(per_atom), rank).trailing, *([(3**rank,)] if rank > 1 else [])]
    shapes = [(n_atoms, *one) if per_atom else one for one in shapes]
    return f"{Reading(bool(per_atom), rank)}, of shape {' or '.join(map(str, shapes))}"


def _joined(values, reading, n_atoms):
    """One array, or for labels of atoms one array for each structure."""
    shape = (3,) * reading.rank
    if not reading.per_atom:
        y = np.full((len(values), 3**reading.rank), np.nan)
        for row, one in zip(y, values, strict=True):
            if one is not None:
                row[:] = one.ravel()
        return y.reshape(-1, *shape)
    y = np.empty(len(values), dtype=object)
    for k, (one, n) in enumerate(zip(values, n_atoms, strict=True)):
        y[k] = np.full((n, *shape), np.nan) if one is None else one.reshape(n, *shape)
    return y
