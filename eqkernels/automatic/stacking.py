r"""Weights of models in a mean, from their predictions of structures that none of them saw.

The weights minimize

.. math:: \sum_i \Big| y_i - \sum_k w_k \hat y_{ik} \Big|^2 , \quad w_k \ge 0 ,\ \sum_k w_k = 1

(L. Breiman, Machine Learning 24, 49 (1996)), where that is worth it: the error of weights is measured on structures
that they were not found from, those of the other half.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from eqkernels.structures.paired import paired_rows

# A mean of models has to be better than the best of them by so much: it costs the time of all.
_WORTH = 0.98
# Part of errors that lie within one error bar.
_WITHIN = 0.6827


def convex_weights(y: np.ndarray, predicted: list[np.ndarray]) -> np.ndarray:
    """Find the weights of least squares, of a few models: each set of them is tried.

    Parameters
    ----------
    y : ndarray
        Tensors of structures, or an object array of those of their atoms.
    predicted : list of ndarray
        Of each model, as y.

    Returns
    -------
    ndarray of shape (n_models,)
    """
    # with weights that add up to one, the error of the mean is the mean of the errors
    errors = np.stack([_errors(y, one).ravel() for one in predicted], axis=1)
    products, n = errors.T @ errors, len(predicted)
    best, smallest = np.full(n, 1.0 / n), np.inf
    for some in (list(one) for size in range(1, n + 1) for one in combinations(range(n), size)):
        # the least squares of those models alone: products @ weights is the same for all of them
        solved = np.linalg.lstsq(products[np.ix_(some, some)], np.ones(len(some)), rcond=None)[0]
        if (solved < 0).any() or not solved.sum() > 0:
            continue
        weights = np.zeros(n)
        weights[some] = solved / solved.sum()
        if weights @ products @ weights < smallest:
            best, smallest = weights, weights @ products @ weights
    return best


def stack(y: np.ndarray, predicted: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Choose between the best model and a mean of all.

    Parameters
    ----------
    y : ndarray
        Of structures in random order.
    predicted : list of ndarray
        Of each model, as y.

    Returns
    -------
    weights : ndarray of shape (n_models,)
    left_out : ndarray
        As y: predictions with weights that were found from the other half of the structures.
    """
    squares = [np.sum(_errors(y, one) ** 2) for one in predicted]
    best = int(np.argmin(squares))
    alone = np.eye(len(predicted))[best], predicted[best]
    if len(predicted) == 1 or len(y) < 2:
        return alone
    left_out = predicted[best].copy()
    halves = np.arange(0, len(y), 2), np.arange(1, len(y), 2)
    for half, other in (halves, halves[::-1]):
        weights = convex_weights(y[other], [one[other] for one in predicted])
        left_out[half] = mean_of([one[half] for one in predicted], weights)
    if np.sum(_errors(y, left_out) ** 2) < _WORTH**2 * squares[best]:
        return convex_weights(y, predicted), left_out
    return alone


def mean_of(predicted: list[Any], weights: Any) -> Any:
    """Weighted mean of predictions, which leaves out what has no weight."""
    return sum(weight * one for weight, one in zip(weights, predicted, strict=True) if weight > 0)


def scale_of_error_bars(y: np.ndarray, predicted: np.ndarray, std: np.ndarray) -> float:
    """Find the factor with which 68 % of the errors of components lie within their error bars."""
    errors, bars = np.abs(_errors(y, predicted)), paired_rows(y, std).pred
    return float(np.quantile(errors[bars > 0] / bars[bars > 0], _WITHIN)) if (bars > 0).any() else 1.0


def _errors(y, predicted):
    pairs = paired_rows(y, predicted)
    return pairs.pred - pairs.true
