import numpy as np
import pytest

from eqkernels.symmetry import PointGroup


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("2", ["E", "C2 [0 1 0]"]),
        ("m", ["E", "m [0 1 0]"]),
        ("C2h", ["E", "C2 [0 1 0]", "m [0 1 0]", "i"]),
        ("mm2", ["E", "C2 [0 0 1]", "m [1 0 0]", "m [0 1 0]"]),
        ("2mm", ["E", "C2 [1 0 0]", "m [0 1 0]", "m [0 0 1]"]),
        ("m2m", ["E", "C2 [0 1 0]", "m [1 0 0]", "m [0 0 1]"]),
    ],
)
def test_settings(name, operations):
    assert sorted(str(one) for one in PointGroup.from_name(name).operations) == sorted(operations)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("32", "C2 [1 0 0]"), ("312", "C2 [0 1 0]"), ("3m", "m [1 0 0]"), ("31m", "m [0 1 0]"), ("-42m", "C2 [1 0 0]"),
     ("-4m2", "m [1 0 0]"), ("-6m2", "m [1 0 0]"), ("-62m", "C2 [1 0 0]"), ("-3m", "C2 [1 0 0]"), ("4mm", "m [1 0 0]")],
)  # fmt: skip
def test_second_axis(name, symbol):
    assert symbol in [str(one) for one in PointGroup.from_name(name).operations]


@pytest.mark.parametrize(
    ("name", "number"), [("Cinfv", 2 * 5), ("Dinfh", 4 * 5), ("Cinf", 5), ("Dinf", 10), ("Cinfh", 10)]
)
def test_elements_of_continuous_groups(name, number):
    group = PointGroup.from_name(name)
    assert group.order == np.inf
    assert len(group.elements(4)[0]) == number
    assert group.elements(4)[1] is None


def test_operations_and_repr():
    group = PointGroup.from_name("m-3m")
    assert len(group.operations) == group.order == 48
    assert group.elements(9)[0] is group.matrices
    assert repr(group) == "PointGroup('Oh', 'm-3m', 48 operations)"
    assert repr(PointGroup.from_name("Kh")) == "PointGroup('Kh', '∞∞m', continuous)"
