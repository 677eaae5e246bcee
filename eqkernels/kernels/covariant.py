r"""Covariant kernels between atomic environments, summed into kernels between structures.

The kernel of two environments of the same central species is the (2 lambda + 1) x (2 lambda + 1) matrix

.. math::
    k^\lambda_{\mu\mu'}(i, j) = \frac{\mathbf p_i^{\lambda\mu} \cdot \mathbf p_j^{\lambda\mu'}}{N_i N_j}
    \left[ \frac{\mathbf p_i \cdot \mathbf p_j}{|\mathbf p_i| |\mathbf p_j|} \right]^{\zeta - 1} ,

with p the invariant power spectrum and an integer :math:`\zeta`: other powers of a positive definite kernel need not be
positive definite (C. H. FitzGerald, R. A. Horn, J. Math. Anal. Appl. 61, 633 (1977)). The kernel of two structures is
the sum or mean over their environments (Grisafi et al., Phys. Rev. Lett. 120, 036002 (2018), eq. 3 to 9). It rotates
with its structures:
:math:`k(\hat R A, \hat S B) = D(\hat R)\, k(A, B)\, D(\hat S)^T`.

The norm N may be that of the block itself, :math:`N_i^2 = \| \mathbf p_i^\lambda \cdot \mathbf p_i^\lambda \|_F`, as in
that paper, or that of the invariant features, :math:`N_i = |\mathbf p_i|`. The first gives every environment the
same weight, however little it departs from a symmetric one, and jumps where the block vanishes; the second keeps the
size of the departure, which is what a dipole or an anisotropy is about.

Centers of different species may be compared too, by a factor of :mod:`eqkernels.kernels.centers`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eqkernels._numeric import real_array
from eqkernels._progress import advance
from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels._environment_loops import add_to_structures
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.bounds import check_zeta
from eqkernels.kernels.centers import all_alike, center_groups, center_similarity, check_similarity
from eqkernels.kernels.contraction import Contraction
from eqkernels.kernels.environments import environment_arrays, environment_counts, environment_scale, environments
from eqkernels.kernels.gradients import KernelGradient, covariant_gradient, polynomial_gradient
from eqkernels.kernels.outer_products import operations, outer_product_kernel
from eqkernels.kernels.precise_sums import contract_scalars_vjp, precise_covariant, precise_weights
from eqkernels.kernels.vjp import covariant_vjp
from eqkernels.so3 import Irrep

# Terms that cancel by symmetry (the dipole kernel of a centrosymmetric molecule) leave rounding of this size, relative
# to the sum of their moduli; it is set to zero, so that a large coefficient cannot make a prediction of it.
_CANCELLED = 1e-14
# Environments of structures whose own kernels are computed from all their features at once, and elements of these.
_MOST_ON_DIAGONAL, _FEATURES = 64, 2**23


class CovariantKernel(TensorKernel):
    """Symmetry-adapted polynomial kernel of lambda-SOAP features.

    Parameters
    ----------
    zeta : int, default=2
        Degree, at least 1. 1 is linear in the features; 2 and more multiply the equivariant kernel by powers of the
        invariant one, which makes the model non-linear. Between integers the kernel would not be positive definite;
        sums such as ``0.5 * CovariantKernel(zeta=2) + 0.5 * CovariantKernel(zeta=3)`` are.
    normalize : {"invariant", True, False}, default="invariant"
        ``"invariant"``: divide the features of an environment by the norm of its power spectrum, for all irreps alike.
        True: divide each block by its own norm, so that the kernel of an environment with itself has unit
        Frobenius norm for every irrep (Grisafi 2018, TENSOAP). False: use the features as they are.
    aggregate : {"sum", "mean"}, default="sum"
        Sum over environments, for properties that grow with the structure, or mean, for those that do not.
    center_similarity : float, default=0.0
        From 0, centers of the same species are compared only, to 1, those of all species alike; between, by the
        similarity of the elements in the periodic table, with 0.5 as it is and more of it with more. With many elements
        it lets them learn from each other, and it answers for elements that were not seen. It wants features that see
        the species of the center: ``center_weight`` is not 0.
    zeta_bounds : pair of floats or "fixed", default="fixed"
        Range of the integers among which a Gaussian process chooses zeta, e.g. ``(1, 8)``; nothing else looks at it.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels.descriptors import LambdaSOAP
    >>> features = LambdaSOAP(n_max=4, l_max=3, irreps="0e+1o").fit_transform([molecule("H2O"), molecule("NH3")])
    >>> CovariantKernel(zeta=2)(features, irrep="1o").shape
    (2, 2, 3, 3)
    """

    center_similarity: float = 0.0  # of kernels that earlier versions saved

    def __init__(
        self,
        zeta: int = 2,
        normalize: str | bool = "invariant",
        aggregate: str = "sum",
        zeta_bounds: tuple[float, float] | str = "fixed",
        center_similarity: float = 0.0,
    ):
        self.zeta = zeta
        self.normalize = normalize
        self.aggregate = aggregate
        self.zeta_bounds = zeta_bounds
        self.center_similarity = center_similarity

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Kernel matrices between structures.

        Parameters
        ----------
        X, Y : EquivariantFeatures
            The two sets of structures; None for Y means X.
        irrep : str, default="0e"
            Block, e.g. ``"1o"``.

        Returns
        -------
        ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Raises
        ------
        ValueError
            If a block that is needed is missing, or the two sets were not made by the same descriptor.
        """
        self._check(X, Y, irrep)
        kind, (X, Y) = (irrep, int(self.zeta), self.normalize), self._centers(X, Y)
        pairs, sums = operations(X, X if Y is None else Y, *kind)
        if sums < pairs and not self._weighs:
            out, moduli = outer_product_kernel(X, X if Y is None else Y, *kind)
        else:
            out, moduli = self._over_pairs(X, Y, irrep)
        out[np.abs(out).max(axis=(2, 3)) <= _CANCELLED * moduli] = 0.0
        if self.aggregate == "mean":
            out /= environment_counts(X)[:, None, None, None] * environment_counts(X if Y is None else Y)[:, None, None]
        return out

    def operations(self, X: EquivariantFeatures, irrep: str = "0e") -> float:
        """Operations that the matrix of a set of structures takes."""
        counts = operations(all_alike(X) if self.center_similarity else X, None, irrep, int(self.zeta), self.normalize)
        return counts[0] if self._weighs else min(counts)

    def _over_pairs(self, X, Y, irrep):
        """Sum over pairs of environments, and the sum of the moduli of its terms."""
        left, right = environments(X, Y, irrep, self.normalize, self._needs_scalars)
        out = np.zeros((len(left.features), len(right.features), left.dim, left.dim))
        moduli = np.zeros(out.shape[:2])
        for rows, columns, mirror in pairs_of_environments(left, right, self.center_similarity):
            products, scalars = left.products(rows, right, columns)
            weights = left.scale[rows, None] * right.scale[columns]
            if scalars is not None:
                scalars *= left.scalar_scale[rows, None] * right.scalar_scale[columns]
                weights = weights * scalars ** (int(self.zeta) - 1)
            if self._weighs:
                species = left.features.species[rows], right.features.species[columns]
                weights = weights * center_similarity(*species, self.center_similarity)
            structures = left.features.structures[rows], right.features.structures[columns]
            add_to_structures(products, weights, *structures, mirror, out, moduli)
        return out, moduli

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Kernel of every structure with itself, over all pairs of its environments at once."""
        if not isinstance(X, EquivariantFeatures) or np.diff(X.offsets).max(initial=0) > _MOST_ON_DIAGONAL:
            return super().diag(X, irrep)
        self._check(X, None, irrep)
        _, d, width = X.block_shape(irrep)
        out, step = np.zeros((len(X), d, d)), max(1, _FEATURES // (d * width * _MOST_ON_DIAGONAL))
        for start in range(0, len(X), step):
            part = X[start : start + step]
            rows, zeta = np.arange(len(part.species)), int(self.zeta)
            block, scalars, scale = environment_arrays(part, irrep, self.normalize, rows, zeta > 1)
            block *= scale[:, None, None]
            for k, (first, last) in enumerate(zip(part.offsets, part.offsets[1:], strict=False)):
                own = slice(first, last)
                of_pairs = None if scalars is None else (scalars[own] @ scalars[own].T) ** (zeta - 1)
                alike = center_similarity(part.species[own], part.species[own], self.center_similarity)
                out[start + k] = _own_kernel(block[own], of_pairs, alike)
        return out / environment_counts(X)[:, None, None] ** 2 if self.aggregate == "mean" else out

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[KernelGradient]:
        """Differentiate kernels with single environments by the features (:mod:`eqkernels.kernels.gradients`).

        Parameters
        ----------
        X : EquivariantFeatures
            Structures.
        Y : EquivariantFeatures
            Structures of one environment at most, such as sparse points.
        irrep : str, default="0e"

        Returns
        -------
        list of KernelGradient
            By different ranges of the features.
        """
        self._check(X, Y, irrep)
        if irrep != "0e":
            scales, own_norm = self._scales(X, Y, irrep)
            rest = self.aggregate == "mean", self.center_similarity
            return covariant_gradient(X, Y, irrep, int(self.zeta), scales, own_norm, *rest)
        normal = self.normalize is not False
        scales = tuple(environment_scale(one, "0e", self.normalize) for one in (X, Y)) if normal else None
        rest = self.aggregate == "mean", self.center_similarity
        return [polynomial_gradient(X, Y, int(self.zeta), scales, *rest)]

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Vector-Jacobian product: derivatives of sum(weights * kernel) by the features of X.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str
        weights : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Returns
        -------
        dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        """
        self._check(X, Y, irrep)
        d = Irrep.parse(irrep).dim
        weights = real_array(weights, "weights", finite=True)
        if weights.shape != (len(X), len(Y), d, d):
            raise ValueError(f"weights has shape {weights.shape}, expected {(len(X), len(Y), d, d)}")
        scales, own_norm = self._scales(X, Y, irrep)
        if self.aggregate == "mean":
            weights = weights / (environment_counts(X)[:, None, None, None] * environment_counts(Y)[:, None, None])
        return covariant_vjp(X, Y, irrep, weights, int(self.zeta), scales, own_norm, self.center_similarity)

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Kernel matrices to twice the working precision."""
        self._check(X, Y, irrep)
        own = irrep if self.normalize is True else "0e"
        norms = [] if self.normalize is False else [own] + ["0e"] * (int(self.zeta) - 1)
        scales = ([(key, environment_scale(one, key, self.normalize)) for key in norms] for one in (X, Y))
        weights = [precise_weights(one, scale, self.aggregate) for one, scale in zip((X, Y), scales, strict=True)]
        return precise_covariant(X, Y, irrep, int(self.zeta), weights, self.center_similarity)

    def contract_vjp(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, cotangents: Floats, coef: Floats
    ) -> Blocks:
        """Vector-Jacobian product of the sum, for scalars to the rounding of the sum."""
        if irrep != "0e" or coef.shape[2] > 1 or self._weighs:
            return super().contract_vjp(X, Y, irrep, cotangents, coef)
        self._check(X, Y, irrep)
        X, Y = self._centers(X, Y)
        scales = [environment_scale(one, "0e", self.normalize) for one in (X, Y)]
        coef = self._of_environments(Y, coef)[:, 0, 0]
        gradients = contract_scalars_vjp(X, Y, coef, int(self.zeta), None if self.normalize is False else scales)
        return {"0e": self._of_environments(X, cotangents) * gradients}

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum of kernels times coefficients as a function of features, without the training set where that pays."""
        self._check(Y, None, irrep)
        if self._weighs:
            return super().contraction(Y, irrep, coef)
        of_environments = self._of_environments(Y, coef)
        mean = self.aggregate == "mean"
        alike = self.center_similarity == 1
        contraction = Contraction(Y, irrep, int(self.zeta), self.normalize, of_environments, mean, alike)
        return contraction if contraction.pays() else super().contraction(Y, irrep, coef)

    def _of_environments(self, features, of_structures):
        """Share of every environment of what its structure is multiplied by."""
        if self.aggregate == "mean":
            of_structures = of_structures / environment_counts(features).reshape(-1, *[1] * (of_structures.ndim - 1))
        return of_structures[features.structures]

    def _scales(self, X, Y, irrep):
        """Inverse norms of the blocks of X and Y and of their invariants; whether blocks have a norm of their own."""
        keys = (irrep, "0e") if self._needs_scalars else (irrep, irrep)
        scales = tuple(environment_scale(one, key, self.normalize) for key in keys for one in (X, Y))
        return scales, None if self.normalize is False else self.normalize is True and irrep != "0e"

    def _centers(self, X, Y):
        """Take the centers of both sets as those of one species where all are alike."""
        if self.center_similarity != 1:
            return X, Y
        return all_alike(X), None if Y is None else all_alike(Y)

    @property
    def _weighs(self):
        """Whether pairs of species have factors of their own."""
        return 0 < self.center_similarity < 1

    @property
    def _needs_scalars(self):
        return self.zeta != 1

    def _check(self, X, Y, irrep):
        check_zeta(self.zeta)
        if not isinstance(self.aggregate, str) or self.aggregate not in ("sum", "mean"):
            raise ValueError(f"aggregate={self.aggregate!r} must be 'sum' or 'mean'")
        check_normalize(self.normalize)
        check_similarity(self.center_similarity)
        if not isinstance(irrep, str):
            raise TypeError(f"irrep={irrep!r} must be the key of a block, e.g. '1o'")
        needed = {irrep, "0e"} if self._needs_scalars or self.normalize else {irrep}
        for name, features in (("X", X), ("Y", X if Y is None else Y)):
            if not isinstance(features, EquivariantFeatures):
                raise TypeError(
                    f"{name} must be EquivariantFeatures, got {type(features).__name__}: transform frames with "
                    "LambdaSOAP first, or give them to TensorKernelRidge, which does it"
                )
            missing = sorted(needed - set(features.blocks))
            if missing:
                raise ValueError(
                    f"{name} has no block {', '.join(missing)}, only {', '.join(features.blocks)}: ask for it with "
                    f"LambdaSOAP(irreps='{'+'.join(sorted(needed | set(features.blocks)))}')"
                )
        widths = [(X if Y is None else Y).block_shape(key)[2] for key in needed]
        if widths != [X.block_shape(key)[2] for key in needed]:
            raise ValueError("X and Y have different numbers of features: make them with the same fitted descriptor")


def _own_kernel(block, of_pairs, alike):
    """Kernel of a structure with itself: blocks (n, d, n_features) times two factors (n, n), the first may be None."""
    weights = alike if of_pairs is None else alike * of_pairs
    n, d, width = block.shape
    rows = block.transpose(1, 0, 2).reshape(d, n * width)
    out = (weights @ block.reshape(n, d * width)).reshape(n, d, width).transpose(1, 0, 2).reshape(d, n * width) @ rows.T
    norms = np.sqrt(np.einsum("idf,idf->i", block, block))
    out[:] = out if np.abs(out).max(initial=0.0) > _CANCELLED * (norms @ np.abs(weights) @ norms) else 0.0
    return (out + out.T) / 2


def pairs_of_environments(left, right, similarity=0.0):
    """Ranges of rows and columns that are compared, and whether to mirror their part of a symmetric matrix."""
    for own, others in center_groups(left.features.species, right.features.species, similarity):
        columns = right.chunks(others)
        for a, row in enumerate(left.chunks(own)):
            for b, column in enumerate(columns):
                if left is not right or b >= a:
                    yield row, column, left is right and a != b
                    advance(len(row) * len(column))


def check_normalize(normalize):
    """Refuse a value that is none of the choices."""
    if not (normalize is True or normalize is False or (isinstance(normalize, str) and normalize == "invariant")):
        raise ValueError(f"normalize={normalize!r} must be 'invariant', True or False")
