"""Whether coefficients cancel so far that kernels in working precision would leave their rounding in predictions."""

from __future__ import annotations

import numpy as np

from eqkernels._warnings import warn
from eqkernels.kernels.contraction import Contraction
from eqkernels.kernels.environments import evenly
from eqkernels.kernels.precise_sums import contract_precisely

# Predictions whose rounding is below this part of the spread of the labels need no sums of higher precision: the
# largest deviation of rotated structures was up to eight times as large.
NEGLIGIBLE = 5e-10
# Environments from which the size of the terms of a kernel is estimated.
_ENVIRONMENTS = 64
# Rounding of kernels is at least this part of their terms, of which it is the rounding; and kernels below this part are
# nothing but rounding: environments cancel in all structures, by symmetry.
_LEAST_PART, NOTHING = 1e-2, 1e-12


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


def size_of_blocks(kernel, terms=0.0):
    """Root mean square of the blocks of a kernel matrix (n, m, d, d), of which ``terms`` is the size of the terms.

    Returns
    -------
    float
        Not so small that the rounding of the terms would be left out; zero if there is nothing but this rounding.
    """
    size = np.linalg.norm(kernel) / np.sqrt(kernel.shape[0] * kernel.shape[1])
    return max(size, _LEAST_PART * terms) if size > NOTHING * terms else 0.0


def size_of_terms(kernel, features, irrep):
    """Size that kernels between structures would have if no environments cancelled, estimated from some of these.

    Parameters
    ----------
    kernel : TensorKernel
    features : EquivariantFeatures
    irrep : str

    Returns
    -------
    float
        By the inequality of Cauchy and Schwarz an upper bound, some ten times the true size of most kernels.
    """
    rows = evenly(len(features.species), _ENVIRONMENTS)
    own = kernel.diag(features.split_centers(rows), irrep)
    root = np.mean(np.sqrt(np.trace(own, axis1=1, axis2=2)))
    mean = getattr(kernel, "aggregate", "sum") == "mean"
    return float(root * (1 if mean else len(features.species) / len(features))) ** 2


def warn_of_nothing(irrep):
    """Warn that an irrep cannot be learned, because its features vanish or cancel in all structures."""
    warn(
        f"the features of {irrep} vanish by symmetry in all structures of the training set, so that nothing can be "
        f"learned of it: it is predicted as zero. Add structures of lower symmetry, or check the parity of the target"
    )


class KernelSums:
    """Sums of kernels times coefficients of a fitted model, in higher precision only if the rounding matters.

    What the training set contributes is contracted at the first call and kept.
    """

    def __init__(self):
        self._contractions = {}

    def __call__(self, irrep, X, rounding, terms):
        """Sum for structures X.

        Parameters
        ----------
        irrep : str
        X : EquivariantFeatures
        rounding : float
            See :func:`cancellation`.
        terms : callable
            Returns the kernel, the features of the training set and the coefficients (n, 2 lambda + 1, n_columns).

        Returns
        -------
        ndarray of shape (n_structures, 2 lambda + 1, n_columns)
        """
        if rounding > NEGLIGIBLE:
            kernel, training_set, coef = terms()
            return contract_precisely(kernel, X, training_set, irrep, coef)
        return self._contraction(irrep, terms)(X)

    def vjp(self, irrep, X, cotangents, rounding, terms):
        """Differentiate sum(cotangents * sums of structures) by the features of X; arguments as above.

        Returns
        -------
        dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        """
        if rounding <= NEGLIGIBLE and irrep == "0e":
            contraction = self._contraction(irrep, terms)
            if isinstance(contraction, Contraction):
                return {"0e": contraction.scalars_vjp(X, cotangents)}
        kernel, training_set, coef = terms()
        if rounding > NEGLIGIBLE:
            return kernel.contract_vjp(X, training_set, irrep, cotangents, coef)
        return kernel.vjp(X, training_set, irrep, np.einsum("nak,mbk->nmab", cotangents, coef, optimize=True))

    def scalars_and_vjp(self, X, cotangents, rounding, terms):
        """Sum for structures X and its derivatives, of scalars, at once; None where that takes two steps.

        Returns
        -------
        pair of ndarray, of shape (n_structures, 1, n_columns) and (n_centers, 1, n_features), or None
        """
        contraction = None if rounding > NEGLIGIBLE else self._contraction("0e", terms)
        return contraction.scalars_and_vjp(X, cotangents) if isinstance(contraction, Contraction) else None

    def _contraction(self, irrep, terms):
        if irrep not in self._contractions:
            kernel, training_set, coef = terms()
            self._contractions[irrep] = kernel.contraction(training_set, irrep, coef)
        return self._contractions[irrep]
