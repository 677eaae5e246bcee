"""Covariances of tensors: irreps to Cartesian components, roots, and the scale that fits held-out data.

The components of a tensor are ordered as the rows of :attr:`CartesianTensor.change_of_basis`: irrep by irrep, in it
copy by copy, in it m = -l .. l.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc

# Part of the squared residuals, or of the variance, below which an irrep has nothing but the rounding of the others.
_NOTHING = 1e-14


def clip_covariances(blocks):
    """Nearest positive semidefinite matrices (..., n, n): rounding may leave eigenvalues below zero."""
    values, vectors = np.linalg.eigh((blocks + np.swapaxes(blocks, -1, -2)) / 2)
    return (vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def copies(block, between):
    """Covariance of all copies of an irrep, from that of one (..., d, d) and that between them (k, k).

    Returns
    -------
    ndarray of shape (..., k d, k d)
    """
    size = len(between) * block.shape[-1]
    return np.einsum("kl,...ab->...kalb", between, block).reshape(*block.shape[:-2], size, size)


def join_irreps(tensor, blocks):
    """Covariance of all components (..., dim, dim) of independent irreps {irrep: (..., k d, k d)}."""
    leading = next(iter(blocks.values())).shape[:-2]
    joined = np.zeros((*leading, tensor.dim, tensor.dim))
    for (_, irrep), part in zip(tensor.irreps, tensor.irreps.slices(), strict=True):
        joined[..., part, part] = blocks[str(irrep)]
    return joined


def to_cartesian(tensor, components):
    """Covariance of Cartesian components (..., 3, ..., 3, 3, ..., 3) from that of irreps (..., dim, dim)."""
    basis = tensor.change_of_basis
    return (basis.T @ components @ basis).reshape(*components.shape[:-2], *tensor.shape, *tensor.shape)


def to_components(tensor, covariances):
    """Inverse of :func:`to_cartesian` for tensors of the declared symmetry."""
    basis = tensor.change_of_basis
    leading = covariances.shape[: covariances.ndim - 2 * tensor.rank]
    return basis @ covariances.reshape(*leading, 3**tensor.rank, 3**tensor.rank) @ basis.T


def standard_deviations(tensor, covariances):
    """Root of the diagonal, (n, 3, ..., 3), of Cartesian covariances (n, 3, ..., 3, 3, ..., 3)."""
    size = 3**tensor.rank
    diagonal = np.einsum("nxx->nx", covariances.reshape(len(covariances), size, size))
    return np.sqrt(np.maximum(diagonal, 0.0)).reshape(len(covariances), *tensor.shape)


def scale_of_irreps(tensor, residuals, covariances, within=None):
    r"""Factor of the standard deviations of each irrep that fits residuals, the same in every frame.

    .. math:: f_\lambda^2 = \frac1n \sum_i \frac{\| r_i^\lambda \|^2}{\mathrm{tr}\, C_i^\lambda} ,

    or that with which a part of all components, in a random frame, lie within their standard deviations.

    Parameters
    ----------
    tensor : CartesianTensor
    residuals : ndarray of shape (n, 3, ..., 3)
    covariances : ndarray of shape (n, 3, ..., 3, 3, ..., 3)
    within : float, default=None
        That part: a few large residuals do not decide then. None: the mean square of all of them.

    Returns
    -------
    dict of str to float
        1 for irreps that have neither residuals nor variance.

    Raises
    ------
    ValueError
        If an irrep has residuals but no variance that could be scaled.
    """
    errors = tensor.to_irreps(residuals)
    components = to_components(tensor, covariances)
    factors = {}
    for (_, irrep), part in zip(tensor.irreps, tensor.irreps.slices(), strict=True):
        squares = np.sum(errors[str(irrep)] ** 2, axis=(1, 2))
        variance = np.einsum("naa->n", components[:, part, part])
        usable = variance > _NOTHING * np.einsum("naa->n", components)
        if not usable.any() and squares.sum() > _NOTHING * np.sum(residuals**2):
            raise ValueError(
                f"all predicted variances of {irrep} are zero, the errors are not: no factor makes them fit. Fit on "
                f"labels that have a part {irrep}, from which its variance can be learned"
            )
        if not usable.any():
            factors[str(irrep)] = 1.0
            continue
        ratios, n = squares[usable] / variance[usable], part.stop - part.start
        squared = np.mean(ratios) if within is None else _square_of_part(n * ratios, n, within)
        factors[str(irrep)] = float(np.sqrt(squared))
    return factors


def _square_of_part(ratios, n, within):
    """Square of the bar that a part of the components of vectors of n components and these squared lengths lie within.

    The squares of components of unit vectors of random directions are distributed as Beta(1/2, (n - 1)/2).
    """
    largest = ratios.max(initial=0.0)
    if n == 1 or not largest > 0:
        return np.quantile(ratios, within)
    inverse = largest / np.maximum(ratios, np.finfo(float).tiny)

    def excess(square):
        return np.mean(betainc(0.5, 0.5 * (n - 1), np.minimum(1.0, square * inverse))) - within

    return largest * brentq(excess, 0.0, 1.0)


def scaled(tensor, components, factors):
    """Covariance of components (..., dim, dim) with the standard deviations of each irrep scaled."""
    scale = np.concatenate([np.full(m * irrep.dim, factors[str(irrep)]) for m, irrep in tensor.irreps])
    return scale[:, None] * components * scale


def raised(tensor, components, floors):
    """Covariance of components (..., dim, dim) with the mean variance of each irrep at least at a floor.

    What lacks is added to all components of the irrep, which leaves the covariance equivariant.
    """
    components = components.copy()
    for (_, irrep), part in zip(tensor.irreps, tensor.irreps.slices(), strict=True):
        block = components[..., part, part]
        size = block.shape[-1]
        lack = np.maximum(floors[str(irrep)] - np.einsum("...aa->...", block) / size, 0.0)
        block += lack[..., None, None] * np.eye(size)
    return components
