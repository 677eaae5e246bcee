"""Derivatives by positions and strain against finite differences."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.testing import random_rotation, transformed
from tests.conftest import random_frames

SMALL = {"cutoff": 4.0, "channels": 4, "max_iter": 5, "n_radial": 5, "random_state": 0}
ARCHITECTURES = [
    {"architecture": "message_passing", "products": True},
    {"architecture": "message_passing", "products": False, "n_layers": 3},
    {"architecture": "ace", "body_order": 4},
]
STEP = 2e-6


def slope(function, frames, change):
    """Of function(frames) as all frames go along a change."""
    sums = []
    for sign in (1, -1):
        moved = [atoms.copy() for atoms in frames]
        for k, atoms in enumerate(moved):
            change(k, atoms, sign * STEP)
        sums.append(function(moved))
    return (sums[0] - sums[1]) / (2 * STEP)


def assert_derivatives(function, derivatives, frames, periodic):
    random = np.random.default_rng(1)
    ends = np.cumsum([len(atoms) for atoms in frames])
    directions = np.split(random.normal(size=(ends[-1], 3)), ends[:-1])

    def shift(k, atoms, step):
        atoms.positions += step * directions[k]

    expected = np.sum(derivatives.positions * np.concatenate(directions))
    assert slope(function, frames, shift) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    strains = random.normal(size=(len(frames), 3, 3))

    def stretch(k, atoms, step):
        deformation = np.eye(3) + step * strains[k]
        if periodic:
            atoms.set_cell(atoms.cell[:] @ deformation.T)
        atoms.positions = atoms.positions @ deformation.T

    expected = np.sum(derivatives.strain * strains)
    assert slope(function, frames, stretch) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_features(architecture, periodic):
    frames = random_frames(5, n_frames=3, n_species=2, periodic=periodic)
    network = EquivariantNetwork(**SMALL, **architecture, irreps="0e+1o").fit(frames)
    random = np.random.default_rng(0)
    weights = {key: random.normal(size=block.shape) for key, block in network.transform(frames).blocks.items()}

    def total(moved):
        return sum(np.sum(weights[key] * block) for key, block in network.transform(moved).blocks.items())

    assert_derivatives(total, network.vjp(frames, weights), frames, periodic)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_crystals_whose_images_are_at_equal_distances(architecture):
    frames = [bulk("NaCl", "rocksalt", a=3.0, cubic=True), bulk("NaCl", "cesiumchloride", a=3.0)]
    distorted = [atoms.copy() for atoms in frames]
    for atoms in distorted:
        atoms.rattle(0.1, seed=0)
    network = EquivariantNetwork(**SMALL, **architecture, irreps="0e+1o").fit(distorted)
    random = np.random.default_rng(0)
    weights = {key: random.normal(size=block.shape) for key, block in network.transform(frames).blocks.items()}

    def total(moved):
        return sum(np.sum(weights[key] * block) for key, block in network.transform(moved).blocks.items())

    assert_derivatives(total, network.vjp(frames, weights), frames, True)


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 3)])
def test_predictions_for_structures(shape, aggregate):
    frames = random_frames(6, n_frames=4, n_species=3, periodic=True)
    random = np.random.default_rng(0)
    y, weights = random.normal(size=(2, 4, *shape))
    model = EquivariantNetworkRegressor(**SMALL, aggregate=aggregate).fit(frames, y)
    derivatives = model.vjp(frames, weights)
    assert_derivatives(lambda moved: np.sum(weights * model.predict(moved)), derivatives, frames, True)


def test_predictions_of_several_properties():
    frames = random_frames(6, n_frames=4, n_species=3, periodic=True)
    random = np.random.default_rng(0)
    y = {"energy": random.normal(size=4), "forces": [random.normal(size=(len(atoms), 3)) for atoms in frames]}
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, y)

    def total(moved):
        predicted = model.predict(moved)
        return np.sum(predicted["energy"] * y["energy"]) + np.sum(
            np.concatenate(predicted["forces"]) * np.concatenate(y["forces"])
        )

    assert_derivatives(total, model.vjp(frames, y), frames, True)


def test_predictions_for_atoms():
    frames = random_frames(6, n_frames=4, n_species=3, periodic=False)
    random = np.random.default_rng(0)
    y, weights = ([random.normal(size=(len(atoms), 3)) for atoms in frames] for _ in range(2))
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, y)

    def total(moved):
        return sum(np.sum(a * b) for a, b in zip(weights, model.predict(moved), strict=True))

    assert_derivatives(total, model.vjp(frames, weights), frames, False)


def test_forces_turn_with_the_molecule_and_sum_to_zero():
    frames = random_frames(7, n_frames=4, n_species=2)
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, np.arange(4.0))
    forces = -model.vjp(frames, np.ones(4)).positions
    rotation = random_rotation(np.random.RandomState(0))
    turned = -model.vjp([transformed(atoms, rotation) for atoms in frames], np.ones(4)).positions
    assert np.allclose(turned, forces @ rotation.T, atol=1e-10)
    assert np.allclose(forces[: len(frames[0])].sum(axis=0), 0, atol=1e-10)


def test_isolated_atoms_and_blocks_of_structures():
    frames = [Atoms("H"), *random_frames(8, n_frames=3, n_species=2)]
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, np.arange(4.0))
    assert np.array_equal(model.vjp(frames[:1], [1.0]).positions, np.zeros((1, 3)))
    alone = np.concatenate([model.vjp([atoms], [1.0]).positions for atoms in frames])
    many = model.vjp(frames * 70, np.ones(280)).positions
    assert np.allclose(many, np.tile(alone, (70, 1)), atol=1e-12)


def test_cotangents_of_another_shape_are_refused():
    frames = random_frames(9, n_frames=3, n_species=2)
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, np.ones((3, 3)) + np.arange(3.0)[:, None])
    with pytest.raises(ValueError, match=r"cotangents have shape \(3,\), the predictions \(3, 3\)"):
        model.vjp(frames, np.ones(3))
    with pytest.raises(ValueError, match=r"cotangents\['2e'\] has shape"):
        model.descriptor_.vjp(frames, {"2e": np.ones((3, 5, 1))})
