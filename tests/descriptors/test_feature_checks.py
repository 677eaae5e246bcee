"""Arrays that features cannot be made of are refused, and values that no model can use."""

import numpy as np
import pytest

from eqkernels import EquivariantFeatures
from eqkernels.descriptors.feature_checks import as_dict, check_rows, integers, unusable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"structures": [1, 0]}, "ascending"),
        ({"structures": [0, 5]}, "between 0 and n_structures - 1 = 1"),
        ({"atoms": [0]}, r"atoms has shape \(1,\)"),
        ({"blocks": {"vector": np.zeros((2, 3, 1))}}, "not an irrep"),
        ({"blocks": {"1o": np.zeros((2, 2, 1))}}, r"expected \(2, 3, n_features\)"),
        ({"labels": {"1o": np.zeros(1, dtype=[("n", int)])}}, "labels has '1o', which is none of the blocks"),
        ({"labels": {"0e": np.zeros(2, dtype=[("n", int)])}}, r"labels\['0e'\] has shape \(2,\)"),
        ({"labels": {"0e": np.zeros(1)}}, "must be a structured array"),
        (
            {"blocks": {"0e": np.zeros((2, 1, 1), dtype=int)}},
            "block '0e' must be an array of float64 or float32, got int64",
        ),
        ({"blocks": {"0e": [[[1.0]], [[2.0]]]}}, "float64 or float32, got list"),
        ({"species": [1.0, 1.0]}, "species must be integers, got float64"),
    ],
)
def test_arrays_that_do_not_fit(change, message):
    arguments = {
        "blocks": {"0e": np.zeros((2, 1, 1))},
        "species": [1, 1],
        "structures": [0, 1],
        "atoms": [0, 0],
        "n_atoms": [1, 1],
    }
    with pytest.raises((TypeError, ValueError), match=message):
        EquivariantFeatures(**{**arguments, **change})


def test_each_atom_has_a_single_row():
    rows = [np.array(x) for x in ([1, 1], [0, 0], [0, 1], [2])]
    check_rows(*rows)
    rows[2] = np.array([1, 1])
    with pytest.raises(ValueError, match="atom 1 of structure 0 has more than one row"):
        check_rows(*rows)
    rows[2] = np.array([0, 2])
    with pytest.raises(ValueError, match="atoms contains 2 for structure 0, which has 2 atoms"):
        check_rows(*rows)


@pytest.mark.parametrize(
    ("value", "dtype", "what"),
    [(np.nan, float, "NaN"), (-np.inf, float, "infinity"), (1e51, float, "beyond 1e"), (1e16, np.float32, "beyond 1e")],
)
def test_unusable_values_are_found_in_any_row(value, dtype, what):
    block = np.zeros((200, 3, 2), dtype)
    assert unusable(block) is None
    block[130, 2, 1] = block[150, 0, 0] = value
    row, message = unusable(block)
    assert row == 130
    assert what in message


def test_large_sums_of_usable_values_are_usable():
    assert unusable(np.full((64, 1, 100), 9e49)) is None


def test_conversions():
    assert as_dict(None, "parts") == {}
    assert integers([1, 2], "atoms").dtype == np.int64
    with pytest.raises(TypeError, match="parts must be a dict, got list"):
        as_dict([], "parts")
    with pytest.raises(ValueError, match=r"atoms must be one-dimensional, got shape \(1, 1\)"):
        integers([[1]], "atoms")
