r"""One step of the recursion from features of order nu to order nu + 1: which products are made, and in which order.

Features of order nu are coupled with the density coefficients, themselves the features of order 1,

.. math:: V^{\nu + 1}_{\lambda\mu; (\lambda' k, l q)} =
          \sum_{m'm} \langle \lambda' m'\, l m | \lambda\mu \rangle\, V^\nu_{\lambda' m' k}\, V^1_{l m q} ,

and the parities multiply (J. Nigam, S. Pozdnyakov, M. Ceriotti, J. Chem. Phys. 153, 121101 (2020), eq. 6). With
orthonormal couplings the scalar products over all ordered products are those of the tensor power of the density.
Products that differ only in the order of their factors are kept once, with the root of their number as weight, where
one product is a multiple of the other: always at nu = 2, and for the scalars of nu = 3 made of products (not of
contracted features).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels.descriptors.products._nbody_loops import contract_couple, couple
from eqkernels.so3 import Irrep, clebsch_gordan_sparse


@dataclass(frozen=True)
class Products:
    """Products of the left features of one irrep with the density coefficients of one degree.

    Attributes
    ----------
    left : Irrep
    degree : int
    rows : ndarray of int, shape (n_rows, 3)
        Left feature k, and the range begin, end of channels q that it is multiplied with.
    weights : ndarray of shape (n_rows, 2)
        Weight of the first product of each row and of its others.
    """

    left: Irrep
    degree: int
    rows: np.ndarray
    weights: np.ndarray

    @property
    def size(self):
        """Number of products."""
        return int((self.rows[:, 2] - self.rows[:, 1]).sum())

    def pairs(self):
        """Left feature and channel of every product, in their order."""
        widths = self.rows[:, 2] - self.rows[:, 1]
        ends = np.cumsum(widths)
        q = np.arange(self.size) - np.repeat(ends - widths - self.rows[:, 1], widths)
        return np.repeat(self.rows[:, 0], widths), q


def coupling_degrees(left, irrep, l_max):
    """Degrees of the density coefficients that couple a left irrep to another."""
    return [l for l in range(abs(left.l - irrep.l), min(left.l + irrep.l, l_max) + 1) if left.p * (-1) ** l == irrep.p]


def all_products(order, irrep, left_sizes, l_max, channel_sizes):
    """All different products of a block.

    Parameters
    ----------
    order : int
        Order of the products, at least 2.
    irrep : Irrep
        That of the block.
    left_sizes : dict of Irrep to int
        Number of features of order - 1.
    l_max : int
    channel_sizes : sequence of int
        Number of channels of each degree of the density coefficients.

    Returns
    -------
    list of Products
    """
    products = []
    for left, n_left in left_sizes.items():
        for degree in coupling_degrees(left, irrep, l_max):
            if order == 2 and left.l > degree:
                continue
            rows = np.zeros((n_left, 3), dtype=np.int64)
            rows[:, 0], rows[:, 2] = np.arange(n_left), channel_sizes[degree]
            weights = np.full((n_left, 2), np.sqrt(2.0) if order == 2 else 1.0)
            if order == 2 and left.l == degree:
                # exchanging the factors multiplies by (-1)^lambda: the pair (q, q) vanishes for odd lambda
                rows[:, 1] = rows[:, 0] + irrep.l % 2
                weights[:, 0] = np.sqrt(2.0 if irrep.l % 2 else 1.0)
            products.append(_nonempty(left, degree, rows, weights))
    return [group for group in products if group.size]


def _nonempty(left, degree, rows, weights):
    keep = rows[:, 1] < rows[:, 2]
    return Products(left, degree, rows[keep], weights[keep])


def ordered_triples(products, parity, left_factors):
    """Scalar products of order 3 with their factors ascending in (l, q), which stand for all permutations.

    Parameters
    ----------
    products : list of Products
        All products of the block.
    parity : {1, -1}
        That of the block.
    left_factors : dict of Irrep to ndarray of int, shape (n_features, 2, 3)
        As :func:`product_factors` returns them for the features of order 2.

    Returns
    -------
    list of Products
    """
    kept = []
    for group in products:
        rows, weights = group.rows.copy(), np.full(group.weights.shape, np.sqrt(3.0))
        first, second = left_factors[group.left][rows[:, 0], :, :2].transpose(1, 0, 2)
        same_degree = second[:, 0] == group.degree
        rows[same_degree, 1] = second[same_degree, 1]
        if parity == 1:  # two equal factors: half the permutations; three: only one
            weights[same_degree, 0] = np.where((first == second).all(axis=1), 1.0, np.sqrt(1.5))[same_degree]
        else:  # antisymmetric, so that equal factors vanish
            rows[same_degree, 1] += 1
        rows[second[:, 0] > group.degree, 2] = 0
        kept.append(_nonempty(group.left, group.degree, rows, weights))
    return [group for group in kept if group.size]


def channel_factors(irrep, n_channels):
    """Factors of the features of order 1, as :func:`product_factors`."""
    q = np.arange(n_channels)
    return np.stack([np.full_like(q, irrep.l), q, np.full_like(q, irrep.l)], axis=1)[:, None]


def product_factors(products, irrep, left_factors):
    """List what the products of a block are made of.

    Parameters
    ----------
    products : list of Products
    irrep : Irrep
        That of the block.
    left_factors : dict of Irrep to ndarray of int, shape (n_features, order - 1, 3)
        The same for the features of the order before.

    Returns
    -------
    ndarray of int, shape (n_products, order, 3)
        Degree and channel of each factor, and the degree that the factors up to this one are coupled to.
    """
    parts = []
    for group in products:
        k, q = group.pairs()
        last = np.stack([np.full_like(q, group.degree), q, np.full_like(q, irrep.l)], axis=1)
        parts.append(np.concatenate([left_factors[group.left][k], last[:, None]], axis=1))
    return np.concatenate(parts)


def largest_products(products, n_products, left_variances, variances):
    """Restrict products to those of the largest variances, if their factors were independent.

    Parameters
    ----------
    products : list of Products
    n_products : int
        How many to keep.
    left_variances : dict of Irrep to ndarray of shape (n_features,)
    variances : list of ndarray of shape (n_channels,)
        Of the channels of each degree, descending.

    Returns
    -------
    list of Products
    """
    if sum(group.size for group in products) <= n_products:
        return products
    estimates = []
    for group in products:
        k, q = group.pairs()
        estimates.append(left_variances[group.left][k] * variances[group.degree][q])
    chosen = np.zeros(sum(map(len, estimates)), dtype=bool)
    # stable: of equal products the first ones, so that those of a row are always its first
    chosen[np.argsort(-np.concatenate(estimates), kind="stable")[:n_products]] = True
    kept, start = [], 0
    for group in products:
        row_of_product = np.repeat(np.arange(len(group.rows)), group.rows[:, 2] - group.rows[:, 1])
        counts = np.bincount(row_of_product, chosen[start : start + group.size], minlength=len(group.rows))
        rows = group.rows.copy()
        rows[:, 2] = rows[:, 1] + counts.astype(np.int64)
        kept.append(_nonempty(group.left, group.degree, rows, group.weights))
        start += group.size
    return [group for group in kept if group.size]


def fill_products(products, irrep, left, density, out):
    """Write the products of a block.

    Parameters
    ----------
    products : list of Products
    irrep : Irrep
        That of the block.
    left : dict of Irrep to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        Features of the order before.
    density : list of ndarray of shape (n_centers, 2 l + 1, n_channels)
        Density coefficients of each degree.
    out : ndarray of shape (n_centers, 2 lambda + 1, n_products)
        C-contiguous.
    """
    position = 0
    for group in products:
        entries = clebsch_gordan_sparse(group.left.l, group.degree, irrep.l)
        couple(left[group.left], density[group.degree], *entries, group.rows, group.weights, position, out)
        position += group.size


def contract_products(products, irrep, left, density, cotangent, left_changes, density_changes):
    """Add the derivatives of sum(cotangent * out) of :func:`fill_products` by its left features and its density.

    Parameters
    ----------
    products, irrep, left, density
        As for :func:`fill_products`.
    cotangent : ndarray of shape (n_centers, 2 lambda + 1, n_products)
    left_changes : dict of Irrep to ndarray
        The derivatives, of the shapes of left; arrays may be those of density_changes.
    density_changes : list of ndarray
        The derivatives, of the shapes of density.
    """
    position = 0
    for group in products:
        entries = clebsch_gordan_sparse(group.left.l, group.degree, irrep.l)
        changes = left_changes[group.left], density_changes[group.degree]
        contract_couple(
            left[group.left], density[group.degree], *entries, group.rows, group.weights, position, cotangent, *changes
        )
        position += group.size
