r"""Labels of several kinds with one model, each with a noise of its own: energies, forces and stress.

With the features :math:`\Phi_t` of the kinds t, of noise :math:`\gamma_t` in units of the signal variance s^2, rows
that are scaled by :math:`\sqrt{\gamma_1 / \gamma_t}` all have the noise of the first kind, so that the model is that of
:mod:`eqkernels.regression.sparse_solve` with the triangular factors of all kinds under each other: no noise needs the
labels again. The log marginal likelihood is largest where

.. math:: s^2 \gamma_t\, (n_t - \nu_t) = | y_t - \Phi_t w |^2 , \quad
          \nu_t = \operatorname{tr}\, \gamma_t^{-1} \Phi_t^T \Phi_t\, (1 + \textstyle\sum_u \gamma_u^{-1}
          \Phi_u^T \Phi_u)^{-1}

(D. J. C. MacKay, Neural Comput. 4, 415 (1992)); its gradient costs little more than itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

# Noises, in decades relative to the mean variance of a label of their kind, that are tried before they are refined.
_DECADES = np.arange(-12.0, 3.0, 2.0)
# Change of the log likelihood, for each label, that ends the search: noises are then known to some percent.
_TOLERANCE = 1e-8
_MAX_ITERATIONS = 40


class StackedProblem:
    """Least squares of one irrep on labels of several kinds, for any noises.

    Parameters
    ----------
    problems : list of SparseProblem
        One for each kind, with the same columns.
    """

    def __init__(self, problems):
        self.problems = problems
        self.counts = np.array([one.n_labels for one in problems], dtype=float)

    def merged(self, noises):
        """Problem of all labels at the noise of the first kind.

        Parameters
        ----------
        noises : sequence of float
            In units of the signal variance.

        Returns
        -------
        SparseProblem
        jacobian : float
            What the scale of the rows adds to its log likelihood.
        """
        first, factor, jacobian = self.problems[0], self.problems[0].white.copy(), 0.0
        for problem, noise in zip(self.problems[1:], noises[1:], strict=True):
            ratio = np.sqrt(noises[0] / noise)
            for start, stop in problem.white.tiles():
                factor.fold(ratio * problem.white.rows(start, stop), start)
            jacobian += problem.n_labels * np.log(ratio)
        return replace(first, white=factor, n_labels=int(self.counts.sum())), jacobian

    def likelihood(self, noises):
        """Log marginal likelihood at the best signal variance.

        Parameters
        ----------
        noises : sequence of float

        Returns
        -------
        float
        """
        problem, jacobian = self.merged(noises)
        return problem.likelihood(noises[0])[0] + jacobian

    def gradient(self, noises):
        """Log marginal likelihood and its derivatives by the logarithms of the noises.

        Parameters
        ----------
        noises : sequence of float

        Returns
        -------
        float, ndarray of shape (n_kinds,)
        """
        problem, jacobian = self.merged(noises)
        factor = problem.damped(noises[0])
        value, variance = problem.likelihood(noises[0], factor)
        upper, weights = factor.rows(0, problem.rank)[:, : problem.rank], problem.weights(factor)
        misfits, freedom = np.empty(len(noises)), np.empty(len(noises))
        for t, one in enumerate(self.problems):
            misfits[t] = _misfit(one, weights) / noises[t]
            freedom[t] = noises[0] / noises[t] * _squared_ratio(one, upper)
        return value + jacobian, 0.5 * (misfits / variance - self.counts + freedom)

    def best_noises(self, given):
        """Noises of the largest marginal likelihood.

        Parameters
        ----------
        given : list of float or "auto"
            Those that are known.

        Returns
        -------
        list of float
        """
        free = np.array([isinstance(noise, str) for noise in given])
        fixed = np.log([1.0 if isinstance(noise, str) else noise for noise in given])
        if not free.any():
            return np.exp(fixed).tolist()
        scales = np.log([one.signal() or 1.0 for one in self.problems])

        def noises(logarithms):
            return np.exp(np.where(free, logarithms, fixed))

        decades = _DECADES * np.log(10.0)
        if not self.problems[0].rank or all(one.is_fitted_by_the_baseline() for one in self.problems):
            return noises(scales + decades[len(decades) // 2]).tolist()
        values = [self.likelihood(noises(scales + shift)) for shift in decades]
        start = decades[int(np.argmax(values))]
        # labels of one kind may be thousands of times as many as those of another: equal curvatures
        unit = np.sqrt(self.counts.sum() / self.counts)[free]

        def objective(x):
            logarithms = scales.copy()
            logarithms[free] += unit * x
            value, gradient = self.gradient(noises(logarithms))
            return -value / self.counts.sum(), -unit * gradient[free] / self.counts.sum()

        bounds = np.stack([decades[0] / unit, decades[-1] / unit], axis=1)
        options = {"ftol": _TOLERANCE, "maxiter": _MAX_ITERATIONS}
        found = minimize(objective, start / unit, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        logarithms = scales.copy()
        logarithms[free] += unit * found.x
        return noises(logarithms).tolist()


def _misfit(problem, weights):
    """Sum of the squares of what the weights leave of the labels."""
    vector, squares = np.concatenate([-weights, problem.combination]), 0.0
    for start, stop in problem.white.tiles():
        squares += np.sum((problem.white.rows(start, stop) @ vector[start:]) ** 2)
    return squares


def _squared_ratio(problem, upper):
    """Squared Frobenius norm of Phi R^-1."""
    squares = 0.0
    for start, stop in problem.white.tiles():
        if start < problem.rank:
            rows = problem.white.rows(start, stop)[:, : problem.rank - start]
            part = solve_triangular(upper[start:, start:], rows.T, trans=1, check_finite=False)
            squares += np.sum(part**2)
    return squares
