"""Point groups of molecules, of textbooks (e.g. F. A. Cotton, Chemical Applications of Group Theory)."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels.symmetry import PointGroup
from eqkernels.symmetry.group_names import CRYSTAL_CLASSES
from eqkernels.symmetry.molecular_search import molecular_group
from eqkernels.testing import random_rotation

GOLDEN = (1 + np.sqrt(5)) / 2


def icosahedron():
    signs = np.array([(a, b) for a in (1, -1) for b in (1, -1)])
    first = np.array([(0, a, b * GOLDEN) for a, b in signs])
    return np.concatenate([first, np.roll(first, 1, axis=1), np.roll(first, 2, axis=1)])


def ring(n, radius, z=0.0, twist=0.0):
    angles = 2 * np.pi * np.arange(n) / n + twist
    return np.array([radius * np.cos(angles), radius * np.sin(angles), np.full(n, z)]).T


def layers(n, twist, numbers=("C", "C")):
    """Two rings on one another: D_nh if eclipsed, D_nd if staggered, D_n if twisted."""
    parts = [ring(n, 1.4, 0.9), ring(n, 1.4, -0.9, twist)]
    return Atoms([numbers[0]] * n + [numbers[1]] * n, np.concatenate(parts))


def borane():
    return Atoms("B12H12", np.concatenate([0.9 * icosahedron(), 1.5 * icosahedron()]))


def ethane(twist):
    carbons, upper, lower = [[0, 0, 0.77], [0, 0, -0.77]], ring(3, 1.02, 1.16), ring(3, 1.02, -1.16, twist)
    return Atoms("C2H6", np.concatenate([carbons, upper, lower]))


def four_arms():
    """Four arms that leave an S4 axis: tetraphenyl-like."""
    upper = np.array([[1.0, 0.3, 0.8], [-1.0, -0.3, 0.8]])
    lower = np.array([[0.3, -1.0, -0.8], [-0.3, 1.0, -0.8]])
    ends = np.array([[1.7, 0.2, 1.5], [-1.7, -0.2, 1.5], [0.2, -1.7, -1.5], [-0.2, 1.7, -1.5]])
    return Atoms("CF4H4", np.concatenate([[[0, 0, 0]], upper, lower, ends]))


def peroxide():
    return Atoms("O2H2", [[0, 0.73, 0], [0, -0.73, 0], [0.8, 0.9, 0.5], [-0.8, -0.9, 0.5]])


def chiral():
    return Atoms("CHFClBr", [[0, 0, 0], [0, 0, 1.1], [1.3, 0, -0.4], [-0.8, 1.5, -0.6], [-0.9, -1.7, -0.6]])


def allene():
    return Atoms("C3H4", [[0, 0, 0], [0, 0, 1.3], [0, 0, -1.3], [0.93, 0, 1.85], [-0.93, 0, 1.85],
                          [0, 0.93, -1.85], [0, -0.93, -1.85]])  # fmt: skip


def sulfur_hexafluoride():
    return Atoms("SF6", np.concatenate([[[0, 0, 0]], 1.56 * np.eye(3), -1.56 * np.eye(3)]))


CASES = [
    (molecule("H2O"), "C2v", "mm2", 4),
    (molecule("NH3"), "C3v", "3m", 6),
    (molecule("CH4"), "Td", "-43m", 24),
    (molecule("C6H6"), "D6h", "6/mmm", 24),
    (molecule("C60"), "Ih", "m-3-5", 120),
    (borane(), "Ih", "m-3-5", 120),
    (ethane(np.pi / 3), "D3d", "-3m", 12),
    (ethane(0), "D3h", "-6m2", 12),
    (ethane(0.4), "D3", "32", 6),
    (allene(), "D2d", "-42m", 8),
    (sulfur_hexafluoride(), "Oh", "m-3m", 48),
    (peroxide(), "C2", "2", 2),
    (chiral(), "C1", "1", 1),
    (four_arms(), "S4", "-4", 4),
    (molecule("CO2"), "Dinfh", "∞/mm", np.inf),
    (molecule("HCl"), "Cinfv", "∞m", np.inf),
    (molecule("N2"), "Dinfh", "∞/mm", np.inf),
    (Atoms("He"), "Kh", "∞∞m", np.inf),
    (molecule("BF3"), "D3h", "-6m2", 12),
    (molecule("C2H4"), "D2h", "mmm", 8),
    (molecule("CH3OH"), "Cs", "m", 2),
    (layers(5, 0), "D5h", "-10m2", 20),
    (layers(5, np.pi / 5), "D5d", "-5m", 20),
    (layers(4, np.pi / 4), "D4d", "-82m", 16),
    (layers(4, 0.2), "D4", "422", 8),
    (layers(6, 0, "CN"), "C6v", "6mm", 12),
    (layers(7, 0.1, "CN"), "C7", "7", 7),
]


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize(("atoms", "schoenflies", "international", "order"), CASES, ids=lambda value: str(value))
def test_known_molecules(atoms, schoenflies, international, order, noise):
    random = np.random.default_rng(3)
    positions = (
        atoms.positions @ random_rotation(5).T + [3.0, -7.0, 11.0] + random.uniform(-noise, noise, (len(atoms), 3))
    )
    shuffled = random.permutation(len(atoms))
    group = molecular_group(positions[shuffled], atoms.numbers[shuffled], tolerance=0.01)
    assert (group.schoenflies, group.hermann_mauguin, group.order) == (schoenflies, international, order)
    for one in group.operations:
        np.testing.assert_allclose(one.matrix @ one.matrix.T, np.eye(3), atol=1e-12)
        moved = positions[shuffled] @ one.matrix.T + one.translation
        np.testing.assert_allclose(moved, positions[shuffled][one.permutation], atol=0.015)


@pytest.mark.parametrize("atoms", [molecule("CH4"), molecule("C6H6"), borane(), ethane(0)], ids=str)
def test_operations_are_a_group_to_rounding(atoms):
    positions = atoms.positions + np.random.default_rng(0).uniform(-1e-3, 1e-3, (len(atoms), 3))
    matrices = molecular_group(positions, atoms.numbers, tolerance=0.02).matrices
    products = np.einsum("gij,hjk->ghik", matrices, matrices).reshape(-1, 1, 3, 3)
    assert np.abs(products - matrices).max(axis=(2, 3)).min(axis=1).max() < 1e-12


@pytest.mark.parametrize("name", ["CH4", "C6H6", "NH3", "CO2", "C60"])
def test_noise_above_the_tolerance(name):
    atoms = molecule(name)
    positions = atoms.positions + np.random.default_rng(1).uniform(-0.05, 0.05, (len(atoms), 3))
    assert molecular_group(positions, atoms.numbers, tolerance=0.005).schoenflies in ("C1", "Cs")


def test_isotopes_and_substituents_lower_the_symmetry():
    methane = molecule("CH4")
    assert molecular_group(methane.positions, np.array([6, 9, 1, 1, 1]), 0.01).schoenflies == "C3v"
    assert molecular_group(methane.positions, np.array([6, 9, 9, 1, 1]), 0.01).schoenflies == "C2v"


def test_subgroup_where_only_some_operations_are_within_the_tolerance():
    """One C-H bond of methane that is too long leaves C3v."""
    positions = molecule("CH4").positions
    positions[1] *= 1.1
    assert molecular_group(positions, molecule("CH4").numbers, 0.02).schoenflies == "C3v"


def test_operations_between_two_tolerances_are_a_group():
    """Wherever the tolerance cuts through the errors of operations, those left are closed."""
    positions = molecule("C6H6").positions + np.random.default_rng(2).uniform(-0.02, 0.02, (12, 3))
    for tolerance in np.linspace(0.005, 0.08, 20):
        permutations = molecular_group(positions, molecule("C6H6").numbers, tolerance).permutations
        keys = {tuple(one) for one in permutations.tolist()}
        assert {tuple(a[b]) for a in permutations for b in permutations} == keys


@pytest.mark.parametrize("name", [*CRYSTAL_CLASSES, "I", "Ih", "Th", "D5d", "D5h", "D6d", "S8", "C7v", "C5h", "D9"])
def test_random_molecules_of_each_group(name):
    """Orbits of random points of four elements have the symmetry that made them, and no other."""
    random = np.random.default_rng(7)
    operations = PointGroup.from_name(name).matrices @ random_rotation(8)
    operations = random_rotation(9) @ operations
    parts = [operations @ random.uniform(-3, 3, 3) for _ in range(4)]
    positions = np.concatenate(parts) + random.uniform(-2e-4, 2e-4, (4 * len(operations), 3))
    numbers = np.repeat([6, 7, 8, 9], len(operations))
    group = molecular_group(positions, numbers, tolerance=2e-3)
    assert group.schoenflies == PointGroup.from_name(name).schoenflies


def test_almost_linear_molecules():
    for bend, expected in [(1e-3, "Dinfh"), (0.05, "C2v"), (0.3, "C2v")]:
        positions = np.array([[0, 0, 1.2], [0, bend, 0], [0, 0, -1.2]])
        assert molecular_group(positions, np.array([8, 6, 8]), tolerance=0.01).schoenflies == expected


def test_coinciding_atoms():
    with pytest.raises(ValueError, match="atoms 1 and 2 are 0.0010 Angstrom apart"):
        molecular_group(np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0.001], [0, 1.0, 0]]), np.array([1, 1, 1, 1]), 0.01)
