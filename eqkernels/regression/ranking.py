r"""Which structures to label next: those that leave the least variance.

The structures are taken one by one. The gain of a structure is the trace of the posterior covariance of its tensor, and
after it has been taken, the covariance of all others is conditioned on its label, whatever that will be,

.. math:: \Sigma \leftarrow \Sigma - \Sigma_{:B} (\Sigma_{BB} + N)^{-1} \Sigma_{B:} ,

which is a pivoted Cholesky decomposition by blocks: a structure like one taken before gains little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from eqkernels._fitted import check_fitted
from eqkernels.regression.committee import TensorCommittee
from eqkernels.regression.gpr import TensorGPR
from eqkernels.regression.sparse.gpr import SparseTensorGPR


def rank_candidates(model, X, n_candidates=None, return_gain=False):
    """Order unlabelled structures by what labelling them would gain.

    Parameters
    ----------
    model : TensorGPR, SparseTensorGPR or TensorCommittee, or a pipeline that ends in one
        Fitted. The members of a committee span few directions: when they are exhausted, the rest gains nothing and is
        in the order of X.
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
        With return_gain: variance of the tensor (its square Frobenius norm, in units of y squared; for per-atom targets
        summed over the atoms) when all before it are labelled. It never increases.

    Notes
    -----
    Memory grows with (n + N) n (2 lambda + 1)^2 for n candidates and N training structures (or sparse environments, of
    which two such matrices are held), time with each one ordered.

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
    check_fitted(model)
    posteriors: list[Any]
    if isinstance(model, TensorGPR | SparseTensorGPR):
        features, rows, known = model._joint_rows(model._checked_input(X))
        groups = features.structures[known] if model.per_atom_ else np.arange(len(features))
        n, n_rows = len(features), len(rows)
        if isinstance(model, TensorGPR):
            posteriors = [_Exact(one, rows, model.recalibration_) for one in model._posteriors().values() if one.scale]
        else:
            posteriors = [_Sparse(model, rows, irrep) for irrep in model.coef_]
    elif isinstance(model, TensorCommittee):
        X = model._read(X)
        deviations, lacking, groups = model._deviations(X)
        n, n_rows = len(X), len(groups)
        posteriors = [_Members(deviations, lacking)]
    else:
        raise TypeError(
            f"model must be a TensorGPR, SparseTensorGPR or TensorCommittee or end in one, got {type(model).__name__}"
        )
    if n_candidates is not None and not 1 <= n_candidates <= n:
        raise ValueError(f"n_candidates={n_candidates!r} must be between 1 and the number of candidates, {n}")
    order, gains, left = [], [], np.ones(n, dtype=bool)
    for _ in range(n if n_candidates is None else n_candidates):
        variance = sum((one.variance() for one in posteriors), np.zeros(n_rows))
        gain = np.where(left, np.bincount(groups, variance, minlength=n), -np.inf)
        best = int(np.argmax(gain))
        order.append(best)
        gains.append(gain[best])
        left[best] = False
        for one in posteriors:
            one.condition(np.flatnonzero(groups == best))
    return (np.array(order), np.array(gains)) if return_gain else np.array(order)


class _Conditioned:
    """Covariance C - P P^T of the rows, in which the parts P of what is known are collected."""

    def __init__(self, d, diagonal, parts, scale, noise, signal):
        self.d, self.diagonal, self.parts = d, diagonal, parts
        self.scale, self.noise, self.signal = scale, noise, signal

    _prior: Callable

    def variance(self):
        """Trace of the covariance of every row."""
        return self.scale * np.maximum(self.diagonal, 0.0).reshape(-1, self.d).sum(axis=1)

    def condition(self, taken):
        """Account for labels of some rows."""
        if len(taken) == 0:
            return
        columns = (self.d * taken[:, None] + np.arange(self.d)).ravel()
        block = self._prior(taken, columns)
        for part in self.parts:
            block -= part @ part[columns].T
        values, vectors = np.linalg.eigh((block[columns] + block[columns].T) / 2)
        # noise below rounding would amplify it
        floor = 100 * np.finfo(float).eps * max(values[-1], self.signal)
        root = vectors / np.sqrt(np.maximum(values, 0.0) + max(self.noise, floor))
        self.parts.append(block @ root)
        self.diagonal -= np.einsum("xk,xk->x", self.parts[-1], self.parts[-1])


class _Exact(_Conditioned):
    """One irrep of a Gaussian process, of whose covariance only the columns needed are made."""

    def __init__(self, process, rows, recalibration):
        self.rows, self.process, signal = rows, process, process.signal_variance
        scale = np.trace(process.between) * (process.scale * recalibration[process.irrep]) ** 2
        white = process.explained(process.kernel(rows, process.training_set, irrep=process.irrep))
        prior = process.kernel.diag(rows, process.irrep)
        diagonal = signal * np.einsum("naa->na", prior).ravel() - np.einsum("xk,xk->x", white, white)
        super().__init__(prior.shape[1], diagonal, [white], scale, signal * process.noise, signal)

    def _prior(self, taken, columns):
        kernel = self.process.kernel(self.rows, self.rows[taken], irrep=self.process.irrep)
        return self.signal * kernel.transpose(0, 2, 1, 3).reshape(len(self.diagonal), len(columns))


class _Sparse(_Conditioned):
    """One irrep of a sparse process: gamma psi psi^T + w (K - phi phi^T), in units of the signal variance."""

    def __init__(self, model, rows, irrep):
        self.rows, self.spread = rows, model._covariance(irrep)
        copies = {str(one): multiplicity for multiplicity, one in model._tensor().irreps}[irrep]
        scale = copies * self.spread.signal_variance * model.recalibration_[irrep] ** 2
        parts = [self.spread.projections(rows[part]) for part in model._slices(rows)]
        self.phi, self.psi = (np.concatenate(part) for part in zip(*parts, strict=True))
        prior = self.spread.kernel.diag(rows, irrep)
        explained, remaining = (np.einsum("xk,xk->x", one, one) for one in (self.phi, self.psi))
        unlike = np.maximum(np.einsum("naa->na", prior).ravel() - explained, 0.0)
        diagonal = self.spread.noise * remaining + self.spread.weight * unlike
        super().__init__(prior.shape[1], diagonal, [], scale, self.spread.label_noise, 1.0)

    def _prior(self, taken, columns):
        kernel = self.spread.kernel(self.rows, self.rows[taken], irrep=self.spread.irrep)
        prior = kernel.transpose(0, 2, 1, 3).reshape(len(self.diagonal), len(columns))
        unlike = prior - self.phi @ self.phi[columns].T
        return self.spread.noise * (self.psi @ self.psi[columns].T) + self.spread.weight * unlike


class _Members(_Conditioned):
    """All components of a committee: products of the deviations of its members, and what these lack by themselves."""

    def __init__(self, deviations, lacking):
        self.flat, self.lacking = deviations.reshape(-1, deviations.shape[2]), lacking.ravel()
        diagonal = np.einsum("xk,xk->x", self.flat, self.flat) + self.lacking
        super().__init__(deviations.shape[1], diagonal, [], 1.0, 0.0, diagonal.max(initial=0.0))

    def _prior(self, taken, columns):
        prior = self.flat @ self.flat[columns].T
        prior[columns, np.arange(len(columns))] += self.lacking[columns]
        return prior
