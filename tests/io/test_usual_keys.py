import pytest

from eqkernels.io.usual_keys import _KEYS, _OTHER_QUANTITIES, belongs_to_atoms, quantity_of, rank_of
from eqkernels.so3.properties import PROPERTIES, find_property


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_every_property_is_its_own_key(name):
    assert quantity_of(name) == name
    assert quantity_of(f"REF_{name}") == name


@pytest.mark.parametrize("name", [*_KEYS, *_OTHER_QUANTITIES])
def test_every_quantity_is_a_target(name):
    assert find_property(name) is not None
    assert rank_of(name) in range(7)
    assert belongs_to_atoms(name) in (None, True, False)


def test_other_words():
    assert quantity_of("label") is None
    assert quantity_of("MACE_energy") is None  # a prediction
    assert quantity_of("mtt::polarizability") == "polarizability"
    assert quantity_of("Born effective charges") == "born_charge"
