"""Attention, networks without gates, invariant networks and pooling, in combination: symmetry, derivatives, files."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels import EquivariantNetwork, EquivariantNetworkRegressor, TensorRidge
from eqkernels.io import load_model, save_model
from eqkernels.learned import fitting
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames

SMALL = {"cutoff": 4.0, "channels": 4, "max_iter": 3, "n_radial": 4, "n_hidden": 5, "random_state": 0}
KINDS = [
    {"attention": True},
    {"attention": 3, "products": False, "n_layers": 3},
    {"attention": 2, "architecture": "ace", "body_order": 3},
    {"attention": 1, "l_max": 0, "products": False},
    {"attention": 2, "species_embedding": "periodic", "n_species_channels": 3},
    {"attention": 2, "architecture": "ace", "species_embedding": "periodic", "n_species_channels": 3, "l_max": 1},
    {"l_max": 0},
    {"l_max": 0, "architecture": "ace"},
    {"nonlinearity": "tensor_product"},
    {"nonlinearity": "tensor_product", "l_max": 0, "n_layers": 3},
    {"nonlinearity": "tensor_product", "attention": 2, "l_max": 3, "n_layers": 1},
    {"pooling": "residuenumbers"},
    {"pooling": "residuenumbers", "l_max": 0, "products": False},
    {"pooling": "residuenumbers", "architecture": "ace", "pooling_layers": 2, "pooling_cutoff": 6.0},
    {"pooling": "residuenumbers", "attention": 2, "nonlinearity": "tensor_product", "l_max": 1},
    {"pooling": "residuenumbers", "attention": 2, "architecture": "ace", "species_embedding": "periodic"},
    {"pooling": "molecules", "attention": True, "products": False, "pooling_layers": 2},
    {"pooling": "molecules", "nonlinearity": "tensor_product", "species_embedding": "periodic"},
]
STEP = 1e-4
# Molecules that are far from one another in skewed cells, some of them across a boundary.
NAMES = ["H2O", "NH3", "CH3OH", "HF", "CH4", "H2CO"]


def periodic_frames(n_frames=3, labelled=True):
    random, frames = np.random.default_rng(3), []
    for k in range(n_frames):
        cell = np.diag([7.5, 8.0, 8.5]) + random.normal(scale=0.4, size=(3, 3))
        atoms = Atoms(cell=cell, pbc=[(True, True, True), (True, True, False), (True, False, False)][k % 3])
        for number, name in enumerate([NAMES[k], NAMES[k + 1], NAMES[k + 2]]):
            one = molecule(name)
            one.rotate(random.uniform(0, 180), random.normal(size=3))
            one.positions += np.array([0.25, 0.6, 0.95])[number] * cell.sum(axis=0) + random.normal(scale=0.3, size=3)
            if labelled:
                one.set_array("residuenumbers", np.full(len(one), 10 - number))
            atoms += one
        atoms.wrap()
        frames.append(atoms)
    return frames


def molecular_frames():
    frames = random_frames(5, n_frames=4, n_species=3)
    for atoms in frames:
        atoms.arrays["residuenumbers"] = np.arange(len(atoms)) % 3
    return frames


FRAMES = {"molecules": molecular_frames(), "crystals": periodic_frames()}


def irreps_of(kind):
    few = kind.get("products", True) is False or kind.get("architecture") == "ace"
    return "0e" if kind.get("l_max") == 0 else "0e+1o+2e" if few else "0e+1o+1e+2e"


def with_large_keys(network):
    """Make weights of neighbors as unequal as training may."""
    for name, array in network.weights_.items():
        if "keys" in name:
            network.weights_[name] = 100 * array
    return network


def total(network, weights, frames):
    return sum(np.sum(weights[key] * block) for key, block in network.transform(frames).blocks.items())


def slope(function):
    """Derivative at 0, to fourth order."""
    return (8 * (function(STEP) - function(-STEP)) - function(2 * STEP) + function(-2 * STEP)) / (12 * STEP)


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_features_are_equivariant_and_differentiable(kind, frames):
    network = with_large_keys(EquivariantNetwork(**SMALL, **kind, irreps=irreps_of(kind)).fit(frames))
    assert_equivariant(network, frames)
    random = np.random.default_rng(0)
    weights = {key: random.normal(size=block.shape) for key, block in network.transform(frames).blocks.items()}
    directions = [random.normal(size=atoms.positions.shape) for atoms in frames]
    strains = random.normal(size=(len(frames), 3, 3))

    def moved(step):
        out = [atoms.copy() for atoms in frames]
        for atoms, direction in zip(out, directions, strict=True):
            atoms.positions += step * direction
        return total(network, weights, out)

    def stretched(step):
        out = [atoms.copy() for atoms in frames]
        for atoms, strain in zip(out, strains, strict=True):
            deformation = np.eye(3) + step * strain
            atoms.set_cell(atoms.cell[:] @ deformation.T)
            atoms.positions = atoms.positions @ deformation.T
        return total(network, weights, out)

    derivatives = network.vjp(frames, weights)
    expected = np.sum(derivatives.positions * np.concatenate(directions))
    assert slope(moved) == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert slope(stretched) == pytest.approx(np.sum(derivatives.strain * strains), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradient_of_the_loss_by_weights(kind, monkeypatch):
    losses = []

    class Kept(fitting.Loss):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            losses.append(self)

    monkeypatch.setattr(fitting, "Loss", Kept)
    frames, random = FRAMES["crystals"], np.random.default_rng(1)
    y = {"energy": random.normal(size=3)} | ({} if kind.get("l_max") == 0 else {"dipole": random.normal(size=(3, 3))})
    EquivariantNetwork(**SMALL, **kind, solver="lbfgs").fit(frames, y)
    loss = losses[0]
    vector = loss.start + 0.1 * random.normal(size=len(loss.start))
    direction = random.normal(size=len(vector)) / np.sqrt(len(vector))
    expected = slope(lambda step: loss(vector + step * direction)[0])
    assert loss(vector)[1] @ direction == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_predictions_forces_and_files(kind, tmp_path):
    """Labels of structures and of atoms, forces of the model of energies, and the same numbers from a file."""
    frames, random = FRAMES["crystals"], np.random.default_rng(2)
    y = {"energy": random.normal(size=3), "charges": [random.normal(size=len(atoms)) for atoms in frames]}
    model = EquivariantNetworkRegressor(**SMALL, **kind).fit(frames, y)
    predicted = model.predict(frames)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model").predict(frames)
    assert np.array_equal(again["energy"], predicted["energy"])
    alone = model.predict(frames[1:2])
    assert alone["energy"][0] == pytest.approx(predicted["energy"][1], abs=1e-10)
    assert np.allclose(alone["charges"][0], predicted["charges"][1], atol=1e-10)
    from_features = model.predict(model.descriptor_.transform(frames))
    assert np.allclose(from_features["energy"], predicted["energy"], atol=1e-9)
    energies = EquivariantNetworkRegressor(**SMALL, **kind).fit(frames, y["energy"])
    forces = energies.predict_forces(frames)
    assert all(np.allclose(one.sum(axis=0), 0.0, atol=1e-9) for one in forces)
    moved = [atoms.copy() for atoms in frames]
    moved[0].positions[2, 1] += 1e-4
    back = [atoms.copy() for atoms in frames]
    back[0].positions[2, 1] -= 1e-4
    difference = (energies.predict(moved) - energies.predict(back))[0] / 2e-4
    assert forces[0][2, 1] == pytest.approx(-difference, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[8], KINDS[11]], ids=str)
def test_error_bars_adam_and_continued_training(kind):
    frames = periodic_frames(3) * 8
    for k, atoms in enumerate(frames):
        frames[k] = atoms.copy()
        frames[k].rattle(0.1, seed=k)
    y = np.random.default_rng(0).normal(size=(24, 3))
    model = EquivariantNetworkRegressor(**SMALL, **kind, error_bars=True, solver="adam", batch_size=8).fit(frames, y)
    mean, std = model.predict(frames[:4], return_std=True)
    assert mean.shape == std.shape == (4, 3)
    assert (std > 0).all()
    model = EquivariantNetworkRegressor(**SMALL, **kind, warm_start=True).fit(frames, y)
    assert_equivariant(model.fit(frames, y).partial_fit(frames[:9], y[:9]), frames[:2], tolerance=1e-9)


def test_the_defaults_have_no_new_weights():
    frames = FRAMES["molecules"]
    names = set(EquivariantNetwork(**SMALL).fit(frames).weights_)
    assert not any(name.startswith(("queries", "keys", "pool", "groups")) for name in names)
    assert "gates_0" in names
    assert "gates_0" not in EquivariantNetwork(**SMALL, nonlinearity="tensor_product").fit(frames).weights_


def test_invariant_networks_answer_for_scalars_only():
    frames = FRAMES["molecules"]
    for architecture in ("message_passing", "ace"):
        network = EquivariantNetwork(**SMALL, l_max=0, architecture=architecture).fit(frames)
        assert network.irreps_ == "0e"
        with pytest.raises(
            ValueError, match="cannot make the irreps 1o, of l_max=0 are invariants only: set l_max=1 or more"
        ):
            EquivariantNetwork(**SMALL, l_max=0, architecture=architecture).fit(frames, np.ones((4, 3)) + np.eye(4, 3))
        with pytest.raises(ValueError, match="cannot make the irreps 2e, of l_max=0"):
            EquivariantNetwork(**SMALL, l_max=0, architecture=architecture, irreps="0e+2e").fit(frames)


def test_an_invariant_network_is_a_function_of_distances():
    """Mirror images and whatever has the same distances look alike to it; its forces are along the distances."""
    frames = [molecule("H2O"), molecule("NH3")]
    model = EquivariantNetworkRegressor(**SMALL, l_max=0, products=False).fit(frames, [1.0, 2.0])
    pair = Atoms("OH", positions=[[0.0, 0.0, 0.0], [0.5, -0.7, 0.4]])
    force = model.predict_forces([pair])[0]
    assert np.allclose(np.cross(force, pair.positions[1]), 0.0, atol=1e-12)


def test_gates_are_needed_without_products():
    with pytest.raises(ValueError, match="nonlinearity='tensor_product' needs products=True"):
        EquivariantNetwork(**SMALL, nonlinearity="tensor_product", products=False).fit(FRAMES["molecules"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"attention": 5}, "attention=5 heads need as many channels at least, channels=4"),
        ({"attention": 0}, "attention=0 must be True, False, or a positive integer"),
        ({"attention": "yes"}, "attention='yes' must be True"),
        ({"nonlinearity": "relu"}, "nonlinearity='relu' must be one of"),
        ({"pooling": 3}, "pooling=3 must be the name of an array"),
        ({"pooling_layers": 0}, "pooling_layers=0 must be an integer between 1 and 8"),
        ({"pooling_cutoff": -1.0}, "pooling_cutoff=-1.0 must be a positive, finite number, or None"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        EquivariantNetwork(**SMALL, **parameters).fit(FRAMES["molecules"])


def test_pooled_features_feed_other_models():
    """Descriptors of a ridge take frames with their arrays, and the ridge has derivatives."""
    frames, y = FRAMES["crystals"], np.arange(3.0)
    network = EquivariantNetwork(**SMALL, pooling="residuenumbers", irreps="0e")
    model = TensorRidge(descriptor=network, alpha=1e-3).fit(frames, y)
    forces = model.predict_forces(frames)
    assert [one.shape for one in forces] == [atoms.positions.shape for atoms in frames]
    assert np.allclose(network.fit_transform(frames).blocks["0e"], network.fit(frames).transform(frames).blocks["0e"])


@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_unseen_elements_are_embedded(architecture):
    frames, random = FRAMES["crystals"], np.random.default_rng(0)
    options = {"attention": 2, "pooling": "molecules", "architecture": architecture, "handle_unknown": "embed"}
    model = EquivariantNetworkRegressor(**SMALL, **options, n_species_channels=3).fit(
        frames, random.normal(size=(3, 3))
    )
    unseen = [molecule("SiH4") + Atoms("Xe", positions=[[0.0, 0.0, 5.0]]), frames[0]]
    assert_equivariant(model, unseen)
    derivatives = model.vjp(unseen, np.ones((2, 3))).positions
    moved, back = ([atoms.copy() for atoms in unseen] for _ in range(2))
    moved[0].positions[1, 0] += STEP
    back[0].positions[1, 0] -= STEP
    difference = np.sum(model.predict(moved) - model.predict(back)) / (2 * STEP)
    assert derivatives[1, 0] == pytest.approx(difference, rel=1e-5, abs=1e-8)
