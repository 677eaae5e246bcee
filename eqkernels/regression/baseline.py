"""Baseline of the scalar part: a constant, or a sum of contributions of the elements, fitted before the model.

Only scalars may have one: no constant vector or traceless tensor is the same in every frame.
"""

from __future__ import annotations

import numpy as np

BASELINES = ("composition", "mean", None)


def fit_baseline(design, values, weight=None):
    """Least-squares contribution of each column, the shortest where several fit equally.

    Parameters
    ----------
    design : ndarray of shape (n, n_columns)
        Composition of the structures, or a column of ones.
    values : ndarray of shape (n, n_scalars)
    weight : ndarray of shape (n,), default=None

    Returns
    -------
    ndarray of shape (n_columns, n_scalars)
    """
    if weight is not None:
        root = np.sqrt(weight)[:, None]
        design, values = root * design, root * values
    return np.linalg.lstsq(design, values, rcond=None)[0]


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
