"""The operations named are enough: what they leave, the whole group leaves."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels.symmetry import PointGroup, allowed_components, explain_zero, point_group
from eqkernels.symmetry.group_algebra import closure
from eqkernels.testing import random_rotation


@pytest.mark.parametrize(
    ("name", "target", "operations"),
    [
        ("C6H6", "dipole", ["i"]),
        ("CO2", "dipole", ["i"]),
        ("C2H4", "hyperpolarizability", ["i"]),
        ("HCl", "dipole", ["C∞"]),
        ("H2O", "optical_rotation", None),
        ("CH4", "dipole", None),
        ("CH4", "2e", None),
        ("CH4", "polarizability", None),
        ("C60", "elastic", None),
        ("BF3", "dipole", None),
    ],
)
def test_operations_suffice(name, target, operations):
    atoms = molecule(name)
    atoms.positions = atoms.positions @ random_rotation(0).T
    explained = explain_zero(atoms, target)
    if operations is not None:
        assert [str(one).split()[0] for one in explained.operations] == operations
    matrices = np.array([one.matrix for one in explained.operations])
    if not explained.allowed.group.continuous:
        part = PointGroup("subgroup", closure(matrices), np.zeros((1, 3)))
        assert allowed_components(part, target).dimension == explained.allowed.dimension
    assert len(explained.operations) <= 3
    for one in explained.operations:
        moved = atoms.positions @ one.matrix.T + one.translation
        np.testing.assert_allclose(moved, atoms.positions[one.permutation], atol=0.01)
    assert explained.zero == (explained.allowed.dimension == 0)


def test_components_that_are_zero():
    water = molecule("H2O")  # in the plane x = 0, its axis along z
    assert explain_zero(water, "dipole").zero_components == ["x", "y"]
    assert explain_zero(water, "polarizability").zero_components == ["xy", "xz", "yx", "yz", "zx", "zy"]
    assert explain_zero(molecule("CH4"), "ij=-ji").zero_components == ["xy", "xz", "yx", "yz", "zx", "zy"]  # not xx
    skew = Atoms("HCNO", [[1.0, 0, 0], [0, 1.3, 0], [0, 0, 1.7], [2, 2.5, 1]])
    assert str(explain_zero(skew, "dipole")) == "dipole of HCNO, 1 (C1): symmetry restricts no component"


def test_equivalent_atoms():
    methane = molecule("CH4")
    carbon, hydrogen = explain_zero(methane, "charges")
    assert carbon.equivalent == {}
    assert sorted(hydrogen.equivalent) == [2, 3, 4]
    for atom, operation in hydrogen.equivalent.items():
        np.testing.assert_allclose(
            operation.matrix @ methane.positions[1] + operation.translation, methane.positions[atom], atol=1e-6
        )
    assert "equal values at equivalent atoms" in str(hydrogen)
    assert point_group(methane).schoenflies in str(carbon)
    assert explain_zero(molecule("CO2"), "shielding")[1].equivalent.keys() == {2}


def test_pseudoscalars_of_mirror_images_are_not_called_equal():
    _, hydrogen = explain_zero(Atoms("OH2", [[0, 0, 0], [0.3, 0.76, 0.59], [0.3, -0.76, 0.59]]), "0e", per_atom=True)
    assert hydrogen.scalar
    carbon = explain_zero(molecule("C2H4"), "0o+1o", per_atom=True)[0]
    assert not carbon.scalar
    assert "equal values" not in str(carbon)


def test_crystals():
    pytest.importorskip("spglib")
    (copper,) = explain_zero(bulk("Cu", cubic=True), "shielding")
    assert copper.allowed.dimension == 1
    assert "1 by translation, 2 by translation, 3 by translation" in str(copper)
    zinc, oxygen = explain_zero(bulk("ZnO", "wurtzite", a=3.25, c=5.2), "born_charge")
    assert (list(zinc.equivalent), list(oxygen.equivalent)) == ([2], [3])
    assert explain_zero(bulk("Si"), "piezoelectric").zero


def test_text():
    assert str(explain_zero(molecule("C6H6"), "dipole")) == (
        "dipole of C6H6, 6/mmm (D6h): zero, since i leaves no component unchanged"
    )
    assert str(explain_zero(molecule("NH3"), "dipole")).splitlines() == [
        "dipole of NH3, 3m (C3v): independent components 1 of 3, because of C3 [0 0 1]", " 0 0 z",
    ]  # fmt: skip
