"""Allowed components against published tables and character theory."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal

from eqkernels.so3 import CartesianTensor, Irreps, wigner_d
from eqkernels.symmetry import PointGroup, allowed_components, site_group, symmetrize
from eqkernels.testing import random_rotation

# Numbers of independent components, from J. F. Nye, Physical Properties of Crystals (1985): chapter IV (pyroelectricity),
# table 3 (symmetric tensors of rank 2), chapter XIV (gyration), tables 8 (piezoelectricity) and 9 (elasticity); second
# harmonics have the form of table 8. The last column is theirs with Kleinman's symmetry (R. W. Boyd, Nonlinear Optics,
# chapter 1). PUBLISHED below are numbers from other sources.
NYE = """
1      3 6  6 18 21 10
-1     0 6  0  0 21  0
2      1 4  4  8 13  4
m      2 4  2 10 13  6
2/m    0 4  0  0 13  0
222    0 3  3  3  9  1
mm2    1 3  1  5  9  3
mmm    0 3  0  0  9  0
4      1 2  2  4  7  2
-4     0 2  2  4  7  2
4/m    0 2  0  0  7  0
422    0 2  2  1  6  0
4mm    1 2  0  3  6  2
-42m   0 2  1  2  6  1
4/mmm  0 2  0  0  6  0
3      1 2  2  6  7  4
-3     0 2  0  0  7  0
32     0 2  2  2  6  1
3m     1 2  0  4  6  3
-3m    0 2  0  0  6  0
6      1 2  2  4  5  2
-6     0 2  0  2  5  2
6/m    0 2  0  0  5  0
622    0 2  2  1  5  0
6mm    1 2  0  3  5  2
-6m2   0 2  0  1  5  1
6/mmm  0 2  0  0  5  0
23     0 1  1  1  3  1
m-3    0 1  0  0  3  0
432    0 1  1  0  3  0
-43m   0 1  0  1  3  1
m-3m   0 1  0  0  3  0
"""
ROWS = [line.split() for line in NYE.strip().splitlines()]
TARGETS = ["dipole", "polarizability", "gyration", "piezoelectric", "elastic", "hyperpolarizability"]


def symmetric(trace, square):
    return (trace**2 + square) / 2


def characters(matrices):
    """Characters of the tensors of TARGETS, of the traces of powers of R (symmetric powers, Molien)."""
    powers = [np.linalg.matrix_power(matrices, k) for k in range(5)]
    t, t2, t3, t4 = (np.trace(one, axis1=1, axis2=2) for one in powers[1:])
    pair = symmetric(t, t2)
    return {
        "dipole": t,
        "polarizability": pair,
        "gyration": np.linalg.det(matrices) * pair,
        "piezoelectric": t * pair,
        "elastic": symmetric(pair, symmetric(t2, t4)),
        "hyperpolarizability": (t**3 + 3 * t * t2 + 2 * t3) / 6,
        "born_charge": t**2,
        "optical_rotation": np.linalg.det(matrices) * t**2,
    }


# Elasticity: the forms after Nye in the appendix "Tensor elements of the nuclear third-order susceptibility" of a textbook
# (Oxford University Press, ISBN 9780198702764), which has the numbers by class in parentheses. Rank 2: table 1.4.1.1 of
# International Tables for Crystallography D (2006), H. Kueppers. The others: the same volume, A. Authier, sections
# 1.1.4.7 (rank 2 without symmetry), 1.1.4.8.6 (rank 3), 1.1.4.9 (rank 4), and the examples of M. Ephraim et al. to its
# chapter 1.2 ("Ten", pseudotensors).
PUBLISHED = [
    ("elastic", 21, "1 -1"), ("elastic", 13, "2 m 2/m"), ("elastic", 9, "222 mm2 mmm"), ("elastic", 7, "3 -3"),
    ("elastic", 6, "3m -3m 32"), ("elastic", 7, "4 -4 4/m"), ("elastic", 6, "4mm 422 -42m 4/mmm"),
    ("elastic", 5, "6 -6 6/m 622 6mm 6/mmm -6m2"), ("elastic", 3, "23 m-3 432 -43m m-3m"), ("elastic", 2, "Kh"),
    ("polarizability", 6, "1 -1"), ("polarizability", 4, "2 m 2/m"), ("polarizability", 3, "222 mm2 mmm"),
    ("polarizability", 2, "3 -3 32 3m -3m 4 -4 4/m 422 4mm -42m 4/mmm 6 -6 6/m 622 6mm -6m2 6/mmm"),
    ("polarizability", 1, "23 m-3 432 -43m m-3m Kh"),
    ("ij", 9, "1 -1"), ("ij", 5, "2 m 2/m"), ("ij", 3, "222 mm2 mmm"),
    ("ijk", 2, "-6"), ("ijk", 1, "-6m2 -62m"), ("ijk", 0, "6/m 6/mmm Dinfh Cinfh"),
    ("ijkl", 81, "1 -1"), ("ijkl", 41, "2 m 2/m"), ("ijkl", 27, "3 -3"),
    ("magnetic_moment", 1, "m"), (CartesianTensor("ij=-ji", "*"), 1, "4"), (CartesianTensor("ij", "*"), 2, "mm2"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "number", "names"), PUBLISHED)
def test_numbers_of_other_tables(target, number, names):
    assert {name: allowed_components(name, target).dimension for name in names.split()} == dict.fromkeys(
        names.split(), number
    )


def test_classes_with_an_effect():
    """Classes as listed in every textbook: 10 polar, 20 piezoelectric, 11 enantiomorphic and 15 gyrotropic."""
    names = [row[0] for row in ROWS]
    for target, number in (("dipole", 10), ("piezoelectric", 20), ("0o", 11), ("gyration", 15)):
        assert sum(allowed_components(name, target).dimension > 0 for name in names) == number


def turned(tensor, matrix):
    for axis in range(tensor.ndim):
        tensor = np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)
    return tensor


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_crystal_classes_have_as_many_components_as_in_the_tables(row):
    name, *numbers = row
    assert [allowed_components(name, target).dimension for target in TARGETS] == [int(one) for one in numbers]
    assert allowed_components(name, "second_harmonic").dimension == int(numbers[3])


@pytest.mark.parametrize("name", [row[0] for row in ROWS] + ["C5v", "D5d", "S8", "D8h", "I", "Ih"])
def test_dimensions_are_means_of_characters(name):
    for target, character in characters(PointGroup.from_name(name).matrices).items():
        np.testing.assert_allclose(allowed_components(name, target).dimension, character.mean(), atol=1e-9)


@pytest.mark.parametrize("name", ["m", "32", "-42m", "-6m2", "23", "D5d", "Ih", "Cinfv", "Dinfh", "Kh", "Cinf", "Dinf"])
@pytest.mark.parametrize("formula", ["i", "ij", "ijk=ikj", "ijkl=jikl=klij"])
def test_basis_is_orthonormal_and_invariant(name, formula):
    allowed = allowed_components(name, formula)
    flat = allowed.basis.reshape(allowed.dimension, 3 ** len(formula.split("=")[0]))
    np.testing.assert_allclose(flat @ flat.T, np.eye(allowed.dimension), atol=1e-12)
    for tensor in allowed.basis:
        np.testing.assert_allclose(CartesianTensor(formula).project(tensor), tensor, atol=1e-10)
        for matrix in allowed.group.matrices:  # continuous groups: rotations by an irrational angle
            np.testing.assert_allclose(turned(tensor, matrix), tensor, atol=1e-10)


# Nye, table 8 (as components d_ijk, not the engineering d_ij with factors of 2), and table 9.
FORMS = [
    ("32", "piezoelectric", "11 -11 0 14 0 0 / 0 0 0 0 -14 -11 / 0 0 0 0 0 0"),
    ("3m", "piezoelectric", "0 0 0 0 15 -22 / -22 22 0 15 0 0 / 31 31 33 0 0 0"),
    ("6mm", "piezoelectric", "0 0 0 0 15 0 / 0 0 0 15 0 0 / 31 31 33 0 0 0"),
    ("422", "piezoelectric", "0 0 0 14 0 0 / 0 0 0 0 -14 0 / 0 0 0 0 0 0"),
    ("-6m2", "piezoelectric", "0 0 0 0 0 -22 / -22 22 0 0 0 0 / 0 0 0 0 0 0"),
    ("-62m", "piezoelectric", "11 -11 0 0 0 0 / 0 0 0 0 0 -11 / 0 0 0 0 0 0"),
    ("-42m", "piezoelectric", "0 0 0 14 0 0 / 0 0 0 0 14 0 / 0 0 0 0 0 36"),
    ("-43m", "piezoelectric", "0 0 0 14 0 0 / 0 0 0 0 14 0 / 0 0 0 0 0 14"),
    ("2", "piezoelectric", "0 0 0 14 0 16 / 21 22 23 0 25 0 / 0 0 0 34 0 36"),
    ("m", "piezoelectric", "11 12 13 0 15 0 / 0 0 0 24 0 26 / 31 32 33 0 35 0"),
    ("mm2", "piezoelectric", "0 0 0 0 15 0 / 0 0 0 24 0 0 / 31 32 33 0 0 0"),
    ("∞m", "piezoelectric", "0 0 0 0 15 0 / 0 0 0 15 0 0 / 31 31 33 0 0 0"),
    ("m-3m", "elastic", "11 12 12 0 0 0 / 12 11 12 0 0 0 / 12 12 11 0 0 0 / 0 0 0 44 0 0 / 0 0 0 0 44 0 / 0 0 0 0 0 44"),
    ("6mm", "elastic", "11 12 13 0 0 0 / 12 11 13 0 0 0 / 13 13 33 0 0 0 / 0 0 0 44 0 0 / 0 0 0 0 44 0 / 0 0 0 0 0 (11-12)/2"),
    ("32", "elastic", "11 12 13 14 0 0 / 12 11 13 -14 0 0 / 13 13 33 0 0 0 / 14 -14 0 44 0 0 / 0 0 0 0 44 14 / 0 0 0 0 14 (11-12)/2"),
    ("2/m", "elastic", "11 12 13 0 15 0 / 12 22 23 0 25 0 / 13 23 33 0 35 0 / 0 0 0 44 0 46 / 15 25 35 0 55 0 / 0 0 0 46 0 66"),
    ("Kh", "elastic", "11 12 12 0 0 0 / 12 11 12 0 0 0 / 12 12 11 0 0 0 / 0 0 0 (11-12)/2 0 0 / 0 0 0 0 (11-12)/2 0 / 0 0 0 0 0 (11-12)/2"),
    ("-4", "gyration", "xx xy 0 / xy -xx 0 / 0 0 0"),
    ("2", "polarizability", "xx 0 xz / 0 yy 0 / xz 0 zz"),
    ("4", "born_charge", "xx xy 0 / -xy xx 0 / 0 0 zz"),
    ("m", "dipole", "x 0 z"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "target", "form"), FORMS)
def test_forms_are_those_of_the_tables(name, target, form):
    _, *lines = str(allowed_components(name, target)).splitlines()
    printed = [line.split() for line in lines if not line.startswith("Voigt")]
    assert printed == [line.split() for line in form.split(" / ")]


def test_other_properties_print_relations():
    lines = str(allowed_components("Td", "ij=-ji")).splitlines()
    assert lines == ["ij=-ji in -43m (Td): zero"]
    lines = str(allowed_components("T", "ijk")).splitlines()
    assert lines[1:] == ["xyz = yzx = zxy", "xzy = yxz = zyx", "all others are zero"]


@pytest.mark.parametrize("l", range(13))
def test_harmonics_of_cubic_and_icosahedral_groups(l):
    """Invariant harmonics: Molien series 1 / (1 - t^4)(1 - t^6) of Oh without r^2, 1 / (1 - t^6)(1 - t^10) of Ih."""

    def number(a, b):
        return sum(l == a * i + b * j for i in range(13) for j in range(13))

    irreps = Irreps([(1, (l, (-1) ** l))])
    assert allowed_components("Oh", irreps).dimension == number(4, 6)
    assert allowed_components("Ih", irreps).dimension == number(6, 10)
    assert allowed_components("Cinfv", irreps).dimension == 1
    assert allowed_components("Dinfh", irreps).dimension == (l % 2 == 0)
    assert allowed_components("Kh", irreps).dimension == (l == 0)
    assert allowed_components("Kh", Irreps([(1, (l, -1))])).dimension == 0


def perovskite():
    positions = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("SrTiO3", cell=3.9 * np.eye(3), scaled_positions=positions, pbc=True)


def quartz():
    return crystal(["Si", "O"], [(0.4697, 0, 2 / 3), (0.4135, 0.2669, 0.7858)], spacegroup=154,
                   cellpar=[4.916, 4.916, 5.4054, 90, 90, 120])  # fmt: skip


def test_born_charges_of_crystals():
    """Two values of oxygen in a cubic perovskite, parallel and perpendicular to the bond, and isotropic cations.

    Ph. Ghosez et al., Ferroelectrics 164, 113 (1995); F. Detraux, Ph. Ghosez, X. Gonze, Phys. Rev. B 56, 983 (1997). Of
    quartz, X. Gonze, D. C. Allan, M. P. Teter, Phys. Rev. Lett. 68, 3603 (1992).
    """
    pytest.importorskip("spglib")
    forms = [str(one).splitlines()[1:] for one in allowed_components(perovskite(), "born_charge")]
    isotropic = [" xx  0  0", "  0 xx  0", "  0  0 xx"]
    assert forms[0] == forms[1] == isotropic
    assert forms[2] == [" xx  0  0", "  0 xx  0", "  0  0 zz"]  # along z to titanium
    assert forms[4] == [" xx  0  0", "  0 yy  0", "  0  0 yy"]
    for one in allowed_components(bulk("ZnO", "wurtzite", a=3.25, c=5.2), "born_charge"):
        assert str(one).splitlines()[1:] == [" xx  0  0", "  0 xx  0", "  0  0 zz"]
    silicon, *_, oxygen = allowed_components(quartz(), "born_charge")
    assert str(silicon).splitlines()[1:] == [" xx  0  0", "  0 yy yz", "  0 zy zz"]  # at x, 0, 2/3 on an axis along a
    assert (silicon.dimension, oxygen.dimension) == (5, 9)


def test_sites_of_molecules():
    """An electric field gradient is zero at a tetrahedral site and symmetric about the axis of a C3v site."""
    carbon, *hydrogens = allowed_components(molecule("CH4"), "efg")
    assert carbon.dimension == 1  # the trace, which is zero by Laplace's equation, not by symmetry
    assert [one.dimension for one in hydrogens] == [2] * 4
    assert allowed_components(site_group(molecule("CH4"), 0), Irreps("2e")).dimension == 0
    assert [one.dimension for one in allowed_components(molecule("CO2"), "forces")] == [0, 1, 1]
    assert allowed_components(molecule("H2O"), "i", per_atom=True)[0].dimension == 1


@pytest.mark.parametrize("name", ["H2O", "NH3", "CH4", "C6H6", "CO2", "HCl"])
@pytest.mark.parametrize("target", ["dipole", "polarizability", "hyperpolarizability", "ijkl", "optical_rotation"])
def test_structures_in_any_orientation(name, target):
    atoms = molecule(name)
    by_name = {"H2O": "C2v", "NH3": "C3v", "CH4": "Td", "C6H6": "D6h", "CO2": "Dinfh", "HCl": "Cinfv"}[name]
    atoms.positions = atoms.positions @ random_rotation(1).T + 1
    assert allowed_components(atoms, target).dimension == allowed_components(by_name, target).dimension


def test_isotropic_atom():
    assert allowed_components(Atoms("He"), "polarizability").dimension == 1
    assert allowed_components(Atoms("He"), "shielding")[0].dimension == 1
    np.testing.assert_allclose(
        symmetrize(Atoms("He"), np.diag([1.0, 2, 3])[None], "shielding"), 2 * np.eye(3)[None], atol=1e-12
    )


@pytest.mark.parametrize("name", ["H2O", "NH3", "C6H6", "CO2", "HCl"])
def test_symmetrized_tensors(name):
    atoms = molecule(name)
    atoms.positions = atoms.positions @ random_rotation(4).T
    random = np.random.default_rng(0)
    total, local = random.normal(size=(3, 3, 3)), random.normal(size=(len(atoms), 3, 3))
    mean, means = symmetrize(atoms, total, "ijk"), symmetrize(atoms, local, "shielding")
    group = allowed_components(atoms, "ijk").group
    for one in group.operations:
        np.testing.assert_allclose(turned(mean, one.matrix), mean, atol=1e-10)
        np.testing.assert_allclose(one.matrix @ means @ one.matrix.T, means[one.permutation], atol=1e-10)
    np.testing.assert_allclose(symmetrize(atoms, mean, "ijk"), mean, atol=1e-10)
    np.testing.assert_allclose(symmetrize(atoms, means, "shielding"), means, atol=1e-10)
    if not group.continuous:  # the mean itself
        np.testing.assert_allclose(mean, np.mean([turned(total, one) for one in group.matrices], axis=0), atol=1e-10)
        expected = np.zeros_like(local)
        for one in group.operations:
            expected[one.permutation] += one.matrix @ local @ one.matrix.T / len(group.matrices)
        np.testing.assert_allclose(means, expected, atol=1e-10)


def test_symmetrized_born_charges_do_not_depend_on_the_cell():
    pytest.importorskip("spglib")
    charges = np.random.default_rng(2).normal(size=(5, 3, 3))
    mean = symmetrize(perovskite(), charges, "born_charge")
    np.testing.assert_allclose(mean[1], np.trace(charges[1]) / 3 * np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.sort(mean[2].diagonal()), np.sort(mean[3].diagonal()), atol=1e-10)
    larger = symmetrize(perovskite() * (2, 1, 1), np.concatenate([charges, charges]), "born_charge")
    np.testing.assert_allclose(larger, np.concatenate([mean, mean]), atol=1e-10)


def test_irreps_agree_with_cartesian_tensors():
    atoms = molecule("NH3")
    tensor = CartesianTensor("polarizability")
    values = np.random.default_rng(3).normal(size=tensor.dim)
    mean = symmetrize(atoms, values, tensor.irreps)
    np.testing.assert_allclose(
        tensor.inverse_transform(mean),
        symmetrize(atoms, tensor.inverse_transform(values), "polarizability"),
        atol=1e-10,
    )
    allowed = allowed_components("32", "2x1e+3o")
    for matrix in allowed.group.matrices:
        np.testing.assert_allclose(allowed.basis @ wigner_d("2x1e+3o", matrix).T, allowed.basis, atol=1e-10)


def test_relations_and_projection():
    allowed = allowed_components("32", "piezoelectric")
    assert allowed.independent == ["xxx", "xyz"]
    assert allowed.relations["yxy"] == {"xxx": -1.0}
    assert "zzz" not in allowed.relations
    tensor = np.random.default_rng(4).normal(size=(2, 3, 3, 3))
    expected = [np.mean([turned(one, matrix) for matrix in allowed.group.matrices], axis=0) for one in tensor]
    expected = (np.array(expected) + np.swapaxes(expected, 2, 3)) / 2
    np.testing.assert_allclose(allowed.project(tensor), expected, atol=1e-10)
    np.testing.assert_allclose(allowed.projector @ allowed.projector, allowed.projector, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: allowed_components("4/mmmm", "dipole"), "no point group"),
        (lambda: allowed_components("4", "dipol"), "did you mean 'dipole'"),
        (lambda: allowed_components("4", "dipole", per_atom=True), "takes a structure"),
        (lambda: symmetrize(molecule("H2O"), np.zeros(3), "forces"), r"shape \(3,\), expected \(3, 3\)"),
        (lambda: allowed_components("4", "dipole").project(np.zeros((2, 2))), "expected"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
