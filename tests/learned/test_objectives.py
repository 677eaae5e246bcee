"""Both losses against their definitions, and their gradients against finite differences."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from eqkernels.learned.objectives import OBJECTIVES, PROFILES, leave_one_out, log_marginal_likelihood, ridge_weights


def problem(n=7, d=3, n_features=5, n_outputs=2):
    random = np.random.default_rng(0)
    return random.normal(size=(n, d, n_features)), random.normal(size=(n, d, n_outputs))


@pytest.mark.parametrize("n_features", [5, 40])
def test_likelihood_is_that_of_a_gaussian(n_features):
    features, values = problem(n_features=n_features)
    log_noise = -1.3
    flat = features.reshape(21, -1)
    covariance = flat @ flat.T + np.exp(log_noise) * np.eye(21)
    density = multivariate_normal(np.zeros(21), covariance)
    expected = -sum(density.logpdf(values[..., k].ravel()) + 21 / 2 * np.log(2 * np.pi) for k in range(2)) / 42
    assert log_marginal_likelihood(features, values, log_noise)[0] == pytest.approx(expected, rel=1e-10)


def test_leave_one_out_refits_without_each_sample():
    features, values = problem()
    squares = 0.0
    for k in range(7):
        rest = np.arange(7) != k
        weights = ridge_weights(features[rest].reshape(18, -1), values[rest].reshape(18, -1), np.exp(-1.0))
        squares += np.sum((values[k] - features[k] @ weights) ** 2)
    expected = 0.5 * np.log(squares / values.size)
    assert leave_one_out(features, values, -1.0)[0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("n_features", [5, 40])
def test_gradients(name, n_features):
    objective = OBJECTIVES[name]
    features, values = problem(n_features=n_features)
    direction, step = np.random.default_rng(1).normal(size=features.shape), 1e-6
    _, to_features, to_log_noise = objective(features, values, -1.0)
    along = [objective(features + sign * step * direction, values, -1.0)[0] for sign in (1, -1)]
    assert np.sum(to_features * direction) == pytest.approx((along[0] - along[1]) / (2 * step), rel=1e-6)
    along = [objective(features, values, -1.0 + sign * step)[0] for sign in (1, -1)]
    assert to_log_noise == pytest.approx((along[0] - along[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("n_features", [5, 40])
def test_profiles_are_the_losses_as_functions_of_the_noise(name, n_features):
    features, values = problem(n_features=n_features)
    profile = PROFILES[name](features, values)
    for log_noise in (-12.0, -4.0, 0.0, 2.0):
        assert profile(log_noise) == pytest.approx(OBJECTIVES[name](features, values, log_noise)[0], rel=1e-7)
