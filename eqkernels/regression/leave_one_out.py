"""Leave-one-out errors of one irrep, with a baseline that is fitted anew without each group of labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from eqkernels.regression.baseline import left_out_baselines
from eqkernels.regression.criteria import block_rows

# Numbers that are held at once of the rows of the groups that are left out.
_NUMBERS = 2**23
# Part of the squared error from which on one group decides alone, and how many groups there are for each that may be
# left out because of it.
_DECIDES, _GROUPS_PER_OUTLIER = 0.5, 20


class LeftOutLabels:
    """Labels of one irrep, in groups that are left out together.

    Parameters
    ----------
    values : ndarray of shape (n, d, multiplicity)
        Minus the baseline.
    groups : ndarray of int, shape (n,)
        The structure of each, ascending.
    weight : ndarray of shape (n,), default=None
        Positive.
    design : ndarray of shape (n, n_columns), default=None
        Columns of the baseline, which is fitted anew without each group.
    baseline : ndarray of shape (n_columns, multiplicity), default=None
        That of all.
    """

    def __init__(self, values, groups, weight=None, design=None, baseline=None):
        n, d, multiplicity = values.shape
        self.values, self.rows, self.n_groups = values, block_rows(groups, d), len(np.unique(groups))
        self.columns, self.multiplicity, self.baselines = values.reshape(n * d, -1), multiplicity, None
        if design is not None:
            whole = self.columns + design @ baseline
            self.columns = np.concatenate([whole, design], axis=1)
            self.baselines = left_out_baselines(design, whole, groups, weight)

    @classmethod
    def of_model(cls, model, features, irrep, values, weight=None, kept=slice(None)):
        """Labels of an irrep of a model, with its baseline if it has one; ``kept`` are those of positive weight."""
        groups, baseline = model.groups_[kept], model.baseline_ if irrep == "0e" else None
        design = None if baseline is None else model._baseline_design(features)[kept]
        return cls(values[kept], groups, weight, design, baseline)

    def without_baselines(self, moved, rows):
        """Subtract from a linear function of the columns, of some groups, what their own baselines contribute."""
        if self.baselines is None:
            return moved
        return moved[..., : self.multiplicity] - moved[..., self.multiplicity :] @ self.baselines[rows[:, 0]]


def left_out_errors(spectrum: Any, labels: LeftOutLabels, alphas: np.ndarray) -> np.ndarray:
    """Leave-one-out RMSE per component for each alpha.

    Parameters
    ----------
    spectrum : Spectrum or LinearSpectrum
    labels : LeftOutLabels
    alphas : ndarray of shape (n_alphas,)

    Returns
    -------
    ndarray of shape (n_alphas,)
    """
    squares = left_out_squares_of_groups(spectrum, labels, alphas).sum(axis=1)
    return np.sqrt(squares / (labels.multiplicity * np.sum(spectrum.root**2)))


def left_out_squares_of_groups(spectrum: Any, labels: LeftOutLabels, alphas: np.ndarray) -> np.ndarray:
    """Weighted sums of the squares of the leave-one-out errors of each group, for each alpha.

    Parameters
    ----------
    spectrum : Spectrum or LinearSpectrum
    labels : LeftOutLabels
    alphas : ndarray of shape (n_alphas,)

    Returns
    -------
    ndarray of shape (n_alphas, n_groups)
    """
    columns = spectrum.root[:, None] * labels.columns
    moments, squares, first = spectrum.moments(columns), np.zeros((len(alphas), labels.n_groups)), 0
    for rows in _parts(labels.rows, len(spectrum.eigenvalues)):
        part, own = spectrum.part(rows), columns[rows]
        for k, alpha in enumerate(alphas):
            inverse = spectrum.inverse(alpha)
            right = labels.without_baselines(spectrum.applied(part, own, moments, inverse), rows)
            # the square of the weighted residual is the weight times the square
            residuals = spectrum.left_out(part, right, inverse)
            squares[k, first : first + len(rows)] = np.sum(residuals**2, axis=(1, 2))
        first += len(rows)
    return squares


def without_outliers(squares: np.ndarray) -> np.ndarray:
    """Errors by which a regularization is chosen, without those of groups that would decide alone.

    A structure that is the only one of its kind is predicted badly from all others, whatever the regularization. Where
    more than half of the least squared error is that of one structure, it says nothing about the others, and is left
    out of the comparison; of few structures all count.

    Parameters
    ----------
    squares : ndarray of shape (n_alphas, n_groups)
        From :func:`left_out_squares_of_groups`.

    Returns
    -------
    ndarray of shape (n_alphas,)
        Sums of the squares of the others.

    Examples
    --------
    >>> squares = np.ones((2, 30))
    >>> squares[:, 0] = [40.0, 80.0]
    >>> squares[0, 1:] = 1.1
    >>> without_outliers(squares).round(1)
    array([31.9, 29. ])
    """
    kept = np.ones(squares.shape[1], dtype=bool)
    for _ in range(squares.shape[1] // _GROUPS_PER_OUTLIER):
        sums = squares[:, kept].sum(axis=1)
        best = squares[int(np.argmin(sums))] * kept
        if np.max(best) <= _DECIDES * np.sum(best):
            break
        kept[int(np.argmax(best))] = False
    return squares[:, kept].sum(axis=1)


def _parts(blocks: list[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """Split the groups, so that a bounded number of rows is worked on at once."""
    for rows in blocks:
        size = rows.shape[1]
        step = max(1, _NUMBERS // (size * max(size, width)))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
