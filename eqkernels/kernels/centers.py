r"""Which centers a kernel compares: those of the same species, those of species that are alike, or all.

With the similarity s in [0, 1] of centers, the kernel of two environments is multiplied by

.. math:: S_{ab} = G_{ab}^{(1 - s) / s} ,

G the similarity of the species by the periodic table (:mod:`eqkernels.structures.elements`), a Gaussian, of which every
power is positive definite, and so is the product with another kernel (I. Schur, J. Reine Angew. Math. 140, 1 (1911)):
:math:`\delta_{ab}` for s = 0, G for 1/2, and 1 for all species for s = 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import numpy as np

from eqkernels._parameters import is_number
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.structures.elements import element_similarity


def check_similarity(similarity) -> None:
    """Refuse what is no number from 0 to 1."""
    if not is_number(similarity) or not 0 <= similarity <= 1:
        raise ValueError(
            f"center_similarity={similarity!r} must be a number from 0 (centers of the same species only) to 1 (all "
            "species alike)"
        )


def center_similarity(species, others, similarity: float) -> np.ndarray:
    """Factors of the kernels between centers.

    Parameters
    ----------
    species, others : ndarray of int
        Atomic numbers.
    similarity : float
        From 0, same species only, to 1, all alike.

    Returns
    -------
    ndarray of shape (n_species, n_others)

    Examples
    --------
    >>> center_similarity([8, 16], [8, 16, 11], 0.5).round(2)
    array([[1.  , 0.37, 0.  ],
           [0.37, 1.  , 0.  ]])
    """
    species, others = np.asarray(species), np.asarray(others)
    if similarity == 0:
        return (species[:, None] == others).astype(float)
    if similarity == 1:
        return np.ones((len(species), len(others)))
    kinds, rows = np.unique(species, return_inverse=True)
    other_kinds, columns = np.unique(others, return_inverse=True)
    factors = element_similarity(kinds, other_kinds) ** ((1 - similarity) / similarity)
    return factors[rows[:, None], columns]


def center_groups(species, others, similarity: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of centers with kernels between them: of each common species, or all in one group.

    Parameters
    ----------
    species, others : ndarray of int
    similarity : float

    Yields
    ------
    rows, columns : ndarray of int
    """
    if similarity > 0:
        if len(species) and len(others):
            yield np.arange(len(species)), np.arange(len(others))
        return
    for one in np.intersect1d(species, others):
        yield np.flatnonzero(species == one), np.flatnonzero(others == one)


def all_alike(features: EquivariantFeatures) -> EquivariantFeatures:
    """Features whose centers all count as one species; the arrays are shared."""
    out = copy(features)
    out.species = np.zeros_like(features.species)
    return out


def similarity_of(kernel) -> float:
    """Largest similarity of centers of a kernel and its parts, 0 where it compares those of the same species only."""
    if not hasattr(kernel, "get_params"):
        return 0.0
    values = [value for name, value in kernel.get_params().items() if name.split("__")[-1] == "center_similarity"]
    return float(max([0.0, *(value for value in values if is_number(value))]))
