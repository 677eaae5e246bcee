"""Order parameters of known transitions, and that what they leave is the symmetry of the target."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels.so3 import wigner_d
from eqkernels.symmetry import order_parameters, space_group
from eqkernels.testing import random_rotation

SQUARE = Atoms("H4", [[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
TO_RECTANGLE = 0.1 * SQUARE.positions * [1, -1, 0]
A = 3.9
CUBIC = Atoms(
    "SrTiO3", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
    cell=A * np.eye(3), pbc=True,
)  # fmt: skip


def tilts(axis, wave_vector):
    """Displacements of oxygen for rotations of all octahedra about an axis, with signs that alternate in space."""
    atoms = CUBIC.repeat((2, 2, 2))
    moved = np.zeros((len(atoms), 3))
    for titanium in np.flatnonzero(atoms.symbols == "Ti"):
        sign = np.cos(2 * np.pi * np.floor(atoms.positions[titanium] / A + 1e-6) @ wave_vector)
        steps = atoms.get_distances(titanium, range(len(atoms)), mic=True, vector=True)
        near = (np.linalg.norm(steps, axis=1) < 0.6 * A) & (atoms.symbols == "O")
        moved[near] += sign * np.cross(axis, steps[near]) / 2  # each belongs to two octahedra
    return atoms, moved


def pnma():
    """Tilts a-b+a- of Glazer (Acta Cryst. B 28, 3384, 1972)."""
    atoms, first = tilts([0.1, 0, 0.1], [0.5, 0.5, 0.5])
    return atoms, first + tilts([0, 0.12, 0], [0.5, 0, 0.5])[1]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_square_to_rectangle(seed):
    """Smidt, Geiger, Miller: a component of degree 2, x2 - y2 where the rectangle is along x."""
    turn = np.eye(3) if seed is None else random_rotation(seed)
    square = Atoms("H4", SQUARE.positions @ turn.T)
    found = order_parameters(square, TO_RECTANGLE @ turn.T)
    assert (found.group, found.target_group, found.index) == ("4/mmm", "mmm", 2)
    (one,) = next(choice for choice in found.choices if choice[0].sites is None)
    assert (one.irrep, one.basis.shape) == ("2e", (1, 1, 5))
    expected = wigner_d("2e", turn) @ np.array([0, 0, 0, 0, 1.0])
    np.testing.assert_allclose(one.basis[0, 0] * np.sign(one.basis[0, 0] @ expected), expected, atol=1e-6)


def test_octahedral_tilts():
    """Pnma needs R4+ and M3+ at the B site: C. J. Howard, H. T. Stokes, Acta Cryst. B 54, 782 (1998)."""
    pytest.importorskip("spglib")
    atoms, moved = pnma()
    child = atoms.copy()
    child.positions += moved
    assert space_group(child, tolerance=1e-3).number == 62
    found = order_parameters(CUBIC, moved, supercell=(2, 2, 2))
    assert found.index == 48 // 8 * 8 // 2  # eight operations instead of 48; translations: two of eight
    r, m = (0.5, 0.5, 0.5), (0.5, 0.0, 0.5)
    assert set(found.amplitudes) == {r, m}
    np.testing.assert_allclose(sum(a**2 for a in found.amplitudes.values()), np.sum(moved**2))
    second, first = sorted(found.choices[0], key=lambda one: one.parts[0][0] == r)
    assert (first.irrep, first.element, first.parts) == ("1e", "Ti", [(r, "axis [1 0 1]")])
    assert (second.irrep, second.element, second.parts) == ("1e", "Ti", [(m, "axis [0 1 0]")])
    assert [first.sufficient, second.sufficient] == [False, False]
    assert "wave vector (1/2 1/2 1/2), axis [1 0 1]" in str(found)


def test_single_tilts():
    """I4/mcm (a0a0c-) by one vector at R, P4/mbm (a0a0c+) by one at M."""
    pytest.importorskip("spglib")
    for wave_vector, number in (((0.5, 0.5, 0.5), 140), ((0.5, 0.5, 0.0), 127)):
        atoms, moved = tilts([0, 0, 0.1], wave_vector)
        child = atoms.copy()
        child.positions += moved
        assert space_group(child, tolerance=1e-3).number == number
        found = order_parameters(CUBIC, moved, supercell=(2, 2, 2), l_max=1)
        parts = [(one.irrep, one.element, one.parts) for (one,) in found.choices]
        assert ("1e", "Ti", [(wave_vector, "axis [0 0 1]")]) in parts


@pytest.mark.parametrize(
    ("direction", "group", "axis"),
    [((0, 0, 1), "4mm", "axis [0 0 1]"), ((1, 1, 0), "mm2", "axis [1 1 0]"), ((1, 1, 1), "3m", "axis [1 1 1]")],
)
def test_ferroelectric_displacement(direction, group, axis):
    """Tetragonal, orthorhombic and rhombohedral BaTiO3: a vector of the structure along the displacement."""
    pytest.importorskip("spglib")
    moved = np.zeros((5, 3))
    moved[1] = 0.1 * np.array(direction)
    found = order_parameters(CUBIC, moved)
    assert (found.group, found.target_group) == ("m-3m", group)
    (one,) = found.choices[0]
    assert (one.irrep, one.sites, one.parts) == ("1o", None, [((0.0, 0.0, 0.0), axis)])


@pytest.mark.parametrize("case", ["square", "pnma", "ferroelectric"])
def test_what_remains_leaves_the_target(case):
    """The target is unchanged by every operation that the inputs of a choice leave; without symmetry left out, not."""
    if case == "square":
        found, moved, group = order_parameters(SQUARE, TO_RECTANGLE), TO_RECTANGLE, None
    else:
        pytest.importorskip("spglib")
        supercell = (2, 2, 2) if case == "pnma" else (1, 1, 1)
        moved = pnma()[1] if case == "pnma" else np.eye(5, 3, -1) * [0.1, 0, 0]
        moved = moved - moved.mean(axis=0)
        found = order_parameters(CUBIC, moved, supercell=supercell, l_max=1)
        group = supercell
    from eqkernels.symmetry.acting_groups import acting_group

    acting = acting_group(SQUARE if group is None else CUBIC, group or (1, 1, 1), 0.01, 2)
    assert found.choices
    for choice in found.choices:
        remaining = np.logical_and.reduce([one.remaining for one in choice])
        for k in np.flatnonzero(remaining):
            turned = np.empty_like(moved)
            turned[acting.permutations[k]] = moved @ acting.matrices[k].T
            np.testing.assert_allclose(turned, moved, atol=1e-10)
        assert remaining.sum() * found.index <= len(remaining)


def test_wave_vectors_of_a_centered_cell():
    """In the cubic cell of an fcc crystal, layers that alternate along z are at (0, 0, 1), the point X."""
    pytest.importorskip("spglib")
    atoms = bulk("Ar", cubic=True, a=5.3)
    moved = np.zeros((4, 3))
    moved[:, 2] = 0.1 * np.cos(2 * np.pi * atoms.get_scaled_positions()[:, 2])
    found = order_parameters(atoms, moved)
    (vector,) = found.amplitudes
    assert sorted(map(abs, vector)) == [0, 0, 1]
    assert found.index == 2 * 3  # X has three arms; half of the translations
    assert any(one.irrep == "1o" and one.sites is not None for (one,) in found.choices)


def test_a_tensor_of_the_structure():
    """A dipole of benzene along the axis takes a vector along it, one in the plane one in the plane."""
    for dipole, parts in (([0, 0, 1.0], "axis [0 0 1]"), ([1.0, 0, 0], "axis [1 0 0]")):
        found = order_parameters(molecule("C6H6"), dipole, "dipole")
        assert any(one.irrep == "1o" and one.sites is None and one.parts[0][1] == parts for (one,) in found.choices)
    nothing = order_parameters(molecule("H2O"), [0, 0, 1.0], "dipole")
    assert nothing.index == 1
    assert "nothing is to be added" in str(nothing)


def test_wrong_input():
    with pytest.raises(ValueError, match="expected"):
        order_parameters(SQUARE, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="not periodic"):
        order_parameters(SQUARE, TO_RECTANGLE, supercell=(2, 1, 1))
