"""Which index symmetries a set of Cartesian tensors has."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from eqkernels._numeric import real_array

# Printed labels are symmetric to about six digits; genuine antisymmetric parts are rarely below a percent.
SYMMETRY_TOLERANCE = 1e-3


def infer_formula(values: ArrayLike, tolerance: float = SYMMETRY_TOLERANCE) -> str:
    """Find the formula of the index symmetries that all tensors share.

    Exchanges of two indices, and of the two index pairs of a tensor of rank 4, are tried one by one. An exchange is
    taken as a symmetry when the part of the tensors that breaks it is below ``tolerance`` times their norm.

    Parameters
    ----------
    values : array-like of shape (n, 3, ..., 3)
        Tensors of one rank.
    tolerance : float, default=1e-3
        Largest relative norm of the part that is neglected.

    Returns
    -------
    str
        For :class:`CartesianTensor`, e.g. ``"ij=ji"``.

    Examples
    --------
    >>> import numpy as np
    >>> general = np.random.default_rng(0).normal(size=(5, 3, 3))
    >>> infer_formula(general), infer_formula(general + general.swapaxes(1, 2))
    ('ij', 'ij=ji')
    """
    values = real_array(values, "values")
    rank = values.ndim - 1
    letters = "ijklmnopq"[:rank]
    norm = np.linalg.norm(values)
    terms = [letters]
    if norm == 0:
        return letters
    for permutation in _exchanges(rank):
        moved = values.transpose(0, *(1 + np.array(permutation)))
        name = "".join(letters[k] for k in permutation)
        if np.linalg.norm(values - moved) < 2 * tolerance * norm:
            terms.append(name)
        elif np.linalg.norm(values + moved) < 2 * tolerance * norm:
            terms.append("-" + name)
    return "=".join(terms)


def _exchanges(rank):
    for a, b in itertools.combinations(range(rank), 2):
        permutation = list(range(rank))
        permutation[a], permutation[b] = b, a
        yield permutation
    if rank == 4:
        yield [2, 3, 0, 1]
