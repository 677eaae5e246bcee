"""Weights of means, compared with a general optimizer; error bars with known errors."""

import numpy as np
import pytest
from scipy.optimize import minimize

from eqkernels.automatic.stacking import convex_weights, mean_of, scale_of_error_bars, stack
from eqkernels.structures import by_structure


@pytest.fixture
def models():
    random = np.random.default_rng(0)
    y = random.normal(size=(200, 3))
    return y, [y + size * random.normal(size=y.shape) for size in (0.1, 0.2, 0.15)]


def test_weights_are_those_of_least_squares(models):
    y, predicted = models
    found = convex_weights(y, predicted)

    def loss(weights):
        return np.sum((mean_of(predicted, weights) - y) ** 2)

    bounds, adds_up = [(1e-12, 1)] * 3, {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    expected = minimize(loss, np.ones(3) / 3, bounds=bounds, constraints=adds_up, tol=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found, expected.x, atol=2e-4)
    # independent errors: weights are inverse variances
    np.testing.assert_allclose(found, np.array([100, 25, 44.4]) / 169.4, atol=0.1)


def test_no_weight_is_negative(models):
    y, predicted = models
    weights = convex_weights(y, [predicted[0], y + 3 * (predicted[0] - y)])
    np.testing.assert_allclose(weights, [1, 0], atol=1e-4)


def test_mean_only_where_it_is_better(models):
    y, predicted = models
    weights, left_out = stack(y, predicted)
    assert (weights > 0).all()
    assert np.sum((left_out - y) ** 2) < np.sum((predicted[0] - y) ** 2)
    weights, left_out = stack(y, [predicted[1], predicted[0], predicted[1]])
    assert weights.sum() == pytest.approx(1)
    weights, left_out = stack(y, [y + 5.0, predicted[0]])
    assert weights.tolist() == [0, 1]
    assert left_out is predicted[0]
    assert stack(y, predicted[:1])[0].tolist() == [1]
    assert stack(y, [y, y])[0].tolist() == [1, 0]


def test_tensors_of_atoms_of_which_some_have_no_label(models):
    y, predicted = models
    n_atoms = np.array([3] * 66 + [2])
    missing = y.copy()
    missing[[0, 5]] = np.nan
    of_atoms = [by_structure(one, n_atoms) for one in predicted]
    weights, left_out = stack(by_structure(missing, n_atoms), of_atoms)
    np.testing.assert_allclose(weights, stack(y, predicted)[0], atol=0.05)
    assert [len(one) for one in left_out] == n_atoms.tolist()


def test_scale_of_error_bars(models):
    y, _ = models
    errors = np.random.default_rng(1).normal(size=(200, 3))
    std = np.random.default_rng(2).uniform(0.5, 2.0, size=errors.shape)
    scale = scale_of_error_bars(y, y + 3 * std * errors, std)
    assert scale == pytest.approx(3.0, rel=0.1)
    assert np.mean(np.abs(3 * errors) < scale) == pytest.approx(0.6827, abs=1e-2)
