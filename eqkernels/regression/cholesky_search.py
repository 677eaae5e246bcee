r"""Regularization of large kernel matrices, chosen at a few times the cost of one fit.

An eigendecomposition of the kernel serves all candidates (:mod:`eqkernels.regression.regularization`), but takes some
forty times as long as a Cholesky factorization :math:`K + \alpha W^{-1} = L L^T`. Beyond some size the candidates are
ranked on a part of the structures. From the best of these on, neighboring candidates are compared by what the fit to
all structures predicts of that part, each structure left out,

.. math:: r_B = \bigl[(K + \alpha)^{-1}\bigr]_{BB}^{-1} \bigl[(K + \alpha)^{-1} y\bigr]_B , \quad
          \bigl[(K + \alpha)^{-1}\bigr]_{BB} = Z_B^T Z_B , \quad L Z = E ,

with the columns E of the unit matrix that belong to the part, until a candidate is better than both its neighbors.
With the part in the last rows, Z is the inverse of the last block of L.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from eqkernels._types import Floats
from eqkernels.regression.criteria import LEAST_NOISE, ZERO, Spectrum
from eqkernels.regression.leave_one_out import left_out_errors

# Components from which this is faster than an eigendecomposition.
LARGE = 2400
# Components of the part.
_PART = 1200
# Steps of the power iteration for the largest eigenvalue, which sets the least alpha.
_STEPS = 10


def choose_by_cholesky(
    search: Any, irrep: str, kernel: Floats, values: Floats, is_stable: Callable[[Floats, Floats], bool]
) -> float:
    """Choose alpha for one irrep, and note the results in the search.

    Parameters
    ----------
    search : Search
        With ``alpha="auto"``.
    irrep : str
    kernel : ndarray of shape (n, n, d, d)
        Of the labels that are kept.
    values : ndarray of shape (n, d, multiplicity)
        All labels, minus the baseline.
    is_stable : callable
        Whether predictions by dual coefficients, and by weights of the features of such a norm, are free of rounding.

    Returns
    -------
    float
    """
    part = _part(search.model.groups_[search.kept], values.shape[1])
    of_part = search.labels(irrep, values, part)
    weight = None if search.weight is None else search.weight[part]
    spectrum = Spectrum(kernel[np.ix_(part, part)], of_part.values, weight)
    problem = _Problem(kernel, values, search, irrep, part)
    alphas = search.auto_candidates(spectrum, of_part, lambda alpha: alpha >= problem.floor)
    errors = left_out_errors(spectrum, of_part, alphas)

    def error(k):
        if not 0 <= k < len(alphas):
            return np.inf
        if k not in tried:
            tried[k] = problem.left_out_error(alphas[k], is_stable)
        return tried[k]

    tried: dict[int, float] = {}
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))
    while not np.isfinite(error(best)) and best < len(alphas) - 1:
        best += 1
    if not np.isfinite(error(best)):  # none is free of rounding: the largest is the least bad
        tried[best] = problem.left_out_error(alphas[best], lambda *_: True)
    while np.isfinite(error(best)) and (better := min((best + 1, best, best - 1), key=error)) != best:
        best = better
    errors_of = {float(alphas[k]): tried[k] for k in sorted(tried) if k == best or np.isfinite(tried[k])}
    search.note(irrep, errors_of, values[search.kept])
    return float(alphas[best])


def _part(groups, d):
    """Labels of structures, at random but always the same, that have so many components."""
    every, counts = np.unique(groups, return_counts=True)
    order = np.random.RandomState(0).permutation(len(every))
    n_chosen = max(2, int(np.searchsorted(d * np.cumsum(counts[order]), _PART)))
    return np.flatnonzero(np.isin(groups, every[order[:n_chosen]]))


class _Problem:
    """Kernel matrix of all labels, those of the part in the last rows."""

    def __init__(self, kernel, values, search, irrep, part):
        self.labels = search.labels(irrep, values)
        n, d, _ = self.labels.values.shape
        own = np.ravel(d * part[:, None] + np.arange(d))
        self.order = np.concatenate([np.setdiff1d(np.arange(n * d), own), own])
        self.rest, self.place = n * d - len(own), np.full(n * d, -1)
        self.place[own] = np.arange(len(own))
        root = np.ones(n * d) if search.weight is None else np.repeat(np.sqrt(search.weight), d)
        self.root = root[self.order, None]
        self.matrix = kernel.transpose(0, 2, 1, 3).reshape(n * d, n * d)[np.ix_(self.order, self.order)]
        self.matrix *= self.root * self.root.T
        self.values = self.labels.values.reshape(n * d, -1)[self.order]
        vector = np.ones(n * d)
        for _ in range(_STEPS):
            vector = self.matrix @ (vector / max(np.linalg.norm(vector), ZERO))
        self.floor = LEAST_NOISE * n * d * np.finfo(float).eps * max(np.linalg.norm(vector), ZERO)

    def left_out_error(self, alpha, is_stable):
        """Leave-one-out RMSE per component of the part; infinite for an alpha that is too small for the rounding."""
        matrix = self.matrix.copy()
        matrix[np.diag_indices_from(matrix)] += alpha
        try:
            lower = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return np.inf
        right = self.root * self.values
        dual = cho_solve((lower, True), right, check_finite=False)
        if not is_stable(dual, np.sqrt(max(np.sum(dual * (right - alpha * dual)), 0.0))):
            return np.inf
        columns = self.root * self.labels.columns[self.order]
        columns = cho_solve((lower, True), columns, check_finite=False)[self.rest :]
        tail = lower[self.rest :, self.rest :]
        factor = solve_triangular(tail, np.eye(len(tail)), lower=True, check_finite=False)
        inverse, square = factor.T @ factor, 0.0
        for every in self.labels.rows:
            rows = every[self.place[every[:, 0]] >= 0]
            at = self.place[rows]
            right = self.labels.without_baselines(columns[at], rows)
            square += np.sum(np.linalg.solve(inverse[at[:, :, None], at[:, None]], right) ** 2)
        return float(np.sqrt(square / (self.labels.multiplicity * np.sum(self.root[self.rest :] ** 2))))
