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


def dense(features, groups):
    """The same features with columns of their own for each group, zero for the samples of others."""
    n, d, width = features.shape
    columns = np.zeros((n, d, len(groups), width))
    for k, rows in enumerate(groups):
        columns[rows, :, k] = features[rows]
    return columns.reshape(n, d, -1)


# a group has more rows than features, about as many, and far fewer
GROUPS = [np.array([0, 2, 3, 7, 8, 9, 10]), np.array([4, 6]), np.array([1]), np.array([5])]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("n_features", [5, 7, 40])
def test_groups_are_columns_of_their_own(name, n_features):
    features, values = problem(n=11, n_features=n_features)
    got = OBJECTIVES[name](features, values, -1.0, GROUPS)
    value, slopes, slope = OBJECTIVES[name](dense(features, GROUPS), values, -1.0)
    assert got[0] == pytest.approx(value, rel=1e-10)
    assert got[2] == pytest.approx(slope, rel=1e-9)
    slopes = slopes.reshape(11, 3, 4, n_features)
    for k, rows in enumerate(GROUPS):
        np.testing.assert_allclose(got[1][rows], slopes[rows, :, k], atol=1e-11)
    profile = PROFILES[name](features, values, GROUPS)
    for log_noise in (-8.0, -1.0, 2.0):
        expected = OBJECTIVES[name](features, values, log_noise, GROUPS)[0]
        assert profile(log_noise) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_of_groups(name):
    features, values = problem(n=11)
    direction, step = np.random.default_rng(1).normal(size=features.shape), 1e-6
    _, to_features, to_log_noise = OBJECTIVES[name](features, values, -1.0, GROUPS)
    along = [OBJECTIVES[name](features + sign * step * direction, values, -1.0, GROUPS)[0] for sign in (1, -1)]
    assert np.sum(to_features * direction) == pytest.approx((along[0] - along[1]) / (2 * step), rel=1e-6)
    along = [OBJECTIVES[name](features, values, -1.0 + sign * step, GROUPS)[0] for sign in (1, -1)]
    assert to_log_noise == pytest.approx((along[0] - along[1]) / (2 * step), rel=1e-6)


def test_gradient_of_sparse_columns():
    """Columns that are zero, as of species that are not in a batch, and rows that depend on each other."""
    features, values = problem(n_features=80)
    features[:, :, 10:60] = 0.0
    features[3] = features[2]
    flat, weight = features.reshape(21, -1), np.exp(-2.0)
    inverse = np.linalg.inv(flat @ flat.T + weight * np.eye(21))
    dual = inverse @ values.reshape(21, -1)
    expected = (2 * inverse @ flat - dual @ (dual.T @ flat)) / values.size
    got = log_marginal_likelihood(features, values, -2.0)[1].reshape(21, -1)
    np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize("n_columns", [5, 20, 21, 30, 42, 43, 200])
def test_weights_are_those_of_least_squares_with_all_columns(n_columns):
    random = np.random.default_rng(0)
    design, values, noise = random.normal(size=(21, n_columns)), random.normal(size=(21, 2)), 1e-3
    design[:, n_columns // 2] = 0.0
    rows = np.vstack([design, np.sqrt(noise) * np.eye(n_columns)])
    expected = np.linalg.lstsq(rows, np.vstack([values, np.zeros((n_columns, 2))]), rcond=None)[0]
    np.testing.assert_allclose(ridge_weights(design, values, noise), expected, atol=1e-10)


def test_small_noise_does_not_cost_digits():
    """The dual problem is solved without the matrix of scalar products, whose condition number is the square."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(n, 20)))[0] for n in (20, 90))
    singular = np.logspace(0, -7, 20)
    design, values = (left * singular) @ right.T, left @ random.normal(size=(20, 1))
    expected = right @ ((singular / (singular**2 + 2e-9))[:, None] * (left.T @ values))
    np.testing.assert_allclose(ridge_weights(design, values, 2e-9), expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("n_features", [5, 40])
def test_profiles_are_the_losses_as_functions_of_the_noise(name, n_features):
    features, values = problem(n_features=n_features)
    profile = PROFILES[name](features, values)
    for log_noise in (-12.0, -4.0, 0.0, 2.0):
        assert profile(log_noise) == pytest.approx(OBJECTIVES[name](features, values, log_noise)[0], rel=1e-7)
