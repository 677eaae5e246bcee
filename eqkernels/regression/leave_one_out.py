"""Leave-one-out errors of one irrep, with a baseline that is fitted anew without each group of labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from eqkernels.regression.baseline import left_out_baselines
from eqkernels.regression.criteria import block_rows

# Numbers that are held at once of the rows of the groups that are left out.
_NUMBERS = 2**23


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
    columns = spectrum.root[:, None] * labels.columns
    moments, squares = spectrum.moments(columns), np.zeros(len(alphas))
    for rows in _parts(labels.rows, len(spectrum.eigenvalues)):
        part, own = spectrum.part(rows), columns[rows]
        for k, alpha in enumerate(alphas):
            inverse = spectrum.inverse(alpha)
            right = labels.without_baselines(spectrum.applied(part, own, moments, inverse), rows)
            # the square of the weighted residual is the weight times the square
            squares[k] += np.sum(spectrum.left_out(part, right, inverse) ** 2)
    return np.sqrt(squares / (labels.multiplicity * np.sum(spectrum.root**2)))


def _parts(blocks: list[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """Split the groups, so that a bounded number of rows is worked on at once."""
    for rows in blocks:
        size = rows.shape[1]
        step = max(1, _NUMBERS // (size * max(size, width)))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
