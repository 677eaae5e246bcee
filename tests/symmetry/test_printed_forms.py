import numpy as np
import pytest

from eqkernels.symmetry.printed_forms import combination, independent_components, relation_lines, voigt_matrix


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ([1, 0, 0], "a"),
        ([0, -1, 0], "-b"),
        ([0.5, -0.5, 0], "(a-b)/2"),
        ([0, 0, 1 / 3], "c/3"),
        ([2, 0, -1], "2*a-c"),
        ([0, 0, 0], "0"),
        ([np.sqrt(3), 0, 0], "1.7321*a"),
    ],
)
def test_combinations(factors, text):
    assert combination(np.array(factors, dtype=float), ["a", "b", "c"]) == text


def test_components_of_one_axis_come_first():
    basis = np.zeros((1, 3, 3))
    basis[0, 0, 1] = basis[0, 1, 1] = 1
    names = [a + b for a in "xyz" for b in "xyz"]
    rows, matrix = independent_components(basis, names)
    assert [names[k] for k in rows] == ["yy"]
    np.testing.assert_array_equal(matrix[0], [0, 1, 0, 0, 1, 0, 0, 0, 0])
    assert voigt_matrix(basis, names) == ["  0 yy  0", "  0 yy  0", "  0  0  0"]
    assert relation_lines(basis, names) == ["yy = xy", "all others are zero"]


def test_components_that_are_almost_zero_determine_nothing():
    rows, matrix = independent_components(np.array([[1e-3, 0.0, 1.0]]), ["x", "y", "z"])
    assert rows == [2]
    np.testing.assert_allclose(matrix, [[1e-3, 0, 1]])


def test_no_voigt_matrix_without_symmetric_pairs():
    names = [a + b + c for a in "xyz" for b in "xyz" for c in "xyz"]
    basis = np.zeros((1, 3, 3, 3))
    basis[0, 0, 0, 1] = 1
    assert voigt_matrix(basis, names) == []
    basis[0, 0, 1, 0] = 1
    assert voigt_matrix(basis, names)[0].split() == ["0"] * 5 + ["16"]
