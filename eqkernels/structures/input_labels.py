r"""Derivatives of energies by inputs, as users have them, are checked and become rows of labels.

The derivative by an input T, whose irreducible components are x = Q T with orthonormal rows Q, is
:math:`\partial E / \partial \mathbf x = Q\, \partial E / \partial T`; of an electric field it is the dipole, with the
sign that the data set gives to its field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqkernels._numeric import as_floats, check_plain, is_missing
from eqkernels.structures.derivative_labels import DerivativeLabels, known_rows
from eqkernels.structures.inputs import InputKind

# Derivatives by a symmetric matrix whose parts across the diagonal differ by less, relative to the largest, are
# symmetric up to rounding.
_ROUNDING = 1e-6


def read_input_derivatives(
    derivatives: Sequence[Any] | NDArray[np.float64],
    name: str,
    kind: InputKind,
    per_atom: bool,
    n_atoms: NDArray[np.int64],
) -> DerivativeLabels:
    """Check derivatives of scalars of structures by an input.

    Parameters
    ----------
    derivatives : array-like of shape (n_structures, ...), or list of array-like of shape (n_atoms, ...)
        With the shape of the input, a tensor for each structure, or for an input of atoms for each atom; None or NaN
        where they are not known.
    name : str
        Of the input, for messages.
    kind : InputKind
    per_atom : bool
        Whether the input belongs to atoms.
    n_atoms : ndarray of int, shape (n_structures,)

    Returns
    -------
    DerivativeLabels
        By the irreducible components of the input.

    Raises
    ------
    TypeError, ValueError
        If they do not fit the structures or the input; the message says which one.

    Examples
    --------
    >>> import numpy as np
    >>> dipoles = [[0.0, 0.0, 0.4], None]
    >>> read_input_derivatives(dipoles, "electric_field", InputKind("1o"), False, np.array([3, 3])).owners
    array([0])
    """
    what = f"input_derivatives[{name!r}]"
    check_plain(derivatives, what)
    if isinstance(derivatives, str | bytes | dict) or not hasattr(derivatives, "__len__"):
        got = type(derivatives).__name__
        raise TypeError(f"{what} must be a sequence with one array for each structure, got {got}")
    if len(derivatives) != len(n_atoms):
        raise ValueError(
            f"{what} has {len(derivatives)} entries for {len(n_atoms)} structures: give one for each, or None or NaN"
        )
    parts = [_numbers(one, f"{what}[{k}]", kind, int(n) if per_atom else None)
             for k, (one, n) in enumerate(zip(derivatives, n_atoms, strict=True))]  # fmt: skip
    values, ends = np.concatenate(parts), np.cumsum(n_atoms)

    def where(row):
        if not per_atom:
            return f"the derivative of structure {row} by {name!r}"
        k = int(np.searchsorted(ends, row, side="right"))
        return f"the derivative of structure {k} by {name!r} of atom {row - ends[k] + n_atoms[k]}"

    known = known_rows(values, where)
    return DerivativeLabels(_components(known.values, known.owners, kind, where), known.owners, not per_atom)


def _numbers(one, what, kind, n_rows):
    """Make the derivatives of a structure an array (1 or n_atoms, numbers of a tensor), NaN where they are unknown."""
    width, leading = kind.matrix.shape[1], () if n_rows is None else (n_rows,)
    nothing = np.full((1 if n_rows is None else n_rows, width), np.nan)
    if is_missing(one):
        return nothing
    one = as_floats(one, what)
    if one.ndim == 0 and np.isnan(one):
        return nothing
    if one.shape not in {(*leading, *kind.shape), (*leading, width)}:
        raise ValueError(f"{what} has shape {one.shape}, expected {(*leading, *kind.shape)}, that of the input")
    return one.reshape(-1, width)


def _components(values, owners, kind, where):
    """Turn derivatives into those by the irreducible components; a part that no input of this kind has is refused."""
    components = values @ kind.matrix.T
    rest = np.abs(values - components @ kind.matrix).max(axis=1, initial=0.0)
    uneven = np.flatnonzero(rest > _ROUNDING * np.abs(values).max(initial=0.0))
    if len(uneven):
        raise ValueError(
            f"{where(owners[uneven[0]])} has not the index symmetry of the input, {kind.text!r}, by up to "
            f"{rest[uneven[0]]:.2g}: symmetrize it, or state other irreps of the input"
        )
    return components
