r"""Scalar products of the features of environments, from the features or straight from the densities they are made of.

Features of lambda-SOAP are couplings of two densities, so that scalar products of them are couplings of scalar products
of densities (overlaps),

.. math::
    \mathbf p_i^{\lambda\mu} \cdot \mathbf p_j^{\lambda\mu'} = \sum_{l_1 l_2} \sum_{m_1 m_2 n_1 n_2}
    \langle l_1 m_1 l_2 m_2 | \lambda\mu \rangle \langle l_1 n_1 l_2 n_2 | \lambda\mu' \rangle\,
    S^{l_1}_{m_1 n_1} S^{l_2}_{m_2 n_2} , \quad S^l_{mn} = \sum_q c^i_{qlm} c^j_{qln} ,

which takes a time that grows with the number of channels q, not with its square: for many species it is several times
faster, in a small part of the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eqkernels.descriptors.products.pairs import pair_couplings
from eqkernels.kernels._overlap_loops import contract_overlaps
from eqkernels.so3 import Irrep

# Rows of one matrix product: large enough for BLAS, small enough that its result (32 MB) is bounded.
_ROWS_PER_PRODUCT = 2048
# Environments in one block of a kernel from densities: its overlaps fit the cache.
_ROWS_PER_BLOCK = 64
# An equivariant block that vanishes by symmetry is left with the rounding of its terms, ~1e-16 of the invariant block.
# Below this ratio of amplitudes it counts as zero: normalizing it, or fitting to nothing but such blocks, would turn
# noise into a direction.
_VANISHING = 1e-12
# With a norm of its own, a smaller block than this would be divided by its rounding to more than 1e-9.
_VANISHING_NORM = 1e-7
# Scalar products of densities have the rounding of the invariant ones: below this ratio of squares, in the mean over a
# sample of environments, they would keep less than ten digits of a block.
_SMALL, _SAMPLE = 1e-6, 16
# Multiplications of contract_overlaps take this many times as long as those of a matrix product.
_COST_OF_CONTRACTION = 2
# Features of more bytes than this are not made if densities will do, even where these take more operations.
_LARGE = 2**32


def environments(X, Y, irrep, normalize, needs_scalars):
    """Environments of two sets of features, with their norms and scalar products.

    Parameters
    ----------
    X, Y : EquivariantFeatures
        None for Y means X.
    irrep : str
    normalize : {"invariant", True, False}
    needs_scalars : bool
        Whether scalar products of the invariant features are needed too.

    Returns
    -------
    left, right : FeatureEnvironments or DensityEnvironments
        The same object where Y is None.
    """
    kind = DensityEnvironments if _directly(X, X if Y is None else Y, irrep, normalize) else FeatureEnvironments
    left = kind(X, irrep, normalize, needs_scalars)
    return left, left if Y is None else kind(Y, irrep, normalize, needs_scalars)


def _directly(X, Y, irrep, normalize):
    """Whether scalar products are possible, accurate and cheaper from densities."""
    left, right = X.density, Y.density
    if left is None or right is None or left.density.shape[1:] != right.density.shape[1:]:
        return False
    cost = cost_from_densities(X, irrep, normalize)
    if cost is None or (irrep != "0e" and _nearly_vanishes(X, irrep)):
        return False
    irreps, maker = _irreps(left.maker), left.maker
    n_centers = max(len(left.density), len(right.density))
    if left.density.itemsize * n_centers * sum(one.dim * maker.widths[str(one)] for one in irreps) > _LARGE:
        return True
    return cost < _cost_of_features(irreps, maker.widths)


def cost_from_densities(features, irrep, normalize):
    """Multiplications for a pair of environments; None where scalar products of densities are no way.

    They are not accurate for blocks other than 0e with ``normalize=True``: norms of blocks that nearly vanish are lost
    in the overlaps of densities. Products of channels of different parities are none of those that are made here.
    """
    made = features.density
    if made is None or (normalize is True and irrep != "0e") or irrep == "0o" or made.maker.compression == "mu1nu1":
        return None
    if made.maker.n_far or not made.maker.is_natural:  # not all products of two channels are there
        return None
    return _cost_of_densities(_irreps(made.maker), made.maker.l_max, made.density.shape[2])


def _nearly_vanishes(features, irrep):
    """Whether a block is so small in most environments that scalar products of densities would lose its digits."""
    rows = evenly(len(features.species), _SAMPLE)
    squares = np.sum(features.block_rows(irrep, rows).astype(float) ** 2)
    # an upper bound of the squares of the invariant features, which need not be among the blocks
    reference = np.sum(np.sum(features.density.density[rows].astype(float) ** 2, axis=(1, 2)) ** 2)
    return squares <= _SMALL * reference


def evenly(n, n_picked):
    """Pick some of n rows, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, n_picked).astype(int)) if n else np.zeros(0, dtype=int)


def _irreps(maker):
    return [Irrep.parse(key) for key in maker.widths if key != "0o"]


def _cost_of_features(irreps, widths):
    """Multiplications for a pair of environments."""
    return sum(irrep.dim**2 * widths[str(irrep)] for irrep in irreps)


def _cost_of_densities(irreps, l_max, n_channels):
    """Multiplications for a pair of environments: overlaps of all degrees, and the terms of ``contract_overlaps``."""
    cost = n_channels * np.sum((2 * np.arange(l_max + 1) + 1) ** 2)
    for irrep in irreps:
        first, second = 2 * pair_couplings(l_max, irrep.l, irrep.p)[0].T + 1
        cost += _COST_OF_CONTRACTION * irrep.dim * np.sum(2 * first * second + irrep.dim * 2 * first**2)
    return cost


class FeatureEnvironments:
    """A block of features with the norms of its environments.

    Attributes
    ----------
    features : EquivariantFeatures
    dim : int
        2 lambda + 1.
    scale : ndarray of shape (n_centers,)
        Inverse norms of the block, zero where it vanishes by symmetry.
    scalar_scale : ndarray of shape (n_centers,), or None
        Inverse norms of the invariant features, where these are needed.
    """

    def __init__(self, features, irrep, normalize, needs_scalars):
        self.features, self.block = features, features.block(irrep)
        self.dim = self.block.shape[1]
        scalars = features.block("0e") if "0e" in features.blocks else None
        self.scale = block_scale(self.block, scalars, irrep, normalize)
        self.scalar_scale = environment_scale(features, "0e", normalize) if needs_scalars else None

    def chunks(self, rows):
        """Rows of some environments in ranges that are multiplied at once."""
        size = max(1, _ROWS_PER_PRODUCT // self.dim)
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def products(self, rows, other, columns):
        """Scalar products with other environments, (n, d, m, d), and those of the scalars, (n, m) or None."""
        left, right = self.block[rows], other.block[columns]
        products = left.reshape(-1, left.shape[2]) @ right.reshape(-1, right.shape[2]).T
        products = products.reshape(len(rows), self.dim, len(columns), self.dim)
        if self.scalar_scale is None:
            return products, None
        return products, self.features.block("0e")[rows, 0] @ other.features.block("0e")[columns, 0].T


class DensityEnvironments:
    """Density coefficients with the norms of the features that could be made of them; attributes as above."""

    def __init__(self, features, irrep, normalize, needs_scalars):
        self.features, self.irrep = features, Irrep.parse(irrep)
        self.dim = self.irrep.dim
        self.density, self.l_max = features.density.density, features.density.maker.l_max
        n = len(self.density)
        if normalize is False:
            self.scale = np.ones(n)
        else:
            norms = np.concatenate([np.zeros(0), *(self._norms(rows) for rows in _ranges(n))])
            self.scale = np.where(norms > 0, 1 / np.sqrt(np.where(norms > 0, norms, 1)), 0)
        self.scalar_scale = self.scale if needs_scalars else None

    def chunks(self, rows):
        """Rows of some environments in ranges whose overlaps fit the cache."""
        return [rows[part] for part in _ranges(len(rows))]

    def products(self, rows, other, columns):
        """Scalar products of features with environments of the same kind, and those of the scalars or None."""
        overlaps, shape = self._overlaps(rows, other, columns), (len(rows), len(columns))
        products = self._coupled(overlaps, shape, self.irrep)
        if self.scalar_scale is None:
            return products, None
        return products, self._coupled(overlaps, shape, Irrep(0, 1))[:, 0, :, 0]

    def _overlaps(self, rows, other, columns):
        """Scalar products of densities, flat: for each l an array (m, row, n, column)."""
        left, right = self.density[rows].transpose(1, 0, 2), other.density[columns].transpose(2, 1, 0)
        sizes = [len(rows) * len(columns) * (2 * l + 1) ** 2 for l in range(self.l_max + 1)]
        flat, ends = np.empty(sum(sizes)), np.cumsum([0, *sizes])
        for l, (begin, end) in enumerate(zip(ends, ends[1:], strict=False)):
            part, width = slice(l * l, (l + 1) ** 2), left.shape[2]
            out = flat[begin:end].reshape((2 * l + 1) * len(rows), -1)
            np.matmul(left[part].reshape(-1, width), right[:, part].reshape(width, -1), out=out)
        return flat

    def _coupled(self, overlaps, shape, irrep):
        out = np.empty((shape[0], irrep.dim, shape[1], irrep.dim))
        contract_overlaps(overlaps, self.l_max + 1, *pair_couplings(self.l_max, irrep.l, irrep.p), out)
        return out

    def _norms(self, rows):
        """Squared norms of the invariant features."""
        part = self.density[rows].astype(float, copy=False)
        degrees = [part[:, l * l : (l + 1) ** 2] for l in range(self.l_max + 1)]
        overlaps = [np.einsum("imq,inq->mni", one, one, optimize=True).ravel() for one in degrees]
        return np.abs(self._coupled(np.concatenate(overlaps), (1, len(part)), Irrep(0, 1))[0, 0, :, 0])


def _ranges(n):
    return [slice(start, min(start + _ROWS_PER_BLOCK, n)) for start in range(0, n, _ROWS_PER_BLOCK)]


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
    return _inverse_norms(features.block(irrep), features.block("0e"), irrep, normalize)


def environment_counts(features):
    """Environments of each structure, at least 1."""
    return np.maximum(np.diff(features.offsets), 1)


def environment_arrays(features, irrep, normalize, rows, needs_scalars):
    """Features of some environments and what normalizes them.

    Parameters
    ----------
    features : EquivariantFeatures
    irrep : str
    normalize : {"invariant", True, False}
    rows : ndarray of int
    needs_scalars : bool

    Returns
    -------
    block : ndarray of shape (n, 2 lambda + 1, n_features)
    scalars : ndarray of shape (n, n_scalars), or None
        Normalized invariant features.
    scale : ndarray of shape (n,)
        Inverse norms of the blocks.
    """
    block = features.block_rows(irrep, rows).astype(float, copy=False)
    scalars: Any = None
    if "0e" in features.blocks:
        scalars = block if irrep == "0e" else features.block_rows("0e", rows).astype(float, copy=False)
    scale = block_scale(block, scalars, irrep, normalize)
    if not needs_scalars:
        return block, None, scale
    of_scalars = scale if irrep == "0e" else block_scale(scalars, scalars, "0e", normalize)
    return block, of_scalars[:, None] * scalars[:, 0], scale


def block_scale(block, scalars, irrep, normalize):
    """Factors as above for blocks (n, d, n_features) and scalars (n, 1, n_scalars), zero where a block is rounding.

    Scalars may be None with ``normalize=False``.
    """
    scale = np.ones(len(block)) if normalize is False else _inverse_norms(block, scalars, irrep, normalize)
    if irrep == "0e" or scalars is None:
        return scale
    return np.where(_vanishes(block, scalars), 0.0, scale)


def _inverse_norms(block, scalars, irrep, normalize):
    reference = np.einsum("idf,idf->i", scalars, scalars)
    own = irrep != "0e" and normalize is True
    squares = _frobenius_norms(block) if own else reference
    present = squares > (_VANISHING_NORM if own else _VANISHING) ** 2 * reference
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
