r"""Fewer density channels: embeddings of species and optimal radial functions.

The number of features grows with the square of the number of channels (species a, radial index n). Both kinds of
channels can be contracted before the products are made, the same way for all components m, so that nothing is lost
of the behavior under rotation:

.. math:: c'_{k n lm} = \sum_a w_{ak}\, c_{a n lm} , \qquad c''_{k p lm} = \sum_n u^{kl}_{np}\, c'_{k n lm} .

*Species.* The weights w are chosen by the user ("alchemical" coordinates), follow from the periodic table
(:mod:`eqkernels.structures.elements`), or are the leading eigenvectors of the correlation of the species over the
training set, :math:`S_{ab} = \sum_{i n lm} c^i_{anlm} c^i_{bnlm}` (Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys.
20, 29661 (2018)).

*Radial functions.* The u are the leading eigenvectors of the covariance :math:`\sum_{im} c'^i_{knlm} c'^i_{kn'lm}` of
each channel k and degree l: of all sets of so many radial functions, they keep the most of the variance of the training
set (Goscinski, Musil, Pozdnyakov, Nigam, Ceriotti, J. Chem. Phys. 155, 104106 (2021)).
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from eqkernels.structures.elements import HEAVIEST, MANY


def channel_covariance(expansion, batch, is_center, progress=None):
    """Covariance of the density channels of each degree, summed over centers and components.

    Parameters
    ----------
    expansion : DensityExpansion
        Without contraction.
    batch : StructureBatch
    is_center : ndarray of bool, shape (n_atoms,)
    progress : callable, optional
        Called with the number of structures done.

    Returns
    -------
    ndarray of shape (l_max + 1, n_channels, n_channels)
    """
    total = np.zeros((expansion.l_max + 1, expansion.n_channels, expansion.n_channels))

    def add(_, density):
        for l, part in enumerate(total):
            flat = density[:, l * l : (l + 1) ** 2].reshape(-1, expansion.n_channels)
            part += flat.T @ flat

    expansion.for_each_range(batch, is_center, add, progress=progress)  # one thread: the sum has one order
    return total


def is_stated(embedding):
    """Whether an embedding is the user's own."""
    return embedding is not None and not (isinstance(embedding, str) and embedding in ("auto", "periodic"))


def is_periodic(parameters, species):
    """Whether density parameters ask for, or choose, an embedding by the periodic table for some species."""
    choice = parameters.species_embedding
    if choice is None or is_stated(choice):
        return False
    if choice == "periodic":
        return True
    if parameters.n_species_channels is not None or parameters.compression is not None:
        return False
    many = len(species) >= MANY or parameters.handle_unknown == "embed"
    return many and 1 <= min(species) <= max(species) <= HEAVIEST


def periodic_or_dict(parameters):
    """Whether density parameters give vectors to species that are not seen."""
    choice = parameters.species_embedding
    if isinstance(choice, str) and choice == "auto":
        return parameters.n_species_channels is None and parameters.compression is None
    return choice is not None


def species_weights(embedding, species):
    """Weights w of some species from an embedding.

    Parameters
    ----------
    embedding : dict of str to array-like of shape (n_species_channels,)
        A vector for each chemical symbol.
    species : ndarray of int

    Returns
    -------
    ndarray of shape (n_species, n_species_channels)
    """
    if not isinstance(embedding, dict):
        raise TypeError(
            f"species_embedding must be a dict from chemical symbols to vectors, 'periodic', 'auto' or None, got "
            f"{embedding!r}"
        )
    missing = [chemical_symbols[number] for number in species if chemical_symbols[number] not in embedding]
    if missing:
        raise ValueError(f"species_embedding has no vector for {', '.join(missing)}, only for {', '.join(embedding)}")
    try:
        rows = [np.atleast_1d(np.asarray(embedding[chemical_symbols[number]], dtype=float)) for number in species]
    except (TypeError, ValueError) as error:
        raise TypeError(f"species_embedding must have vectors of real numbers: {error}") from error
    if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1 or not all(np.isfinite(row).all() for row in rows):
        raise ValueError("species_embedding must have finite vectors of the same length for all species")
    return np.array(rows)


def correlated_species(covariance, n_species, n_channels):
    """Leading eigenvectors of the correlation of the species, shape (n_species, n_channels)."""
    n_max = covariance.shape[1] // n_species
    blocks = covariance.reshape(len(covariance), n_species, n_max, n_species, n_max)
    return leading(np.einsum("lanbn->ab", blocks), n_channels)


def contraction(weights, covariance, n_optimal):
    """Matrix that contracts the channels of each degree.

    Parameters
    ----------
    weights : ndarray of shape (n_species, n_species_channels)
    covariance : ndarray of shape (l_max + 1, n_channels, n_channels), or None
        Needed with ``n_optimal`` only.
    n_optimal : int or None
        Number of radial functions; None: all, as they are.

    Returns
    -------
    ndarray of shape (l_max + 1, n_species * n_max, n_species_channels * n_optimal)
    """
    n_degrees, n_max = len(covariance), covariance.shape[1] // len(weights)
    embedded = np.kron(weights, np.eye(n_max))
    if n_optimal is None:
        return np.repeat(embedded[None], n_degrees, axis=0)
    parts = []
    for part in covariance:
        embedded_part = (embedded.T @ part @ embedded).reshape(weights.shape[1], n_max, weights.shape[1], n_max)
        radial = np.zeros((weights.shape[1], n_max, weights.shape[1], n_optimal))
        for k in range(weights.shape[1]):
            radial[k, :, k] = leading(embedded_part[k, :, k], n_optimal)
        parts.append(embedded @ radial.reshape(weights.shape[1] * n_max, -1))
    return np.array(parts)


def extended_contraction(matrices, weights, further):
    """Rows of the contraction for species that were not seen, from their weights.

    Parameters
    ----------
    matrices : ndarray of shape (l_max + 1, n_species * n_max, n_species_channels * n_optimal)
    weights : ndarray of shape (n_species, n_species_channels)
        With which the matrices were made.
    further : ndarray of shape (n_further, n_species_channels)

    Returns
    -------
    ndarray of shape (l_max + 1, n_further * n_max, n_species_channels * n_optimal)
    """
    n_degrees, n_rows, n_columns = matrices.shape
    (n_species, n_channels), n_max = weights.shape, n_rows // len(weights)
    parts = matrices.reshape(n_degrees, n_species, n_max, n_channels, -1)
    radial = np.einsum("ak,lankp->lknp", weights, parts) / np.sum(weights**2, axis=0)[:, None, None]
    return np.einsum("ak,lknp->lankp", further, radial).reshape(n_degrees, -1, n_columns)


def leading(matrix, n):
    """Eigenvectors of the largest eigenvalues, in this order, with the largest element of each positive."""
    vectors = np.linalg.eigh(matrix)[1][:, ::-1][:, :n]
    return vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(n)])
