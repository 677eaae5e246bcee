r"""Kernels of higher body order, from densities, without the features that they would be scalar products of.

Features of an environment that couple the density coefficients c of :math:`\nu` neighbors grow in number with
:math:`(n_{species} n_{max})^\nu`. Their scalar products follow from those of the densities alone, iterated with
Clebsch-Gordan coefficients (F. Bigi, S. Pozdnyakov, M. Ceriotti, J. Chem. Phys. 161, 044116 (2024)),

.. math::
    K^{(1) l}_{mn}(i, j) = \sum_q c^i_{qlm} c^j_{qln} , \quad
    K^{(\nu + 1) L}_{MM'} = \sum_{l_1 l_2} \sum_{m_1 m_2 n_1 n_2} \langle l_1 m_1 l_2 m_2 | LM \rangle
    \langle l_1 n_1 l_2 n_2 | LM' \rangle\, K^{(\nu) l_1}_{m_1 n_1} K^{(1) l_2}_{m_2 n_2} ,

of which :math:`\nu = 2` is the kernel of lambda-SOAP. It is an integral of the power :math:`\nu` of the overlap of two
densities over all rotations of one of them (:mod:`eqkernels.kernels.rotations`), as in A. Glielmo, P. Sollich, A. De
Vita, Phys. Rev. B 95, 214302 (2017), and is computed so. With N_i^2 the scalar kernel of an environment with itself,

.. math::
    k^\lambda(i, j) = \frac{K^{(\nu) \lambda}(i, j)}{N_i N_j}
    \left[ \frac{K^{(\nu) 0}(i, j)}{N_i N_j} \right]^{\zeta - 1} .
"""

from __future__ import annotations

import re

import numpy as np

from eqkernels._numeric import real_array
from eqkernels._parameters import is_integer
from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.made_blocks import DENSITY, MadeBlocks
from eqkernels.kernels._environment_loops import add_to_structures
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.bounds import check_zeta
from eqkernels.kernels.covariant import pairs_of_environments
from eqkernels.kernels.environments import environment_counts
from eqkernels.kernels.rotations import coupled, coupled_vjp, rotation_grid
from eqkernels.so3 import Irrep

# Environments in a block of pairs: its overlaps take some MB.
_ENVIRONMENTS = 64
# What cancels by symmetry is left with rounding of this size, relative to the scalar kernels: it is set to zero.
_CANCELLED = 1e-14
# The number of rotations grows with the cube of the degree.
_MOST_BODIES = 8
# Value of labels that a feature does not have.
_ABSENT = -1


class WignerKernel(TensorKernel):
    r"""Kernel of the products of the densities of several neighbors, of any body order, which needs no such features.

    Labels that depend on more than two neighbors at a time are learned from fewer structures than with
    :class:`CovariantKernel`, in 5 to 20 times the time: ``TensorKernelRidge(kernel=WignerKernel())``. Others are not;
    ``TensorGPR(1.0 * CovariantKernel() + 1.0 * WignerKernel())`` finds out.

    Parameters
    ----------
    body_order : int, default=4
        Atoms that are correlated, the center and ``body_order - 1`` neighbors, 2 to 8: 3 has the products of two
        densities, as lambda-SOAP. The center itself is a part of the density, so that lower orders are contained,
        the more the larger the ``center_weight`` of the descriptor.
    zeta : int, default=2
        Degree, at least 1: the kernel is multiplied by the power zeta - 1 of the scalar one. 1 is linear in the
        products.
    normalize : {"invariant", False}, default="invariant"
        Whether all kernels of an environment are divided by the norm of its invariant products.
    aggregate : {"sum", "mean"}, default="sum"
        Sum over environments, for properties that grow with the structure, or mean, for those that do not.
    body_order_bounds, zeta_bounds : pair of floats or "fixed", default="fixed"
        Range of the integers among which :class:`~eqkernels.TensorGPR` chooses by the structures left out, e.g.
        ``(3, 5)``.

    See Also
    --------
    CovariantKernel : Products of two densities, and powers of their kernels.
    NBodyFeatures : Products of more densities as features, reduced to their principal components.

    Notes
    -----
    Features are those of :class:`~eqkernels.LambdaSOAP`, of which only the densities are used, or of
    :class:`~eqkernels.SphericalExpansion`. Other features with the blocks 0e, 1o, 2e, ... are taken for densities.
    Sums mix orders, ``1.0 * WignerKernel(3) + 1.0 * WignerKernel(5)``, with weights that :class:`~eqkernels.TensorGPR`
    chooses. Only centers of the same species are compared. A pair of environments takes operations in
    proportion to :math:`l_{max}^2 (\nu l_{max} + \lambda)^3` with :math:`\nu` neighbors, whatever the number of
    species and radial functions. There are derivatives of predictions by positions, but no fit to forces.

    References
    ----------
    F. Bigi, S. Pozdnyakov, M. Ceriotti, J. Chem. Phys. 161, 044116 (2024), https://doi.org/10.1063/5.0208746.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP
    >>> features = LambdaSOAP(n_max=3, l_max=2, irreps="0e+1o").fit_transform([molecule("H2O"), molecule("NH3")])
    >>> WignerKernel(body_order=5)(features, irrep="1o").shape
    (2, 2, 3, 3)
    """

    def __init__(
        self,
        body_order: int = 4,
        zeta: int = 2,
        normalize: str | bool = "invariant",
        aggregate: str = "sum",
        body_order_bounds: tuple[float, float] | str = "fixed",
        zeta_bounds: tuple[float, float] | str = "fixed",
    ):
        self.body_order = body_order
        self.zeta = zeta
        self.normalize = normalize
        self.aggregate = aggregate
        self.body_order_bounds = body_order_bounds
        self.zeta_bounds = zeta_bounds

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Kernel matrices between structures.

        Parameters
        ----------
        X, Y : EquivariantFeatures
            The two sets of structures; None for Y means X.
        irrep : str, default="0e"

        Returns
        -------
        ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Raises
        ------
        ValueError
            If the features are not made of densities, or the two sets were not made by the same descriptor.
        """
        grid, left, right = self._sides(X, Y, irrep)
        d = Irrep.parse(irrep).dim
        out, moduli = np.zeros((len(X), len(right.features), d, d)), np.zeros((len(X), len(right.features)))
        for rows, columns, mirror in pairs_of_environments(left, right):
            shape = len(rows), len(columns)
            products, scalars = coupled(grid, self._order, Irrep.parse(irrep).p, left.overlaps(rows, right, columns))
            scale = (left.scale[rows, None] * right.scale[columns]).ravel()
            norms = (left.norms[rows, None] * right.norms[columns]).ravel()
            products[np.abs(products).max(axis=1) <= _CANCELLED * norms] = 0.0
            weights = scale * (scale * scalars) ** (int(self.zeta) - 1)
            products = np.ascontiguousarray(products.reshape(*shape, d, d).transpose(0, 2, 1, 3))
            structures = left.features.structures[rows], right.features.structures[columns]
            add_to_structures(products, weights.reshape(shape), *structures, mirror, out, moduli)
        out[np.abs(out).max(axis=(2, 3)) <= _CANCELLED * moduli] = 0.0
        return out / self._counts(X, X if Y is None else Y)

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Vector-Jacobian product: derivatives of sum(weights * kernel) by the densities of X.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str
        weights : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Returns
        -------
        dict of str to ndarray
            By the coefficients of densities, ``"density"``, or by the blocks of features that stand for them.
        """
        grid, left, right = self._sides(X, Y, irrep)
        weights = real_array(weights, "weights", finite=True)
        d, order, parity, zeta = Irrep.parse(irrep).dim, self._order, Irrep.parse(irrep).p, int(self.zeta)
        if weights.shape != (len(X), len(Y), d, d):
            raise ValueError(f"weights has shape {weights.shape}, expected {(len(X), len(Y), d, d)}")
        weights = weights / self._counts(X, Y)
        out = [np.zeros(part.shape) for part in left.density]
        of_norms = np.zeros(len(left.scale))
        for rows, columns, _ in pairs_of_environments(left, right):
            overlaps = left.overlaps(rows, right, columns)
            products, scalars = coupled(grid, order, parity, overlaps)
            scale = (left.scale[rows, None] * right.scale[columns]).ravel()
            of_pairs = weights[np.ix_(X.structures[rows], Y.structures[columns])].reshape(len(scale), -1)
            of_products = of_pairs * (scale * (scale * scalars) ** (zeta - 1))[:, None]
            total = np.einsum("pk,pk->p", of_pairs, products) * scale
            of_scalars = np.zeros(len(scale))
            if zeta > 1:
                of_scalars = (zeta - 1) * total * scale * (scale * scalars) ** (zeta - 2)
            of_norms[rows] += np.sum((total * (scale * scalars) ** (zeta - 1)).reshape(len(rows), -1), axis=1)
            slopes = coupled_vjp(grid, order, parity, overlaps, of_products, of_scalars)
            left.add_slopes(slopes, rows, right, columns, out)
        if self.normalize is not False:
            self._add_norms(left, -0.5 * zeta * of_norms * left.scale**2, out)
        return left.as_cotangents(out)

    def _add_norms(self, sides, of_squares, out):
        """Add derivatives by squared norms, which are scalar kernels of environments with themselves."""
        grid = rotation_grid(sides.l_max, self._order * sides.l_max, 0)
        for rows in sides.chunks(np.flatnonzero(of_squares)):
            none, overlaps = np.zeros((len(rows), 1)), sides.own_overlaps(rows)
            sides.add_own_slopes(coupled_vjp(grid, self._order, 1, overlaps, none, of_squares[rows]), rows, out)

    def _sides(self, X, Y, irrep):
        """Rotations, and the densities of both sets with the inverse norms of their environments."""
        self._check()
        irrep = Irrep.parse(irrep)
        left = _Densities(X, "X")
        right = left if Y is None else _Densities(Y, "Y")
        if [part.shape[1:] for part in left.density] != [part.shape[1:] for part in right.density]:
            raise ValueError("X and Y have different densities: make them with the same fitted descriptor")
        for side in {id(one): one for one in (left, right)}.values():
            side.norms = self._norms(side)
            inverse = np.divide(1.0, side.norms, out=np.zeros(len(side.norms)), where=side.norms > 0)
            side.scale = np.ones(len(side.norms)) if self.normalize is False else inverse
        return rotation_grid(left.l_max, self._order * left.l_max + irrep.l, irrep.l), left, right

    def _norms(self, sides):
        """Roots of the scalar kernels of environments with themselves."""
        grid = rotation_grid(sides.l_max, self._order * sides.l_max, 0)
        parts = sides.chunks(np.arange(len(sides.features.species)))
        squares = [coupled(grid, self._order, 1, sides.own_overlaps(rows))[1] for rows in parts]
        return np.sqrt(np.maximum(np.concatenate([np.zeros(0), *squares]), 0.0))

    def _counts(self, X, Y):
        """Products of the numbers of environments to divide by, (n_structures_X, n_structures_Y, 1, 1)."""
        if self.aggregate == "sum":
            return np.ones((1, 1, 1, 1))
        return environment_counts(X)[:, None, None, None] * environment_counts(Y)[:, None, None]

    @property
    def _order(self):
        """Neighbors, the power of the overlaps."""
        return int(self.body_order) - 1

    def _check(self):
        if not is_integer(self.body_order) or not 2 <= self.body_order <= _MOST_BODIES:
            raise ValueError(f"body_order={self.body_order!r} must be an integer from 2 to {_MOST_BODIES}")
        check_zeta(self.zeta)
        if self.normalize is not False and self.normalize != "invariant":
            raise ValueError(f"normalize={self.normalize!r} must be 'invariant' or False")
        if not isinstance(self.aggregate, str) or self.aggregate not in ("sum", "mean"):
            raise ValueError(f"aggregate={self.aggregate!r} must be 'sum' or 'mean'")


def couples_densities(kernel: object) -> bool:
    """Whether a kernel or one of its parts is a WignerKernel, which has no further digits, nor sparse environments."""
    parts = kernel.get_params().values() if isinstance(kernel, TensorKernel) else ()
    return any(isinstance(one, WignerKernel) for one in (kernel, *parts))


class _Densities:
    """Density coefficients of environments, by degree, the norms of their products, and what these are divided by."""

    norms: Floats
    scale: Floats

    def __init__(self, features, name):
        self.features = features
        self.made = isinstance(getattr(features, "blocks", None), MadeBlocks)
        self.density = _density(features, name)
        self.l_max = len(self.density) - 1

    def chunks(self, rows):
        """Rows in ranges of which the overlaps are made at once."""
        return [rows[start : start + _ENVIRONMENTS] for start in range(0, len(rows), _ENVIRONMENTS)]

    def overlaps(self, rows, other, columns):
        """Scalar products over channels of all pairs, (n_pairs, n_coefficients), by l, m, n."""
        parts = []
        for left, right in zip(self.density, other.density, strict=True):
            d = left.shape[1]
            product = left[rows].reshape(len(rows) * d, -1) @ right[columns].reshape(len(columns) * d, -1).T
            parts.append(product.reshape(len(rows), d, len(columns), d).transpose(0, 2, 1, 3).reshape(-1, d * d))
        return np.concatenate(parts, axis=1)

    def own_overlaps(self, rows):
        """Those of environments with themselves."""
        parts = (part[rows] for part in self.density)
        return np.concatenate([(part @ part.transpose(0, 2, 1)).reshape(len(rows), -1) for part in parts], axis=1)

    def add_slopes(self, slopes, rows, other, columns, out):
        """Add to out the derivatives by the densities, of derivatives by overlaps."""
        first = 0
        for density, of_degree in zip(other.density, out, strict=True):
            d = density.shape[1]
            part = slopes[:, first : first + d * d].reshape(len(rows), len(columns), d, d).transpose(0, 2, 1, 3)
            first += d * d
            product = part.reshape(len(rows) * d, -1) @ density[columns].reshape(len(columns) * d, -1)
            of_degree[rows] += product.reshape(len(rows), d, -1)

    def add_own_slopes(self, slopes, rows, out):
        """Add to out the same of derivatives by the overlaps of environments with themselves."""
        first = 0
        for density, of_degree in zip(self.density, out, strict=True):
            d = density.shape[1]
            part = slopes[:, first : first + d * d].reshape(len(rows), d, d)
            first += d * d
            of_degree[rows] += (part + part.transpose(0, 2, 1)) @ density[rows]

    def as_cotangents(self, arrays):
        """Name derivatives by the densities as what the features were made of."""
        if self.made:
            return {DENSITY: np.concatenate(arrays, axis=1)}
        return {str(Irrep.natural(l)): array for l, array in enumerate(arrays)}


def _density(features, name):
    """Arrays (n_centers, 2 l + 1, n_channels) by ascending l, or an error that says where they come from."""
    remedy = "transform the frames with LambdaSOAP or SphericalExpansion, or give them to TensorKernelRidge"
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(f"{name} must be EquivariantFeatures, got {type(features).__name__}: {remedy}")
    if isinstance(features.blocks, MadeBlocks):
        made = features.density
        if made is None:
            raise ValueError(
                f"a block of {name} was looked at, and may have been changed, so that its densities need not stand for "
                f"it any more: {remedy}"
            )
        if not made.maker.is_natural:
            raise ValueError(f"{name} has densities with inputs or time reversal, which WignerKernel does not couple")
        density = made.density.astype(float, copy=False)
        l_max = made.maker.l_max
        return [np.ascontiguousarray(density[:, l * l : (l + 1) ** 2]) for l in range(l_max + 1)]
    keys = [str(Irrep.natural(l)) for l in range(len(features.blocks))]
    of_products = any(map(_has_factors, features.labels.values()))
    if set(keys) != set(features.blocks) or not keys or of_products:
        raise ValueError(
            f"{name} has the blocks {', '.join(features.blocks)}{' of products' if of_products else ''}, expected "
            f"densities 0e, 1o, 2e, ... without gaps: {remedy}; of a union, take Restricted(WignerKernel(), part=...)"
        )
    return [features.block(key).astype(float, copy=False) for key in keys]


def _has_factors(labels):
    """Whether features are labelled as products: with fields of a first, second ... factor, -1 where there is none."""
    return any(re.search(r"_\d+$", field) and (labels[field] != _ABSENT).any() for field in labels.dtype.names)
