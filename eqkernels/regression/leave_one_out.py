r"""Predictions for every structure by the model that was fitted without it, from one factorization.

With V V^T the inverse of the covariance of the labels, structure B left out has the residual
:math:`[V V^T]_{BB}^{-1} [V V^T y]_B` (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, eq.
5.12, for blocks). It is linear in y, so that a baseline, fitted anew without B, is subtracted from the columns.
"""

from __future__ import annotations

import numpy as np

from eqkernels._fitted import check_fitted
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.regression.baseline import left_out_baselines
from eqkernels.regression.covariance import copies, standard_deviations, to_cartesian
from eqkernels.regression.criteria import block_rows
from eqkernels.structures import by_structure


class LeftOutMixin:
    """Predictions of the training structures by a Gaussian process that did not see them."""

    def predict_left_out(self, return_std=False, return_cov=False):
        """Predict every training structure by the model fitted without it, at the same hyperparameters.

        For labels of atoms, all labelled atoms of a structure are left out together. The baseline is that of the
        others. Nothing is fitted anew: all follows from the factorization of the whole.

        Parameters
        ----------
        return_std, return_cov : bool, default=False
            Error bars of the labels, as in ``predict``.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, arrays (n_atoms, 3, ..., 3)
            In the order of the training set; NaN for structures of weight zero and atoms without a label.
        std or cov : as y, or with the indices of the tensor twice
        """
        if return_std and return_cov:
            raise ValueError("at most one of return_std and return_cov can be requested")
        check_fitted(self)
        tensor = self._tensor()
        blocks, covariances = {}, {}
        for irrep in self.y_fit_:
            blocks[irrep], covariances[irrep] = self._left_out_irrep(irrep)
        mean = self._of_training_set(tensor.to_cartesian(blocks))
        if not return_std and not return_cov:
            return mean
        cov = to_cartesian(tensor, self._joined(covariances))
        return mean, self._of_training_set(standard_deviations(tensor, cov) if return_std else cov)

    def _left_out_irrep(self, irrep):
        values, scale = self.y_fit_[irrep], self.y_scale_[irrep]
        n, d, multiplicity = values.shape
        labels, design, baselines = scale * values.reshape(n * d, multiplicity), None, None
        baseline = 0.0
        if irrep == "0e" and self.baseline_ is not None:
            design = self._baseline_design(EquivariantFeatures.of_checked(**self.X_fit_))
            labels = labels + design @ self.baseline_
            baselines = left_out_baselines(design, labels, self.groups_, self.sample_weight_)
            baseline = np.einsum("nq,nqk->nk", design, baselines)[:, None]
        if not scale:
            return np.zeros(values.shape) + baseline, np.zeros((n, multiplicity * d, multiplicity * d))
        rows = block_rows(self.groups_, d)
        residuals, blocks = left_out(self.factor_[irrep], labels, rows, design, baselines)
        covariance = np.empty((n, d, d))
        for own, block in zip(rows, blocks, strict=True):
            for start in range(0, own.shape[1], d):  # of each label alone
                covariance[own[:, start] // d] = block[:, start : start + d, start : start + d]
        covariance = copies(scale**2 * covariance, self.copy_covariance_[irrep])
        return (labels - residuals).reshape(values.shape), covariance

    def _of_training_set(self, values):
        if not self.per_atom_:
            whole = np.full((len(self.n_atoms_fit_), *values.shape[1:]), np.nan)
            whole[self.groups_] = values
            return whole
        whole = np.full((self.n_atoms_fit_.sum(), *values.shape[1:]), np.nan)
        whole[self.atoms_fit_] = values
        return by_structure(whole, self.n_atoms_fit_)


def left_out(factor, values, blocks, design=None, baselines=None):
    """Residuals and covariances of all blocks left out.

    Parameters
    ----------
    factor : ndarray of shape (n_rows, n_columns)
        V, whose product with its transpose is the inverse of the covariance.
    values : ndarray of shape (n_rows, multiplicity)
        Labels.
    blocks : list of ndarray of int, shape (n_blocks, size)
        Rows that are left out together.
    design : ndarray of shape (n_rows, n_elements), default=None
    baselines : ndarray of shape (n_rows, n_elements, multiplicity), default=None
        For every row the baseline that was fitted without its block.

    Returns
    -------
    residuals : ndarray of shape (n_rows, multiplicity)
        Label minus prediction.
    covariances : list of ndarray of shape (n_blocks, size, size)
        Of the residuals.
    """
    solution = factor @ (factor.T @ values)
    if design is not None:
        moved = factor @ (factor.T @ design)
        solution = solution - np.einsum("nq,nqk->nk", moved, baselines)
    residuals, covariances = np.empty_like(solution), []
    for rows in blocks:
        part = factor[rows]
        covariance = np.linalg.inv(part @ part.transpose(0, 2, 1))
        covariances.append((covariance + covariance.transpose(0, 2, 1)) / 2)
        residuals[rows] = covariance @ solution[rows]
    return residuals, covariances
