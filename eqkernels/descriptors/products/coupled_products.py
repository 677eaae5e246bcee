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
from eqkernels.structures.inputs import TIME_ODD


@dataclass(frozen=True)
class Products:
    """Products of the left features of one irrep with the density coefficients of another.

    Attributes
    ----------
    left, factor : Irrep
    rows : ndarray of int, shape (n_rows, 3)
        Left feature k, and the range begin, end of channels q that it is multiplied with.
    weights : ndarray of shape (n_rows, 2)
        Weight of the first product of each row and of its others.
    """

    left: Irrep
    factor: Irrep
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


class TimeOddIrrep(Irrep):
    """Irrep of what changes sign under time reversal."""

    def __mul__(self, other):
        """Irreps in the product with another irrep: the signs under time reversal multiply."""
        return [signed_irrep(one.l, one.p, -time_sign(other)) for one in super().__mul__(other)]

    __rmul__ = __mul__

    def __str__(self):
        return f"{super().__str__()} {TIME_ODD}"


def signed_irrep(l, p, time):
    """Irrep with a sign under time reversal."""
    return Irrep(l, p) if time == 1 else TimeOddIrrep(l, p)


def parse_signed(text):
    """Irrep of what str makes of it."""
    irrep = Irrep.parse(text.removesuffix(TIME_ODD))
    return signed_irrep(irrep.l, irrep.p, -1 if text.endswith(TIME_ODD) else 1)


def time_sign(irrep):
    """Sign of an irrep under time reversal."""
    return -1 if isinstance(irrep, TimeOddIrrep) else 1


def coupling_factors(left, irrep, channels):
    """Irreps of the density coefficients that couple a left irrep to another."""
    return [
        factor
        for factor in channels
        if abs(left.l - irrep.l) <= factor.l <= left.l + irrep.l
        and left.p * factor.p == irrep.p
        and time_sign(left) * time_sign(factor) == time_sign(irrep)
    ]


def all_products(order, irrep, left_sizes, channel_sizes):
    """All different products of a block.

    Parameters
    ----------
    order : int
        Order of the products, at least 2.
    irrep : Irrep
        That of the block.
    left_sizes : dict of Irrep to int
        Number of features of order - 1.
    channel_sizes : dict of Irrep to int
        Number of density coefficients.

    Returns
    -------
    list of Products
    """
    products, places = [], {factor: k for k, factor in enumerate(channel_sizes)}
    for left, n_left in left_sizes.items():
        for factor in coupling_factors(left, irrep, channel_sizes):
            if order == 2 and places[left] > places[factor]:
                continue
            rows = np.zeros((n_left, 3), dtype=np.int64)
            rows[:, 0], rows[:, 2] = np.arange(n_left), channel_sizes[factor]
            weights = np.full((n_left, 2), np.sqrt(2.0) if order == 2 else 1.0)
            if order == 2 and left == factor:
                # exchanging the factors multiplies by (-1)^lambda: the pair (q, q) vanishes for odd lambda
                rows[:, 1] = rows[:, 0] + irrep.l % 2
                weights[:, 0] = np.sqrt(2.0 if irrep.l % 2 else 1.0)
            products.append(_nonempty(left, factor, rows, weights))
    return [group for group in products if group.size]


def _nonempty(left, factor, rows, weights):
    keep = rows[:, 1] < rows[:, 2]
    return Products(left, factor, rows[keep], weights[keep])


def ordered_triples(products, channels, left_factors):
    """Scalar products of order 3 with their factors ascending in (irrep, q), which stand for all permutations.

    Parameters
    ----------
    products : list of Products
        All products of the block.
    channels : sequence of Irrep
        Those of the density coefficients, in their order.
    left_factors : dict of Irrep to ndarray of int, shape (n_features, 2, 3)
        As :func:`product_factors` returns them for the features of order 2.

    Returns
    -------
    list of Products
    """
    kept, degrees, places = [], np.array([one.l for one in channels]), {one: k for k, one in enumerate(channels)}
    for group in products:
        rows, weights, place = group.rows.copy(), np.full(group.weights.shape, np.sqrt(3.0)), places[group.factor]
        first, second = left_factors[group.left][rows[:, 0], :, :2].transpose(1, 0, 2)
        same, even = second[:, 0] == place, (degrees[first[:, 0]] + degrees[second[:, 0]] + group.factor.l) % 2 == 0
        rows[same, 1] = second[same, 1]
        # symmetric: two equal factors have half the permutations, three only one
        equal = np.where((first == second).all(axis=1), 1.0, np.sqrt(1.5))
        weights[same & even, 0] = equal[same & even]
        rows[same & ~even, 1] += 1  # antisymmetric, so that equal factors vanish
        rows[second[:, 0] > place, 2] = 0
        kept.append(_nonempty(group.left, group.factor, rows, weights))
    return [group for group in kept if group.size]


def channel_factors(place, irrep, n_channels):
    """Factors of the features of order 1, as :func:`product_factors`."""
    q = np.arange(n_channels)
    return np.stack([np.full_like(q, place), q, np.full_like(q, irrep.l)], axis=1)[:, None]


def product_factors(products, irrep, left_factors, channels):
    """List what the products of a block are made of.

    Parameters
    ----------
    products : list of Products
    irrep : Irrep
        That of the block.
    left_factors : dict of Irrep to ndarray of int, shape (n_features, order - 1, 3)
        The same for the features of the order before.
    channels : sequence of Irrep
        Those of the density coefficients, in their order.

    Returns
    -------
    ndarray of int, shape (n_products, order, 3)
        Place of the irrep and channel of each factor, and the degree that the factors up to this one are coupled to.
    """
    parts, places = [], {one: k for k, one in enumerate(channels)}
    for group in products:
        k, q = group.pairs()
        last = np.stack([np.full_like(q, places[group.factor]), q, np.full_like(q, irrep.l)], axis=1)
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
    variances : dict of Irrep to ndarray of shape (n_channels,)
        Of the density coefficients, descending.

    Returns
    -------
    list of Products
    """
    if sum(group.size for group in products) <= n_products:
        return products
    estimates = []
    for group in products:
        k, q = group.pairs()
        estimates.append(left_variances[group.left][k] * variances[group.factor][q])
    chosen = np.zeros(sum(map(len, estimates)), dtype=bool)
    # stable: of equal products the first ones, so that those of a row are always its first
    chosen[np.argsort(-np.concatenate(estimates), kind="stable")[:n_products]] = True
    kept, start = [], 0
    for group in products:
        row_of_product = np.repeat(np.arange(len(group.rows)), group.rows[:, 2] - group.rows[:, 1])
        counts = np.bincount(row_of_product, chosen[start : start + group.size], minlength=len(group.rows))
        rows = group.rows.copy()
        rows[:, 2] = rows[:, 1] + counts.astype(np.int64)
        kept.append(_nonempty(group.left, group.factor, rows, group.weights))
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
    density : dict of Irrep to ndarray of shape (n_centers, 2 l + 1, n_channels)
        Density coefficients.
    out : ndarray of shape (n_centers, 2 lambda + 1, n_products)
        C-contiguous.
    """
    position = 0
    for group in products:
        entries = clebsch_gordan_sparse(group.left.l, group.factor.l, irrep.l)
        couple(left[group.left], density[group.factor], *entries, group.rows, group.weights, position, out)
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
    density_changes : dict of Irrep to ndarray
        The derivatives, of the shapes of density.
    """
    position = 0
    for group in products:
        entries = clebsch_gordan_sparse(group.left.l, group.factor.l, irrep.l)
        changes = left_changes[group.left], density_changes[group.factor]
        contract_couple(
            left[group.left], density[group.factor], *entries, group.rows, group.weights, position, cotangent, *changes
        )
        position += group.size
