r"""How many independent observations labels are, where structures are symmetric.

In a crystal, or a molecule of some symmetry, atoms that an operation maps onto each other have labels that are equal,
or rotated into each other, and components that the symmetry of the site or the structure forbids are zero. No model
that is equivariant can miss these, whatever it has learned: counted as observations, they tell a likelihood that labels
have no noise, and everything is fitted exactly. So the :math:`m` equivalent atoms of a structure have the weight
:math:`1/m` each, and labels count as

.. math:: N = \sum_i \frac{1}{m_i} \operatorname{rank} k(i, i)

observations, k(i, i) being the matrix :math:`(2\lambda + 1) \times (2\lambda + 1)` of the kernel of a label with
itself, whose null space is what symmetry forbids (Neumann's principle); labels are projected on the rest. A likelihood
with these weights and this number is that of one label for each set of equivalent atoms, in its allowed components,
with the same noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Environments whose invariants differ by less than this part of their norm are equivalent: more than the rounding of
# positions in files, less than what moves make of them.
_EQUIVALENT = 1e-4
# A projection on a random direction differs by less than this many times the distance.
_REACH = 6.0
# Directions in which the kernel of a label with itself is smaller than this part of the usual size are forbidden. It is
# a square of features, of which the rounding of positions in files makes some 1e-7 of their size.
_FORBIDDEN = 1e-12


def shares_of_equivalents(features: Any, structures: np.ndarray) -> np.ndarray:
    """Share of each center among the symmetry-equivalent centers of its structure.

    Parameters
    ----------
    features : EquivariantFeatures
        One center for each label.
    structures : ndarray of int, shape (n_centers,)
        Structure that each center belongs to, ascending.

    Returns
    -------
    ndarray of shape (n_centers,)
        1 / m for m equivalent centers, which have the same species and the same invariants.
    """
    return shares_of(_invariants(features), features.species, structures)


def weigh_equivalents(features: Any, structures: np.ndarray, weight: np.ndarray | None) -> tuple[Any, Any]:
    """Weights of labelled atoms times their shares, and the shares: None, and weights as they were, if all are 1.

    Parameters
    ----------
    features, structures
        As of :func:`shares_of_equivalents`.
    weight : ndarray of shape (n_centers,), or None

    Returns
    -------
    weight, shares : ndarray of shape (n_centers,), or None
    """
    shares = shares_of_equivalents(features, structures)
    if np.all(shares == 1.0):
        return weight, None
    return shares if weight is None else weight * shares, shares


def shares_of(invariants: np.ndarray, species: np.ndarray, structures: np.ndarray) -> np.ndarray:
    """Share of each atom among those of its structure that have the same species and the same invariants.

    Parameters
    ----------
    invariants : ndarray of shape (n_centers, n_invariants)
    species, structures : ndarray of int, shape (n_centers,)

    Returns
    -------
    ndarray of shape (n_centers,)
    """
    # equal invariants have equal projections: only neighbors in their order are compared
    along = invariants @ np.random.default_rng(0).normal(size=invariants.shape[1])
    order = np.lexsort([along, species, structures])
    before, after = order[:-1], order[1:]
    norms = np.linalg.norm(invariants, axis=1)
    same = (structures[before] == structures[after]) & (species[before] == species[after])
    close = np.flatnonzero(same & (np.abs(along[after] - along[before]) <= _EQUIVALENT * norms[after] * _REACH))
    distances = np.linalg.norm(invariants[after[close]] - invariants[before[close]], axis=1)
    first = np.ones(len(order), dtype=bool)
    first[1 + close[distances <= _EQUIVALENT * norms[after[close]]]] = False
    sets = np.cumsum(first) - 1
    shares = np.empty(len(order))
    shares[order] = 1.0 / np.bincount(sets)[sets]
    return shares


def _invariants(features):
    """Numbers of each center that do not change when its structure rotates: (n_centers, n_numbers)."""
    made = features.density
    if made is None:
        if "0e" in features.blocks:
            return features.blocks["0e"][:, 0]
        return np.concatenate([np.linalg.norm(block, axis=1) for block in features.blocks.values()], axis=1)
    # of features that are not made yet, norms of the densities that they are products of
    first_of_degrees = np.arange(int(np.sqrt(made.density.shape[1]))) ** 2
    squares = np.add.reduceat(made.density.astype(float) ** 2, first_of_degrees, axis=1)
    return np.sqrt(squares).reshape(len(squares), -1)


def allowed_parts(own: np.ndarray, size: float | np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts of labels that symmetry allows, and the number of their components.

    Parameters
    ----------
    own : ndarray of shape (n, 2 lambda + 1, 2 lambda + 1)
        Kernel of each label with itself.
    size : float or ndarray of shape (n,)
        Eigenvalue that a label of no symmetry usually has.
    values : ndarray of shape (n, 2 lambda + 1, multiplicity)

    Returns
    -------
    ndarray of shape (n, 2 lambda + 1, multiplicity)
        The labels themselves where symmetry forbids nothing. What it forbids can only be noise, and would be noise of
        the labels alone, not of the model.
    ndarray of int, shape (n,)
    """
    eigenvalues, vectors = np.linalg.eigh(own)
    allowed = eigenvalues > _FORBIDDEN * np.maximum(np.mean(eigenvalues, axis=1), size)[:, None]
    counts = np.sum(allowed, axis=1)
    some = np.flatnonzero(counts < own.shape[1])
    if not len(some):
        return values, counts
    values = values.copy()
    kept = vectors[some] * allowed[some, None]
    values[some] = kept @ (kept.transpose(0, 2, 1) @ values[some])
    return values, counts
