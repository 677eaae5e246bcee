r"""Derivatives of the kernels with sparse points from those of the features of single centers.

With the factors a and b of :mod:`eqkernels.kernels.gradients`, the kernel of a structure A with an environment m
changes with anything x that its features depend on, a position, a strain or an input, by

.. math:: \frac{\partial k(A, m)}{\partial x} =
    \sum_i \frac{\partial \mathbf p_i}{\partial x} \cdot (a_{im}\, \mathbf p_m + b_{im}\, \mathbf p_i) .
"""

from __future__ import annotations

import numpy as np

from eqkernels.regression.sparse._derivative_loops import add_block_slopes, add_scalar_slopes, add_slopes


def add_slopes_of_part(gradients, rows, features, points, slopes, out):
    """Add derivatives of the features of some centers, species by species, to those of kernels.

    Parameters
    ----------
    gradients : StreamedGradients
    rows : ndarray of int, shape (n,)
        Row of ``out`` that each derivative belongs to; -1: none.
    features, points : EquivariantFeatures
    slopes : list of KernelSlope
    out : ndarray of shape (n_rows, k, 2 lambda + 1, n_points, 2 lambda + 1)
    """
    for species in np.unique(points.species):
        entries = np.flatnonzero((rows >= 0) & (features.species[gradients.centers] == species))
        if len(entries):
            columns = np.flatnonzero(points.species == species)
            chosen, first = rows[entries], rows[entries].min()
            n, d = chosen.max() + 1 - first, out.shape[2]
            target = np.zeros((n, out.shape[1], d, len(columns), d))
            for slope in slopes:
                if slope.block == gradients.block:
                    slope.add(gradients, entries, chosen - first, columns, target)
            out[first : first + n, :, :, columns] += target


class KernelSlope:
    """Derivative of the kernels by a range of the features of a block, :class:`KernelGradient`, as arrays to loop over.

    Parameters
    ----------
    gradient : KernelGradient
    features, points : EquivariantFeatures
    irrep : str
        Of the kernels.
    """

    def __init__(self, gradient, features, points, irrep):
        self.gradient, self.block, self.scalar = gradient, gradient.block, irrep == "0e"
        self.features = features.block(self.block) if gradient.direction is None else gradient.direction
        self.points, self.lift = points.block(self.block), gradient.lift
        if gradient.lifted is not None:
            self.points = gradient.lifted[points.structures]
        self.range = (0, np.inf) if gradient.columns is None else gradient.columns
        # directions have the columns of the range alone
        self.shift = 0 if gradient.direction is None else self.range[0]

    def add(self, gradients, entries, rows, columns, out):
        """Add the derivatives of the entries by the points ``columns`` to out[rows]."""
        low, high = self.range
        inside = (gradients.columns >= low) & (gradients.columns < high)
        if not inside.any():
            return
        every = len(entries) == len(gradients.centers)
        values, centers = (x if every else x[entries] for x in (gradients.values, gradients.centers))
        values = values if inside.all() else np.ascontiguousarray(values[..., inside])
        ids, first = gradients.columns[inside], centers.min()
        here, centers = slice(first, centers.max() + 1), centers - first
        if self.lift is not None:
            values = np.einsum("edc,ekcf->ekdf", self.lift[here][centers], values, optimize=True)
        products = self._products(values, columns, ids)
        if self.scalar and self.block == "0e":
            own = self.features[here, 0][:, ids].astype(float)
            pair = (np.ascontiguousarray(x[here][:, columns]) for x in (self.gradient.points, self.gradient.own))
            target = out.reshape(len(out), out.shape[1], len(columns))
            add_slopes(values[:, :, 0], products, own, centers, rows, *pair, target)
        elif self.block == "0e":
            along = self._along(values, here, centers, ids)
            pair = (self._factors(x, here, columns) for x in (self.gradient.points, self.gradient.own))
            add_scalar_slopes(products, along, centers, rows, *pair, out)
        elif self.gradient.points is not None:
            n, k, d, _ = values.shape
            factors = np.ascontiguousarray(self.gradient.points[here][:, columns])
            add_block_slopes(products.reshape(n, k, d, len(columns), d), centers, rows, factors, out)
        else:
            along = self._along(values, here, centers, ids)
            own = self._factors(self.gradient.own, here, columns)
            none = np.zeros((*along.shape, len(columns)))
            add_scalar_slopes(none, along, centers, rows, own, own, out)

    def _products(self, values, columns, ids):
        """Products of the derivatives with the features of points, (n, k, n_points) or (n, k, d n_points d)."""
        if self.block != "0e" and self.gradient.points is None:
            return None
        n, k, d, width = values.shape
        environments = self.points[np.ix_(columns, np.arange(d), ids)].astype(float, copy=False)
        return (values.reshape(n * k * d, width) @ environments.reshape(-1, width).T).reshape(n, k, -1)

    def _along(self, values, here, centers, ids):
        """Products of the derivatives with the features of the environment, or with its direction, (n, k)."""
        own = self.features[here][:, :, ids - self.shift].astype(float, copy=False)[centers]
        return np.einsum("nkdf,ndf->nk", values, own, optimize=True)

    def _factors(self, array, here, columns):
        """Factors as arrays (n_centers, d, n_points, d)."""
        if array is None:
            there = self.gradient.own if self.gradient.points is None else self.gradient.points
            array = np.zeros_like(there)
        return np.ascontiguousarray(array[here][:, columns].transpose(0, 2, 1, 3))
