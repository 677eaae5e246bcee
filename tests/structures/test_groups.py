"""Groups of atoms: which there are, and their mean positions in periodic cells."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels.structures import StructureBatch
from eqkernels.structures.groups import find_groups, with_groups


def waters(pbc=True):
    """Three waters in a skewed cell, one of them across its corner, and the mean position of each."""
    atoms, means = Atoms(cell=[[7.0, 0.5, 0.0], [0.0, 7.5, 0.3], [0.6, 0.0, 8.0]], pbc=pbc), []
    for k, center in enumerate([[0.05, 0.02, 0.0], [0.5, 0.5, 0.4], [0.4, 0.1, 0.6]]):
        one = molecule("H2O")
        one.rotate(40.0 * k, (1, 2, 3))
        one.positions += np.array(center) @ atoms.cell.array - one.positions.mean(axis=0)
        one.set_array("residuenumbers", np.full(3, 7 - k))
        means.append(one.positions.mean(axis=0))
        atoms += one
    return atoms, np.array(means)


def same_images(got, expected, cell):
    """Whether two lists of points are equal up to lattice vectors."""
    fractional = (got - expected) @ np.linalg.inv(cell)
    return np.allclose(fractional, np.rint(fractional), atol=1e-12)


@pytest.mark.parametrize("name", ["residuenumbers", "molecules"])
def test_mean_positions_do_not_depend_on_wrapping(name):
    atoms, means = waters()
    wrapped = atoms.copy()
    wrapped.wrap()
    assert not np.allclose(wrapped.positions, atoms.positions)
    scattered = atoms.copy()
    scattered.positions += np.random.default_rng(0).integers(-2, 3, size=(9, 3)) @ atoms.cell.array
    for one in (atoms, wrapped, scattered):
        found = find_groups(with_groups([one], name), name)
        order = [0, 1, 2] if name == "molecules" else [2, 1, 0]  # labels are in ascending order
        assert np.array_equal(found.members, np.repeat(order, 3))
        assert np.array_equal(found.sizes, [3, 3, 3])
        assert same_images(found.batch.positions[order], means, atoms.cell.array)


def test_groups_of_several_structures_and_kinds_of_labels():
    first, second = molecule("CH3OH"), molecule("H2O")
    first.set_array("name", np.array(["b", "a", "b", "b", "b", "a"]))
    second.set_array("name", np.array(["b", "c", "c"]))
    found = find_groups(with_groups([first, second], "name"), "name")
    assert np.array_equal(found.members, [1, 0, 1, 1, 1, 0, 2, 3, 3])
    assert np.array_equal(found.sizes, [2, 4, 1, 2])
    assert np.array_equal(found.batch.offsets, [0, 2, 4])
    assert np.allclose(found.batch.positions[1], first.positions[[0, 2, 3, 4]].mean(axis=0))
    assert np.allclose(found.batch.positions[3], second.positions[1:].mean(axis=0))


def test_molecules_are_what_bonds_connect():
    pair = molecule("CH3CH2OH")
    other = molecule("H2O")
    other.translate([0.0, 0.0, 5.0])
    found = find_groups(StructureBatch.from_frames([pair + other, Atoms("Ar")]), "molecules")
    assert np.array_equal(found.sizes, [9, 3, 1])
    assert np.array_equal(found.batch.offsets, [0, 2, 3])


def test_groups_that_are_not_bonded():
    """Two halves of a group that are 4 apart, across the boundary of a large cell."""
    atoms = Atoms("H4", positions=[[0.5, 0, 0], [1.2, 0, 0], [18.0, 0, 0], [10.0, 5.0, 0]], cell=[20.0] * 3, pbc=True)
    atoms.set_array("part", np.array([1, 1, 1, 2]))
    found = find_groups(with_groups([atoms], "part"), "part")
    assert same_images(found.batch.positions, [[(0.5 + 1.2 - 2.0) / 3, 0, 0], [10.0, 5.0, 0]], atoms.cell.array)


def test_groups_without_end_are_refused():
    salt = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    salt.set_array("part", np.zeros(8, dtype=int))
    message = "structure 1, atom 0: its group goes on through the periodic boundary without end"
    for name in ("part", "molecules"):
        first = molecule("H2O")
        first.set_array("part", np.zeros(3, dtype=int))
        with pytest.raises(ValueError, match=message):
            find_groups(with_groups([first, salt], name), name)
    # each atom on its own is no chain
    salt.set_array("part", np.arange(8))
    assert np.allclose(find_groups(with_groups([salt], "part"), "part").batch.positions, salt.positions)


def test_arrays_that_cannot_be_read_are_named():
    first, second = molecule("H2O"), molecule("NH3")
    first.set_array("part", np.array([0, 0, 1]))
    with pytest.raises(ValueError, match=r"structure 1 has no array 'part' \(it has numbers, positions\)"):
        with_groups([first, second], "part")
    second.set_array("part", np.zeros(4))
    with pytest.raises(ValueError, match="of structure 1 has shape .4,. and type float64"):
        with_groups([first, second], "part")
    with pytest.raises(ValueError, match="the batch has no array 'part'"):
        with_groups(StructureBatch.from_frames([first]), "part")


def test_parts_of_a_batch_keep_their_groups():
    frames = [waters()[0], waters(pbc=False)[0], waters()[0]]
    batch = with_groups(frames, "residuenumbers")
    assert np.array_equal(batch.groups, np.tile(np.repeat([2, 1, 0], 3), 3))
    assert np.array_equal(batch[[2, 0]].groups, batch.groups[:18])
    assert np.array_equal(batch.select(1, 2).groups, batch.groups[9:18])
    assert StructureBatch.from_frames(frames)[1:].groups is None
