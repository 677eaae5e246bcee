"""Pooling: its operations, coinciding mean positions, atoms that are left out, and what it sees."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.learned import graph as graphs
from eqkernels.learned import pooling
from eqkernels.learned.tape import Tape, Variable
from eqkernels.structures import StructureBatch
from eqkernels.testing import assert_equivariant, transformed
from tests.learned.test_kinds import periodic_frames

SMALL = {"cutoff": 3.0, "channels": 4, "max_iter": 3, "n_radial": 4, "n_hidden": 5, "random_state": 0}
GROUPS, SIZES = np.array([0, 2, 2, 0, 1]), np.array([2, 1, 2])
OPERATIONS = {
    "stack": (lambda t, x, y: pooling.stack(t, [x, y]), [(5, 3, 2), (5, 1, 2)]),
    "share": (lambda t, x: pooling.share(t, x, GROUPS, SIZES), [(3, 4, 2)]),
    "softened harmonics": (lambda t, v: graphs.edge_harmonics(t, v, 4, 0.7), [(6, 3)]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_pullback_is_the_derivative(name):
    operation, shapes = OPERATIONS[name]
    random = np.random.default_rng(0)
    values, directions = ([random.normal(size=shape) for shape in shapes] for _ in range(2))
    tape, inputs = Tape(), [Variable(value) for value in values]
    output = operation(tape, *inputs)
    output.gradient = weight = random.normal(size=output.value.shape)
    tape.backward()
    for k, direction in enumerate(directions):
        moved = []
        for step in (1e-5, -1e-5):
            arguments = [Variable(v + step * direction if i == k else v) for i, v in enumerate(values)]
            moved.append(np.sum(weight * operation(Tape(recording=False), *arguments).value))
        assert np.sum(inputs[k].gradient * direction) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-7)


def test_sharing_keeps_sums_and_softened_harmonics_are_polynomials_over_roots():
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    shared = pooling.share(Tape(), Variable(x), GROUPS, SIZES).value
    assert np.allclose(shared.sum(axis=0), x.sum(axis=0))
    vectors = np.array([[0.3, -0.2, 0.5], [0.0, 0.0, 0.0]])
    got = graphs.edge_harmonics(Tape(), Variable(vectors), 1, 0.7).value
    expected = np.sqrt(3) * vectors[:, [1, 2, 0]] / np.sqrt(np.sum(vectors**2, axis=1) + 0.49)[:, None]
    assert np.allclose(got, np.column_stack([np.ones(2), expected]), atol=1e-14)


def rings(shift):
    """Two triangles around one axis, in one plane where shift is zero: two groups with the same mean position."""
    angles = 2 * np.pi * np.arange(3) / 3
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    atoms = Atoms("H3O3", positions=np.vstack([ring, 2.5 * ring + [0.0, 0.0, 0.0]]))
    atoms.positions[3:] += shift
    atoms.set_array("ring", np.repeat([0, 1], 3))
    atoms.positions[2] += [0.3, -0.1, 0.2]
    atoms.positions[3:] += np.array([0.3, -0.1, 0.2]) / 3
    return atoms


@pytest.mark.parametrize("attention", [False, True])
def test_groups_may_have_the_same_position(attention):
    """Features and derivatives are continuous there, whichever way the groups pass each other."""
    options = {"irreps": "0e+1o+2e", "pooling": "ring", "attention": attention}
    network = EquivariantNetwork(**SMALL, **options).fit([rings([0.1, 0.2, 0.3]), rings([0.0, 0.4, -0.3])])
    together = rings([0.0, 0.0, 0.0])
    centers = [together.positions[:3].mean(axis=0), together.positions[3:].mean(axis=0)]
    assert np.allclose(*centers, atol=1e-12)
    assert_equivariant(network, [together])
    random = np.random.default_rng(0)
    weights = {key: random.normal(size=block.shape) for key, block in network.transform([together]).blocks.items()}
    derivatives = network.vjp([together], weights).positions
    for direction in random.normal(size=(4, 3)):
        near = network.vjp([rings(1e-7 * direction)], weights).positions
        assert np.allclose(near, derivatives, atol=1e-4 * np.abs(derivatives).max())
        values = []
        for step in (2e-4, 1e-4, -1e-4, -2e-4):
            blocks = network.transform([rings(step * direction)]).blocks
            values.append(sum(np.sum(weights[key] * block) for key, block in blocks.items()))
        expected = (-values[0] + 8 * values[1] - 8 * values[2] + values[3]) / 12e-4
        assert np.sum(derivatives[3:] @ direction) == pytest.approx(expected, rel=1e-6)


def test_groups_see_beyond_the_cutoff_of_atoms():
    pair = molecule("H2O") + molecule("HF")
    pair.positions[3:] += [0.0, 0.5, 5.0]
    moved = pair.copy()
    moved.positions[3:] += [0.0, 0.0, 0.4]
    options = {**SMALL, "irreps": "0e"}
    for parameters, sees in (
        ({}, False),
        ({"pooling": "molecules", "pooling_cutoff": 4.0}, False),
        ({"pooling": "molecules"}, True),  # twice the cutoff of 3
        ({"pooling": "molecules", "pooling_cutoff": 8.0}, True),
    ):
        network = EquivariantNetwork(**options, **parameters).fit([pair])
        one, other = (network.transform([atoms]).blocks["0e"] for atoms in (pair, moved))
        assert np.allclose(one, other, atol=1e-12) is not sees


def test_the_names_of_groups_and_the_images_of_atoms_do_not_matter():
    frames = periodic_frames()
    network = EquivariantNetwork(**SMALL, pooling="residuenumbers", irreps="0e+1o").fit(frames)
    expected = network.transform(frames).blocks
    changed = [atoms.copy() for atoms in frames]
    for atoms in changed:
        atoms.arrays["residuenumbers"] = (20 - atoms.arrays["residuenumbers"]) % 7
        shifts = np.random.default_rng(1).integers(-1, 2, size=(len(atoms), 3)) * atoms.pbc
        atoms.positions += shifts @ atoms.cell.array
    got = network.transform(changed).blocks
    assert all(np.allclose(got[key], expected[key], atol=1e-10) for key in expected)
    molecules = EquivariantNetwork(**SMALL, pooling="molecules", irreps="0e+1o").fit(frames)
    got = molecules.transform(frames).blocks
    assert all(np.allclose(got[key], expected[key], atol=1e-10) for key in expected)


def test_supercells_of_molecules():
    frames = periodic_frames()[:1]
    network = EquivariantNetwork(**SMALL, pooling="molecules", irreps="0e+1o").fit(frames)
    one = network.transform(frames).blocks["1o"]
    two = network.transform([frames[0].repeat((2, 1, 1))]).blocks["1o"]
    assert np.allclose(two, np.tile(one, (2, 1, 1)), atol=1e-10)


def test_unknown_atoms_are_left_out_of_their_groups():
    frames = periodic_frames()
    model = EquivariantNetworkRegressor(**SMALL, pooling="residuenumbers", handle_unknown="ignore")
    model.fit(frames, np.arange(3.0))
    more = frames[0] + Atoms("Ar", positions=[[1.0, 2.0, 3.0]])
    more.arrays["residuenumbers"][-1] = 10
    assert model.predict([more])[0] == pytest.approx(model.predict(frames[:1])[0], abs=1e-10)
    assert np.array_equal(model.vjp([more], [1.0]).positions[-1], np.zeros(3))


def test_batches_of_the_geometry_alone_are_refused():
    frames = periodic_frames()
    network = EquivariantNetwork(**SMALL, pooling="residuenumbers").fit(frames)
    with pytest.raises(ValueError, match="the batch has no array 'residuenumbers'"):
        network.transform(StructureBatch.from_frames(frames))
    with pytest.raises(ValueError, match="structure 0 has no array 'residuenumbers'"):
        network.transform([molecule("H2O")])


def test_labels_follow_the_atoms_that_are_reordered():
    atoms = molecule("H2O")
    atoms.set_array("residuenumbers", np.array([1, 2, 3]))
    atoms.set_array("names", np.array(["a", "b", "c"]))
    atoms.set_array("forces", np.ones((3, 3)))
    moved = transformed(atoms, order=[2, 0, 1])
    assert np.array_equal(moved.arrays["residuenumbers"], [3, 1, 2])
    assert np.array_equal(moved.arrays["names"], ["c", "a", "b"])
    assert "forces" not in moved.arrays
