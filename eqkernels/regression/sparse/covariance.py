r"""Predictive covariance of a sparse Gaussian process.

With :math:`\phi = L^{-1} k(M, A)` and :math:`\psi = R^{-T} \phi`, R the factor of :math:`[\Phi; \sqrt\gamma\, 1]`, the
covariance of a new label is, for each irrep,

.. math:: s^2 \left[ \gamma\, \psi^T \psi + \gamma + w\, (\rho(A) - \bar\rho) \right] , \quad
          \rho(A) = k(A, A) - \phi^T \phi , \quad w = \min(1, \gamma / 2 \bar\rho) :

what the data leave open about the model, noise, and what the sparse environments cannot describe of A, above the
mean :math:`\bar\rho` of the training set. The deterministic training conditional (DTC; J. Quinonero-Candela, C. E.
Rasmussen, JMLR 6, 1939 (2005)) has :math:`w = 1, \bar\rho = 0`. But the labels have noise that the likelihood of the
sparse model made as large as its misfit, :math:`\bar\rho` included, so that this counts it twice and is several times
too wide; the subset of regressors (w = 0) does not see that a structure is unlike the sparse environments. Here at most
half of the noise is taken for the misfit and scaled with it; without misfit it is the exact Gaussian process.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from eqkernels.regression.covariance import clip_covariances
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.so3 import Irrep


class SparseCovariance:
    """Covariances of one irrep.

    Parameters
    ----------
    kernel : TensorKernel
    points : EquivariantFeatures
        Sparse environments.
    irrep : str
    size : int
        Number of columns of the damped factor.
    pivots, cholesky, damped, noise, signal_variance, unexplained
        Of :class:`~eqkernels.regression.sparse.solutions.SparseSolution`.
    has_labels : bool, default=True
        Whether there were labels of the tensors themselves: otherwise ``noise`` is that of their derivatives.
    """

    def __init__(self, kernel, points, irrep, size, pivots, cholesky, damped, noise, signal_variance, unexplained,
                 has_labels=True):  # fmt: skip
        rank = len(pivots)
        self.kernel, self.points, self.irrep = kernel, points, irrep
        self.pivots, self.noise, self.signal_variance = pivots, noise, signal_variance
        self.cholesky = TriangularFactor(rank, cholesky).dense()
        self.damped = TriangularFactor(size, damped).rows(0, rank)[:, :rank] if rank else np.zeros((0, 0))
        self.weight = 1.0 if noise >= 2 * unexplained else noise / (2 * unexplained)
        self.label_noise = noise - self.weight * unexplained if has_labels else 0.0

    def __call__(self, features, joint=False, include_noise=True):
        """Covariance of labels, or of the function behind them.

        Parameters
        ----------
        features : EquivariantFeatures
        joint : bool
            Whether also between structures.
        include_noise : bool

        Returns
        -------
        ndarray of shape (n, d, d), or if joint (n, n, d, d)
        """
        n, d = len(features), Irrep.parse(self.irrep).dim
        cross = _flat(self.kernel(features, self.points, irrep=self.irrep))
        if not joint:
            prior = self.kernel.diag(features, self.irrep)
            return self._conditional(prior, cross.reshape(n, d, cross.shape[1]), include_noise)
        prior = _flat(self.kernel(features, irrep=self.irrep))
        full = self._conditional(prior[None], cross[None], include_noise)
        return full.reshape(n, d, n, d).transpose(0, 2, 1, 3)

    def of_derivatives(self, cross, noise):
        """Covariance of derivatives: what the labels leave open about the model, and the noise.

        Parameters
        ----------
        cross : ndarray of shape (n, d, n_points d)
            Derivatives of the kernels with the sparse environments.
        noise : float
            In units of the signal variance.

        Returns
        -------
        ndarray of shape (n, d, d)
        """
        n, d, width = cross.shape
        _, psi = self._projected(cross.reshape(n * d, width))
        psi = psi.reshape(n, d, len(self.pivots))
        return self.signal_variance * (self.noise * (psi @ psi.transpose(0, 2, 1)) + noise * np.eye(d))

    def projections(self, features):
        """Make phi and psi of all components, each (n d, rank), of which covariances are products."""
        return self._projected(_flat(self.kernel(features, self.points, irrep=self.irrep)))

    def _projected(self, cross):
        if not len(self.pivots) or not len(cross):
            return np.zeros((2, len(cross), len(self.pivots)))
        phi = solve_triangular(self.cholesky, cross[:, self.pivots].T, trans=1, check_finite=False)
        psi = solve_triangular(self.damped, phi, trans=1, check_finite=False)
        return np.ascontiguousarray(phi.T), np.ascontiguousarray(psi.T)

    def _conditional(self, prior, cross, include_noise):
        n, d, width = cross.shape
        phi, psi = (one.reshape(n, d, len(self.pivots)) for one in self._projected(cross.reshape(n * d, width)))
        explained, remaining = phi @ phi.transpose(0, 2, 1), self.noise * (psi @ psi.transpose(0, 2, 1))
        function = remaining + self.weight * clip_covariances(prior - explained)
        return self.signal_variance * (function + include_noise * self.label_noise * np.eye(d))


def _flat(kernel):
    """Kernel (n, m, d, d) as a matrix (n d, m d)."""
    n, m, d, _ = kernel.shape
    return kernel.transpose(0, 2, 1, 3).reshape(n * d, m * d)
