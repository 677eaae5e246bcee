r"""Covariant kernels straight from density coefficients, without the features in between.

The scalar product of two lambda-SOAP vectors is a contraction of the overlaps of their densities,

.. math:: \mathbf p_i^{\lambda\mu} \cdot \mathbf p_j^{\lambda\mu'} = \sum_{l l'} \sum_{m m' n n'}
          \langle l m\, l' m' | \lambda\mu \rangle \langle l n\, l' n' | \lambda\mu' \rangle\,
          A^l_{mn} A^{l'}_{m'n'} , \qquad A^l_{mn} = \sum_q c^i_{qlm} c^j_{qln} ,

over the pairs l, l' of one parity: the power spectrum is never made. The cost per pair of environments grows with the
number of channels q and not with its square, and so does the memory per environment: it pays from about four species
on. Where a model has the choice, :func:`contraction_is_cheaper` makes it.
"""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors import EquivariantFeatures, LambdaSOAP, SphericalExpansion
from eqkernels.descriptors.products.pairs import pair_couplings
from eqkernels.kernels._overlap_loops import contract_overlaps
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.covariant import _VANISHING, CovariantKernel, _Pair, _Pairs, _zeros
from eqkernels.so3 import Irrep

# Environments of a block of rows: their overlaps with as many others take some MB.
_ROWS_PER_BLOCK = 64
# Features of more bytes than this are not made if densities will do, even where these take more operations.
_LARGE = 2**32
# Operations of the contraction take this many times as long as those of a matrix product.
_COST_OF_CONTRACTION = 2


class DensityKernel(CovariantKernel):
    """The :class:`CovariantKernel` of lambda-SOAP, from the features of a :class:`SphericalExpansion`.

    The same numbers as with the features of :class:`LambdaSOAP` of the same parameters, for many species in a small
    part of their time and memory: with eight species and eight radial functions the features are 57 times larger.
    Models of frames with a ``LambdaSOAP`` as ``descriptor`` and a ``CovariantKernel`` do this by themselves where it is
    cheaper; in a pipeline after ``SphericalExpansion`` it is yours to choose.

    Parameters
    ----------
    zeta, normalize, aggregate, zeta_bounds
        As in :class:`CovariantKernel`. With ``normalize=True``, which magnifies blocks that nearly vanish by symmetry,
        the overlaps cancel: a block of a part r of the invariant one has a relative error of about 1e-15 / r^2, and
        below r = 1e-6 it counts as zero. Models do not choose this kernel by themselves then.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP, SphericalExpansion
    >>> frames = [molecule("H2O"), molecule("NH3")]
    >>> density = SphericalExpansion(n_max=4, l_max=3).fit_transform(frames)
    >>> features = LambdaSOAP(n_max=4, l_max=3, irreps="0e+1o").fit_transform(frames)
    >>> one, other = DensityKernel()(density, irrep="1o"), CovariantKernel()(features, irrep="1o")
    >>> bool(np.allclose(one, other))
    True
    """

    def __call__(self, X, Y=None, irrep="0e"):
        """Kernel matrices between structures.

        Parameters
        ----------
        X, Y : EquivariantFeatures
            Density coefficients of the two sets of structures; None for Y means X.
        irrep : str, default="0e"
            Any irrep that two densities couple to, e.g. ``"1o"``.

        Returns
        -------
        ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Raises
        ------
        ValueError
            If X or Y are no density coefficients, or not of the same descriptor.
        """
        for one in (X, X if Y is None else Y):
            _check_density(one)
            _check_coupling(len(one.blocks) - 1, Irrep.parse(irrep))
        scalars = EquivariantFeatures.of_checked({"0e": X.blocks["0e"]}, X.species, X.structures, X.atoms, X.n_atoms)
        self._check(scalars, None, "0e")
        if Y is not None and [b.shape[1:] for b in X.blocks.values()] != [b.shape[1:] for b in Y.blocks.values()]:
            raise ValueError("X and Y have different channels: make them with the same fitted descriptor")
        left = _Densities(X, irrep, self.normalize, self._needs_scalars)
        right = left if Y is None else _Densities(Y, irrep, self.normalize, self._needs_scalars)
        out, moduli = _zeros(left, right)
        for pair in _DensityPairs(left, right):
            pair.add(self._weights(pair), out, moduli)
        return self._aggregated(out, moduli, left, right)

    def slopes(self, X, Y):
        """Not available: without the features there are no derivatives by them."""
        return TensorKernel.slopes(self, X, Y)

    def vjp(self, X, Y, irrep, weights):
        """Not available, as slopes."""
        return TensorKernel.vjp(self, X, Y, irrep, weights)

    def precise(self, X, Y, irrep):
        """Kernel matrices, in working precision."""
        return TensorKernel.precise(self, X, Y, irrep)

    def contract_vjp(self, X, Y, irrep, cotangents, coef):
        """Not available, as slopes."""
        return TensorKernel.contract_vjp(self, X, Y, irrep, cotangents, coef)


class _Densities:
    """Density coefficients with the norms of their environments."""

    def __init__(self, features, irrep, normalize, needs_scalars):
        self.features, self.irrep, self.l_max = features, irrep, len(features.blocks) - 1
        self.block = np.empty((0, Irrep.parse(irrep).dim, 0))  # of the features that are not made
        self.counts = np.diff(features.offsets)
        n = len(features.species)
        invariant = np.concatenate([np.zeros(0), *(self._norms(rows, "0e") for rows in self._ranges(n))])
        own = invariant
        if normalize is True and irrep != "0e":
            own = np.concatenate([np.zeros(0), *(self._norms(rows, irrep) for rows in self._ranges(n))])
        present = own > _VANISHING * invariant
        self.scale = np.ones(n) if normalize is False else np.where(present, 1 / np.sqrt(np.where(present, own, 1)), 0)
        scale = np.where(invariant > 0, 1 / np.sqrt(np.where(invariant > 0, invariant, 1)), 0)
        self.scalar_scale = (np.ones(n) if normalize is False else scale) if needs_scalars else None

    def chunks(self, species):
        rows = np.flatnonzero(self.features.species == species)
        return [rows[part] for part in self._ranges(len(rows))]

    def overlaps(self, rows, other, columns):
        """Scalar products of densities, flat: for each l an array (m, row, n, column)."""
        sizes = [len(rows) * len(columns) * block.shape[1] ** 2 for block in self.features.blocks.values()]
        flat, ends = np.empty(sum(sizes)), np.cumsum([0, *sizes])
        for (key, block), begin, end in zip(self.features.blocks.items(), ends, ends[1:], strict=False):
            left, right = block[rows].transpose(1, 0, 2), other.features.blocks[key][columns].transpose(2, 1, 0)
            width = block.shape[2]
            out = flat[begin:end].reshape(left.shape[0] * left.shape[1], -1)
            np.matmul(left.reshape(-1, width), right.reshape(width, -1), out=out)
        return flat

    def products(self, overlaps, shape, irrep):
        """Scalar products of lambda-SOAP vectors, shape (n_rows, 2 lambda + 1, n_columns, 2 lambda + 1)."""
        irrep = Irrep.parse(irrep)
        out = np.empty((shape[0], irrep.dim, shape[1], irrep.dim))
        contract_overlaps(overlaps, self.l_max + 1, *pair_couplings(self.l_max, irrep.l, irrep.p), out)
        return out

    def _norms(self, rows, irrep):
        """Frobenius norms of the products of environments with themselves."""
        parts = [
            np.einsum("imq,inq->mni", block[rows], block[rows], optimize=True)
            for block in self.features.blocks.values()
        ]
        n = parts[0].shape[2]
        products = self.products(np.concatenate([part.ravel() for part in parts], dtype=float), (1, n), irrep)
        return np.linalg.norm(products[0], axis=(0, 2))

    @staticmethod
    def _ranges(n):
        return [slice(start, min(start + _ROWS_PER_BLOCK, n)) for start in range(0, n, _ROWS_PER_BLOCK)]


class _DensityPair(_Pair):
    """Environments of one species in a range of rows and a range of columns."""

    def __init__(self, left, row, right, column, mirror):
        overlaps, shape = left.overlaps(row, right, column), (len(row), len(column))
        self.products = left.products(overlaps, shape, left.irrep)
        self.scale = left.scale[row, None] * right.scale[column]
        self.structures = left.features.structures[row], right.features.structures[column]
        self.mirror = mirror
        if left.scalar_scale is not None:
            scalars = left.products(overlaps, shape, "0e")[:, 0, :, 0]
            self.scalars = scalars * left.scalar_scale[row, None] * right.scalar_scale[column]


class _DensityPairs(_Pairs):
    """All pairs of ranges of one species."""

    def _pair(self, row, column, mirror):
        return _DensityPair(self.left, row, self.right, column, mirror)


def density_expansion(descriptor):
    """Make the fitted SphericalExpansion whose densities are those of a fitted LambdaSOAP."""
    density = SphericalExpansion()
    density.set_params(**{name: getattr(descriptor, name) for name in density.get_params()})
    for name, value in vars(descriptor).items():
        if name.endswith("_") and name != "irreps_":
            setattr(density, name, value)
    return density


def contraction_is_cheaper(kernel, descriptor, n_centers):
    """Whether kernels are cheaper from densities than from features.

    Per pair of environments, in multiplications: n_features (2 lambda + 1)^2 from features, against the overlaps
    n_channels (2 l + 1)^2 of all l and the terms of ``contract_overlaps``. Where that does not decide for densities,
    features of more than 4 GiB do.

    Parameters
    ----------
    kernel : TensorKernel
    descriptor : transformer
        Fitted.
    n_centers : int
        Number of environments of the training set.

    Returns
    -------
    bool
        False if it is not possible: anything but an uncompressed ``LambdaSOAP`` without 0o and a ``CovariantKernel``;
        and where it is not accurate, for blocks other than 0e with ``normalize=True``.
    """
    possible = type(kernel) is CovariantKernel and type(descriptor) is LambdaSOAP
    if not possible or descriptor.compression is not None or "0o" in descriptor.irreps_:
        return False
    if kernel.normalize is True and descriptor.irreps_ != "0e":
        return False
    expansion, irreps = descriptor._expansion(), [Irrep.parse(key) for key in descriptor.irreps_.split("+")]
    widths = {key: shape[1] for key, shape in descriptor._block_shapes(expansion).items()}
    if 8 * n_centers * sum(irrep.dim * widths[str(irrep)] for irrep in irreps) > _LARGE:
        return True
    features = sum(irrep.dim**2 * widths[str(irrep)] for irrep in irreps)
    degrees = np.arange(descriptor.l_max + 1)
    contraction = expansion.n_channels * np.sum((2 * degrees + 1) ** 2)
    for irrep in irreps:
        first, second = 2 * pair_couplings(descriptor.l_max, irrep.l, irrep.p)[0].T + 1
        terms = irrep.dim * np.sum(2 * first * second + irrep.dim * 2 * first**2)
        contraction += _COST_OF_CONTRACTION * terms
    return bool(contraction < features)


def _check_density(features):
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(f"expected EquivariantFeatures of a SphericalExpansion, got {type(features).__name__}")
    expected = [f"{l}{'eo'[l % 2]}" for l in range(len(features.blocks))]
    of_pairs = any("l_1" in labels.dtype.names for labels in features.labels.values())
    if (
        of_pairs
        or list(features.blocks) != expected
        or len({block.shape[2] for block in features.blocks.values()}) != 1
    ):
        raise ValueError(
            f"the blocks {', '.join(features.blocks)} are not those of density coefficients, 0e, 1o, 2e, ... with the "
            "same channels: make them with SphericalExpansion, or use CovariantKernel for features of LambdaSOAP; a "
            "model that was fitted on frames takes frames, or what its descriptor_.transform makes of them"
        )


def _check_coupling(l_max, irrep):
    if not len(pair_couplings(l_max, irrep.l, irrep.p)[0]):
        remedy = "use LambdaSOAP, which makes it of three" if str(irrep) == "0o" else "increase l_max"
        raise ValueError(f"two densities with l_max={l_max} do not couple to {irrep}: {remedy}")
