"""Every reading of labels, what is ambiguous, and what is refused."""

import itertools

import numpy as np
import pandas as pd
import pytest
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from sklearn.exceptions import DataConversionWarning

from eqkernels.so3 import CartesianTensor, infer_formula
from eqkernels.structures import by_structure, irreps_of_labels, is_by_structure, read_forces, read_labels, read_stress

N_ATOMS = np.array([3, 5])
THREE, SIX, NINE = np.array([3, 3]), np.array([6, 6]), np.array([9, 9])
RANDOM = np.random.default_rng(0)
GENERAL = RANDOM.normal(size=(2, 3, 3))
SYMMETRIC = GENERAL + GENERAL.swapaxes(1, 2)
RANK3 = RANDOM.normal(size=(2, 3, 3, 3))
FULLY_SYMMETRIC = sum(RANK3.transpose(0, *(1 + np.array(p))) for p in itertools.permutations(range(3)))


def irreps(formula):
    return {str(irrep) for _, irrep in CartesianTensor(formula).irreps}


def test_structures_or_atoms():
    assert read_labels([1.0, 2.0], N_ATOMS).values.shape == (2,)
    assert not read_labels([np.zeros(3), np.ones(3)], N_ATOMS).per_atom
    labels = read_labels([np.zeros((3, 3)), np.ones((5, 3))], N_ATOMS)
    assert labels.per_atom
    assert labels.values.shape == (8, 3)
    assert not read_labels([[0.0, 0.0, 1.0]], np.array([3])).per_atom
    with pytest.warns(DataConversionWarning):
        assert read_labels(np.zeros((2, 1)), N_ATOMS).values.shape == (2,)


READ = {  # y, n_atoms, what is declared: per_atom, shape of the values, formula
    "scalars": ([1.0, 2.0], THREE, {}, False, (2,), ""),
    "vectors, written out": ([[1.0, 2.0, 4.0], [0.0, 1.0, 0.0]], THREE, {}, False, (2, 3), "i"),
    "vectors, an array": (GENERAL[:, 0], THREE, {}, False, (2, 3), "i"),
    "vectors, a list, other sizes": (list(GENERAL[:, 0]), N_ATOMS, {}, False, (2, 3), "i"),
    "vectors, a list, declared": (list(GENERAL[:, 0]), THREE, {"target": "dipole"}, False, (2, 3), "i"),
    "vectors, a list, not of atoms": (list(GENERAL[:, 0]), THREE, {"per_atom": False}, False, (2, 3), "i"),
    "vectors, a list, scalars of atoms": (list(GENERAL[:, 0]), THREE, {"per_atom": True}, True, (6,), ""),
    "vectors, an array, charges": (GENERAL[:, 0], THREE, {"target": "charges"}, True, (6,), ""),
    "charges of different numbers": ([np.ones(3), np.ones(5)], N_ATOMS, {}, True, (8,), ""),
    "charges as nested lists": ([[1.0] * 3, [1.0] * 5], N_ATOMS, {}, True, (8,), ""),
    "symmetric, a list of three atoms": (list(SYMMETRIC), THREE, {}, False, (2, 3, 3), "ij=ji"),
    "symmetric, an array of three atoms": (SYMMETRIC, THREE, {}, False, (2, 3, 3), "ij=ji"),
    "symmetric in all, rank 3": (list(FULLY_SYMMETRIC), THREE, {}, False, (2, 3, 3, 3), "ijk=jik=kji=ikj"),
    "general, other sizes": (GENERAL, N_ATOMS, {}, False, (2, 3, 3), "ij"),
    "general, a list, other sizes": (list(GENERAL), N_ATOMS, {}, False, (2, 3, 3), "ij"),
    "general, declared": (GENERAL, THREE, {"target": "ij"}, False, (2, 3, 3), "ij"),
    "general, an array, forces": (GENERAL, THREE, {"target": "forces"}, True, (6, 3), "i"),
    "general, a list, not of atoms": (list(GENERAL), THREE, {"per_atom": False}, False, (2, 3, 3), "ij"),
    "rank 3, shieldings": (list(RANK3), THREE, {"target": "shielding"}, True, (6, 3, 3), "ij"),
    "rank 3, declared": (RANK3, THREE, {"target": "ijk"}, False, (2, 3, 3, 3), "ijk"),
    "flat, declared": (GENERAL.reshape(2, 9), NINE, {"target": "ij"}, False, (2, 3, 3), "ij"),
    "flat, a list, declared": (list(GENERAL.reshape(2, 9)), NINE, {"target": "ij"}, False, (2, 3, 3), "ij"),
    "flat rank 3": (FULLY_SYMMETRIC.reshape(2, 27), THREE, {"target": "ijk"}, False, (2, 3, 3, 3), "ijk"),
    "flat of atoms": ([np.ones((3, 9)), np.ones((5, 9))], N_ATOMS, {"target": "born_charge"}, True, (8, 3, 3), "ij"),
    "nine charges": (list(RANDOM.normal(size=(2, 9))), NINE, {"per_atom": True}, True, (18,), ""),
    "six charges": (list(RANDOM.normal(size=(2, 6))), SIX, {"target": "charges"}, True, (12,), ""),
    "array of equal sizes": (RANDOM.normal(size=(2, 9, 3)), NINE, {"per_atom": True}, True, (18, 3), "i"),
    "array that can only be of atoms": (RANDOM.normal(size=(2, 9, 3)), NINE, {}, True, (18, 3), "i"),
    "table of charges": (RANDOM.normal(size=(2, 6)), SIX, {"per_atom": True}, True, (12,), ""),
    "one axial": (GENERAL[:, 0], N_ATOMS, {"target": CartesianTensor("i", "i")}, False, (2, 3), "i"),
    "an axial property": (GENERAL, N_ATOMS, {"target": "optical_rotation"}, False, (2, 3, 3), "ij"),
    "per_atom beats the name": (list(GENERAL), THREE, {"target": "dipole", "per_atom": True}, True, (6, 3), "i"),
    "single atoms": ([np.ones(1), np.ones(1)], np.array([1, 1]), {}, True, (2,), ""),
}


@pytest.mark.parametrize("case", READ)
def test_readings(case):
    y, n_atoms, declared, per_atom, shape, formula = READ[case]
    labels = read_labels(y, n_atoms, **declared)
    assert (labels.per_atom, labels.values.shape, labels.tensor.formula) == (per_atom, shape, formula)
    np.testing.assert_array_equal(labels.values.ravel(), np.concatenate([np.ravel(one) for one in y]))
    # the same as object arrays, and what predict would return is read as it was
    read_again = read_labels(labels.given(), n_atoms, labels.tensor, labels.per_atom)
    np.testing.assert_array_equal(read_again.values, labels.values)
    # a descriptor, which knows nothing of what is declared, has the blocks of every polar reading
    found = irreps(infer_formula(labels.values))
    assert found <= {str(irrep) for _, irrep in irreps_of_labels(y, n_atoms)} | {"0e"}
    assert found == {str(irrep) for _, irrep in irreps_of_labels(labels.given(), n_atoms, labels.per_atom)}


def test_arrays_like_all_forms():
    for form in (list, tuple, lambda y: pd.Series(list(y)), lambda y: by_structure(np.concatenate(y), [3, 3])):
        labels = read_labels(form(GENERAL), THREE, target="forces")
        np.testing.assert_array_equal(labels.values, GENERAL.reshape(6, 3))
        assert labels.per_atom
    table = pd.DataFrame(GENERAL[:, 0], columns=["x", "unit", "value"], index=[7, 3])
    np.testing.assert_array_equal(read_labels(table, THREE).values, GENERAL[:, 0])
    series = pd.Series([1.0, 2.0], index=["b", "a"], dtype="Float64")
    np.testing.assert_array_equal(read_labels(series, THREE).values, [1.0, 2.0])


AMBIGUOUS = {
    "vectors of three atoms": (list(GENERAL[:, 0]), THREE, ["target='dipole'", "per_atom=True"]),
    "matrices of three atoms": (list(GENERAL), THREE, ["target='polarizability'", "target='forces'", "per_atom=False"]),
    "an array of them": (GENERAL, THREE, ["target='polarizability'", "target='forces'", "per_atom=True"]),
    "an array of rank 3": (RANK3, THREE, ["target='hyperpolarizability'", "target='shielding'"]),
    # symmetric in the last two indices is what efg tensors of atoms are, too
    "piezoelectric or field gradients": (RANK3 + RANK3.swapaxes(2, 3), THREE, ["target='shielding'", "per_atom=False"]),
    "nine scalars": (list(np.ones((2, 9))), NINE, ["per_atom=True", r"reshape\(y, \(-1, 3, 3\)\)", "'polarizability'"]),
    "27 scalars": (list(np.ones((2, 27))), 3 * NINE, ["per_atom=True", r"reshape\(y, \(-1, 3, 3, 3\)\)"]),
    "81 scalars": (list(np.ones((2, 81))), 9 * NINE, ["per_atom=True", r"\(-1, 3, 3, 3, 3\)", "'elastic'"]),
    "six scalars": (list(np.ones((2, 6))), SIX, ["per_atom=True", "voigt_6_to_full_3x3_stress"]),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous(case):
    y, n_atoms, advice = AMBIGUOUS[case]
    for words in advice:
        with pytest.raises(ValueError, match=words):
            read_labels(y, n_atoms)
    assert len(list(irreps_of_labels(y, n_atoms))) >= 1  # no error in a descriptor


def test_advice_of_ambiguous_labels_works():
    for y, n_atoms in ((list(GENERAL[:, 0]), THREE), (GENERAL, THREE), (RANK3, THREE), (list(np.ones((2, 9))), NINE)):
        assert read_labels(y, n_atoms, per_atom=True).per_atom
    assert not read_labels(list(np.ones((2, 9))), NINE, target="polarizability").per_atom
    for declared, per_atom in (("polarizability", False), ("ij", False), ("forces", True), ("i", True)):
        assert read_labels(list(SYMMETRIC), THREE, target=declared).per_atom == per_atom


def test_voigt_is_restored_as_the_message_says():
    voigt = np.array([full_3x3_to_voigt_6_stress(one) for one in SYMMETRIC])
    with pytest.raises(ValueError, match=r"voigt_6_to_full_3x3_stress\(one\) for one in y"):
        read_labels(voigt, THREE, target="stress")
    np.testing.assert_allclose([voigt_6_to_full_3x3_stress(one) for one in voigt], SYMMETRIC)
    # rank 4: symmetric in both pairs, so that two of its indices can be written as one
    stiffness = np.einsum("nij,nkl->nijkl", SYMMETRIC, SYMMETRIC)
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    written = np.array([[[one[i + j] for j in pairs] for i in pairs] for one in stiffness])
    with pytest.raises(ValueError, match=r"np.asarray\(y\)\[:, v\[:, :, None, None\], v\]") as raised:
        read_labels(written, THREE, target="elastic")
    v = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    assert str(v.tolist()) in str(raised.value)
    np.testing.assert_array_equal(written[:, v[:, :, None, None], v], stiffness)
    np.testing.assert_array_equal(written[:, 0][:, v], stiffness[:, 0, 0])


def test_unlabelled_atoms():
    y = [np.zeros((3, 3)), np.ones((5, 3))]
    y[1][[0, 3]] = np.nan
    np.testing.assert_array_equal(read_labels(y, N_ATOMS).atoms, [0, 1, 2, 4, 5, 7])
    for nothing in (None, np.nan, pd.NA, pd.NaT, np.ma.masked, np.full((3, 3), np.nan)):
        labels = read_labels([nothing, np.ones((5, 3))], N_ATOMS)
        np.testing.assert_array_equal(labels.atoms, [3, 4, 5, 6, 7])
        assert np.isnan(labels.given()[0]).all()
    masked = [
        np.zeros((3, 3)),
        np.ma.masked_array(np.ones((5, 3)), mask=np.repeat([[0], [1], [0], [0], [1]], 3, axis=1)),
    ]
    np.testing.assert_array_equal(read_labels(masked, N_ATOMS).atoms, [0, 1, 2, 3, 5, 6])
    array = np.ones((2, 9, 3))
    array[1, 4] = np.nan
    assert 13 not in read_labels(array, NINE, per_atom=True).atoms


def test_one_array_for_each_structure():
    for n_atoms in ([2, 2], [3, 3], [4]):
        parts = by_structure(np.ones((sum(n_atoms), 3)), n_atoms)
        assert (parts.shape, parts.dtype) == ((len(n_atoms),), object)
        assert [one.shape for one in parts] == [(n, 3) for n in n_atoms]
        assert is_by_structure(parts)
    assert not is_by_structure(np.ones((2, 3)))
    assert is_by_structure([np.ones((2, 3)), np.ones((4, 3))])
    with pytest.raises(ValueError, match="tensors of structures or of 3 atoms each"):
        is_by_structure([np.ones((3, 3)), np.ones((3, 3))])


class Quantity:
    """Numbers with a unit, which numpy reads as if there were none."""

    def __init__(self, magnitude, units="debye"):
        self.magnitude, self.units = np.asarray(magnitude), units

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.magnitude, dtype=dtype)

    def __len__(self):
        return len(self.magnitude)

    def __getitem__(self, key):
        return Quantity(self.magnitude[key], self.units)

    def __float__(self):
        return float(self.magnitude)


class AstropyLike(np.ndarray):
    unit = "D"

    @property
    def value(self):
        return np.asarray(self)


HALF = [np.zeros((3, 3)), np.ones((5, 3))]
HALF[1][2, 1] = np.nan
HALF_MASKED = [np.zeros((3, 3)), np.ma.masked_array(np.ones((5, 3)), mask=np.arange(15).reshape(5, 3) == 7)]


@pytest.mark.parametrize(
    ("y", "target", "error", "message"),
    [
        (None, None, ValueError, "requires y to be passed"),
        (np.zeros(3), None, ValueError, "3 entries for 2 structures"),
        (np.zeros((2, 9)), None, ValueError, r"restored by y.reshape\(-1, 3, 3\)"),
        (np.zeros((2, 3, 2)), None, ValueError, r"trailing shape \(3, 2\)"),
        (np.zeros((2, 3)), "ij", ValueError, "of rank 2"),
        (np.zeros((2, 5)), "dipole", ValueError, "of rank 1"),
        (
            [np.zeros((3, 3)), np.zeros((5, 3))],
            "dipole",
            ValueError,
            r"y\[0\] has trailing shape \(3, 3\).*per_atom=True",
        ),
        (np.zeros((2, 3)), "forces", ValueError, "but per_atom=True asks for one for each atom"),
        (np.array([[1, 2, 3], [1, np.nan, 3]]), None, ValueError, "first for structure 1"),
        (np.ma.masked_array(np.ones((2, 3)), mask=[[0, 0, 0], [0, 1, 0]]), None, ValueError, "first for structure 1"),
        ([np.ones(3), np.ma.masked_array(np.ones(3), mask=[0, 1, 0])], None, ValueError, "first for structure 1"),
        ([1.0, None], None, ValueError, "first for structure 1"),
        ([1.0, pd.NA], None, ValueError, "first for structure 1"),
        ([pd.NaT, 1.0], None, ValueError, "first for structure 0"),
        ([1.0, np.ma.masked], None, ValueError, "first for structure 1"),
        (pd.Series([1.0, None], index=[5, 6], dtype="Float64"), None, ValueError, "first for structure 1"),
        (pd.DataFrame({"x": [1, pd.NA], "y": [1, 2], "z": [3, 4]}, dtype="Int64"), None, ValueError, "for structure 1"),
        ([[1.0, 2.0, 3.0], [1.0, None, 3.0]], None, ValueError, "first for structure 1"),
        ([np.ones((3, 3)), np.ones((5, 3))[:, :2]], None, ValueError, r"a row of y\[1\] has trailing shape \(2,\)"),
        (np.zeros(2, dtype=complex), None, ValueError, "Complex data not supported"),
        (["a", "b"], None, TypeError, "y.* is not numeric but text"),
        (np.array(["1.0", "2.0"]), None, TypeError, "is not numeric but text"),
        (["1.0", "2.0"], None, TypeError, "is not numeric but text"),
        (pd.Series(["1.0", "2.0"]), None, TypeError, "is not numeric but text"),
        ([True, False], None, TypeError, "is not numeric but booleans"),
        (np.array([True, False]), None, TypeError, "is not numeric but booleans"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), None, TypeError, "is not numeric but dates"),
        ([{"a": 1}, {"a": 2}], None, TypeError, r"y\[0\] is not"),
        ({"dipole": [1, 2]}, None, TypeError, "got dict"),
        ("energy", None, TypeError, "got str"),
        (5.0, None, TypeError, "got float"),
        ((one for one in [1.0, 2.0]), None, TypeError, "got generator"),
        (Quantity(np.ones((2, 3))), None, TypeError, r"y carries units \(debye\).*y.magnitude"),
        ([Quantity(np.ones(3)), Quantity(np.ones(3))], None, TypeError, r"y\[0\] carries units"),
        ([[Quantity(1.0)] * 3, [Quantity(1.0)] * 3], None, TypeError, "carries units"),
        (np.ones((2, 3)).view(AstropyLike), None, TypeError, "y carries units.*y.value"),
        (np.array([[1.0, 2.0, 3.0], [1e300, 0.0, 0.0]]), None, ValueError, "structure 1 is as large as 1.0e"),
        ([np.zeros((3, 3)), np.full((5, 3), -1e200)], None, ValueError, "structure 1, atom 0 is as large as 1.0e"),
        ([np.zeros((3, 3)), np.zeros((4, 3))], None, ValueError, r"y\[1\] has 4 rows, structure 1 has 5 atoms"),
        ([np.zeros((3, 3)), np.zeros(5)], None, ValueError, "different numbers of axes"),
        (HALF, None, ValueError, "structure 1, atom 2 has NaN or infinity in some"),
        (HALF_MASKED, None, ValueError, "structure 1, atom 2 has NaN or infinity in some"),
        ([np.full((3, 3), np.nan), np.full((5, 3), np.nan)], None, ValueError, "every label in y is NaN"),
        ([np.zeros((3, 6)), np.zeros((5, 6))], "efg", ValueError, r"Voigt.*for one in y\[0\]"),
        ([np.zeros((3, 9)), np.zeros((5, 9))], None, ValueError, r"y.reshape\(-1, 3, 3\) of each"),
    ],
)
def test_what_is_refused(y, target, error, message):
    with pytest.raises(error, match=message):
        read_labels(y, N_ATOMS, target)


def test_per_atom_must_be_a_flag():
    with pytest.raises(ValueError, match="per_atom='yes' must be None, True or False"):
        read_labels([1.0, 2.0], N_ATOMS, per_atom="yes")
    with pytest.raises(ValueError, match=r"has shape \(n, 3, 3\), but structure 1 has 5 atoms"):
        read_labels(GENERAL, N_ATOMS, per_atom=True)


def test_forces_and_stress_that_are_not_known_or_not_plain():
    known = np.ones((5, 3))
    for nothing in (None, np.nan, pd.NA, np.full((3, 3), np.nan), np.ma.masked_all((3, 3))):
        np.testing.assert_array_equal(read_forces([nothing, known], N_ATOMS).owners, [3, 4, 5, 6, 7])
    for nothing in (None, np.nan, pd.NA, np.full(6, np.nan), np.ma.masked_all((3, 3))):
        np.testing.assert_array_equal(read_stress([nothing, np.eye(3)], np.ones(2)).owners, [1])
    some = np.ma.masked_array(np.ones((5, 3)), mask=np.arange(15).reshape(5, 3) == 7)
    for forces, error, message in (
        ([np.ones((3, 3)), some], ValueError, "structure 1, atom 2 has NaN"),
        ([np.ones((3, 3)), Quantity(known, "eV/A")], TypeError, r"forces\[1\] carries units \(eV/A\)"),
        (Quantity(np.ones((2, 3, 3))), TypeError, "forces carries units"),
        ([np.ones((3, 3)), 1e300 * known], ValueError, "structure 1, atom 0 is larger than"),
        ([np.ones((3, 3)), known > 0], TypeError, r"forces\[1\] is not numeric but booleans"),
        ([np.ones((3, 3)), known.astype(str)], TypeError, r"forces\[1\] is not numeric but text"),
        ([np.ones((3, 3)), known.astype(complex)], ValueError, r"forces\[1\] is complex"),
    ):
        with pytest.raises(error, match=message):
            read_forces(forces, N_ATOMS)
    with pytest.raises(TypeError, match=r"stress\[1\] carries units"):
        read_stress([np.eye(3), Quantity(np.eye(3))], np.ones(2))
    with pytest.raises(ValueError, match="stress of structure 1 has NaN"):
        read_stress([np.eye(3), np.ma.masked_array(np.eye(3), mask=np.eye(3))], np.ones(2))
