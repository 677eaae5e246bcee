"""Labels: what users pass as y is checked and becomes one array of Cartesian tensors, read in the only possible way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning

from eqkernels._numeric import LARGEST, as_floats, check_plain, is_missing, written_out
from eqkernels._warnings import warn
from eqkernels.so3 import CartesianTensor, Irreps, cartesian_tensor, infer_formula
from eqkernels.so3.properties import find_property
from eqkernels.structures.readings import (
    ambiguous,
    check_look_alike,
    possible_readings,
    readings_of_model,
    structure_tensors,
    unreadable,
)


@dataclass(frozen=True)
class Labels:
    """Checked labels.

    Attributes
    ----------
    values : ndarray of shape (n_labels, 3, ..., 3)
        One tensor for each structure, or for each labelled atom, structure after structure.
    atoms : ndarray of int, shape (n_labels,), or None
        For per-atom targets: the index of each labelled atom, counted over all atoms of all structures.
    n_atoms : ndarray of int, shape (n_structures,)
        Number of atoms of each structure.
    tensor : CartesianTensor
        The index symmetry that is declared, or else the one that the labels have.
    """

    values: np.ndarray
    atoms: np.ndarray | None
    n_atoms: np.ndarray
    tensor: CartesianTensor

    @property
    def per_atom(self) -> bool:
        """Whether the labels belong to atoms, not to structures."""
        return self.atoms is not None

    def given(self) -> NDArray[Any]:
        """Labels as ``predict`` returns them: NaN for atoms without one."""
        if not self.per_atom:
            return self.values
        rows = np.full((self.n_atoms.sum(), *self.values.shape[1:]), np.nan)
        rows[self.atoms] = self.values
        return by_structure(rows, self.n_atoms)


def read_labels(
    y: Any, n_atoms: NDArray[np.int64], target: str | CartesianTensor | None = None, per_atom: bool | None = None
) -> Labels:
    """Check labels and find the one way in which they can be read.

    Parameters
    ----------
    y : array-like of shape (n_structures, 3, ..., 3), or sequence of array-like of shape (n_atoms, 3, ..., 3)
        Tensors of the structures, or for each structure one array with the tensors of its atoms, in which a row of
        NaN marks an atom without a label, and None in place of the array a structure without any. With a declared
        target the indices of a tensor may be written in one axis, row by row. With ``per_atom=True`` also one array
        (n_structures, n_atoms, 3, ..., 3).
    n_atoms : ndarray of int, shape (n_structures,)
        Number of atoms of each structure.
    target : str or CartesianTensor, default=None
        Index symmetry, or the name of a property, if declared.
    per_atom : bool, default=None
        Whether the labels belong to atoms; None: as the target says, or if it does not, the only way that is possible.

    Returns
    -------
    Labels

    Raises
    ------
    TypeError
        If y is not numeric, or carries units.
    ValueError
        If its length or shape does not fit the structures, it can be read in several ways, or a label is missing, NaN,
        infinite or too large to be squared.

    Examples
    --------
    >>> import numpy as np
    >>> read_labels(np.zeros((2, 3, 3)), n_atoms=np.array([3, 5])).per_atom
    False
    >>> read_labels([np.zeros((3, 3, 3)), np.zeros((5, 3, 3))], n_atoms=np.array([3, 5])).atoms
    array([0, 1, 2, 3, 4, 5, 6, 7])
    """
    tensor = None if target is None else cartesian_tensor(target)
    per_atom = of_atoms(target, per_atom)
    written = _Written(y, n_atoms)
    values, atoms = written.read(_one_reading(written, None if tensor is None else tensor.rank, per_atom))
    return Labels(values, atoms, n_atoms, CartesianTensor(infer_formula(values)) if tensor is None else tensor)


def irreps_of_labels(y: Any, n_atoms: NDArray[np.int64], per_atom: bool | None = None) -> Irreps:
    """Irreps of all readings of labels of which a model, which may have a target declared, may take one.

    Parameters
    ----------
    y, n_atoms, per_atom
        As for :func:`read_labels`.

    Returns
    -------
    Irreps
    """
    written = _Written(y, n_atoms)
    readings = possible_readings(set(written.shapes), None, of_atoms(None, per_atom))
    if len(readings) > 1:  # of structures, all have a label
        readings = [one for one in readings if one.per_atom or len(written.known(one)) == len(n_atoms)] or readings[:1]
    if len(readings) < 2:  # if there is none, this says why
        values, _ = written.read(readings[0] if readings else _one_reading(written, None, per_atom))
        return CartesianTensor(infer_formula(values)).irreps
    if structure_tensors(written.known(readings[0])):
        readings = readings[:1]
    irreps = Irreps("")
    for reading in readings:
        irreps = irreps + CartesianTensor(infer_formula(written.known(reading))).irreps
    return irreps


def of_atoms(target, per_atom):
    """Whether labels belong to atoms, as declared, or as physics says of a property by name; None: either."""
    if per_atom is not None and not isinstance(per_atom, bool | np.bool_):
        raise ValueError(f"per_atom={per_atom!r} must be None, True or False")
    name = getattr(target, "formula", target)
    known = find_property(name) if isinstance(name, str) else None
    return known.per_atom if per_atom is None and known is not None else per_atom


def by_structure(values: NDArray[Any], n_atoms: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
    """Rows of all atoms as a one-dimensional object array of one array a structure, which scikit-learn can join.

    Parameters
    ----------
    values : ndarray of shape (n_atoms_in_all, ...)
    n_atoms : array-like of int, shape (n_structures,)

    Returns
    -------
    ndarray of object, shape (n_structures,)
    """
    parts = np.empty(len(n_atoms), dtype=object)
    for k, part in enumerate(np.split(values, np.cumsum(n_atoms)[:-1])):
        parts[k] = part
    return parts


def is_by_structure(values: Any) -> bool:
    """Whether predictions or errors are one array for each structure, and not one array of all of them.

    Parameters
    ----------
    values : array-like
        A one-dimensional object array, as ``predict`` returns it, or a list of arrays.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If a list can be both.
    """
    if isinstance(values, np.ndarray):
        return values.dtype == object and values.ndim == 1 and len(values) > 0 and np.ndim(values[0]) > 0
    if not isinstance(values, list | tuple) or not values:
        return False
    if not all(isinstance(one, np.ndarray) and one.ndim > 0 for one in values):
        return False
    if all(one.shape == (3,) * one.ndim for one in values):
        raise ValueError(
            "a list of arrays of this shape can be tensors of structures or of 3 atoms each: pass np.array(...) for "
            "tensors of structures, a one-dimensional object array, as predict returns it, for those of atoms"
        )
    return True


def _one_reading(written, rank, per_atom):
    shapes = set(written.shapes)
    readings = readings_of_model(shapes, rank, per_atom, written.regular)
    if not readings:
        raise unreadable(written.shapes, rank, per_atom, written.regular)
    if len(readings) == 1 and rank is None and per_atom is None and not written.regular:
        check_look_alike(shapes, readings[0])
    if len(readings) > 1 and not structure_tensors(written.known(readings[0])):
        raise ambiguous(readings, shapes)
    return readings[0]


class _Written:
    """Labels as they are written: one array, or an entry for each structure (None where it is missing)."""

    def __init__(self, y, n_atoms):
        self.n_atoms = n_atoms
        self.array, self.entries = _array_or_entries(y)
        length = len(self.entries if self.array is None else self.array)
        if length != len(n_atoms):
            raise ValueError(
                f"y has {length} entries for {len(n_atoms)} structures (inconsistent numbers of samples): give one "
                "label, or one array of per-atom targets, for each structure"
            )
        if self.array is not None and self.array.ndim == 2 and self.array.shape[1] == 1:
            message = "A column-vector y was passed when a 1d array was expected: its second axis is dropped"
            warn(message, DataConversionWarning)
            self.array = self.array[:, 0]

    @property
    def regular(self):
        """Whether the labels are one array."""
        return self.array is not None

    @property
    def shapes(self):
        """Shape of each entry that is there, and the number of atoms of its structure."""
        if self.array is not None:
            return [(self.array.shape[1:], int(n)) for n in self.n_atoms]
        return [(one.shape, int(n)) for one, n in zip(self.entries, self.n_atoms, strict=True) if one is not None]

    def read(self, reading):
        """Tensors, and for per-atom targets the atoms that have them."""
        values = self._tensors(reading)
        if reading.per_atom:
            return _of_atoms(values, self.n_atoms)
        flat = values.reshape(len(values), -1)
        bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
        if len(bad):
            raise ValueError(
                f"y contains NaN or infinity in {len(bad)} of {len(values)} labels, first for structure {bad[0]} (a "
                "label that is None or masked counts as NaN): remove these structures. Only per-atom targets, in a "
                "list of arrays, may have gaps"
            )
        _check_size(flat, lambda k: f"structure {k}")
        return np.ascontiguousarray(values), None

    def known(self, reading):
        """Tensors without those that are missing, unchecked."""
        values = self._tensors(reading)
        return values[np.isfinite(values.reshape(len(values), -1)).all(axis=1)]

    def _tensors(self, reading):
        shape = (3,) * reading.rank
        if self.array is not None:
            return self.array.reshape(-1, *shape)
        parts = [
            np.full((n if reading.per_atom else 1, *shape), np.nan) if one is None else one.reshape(-1, *shape)
            for one, n in zip(self.entries, self.n_atoms, strict=True)
        ]
        return np.concatenate(parts)


def _array_or_entries(y):
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    check_plain(y, "y")
    y = np.asarray(y) if hasattr(y, "__array__") and not hasattr(y, "__len__") else y
    sequence = hasattr(y, "__len__") and (hasattr(y, "__getitem__") or hasattr(y, "__array__"))
    if isinstance(y, dict | str | bytes) or not sequence or getattr(y, "ndim", 1) == 0:
        raise TypeError(f"y must be an array or a list with an entry for each structure, got {type(y).__name__}")
    listed = isinstance(y, list | tuple)
    if listed and len(y) and written_out(y):
        try:
            return np.array(y, dtype=float), None
        except ValueError:  # of several lengths
            pass
    if not listed and hasattr(y, "__array__") and not isinstance(y, np.ma.MaskedArray):
        array = np.asarray(y)
        if array.dtype != object or array.ndim > 1:
            return as_floats(y if array.dtype != object else array, "y"), None
        y = array
    elif isinstance(y, np.ma.MaskedArray):
        return as_floats(y, "y"), None
    entries = [None if is_missing(one) else as_floats(one, f"y[{k}]") for k, one in enumerate(y)]
    # a cell of a table that is empty is NaN
    ndim = max((one.ndim for one in entries if one is not None), default=0)
    if ndim == 0:
        return np.array([np.nan if one is None else one for one in entries], dtype=float), None
    entries = [None if one is not None and one.ndim == 0 and np.isnan(one) else one for one in entries]
    numbers = listed and not any(hasattr(one, "__array__") for one in y)
    if numbers and len({one.shape if one is not None else None for one in entries}) == 1:
        return np.array(entries), None  # nested lists of numbers are one array, written out
    return None, entries


def _of_atoms(values, n_atoms):
    flat = values.reshape(len(values), -1)
    missing = np.isnan(flat).all(axis=1)
    bad = np.flatnonzero(~missing & ~np.isfinite(flat).all(axis=1))
    ends = np.cumsum(n_atoms)

    def where(atom):
        k = int(np.searchsorted(ends, atom, side="right"))
        return f"structure {k}, atom {atom - ends[k] + n_atoms[k]}"

    if len(bad):
        raise ValueError(
            f"the label of {where(bad[0])} has NaN or infinity in some components: "
            "an atom without a label must be NaN in all of them"
        )
    if missing.all():
        raise ValueError("every label in y is NaN: there is nothing to fit")
    _check_size(np.where(missing[:, None], 0.0, flat), where)
    return np.ascontiguousarray(values[~missing]), np.flatnonzero(~missing)


def _check_size(flat, where):
    if np.abs(flat).max(initial=0.0) > LARGEST:
        k = int(np.argmax(np.abs(flat).max(axis=1)))
        raise ValueError(
            f"the label of {where(k)} is as large as {np.abs(flat[k]).max():.1e}, more than the {LARGEST:.0e} that can "
            "be squared and summed: check its unit"
        )
