import numpy as np
import pytest

from eqkernels.regression.sparse.band import BandProblem


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 100, 128, 300, 450])
@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
def test_damped_least_squares_are_those_of_the_singular_values(n, damping):
    random = np.random.default_rng(n)
    matrix = np.triu(random.normal(size=(n, n))) * np.logspace(0, -7, n)[:, None]
    right = random.normal(size=(n, 2))
    u, s, _ = np.linalg.svd(matrix)
    squares = np.sum((u.T @ right) ** 2 * (damping**2 / (s**2 + damping**2))[:, None])
    log_determinant = 0.5 * np.sum(np.log(s**2 + damping**2))
    found = BandProblem(np.asfortranarray(matrix), right).damped(damping)
    assert found == pytest.approx((log_determinant, squares), rel=1e-9, abs=1e-9)


def test_zero_rows_and_columns():
    random = np.random.default_rng(0)
    matrix, right = np.triu(random.normal(size=(200, 200))), random.normal(size=(200, 1))
    matrix[:, 10:90] = 0.0
    matrix[150:] = 0.0
    log_determinant, squares = BandProblem(np.asfortranarray(matrix), right.copy()).damped(0.1)
    normal = matrix @ matrix.T + 0.01 * np.eye(200)
    assert log_determinant == pytest.approx(0.5 * np.linalg.slogdet(normal)[1], rel=1e-10)
    assert squares == pytest.approx(0.01 * right[:, 0] @ np.linalg.solve(normal, right[:, 0]), rel=1e-10)


def test_nothing_is_squared():
    """A damping of 1e-11 of the largest singular value is seen; in R^T R it is lost."""
    random = np.random.default_rng(1)
    u, v = (np.linalg.qr(random.normal(size=(150, 150)))[0] for _ in range(2))
    s = np.append(np.ones(149), 1e-12)
    log_determinant, _ = BandProblem(np.asfortranarray(u * s @ v.T), np.zeros((150, 1))).damped(1e-11)
    assert log_determinant == pytest.approx(0.5 * np.log(1.01e-22), abs=1e-4)
