r"""How alike elements are, from their places in the periodic table: embeddings of those that a model has seen or not.

Elements with the coordinates x (group, period, covalent radius, electronegativity, each in units of its own width) have
the similarity

.. math:: G_{ab} = \exp\left( -\tfrac12 |\mathbf x_a - \mathbf x_b|^2 \right) ,

a positive definite kernel, and so is every power of it. Its leading eigenvectors over the elements that were seen are
their embedding, :math:`\mathbf E = \mathbf U \Lambda^{1/2}`; others are embedded by
:math:`\mathbf G_{\text{new,seen}} \mathbf U \Lambda^{-1/2}` (C. Williams, M. Seeger, NIPS 13, 682 (2001)), all
normalized to unit length.

Covalent radii are those of Cordero et al., Dalton Trans. 2832 (2008), from ASE. Electronegativities are Pauling's, as
revised by A. L. Allred, J. Inorg. Nucl. Chem. 17, 215 (1961), and for He, Ne and Ar those of L. C. Allen, J. Am. Chem.
Soc. 111, 9003 (1989).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from ase.data import covalent_radii

# Differences of group, period, covalent radius (Angstrom) and electronegativity that make elements unlike each other;
# about where the mean charges of 64 elements in crystals follow best from those of the other elements.
_WIDTHS = np.array([1.25, 2.0, 0.5, 0.8])
# Channels of an embedding unless stated.
CHANNELS = 8
# From this number of elements on they are embedded where nothing is stated.
MANY = 20
# Eigenvalues of a similarity below this part of the largest are rounding.
_RANK = 1e-9

# fmt: off
# Rows are periods. Elements 58 to 71 and 90 to 96 are put between the groups 3 and 4.
_ELECTRONEGATIVITIES = np.array([
    2.20, 4.16,
    0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.79,
    0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 3.24,
    0.82, 1.00, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96, 3.00,
    0.82, 0.95, 1.22, 1.33, 1.60, 2.16, 1.90, 2.20, 2.28, 2.20, 1.93, 1.69, 1.78, 1.96, 2.05, 2.10, 2.66, 2.60,
    0.79, 0.89, 1.10, 1.12, 1.13, 1.14, 1.13, 1.17, 1.20, 1.20, 1.20, 1.22, 1.23, 1.24, 1.25, 1.10, 1.27,
    1.30, 1.50, 2.36, 1.90, 2.20, 2.20, 2.28, 2.54, 2.00, 1.62, 2.33, 2.02, 2.00, 2.20, 2.20,
    0.79, 0.90, 1.10, 1.30, 1.50, 1.38, 1.36, 1.28, 1.13, 1.28,
])
# fmt: on
# The last element of each period.
_ENDS = np.array([2, 10, 18, 36, 54, 86, 118])
#: The heaviest element that is embedded: heavier ones have no measured radius.
HEAVIEST = len(_ELECTRONEGATIVITIES)


def group_and_period(number: int) -> tuple[float, int]:
    """Group, a fraction for f elements, and period of an element.

    Parameters
    ----------
    number : int
        Atomic number.

    Returns
    -------
    group : float
    period : int

    Examples
    --------
    >>> group_and_period(8), group_and_period(22), group_and_period(79)
    ((16.0, 2), (4.0, 4), (11.0, 6))
    """
    period = int(np.searchsorted(_ENDS, number)) + 1
    place = number - (_ENDS[period - 2] if period > 1 else 0)
    to_end = _ENDS[period - 1] - number
    if period == 1:
        return (1.0 if number == 1 else 18.0), period
    if place <= 2:
        return float(place), period
    if period > 5 and place <= 17:
        return 3.0 + (place - 3) / 15, period
    return float(18 - to_end), period


@lru_cache(maxsize=1)
def _coordinates():
    rows = [
        (*group_and_period(number), covalent_radii[number], _ELECTRONEGATIVITIES[number - 1])
        for number in range(1, HEAVIEST + 1)
    ]
    return np.array(rows) / _WIDTHS


def element_similarity(numbers, others) -> np.ndarray:
    """Similarity of elements, 1 of an element with itself.

    Parameters
    ----------
    numbers, others : array-like of int
        Atomic numbers, at most 96.

    Returns
    -------
    ndarray of shape (n_numbers, n_others)

    Raises
    ------
    ValueError
        If there are no data of an element.

    Examples
    --------
    Chlorine is more like bromine than like sodium:

    >>> element_similarity([17], [17, 35, 11]).round(2)
    array([[1. , 0.8, 0. ]])
    """
    left, right = (_coordinates()[_checked(one) - 1] for one in (numbers, others))
    return np.exp(-0.5 * np.sum((left[:, None] - right) ** 2, axis=2))


def _checked(numbers):
    numbers = np.asarray(numbers, dtype=int).reshape(-1)
    if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= HEAVIEST:
        raise ValueError(
            f"no covalent radius is known of the element {numbers.max()}, only of those up to {HEAVIEST}: set "
            "species_embedding to a dict, or center_similarity=0 or 1"
        )
    return numbers


def embedding(seen, n_channels: int, numbers=None) -> np.ndarray:
    """Vectors of elements in the space of those that were seen.

    Parameters
    ----------
    seen : array-like of int
        Atomic numbers, each once.
    n_channels : int
        Length of the vectors, if there are as many independent ones.
    numbers : array-like of int, default=None
        The elements to embed; None: those that were seen.

    Returns
    -------
    ndarray of shape (n_numbers, at most n_channels)
        Rows of unit length.
    """
    values, vectors = np.linalg.eigh(element_similarity(seen, seen))
    values, vectors = values[::-1][:n_channels], vectors[:, ::-1][:, :n_channels]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    kept = values > _RANK * values[0]
    similarity = element_similarity(seen if numbers is None else numbers, seen)
    rows = similarity @ (vectors[:, kept] / np.sqrt(values[kept]))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # an element unlike all others has no direction
    return rows / np.where(lengths > np.finfo(float).tiny, lengths, 1.0)


def shares(seen, numbers) -> np.ndarray:
    """Weights of the elements that were seen in an average for others: their similarities, with the sum 1.

    Parameters
    ----------
    seen, numbers : array-like of int

    Returns
    -------
    ndarray of shape (n_numbers, n_seen)
    """
    left, right = (_coordinates()[_checked(one) - 1] for one in (numbers, seen))
    squares = np.sum((left[:, None] - right) ** 2, axis=2)
    weights = np.exp(-0.5 * (squares - squares.min(axis=1, keepdims=True)))  # the nearest has weight 1
    return weights / weights.sum(axis=1, keepdims=True)
