r"""Labels of several kinds with one model, each with a noise of its own: tensors, derivatives and stress.

With the features :math:`\Phi_t` of the kinds t, of noise :math:`\gamma_t` in units of the signal variance s^2, rows
that are scaled by :math:`\sqrt{\gamma_1 / \gamma_t}` all have the noise of the first kind, so that the model is that of
:mod:`eqkernels.regression.sparse.solve` with the triangular factors of all kinds under each other: no noise needs the
labels again. The baseline is that of the largest likelihood, too: were it fitted to the energies alone, forces, which
do not depend on it, would have to bend to what it leaves. The log marginal likelihood is largest where

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

# Logarithms of the noises, relative to the mean variance of a label of their kind, that are tried before the best is
# refined.
_DECADES = np.log(10.0) * np.arange(-12.0, 3.0, 2.0)
# Where that of the first kind begins, below that of the others: see best_noises.
_FIRST = np.log(1e-2)
# Largest noise of that kind, as part of the variance that the baseline leaves of its labels.
_LARGEST = 1e-2
# How far each of them may move before the search begins anew from there: a line search that jumps further may end where
# labels of some kind are declared noise.
_STEP = np.log(10.0)
_MAX_SEARCHES = 10
# A gain of the log likelihood that is not worth another search.
_GAIN = 0.1
# Change of the log likelihood, for each label, that ends the search: noises are then known to some percent.
_TOLERANCE = 1e-8
_MAX_ITERATIONS = 40


class StackedProblem:
    """Least squares of one irrep on labels of several kinds, for any noises.

    Parameters
    ----------
    problems : list of SparseProblem
        Those of each kind, with the same columns.
    precious : bool, default=True
        Whether labels of the first kind are tensors, few among the derivatives, that must not be explained as noise.
    """

    def __init__(self, problems, precious=True):
        self.problems, self.precious = problems, precious
        self.multiplicity = problems[0].combination.shape[1]
        self.counts = np.array([problem.n_labels for problem in problems], dtype=float)

    def damped(self, noises):
        """Problem of all labels at the noise of the first kind, with the best baseline.

        Parameters
        ----------
        noises : sequence of float
            In units of the signal variance.

        Returns
        -------
        problem : SparseProblem
        factor : TriangularFactor
            Its ``damped(noises[0])``.
        jacobian : float
            What the scale of the rows adds to its log likelihood.
        """
        first, factor, jacobian = self.problems[0], self.problems[0].white.copy(), 0.0
        for problem, noise in zip(self.problems[1:], noises[1:], strict=True):
            ratio = np.sqrt(noises[0] / noise)
            white = problem.white
            factor.append(lambda start, stop, white=white, ratio=ratio: ratio * white.rows(start, stop), white.size)
            jacobian += self.multiplicity * problem.n_labels * np.log(ratio)
        problem = replace(first, white=factor, n_labels=float(self.counts.sum()))
        damped = problem.damped(noises[0])
        return problem.with_best_baseline(damped), damped, jacobian

    def likelihood(self, noises):
        """Log marginal likelihood at the best signal variance.

        Parameters
        ----------
        noises : sequence of float

        Returns
        -------
        float
        """
        problem, factor, jacobian = self.damped(noises)
        return problem.likelihood(noises[0], factor)[0] + jacobian

    def gradient(self, noises):
        """Log marginal likelihood, its derivatives by the logarithms of the noises, and the signal variance.

        Parameters
        ----------
        noises : sequence of float

        Returns
        -------
        float, ndarray of shape (n_kinds,), float
        """
        problem, factor, jacobian = self.damped(noises)
        value, variance = problem.likelihood(noises[0], factor)
        upper, weights = factor.leading(problem.rank), problem.weights(factor)
        misfits, freedom = np.empty(len(noises)), np.empty(len(noises))
        for t, other in enumerate(self.problems):
            misfits[t] = _misfit(other, weights, problem.combination) / noises[t]
            freedom[t] = noises[0] / noises[t] * _squared_ratio(other, upper)
        return value + jacobian, 0.5 * (misfits / variance - self.multiplicity * (self.counts - freedom)), variance

    def best_noises(self, chosen):
        """Noises at that maximum of the marginal likelihood where labels of the first kind are described well.

        There may be others, even larger ones: where sparse points or features do not suffice, a few energies among many
        forces are cheaper to declare noise than to describe, with errors beyond their spread. The search begins where
        noises are the same part of the variances that the model gives to labels of their kind, a hundredth of it for
        the first, and goes up from there in small steps, up to errors of the first of a tenth of their spread.

        Parameters
        ----------
        chosen : list of float or "auto"
            Values of the noises, or that they are free.

        Returns
        -------
        list of float
        """
        free = np.array([isinstance(noise, str) for noise in chosen])
        if not free.any():
            return [float(noise) for noise in chosen]
        fixed = np.array([1.0 if isinstance(noise, str) else noise for noise in chosen])
        scales = np.log([problem.spread() or 1.0 for problem in self.problems])
        scales[0] += _FIRST if self.precious else 0.0

        def noises(logarithms):
            return np.where(free, np.exp(logarithms), fixed)

        if not self.problems[0].rank or all(problem.is_fitted_by_the_baseline() for problem in self.problems):
            return noises(scales + _DECADES[len(_DECADES) // 2]).tolist()
        start = scales + _DECADES[int(np.argmax([self.likelihood(noises(scales + shift)) for shift in _DECADES]))]
        # labels of one kind may be thousands of times as many as those of another: equal curvatures
        unit = np.sqrt(self.counts.sum() / self.counts)[free]

        def shifted(x):
            logarithms = start.copy()
            logarithms[free] += unit * x
            return logarithms

        def objective(x):
            value, gradient, _ = self.gradient(noises(shifted(x)))
            return -value / self.counts.sum(), -unit * gradient[free] / self.counts.sum()

        options, reach = {"ftol": _TOLERANCE, "maxiter": _MAX_ITERATIONS}, _STEP / unit
        x, largest = np.zeros(free.sum()), np.log(self._largest_noise())
        for _ in range(_MAX_SEARCHES):
            value, _, variance = self.gradient(noises(shifted(x)))
            low, high = x - reach, x + reach
            if free[0]:
                high[0] = min(high[0], (largest - np.log(variance) - start[0]) / unit[0])
                low[0] = min(low[0], high[0])
            center, bounds = np.clip(x, low, high), np.stack([low, high], axis=1)
            found = minimize(objective, center, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
            inside = np.all(np.abs(found.x - x) < 0.99 * reach)
            x = found.x
            if inside or -found.fun * self.counts.sum() - value < _GAIN:
                break
        return noises(shifted(x)).tolist()

    def _largest_noise(self):
        """Noise of the first kind beyond which the model is of no use, in units of its labels squared."""
        first = self.problems[0]
        if first.is_fitted_by_the_baseline() or not self.precious:
            return np.inf
        nothing = np.zeros((first.rank, self.multiplicity))
        return _LARGEST * _misfit(first, nothing, first.combination) / max(first.n_labels, 1.0) / self.multiplicity


def _misfit(problem, weights, combination):
    """Sum of the squares of what the weights leave of the targets."""
    vector, squares = np.concatenate([-weights, combination]), 0.0
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
