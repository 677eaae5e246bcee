import json

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from eqkernels.io import FoundTarget, find_targets


def by_key(frames):
    return {one.key: one for one in find_targets(frames)}


def labelled(name, **info):
    atoms = molecule(name)
    atoms.info.update(info)
    return atoms


def test_labels_stand_first_and_say_what_they_are():
    frames = [labelled(name, label="a", alpha=np.arange(9.0), step=k) for k, name in enumerate(["H2O", "CH4", "NH3"])]
    for atoms in frames:
        atoms.set_array("becs", np.zeros((len(atoms), 9)))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((len(atoms), 3)), dipole=np.ones(3))
    found = find_targets(frames)
    assert [one.key for one in found] == ["alpha", "becs", "energy", "forces", "dipole", "label", "step"]
    assert [one.is_target for one in found] == [True] * 5 + [False] * 2
    assert [one.guesses for one in found[:5]] == [
        (one,) for one in ("polarizability", "born_charge", "energy", "forces", "dipole")
    ]
    assert [one.where for one in found[:5]] == ["info", "arrays", "calculator", "calculator", "calculator"]
    assert [one.shape for one in found[:5]] == [(9,), (9,), (), (3,), (3,)]
    assert [one.per_atom for one in found[:5]] == [False, True, False, True, False]
    assert str(found[1]) == "becs (arrays, shape (9,) of each atom, in 3 of 3 structures): born_charge"
    assert [one.kind for one in found[5:]] == ["text", "integers"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("CC", "text"),
        (True, "flags"),
        ([True, False], "flags"),
        (3, "integers"),
        (np.array([1, 2, 3]), "integers"),
        (0.5, "scalar"),
        (np.zeros(7), "numbers"),
        (np.zeros(6), "numbers"),
        ({"a": 1}, "other"),
        ([[1.0], [2.0, 3.0]], "other"),
    ],
)
def test_what_is_no_tensor_is_listed_as_such(value, kind):
    (one,) = find_targets([labelled("CH4", something=value)])
    assert (one.kind, one.is_target, one.guesses) == (kind, False, ())
    assert "something" in str(one)


@pytest.mark.parametrize("key", ["REF_energy", "energy_ref", "dft_energy", "potential", "E", "total_energy"])
def test_usual_keys_of_the_energy(key):
    assert by_key([labelled("H2O", **{key: -76.0})])[key].guesses == ("energy",)


def test_a_known_key_of_another_shape_is_not_guessed():
    """In QM9, mu is the norm of the dipole and alpha the mean polarizability."""
    found = by_key([labelled("CH4", mu=0.1, alpha=13.2, gamma=90.0, charge=0)])
    assert [one.guesses for one in found.values()] == [(), (), (), ()]
    assert [one.kind for one in found.values()] == ["scalar", "scalar", "scalar", "integers"]


def test_virial_is_not_stress():
    assert by_key([labelled("H2O", virial=np.eye(3))])["virial"].guesses == ("virial",)


def test_stress_in_voigt_notation_of_ase_is_a_matrix():
    atoms = bulk("Si")
    atoms.calc = SinglePointCalculator(atoms, stress=np.arange(6.0))
    (one,) = find_targets([atoms])
    assert (one.guesses, one.shape, one.per_atom) == (("stress",), (3, 3), False)


def test_two_readings_are_both_named():
    (one,) = find_targets([labelled("H2O", field=np.eye(3) + 0.5)])
    assert one.per_atom is None
    assert one.guesses == ()
    assert str(one).endswith("tensor of rank 2 of each structure or vector of each atom")
    (one,) = find_targets([labelled("H2O", field=np.eye(3)), labelled("CH4", field=np.eye(3))])
    assert one.per_atom is False
    assert str(one).endswith("tensor of rank 2 of each structure")


def test_missing_labels_are_counted():
    frames = [
        labelled("H2O", mu=[0.0, 0.1, 0.2]),
        labelled("H2O"),
        labelled("H2O", mu=None),
        labelled("H2O", mu=np.nan),
    ]
    (one,) = find_targets(frames)
    assert (one.n_present, one.n_structures) == (1, 4)


def test_shapes_that_differ():
    (one,) = find_targets([labelled("CH4", mu=np.zeros(3)), labelled("CH4", mu=np.zeros((3, 3)))])
    assert one.shape is None
    assert one.kind == "mixed"
    assert "several shapes" in str(one)


def test_error_bars_and_inputs_are_no_labels():
    atoms = labelled("CH4", mu=np.zeros(3), mu_std=np.zeros(3))
    atoms.set_initial_charges(np.full(5, 0.1))
    atoms.set_momenta(np.ones((5, 3)))
    found = by_key([atoms])
    assert {key for key, one in found.items() if one.is_target} == {"mu"}
    assert found["mu_std"].kind == "error bar"
    assert found["initial_charges"].kind == found["momenta"].kind == "input"


def test_frozen_and_plain():
    (one,) = find_targets([labelled("CH4", mu=np.zeros(3))])
    assert isinstance(one, FoundTarget)
    json.dumps([one.key, one.where, one.shape, one.per_atom, one.n_present, one.n_structures, one.guesses, one.kind])
    with pytest.raises(AttributeError):
        one.key = "alpha"


def test_frames_are_read_once_and_not_changed():
    atoms = labelled("H2O", mu=np.zeros(3))
    before = atoms.copy()
    assert len(find_targets(iter([atoms, atoms]))) == 1
    assert atoms == before
    assert find_targets([molecule("H2O")]) == []
    with pytest.raises(TypeError, match="single ase.Atoms"):
        find_targets(atoms)
