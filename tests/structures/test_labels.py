import numpy as np
import pytest
from sklearn.exceptions import DataConversionWarning

from eqkernels.structures import read_labels

N_ATOMS = np.array([3, 5])


def test_structures_or_atoms():
    assert read_labels([1.0, 2.0], N_ATOMS).values.shape == (2,)
    assert not read_labels([np.zeros(3), np.ones(3)], N_ATOMS).per_atom
    labels = read_labels([np.zeros((3, 3)), np.ones((5, 3))], N_ATOMS)
    assert labels.per_atom
    assert labels.values.shape == (8, 3)
    with pytest.warns(UserWarning, match="it is read as labels of atoms"):
        assert read_labels([np.zeros(3)], np.array([3])).per_atom
    assert not read_labels([np.zeros(3)], np.array([3]), rank=1).per_atom
    assert not read_labels([[0.0, 0.0, 1.0]], np.array([3])).per_atom
    with pytest.warns(DataConversionWarning):
        assert read_labels(np.zeros((2, 1)), N_ATOMS).values.shape == (2,)


def test_unlabelled_atoms():
    y = [np.zeros((3, 3)), np.ones((5, 3))]
    y[1][[0, 3]] = np.nan
    np.testing.assert_array_equal(read_labels(y, N_ATOMS).atoms, [0, 1, 2, 4, 5, 7])


HALF = [np.zeros((3, 3)), np.ones((5, 3))]
HALF[1][2, 1] = np.nan


@pytest.mark.parametrize(
    ("y", "rank", "error", "message"),
    [
        (None, None, ValueError, "requires y to be passed"),
        (np.zeros(3), None, ValueError, "3 entries for 2 structures"),
        (np.zeros((2, 9)), None, ValueError, r"restored by y.reshape\(-1, 3, 3\)"),
        (np.zeros((2, 3, 2)), None, ValueError, r"trailing shape \(3, 2\)"),
        (np.zeros((2, 3)), 2, ValueError, "of rank 2"),
        (np.array([[1, 2, 3], [1, np.nan, 3]]), None, ValueError, "first for structure 1"),
        (np.zeros(2, dtype=complex), None, ValueError, "Complex data not supported"),
        (["a", "b"], None, TypeError, r"y\[0\] is not numeric"),
        ([np.zeros((3, 3)), np.zeros((4, 3))], None, ValueError, r"y\[1\] has 4 rows, structure 1 has 5 atoms"),
        ([np.zeros((3, 3)), np.zeros(5)], None, ValueError, "different numbers of axes"),
        (HALF, None, ValueError, "structure 1, atom 2 has NaN or infinity in some"),
        ([np.full((3, 3), np.nan), np.full((5, 3), np.nan)], None, ValueError, "every label in y is NaN"),
    ],
)
def test_what_is_refused(y, rank, error, message):
    with pytest.raises(error, match=message):
        read_labels(y, N_ATOMS, rank)
