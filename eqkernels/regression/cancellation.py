"""Whether coefficients cancel so far that kernels in working precision would leave their rounding in predictions."""

from __future__ import annotations

import numpy as np

from eqkernels.kernels.precise_sums import contract_precisely

# Predictions whose rounding is below this part of the spread of the labels need no sums of higher precision: the
# largest deviation of rotated structures was up to eight times as large.
NEGLIGIBLE = 5e-10


def cancellation(coef, size, spread):
    """Estimate the rounding of a prediction by kernels in working precision.

    Parameters
    ----------
    coef : ndarray
    size : float
        Of the kernels: the root mean square of their blocks over pairs. Not of those with one structure, for they may
        vanish by symmetry, while their terms do not.
    spread : float
        Standard deviation of the labels.

    Returns
    -------
    float
        As a part of the spread; 0 where there is nothing to predict.
    """
    return float(np.finfo(float).eps * np.linalg.norm(coef) * size / spread) if spread > 0 else 0.0


def cancellation_of_duals(dual, size, values):
    """Estimate the rounding of predictions by dual coefficients, both as the labels (n, 2 lambda + 1, n_columns)."""
    return cancellation(dual, size, np.linalg.norm(np.std(values, axis=0)))


def size_of_blocks(kernel):
    """Root mean square of the blocks of a kernel matrix (n, m, d, d)."""
    return np.linalg.norm(kernel) / np.sqrt(kernel.shape[0] * kernel.shape[1])


def contract(kernel, X, Y, irrep, coef, rounding, known=None):
    """Sum kernels times coefficients (n, 2 lambda + 1, n_columns), in higher precision only if the rounding matters.

    ``known`` are the kernels, if they are there.
    """
    if rounding > NEGLIGIBLE:
        return contract_precisely(kernel, X, Y, irrep, coef)
    kernels = kernel(X, Y, irrep=irrep) if known is None else known
    return np.einsum("nmab,mbk->nak", kernels, coef, optimize=True)


def contract_vjp(kernel, X, Y, irrep, cotangents, coef, rounding):
    """Differentiate sum(cotangents * contract(...)) by the features of X."""
    if rounding > NEGLIGIBLE:
        return kernel.contract_vjp(X, Y, irrep, cotangents, coef)
    return kernel.vjp(X, Y, irrep, np.einsum("nak,mbk->nmab", cotangents, coef, optimize=True))
