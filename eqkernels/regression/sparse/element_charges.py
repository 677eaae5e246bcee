r"""Baseline of dipoles that are learned from derivatives: a charge of each element.

Born charges of a crystal differ most by element, whatever is near: :math:`Z^*_a = q_{s(a)}` times the identity. A
dipole that is a sum over near environments does not know of it. With the mean over the atoms of the structure taken
off,

.. math:: \frac{\partial P_i}{\partial r_{aj}} = \delta_{ij} \Bigl( q_{s(a)} - \frac 1 N \sum_b q_{s(b)} \Bigr) ,

the charges obey the acoustic sum rule. They are fitted with the kernels, at the largest likelihood. In molecules they
make a dipole, :math:`\sum_a q_{s(a)} \mathbf d_a`, with the displacements from the middle of each molecule, as of
:class:`~eqkernels.ChargeKernel`; periodic structures have derivatives of their dipole only.
"""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors import Derivatives
from eqkernels.kernels.charges import known_places
from eqkernels.structures.batch import structure_number
from eqkernels.structures.elements import shares

#: the irrep of what charges make
IRREP = "1o"
# Distance up to which atoms belong to the same molecule, that of ChargeKernel.
_REACH = 5.0


def has_element_charges(baseline, tensor, data):
    """Whether a fit has this baseline: polar vectors whose derivatives are labels, and no label of a periodic dipole.

    Parameters
    ----------
    baseline : str or None
    tensor : CartesianTensor
    data : TrainingData

    Returns
    -------
    bool
    """
    vector = tensor.rank == 1 and [str(irrep) for _, irrep in tensor.irreps] == [IRREP]
    if baseline != "composition" or not vector or "derivatives" not in data.derivatives:
        return False
    known = np.ones(len(data.source), dtype=bool) if data.known is None else data.known
    return not (known & data.source.periodic).any()


def element_dipoles(features, species):
    """Dipoles of unit charges of each element.

    Parameters
    ----------
    features : EquivariantFeatures
    species : ndarray of int
        Elements that have charges; others are answered for by those like them.

    Returns
    -------
    ndarray of shape (n_structures, 3, n_species)
        Components m = -1, 0, 1.

    Raises
    ------
    ValueError
        If a structure is periodic.
    """
    places = known_places(features)
    structures = places.whole.structures[places.rows]
    periodic = np.flatnonzero(places.whole.charges[structures, 2] > 0)
    if len(periodic):
        k = structure_number(features.origin, features.structures[periodic[0]])
        raise ValueError(
            f"structure {k} is periodic: its dipole has no value of its own, only its derivatives have. Take "
            "predict_derivatives, or fit with baseline=None, which sums up what is near alone"
        )
    arms, out = places.displacements(_REACH, 1), np.zeros((len(features), 3, len(species)))
    np.add.at(out, features.structures, arms[:, :, None] * _shares_of(features, species)[:, None])
    return out


def element_slopes(features, species):
    """Differentiate these dipoles by the positions of the centers.

    Parameters
    ----------
    features : EquivariantFeatures
        Of complete structures.
    species : ndarray of int

    Returns
    -------
    ndarray of shape (n_centers, 3, 3, n_species)
        First the direction x, y, z in which a center moves, then the components m = -1, 0, 1.
    """
    places, of_centers = known_places(features), _shares_of(features, species)
    whole, identity = places.whole, np.eye(3)[:, [1, 2, 0]]
    every = np.zeros((len(whole.positions), 3, 3, len(species)))
    charges = np.zeros((len(whole.positions), len(species)))
    charges[places.rows] = of_centers
    for structure in np.unique(whole.structures[places.rows]).tolist():
        own = slice(whole.offsets[structure], whole.offsets[structure + 1])
        if whole.charges[structure, 2] > 0:
            every[own] = identity[:, :, None] * (charges[own] - charges[own].mean(axis=0))[:, None, None]
        else:
            every[own] = whole.multipole_slopes(_REACH, 1, charges[own], structure)
    return every[places.rows]


def contrasts(n):
    """Orthonormal basis of vectors of length n with the sum 0, (n, n - 1): charges that all have in common do nothing.

    Examples
    --------
    >>> contrasts(2).round(3).T.tolist()
    [[0.707, -0.707]]
    """
    out = np.tril(-np.ones((n, n)), -1)[:, : n - 1] + np.diag(np.arange(n - 1.0, -1.0, -1.0))[:, : n - 1]
    return out / np.linalg.norm(out, axis=0)


def charges_of_elements(features, species, charges):
    """Charges of the centers, which sum up to zero in each molecule, or in each periodic structure.

    Parameters
    ----------
    features : EquivariantFeatures
        Of complete structures.
    species : ndarray of int
    charges : ndarray of shape (n_species,)

    Returns
    -------
    ndarray of shape (n_centers,)
    """
    whole = known_places(features).whole
    every = np.zeros((len(whole.positions), 1))
    every[features.places.rows, 0] = _shares_of(features, species) @ charges
    periodic = (whole.charges[:, 2] > 0)[whole.structures, None]
    means = np.where(periodic, whole.means_of(every), whole.spread(every, _REACH))
    return (every - means)[features.places.rows, 0]


def add_element_charges(derivatives, features, species, charges, cotangents):
    """Add what the dipoles of the charges have to derivatives of sum(cotangents * dipoles) by positions and strain.

    Parameters
    ----------
    derivatives : Derivatives
    features : EquivariantFeatures
        Of complete structures.
    species : ndarray of int
    charges : ndarray of shape (n_species,)
    cotangents : ndarray of shape (n_structures, 3)
        Components m = -1, 0, 1.

    Returns
    -------
    Derivatives
        By the strain as far as molecules are strained with their positions: the dipole of a crystal has no value.
    """
    slopes = element_slopes(features, species) @ charges
    by_positions = np.einsum("ixm,im->ix", slopes, cotangents[features.structures])
    positions, strain = derivatives.positions.copy(), derivatives.strain.copy()
    first_atom = np.cumsum(features.n_atoms) - features.n_atoms
    positions[first_atom[features.structures] + features.atoms] += by_positions
    whole, rows = features.places.whole, features.places.rows
    finite = whole.charges[whole.structures[rows], 2] == 0
    moved = finite[:, None, None] * by_positions[:, :, None] * features.positions[:, None, :]
    np.add.at(strain, features.structures, moved)
    return Derivatives(positions, strain, derivatives.inputs)


def _shares_of(features, species):
    """How much of the charge of each element a center has, (n_centers, n_species): 1 of its own."""
    out = (features.species[:, None] == species).astype(float)
    unseen = np.setdiff1d(features.species, species)
    if len(unseen):
        of_unseen = shares(species, unseen)
        rows = np.flatnonzero(np.isin(features.species, unseen))
        out[rows] = of_unseen[np.searchsorted(unseen, features.species[rows])]
    return out
