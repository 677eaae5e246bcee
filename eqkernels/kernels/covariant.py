r"""Covariant kernels between atomic environments, summed into kernels between structures.

The kernel of two environments of the same central species is the (2 lambda + 1) x (2 lambda + 1) matrix

.. math::
    k^\lambda_{\mu\mu'}(i, j) = \frac{\mathbf p_i^{\lambda\mu} \cdot \mathbf p_j^{\lambda\mu'}}{N_i N_j}
    \left[ \frac{\mathbf p_i \cdot \mathbf p_j}{|\mathbf p_i| |\mathbf p_j|} \right]^{\zeta - 1} ,

with p the invariant power spectrum and an integer :math:`\zeta`: other powers of a positive definite kernel need not be
positive definite (C. H. FitzGerald, R. A. Horn, J. Math. Anal. Appl. 61, 633 (1977)). The kernel of two structures is
the sum or mean over their environments (Grisafi et al., Phys. Rev. Lett. 120, 036002 (2018), eq. 3 to 9). It turns with
its structures:
:math:`k(\hat R A, \hat S B) = D(\hat R)\, k(A, B)\, D(\hat S)^T`.

The norm N may be that of the block itself, :math:`N_i^2 = \| \mathbf p_i^\lambda \cdot \mathbf p_i^\lambda \|_F`, as in
that paper, or that of the invariant features, :math:`N_i = |\mathbf p_i|`. The first gives every environment the
same weight, however little it departs from a symmetric one, and jumps where the block vanishes; the second keeps the
size of the departure, which is what a dipole or an anisotropy is about.
"""

from __future__ import annotations

import numpy as np

from eqkernels._numeric import real_array
from eqkernels._progress import advance
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels._environment_loops import add_to_structures
from eqkernels.kernels.algebra import TensorKernel, check_zeta
from eqkernels.kernels.cotangents import covariant_vjp
from eqkernels.kernels.precise_sums import contract_scalars_vjp, precise_covariant, precise_weights
from eqkernels.kernels.slopes import polynomial_slopes

# Rows of one matrix product: large enough for BLAS, small enough that its result (32 MB) is bounded.
_ROWS_PER_PRODUCT = 2048
# Terms that cancel by symmetry (the dipole kernel of a centrosymmetric molecule) leave rounding of this size, relative
# to the sum of their moduli; it is set to zero, so that a large coefficient cannot turn it into a prediction.
_CANCELLED = 1e-14
# An equivariant block that vanishes by symmetry is left with the rounding of its terms, ~1e-16 of the invariant block.
# Below this ratio of amplitudes it counts as zero: normalizing it, or fitting to nothing but such blocks, would turn
# noise into a direction.
_VANISHING = 1e-12


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

    def __init__(self, zeta=2, normalize="invariant", aggregate="sum", zeta_bounds="fixed"):
        self.zeta = zeta
        self.normalize = normalize
        self.aggregate = aggregate
        self.zeta_bounds = zeta_bounds

    def __call__(self, X, Y=None, irrep="0e"):
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
        left = _Environments(X, irrep, self.normalize, self._needs_scalars)
        right = left if Y is None else _Environments(Y, irrep, self.normalize, self._needs_scalars)
        out, moduli = _zeros(left, right)
        for pair in _Pairs(left, right):
            pair.add(self._weights(pair), out, moduli)
        return self._aggregated(out, moduli, left, right)

    def slopes(self, X, Y):
        """Differentiate scalar kernels with single environments by the features (:mod:`eqkernels.kernels.slopes`).

        Parameters
        ----------
        X : EquivariantFeatures
            Structures.
        Y : EquivariantFeatures
            Structures of one environment at most, such as sparse points.

        Returns
        -------
        list of KernelSlopes
        """
        self._check(X, Y, "0e")
        normal = self.normalize is not False
        scales = tuple(environment_scale(one, "0e", self.normalize) for one in (X, Y)) if normal else None
        return [polynomial_slopes(X, Y, int(self.zeta), scales, self.aggregate == "mean")]

    def vjp(self, X, Y, irrep, weights):
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
        d = 2 * int(irrep[:-1]) + 1
        weights = real_array(weights, "weights", finite=True)
        if weights.shape != (len(X), len(Y), d, d):
            raise ValueError(f"weights has shape {weights.shape}, expected {(len(X), len(Y), d, d)}")
        keys = (irrep, "0e") if self._needs_scalars else (irrep, irrep)
        scales = tuple(environment_scale(one, key, self.normalize) for key in keys for one in (X, Y))
        if self.aggregate == "mean":
            counts = [np.maximum(np.diff(one.offsets), 1) for one in (X, Y)]
            weights = weights / (counts[0][:, None, None, None] * counts[1][:, None, None])
        own_norm = None if self.normalize is False else self.normalize is True and irrep != "0e"
        return covariant_vjp(X, Y, irrep, weights, int(self.zeta), scales, own_norm)

    def precise(self, X, Y, irrep):
        """Kernel matrices to twice the working precision."""
        self._check(X, Y, irrep)
        own = irrep if self.normalize is True else "0e"
        norms = [] if self.normalize is False else [own] + ["0e"] * (int(self.zeta) - 1)
        scales = ([(key, environment_scale(one, key, self.normalize)) for key in norms] for one in (X, Y))
        weights = [precise_weights(one, scale, self.aggregate) for one, scale in zip((X, Y), scales, strict=True)]
        return precise_covariant(X, Y, irrep, int(self.zeta), weights)

    def contract_vjp(self, X, Y, irrep, cotangents, coef):
        """Vector-Jacobian product of the sum, for scalars to the rounding of the sum."""
        if irrep != "0e" or coef.shape[2] > 1:
            return super().contract_vjp(X, Y, irrep, cotangents, coef)
        self._check(X, Y, irrep)
        scales = [environment_scale(one, "0e", self.normalize) for one in (X, Y)]
        coef = self._of_environments(Y, coef)[:, 0, 0]
        slopes = contract_scalars_vjp(X, Y, coef, int(self.zeta), None if self.normalize is False else scales)
        return {"0e": self._of_environments(X, cotangents) * slopes}

    def _of_environments(self, features, of_structures):
        """Share of every environment of what its structure is multiplied by."""
        if self.aggregate == "mean":
            counts = np.maximum(np.diff(features.offsets), 1)
            of_structures = of_structures / counts.reshape(-1, *[1] * (of_structures.ndim - 1))
        return of_structures[features.structures]

    def _aggregated(self, out, moduli, left, right):
        out[np.abs(out).max(axis=(2, 3)) <= _CANCELLED * moduli] = 0.0
        if self.aggregate == "mean":
            out /= np.maximum(left.counts, 1)[:, None, None, None] * np.maximum(right.counts, 1)[:, None, None]
        return out

    def _weights(self, pair):
        if not self._needs_scalars:
            return pair.scale
        return pair.scale * pair.scalars ** (int(self.zeta) - 1)

    @property
    def _needs_scalars(self):
        return self.zeta != 1

    def _check(self, X, Y, irrep):
        check_zeta(self.zeta)
        if not isinstance(self.aggregate, str) or self.aggregate not in ("sum", "mean"):
            raise ValueError(f"aggregate={self.aggregate!r} must be 'sum' or 'mean'")
        check_normalize(self.normalize)
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
        widths = [(X if Y is None else Y).blocks[key].shape[2] for key in needed]
        if widths != [X.blocks[key].shape[2] for key in needed]:
            raise ValueError("X and Y have different numbers of features: make them with the same fitted descriptor")


class _Pair:
    """Environments of one species in a range of rows and a range of columns."""

    def __init__(self, left, row, right, column, mirror):
        d = left.block.shape[1]
        self.products = (left.flat(row) @ right.flat(column).T).reshape(len(row), d, len(column), d)
        self.scale = left.scale[row, None] * right.scale[column]
        self.structures = left.features.structures[row], right.features.structures[column]
        self.mirror = mirror
        if left.scalar_scale is not None:
            self.scalars = left.scalars(row) @ right.scalars(column).T
            self.scalars *= left.scalar_scale[row, None] * right.scalar_scale[column]

    def add(self, weights, out, moduli):
        add_to_structures(self.products, weights, *self.structures, self.mirror, out, moduli)


class _Pairs:
    """All pairs of ranges of one species."""

    def __init__(self, left, right):
        self.left, self.right = left, right

    def __iter__(self):
        left, right = self.left, self.right
        for species in np.intersect1d(left.features.species, right.features.species):
            columns = right.chunks(species)
            for a, row in enumerate(left.chunks(species)):
                for b, column in enumerate(columns):
                    if left is not right or b >= a:
                        yield self._pair(row, column, left is right and a != b)
                        advance(len(row) * len(column))

    def _pair(self, row, column, mirror):
        return _Pair(self.left, row, self.right, column, mirror)


def _zeros(left, right):
    """Kernel between structures to be filled, and the sums of moduli."""
    d = left.block.shape[1]
    out = np.zeros((len(left.features), len(right.features), d, d))
    return out, np.zeros(out.shape[:2])


class _Environments:
    """A block of features with the norms of its environments."""

    def __init__(self, features, irrep, normalize, needs_scalars):
        self.features = features
        self.block = features.blocks[irrep]
        self.counts = np.diff(features.offsets)
        self.scale = environment_scale(features, irrep, normalize)
        if irrep != "0e" and "0e" in features.blocks:
            self.scale = np.where(_vanishes(self.block, features.blocks["0e"]), 0.0, self.scale)
        self.scalar_scale = environment_scale(features, "0e", normalize) if needs_scalars else None

    def chunks(self, species):
        rows = np.flatnonzero(self.features.species == species)
        size = max(1, _ROWS_PER_PRODUCT // self.block.shape[1])
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def flat(self, rows):
        return self.block[rows].reshape(-1, self.block.shape[2])

    def scalars(self, rows):
        return self.features.blocks["0e"][rows, 0]


def check_normalize(normalize):
    """Refuse a value that is none of the choices."""
    if not (normalize is True or normalize is False or (isinstance(normalize, str) and normalize == "invariant")):
        raise ValueError(f"normalize={normalize!r} must be 'invariant', True or False")


def environment_scale(features, irrep, normalize):
    """Factors 1 / N_i that normalize each environment; 0 where its block vanishes by symmetry.

    Parameters
    ----------
    features : EquivariantFeatures
        With the block ``irrep`` and, to normalize, the block ``"0e"``.
    irrep : str
    normalize : {"invariant", True, False}
        As in :class:`CovariantKernel`.

    Returns
    -------
    ndarray of shape (n_centers,)
    """
    if normalize is False:
        return np.ones(len(features.species))
    scalars = features.blocks["0e"][:, 0]
    reference = np.einsum("if,if->i", scalars, scalars)
    own = irrep != "0e" and normalize is True
    squares = _frobenius_norms(features.blocks[irrep]) if own else reference
    present = squares > _VANISHING**2 * reference
    return np.where(present, 1.0 / np.sqrt(np.where(present, squares, 1.0)), 0.0)


def _vanishes(block, scalars):
    """Whether a block of each environment is nothing but the rounding of what cancels by symmetry.

    Its derivatives need not vanish, so that those of kernels take no notice of it.
    """
    squares, reference = (np.einsum("idf,idf->i", one, one) for one in (block, scalars))
    return squares <= _VANISHING**2 * reference


def _frobenius_norms(block):
    norms = np.empty(len(block))
    for start in range(0, len(block), _ROWS_PER_PRODUCT):
        part = block[start : start + _ROWS_PER_PRODUCT]
        norms[start : start + len(part)] = np.linalg.norm(part @ part.transpose(0, 2, 1), axis=(1, 2))
    return norms
