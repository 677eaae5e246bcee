r"""Predictive covariances of a sparse Gaussian process.

With :math:`\phi = L^{-1} k(M, A)` and :math:`\psi = R^{-T} \phi`, R the factor of
:math:`[\Phi; \sqrt\gamma\, 1]`, the covariance of a new label is, in the deterministic training conditional,

.. math:: s^2 \left[ k(A, A) - \phi^T \phi + \gamma\, \psi^T \psi + \gamma \right]

for each irrep: what the sparse environments cannot describe, what the data have not told about the rest, and noise.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from eqkernels.regression.triangular import TriangularFactor


class PredictiveCovariance:
    """Cartesian covariances of predictions.

    Parameters
    ----------
    model : SparseTensorGPR
        Fitted.
    diagonal : bool
        Only standard deviations of the components.
    """

    def __init__(self, model, kernel, points, diagonal):
        self.model, self.kernel, self.points, self.diagonal = model, kernel, points, diagonal
        self.tensor = model._tensor()
        self.factors = {irrep: self._factors(irrep) for irrep in model.coef_}

    def _factors(self, irrep):
        rank = len(self.model.pivots_[irrep])
        damped = TriangularFactor(self.model.damped_size_[irrep], self.model.damped_[irrep])
        upper = damped.rows(0, rank)[:, :rank] if rank else np.zeros((0, 0))
        return TriangularFactor(rank, self.model.cholesky_[irrep]).dense(), upper

    def __call__(self, features):
        """Standard deviations (n, 3, ..., 3) or covariances (n, 3, ..., 3, 3, ..., 3) of structures."""
        shape = self.tensor.shape
        size = int(np.prod(shape))
        total = np.zeros((len(features), size) if self.diagonal else (len(features), size, size))
        for multiplicity, irrep in self.tensor.irreps:
            covariance = self.of_irrep(features, str(irrep))
            for basis in self._basis(str(irrep), multiplicity):  # copies of an irrep are independent
                left = np.einsum("nab,bq->naq", covariance, basis)
                total += np.einsum("naq,aq->nq" if self.diagonal else "naq,ap->npq", left, basis)
        if self.diagonal:
            return np.sqrt(total).reshape(len(features), *shape)
        return total.reshape(len(features), *shape, *shape)

    def of_irrep(self, features, irrep):
        """Covariances of one irrep, (n, 2 lambda + 1, 2 lambda + 1)."""
        noise, variance = self.model.noise_[irrep], self.model.signal_variance_[irrep]
        told, remaining = self._told(features, irrep, noise)
        prior = np.array([self.kernel(features[k : k + 1], irrep=irrep)[0, 0] for k in range(len(features))])
        identity = np.eye(2 * int(irrep[:-1]) + 1)
        return variance * (_positive(prior.reshape(told.shape) - told) + remaining + noise * identity)

    def _told(self, features, irrep, noise):
        n, d = len(features), 2 * int(irrep[:-1]) + 1
        pivots, (cholesky, damped) = self.model.pivots_[irrep], self.factors[irrep]
        if n == 0 or len(pivots) == 0:
            return np.zeros((n, d, d)), np.zeros((n, d, d))
        kernel = self.kernel(features, self.points, irrep=irrep).transpose(0, 2, 1, 3).reshape(n * d, -1)
        phi = solve_triangular(cholesky, kernel[:, pivots].T, trans=1, check_finite=False)
        psi = solve_triangular(damped, phi, trans=1, check_finite=False)
        phi, psi = (np.ascontiguousarray(x.T).reshape(n, d, -1) for x in (phi, psi))
        return phi @ phi.transpose(0, 2, 1), noise * (psi @ psi.transpose(0, 2, 1))

    def _basis(self, irrep, multiplicity):
        """Cartesian components of each component of each copy of an irrep, (multiplicity, 2 lambda + 1, 3^rank)."""
        d = 2 * int(irrep[:-1]) + 1
        unit = np.eye(d * multiplicity).reshape(-1, d, multiplicity)
        blocks = {str(other): np.zeros((len(unit), other.dim, copies)) for copies, other in self.tensor.irreps}
        cartesian = self.tensor.to_cartesian({**blocks, irrep: unit}).reshape(d, multiplicity, -1)
        return cartesian.transpose(1, 0, 2)


def _positive(matrices):
    """Symmetric matrices without the negative eigenvalues that rounding may leave."""
    values, vectors = np.linalg.eigh((matrices + matrices.transpose(0, 2, 1)) / 2)
    return (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
