r"""Which structures to label next: those that leave the least variance.

The structures are taken one by one. The gain of a structure is the trace of the posterior covariance of its tensor, and
after it has been taken, the covariance of all others is conditioned on its label, whatever that will be,

.. math:: \Sigma \leftarrow \Sigma - \Sigma_{:B} (\Sigma_{BB} + N)^{-1} \Sigma_{B:} ,

which is a pivoted Cholesky decomposition by blocks: a structure like one taken before gains little.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eqkernels.regression.gpr import TensorGPR


def rank_candidates(model, X, n_candidates=None, return_gain=False):
    """Order unlabelled structures by what labelling them would gain.

    Parameters
    ----------
    model : TensorGPR, or a pipeline that ends in one
        Fitted.
    X : sequence of ase.Atoms, or EquivariantFeatures
        Candidates.
    n_candidates : int, default=None
        How many to order; None: all.
    return_gain : bool, default=False
        Return the gains too.

    Returns
    -------
    order : ndarray of int, shape (n_candidates,)
        Indices of the candidates, best first.
    gain : ndarray of shape (n_candidates,)
        With return_gain: variance of the tensor (its square Frobenius norm, in units of y squared; for labels of atoms
        summed over the atoms) when all before it are labelled. It never increases.

    Notes
    -----
    Memory grows with (n + N) N (2 lambda + 1)^2 for N training structures and candidates, time with each one ordered.

    Examples
    --------
    Twice the same candidate is worth little the second time:

    >>> from eqkernels.datasets import load_small_organics
    >>> from eqkernels.regression import TensorGPR
    >>> data = load_small_organics()
    >>> model = TensorGPR().fit(data.frames[:30], data.dipole[:30])
    >>> order = rank_candidates(model, data.frames[30:40] + data.frames[30:40])
    >>> len(set(order[:10] % 10))
    10
    """
    if hasattr(model, "steps"):
        X, model = (model[:-1].transform(X) if len(model) > 1 else X), model[-1]
    if not isinstance(model, TensorGPR):
        raise TypeError(f"model must be a TensorGPR or end in one, got {type(model).__name__}")
    check_is_fitted(model)
    features, rows, known = model._joint_rows(model._checked_input(X))
    n = len(features)
    if n_candidates is not None and not 1 <= n_candidates <= n:
        raise ValueError(f"n_candidates={n_candidates!r} must be between 1 and the number of candidates, {n}")
    groups = features.structures[known] if model.per_atom_ else np.arange(n)
    posteriors = [_Posterior(model, rows, irrep) for irrep in model.dual_coef_ if model.y_scale_[irrep]]
    order, gains, left = [], [], np.ones(n, dtype=bool)
    for _ in range(n if n_candidates is None else n_candidates):
        variance = sum((one.variance() for one in posteriors), np.zeros(len(rows)))
        gain = np.where(left, np.bincount(groups, variance, minlength=n), -np.inf)
        best = int(np.argmax(gain))
        order.append(best)
        gains.append(gain[best])
        left[best] = False
        for one in posteriors:
            one.condition(np.flatnonzero(groups == best))
    return (np.array(order), np.array(gains)) if return_gain else np.array(order)


class _Posterior:
    """Covariance between candidates of one irrep: s k(A, B) - P P^T, of which only the columns needed are made."""

    def __init__(self, model, rows, irrep):
        self.rows, self.irrep, self.kernel = rows, irrep, model.kernel_[irrep]
        self.signal, self.noise = model.signal_variance_[irrep], model.noise_level_[irrep]
        copies = np.trace(model.copy_covariance_[irrep])
        self.scale = copies * (model.y_scale_[irrep] * model.recalibration_[irrep]) ** 2
        cross = model._matrix(rows, irrep)
        n, m, d, _ = cross.shape
        white = cross.transpose(0, 2, 1, 3).reshape(n * d, m * d) @ model.factor_[irrep]
        self.parts = [self.signal * white]
        self.diagonal = self.signal * np.einsum("naa->na", self.kernel.diag(rows, irrep)).ravel()
        self.diagonal -= np.einsum("xk,xk->x", self.parts[0], self.parts[0])

    def variance(self):
        """Trace of the covariance of every row."""
        return self.scale * np.maximum(self.diagonal, 0.0).reshape(len(self.rows), -1).sum(axis=1)

    def condition(self, taken):
        """Account for labels of some rows."""
        if len(taken) == 0:
            return
        d = len(self.diagonal) // len(self.rows)
        columns = (d * taken[:, None] + np.arange(d)).ravel()
        kernel = self.kernel(self.rows, self.rows[taken], irrep=self.irrep)
        block = self.signal * kernel.transpose(0, 2, 1, 3).reshape(len(self.diagonal), len(columns))
        for part in self.parts:
            block -= part @ part[columns].T
        own = (block[columns] + block[columns].T) / 2
        values, vectors = np.linalg.eigh(own)
        root = vectors / np.sqrt(np.maximum(values, 0.0) + max(self.noise, _floor(values, self.signal)))
        self.parts.append(block @ root)
        self.diagonal -= np.einsum("xk,xk->x", self.parts[-1], self.parts[-1])


def _floor(values, signal):
    """Noise below rounding would amplify it."""
    return 100 * np.finfo(float).eps * max(values[-1], signal)
