r"""Baseline of the scalar part: a constant, or a sum of contributions of the elements, fitted before the model.

Only scalars may have one: no constant vector or traceless tensor is the same in every frame.

The contributions :math:`\mu + e_s` of the elements s minimize

.. math:: \sum_i w_i \Bigl( y_i - \sum_s n_{is} (\mu + e_s) \Bigr)^2 + \gamma \sum_s e_s^2 ,

which for large :math:`\gamma` is the same contribution of every atom. Elements that occur too rarely to tell theirs
would otherwise take up what belongs to others. :math:`\gamma` has the smallest error on structures left out, which
follows from one singular value decomposition (G. H. Golub, M. Heath, G. Wahba, Technometrics 21, 215 (1979)); it is
zero, plain least squares, where that is as good.
"""

from __future__ import annotations

import numpy as np

BASELINES = ("composition", "mean", None)
# Ridges that are tried, relative to the largest squared singular value. The first one stands for none: its errors on
# structures left out are those of least squares, also where an element is only in the structure left out.
_RIDGES = 10.0 ** np.array([-8.0, *np.arange(-6.0, 3.1, 0.5)])
# Least squares is kept if no ridge has a squared error smaller by this factor: then nothing is biased by rounding or
# chance, and with some dozens of structures for each element it never is.
_GAIN = 1.05
# Compositions that depend on each other are recognized by singular values below this part of the largest.
_RANK = 1e-11
# What is left of a column of the composition without one structure, below which the column has vanished.
_LOST = 1e-8


def composition_design(counts, baseline, aggregate):
    """Columns of the baseline.

    Parameters
    ----------
    counts : ndarray of shape (n, n_species)
        Atoms of each element.
    baseline : {"composition", "mean"}
    aggregate : {"sum", "mean"}
        Whether the property grows with the structure; for the mean, the composition enters as fractions.

    Returns
    -------
    ndarray of shape (n, n_columns)
    """
    if baseline == "mean":
        return np.ones((len(counts), 1))
    if aggregate == "mean":
        return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return counts


def fit_baseline(design, values, groups=None, weight=None, ridge=None):
    """Contribution of each column, those that the data do not tell the same as all others.

    Parameters
    ----------
    design : ndarray of shape (n, n_columns)
        Composition of the structures, or a column of ones.
    values : ndarray of shape (n, n_scalars)
    groups : ndarray of int, shape (n,), default=None
        What is left out together, ascending; None: each row.
    weight : ndarray of shape (n,), default=None
    ridge : float, default=None
        None: by leave-one-out.

    Returns
    -------
    ndarray of shape (n_columns, n_scalars)
    """
    problem = _Problem(design, values, weight)
    ridge = problem.best_ridge(_ranges(groups, len(design))) if ridge is None else ridge
    return problem.coefficients(problem.solution(ridge))


def best_ridge(design, values, groups=None, weight=None):
    """Ridge of :func:`fit_baseline`."""
    return _Problem(design, values, weight).best_ridge(_ranges(groups, len(design)))


def left_out_baselines(design, values, groups, weight=None):
    """Baseline fitted without each group of labels, at the ridge of all.

    Parameters
    ----------
    design : ndarray of shape (n, n_columns)
    values : ndarray of shape (n, n_scalars)
    groups : ndarray of int, shape (n,)
        What is left out together, ascending.
    weight : ndarray of shape (n,), default=None

    Returns
    -------
    ndarray of shape (n, n_columns, n_scalars)
        For every label.
    """
    problem, ranges = _Problem(design, values, weight), _ranges(groups, len(design))
    ridge = problem.best_ridge(ranges)
    solution, inverse = problem.solution(ridge), problem.inverse(ridge)
    coefficients = np.empty((len(design), design.shape[1], values.shape[1]))
    for start, stop in ranges:
        own = slice(start, stop)
        rows, residual = problem.rows[own], problem.values[own] - problem.rows[own] @ solution
        left = np.eye(len(solution)) - np.sqrt(inverse)[:, None] * (rows.T @ rows) * np.sqrt(inverse)
        if np.linalg.eigvalsh(left)[0] > _LOST:
            without = solution - inverse[:, None] * (rows.T @ _left_out(rows, residual, inverse))
            coefficients[own] = problem.coefficients(without)
        else:  # without this group some elements cannot be distinguished
            others = np.r_[0:start, stop : len(design)]
            weights = None if weight is None else weight[others]
            coefficients[own] = fit_baseline(design[others], values[others], None, weights, ridge)
    return coefficients


class _Problem:
    """Least squares in coordinates of which all but the first, the common contribution, are damped alike.

    Attributes
    ----------
    rows : ndarray of shape (n, 1 + rank)
        Weighted design; its columns are orthogonal, the first is normalized.
    values : ndarray of shape (n, n_scalars)
        Weighted.
    """

    def __init__(self, design, values, weight=None):
        root = np.ones((len(design), 1)) if weight is None else np.sqrt(weight)[:, None]
        design, self.values = root * design, root * values
        total = design.sum(axis=1)
        self.norm = np.linalg.norm(total) or 1.0
        common = total / self.norm
        self.along = common @ design
        left, singular, right = np.linalg.svd(design - common[:, None] * self.along, full_matrices=False)
        kept = singular > _RANK * np.linalg.norm(self.along)
        self.singular, self.right = singular[kept], right[kept].T
        self.rows = np.concatenate([common[:, None], left[:, kept] * self.singular], axis=1)

    def inverse(self, ridge):
        """Inverse of the Gram matrix of the rows with the ridge, which is diagonal."""
        return 1.0 / np.concatenate([[1.0], self.singular**2 + ridge])

    def solution(self, ridge):
        """Coordinates of the best fit, (1 + rank, n_scalars)."""
        return self.inverse(ridge)[:, None] * (self.rows.T @ self.values)

    def coefficients(self, solution):
        """Contribution of each column of the design."""
        deviations = self.right @ solution[1:]
        return (solution[0] - self.along @ deviations) / self.norm + deviations

    def best_ridge(self, ranges):
        """Ridge of the smallest error on groups left out, 0 where least squares is as good."""
        present = [(start, stop) for start, stop in ranges if self.rows[start:stop, 0].any()]
        if len(present) < 2 or not len(self.singular):
            return 0.0
        ridges = _RIDGES * self.singular[0] ** 2
        errors = [self._left_out_error(ridge, ranges) for ridge in ridges]
        best = int(np.argmin(errors))
        return 0.0 if errors[0] <= _GAIN * errors[best] else float(ridges[best])

    def _left_out_error(self, ridge, ranges):
        inverse, residual = self.inverse(ridge), self.values - self.rows @ self.solution(ridge)
        if len(ranges) == len(self.rows):  # single rows
            return np.sum((residual / (1.0 - (self.rows**2 @ inverse))[:, None]) ** 2)
        return sum(np.sum(_left_out(self.rows[a:b], residual[a:b], inverse) ** 2) for a, b in ranges)


def _left_out(rows, residual, inverse):
    """Residuals of rows by the fit without them, from those of the fit to all."""
    if len(rows) <= len(inverse):
        return np.linalg.solve(np.eye(len(rows)) - (rows * inverse) @ rows.T, residual)
    moved = np.linalg.solve(np.diag(1.0 / inverse) - rows.T @ rows, rows.T @ residual)
    return residual + rows @ moved


def _ranges(groups, n):
    """First row of each group and the one after its last."""
    starts = np.arange(n) if groups is None else np.unique(groups, return_index=True)[1]
    return list(zip(starts.tolist(), [*starts[1:].tolist(), n], strict=True))
