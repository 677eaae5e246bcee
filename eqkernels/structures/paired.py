"""True and predicted tensors side by side, checked: what metrics and calibration read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels._numeric import as_floats, check_plain
from eqkernels.so3 import cartesian_tensor
from eqkernels.structures import is_by_structure, read_labels


@dataclass(frozen=True)
class PairedRows:
    """Tensors of structures, or of all labelled atoms of all structures.

    Attributes
    ----------
    true, pred : ndarray of shape (n_rows, 3, ..., 3)
    rows : ndarray of int, shape (n_rows,)
        Place of each among all structures, or all atoms.
    n_atoms : ndarray of int, shape (n_structures,), or None
        Atoms of each structure; None: the rows are structures.
    """

    true: np.ndarray
    pred: np.ndarray
    rows: np.ndarray
    n_atoms: np.ndarray | None

    @property
    def structures(self):
        """Structure of each row."""
        return self.rows if self.n_atoms is None else np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)[self.rows]

    def check(self, name, good, problem):
        """Refuse values of which some are not good, and say what the problem is and where.

        Parameters
        ----------
        name : str
        good : ndarray of bool, shape (n_rows, ...)
        problem : str
        """
        bad = np.flatnonzero(~good.reshape(len(good), -1).all(axis=1))
        if len(bad):
            where = f"structure {self.structures[bad[0]]}"
            if self.n_atoms is not None:
                row, ends = self.rows[bad[0]], np.cumsum(self.n_atoms)
                where += f", atom {row - (ends - self.n_atoms)[self.structures[bad[0]]]}"
            raise ValueError(f"{name} of {where} {problem}")


def paired_rows(y_true, y_pred, name="y_true"):
    """Read and check true and predicted tensors.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n, 3, ..., 3), or list or object array of arrays (n_atoms, 3, ..., 3)
        Rows of atoms that are NaN in y_true are left out. For y_true whatever ``fit`` reads as labels.
    name : str, default="y_true"
        Of the first, for messages.

    Returns
    -------
    PairedRows

    Raises
    ------
    TypeError, ValueError
        If they are not numbers, are not tensors, do not fit each other, or if y_true is not finite.
    """
    for values, what in ((y_true, name), (y_pred, "y_pred")):
        check_plain(values, what)
        if not np.iterable(values) or isinstance(values, str | bytes):
            raise TypeError(f"{what} is not an array of numbers, got {values!r:.60}")
    if hasattr(y_true, "__len__") and len(y_true) == 0:
        raise ValueError(f"there are no tensors in {name}: give at least one")
    n_atoms = None
    if is_by_structure(y_pred):
        if not np.iterable(y_true) or any(np.ndim(one) == 0 for one in y_true):
            raise ValueError("y_pred has one array for each structure, y_true has not: give both in one form")
        pred, predicted = join_atoms(y_pred, "y_pred")
        true, n_atoms = join_atoms(_as_fit_reads(y_true, predicted, pred.ndim - 1, True), "y_true")
        if len(n_atoms) != len(predicted) or (n_atoms != predicted).any():
            raise ValueError("y_true and y_pred have different numbers of structures or of atoms")
    else:
        pred = as_floats(y_pred, "y_pred")
        true = as_floats(_as_fit_reads(y_true, np.zeros(len(y_pred), dtype=int), pred.ndim - 1, False), name)
    if true.shape != pred.shape or true.ndim == 0:
        raise ValueError(f"y_true has shape {true.shape}, y_pred {pred.shape}: they must be equal")
    if true.shape[1:] != (3,) * (true.ndim - 1):
        raise ValueError(
            f"y_true and y_pred have trailing shape {true.shape[1:]}, expected that of a tensor, (3,), (3, 3), ..., or "
            "none for a scalar"
        )
    rows = np.arange(len(true))
    if n_atoms is not None:
        rows = np.flatnonzero(~np.isnan(true.reshape(len(true), -1)).all(axis=1))
        if not len(rows):
            raise ValueError("there are no tensors in y_true: every label is NaN")
    pairs = PairedRows(true[rows], pred[rows], rows, n_atoms)
    pairs.check(name, np.isfinite(pairs.true), "is NaN or infinite: leave it out (atoms: NaN in all components)")
    return pairs


def join_atoms(values, name):
    """Tensors of the atoms of all structures, and the number of atoms of each."""
    parts = [as_floats(one, f"{name}[{k}]") for k, one in enumerate(values)]
    shapes = sorted({one.shape[1:] for one in parts})
    if len(shapes) > 1:
        raise ValueError(f"the arrays of {name} have tensors of different shapes: {', '.join(map(str, shapes))}")
    return np.concatenate(parts), np.array([len(one) for one in parts])


def _as_fit_reads(y_true, n_atoms, rank, per_atom):
    """Labels in the form of predictions where they are labels to ``fit``; what is wrong with others is said later."""
    try:
        return read_labels(y_true, n_atoms, cartesian_tensor(None, rank), per_atom).given()
    except (TypeError, ValueError):
        return y_true
