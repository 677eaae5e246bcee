"""What regressors with error bars share: ``predict`` with standard deviations or covariances, and recalibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from sklearn.utils import check_random_state

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.regression.base import TensorRegressor
from eqkernels.regression.covariance import (
    join_irreps,
    scale_of_irreps,
    scaled,
    standard_deviations,
    to_cartesian,
)
from eqkernels.so3 import cartesian_tensor
from eqkernels.structures import is_by_structure, read_labels

# Part of the labels below which an error is rounding.
_ROUNDING = 1e-12


class Recalibrated:
    """Models whose error bars can be scaled; they predict with ``return_cov`` and have ``_tensor()``."""

    predict: Callable
    _tensor: Callable

    @whole_or_nothing
    def recalibrate(self, X, y):
        """Scale the error bars of each irrep so that they fit the errors on held-out structures.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
            Structures that were not in the training set.
        y : array-like
            Their tensors, as for ``fit``.

        Returns
        -------
        self
            With the factors of the standard deviations in ``recalibration_``; predictions do not change.
        """
        check_fitted(self)
        self._reset_recalibration()
        mean, cov = self.predict(X, return_cov=True)
        self.recalibration_ = scale_of_irreps(self._tensor(), *held_out(y, mean, cov, self._tensor().rank))
        return self

    def _reset_recalibration(self):
        self.recalibration_ = {str(irrep): 1.0 for _, irrep in self._tensor().irreps}


class UncertainTensorRegressor(Recalibrated, TensorRegressor):
    """Base class: subclasses implement ``_posterior(rows, joint, include_noise)``, means and covariances by irrep."""

    def predict(self, X, return_std=False, return_cov=False, include_noise=True):
        """Cartesian tensors, with their error bars if wanted.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        return_std : bool, default=False
            Return the standard deviation of every Cartesian component too.
        return_cov : bool or "joint", default=False
            Return the covariance of the components of each tensor too, which rotates with the structure; with
            ``"joint"`` that between all tensors of X (of N structures: N x N blocks).
        include_noise : bool, default=True
            Whether the error bars are those of a label, or of the underlying function without the noise of labels.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
            For per-atom targets an array (n_atoms, 3, ..., 3) for each structure.
        std : as y
            With ``return_std``.
        cov : ndarray of shape (n_structures, 3, ..., 3, 3, ..., 3), or ndarray of object, arrays (n_atoms, ...)
            With ``return_cov=True``: first the indices of one tensor, then those of the other. Positive semidefinite.
            With ``"joint"``: an array (n, 3, ..., 3, n, 3, ..., 3), n counting structures, or for per-atom targets
            all atoms of all structures (NaN where the mean is).
        """
        if return_std and return_cov:
            raise ValueError("at most one of return_std and return_cov can be requested")
        if not return_std and not return_cov:
            return super().predict(X)
        check_fitted(self)
        X, frames = self._with_frames(X)
        X = self._checked_input(X)
        if isinstance(return_cov, str):
            mean, cov = self._predict_joint(X, return_cov, include_noise)
            return self._plus_baseline(frames, mean), cov
        means, spreads = [], []
        for features in self._blocks_of_features(X):
            rows, known = self._rows_to_predict(features)
            blocks, covariances = self._posterior(rows, False, include_noise)
            covariance = to_cartesian(self._tensor(), self._joined(covariances))
            spread = standard_deviations(self._tensor(), covariance) if return_std else covariance
            means.append(self._by_structure(features, known, self._tensors_of(rows, blocks)))
            spreads.append(self._by_structure(features, known, spread))
        return self._plus_baseline(frames, np.concatenate(means)), np.concatenate(spreads)

    def predict_irreps(self, X, include_noise=True):
        """Irreducible components and their covariances.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        include_noise : bool, default=True

        Returns
        -------
        means : dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
            n counts structures; for per-atom targets, the centers of species that had labels, structure by structure.
        covariances : dict of str to ndarray of shape (n, multiplicity (2 lambda + 1), multiplicity (2 lambda + 1))
            Copy by copy, in it m = -lambda .. lambda. They turn by :func:`~eqkernels.so3.wigner_d`.
        """
        check_fitted(self)
        X, frames = self._with_frames(X)
        means, covariances, start = [], [], 0
        for features in self._blocks_of_features(self._checked_input(X)):
            rows, known = self._rows_to_predict(features)
            blocks, spread = self._posterior(rows, False, include_noise)
            values, stop = self._tensors_of(rows, blocks), start + len(features)
            if frames is not None:
                values = self._by_structure(features, known, values)
                values = self._plus_baseline(frames[start:stop], values)
                values = self._of_rows(features, known, values)
            start = stop
            means.append(self._tensor().to_irreps(values))
            covariances.append({irrep: self.recalibration_[irrep] ** 2 * one for irrep, one in spread.items()})
        return tuple({irrep: np.concatenate([part[irrep] for part in parts]) for irrep in parts[0]}
                     for parts in (means, covariances))  # fmt: skip

    def sample_y(self, X, n_samples=1, random_state=0):
        """Draw labels of all structures of X from the posterior, with the correlations between them.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        n_samples : int, default=1
        random_state : int, RandomState or None, default=0

        Returns
        -------
        ndarray of shape (n_structures, 3, ..., 3, n_samples), or ndarray of object, (n_atoms, 3, ..., 3, n_samples)
        """
        check_fitted(self)
        random = check_random_state(random_state)
        X, frames = self._with_frames(X)
        features, rows, known = self._joint_rows(self._checked_input(X))
        blocks, covariances = self._posterior(rows, True, True)
        samples = {}
        for irrep, mean in blocks.items():
            n, d, multiplicity = mean.shape
            size = n * d * multiplicity
            covariance = covariances[irrep].transpose(0, 2, 1, 3).reshape(size, size)
            values, vectors = np.linalg.eigh(covariance)
            root = self.recalibration_[irrep] * vectors * np.sqrt(np.maximum(values, 0.0))
            drawn = (random.normal(size=(n_samples, size)) @ root.T).reshape(n_samples, n, multiplicity, d)
            samples[irrep] = mean + drawn.swapaxes(2, 3)
        drawn = self._by_structure(features, known, np.moveaxis(self._tensors_of(rows, samples), 0, -1))
        return self._plus_baseline(frames, drawn, 1)

    def _joined(self, covariances):
        return scaled(self._tensor(), join_irreps(self._tensor(), covariances), self.recalibration_)

    def _predict_joint(self, X, return_cov, include_noise):
        if return_cov != "joint":
            raise ValueError(f"return_cov={return_cov!r} must be True, False or 'joint'")
        features, rows, known = self._joint_rows(X)
        blocks, covariances = self._posterior(rows, True, include_noise)
        tensor = self._tensor()
        cov = to_cartesian(tensor, self._joined(covariances))
        cov = np.moveaxis(cov, 1, 1 + tensor.rank)
        mean = self._by_structure(features, known, self._tensors_of(rows, blocks))
        if self.per_atom_:
            ends = np.cumsum(features.n_atoms)
            atoms = ((ends - features.n_atoms)[features.structures] + features.atoms)[known]
            full = np.full((ends[-1], *tensor.shape, ends[-1], *tensor.shape), np.nan)
            inner = np.full((len(cov), *tensor.shape, ends[-1], *tensor.shape), np.nan)
            inner[(slice(None),) * (1 + tensor.rank) + (atoms,)] = cov
            full[atoms] = inner
            cov = full
        return mean, cov

    def _joint_rows(self, X):
        """Features of all of X at once, those with one row a prediction, and which centers they are."""
        if not isinstance(X, EquivariantFeatures):
            if self.descriptor_ is None:
                next(iter(self._blocks_of_features(X)), None)  # raises what predict raises
            X = cast(Any, self.descriptor_).transform(X)
        return X, *self._rows_to_predict(X)


def held_out(y, mean, cov, rank):
    """Residuals and covariances (n, ...) of all labels of structures, or of atoms that have one and a prediction."""
    per_atom = is_by_structure(mean)
    n_atoms = np.array([len(one) for one in mean]) if per_atom else np.zeros(len(mean), dtype=int)
    labels = read_labels(y, n_atoms, cartesian_tensor("ijklmn"[:rank]), per_atom)
    if not per_atom:
        return _without_rounding(labels.values - mean, labels.values), cov
    residuals = _without_rounding(labels.values - np.concatenate(mean)[labels.atoms], labels.values)
    known = np.isfinite(residuals.reshape(len(residuals), -1)).all(axis=1)
    return residuals[known], np.concatenate(cov)[labels.atoms][known]


def _without_rounding(residuals, values):
    """Residuals, zero where they are rounding of the values: a prediction without variance may be exact."""
    return np.where(np.abs(residuals) <= _ROUNDING * np.abs(values).max(initial=0.0), 0.0, residuals)
