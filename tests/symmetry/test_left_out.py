"""Closed forms against models that are fitted again without each structure."""

import numpy as np
import pytest

from eqkernels.symmetry.left_out import LeftOut, design_of_kernel


def refitted(design, structures, values, kept, alpha):
    """Predict each structure by a ridge model of the others that are kept."""
    predicted = np.empty_like(values)
    for structure in np.unique(structures):
        others = kept & (structures != structure)
        rows = design[others].reshape(-1, design.shape[2])
        y = values[others].reshape(len(rows), -1)
        solution = np.linalg.solve(rows.T @ rows + alpha * np.eye(rows.shape[1]), rows.T @ y)
        predicted[structures == structure] = design[structures == structure] @ solution
    return predicted


@pytest.mark.parametrize("n_features", [4, 90])
@pytest.mark.parametrize("structures", [np.arange(20), np.repeat(np.arange(8), [1, 4, 2, 3, 1, 5, 3, 1])])
def test_left_out_predictions(n_features, structures, monkeypatch):
    monkeypatch.setattr("eqkernels.symmetry.left_out._REWEIGHTED", 0)  # least squares
    random = np.random.default_rng(0)
    design, values = random.normal(size=(20, 3, n_features)), random.normal(size=(20, 3, 2))
    kept = structures != 2
    predicted = LeftOut(design, structures).predict(values, kept, 0.3)
    np.testing.assert_allclose(predicted, refitted(design, structures, values, kept, 0.3), atol=1e-8)


def test_wrong_labels_do_not_bend_the_model():
    """With a tenth of the labels reversed, the others are predicted as if these were right."""
    random = np.random.default_rng(1)
    design, coefficients = random.normal(size=(60, 3, 8)), random.normal(size=(8, 1))
    right = design @ coefficients + 1e-3 * random.normal(size=(60, 3, 1))
    wrong = right.copy()
    wrong[::10] *= -1
    model, kept = LeftOut(design, np.arange(60)), np.ones(60, dtype=bool)
    alpha = model.choose(wrong, kept)
    error = np.abs(model.predict(wrong, kept, alpha) - right).max(axis=(1, 2))
    assert error.max() < 0.02
    least_squares = refitted(design, np.arange(60), wrong, kept, alpha)
    assert np.abs(least_squares - right).max() > 10 * error.max()


def test_features_of_a_kernel():
    random = np.random.default_rng(2)
    features = random.normal(size=(5, 3, 7))
    kernel = np.einsum("nap,mbp->nmab", features, features)
    design = design_of_kernel(kernel)
    assert design.shape[2] <= 7
    np.testing.assert_allclose(np.einsum("nap,mbp->nmab", design, design), kernel, atol=1e-10)
