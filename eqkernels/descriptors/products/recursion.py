"""All steps of the recursion over body orders: what each order is made of, and its evaluation for some centers."""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors.products.coupled_products import (
    all_products,
    channel_factors,
    contract_products,
    coupling_factors,
    fill_products,
    largest_products,
    ordered_triples,
    parse_signed,
    product_factors,
    signed_irrep,
)


class Recursion:
    """Products of each irrep of the orders 1 to nu, contracted in between.

    Parameters
    ----------
    nu : int
    wanted : list of Irrep
        Irreps of order nu.
    lambda_max : int
        Highest degree of the orders between the first and the last.
    places : dict of Irrep to ndarray of int, shape (n_channels,)
        Irreps of the density coefficients, and which of the channels they have.
    n_products : int or None
        How many products of each irrep to make where they are contracted.
    contractions : dict of str to dict of str to ndarray of shape (n_products, n_components), or None
        By order and irrep; the orders that are absent have not been fitted yet. None: nothing is contracted.
    variances : dict of str to dict of str to ndarray of shape (n_components,)
        Of the components, descending.
    """

    def __init__(self, nu, wanted, lambda_max, places, n_products, contractions, variances):
        self.places = places
        self.n_products = n_products
        self.contractions = contractions
        self.variances = variances
        self.channels = {irrep: len(one) for irrep, one in places.items()}
        self.needed = self._needed(nu, wanted, lambda_max)
        self.products: dict[int, dict] = {}
        for order in range(2, nu + 1):
            if contractions is None or str(order - 1) in contractions:
                self.products[order] = {irrep: self._products(order, irrep) for irrep in self.needed[order]}

    def _needed(self, nu, wanted, lambda_max):
        """Irreps of each order that those of the next are made of."""
        needed = {nu: wanted}
        signs = [(p, time) for time in (1, -1) for p in (1, -1)]
        candidates = [signed_irrep(lam, *one) for lam in range(lambda_max + 1) for one in signs]
        for order in range(nu - 1, 1, -1):
            needed[order] = [
                left
                for left in candidates
                if any(coupling_factors(left, above, self.channels) for above in needed[order + 1])
            ]
        return needed

    def _products(self, order, irrep):
        products = all_products(order, irrep, self.n_features(order - 1), self.n_features(1))
        if self.contractions is None:
            channels = list(self.channels)
            return ordered_triples(products, channels, self.factors(2)) if order == 3 and irrep.l == 0 else products
        if self.n_products is None:
            return products
        return largest_products(products, self.n_products, self._variances(order - 1), self._variances(1))

    def _variances(self, order):
        return {parse_signed(key): values for key, values in self.variances[str(order)].items()}

    def n_products_of(self, order):
        """Count the products of each irrep of an order, of those irreps that have any."""
        if order == 1:
            return self.channels
        sizes = {irrep: sum(group.size for group in products) for irrep, products in self.products[order].items()}
        return {irrep: size for irrep, size in sizes.items() if size}

    def n_features(self, order):
        """Count the features of each irrep of an order: components where it is contracted, else products."""
        if self.contractions is None:
            return self.n_products_of(order)
        return {irrep: len(values) for irrep, values in self._variances(order).items()}

    def factors(self, order):
        """List what each product of an order is made of, where nothing is contracted, see :func:`product_factors`."""
        if order == 1:
            return {irrep: channel_factors(k, irrep, n) for k, (irrep, n) in enumerate(self.channels.items())}
        left, channels = self.factors(order - 1), list(self.channels)
        return {
            irrep: product_factors(self.products[order][irrep], irrep, left, channels)
            for irrep in self.n_products_of(order)
        }

    def fill_products(self, density, order, out):
        """Write the products of an order.

        Parameters
        ----------
        density : ndarray of shape (n_centers, (l_max + 1)^2, n_channels)
        order : int
        out : dict of Irrep to ndarray of shape (n_centers, 2 lambda + 1, n_products)
            C-contiguous.
        """
        if order == 1:
            for irrep, block in out.items():
                block[:] = self._part(density, irrep)
        else:
            self._couple(order, self._features_below(order, density), out)

    def _features_below(self, order, density):
        """Features of the orders 1 to order - 1 (at least of order 1), a dict of blocks for each."""
        channels = {irrep: np.ascontiguousarray(self._part(density, irrep)) for irrep in self.channels}
        features = [self._contract(1, channels)]
        for step in range(2, order):
            sizes = self.n_products_of(step)
            products = {irrep: np.empty((len(density), irrep.dim, size)) for irrep, size in sizes.items()}
            self._couple(step, features, products)
            features.append(self._contract(step, products))
        return features

    def _couple(self, order, features, out):
        for irrep, block in out.items():
            fill_products(self.products[order][irrep], irrep, features[order - 2], features[0], block)

    def fill_features(self, density, order, out):
        """Write the features of an order, which are its products or their contraction; arguments as above."""
        if self.contractions is None:
            self.fill_products(density, order, out)
            return
        sizes = self.n_products_of(order)
        products = {irrep: np.empty((len(density), irrep.dim, sizes[irrep])) for irrep in out}
        self.fill_products(density, order, products)
        self._contract(order, products, out)

    def vjp(self, density, order, cotangents, out):
        """Add to ``out`` the derivative of the sum of all cotangents times features of an order, by the density.

        Parameters
        ----------
        density : ndarray of shape (n_centers, (l_max + 1)^2, n_channels)
        order : int
        cotangents : dict of Irrep to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        out : ndarray of the shape of density
        """
        features = self._features_below(order, density)
        changes = [{irrep: np.zeros_like(block) for irrep, block in blocks.items()} for blocks in features]
        for step in range(order, 1, -1):
            for irrep, block in self._expand(step, cotangents).items():
                contract_products(
                    self.products[step][irrep], irrep, features[step - 2], features[0], block, changes[step - 2],
                    changes[0],
                )  # fmt: skip
            cotangents = changes[step - 2]
        for irrep, block in self._expand(1, cotangents).items():
            if len(self.places[irrep]) == out.shape[2]:
                out[:, _components(irrep)] += block
            else:
                out[:, _components(irrep), self.places[irrep]] += block

    def _part(self, density, irrep):
        """Density coefficients of an irrep."""
        part, channels = density[:, _components(irrep)], self.places[irrep]
        return part if len(channels) == density.shape[2] else part[:, :, channels]

    def _expand(self, order, cotangents):
        """Convert derivatives by features to those by the products that they are contracted from."""
        if self.contractions is None:
            return cotangents
        return {irrep: block @ self.contractions[str(order)][str(irrep)].T for irrep, block in cotangents.items()}

    def _contract(self, order, products, out=None):
        if self.contractions is None:
            return products
        features = {} if out is None else out
        for irrep, block in products.items():
            weights = self.contractions[str(order)][str(irrep)]
            if out is None:
                features[irrep] = np.empty((*block.shape[:2], weights.shape[1]))
            np.matmul(block.reshape(-1, len(weights)), weights, out=features[irrep].reshape(-1, weights.shape[1]))
        return features


def _components(irrep):
    """Where the components of a degree stand among all (l, m)."""
    return slice(irrep.l**2, (irrep.l + 1) ** 2)
