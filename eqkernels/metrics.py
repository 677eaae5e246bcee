r"""Errors of tensors that do not depend on the lab frame, and scorers of them.

All are built from the Frobenius norm, which no rotation changes; scikit-learn's metrics, applied to flattened
components, do change (their R2 averages over components, their MAE is a sum of moduli). Irreps split the squared error
exactly: :math:`\|\Delta\|_F^2 = \sum_\lambda \|\Delta^\lambda\|^2`.

Labels are arrays (n, 3, ..., 3), or one array (n_atoms, 3, ..., 3) for each structure, in a list or, as ``predict``
returns them for per-atom targets, in a one-dimensional object array; rows that are NaN in ``y_true`` are then left out.
Whatever else is NaN is refused. What ``fit`` takes as y, they take as ``y_true``, e.g. tensors with their indices in
one axis.

For tensors of rank 2 or more, and for per-atom targets, give these scorers to ``GridSearchCV``, ``cross_val_score`` and
the like, or leave ``scoring`` out (R2): the metrics behind scikit-learn's names, such as ``"r2"`` or
``"neg_root_mean_squared_error"``, refuse arrays of more than two axes, of which scikit-learn makes scores of NaN with
a warning (``error_score="raise"`` makes it an error). For scalars and vectors of structures the names work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from eqkernels._numeric import LARGEST_TO_SQUARE, as_floats
from eqkernels.so3 import CartesianTensor, Irrep, cartesian_tensor
from eqkernels.structures.paired import paired_rows

__all__ = [
    "frobenius_mae",
    "frobenius_rmse",
    "irrep_rmse",
    "neg_frobenius_mae",
    "neg_frobenius_rmse",
    "neg_irrep_rmse",
    "tensor_r2",
]


def frobenius_rmse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Root mean square of the Frobenius norm of the error.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        True and predicted tensors.
    sample_weight : array-like of shape (n,), default=None
        Weights of the structures.

    Returns
    -------
    float
        In the units of y.

    Examples
    --------
    >>> frobenius_rmse([[3.0, 0.0, 0.0]], [[0.0, 4.0, 0.0]])
    5.0
    """
    true, pred, weight = _paired(y_true, y_pred, sample_weight)
    return float(np.sqrt(np.average(_squares(true - pred), weights=weight)))


def frobenius_mae(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean Frobenius norm of the error; parameters and units as :func:`frobenius_rmse`."""
    true, pred, weight = _paired(y_true, y_pred, sample_weight)
    return float(np.average(np.sqrt(_squares(true - pred)), weights=weight))


def tensor_r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Coefficient of determination with the squares of all components summed.

    The reference model is the best constant that is the same in every frame: the mean of the scalar (0e) part, zero for
    all other irreps.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        True and predicted tensors.
    sample_weight : array-like of shape (n,), default=None
        Weights of the structures.

    Returns
    -------
    float
        1 for a perfect prediction; 0 for the constant; NaN where y_true is that constant itself.

    Examples
    --------
    >>> tensor_r2([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    0.8
    """
    true, pred, weight = _paired(y_true, y_pred, sample_weight)
    residual = np.sum(weight * _squares(true - pred))
    total = np.sum(weight * _squares(true - isotropic_mean(true, weight)))
    if total <= (10 * np.finfo(float).eps) ** 2 * np.sum(weight * _squares(true)):
        return 1.0 if residual == 0 else float("nan")
    return float(1 - residual / total)


def irrep_rmse(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    target: str | CartesianTensor | None = None,
    sample_weight: ArrayLike | None = None,
) -> dict[str, float]:
    """Root mean square error per component of each irrep, in the orthonormal basis.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        True and predicted tensors.
    target : str or CartesianTensor, default=None
        Name of the property, or formula of its index symmetry, e.g. ``"ij=ji"``; None: no symmetry.
    sample_weight : array-like of shape (n,), default=None
        Weights of the structures.

    Returns
    -------
    dict of str to float
        In the units of y.

    Examples
    --------
    >>> import numpy as np
    >>> irrep_rmse(np.eye(3)[None], np.zeros((1, 3, 3)), target="ij=ji")["2e"] < 1e-12
    True
    """
    true, pred, weight = _paired(y_true, y_pred, sample_weight)
    tensor = cartesian_tensor(target, true.ndim - 1)
    if tensor.rank != true.ndim - 1:
        raise ValueError(f"target {tensor.formula!r} has rank {tensor.rank}, y_true and y_pred have {true.ndim - 1}")
    errors = tensor.to_irreps(true - pred)
    return {key: float(np.sqrt(np.average(_squares(block), weights=weight) / block[0].size))
            for key, block in errors.items()}  # fmt: skip


def isotropic_mean(values, weight=None):
    """Mean of tensors (n, 3, ..., 3) that is left when all rotations and inversions are averaged: its 0e part."""
    tensor = cartesian_tensor(None, values.ndim - 1)
    blocks = tensor.to_irreps(np.average(values, axis=0, weights=weight))
    return tensor.to_cartesian({key: block if key == "0e" else 0 * block for key, block in blocks.items()})


def _squares(values):
    return np.sum(values.reshape(len(values), -1) ** 2, axis=1)


def _paired(y_true, y_pred, sample_weight):
    pairs = paired_rows(y_true, y_pred)
    pairs.check("y_pred", np.isfinite(pairs.pred), "is NaN or infinite: leave it out (atoms: with NaN in y_true)")
    for name, values in (("y_true", pairs.true), ("y_pred", pairs.pred)):
        pairs.check(
            name, np.abs(values) <= LARGEST_TO_SQUARE, f"is beyond {LARGEST_TO_SQUARE:g}, of which the square overflows"
        )
    if sample_weight is None:
        return pairs.true, pairs.pred, np.ones(len(pairs.true))
    weight, n = as_floats(sample_weight, "sample_weight"), len(y_true)
    if weight.shape != (n,) or not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(f"sample_weight must be {n} finite, non-negative numbers, got {weight!r:.60}")
    weight = weight[pairs.structures]
    if not weight.any():
        raise ValueError("sample_weight is zero for every structure that has a label: nothing is left to average")
    return pairs.true, pairs.pred, weight / weight.max()


def _negative(metric, estimator, X, y, sample_weight=None):
    return -metric(y, estimator.predict(X), sample_weight=sample_weight)


def _negative_irrep(irrep, estimator, X, y, sample_weight=None):
    errors = irrep_rmse(y, estimator.predict(X), sample_weight=sample_weight)
    if irrep not in errors:
        raise ValueError(f"irrep {irrep!r} does not occur in y, which has {', '.join(errors)}")
    return -errors[irrep]


neg_frobenius_rmse = partial(_negative, frobenius_rmse)
neg_frobenius_mae = partial(_negative, frobenius_mae)


def neg_irrep_rmse(irrep: str | Irrep) -> Callable[..., float]:
    """Scorer of the negative error of one irrep, for ``GridSearchCV(scoring=...)``.

    Parameters
    ----------
    irrep : str
        E.g. ``"2e"``.

    Returns
    -------
    callable
        With the signature ``(estimator, X, y)`` of scikit-learn's scorers; it can be pickled.

    Examples
    --------
    Several at once, one of which chooses the model:

    >>> scoring = {"0e": neg_irrep_rmse("0e"), "2e": neg_irrep_rmse("2e"), "all": neg_frobenius_rmse}
    """
    return partial(_negative_irrep, str(Irrep.parse(irrep)))
