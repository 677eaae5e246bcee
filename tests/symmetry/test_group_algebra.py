import numpy as np
import pytest

from eqkernels.symmetry.group_algebra import axis_of, closure, idealized, operation_symbol, order, reflection, rotation
from eqkernels.testing import random_rotation


def test_closure_of_a_cube():
    group = closure([rotation([0, 0, 1], np.pi / 2), rotation([1, 1, 1], 2 * np.pi / 3)])
    signed = group.round(12).tolist()
    assert len(group) == 24
    assert all(sorted(map(abs, row)) == [0, 0, 1] for one in signed for row in one)
    with pytest.raises(ValueError, match="more than"):
        closure([rotation([0, 0, 1], np.pi * (1 + np.sqrt(5)))])


def test_idealized_group_is_near_and_exact():
    exact = closure([rotation([0, 0, 1], np.pi / 3), reflection([1, 0, 0]), -np.eye(3)])
    turn = random_rotation(1)
    exact = turn @ exact @ turn.T
    group = idealized(exact + np.random.default_rng(0).normal(scale=1e-2, size=exact.shape))
    assert np.abs(group - exact).max() < 0.02
    products = np.einsum("gij,hjk->ghik", group, group).reshape(-1, 1, 3, 3)
    assert np.abs(products - group).max(axis=(2, 3)).min(axis=1).max() < 1e-12


@pytest.mark.parametrize(
    ("matrix", "symbol", "number"),
    [
        (np.eye(3), "E", 1),
        (-np.eye(3), "i", 2),
        (reflection([1, 1, 0]), "m [1 1 0]", 2),
        (rotation([0, 1, 0], np.pi), "C2 [0 1 0]", 2),
        (rotation([1, 1, 1], 2 * np.pi / 3), "C3 [1 1 1]", 3),
        (rotation([0, 0, 1], 4 * np.pi / 5), "C5^2 [0 0 1]", 5),
        (-rotation([0, 0, 1], np.pi / 2), "S4 [0 0 1]", 4),
        (-rotation([0, 0, 1], 2 * np.pi / 3), "S6 [0 0 1]", 6),
        (-rotation([0, 0, 1], np.pi / 3), "S3 [0 0 1]", 6),
    ],
)
def test_symbols(matrix, symbol, number):
    assert operation_symbol(matrix) == symbol
    assert order(matrix) == number


def test_axis():
    axis = np.array([0.6, 0.0, 0.8])
    for matrix in (rotation(axis, 1.0), -rotation(axis, 1.0), rotation(axis, np.pi), reflection(axis)):
        np.testing.assert_allclose(axis_of(matrix), axis, atol=1e-12)
