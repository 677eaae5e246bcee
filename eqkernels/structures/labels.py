"""The door for labels: what users pass as y becomes one array of Cartesian tensors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import DataConversionWarning


@dataclass(frozen=True)
class Labels:
    """Checked labels.

    Attributes
    ----------
    values : ndarray of shape (n_labels, 3, ..., 3)
        One tensor for each structure, or for each labelled atom, structure after structure.
    atoms : ndarray of int, shape (n_labels,), or None
        For labels of atoms: the index of each labelled atom, counted over all atoms of all structures.
    """

    values: np.ndarray
    atoms: np.ndarray | None

    @property
    def per_atom(self):
        """Whether the labels belong to atoms, not to structures."""
        return self.atoms is not None


def read_labels(y, n_atoms, rank=None):
    """Check labels and tell those of structures from those of atoms.

    Parameters
    ----------
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        Tensors of the structures, or for each structure one array with the tensors of its atoms, in which a row of
        NaN marks an atom without a label.
    n_atoms : ndarray of int, shape (n_structures,)
        Number of atoms of each structure.
    rank : int, default=None
        Rank of the tensors when it is known.

    Returns
    -------
    Labels

    Raises
    ------
    TypeError
        If y is missing or is not numeric.
    ValueError
        If its length or shape does not fit the structures, or a label is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> read_labels(np.zeros((2, 3, 3)), n_atoms=np.array([3, 5])).per_atom
    False
    >>> read_labels([np.zeros((3, 3, 3)), np.zeros((5, 3, 3))], n_atoms=np.array([3, 5])).atoms
    array([0, 1, 2, 3, 4, 5, 6, 7])
    """
    n_structures = len(n_atoms)
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    ragged = isinstance(y, list | tuple) or getattr(getattr(y, "dtype", None), "kind", None) == "O"
    entries = [_numeric(entry, k) for k, entry in enumerate(y)] if ragged else None
    values = _numeric(y, None) if entries is None else None
    length = len(entries) if values is None else len(np.atleast_1d(values))
    if length != n_structures:
        raise ValueError(
            f"y has {length} entries for {n_structures} structures (inconsistent numbers of samples): give one label, "
            "or one array of atomic labels, for each structure"
        )
    if entries is not None and _is_per_atom(entries, n_atoms, rank, all(isinstance(one, np.ndarray) for one in y)):
        return _atomic_labels(entries, n_atoms, rank)
    values = _stacked(entries) if values is None else values
    if values.ndim == 2 and values.shape[1] == 1:
        message = "A column-vector y was passed when a 1d array was expected: its second axis is dropped"
        warnings.warn(message, DataConversionWarning, stacklevel=2)
        values = values[:, 0]
    _check_tensor_shape(values.shape[1:], rank, "y")
    bad = np.flatnonzero(~np.isfinite(values.reshape(n_structures, -1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"y contains NaN or infinity in {len(bad)} of {n_structures} labels, first for structure {bad[0]}: remove "
            "these structures (only labels of atoms, given as a list of arrays, may have gaps)"
        )
    return Labels(np.ascontiguousarray(values), None)


def _numeric(values, k):
    values = np.asarray(values)
    name = "y" if k is None else f"y[{k}]"
    if np.iscomplexobj(values):
        raise ValueError(f"Complex data not supported: {name} is complex, fit its real and imaginary parts one by one")
    try:
        return values.astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is not numeric: {error}") from error


def _is_per_atom(entries, n_atoms, rank, arrays):
    ranks = {entry.ndim for entry in entries}
    if len(ranks) > 1:
        raise ValueError(f"the entries of y have different numbers of axes: {sorted(ranks)}")
    ndim = ranks.pop() if ranks else 0
    if rank is not None:
        return ndim == rank + 1
    as_structure = all(entry.shape == (3,) * ndim for entry in entries)
    as_atoms = ndim > 0 and all(
        entry.shape == (n, *(3,) * (ndim - 1)) for entry, n in zip(entries, n_atoms, strict=True)
    )
    if as_structure and as_atoms and not arrays:
        return False  # nested lists of numbers are one array, written out
    if as_structure and as_atoms:
        warnings.warn(
            "y is a list in which every entry fits both tensors of 3 atoms and a tensor of the structure: it is read "
            "as labels of atoms. Pass np.array(y) for labels of structures, or state target= (e.g. target='i')",
            stacklevel=2,
        )
    return as_atoms or (ndim > 0 and not as_structure)


def _stacked(entries):
    shapes = {entry.shape for entry in entries}
    if len(shapes) > 1:
        raise ValueError(f"the labels have different shapes: {sorted(shapes)}")
    return np.array(entries)


def _check_tensor_shape(shape, rank, name):
    expected = (3,) * (len(shape) if rank is None else rank)
    if shape == expected:
        return
    size = int(np.prod(shape)) if shape else 1
    flat = len(shape) == 1 and size in (9, 27, 81)
    advice = (
        f": a flattened tensor is restored by y.reshape(-1{', 3' * round(np.log(size) / np.log(3))})" if flat else ""
    )
    wanted = "a tensor, (3,), (3, 3), ..., or none for a scalar" if rank is None else f"{expected}, of rank {rank}"
    raise ValueError(f"{name} has trailing shape {shape}, expected that of {wanted}{advice}")


def _atomic_labels(entries, n_atoms, rank):
    for k, (entry, n) in enumerate(zip(entries, n_atoms, strict=True)):
        if len(entry) != n:
            raise ValueError(
                f"y[{k}] has {len(entry)} rows, structure {k} has {n} atoms: one row for each atom is needed"
            )
        _check_tensor_shape(entry.shape[1:], rank, f"a row of y[{k}]")
    values = np.concatenate(entries)
    flat = values.reshape(len(values), -1)
    missing = np.isnan(flat).all(axis=1)
    bad = np.flatnonzero(~missing & ~np.isfinite(flat).all(axis=1))
    if len(bad):
        ends = np.cumsum(n_atoms)
        k = int(np.searchsorted(ends, bad[0], side="right"))
        raise ValueError(
            f"the label of structure {k}, atom {bad[0] - ends[k] + n_atoms[k]} has NaN or infinity in some components: "
            "an atom without a label must be NaN in all of them"
        )
    if missing.all():
        raise ValueError("every label in y is NaN: there is nothing to fit")
    return Labels(np.ascontiguousarray(values[~missing]), np.flatnonzero(~missing))
