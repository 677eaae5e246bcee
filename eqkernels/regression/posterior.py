r"""Gaussian process of one irrep after its labels: mean, covariance, and what it predicts of labels that are left out.

With V V^T the inverse of the covariance of the labels, structure B left out has the residual
:math:`[V V^T]_{BB}^{-1} [V V^T y]_B` (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, eq.
5.12, for blocks). It is linear in y, so that a baseline, fitted anew without B, is subtracted from the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.regression.cancellation import KernelSums, cancellation_of_duals
from eqkernels.regression.covariance import clip_covariances, copies
from eqkernels.regression.criteria import Spectrum
from eqkernels.regression.leave_one_out import LeftOutLabels


@dataclass
class Posterior:
    """Mean and covariance of the labels of one irrep.

    Attributes
    ----------
    sums : KernelSums
        Of the model.
    kernel : TensorKernel
    training_set : EquivariantFeatures
    irrep : str
    dual : ndarray of shape (n, d, multiplicity)
        Dual coefficients of the mean.
    cancellation : float
        Rounding that kernels in working precision would leave in the mean.
    factor : ndarray of shape (n d, n_columns)
        V, whose product with its transpose is the inverse of the covariance of the normalized labels.
    signal_variance, noise : float
    scale : float
        By which the labels were divided to normalize them; 0 where there are none.
    between : ndarray of shape (multiplicity, multiplicity)
        Covariance of the copies of the irrep.
    """

    sums: KernelSums
    kernel: TensorKernel
    training_set: EquivariantFeatures
    irrep: str
    dual: Floats
    cancellation: float
    factor: Floats
    signal_variance: float
    noise: float
    scale: float
    between: Floats

    def mean(self, features: EquivariantFeatures) -> Floats:
        """Mean (n, d, multiplicity)."""
        terms = self.kernel, self.training_set, self.dual
        return self.sums(self.irrep, features, self.cancellation, lambda: terms)

    def vjp(self, features: EquivariantFeatures, cotangents: Floats) -> Blocks:
        """Differentiate sum(cotangents * mean) by the features."""
        terms = self.kernel, self.training_set, self.dual
        return self.sums.vjp(self.irrep, features, cotangents, self.cancellation, lambda: terms)

    def mean_and_covariance(
        self, features: EquivariantFeatures, joint: bool = False, include_noise: bool = True
    ) -> tuple[Floats, Floats]:
        """Mean, and covariance (n, k d, k d), or between all structures (n, n, k d, k d), k the multiplicity."""
        cross = self.kernel(features, self.training_set, irrep=self.irrep)
        covariance = self._covariance(features, cross, joint, include_noise)
        return self.mean(features), copies(self.scale**2 * covariance, self.between)

    def explained(self, cross: Floats) -> Floats:
        """Matrix (n d, n_columns), whose product with its transpose is what the labels take off the variance."""
        n, m, d, _ = cross.shape
        return self.signal_variance * (cross.transpose(0, 2, 1, 3).reshape(n * d, m * d) @ self.factor)

    def left_out(self, labels: LeftOutLabels) -> tuple[Floats, Floats]:
        """Predict the labels of the training set, each group by the model that was fitted without it.

        Parameters
        ----------
        labels : LeftOutLabels

        Returns
        -------
        mean : ndarray of shape (n, d, multiplicity)
        covariance : ndarray of shape (n, multiplicity d, multiplicity d)
            Of each label alone, with its noise.
        """
        n, d, multiplicity = labels.values.shape
        residuals, covariance = np.empty((n * d, multiplicity)), np.zeros((n, d, d))
        columns = self.factor @ (self.factor.T @ labels.columns) if self.scale else labels.columns
        for rows in labels.rows:
            residuals[rows] = labels.without_baselines(columns[rows], rows)
            if not self.scale:
                continue
            part = self.factor[rows]
            block = np.linalg.inv(part @ part.transpose(0, 2, 1))
            block = (block + block.transpose(0, 2, 1)) / 2
            residuals[rows] = block @ residuals[rows]
            for start in range(0, rows.shape[1], d):
                covariance[rows[:, start] // d] = block[:, start : start + d, start : start + d]
        mean = (labels.columns[:, :multiplicity] - residuals).reshape(n, d, multiplicity)
        return mean, copies(self.scale**2 * covariance, self.between)

    def _covariance(self, features, cross, joint, include_noise):
        """Covariance (n, d, d), or between all structures (n, n, d, d), of normalized labels."""
        n, _, d, _ = cross.shape
        if not self.scale:
            return np.zeros((n, n, d, d) if joint else (n, d, d))
        signal, noise = self.signal_variance, self.signal_variance * self.noise * include_noise
        white = self.explained(cross)
        if not joint:
            prior, white = signal * self.kernel.diag(features, self.irrep), white.reshape(n, d, -1)
            return clip_covariances(prior - white @ white.transpose(0, 2, 1)) + noise * np.eye(d)
        prior = signal * self.kernel(features, irrep=self.irrep).transpose(0, 2, 1, 3).reshape(n * d, n * d)
        full = clip_covariances(prior - white @ white.T) + noise * np.eye(n * d)
        return full.reshape(n, d, n, d).transpose(0, 2, 1, 3)


def factorize(
    spectrum: Spectrum | None, values: Floats, signal: float, noise: float, scale: float
) -> tuple[Floats, float, Floats, Floats]:
    """Compute what a posterior is made of.

    Parameters
    ----------
    spectrum : Spectrum or None
        Of the kernel; None where all labels are zero.
    values : ndarray of shape (n, d, multiplicity)
        Normalized labels.
    signal, noise, scale : float

    Returns
    -------
    dual, cancellation, factor, between
        As in :class:`Posterior`.
    """
    n, d, multiplicity = values.shape
    between = np.eye(multiplicity)
    if spectrum is None:
        return np.zeros(values.shape), 0.0, np.zeros((n * d, 0)), between
    root = np.sqrt(spectrum.inverse(noise) / signal)
    factor, white = spectrum.root[:, None] * spectrum.vectors * root, root[:, None] * spectrum.values
    dual = (signal * scale * (factor @ white)).reshape(values.shape)
    size = np.linalg.norm(spectrum.eigenvalues) / n
    if multiplicity > 1:  # the maximum likelihood of the covariance of copies (matrix normal distribution)
        between = white.T @ white
        between *= multiplicity / np.trace(between)
    return dual, cancellation_of_duals(dual, size, scale * values), factor, between
