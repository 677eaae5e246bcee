"""The search for the hyperparameters of a Gaussian process: starts, bounds and the optimizer."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2
from sklearn.exceptions import ConvergenceWarning

from eqkernels._progress import Meter
from eqkernels._warnings import warn
from eqkernels.regression.criteria import NOISES, ZERO

_VARIANCES = ("signal_variance", "noise")
# Distance in log(theta) from the bound of the signal variance or of a kernel parameter at which a warning says so.
_NEAR_BOUND = 1e-6
# Share of the structures left out that the scale of the variances puts within their region of this probability: less
# would leave out the tails, more would let them decide.
_COVERED = 0.75
# Errors of structures left out below this part of the labels are rounding.
_EXACT = 1e-10


def free_parameters(model):
    """Find the indices of the free ones among signal variance, noise and those of the kernel, and their names."""
    kernel = model._kernel().hyperparameters
    free = [k for k, name in enumerate(_VARIANCES) if getattr(model, f"{name}_bounds") != "fixed"]
    names = [_VARIANCES[k] for k in free] + [f"kernel__{name}" for name in kernel]
    return np.array(free + list(range(2, 2 + len(kernel))), dtype=int), names


def maximize(model, problems, initial, random):
    """Best kernel and hyperparameters of one irrep.

    Parameters
    ----------
    model : TensorGPR
    problems : iterable of Evidence
        With kernels that differ in their exponents.
    initial : ndarray of shape (2 + n_kernel,)
        Logarithms of the given values.
    random : RandomState

    Returns
    -------
    problem : Evidence
        The best; of equal ones the first.
    parameters : ndarray of shape (2 + n_kernel,)
    value : float
        Of the criterion.
    """
    trials = []
    for problem in problems:
        parameters, value = _maximize(model, problem, initial, random)
        problem.forget_matrices()
        trials.append((problem, parameters, value))
    best, parameters, value = max(trials, key=lambda trial: trial[2])
    _warn_at_bounds(model, best, parameters, initial)
    return best, parameters, value


def _maximize(model, problem, initial, random):
    free, _ = free_parameters(model)
    if model.optimizer is None or len(free) == 0:
        return initial, problem(model.criterion, initial)[0]
    criterion = model.criterion
    bounds = _bounds(model, initial)
    meter = Meter(type(model).__name__, None, f"evaluations of the hyperparameters of {problem.irrep}", model.verbose)

    def objective(theta, eval_gradient=True):
        meter.advance(1)
        value, gradient = problem(criterion, _filled(initial, free, theta), eval_gradient)
        return (-value, -gradient[free]) if eval_gradient else -value

    candidates: list[tuple[float, int, np.ndarray]] = []
    for start in _starts(model, criterion, problem, np.clip(initial, *bounds.T), bounds, random):
        if callable(model.optimizer):
            theta, value = model.optimizer(objective, start[free], bounds[free])
        else:
            found = minimize(objective, start[free], method="L-BFGS-B", jac=True, bounds=bounds[free])
            theta, value = found.x, found.fun
        candidates.append((float(value), len(candidates), np.clip(theta, *bounds[free].T)))
    theta = min(candidates)[2]
    parameters = _filled(initial, free, theta)
    if 1 in free:  # error bars have all the noise that the fit had
        least = np.log(problem.spectrum(parameters[2:])[0].floor)
        parameters[1] = np.clip(max(parameters[1], least), *bounds[1])
    if criterion == "loo_error" and 0 in free:
        parameters[0] = np.clip(np.log(_covering_signal(problem, parameters)), *bounds[0])
    return parameters, problem(criterion, parameters)[0]


def _filled(initial, free, theta):
    full = initial.copy()
    full[free] = theta
    return full


def _bounds(model, initial):
    rows = [initial[:2].copy(), initial[:2].copy()]
    for k, name in enumerate(_VARIANCES):
        if getattr(model, f"{name}_bounds") != "fixed":
            rows[0][k], rows[1][k] = np.log(getattr(model, f"{name}_bounds"))
    return np.vstack([np.transpose(rows), model._kernel().bounds])


def _starts(model, criterion, problem, initial, bounds, random):
    """Points to start from: the best decade of noise at the given kernel, then random ones."""
    yield _best_decade(criterion, problem, initial, bounds)
    for _ in range(model.n_restarts_optimizer):
        point = random.uniform(*bounds.T)
        yield _best_decade(criterion, problem, point, bounds) if len(point) > 2 else point


def _best_decade(criterion, problem, point, bounds):
    spectrum, _ = problem.spectrum(point[2:])
    best, best_value = point, -np.inf
    # relative to the kernel itself, so that its scale does not matter
    for noise in NOISES * max(np.mean(spectrum.eigenvalues), ZERO):
        trial = point.copy()
        trial[1] = np.clip(np.log(noise), *bounds[1])
        trial[0] = np.clip(np.log(problem.best_signal(spectrum, np.exp(trial[1]))), *bounds[0])
        value, _ = problem(criterion, trial)
        if value > best_value:
            best, best_value = trial, value
    return best


def _covering_signal(problem, parameters):
    """Signal variance at which a share of the structures left out is in its own region.

    Errors have heavier tails than the model: their mean square would make the bulk of the error bars too large. Where
    all are predicted exactly, such as copies of one structure, they tell nothing of others: the likelihood decides.
    """
    spectrum, _ = problem.spectrum(parameters[2:])
    noise = np.exp(parameters[1])
    solution = spectrum.solve(noise, problem.labels)  # error bars cover what symmetry forbids, too
    ratios, total = [], 0.0
    for rows in problem.rows:
        residual = np.linalg.solve(spectrum.precision(rows, noise), solution[rows])
        total += np.sum(residual**2)
        squares = np.sum(residual * solution[rows], axis=(1, 2))
        freedom = residual.shape[2] * np.sum(np.repeat(problem.shares, problem.values.shape[1])[rows], axis=1)
        ratios.append(squares / chi2.ppf(_COVERED, freedom))
    if total <= _EXACT**2 * np.sum(spectrum.values**2):
        return problem.best_signal(spectrum, noise)
    return max(np.quantile(np.concatenate(ratios), _COVERED), np.finfo(float).tiny)


def _warn_at_bounds(model, problem, parameters, initial):
    if model.optimizer is None:
        return
    (free, names), bounds, irrep = free_parameters(model), _bounds(model, initial), problem.irrep
    chosen = problem.kernel.get_params()
    for name, integers in model._kernel().choices.items():
        if len(integers) > 1 and chosen[name] in (integers[-1], integers[0]) and chosen[name] > 1:
            warn(
                f"kernel__{name} of {irrep} ended at {chosen[name]}, a bound of its range {integers[0]} to "
                f"{integers[-1]}: widen kernel__{name}_bounds",
                ConvergenceWarning,
            )
    for k, name in zip(free, names, strict=True):
        low, high = bounds[k]
        if k == 1 or high - low < _NEAR_BOUND:  # no noise at all is a good answer
            continue
        if min(parameters[k] - low, high - parameters[k]) < _NEAR_BOUND:
            given = (
                f"; noise is fixed to {np.exp(parameters[1]):.3g}: check it against the scatter of the labels"
                if 1 not in free
                else ""
            )
            warn(
                f"{name} of {irrep} ended at {np.exp(parameters[k]):.3g}, a bound of its range [{np.exp(low):.3g}, "
                f"{np.exp(high):.3g}]: widen {name}_bounds, or fix it{given}",
                ConvergenceWarning,
            )
