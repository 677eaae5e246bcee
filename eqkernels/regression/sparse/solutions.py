"""What a sparse fit learns, irrep by irrep: noises, coefficients and covariances, from labels and their derivatives.

Each irrep is a :class:`~eqkernels.regression.sparse.solve.SparseProblem` of its labels, stacked with those of its
derivatives (:mod:`eqkernels.regression.sparse.evidence`) as far as there are any, or of these alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels._warnings import warn
from eqkernels.regression.baseline import fit_baseline
from eqkernels.regression.cancellation import cancellation
from eqkernels.regression.sparse.derivatives import factor_key
from eqkernels.regression.sparse.evidence import StackedProblem
from eqkernels.regression.sparse.solve import BASELINE_RANK, SparseProblem, combined, right_columns, whiten
from eqkernels.regression.sparse.triangular import TriangularFactor

# Automatic noise above this multiple of the variance of a label by the model: nothing is learned: users are warned.
_ONLY_NOISE = 10.0
# Labels of an irrep below this part of those of the others are their rounding.
_ROUNDING = 1e-10
# Labels of another kind whose variance by the model is this part of that of the first are not described by it at all:
# forces vanish in cells of one atom, to rounding.
_NO_SIGNAL = 1e-24
# How often noise and baseline are found for each other at most, and change of the logarithm (base 10) of the noise that
# ends it.
_MOST_ROUNDS, _SAME_NOISE = 6, 0.1


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
    totals : dict of str to ndarray of shape (3,)
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
        rank, d, (n_labels, total_weight, log_weight) = model.n_kernel(irrep), model.dim(irrep), totals[irrep]
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
        Number of independent rows that went into it, and the sum of their weights: zero where no label is known.
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
    columns = right_columns(white, rank)
    design, values = columns[:, 1:-multiplicity], columns[:, -multiplicity:]
    others = others or {}
    baseline = fit_baseline(design, values, ridge=ridge) if design.shape[1] and total_weight else None
    in_derivatives = any(right_columns(rows.factor, rank)[:, 1:-multiplicity].any() for rows in others.values())
    if in_derivatives:
        baseline = _of_all_labels(
            [columns, *(right_columns(rows.factor, rank) for rows in others.values())], multiplicity
        )
    elif design.shape[1] and not total_weight:  # derivatives alone do not know of it
        baseline = np.zeros((design.shape[1], multiplicity))
    combination = combined(baseline, multiplicity)
    problem = SparseProblem(white, rank, combination, n_labels, total_weight)
    stacked, least = {}, _NO_SIGNAL * problem.signal() if total_weight else 0.0
    for name, rows in others.items():
        other = SparseProblem(whiten(rows.factor, lower), rank, combination, rows.n_labels, rows.total_weight)
        if rows.n_labels and other.signal() > least:
            stacked[name] = other
    if not total_weight and not stacked:
        return _nothing_learned(problem, baseline)
    kinds = ([problem] if total_weight else []) + list(stacked.values())
    given = ([noise] if total_weight else []) + [others[name].noise for name in stacked]
    if len(kinds) > 1:
        stack = StackedProblem(kinds, bool(total_weight))
        noises = stack.best_noises(given)
        every, damped, shift = stack.damped(noises)
        if baseline is not None:
            baseline = -every.combination[1:-multiplicity]
    else:
        every, noises = kinds[0], [kinds[0].best_noise() if isinstance(given[0], str) else float(given[0])]
        damped, shift = every.damped(noises[0]), 0.0
        if in_derivatives:
            every, damped, noises = _with_baseline(every, damped, noises[0], isinstance(given[0], str))
            baseline = -every.combination[1:-multiplicity]
    shift += 0.5 * multiplicity * sum(others[name].log_weight for name in stacked)
    value, variance = every.likelihood(noises[0], damped)
    coef = every.coefficients(damped, lower)
    first, known = kinds[0], total_weight > 0
    if not known:
        factor, total_weight, columns = (
            others[next(iter(stacked))].factor,
            first.total_weight,
            right_columns(first.white, rank),
        )
    rounding = cancellation(coef, _size(factor, rank, total_weight), _spread(columns, multiplicity, total_weight))
    only_noise = noises[0] > _ONLY_NOISE * first.signal() and not first.is_fitted_by_the_baseline()
    other_noises = dict(zip(stacked, noises[len(noises) - len(stacked) :], strict=True))
    return SparseSolution(
        coef, noises[0], variance, value + shift, baseline, damped.data, problem.unexplained() if known else 0.0,
        other_noises, given[0] == "auto" and only_noise, float(np.linalg.norm(columns[:, -multiplicity:])), rounding,
    )  # fmt: skip


def _of_all_labels(columns, multiplicity):
    """Baseline of least squares on labels of all kinds, of which each has the columns prior, baseline, labels."""
    rows = np.concatenate(columns)
    return np.linalg.lstsq(rows[:, 1:-multiplicity], rows[:, -multiplicity:], rcond=BASELINE_RANK)[0]


def _with_baseline(problem, damped, noise, is_free):
    """Problem with the baseline of the largest likelihood, its factor and noise, each of them found for the other."""
    for _ in range(_MOST_ROUNDS):
        problem, last = problem.with_best_baseline(damped), noise
        noise = problem.best_noise() if is_free else noise
        if abs(np.log10(noise / last)) < _SAME_NOISE:
            break
        damped = problem.damped(noise)
    return problem, damped, [last]


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
    left = values - design @ np.linalg.lstsq(design, values, rcond=BASELINE_RANK)[0]
    return np.sqrt(np.sum(left**2) / total_weight)
