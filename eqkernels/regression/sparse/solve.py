r"""One irrep of a sparse Gaussian process: from the triangular factor to coefficients and likelihood, for any noise.

With the kernels K of N labels with M sparse environments and the pivoted Cholesky factor :math:`K_{MM} = L L^T`, the
model (DTC: M. Seeger, C. Williams, N. Lawrence, AISTATS (2003); J. Quinonero-Candela, C. E. Rasmussen, JMLR 6, 1939
(2005)) is linear in the features :math:`\Phi = K L^{-T}`,

.. math:: y \sim \mathcal N(0, s^2 (\Phi \Phi^T + \gamma)) .

Everything follows from the QR factor of :math:`[\Phi; \sqrt\gamma\, 1]`, never from :math:`\Phi^T \Phi` (RKHS-QR:
L. Foster et al., JMLR 10, 857 (2009)), so that the noise may be as small as rounding allows. Directions of the sparse
environments that are linear combinations of others, to rounding, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf
from scipy.optimize import minimize_scalar

from eqkernels.regression.sparse.band import BandProblem
from eqkernels.regression.sparse.triangular import TriangularFactor

# Decades of noise, relative to the mean variance of a label, that are tried before the best is refined.
_DECADES = np.arange(-12.0, 3.0, 2.0)
# How closely the logarithm (base 10) of the noise is found: the likelihood is flat around its maximum.
_NOISE_TOLERANCE = 0.02
# Labels that are fitted by the baseline up to this part have nothing left to learn.
_NOTHING_LEFT = 1e-14
# Compositions that depend on each other show as singular values below this part of the largest.
BASELINE_RANK = 1e-11


def pivoted_cholesky(matrix):
    """Factor a positive semidefinite matrix, without the rows that depend on others.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        Overwritten.

    Returns
    -------
    pivots : ndarray of int, shape (rank,)
        The rows that are kept.
    lower : ndarray of shape (rank, rank)
        ``matrix[pivots][:, pivots] = lower @ lower.T``.
    """
    # each pivot is what up to n subtractions leave: smaller ones are rounding, which no data should rely on
    tolerance = len(matrix) * np.finfo(float).eps * np.diagonal(matrix).max(initial=0.0)
    factor, pivots, rank, _ = dpstrf(matrix.T, tol=tolerance, lower=1, overwrite_a=1)
    if tolerance == 0.0:  # features that vanish by symmetry in all sparse environments
        rank = 0
    return pivots[:rank].astype(np.int64) - 1, np.tril(factor[:rank, :rank])


def whiten(factor, lower):
    """Factor of [Phi, other columns] from that R of [K, other columns].

    K has the columns of the pivots in their order, so that R L^-T is upper triangular as it is.

    Parameters
    ----------
    factor : TriangularFactor
    lower : ndarray of shape (rank, rank)
        From :func:`pivoted_cholesky`.

    Returns
    -------
    TriangularFactor
    """
    white, rank = factor.copy(), len(lower)
    for start, stop in factor.tiles():
        rows, count = factor.rows(start, stop), rank - start
        if count > 0:
            part = solve_triangular(lower[start:, start:], rows[:, :count].T, lower=True, check_finite=False)
            rows[:, :count] = part.T
            white.set_rows(start, rows)
    return white


@dataclass
class SparseProblem:
    """Least squares of one irrep, for any noise.

    Attributes
    ----------
    white : TriangularFactor
        From :func:`whiten`.
    rank : int
        Number of columns of Phi.
    combination : ndarray of shape (n_columns - rank, multiplicity)
        How the other columns combine into the targets: labels minus baseline.
    n_labels : float
        Number of independent rows of Phi whose weight is not zero (:mod:`eqkernels.regression.independence`).
    total_weight : float
        Sum of their weights.
    """

    white: TriangularFactor
    rank: int
    combination: np.ndarray
    n_labels: float
    total_weight: float

    def damped(self, noise):
        """Factor with the rows sqrt(noise) 1 under Phi."""
        return self.white.copy().damp(np.sqrt(noise), self.rank)

    def with_best_baseline(self, factor):
        """Problem with the baseline of the largest likelihood, given ``factor = damped(noise)``."""
        multiplicity = self.combination.shape[1]
        if len(self.combination) == 1 + multiplicity:
            return self
        left = right_columns(factor, self.rank)[self.rank :]
        baseline = np.linalg.lstsq(left[:, 1:-multiplicity], left[:, -multiplicity:], rcond=BASELINE_RANK)[0]
        return replace(self, combination=combined(baseline, multiplicity))

    def targets(self):
        """Targets of all rows, rotated by the orthogonal factor: (n_columns, multiplicity)."""
        return right_columns(self.white, self.rank) @ self.combination

    def signal(self):
        """Mean over the labels of their variance by the model, without noise and in units of the signal variance."""
        squares = sum(
            np.sum(self.white.rows(start, stop)[:, : max(self.rank - start, 0)] ** 2)
            for start, stop in self.white.tiles()
        )
        return squares / self.total_weight

    def spread(self):
        """Mean over the labels of that part of ``signal()`` that no baseline has."""
        columns = right_columns(self.white, self.rank)
        basis = np.linalg.qr(columns[:, 1 : -self.combination.shape[1]])[0]
        along = sum(
            basis[start:stop].T @ np.pad(self.white.rows(start, stop), ((0, 0), (start, 0)))[:, : self.rank]
            for start, stop in self.white.tiles()
        )
        return max(self.signal() - np.sum(along**2) / self.total_weight, 0.0)

    def unexplained(self):
        """Mean over the labels of the variance of the full kernel that the sparse environments leave out."""
        prior = np.sum(right_columns(self.white, self.rank)[:, 0] ** 2) / self.total_weight
        return max(prior - self.signal(), 0.0)

    def likelihood(self, noise, factor=None):
        """Log marginal likelihood at the best signal variance, and that variance.

        Parameters
        ----------
        noise : float
            In units of the signal variance.
        factor : TriangularFactor, optional
            ``damped(noise)``.

        Returns
        -------
        float, float
        """
        factor = self.damped(noise) if factor is None else factor
        left = right_columns(factor, self.rank)[self.rank :] @ self.combination
        return self._evidence(noise, np.sum(left**2), np.sum(np.log(np.abs(_diagonal(factor)[: self.rank]))))

    def _evidence(self, noise, squares, log_determinant):
        """Likelihood and signal variance from the squares of the residuals and the determinant of the factor."""
        n_values = max(self.n_labels * self.combination.shape[1], np.finfo(float).tiny)
        variance = squares / noise / n_values
        if variance == 0.0:
            return np.inf, 0.0
        log_determinant = 2 * log_determinant + (self.n_labels - self.rank) * np.log(noise)
        value = n_values * (np.log(2 * np.pi * variance) + 1) + self.combination.shape[1] * log_determinant
        return -0.5 * value, variance

    def best_noise(self):
        """Noise of the largest marginal likelihood, in units of the signal variance."""
        signal = self.signal()  # zero where every component cancels by symmetry
        scale = np.log10(signal) if signal else 0.0
        if not signal or self.is_fitted_by_the_baseline():
            return 10.0 ** (scale + _DECADES[len(_DECADES) // 2])
        targets = self.targets()
        problem, beyond = BandProblem(self.white.leading(self.rank), targets[: self.rank]), targets[self.rank :]

        def objective(logarithm):
            log_determinant, squares = problem.damped(10.0 ** (0.5 * logarithm))
            return -self._evidence(10.0**logarithm, squares + np.sum(beyond**2), log_determinant)[0]

        best = _DECADES[int(np.argmin([objective(scale + decade) for decade in _DECADES]))]
        bounds = scale + max(best - 2, _DECADES[0]), scale + min(best + 2, _DECADES[-1])
        found = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": _NOISE_TOLERANCE})
        return 10.0 ** float(found.x)

    def is_fitted_by_the_baseline(self):
        """Whether nothing is left to learn."""
        total = right_columns(self.white, self.rank)[:, -self.combination.shape[1] :]
        return np.linalg.norm(self.targets()) <= _NOTHING_LEFT * np.linalg.norm(total)

    def coefficients(self, factor, lower):
        """Weights of the components of the sparse environments that are pivots: (rank, multiplicity)."""
        if not self.rank:
            return np.zeros((0, self.combination.shape[1]))
        weights = self.weights(factor)
        return solve_triangular(lower, weights, lower=True, trans=1, check_finite=False)

    def weights(self, factor):
        """Weights of the columns of Phi: (rank, multiplicity)."""
        right = right_columns(factor, self.rank)[: self.rank] @ self.combination
        return solve_triangular(factor.leading(self.rank), right, check_finite=False)


def combined(baseline, multiplicity):
    """How prior, baseline columns and labels combine into targets."""
    rows = [np.zeros((1, multiplicity)), np.eye(multiplicity)]
    return np.vstack(rows if baseline is None else [rows[0], -baseline, rows[1]])


def right_columns(factor, rank):
    """Columns after the first ``rank``, (size, size - rank)."""
    out = np.zeros((factor.size, factor.size - rank))
    for start, stop in factor.tiles():
        rows = factor.rows(start, stop)
        begin = max(start, rank)
        out[start:stop, begin - rank :] = rows[:, begin - start :]
    return out


def _diagonal(factor):
    return np.concatenate([np.diagonal(factor.rows(start, stop)) for start, stop in factor.tiles()])
