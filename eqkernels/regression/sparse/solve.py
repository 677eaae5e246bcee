r"""One irrep of a sparse Gaussian process: from the triangular factor to coefficients, likelihood and covariances.

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

from eqkernels._warnings import warn
from eqkernels.regression.baseline import fit_baseline
from eqkernels.regression.cancellation import cancellation
from eqkernels.regression.sparse.band import BandProblem
from eqkernels.regression.sparse.derivatives import factor_key
from eqkernels.regression.sparse.evidence import StackedProblem
from eqkernels.regression.sparse.triangular import TriangularFactor

# Decades of noise, relative to the mean variance of a label, that are tried before the best is refined.
_DECADES = np.arange(-12.0, 3.0, 2.0)
# How closely the logarithm (base 10) of the noise is found: the likelihood is flat around its maximum.
_NOISE_TOLERANCE = 0.02
# Automatic noise above this multiple of the variance of a label by the model: nothing is learned: users are warned.
_ONLY_NOISE = 10.0
# Labels that are fitted by the baseline up to this part have nothing left to learn.
_NOTHING_LEFT = 1e-14
# Labels of an irrep below this part of those of the others are their rounding.
_ROUNDING = 1e-10
# Labels of another kind whose variance by the model is this part of that of the first are not described by it at all:
# forces vanish in cells of one atom, to rounding.
_NO_SIGNAL = 1e-24
# Compositions that depend on each other show as singular values below this part of the largest.
_BASELINE_RANK = 1e-11


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
    n_labels : int
        Number of rows of Phi whose weight is not zero.
    total_weight : float
        Sum of their weights.
    """

    white: TriangularFactor
    rank: int
    combination: np.ndarray
    n_labels: int
    total_weight: float

    def damped(self, noise):
        """Factor with the rows sqrt(noise) 1 under Phi."""
        return self.white.copy().damp(np.sqrt(noise), self.rank)

    def with_best_baseline(self, factor):
        """Problem with the baseline of the largest likelihood, given ``factor = damped(noise)``."""
        multiplicity = self.combination.shape[1]
        if len(self.combination) == 1 + multiplicity:
            return self
        left = _right(factor, self.rank)[self.rank :]
        baseline = np.linalg.lstsq(left[:, 1:-multiplicity], left[:, -multiplicity:], rcond=_BASELINE_RANK)[0]
        return replace(self, combination=_combination(baseline, multiplicity))

    def targets(self):
        """Targets of all rows, rotated by the orthogonal factor: (n_columns, multiplicity)."""
        return _right(self.white, self.rank) @ self.combination

    def signal(self):
        """Mean over the labels of their variance by the model, without noise and in units of the signal variance."""
        squares = sum(
            np.sum(self.white.rows(start, stop)[:, : max(self.rank - start, 0)] ** 2)
            for start, stop in self.white.tiles()
        )
        return squares / self.total_weight

    def spread(self):
        """Mean over the labels of that part of ``signal()`` that no baseline has."""
        columns = _right(self.white, self.rank)
        basis = np.linalg.qr(columns[:, 1 : -self.combination.shape[1]])[0]
        along = sum(
            basis[start:stop].T @ np.pad(self.white.rows(start, stop), ((0, 0), (start, 0)))[:, : self.rank]
            for start, stop in self.white.tiles()
        )
        return max(self.signal() - np.sum(along**2) / self.total_weight, 0.0)

    def unexplained(self):
        """Mean over the labels of the variance of the full kernel that the sparse environments leave out."""
        prior = np.sum(_right(self.white, self.rank)[:, 0] ** 2) / self.total_weight
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
        left = _right(factor, self.rank)[self.rank :] @ self.combination
        return self._evidence(noise, np.sum(left**2), np.sum(np.log(np.abs(_diagonal(factor)[: self.rank]))))

    def _evidence(self, noise, squares, log_determinant):
        """Likelihood and signal variance from the squares of the residuals and the determinant of the factor."""
        n_values = self.n_labels * self.combination.shape[1]
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
        total = _right(self.white, self.rank)[:, -self.combination.shape[1] :]
        return np.linalg.norm(self.targets()) <= _NOTHING_LEFT * np.linalg.norm(total)

    def coefficients(self, factor, lower):
        """Weights of the components of the sparse environments that are pivots: (rank, multiplicity)."""
        if not self.rank:
            return np.zeros((0, self.combination.shape[1]))
        weights = self.weights(factor)
        return solve_triangular(lower, weights, lower=True, trans=1, check_finite=False)

    def weights(self, factor):
        """Weights of the columns of Phi: (rank, multiplicity)."""
        right = _right(factor, self.rank)[: self.rank] @ self.combination
        return solve_triangular(factor.leading(self.rank), right, check_finite=False)


@dataclass
class SparseSolution:
    """What is learned for one irrep."""

    coef: np.ndarray
    noise: float
    signal_variance: float
    log_likelihood: float
    baseline: np.ndarray | None
    damped: np.ndarray
    unexplained: float
    other_noises: dict[str, float]
    only_noise: bool
    label_norm: float
    cancellation: float


@dataclass
class OtherRows:
    """Labels that are other linear functionals of the same irrep, its derivatives: with a noise of their own.

    Attributes
    ----------
    factor : TriangularFactor
        With the columns of that of the irrep, of which those of prior and baseline are zero.
    n_labels, total_weight, log_weight : float
        Number of rows, the sum of their weights and that of the logarithms of these.
    noise : float or "auto"
    """

    factor: TriangularFactor
    n_labels: float
    total_weight: float
    log_weight: float
    noise: float | str


def solve_irreps(model, cholesky, factors, totals, derivative_totals, noises, other_noises, ridge, say=None):
    """Fit all irreps.

    Parameters
    ----------
    model : SparseModel
    cholesky, factors : dict of str to ndarray
        Data of triangular factors: of the kernels among the sparse environments, and of the labels.
    totals : ndarray of shape (3,)
    derivative_totals : dict of str to ndarray of shape (3,)
        Attributes ``label_totals_`` and ``derivative_totals_`` of the regressor.
    noises : dict of str to (float or "auto")
        Of each irrep.
    other_noises : dict of str to dict of str to (float or "auto")
        Of each kind of derivatives, by irrep.
    ridge : float
        Of the baseline.
    say : callable, default=None
        Called with a line of text on each irrep.

    Returns
    -------
    dict of str to SparseSolution
    """
    solutions = {}
    for irrep, noise in noises.items():
        rank, d, (n_labels, total_weight, log_weight) = model.n_kernel(irrep), model.dim(irrep), totals
        lower = TriangularFactor(rank, cholesky[irrep]).dense().T
        factor = TriangularFactor(model.size(irrep), factors[irrep])
        others = {}
        for kind, sums in derivative_totals.items():
            n_rows, weight, log = (d * one for one in sums)
            rows = TriangularFactor(factor.size, factors[factor_key(irrep, kind)])
            others[factor_key(irrep, kind)] = OtherRows(rows, n_rows, weight, log, other_noises[kind][irrep])
        solved = solve_irrep(
            lower, factor, n_labels * d, total_weight * d, model.multiplicities[irrep], noise, others, ridge
        )
        solved.log_likelihood += 0.5 * d * model.multiplicities[irrep] * log_weight
        solutions[irrep] = solved
        if say is not None:
            more = "".join(f", {key} noise {value:.2g}" for key, value in solved.other_noises.items())
            say(f"{irrep}: noise {solved.noise:.2g}, signal variance {solved.signal_variance:.3g}, "
                f"{rank} of {len(model.points) * d} directions{more}")  # fmt: skip
    largest = max(solved.label_norm for solved in solutions.values())
    for irrep, solved in solutions.items():
        if solved.only_noise and solved.label_norm > _ROUNDING * largest:
            warn(
                f"maximum likelihood explains the {irrep} labels as noise: the model predicts almost nothing. Add "
                "data, change kernel, or set noise="
            )
    return solutions


def solve_irrep(lower, factor, n_labels, total_weight, multiplicity, noise, others=None, ridge=0.0):
    """Fit one irrep.

    Parameters
    ----------
    lower : ndarray of shape (rank, rank)
        Cholesky factor of the kernels among the sparse environments.
    factor : TriangularFactor
        Of [kernels with the sparse environments, prior, baseline columns, labels].
    n_labels, total_weight : float
        Number of rows that went into it, and the sum of their weights.
    multiplicity : int
        Number of label columns.
    noise : float or "auto"
    others : dict of str to OtherRows, default=None
        Those that the model does not describe at all are left out.
    ridge : float, default=0.0
        Of the baseline, where there are no other labels.

    Returns
    -------
    SparseSolution
    """
    white, rank = whiten(factor, lower), len(lower)
    columns = _right(white, rank)
    design, values = columns[:, 1:-multiplicity], columns[:, -multiplicity:]
    baseline = fit_baseline(design, values, ridge=ridge) if design.shape[1] and n_labels else None
    if design.shape[1] and not n_labels:  # derivatives alone do not know of it
        baseline = np.zeros((design.shape[1], multiplicity))
    combination = _combination(baseline, multiplicity)
    problem = SparseProblem(white, rank, combination, n_labels, total_weight)
    stacked, least = {}, _NO_SIGNAL * problem.signal() if n_labels else 0.0
    for name, rows in (others or {}).items():
        other = SparseProblem(whiten(rows.factor, lower), rank, combination, rows.n_labels, rows.total_weight)
        if rows.n_labels and other.signal() > least:
            stacked[name] = other
    if not n_labels and not stacked:
        return _nothing_learned(problem, baseline)
    kinds = ([problem] if n_labels else []) + list(stacked.values())
    given = ([noise] if n_labels else []) + [others[name].noise for name in stacked]
    if len(kinds) > 1:
        stack = StackedProblem(kinds, bool(n_labels))
        noises = stack.best_noises(given)
        every, damped, shift = stack.damped(noises)
        if baseline is not None:
            baseline = -every.combination[1:-multiplicity]
    else:
        noises = [kinds[0].best_noise() if isinstance(given[0], str) else float(given[0])]
        every, damped, shift = kinds[0], kinds[0].damped(noises[0]), 0.0
    shift += 0.5 * multiplicity * sum(others[name].log_weight for name in stacked)
    value, variance = every.likelihood(noises[0], damped)
    coef = every.coefficients(damped, lower)
    first = kinds[0]
    if not n_labels:
        factor, total_weight, columns = (
            others[next(iter(stacked))].factor,
            first.total_weight,
            _right(first.white, rank),
        )
    rounding = cancellation(coef, _size(factor, rank, total_weight), _spread(columns, multiplicity, total_weight))
    only_noise = noises[0] > _ONLY_NOISE * first.signal() and not first.is_fitted_by_the_baseline()
    other_noises = dict(zip(stacked, noises[len(noises) - len(stacked) :], strict=True))
    return SparseSolution(
        coef, noises[0], variance, value + shift, baseline, damped.data, problem.unexplained() if n_labels else 0.0,
        other_noises, given[0] == "auto" and only_noise, float(np.linalg.norm(columns[:, -multiplicity:])), rounding,
    )  # fmt: skip


def _nothing_learned(problem, baseline):
    """Solution of an irrep of which no label tells anything: zero."""
    coef = np.zeros((problem.rank, problem.combination.shape[1]))
    return SparseSolution(coef, 1.0, 0.0, 0.0, baseline, problem.damped(1.0).data, 0.0, {}, False, 0.0, 0.0)


def _size(factor, n_kernel, total_weight):
    """Root mean square of the kernels of a component of a label with those of the sparse environments."""
    squares = 0.0
    for start, stop in factor.tiles():
        squares += np.sum(factor.rows(start, stop)[:, : max(n_kernel - start, 0)] ** 2)
    return np.sqrt(squares / total_weight / max(n_kernel, 1))


def _spread(columns, multiplicity, total_weight):
    """Root mean square of the labels without what the baseline or the size of a structure explains."""
    design, values = columns[:, :-multiplicity], columns[:, -multiplicity:]
    left = values - design @ np.linalg.lstsq(design, values, rcond=_BASELINE_RANK)[0]
    return np.sqrt(np.sum(left**2) / total_weight)


def _combination(baseline, multiplicity):
    """How prior, baseline columns and labels combine into targets."""
    rows = [np.zeros((1, multiplicity)), np.eye(multiplicity)]
    return np.vstack(rows if baseline is None else [rows[0], -baseline, rows[1]])


def _right(factor, rank):
    """Columns after the first ``rank``, (size, size - rank)."""
    out = np.zeros((factor.size, factor.size - rank))
    for start, stop in factor.tiles():
        rows = factor.rows(start, stop)
        begin = max(start, rank)
        out[start:stop, begin - rank :] = rows[:, begin - start :]
    return out


def _diagonal(factor):
    return np.concatenate([np.diagonal(factor.rows(start, stop)) for start, stop in factor.tiles()])
