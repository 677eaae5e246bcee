r"""Polarizability of molecules as that of atoms whose induced dipoles act on each other (L. Silberstein, 1917).

In a field E the atom i has the dipole :math:`\mu_i = \alpha_i (E - \sum_j T_{ij} \mu_j)`, so that

.. math:: A_{ij} = \alpha_i^{-1} \delta_{ij} + T_{ij} , \quad \alpha = \sum_{ij} [A^{-1}]_{ij} , \quad
          T_{ij} = \frac{f}{r^3} - 3 g\, \frac{\mathbf r \mathbf r^T}{r^5} ,

where the factors f and g damp what atoms do to each other that are close, as charges that are spread out do (B. T.
Thole, Chem. Phys. 59, 341 (1981); P. T. van Duijnen, M. Swart, J. Phys. Chem. A 102, 2399 (1998)): they depend on the
distance in units of :math:`(\alpha_i \alpha_j)^{1/6}`. With :math:`X = A^{-1} P`, where P adds up the atoms, every
derivative is :math:`d\alpha = -X^T\, dA\, X`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Molecules whose interactions are in memory at once, as so many pairs of atoms.
_PAIRS = 2**16


def exponential(w):
    """Make the factors of charges that decay exponentially, of w = a u, and their derivatives by w."""
    decay = np.exp(-w)
    f = 1 - (1 + w + w**2 / 2) * decay
    return f, f - w**3 / 6 * decay, w**2 / 2 * decay, w**3 / 6 * decay


def linear(w):
    """Make the factors of charges that decay linearly, of w = u / a, and their derivatives by w."""
    v = np.minimum(w, 1.0)
    inside = w < 1
    return 4 * v**3 - 3 * v**4, v**4, inside * 12 * (v**2 - v**3), inside * 4 * v**3


# With each kind of damping the power of a by which the reduced distance is multiplied.
DAMPINGS = {"exponential": (exponential, 1), "linear": (linear, -1)}


@dataclass(frozen=True)
class Molecules:
    """Molecules of the same number of atoms.

    Parameters
    ----------
    positions : ndarray of shape (n, n_atoms, 3)
    kinds : ndarray of int, shape (n, n_atoms)
        Which polarizability each atom has.
    rows : ndarray of int, shape (n,)
        Which molecules of the batch they are.
    """

    positions: np.ndarray
    kinds: np.ndarray
    rows: np.ndarray

    @cached_property
    def pairs(self):
        """Atoms i < j."""
        return np.triu_indices(self.positions.shape[1], 1)

    @cached_property
    def vectors(self):
        """From j to i, (n, n_pairs, 3), and their lengths."""
        i, j = self.pairs
        vectors = self.positions[:, i] - self.positions[:, j]
        return vectors, np.linalg.norm(vectors, axis=2)

    def response(self, alphas, a, damping):
        """Interact at given polarizabilities.

        Parameters
        ----------
        alphas : ndarray of shape (n_kinds,)
        a : float
        damping : {"exponential", "linear"}

        Returns
        -------
        Response
        """
        of_atoms, (i, j), (_, lengths) = alphas[self.kinds], self.pairs, self.vectors
        factors, power = DAMPINGS[damping]
        w = lengths * a**power / (of_atoms[:, i] * of_atoms[:, j]) ** (1 / 6)
        return Response(self, of_atoms, w, power, factors(w))


class Response:
    """Induced dipoles of some molecules.

    Parameters
    ----------
    molecules : Molecules
    alphas : ndarray of shape (n, n_atoms)
    w : ndarray of shape (n, n_pairs)
        Reduced distances.
    power : int
        Of a in them.
    factors : tuple of ndarray of shape (n, n_pairs)
        f, g and their derivatives by w.
    """

    def __init__(self, molecules, alphas, w, power, factors):
        self.molecules, self.alphas, self.w, self.power, self.factors = molecules, alphas, w, power, factors
        (i, j), (vectors, lengths) = molecules.pairs, molecules.vectors
        f, g = factors[:2]
        n, n_atoms = alphas.shape
        matrix = np.zeros((n, n_atoms, 3, n_atoms, 3))
        own = np.arange(n_atoms)
        matrix[:, own, :, own, :] = (np.eye(3) / alphas.T[:, :, None, None]).reshape(n_atoms, n, 3, 3)
        tensors = (f / lengths**3)[..., None, None] * np.eye(3)
        tensors -= (3 * g / lengths**5)[..., None, None] * vectors[..., :, None] * vectors[..., None, :]
        matrix[:, i, :, j, :] = matrix[:, j, :, i, :] = tensors.transpose(1, 0, 2, 3)
        right = np.broadcast_to(np.tile(np.eye(3), (n_atoms, 1)), (n, 3 * n_atoms, 3))
        #: dipole (component c) of each atom in a field along m, (n, n_atoms, c, m)
        self.dipoles = np.linalg.solve(matrix.reshape(n, 3 * n_atoms, 3 * n_atoms), right).reshape(n, n_atoms, 3, 3)

    @property
    def polarizabilities(self):
        """Those of the molecules, (n, 3, 3)."""
        total = self.dipoles.sum(axis=1)
        return 0.5 * (total + total.transpose(0, 2, 1))

    def by_parameters(self, n_kinds):
        """Differentiate by the logarithms of the polarizabilities of the kinds, and of a, (n, 3, 3, n_kinds + 1)."""
        molecules, x = self.molecules, self.dipoles
        (i, j), (_, lengths) = molecules.pairs, molecules.vectors
        out = np.zeros((len(x), n_kinds + 1, 3, 3))
        rows = np.arange(len(x))[:, None]
        own = np.einsum("nacm,nack->namk", x, x) / self.alphas[..., None, None]
        np.add.at(out, (rows, molecules.kinds), own)
        _, _, by_f, by_g = self.factors
        dots, along = self._products()
        by_w = -_symmetric((self.w * by_f / lengths**3)[..., None, None] * dots
                           - (3 * self.w * by_g / lengths**5)[..., None, None] * along)  # fmt: skip
        for one in (i, j):
            np.add.at(out, (rows, molecules.kinds[:, one]), -by_w / 6)
        out[:, n_kinds] = self.power * by_w.sum(axis=1)
        return out.transpose(0, 2, 3, 1)

    def by_positions(self):
        """Differentiate by the positions, (n, n_atoms, 3, 3, 3), the direction last."""
        x, (i, j), (vectors, lengths) = self.dipoles, self.molecules.pairs, self.molecules.vectors
        f, g, by_f, by_g = self.factors
        dots, along = self._products()
        slope_f = self.w * by_f / lengths**4 - 3 * f / lengths**4
        slope_g = 3 * (self.w * by_g / lengths**6 - 5 * g / lengths**6)
        radial = slope_f[..., None, None] * dots - slope_g[..., None, None] * along
        unit = vectors / lengths[..., None]
        first, second = x[:, i], x[:, j]
        across = np.einsum("npcm,npk->npmkc", first, np.einsum("npc,npck->npk", vectors, second))
        across += np.einsum("npm,npck->npmkc", np.einsum("npc,npcm->npm", vectors, first), second)
        changes = radial[..., None] * unit[..., None, None, :] - (3 * g / lengths**5)[..., None, None, None] * across
        changes = -(changes + changes.swapaxes(2, 3))
        out = np.zeros((*x.shape[:2], 3, 3, 3))
        for one, sign in ((i, 1), (j, -1)):
            np.add.at(out.swapaxes(0, 1), one, sign * changes.swapaxes(0, 1))
        return out

    def _products(self):
        """Scalar products of the dipoles of pairs, and products of their parts along the distance, by two fields."""
        (i, j), (vectors, _) = self.molecules.pairs, self.molecules.vectors
        first, second = self.dipoles[:, i], self.dipoles[:, j]
        dots = np.einsum("npcm,npck->npmk", first, second)
        parts = [np.einsum("npc,npcm->npm", vectors, one) for one in (first, second)]
        return dots, parts[0][..., :, None] * parts[1][..., None, :]


def _symmetric(products):
    """Sum of products and of those with the atoms exchanged."""
    return products + products.swapaxes(-1, -2)


def by_size(batch, kinds):
    """Molecules of a batch in groups of the same number of atoms, few enough to be in memory at once.

    Parameters
    ----------
    batch : StructureBatch
    kinds : ndarray of int, shape (n_atoms,)

    Yields
    ------
    Molecules
    """
    counts = np.diff(batch.offsets)
    for n in np.unique(counts):
        every, limit = np.flatnonzero(counts == n), max(1, 2 * _PAIRS // int(n * n))
        for start in range(0, len(every), limit):
            rows = every[start : start + limit]
            atoms = batch.offsets[rows][:, None] + np.arange(n)
            yield Molecules(batch.positions[atoms], kinds[atoms], rows)
