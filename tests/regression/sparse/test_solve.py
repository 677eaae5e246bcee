import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from eqkernels.regression.sparse.solve import SparseProblem
from eqkernels.regression.sparse.triangular import TriangularFactor


@pytest.mark.parametrize("n_labels", [90, 400])
def test_best_noise_is_that_of_the_dense_likelihood(n_labels):
    """Two columns of labels of a Gaussian process, with fewer and with more rows than features."""
    random, rank = np.random.default_rng(n_labels), 150
    phi = random.normal(size=(n_labels, rank)) * np.logspace(0, -3, rank)
    labels = phi @ random.normal(size=(rank, 2)) + 0.1 * random.normal(size=(n_labels, 2))
    rows = np.hstack([phi, np.zeros((n_labels, 1)), labels])  # a prior of zero
    white = TriangularFactor(rank + 3).fold(rows)
    problem = SparseProblem(white, rank, np.vstack([np.zeros(2), np.eye(2)]), n_labels, n_labels)

    def minus_likelihood(logarithm):
        covariance = phi @ phi.T + 10.0**logarithm * np.eye(n_labels)
        variance = np.sum(labels * np.linalg.solve(covariance, labels)) / labels.size
        return n_labels * np.log(variance) + np.linalg.slogdet(covariance)[1]

    expected = minimize_scalar(minus_likelihood, bounds=(-6, 2), method="bounded", options={"xatol": 1e-4})
    assert np.log10(problem.best_noise()) == pytest.approx(expected.x, abs=0.02)
    assert 10.0**expected.x == pytest.approx(0.01, rel=0.5)
