r"""Are error bars right? Coverage, likelihood and sharpness of predicted tensors.

The uncertainty is given as ``predict`` returns it: standard deviations of the Cartesian components (the shape of y) or
covariances (the indices of y twice). With covariances C nothing depends on the lab frame: the residual r
of a tensor with p independent components has :math:`r^T C^+ r`, which is distributed as chi^2 with p degrees of freedom
if the error bars are right, and regions of a given probability are ellipsoids. With standard deviations every Cartesian
component counts as a variable of its own. C^+ is the inverse in the space that C spans: a symmetric matrix has 6
independent components, not 9. See K. Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020),
https://doi.org/10.1088/2632-2153/ab7e1a.

Per-atom targets are lists or object arrays of one array for each structure; rows of NaN, which have no label or no
prediction, are left out. Whatever else is not finite, and negative standard deviations, are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from scipy.stats import chi2
from sklearn.utils import check_random_state

from eqkernels._numeric import as_floats
from eqkernels._parameters import is_integer
from eqkernels.structures import is_by_structure
from eqkernels.structures.paired import join_atoms, paired_rows

__all__ = ["calibration_curve", "miscalibration_area", "negative_log_likelihood", "propagate", "sharpness"]

# Eigenvalues of a covariance below this, relative to the largest, are directions that the tensor does not have.
_NULL = 1e-10
# An asymmetry or a negative eigenvalue of a covariance is rounding below this part of its largest entry.
_TOLERANCE = 1e-6
# The delta method steps this fraction of a standard deviation.
_STEP = 1e-3
# Curvature within one standard deviation, relative to the linear change, above which values are sampled instead.
_CURVED = 0.2


def calibration_curve(
    y_true: ArrayLike, y_pred: ArrayLike, uncertainty: ArrayLike, n_levels: int | ArrayLike = 19
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often the truth lies within the regions that should contain it with a given probability.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n, 3, ..., 3), or lists of arrays (n_atoms, 3, ..., 3)
        True and predicted tensors.
    uncertainty : array-like of shape (n, 3, ..., 3) or (n, 3, ..., 3, 3, ..., 3), or lists of such arrays
        Standard deviations or covariances (of scalars, standard deviations).
    n_levels : int or array-like of floats, default=19
        Probabilities strictly between 0 and 1; a number: as many of them, equally spaced.

    Returns
    -------
    expected, observed : ndarray of shape (n_levels,)
        Probability, and the fraction of tensors (with standard deviations: of components) within its region.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=(5000, 3))
    >>> calibration_curve(y, np.zeros_like(y), np.ones_like(y), [0.68, 0.95])[1].round(2)
    array([0.68, 0.95])
    """
    levels = _levels(n_levels)
    squares, _, dims = _standardized(y_true, y_pred, uncertainty)
    probabilities = chi2.cdf(squares, dims)
    return levels, np.array([np.mean(probabilities <= level) for level in levels])


def miscalibration_area(
    y_true: ArrayLike, y_pred: ArrayLike, uncertainty: ArrayLike, n_levels: int | ArrayLike = 99
) -> float:
    """Area between the calibration curve and the diagonal: 0 at best, 1/2 at worst; see :func:`calibration_curve`."""
    expected, observed = calibration_curve(y_true, y_pred, uncertainty, n_levels)
    gap = np.abs(np.concatenate([[0.0], observed - expected, [0.0]]))
    return float(trapezoid(gap, np.concatenate([[0.0], expected, [1.0]])))


def _levels(n_levels):
    if is_integer(n_levels) and n_levels > 0:
        return np.arange(1, n_levels + 1) / (n_levels + 1)
    levels = np.zeros(0) if np.ndim(n_levels) != 1 else as_floats(n_levels, "n_levels")
    if not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"n_levels={n_levels!r} must be a positive number of levels, or levels between 0 and 1")
    return levels


def negative_log_likelihood(y_true: ArrayLike, y_pred: ArrayLike, uncertainty: ArrayLike) -> float:
    """Mean of -log p(y_true) under the predicted normal distribution, for each independent component.

    Parameters
    ----------
    y_true, y_pred, uncertainty
        As in :func:`calibration_curve`.

    Returns
    -------
    float
        Smaller is better; infinite where a variance is zero and the prediction is not exact.

    Examples
    --------
    >>> round(negative_log_likelihood([[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]), 4)
    1.0856
    """
    squares, log_det, dims = _standardized(y_true, y_pred, uncertainty)
    # a variance of zero that is wrong is infinitely unlikely, whatever the density of those that are right
    total = np.inf if np.isinf(squares).any() else np.sum(squares + log_det)
    return float(0.5 * total / np.sum(dims) + 0.5 * np.log(2 * np.pi))


def sharpness(std: ArrayLike) -> float:
    """Root mean square of predicted standard deviations: of two calibrated models, the sharper one knows more.

    Parameters
    ----------
    std : array-like of shape (n, 3, ..., 3), or list of arrays (n_atoms, 3, ..., 3)
        Standard deviations of the Cartesian components.

    Returns
    -------
    float
        In the units of y; independent of the lab frame when all indices are there.

    Examples
    --------
    >>> round(sharpness([[3.0, 4.0, 0.0], [5.0, 0.0, 0.0]]), 4)
    2.8868
    """
    rows = join_atoms(std, "std")[0] if is_by_structure(std) else as_floats(std, "std")
    if is_by_structure(std):
        rows = rows[~_all_nan(rows)]
    if not rows.size or not np.isfinite(rows).all() or (rows < 0).any():
        raise ValueError("std must be finite numbers, zero or positive, at least one (of atoms without a label: NaN)")
    return float(np.sqrt(np.mean(rows**2)))


def propagate(
    function: str | Callable[[NDArray[np.float64]], NDArray[np.float64]],
    y_pred: ArrayLike,
    covariance: ArrayLike,
    n_samples: int = 2000,
    random_state: int | np.random.RandomState | None = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Mean and standard deviation of a scalar that derives from a predicted tensor.

    Where the scalar is nearly linear within the error bars, by the delta method, :math:`\sigma^2 = g^T C g` with the
    gradient g. Where it is not, as for :math:`|\mu|` near zero, where the derivative does not exist, from samples.

    Parameters
    ----------
    function : {"norm", "trace", "mean", "anisotropy"} or callable
        ``"norm"``: Frobenius norm (of a dipole: its modulus); ``"mean"``: a third of the trace; ``"anisotropy"``:
        :math:`\sqrt{3/2}` times the norm of the symmetric traceless part, the anisotropy of a polarizability.
        A callable maps tensors (n, 3, ..., 3) to numbers (n,).
    y_pred : array-like of shape (n, 3, ..., 3)
    covariance : array-like of shape (n, 3, ..., 3, 3, ..., 3)
        As ``predict(X, return_cov=True)`` returns it.
    n_samples : int, default=2000
        For structures that are sampled.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    mean, std : ndarray of shape (n,)

    Examples
    --------
    A dipole that is well known, and one of which nothing is known but that it is small:

    >>> mean, std = propagate("norm", [[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]], 0.01 * np.array([np.eye(3), np.eye(3)]))
    >>> mean.round(2), std.round(2)
    (array([2.  , 0.16]), array([0.1 , 0.07]))
    """
    if is_by_structure(y_pred):
        raise ValueError("y_pred has one array for each structure: give np.concatenate of it, and of covariance")
    pairs = paired_rows(y_pred, y_pred, "y_pred")
    y, cov = pairs.true, as_floats(covariance, "covariance")
    if cov.shape != (*y.shape, *y.shape[1:]):
        raise ValueError(f"covariance has shape {cov.shape}, expected {(*y.shape, *y.shape[1:])} for y_pred {y.shape}")
    if not is_integer(n_samples) or n_samples < 2:
        raise ValueError(f"n_samples={n_samples!r} must be an integer, at least 2")
    scalar = _scalar(function, y.ndim - 1)
    size = int(np.prod(y.shape[1:]))
    pairs.check("covariance", np.isfinite(cov), "is NaN or infinite")
    values, vectors = _axes(pairs, "covariance", cov)
    roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]  # columns: one standard deviation along an axis
    mean = scalar(y)
    moved = [np.array([scalar(y + sign * h * _direction(roots, k, y)) for k in range(size)])
             for h in (_STEP, 1.0) for sign in (1, -1)]  # fmt: skip
    slopes = (moved[0] - moved[1]) / (2 * _STEP)
    std = np.sqrt(np.sum(slopes**2, axis=0))
    # within a standard deviation: deviation of each axis from the straight line
    curvature = np.sqrt(np.sum((moved[2] - mean - slopes) ** 2 + (moved[3] - mean + slopes) ** 2, axis=0) / 2)
    random = check_random_state(random_state)
    for k in np.flatnonzero(curvature > _CURVED * std):
        drawn = random.normal(size=(n_samples, size)) @ roots[k].T
        samples = scalar(y[k] + drawn.reshape(n_samples, *y.shape[1:]))
        mean[k], std[k] = samples.mean(), samples.std()
    return mean, std


def _direction(roots, k, y):
    return roots[:, :, k].reshape(y.shape)


def _scalar(function, rank):
    if callable(function):
        return partial(_checked_call, function)
    functions = {"norm": _norm, "trace": _trace, "mean": lambda y: _trace(y) / 3, "anisotropy": _anisotropy}
    if function not in functions:
        raise ValueError(f"function={function!r} must be a callable or one of {sorted(functions)}")
    if function != "norm" and rank != 2:
        raise ValueError(f"function={function!r} is defined for tensors of rank 2, y_pred has rank {rank}")
    return functions[function]


def _checked_call(function, y):
    values = as_floats(function(y), "the value of function")
    if values.shape != y.shape[:1]:
        raise ValueError(f"function made {values.shape} of tensors {y.shape}: it must return one number for each")
    return values


def _norm(y):
    return np.sqrt(np.sum(y.reshape(len(y), -1) ** 2, axis=1))


def _trace(y):
    return np.trace(y, axis1=1, axis2=2)


def _anisotropy(y):
    symmetric = (y + y.swapaxes(1, 2)) / 2
    return np.sqrt(1.5) * _norm(symmetric - _trace(y)[:, None, None] / 3 * np.eye(3))


def _standardized(y_true, y_pred, uncertainty):
    """Squared residuals in units of their variance, log determinants and numbers of components."""
    pairs = paired_rows(y_true, y_pred)
    spread = as_floats(uncertainty, "uncertainty") if pairs.n_atoms is None else _spread_of_atoms(uncertainty, pairs)
    true, pred = pairs.true, pairs.pred
    if spread.shape not in (true.shape, (*true.shape, *true.shape[1:])):
        raise ValueError(
            f"uncertainty has shape {spread.shape}, expected {true.shape} for standard deviations or "
            f"{(*true.shape, *true.shape[1:])} for covariances"
        )
    if pairs.n_atoms is not None:
        known = ~(_all_nan(pred) & _all_nan(spread))  # an atom that the model cannot predict has NaN in both
        if not known.any():
            raise ValueError("no labelled atom has a prediction: all are NaN in y_pred")
        pairs = replace(pairs, true=true[known], pred=pred[known], rows=pairs.rows[known])
        true, pred, spread = pairs.true, pairs.pred, spread[known]
    pairs.check("y_pred", np.isfinite(pred), "is NaN or infinite")
    pairs.check("uncertainty", np.isfinite(spread), "is NaN or infinite")
    residual = (true - pred).reshape(len(true), -1)
    if spread.shape == true.shape:
        pairs.check("uncertainty", spread >= 0, "is negative: standard deviations are positive, or zero")
        std = spread.reshape(residual.shape)
        with np.errstate(divide="ignore"):
            return _ratio(residual**2, std**2), 2 * np.log(std), np.ones(std.shape)
    values, vectors = _axes(pairs, "uncertainty", spread)
    present = values > _NULL * np.maximum(values[:, -1:], np.finfo(float).tiny)
    along = np.einsum("nab,na->nb", vectors, residual)
    # what lies outside of the space of the covariance is rounding, unless the covariance vanishes altogether
    present[~present.any(axis=1)] = True
    squares = _ratio(np.where(present, along, 0.0) ** 2, np.where(present, np.maximum(values, 0.0), 1.0))
    with np.errstate(divide="ignore"):
        log_det = np.sum(np.log(np.where(present, np.maximum(values, 0.0), 1.0)), axis=1)
    return squares.sum(axis=1), log_det, present.sum(axis=1)


def _all_nan(values):
    return np.isnan(values.reshape(len(values), -1)).all(axis=1)


def _spread_of_atoms(uncertainty, pairs):
    """Rows of the labelled atoms."""
    if not is_by_structure(uncertainty):
        raise ValueError("y_pred has one array for each structure, uncertainty has not: give both in one form")
    spread, n_atoms = join_atoms(uncertainty, "uncertainty")
    if not np.array_equal(n_atoms, pairs.n_atoms):
        raise ValueError("uncertainty and y_pred have different numbers of structures or of atoms")
    return spread[pairs.rows]


def _axes(pairs, name, covariances):
    """Eigenvalues and eigenvectors of covariances, which must be symmetric and have no negative variance."""
    size = round(np.sqrt(covariances[0].size))
    matrices = covariances.reshape(len(covariances), size, size)
    largest = np.abs(matrices).max(axis=(1, 2))[:, None]
    asymmetry = np.abs(matrices - matrices.swapaxes(1, 2)).max(axis=1)
    pairs.check(name, asymmetry <= _TOLERANCE * largest, "is not symmetric, as a covariance is")
    values, vectors = np.linalg.eigh(matrices)
    pairs.check(name, values >= -_TOLERANCE * largest, "has a negative eigenvalue: a covariance has none")
    return values, vectors


def _ratio(squares, variances):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares == 0, 0.0, squares / variances)
