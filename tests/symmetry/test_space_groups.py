"""Space groups, crystal classes and site groups of textbook crystals (International Tables A)."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.spacegroup import crystal

from eqkernels.symmetry import point_group, site_group, space_group
from eqkernels.symmetry.space_groups import site_groups
from eqkernels.testing import random_rotation

spglib = pytest.importorskip("spglib")
# the tests call spglib themselves, which warns in 2.7 that errors will be exceptions
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")


def perovskite():
    positions = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Atoms("SrTiO3", cell=3.9 * np.eye(3), scaled_positions=positions, pbc=True)


def quartz():
    """Low quartz in P3_221 (Levien, Prewitt, Weidner, Am. Mineral. 65, 920, 1980)."""
    return crystal(["Si", "O"], [(0.4697, 0, 2 / 3), (0.4135, 0.2669, 0.7858)], spacegroup=154,
                   cellpar=[4.916, 4.916, 5.4054, 90, 90, 120])  # fmt: skip


def wurtzite():
    return bulk("ZnO", "wurtzite", a=3.25, c=5.2)


CRYSTALS = [
    (perovskite(), 221, "Oh^1", "m-3m", ["m-3m", "m-3m", "4/mmm"]),
    (wurtzite(), 186, "C6v^4", "6mm", ["3m", "3m"]),
    (quartz(), 154, "D3^6", "32", ["2", "2", "2", "1"]),
    (bulk("Si"), 227, "Oh^7", "m-3m", ["-43m"]),
    (bulk("GaAs", "zincblende", a=5.65), 216, "Td^2", "-43m", ["-43m", "-43m"]),
    (bulk("Cu", cubic=True), 225, "Oh^5", "m-3m", ["m-3m"] * 4),
    (bulk("Cu") * (2, 2, 1), 225, "Oh^5", "m-3m", None),
    (bulk("Mg"), 194, "D6h^4", "6/mmm", ["-6m2"]),
]


def transformed(atoms, noise):
    random = np.random.default_rng(1)
    turn = random_rotation(2)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ turn.T)
    turned.positions = atoms.positions @ turn.T + [0.3, 0.1, -0.2] + random.uniform(-noise, noise, (len(atoms), 3))
    return turned


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize(
    ("atoms", "number", "schoenflies", "crystal_class", "sites"), CRYSTALS, ids=lambda v: str(v)[:30]
)
def test_known_crystals(atoms, number, schoenflies, crystal_class, sites, noise):
    atoms = transformed(atoms, noise)
    group = space_group(atoms)
    assert (group.number, group.schoenflies) == (number, schoenflies)
    assert point_group(atoms).hermann_mauguin == crystal_class
    for i, site in enumerate(sites or []):
        assert site_group(atoms, i).hermann_mauguin == site
    if len(group.permutations[0]) > len(set(group.permutations[0])):
        return
    inverse = np.linalg.inv(atoms.cell.array)
    for one in group.operations:
        np.testing.assert_allclose(one.matrix @ one.matrix.T, np.eye(3), atol=1e-12)
        steps = (atoms.positions @ one.matrix.T + one.translation - atoms.positions[one.permutation]) @ inverse
        np.testing.assert_allclose((steps - steps.round()) @ atoms.cell.array, 0, atol=0.02)
        assert (atoms.numbers[one.permutation] == atoms.numbers).all()


@pytest.mark.parametrize("atoms", [perovskite(), quartz(), wurtzite()], ids=str)
def test_names_are_those_of_spglib(atoms):
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    assert spglib.get_symmetry_dataset(cell, symprec=1e-3).pointgroup == point_group(atoms).hermann_mauguin


def test_noise_above_the_tolerance():
    atoms = transformed(perovskite(), 0.1)
    assert point_group(atoms).schoenflies == "C1"
    assert point_group(transformed(perovskite(), 1e-3), tolerance=1e-5).schoenflies == "C1"


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3), (2, 2, 2)])
def test_groups_do_not_depend_on_the_cell(repeats):
    for atoms in (perovskite(), quartz(), wurtzite()):
        larger, n = transformed(atoms * repeats, 1e-3), len(atoms)
        assert space_group(larger).number == space_group(atoms).number
        assert len(space_group(larger).matrices) == len(space_group(atoms).matrices)
        sites = [one.schoenflies for one in site_groups(atoms)]
        assert [one.schoenflies for one in site_groups(larger)] == sites * (len(larger) // n)


@pytest.mark.parametrize("number", [1, 2, 4, 9, 14, 19, 33, 61, 79, 82, 88, 92, 106, 118, 136, 145, 148, 155, 161, 166,
                                    170, 174, 176, 180, 186, 189, 194, 198, 205, 212, 219, 227])  # fmt: skip
def test_random_crystals_of_space_groups(number):
    """Of each crystal class, one space group: general positions of two elements."""
    kind = spglib.get_spacegroup_type(spglib_hall(number))
    cell = {1: [5, 6, 7, 80, 95, 103], 2: [5, 6, 7, 80, 95, 103]}.get(number)
    if cell is None:
        system = sum(number >= first for first in (3, 16, 75, 143, 195))
        cell = [None, [5, 6, 7, 90, 105, 90], [5, 6, 7, 90, 90, 90], [5, 5, 7, 90, 90, 90], [5, 5, 7, 90, 90, 120],
                [9, 9, 9, 90, 90, 90]][system]  # fmt: skip
    points = np.random.default_rng(11).uniform(0.03, 0.23, (3, 3))
    atoms = transformed(crystal(["Si", "O", "N"], points, spacegroup=number, cellpar=cell), 0.0)
    group = space_group(atoms, tolerance=1e-4)
    assert (group.number, group.schoenflies) == (number, kind.schoenflies)
    short = point_group(atoms, tolerance=1e-4).hermann_mauguin
    assert short == {"-62m": "-6m2", "-4m2": "-42m"}.get(kind.pointgroup_international, kind.pointgroup_international)


def spglib_hall(number):
    return next(hall for hall in range(1, 531) if spglib.get_spacegroup_type(hall).number == number)


def test_slab():
    """The (111) surface of fcc is 3m; three layers of it have an inversion center."""
    slab = fcc111("Cu", (1, 1, 3), a=3.6, vacuum=None)
    assert list(slab.pbc) == [True, True, False]
    assert point_group(slab).hermann_mauguin == "-3m"
    slab.numbers[0] = 28
    assert point_group(slab).hermann_mauguin == "3m"
    layer = Atoms("Cu", cell=3 * np.eye(3), pbc=[True, True, False])
    assert point_group(layer).hermann_mauguin == "4/mmm"  # not m-3m, the group of the cell


def test_sites_of_molecules():
    assert site_group(molecule("CO2"), 0).schoenflies == "Dinfh"
    assert site_group(molecule("CO2"), 1).schoenflies == "Cinfv"
    assert site_group(molecule("C6H6"), 0).schoenflies == "C2v"
    assert site_group(molecule("H2O"), -1).schoenflies == "Cs"


def test_a_site_group_is_about_its_atom():
    atoms = quartz()
    for i in (0, 3):
        for one in site_group(atoms, i).operations:
            np.testing.assert_allclose(one.matrix @ atoms.positions[i] + one.translation, atoms.positions[i], atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: point_group(Atoms("Cu", cell=np.eye(3) * 3, pbc=[True, False, False])), "periodic in 1 directions"),
        (lambda: space_group(molecule("H2O")), "periodic in 0 directions"),
        (lambda: site_group(molecule("H2O"), 3), "no atom 3: the structure has 3 atoms"),
        (lambda: point_group(molecule("H2O"), tolerance=-1), "tolerance=-1"),
        (lambda: point_group(Atoms()), "empty"),
        (lambda: point_group(Atoms("Cu", pbc=True)), "must be independent"),
        (lambda: point_group(Atoms("H", [[np.nan, 0, 0]])), "atom 0 has no finite position"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(TypeError, match="must be an ase.Atoms"):
        point_group("H2O")


def test_without_spglib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spglib", None)
    assert point_group(molecule("H2O")).schoenflies == "C2v"
    with pytest.raises(ImportError, match=r"eqkernels\[symmetry\]"):
        point_group(perovskite())
