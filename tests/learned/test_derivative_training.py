"""Networks that learn from forces, stress and derivatives of tensors."""

import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from scipy.spatial.transform import Rotation
from sklearn.base import clone

from eqkernels import EquivariantNetwork, EquivariantNetworkRegressor, TensorCalculator, load_model, save_model
from eqkernels.testing import random_rotation

SMALL = {"cutoff": 4.5, "channels": 4, "n_radial": 5, "batch_size": 4, "max_iter": 6, "random_state": 0}


@pytest.fixture(scope="module")
def alloys():
    """Distorted crystals with energies, forces and stress of a potential."""
    random, frames = np.random.default_rng(0), []
    for k in range(24):
        atoms = bulk("Cu", cubic=True)
        atoms.numbers[random.permutation(4)[: random.integers(0, 4)]] = 47
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
        frames.append(atoms)
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    forces = [atoms.get_forces() for atoms in frames]
    return frames, energies, forces, np.array([atoms.get_stress(voigt=False) for atoms in frames])


def molecules(n=12, seed=0):
    """Distorted water and ammonia, with dipoles of fixed charges that are bent, and their derivatives."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = molecule(("H2O", "NH3")[k % 2])
        atoms.positions = atoms.positions @ random_rotation(k).T + 0.1 * random.normal(size=atoms.positions.shape)
        frames.append(atoms)
    return frames, np.array([dipole(atoms) for atoms in frames]), [charges(atoms) for atoms in frames]


def dipole(atoms):
    """Sum over pairs of f(r) r, from heavy to light atoms."""
    vectors = atoms.positions[1:] - atoms.positions[0]
    return np.sum(np.exp(-np.sum(vectors**2, axis=1))[:, None] * vectors, axis=0)


def charges(atoms, step=1e-5):
    """Derivatives of the dipole, [a, i, j]."""
    out = np.empty((len(atoms), 3, 3))
    for a in range(len(atoms)):
        for j in range(3):
            values = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[a, j] += sign * step
                values.append(dipole(moved))
            out[a, :, j] = (values[0] - values[1]) / (2 * step)
    return out


def rmse(one, other):
    return np.sqrt(np.mean((np.concatenate(list(one)) - np.concatenate(list(other))) ** 2))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_learns_energies_forces_and_stress(alloys, architecture, solver):
    frames, energies, forces, stress = alloys
    options = {"max_iter": 80, "channels": 8, "solver": solver, "architecture": architecture}
    model = EquivariantNetworkRegressor(**SMALL | options)
    model.fit(frames, energies, forces=forces, stress=stress)
    assert np.std(model.predict(frames) - energies) < 0.2 * np.std(energies)
    assert rmse(model.predict_forces(frames), forces) < 0.3 * np.std(np.concatenate(forces))
    assert rmse(model.predict_stress(frames), stress) < 0.3 * np.std(stress)
    loss = model.history_["loss"]
    assert loss[-1] < 0.05 * loss[0]


def test_forces_are_slopes_of_the_energy(alloys):
    frames, energies, forces, stress = alloys
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, energies, forces=forces, stress=stress)
    random, atoms, step = np.random.default_rng(0), frames[3], 1e-4
    change, strain = random.normal(size=(len(atoms), 3)), random.normal(size=(3, 3))
    moved, stretched = [], []
    for sign in (1, -1):
        one, other = atoms.copy(), atoms.copy()
        one.positions += sign * step * change
        other.set_cell(other.cell.array @ (np.eye(3) + sign * step * (strain + strain.T)).T, scale_atoms=True)
        moved.append(one)
        stretched.append(other)
    for pair, expected in (
        (moved, -np.sum(model.predict_forces([atoms])[0] * change)),
        (stretched, np.sum(model.predict_stress([atoms])[0] * (strain + strain.T)) * atoms.get_volume()),
    ):
        up, down = model.predict(pair)
        assert (up - down) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_turns_with_the_structures():
    frames, dipoles, derivatives = molecules()
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, dipoles, derivatives=derivatives)
    rotation = random_rotation(1) @ -np.eye(3)
    turned = [Atoms(atoms.numbers, atoms.positions @ rotation.T) for atoms in frames]
    np.testing.assert_allclose(model.predict(turned), model.predict(frames) @ rotation.T, atol=1e-10)
    for one, other in zip(model.predict_derivatives(turned), model.predict_derivatives(frames), strict=True):
        np.testing.assert_allclose(one, np.einsum("ik,jl,akl->aij", rotation, rotation, other), atol=1e-10)


def test_learns_the_same_in_another_frame():
    """Up to the differences of gradients, and what Adam makes of them."""
    frames, dipoles, derivatives = molecules()
    rotation = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    turned = [Atoms(atoms.numbers, atoms.positions @ rotation.T) for atoms in frames]
    there = [np.einsum("ik,jl,akl->aij", rotation, rotation, one) for one in derivatives]
    model = EquivariantNetworkRegressor(**SMALL)
    here = model.fit(frames, dipoles, derivatives=derivatives).predict(frames)
    also = model.fit(turned, dipoles @ rotation.T, derivatives=there).predict(turned)
    np.testing.assert_allclose(also, here @ rotation.T, atol=1e-4 * np.abs(dipoles).max())


def test_learns_derivatives_of_dipoles():
    frames, dipoles, derivatives = molecules(24)
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 60, "channels": 8})
    model.fit(frames, dipoles, derivatives=derivatives)
    assert np.sqrt(np.mean((model.predict(frames) - dipoles) ** 2)) < 0.1 * np.std(dipoles)
    spread = np.std(np.concatenate(derivatives))
    assert rmse(model.predict_derivatives(frames), derivatives) < 0.15 * spread
    alone = EquivariantNetworkRegressor(**SMALL | {"max_iter": 60, "channels": 8}).fit(frames, derivatives=derivatives)
    assert alone.readouts_["y"].target_ == "i"
    assert rmse(alone.predict_derivatives(frames), derivatives) < 0.15 * spread


def test_missing_labels(alloys):
    frames, energies, forces, stress = alloys
    some = [one.copy() for one in forces]
    some[0][1] = np.nan  # of an atom
    some[1] = None
    partial = energies.copy()
    partial[[2, 5]] = np.nan
    strains = stress.copy()
    strains[::2] = np.nan
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 25}).fit(frames, partial, forces=some, stress=strains)
    assert np.isfinite(model.predict(frames)).all()
    assert rmse(model.predict_forces(frames), forces) < 0.6 * np.std(np.concatenate(forces))


def test_forces_alone(alloys):
    frames, energies, forces, _ = alloys
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 40, "channels": 8}).fit(frames, forces=forces)
    assert model.readouts_["y"].baseline_ is None
    assert rmse(model.predict_forces(frames), forces) < 0.4 * np.std(np.concatenate(forces))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_same_random_state_same_bits(alloys, solver):
    frames, energies, forces, stress = alloys
    labels = {"forces": forces, "stress": stress}
    model = EquivariantNetworkRegressor(**SMALL, solver=solver)
    fits = [clone(model).set_params(n_jobs=n_jobs).fit(frames, energies, **labels) for n_jobs in (1, 1, 2)]
    one, other, parallel = (model.predict(frames) for model in fits)
    assert (one == other).all()
    assert (one == parallel).all()


def test_forces_change_nothing_else(alloys):
    """A fit to energies after one with forces is that of a new model."""
    frames, energies, forces, _ = alloys
    model = EquivariantNetworkRegressor(**SMALL)
    expected = model.fit(frames, energies).predict(frames)
    again = model.fit(frames, energies, forces=forces).fit(frames, energies)
    assert (again.predict(frames) == expected).all()
    assert not hasattr(again.descriptor_, "readout_")


def test_weights_of_kinds(alloys):
    frames, energies, forces, _ = alloys
    errors = []
    for weight in (0.01, 100.0):
        model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 25}, force_weight=weight)
        model.fit(frames, energies, forces=forces)
        errors.append(rmse(model.predict_forces(frames), forces) / np.std(model.predict(frames) - energies))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    "options", [{"early_stopping": True, "solver": "adam"}, {"early_stopping": True}, {"n_init": 2}], ids=str
)
def test_options_of_the_training(alloys, options):
    frames, energies, forces, _ = alloys
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 15}, **options).fit(frames, energies, forces=forces)
    assert model.n_iter_ <= 15
    assert rmse(model.predict_forces(frames), forces) < np.std(np.concatenate(forces))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_time_budget(alloys, solver):
    frames, energies, forces, _ = alloys
    begin = time.process_time()
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": None, "solver": solver}, time_budget=2.0)
    model.fit(frames, energies, forces=forces)
    assert time.process_time() - begin < 3.0
    assert model.n_iter_ > 1


def test_aggregate_mean(alloys):
    frames, energies, forces, _ = alloys
    n = len(frames[0])
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 25}, aggregate="mean", baseline="mean")
    model.fit(frames, energies / n, forces=[one / n for one in forces])
    doubled = model.predict([atoms * (2, 1, 1) for atoms in frames])
    np.testing.assert_allclose(doubled, model.predict(frames), atol=1e-9)
    assert rmse(model.predict_forces(frames), [one / n for one in forces]) < 0.6 * np.std(np.concatenate(forces)) / n


def test_embedded_species(alloys):
    frames, energies, forces, stress = alloys
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 25}, handle_unknown="embed")
    model.fit(frames, energies, forces=forces, stress=stress)
    assert rmse(model.predict_forces(frames), forces) < 0.6 * np.std(np.concatenate(forces))
    gold = frames[0].copy()
    gold.numbers[0] = 79
    assert np.isfinite(model.predict_forces([gold])[0]).all()


def test_warm_start_goes_on(alloys):
    frames, energies, forces, _ = alloys
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 10, "solver": "adam"}, warm_start=True)
    first = model.fit(frames, energies, forces=forces).history_["loss"]
    second = model.set_params(learning_rate=1e-5).fit(frames, energies, forces=forces).history_["loss"]
    assert second[-1] < 1.05 * first[-1] < 0.5 * first[0]


def test_error_bars(alloys):
    frames, energies, forces, _ = alloys
    model = EquivariantNetworkRegressor(**SMALL | {"max_iter": 15}, error_bars=True)
    mean, std = model.fit(frames, energies, forces=forces).predict(frames, return_std=True)
    assert (std > 0).all()
    np.testing.assert_allclose(mean, model.predict(frames), atol=1e-8 * np.abs(energies).max())


def test_is_stored_and_drives_dynamics(alloys, tmp_path):
    frames, energies, forces, stress = alloys
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, energies, forces=forces, stress=stress)
    save_model(model, tmp_path / "model.eqk")
    loaded = load_model(tmp_path / "model.eqk")
    assert (loaded.predict(frames) == model.predict(frames)).all()
    atoms = frames[1].copy()
    atoms.calc = TensorCalculator({"energy": loaded})
    assert atoms.get_potential_energy() == pytest.approx(model.predict([atoms])[0], rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), model.predict_forces([atoms])[0], atol=1e-10)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), model.predict_stress([atoms])[0], atol=1e-10)


def test_transformer(alloys):
    frames, energies, forces, _ = alloys
    network = EquivariantNetwork(**SMALL).fit(frames, energies, forces=forces)
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, energies, forces=forces)
    features = network.transform(frames)
    assert (features.blocks["0e"] == model.descriptor_.transform(frames).blocks["0e"]).all()
    np.testing.assert_allclose(model.predict(features), model.predict(frames), rtol=1e-10)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ({"forces": np.zeros((24, 3, 3))}, ValueError, r"forces\[0\] has shape \(3, 3\), structure 0 has 4 atoms"),
        ({"forces": np.zeros((3, 4, 3))}, ValueError, "forces has 3 entries for 24 structures"),
        ({"stress": np.zeros((24, 5))}, ValueError, r"stress\[0\] has shape \(5,\)"),
        ({"stress": np.full((24, 6), np.nan)}, ValueError, "none of the forces, stress and derivatives are known"),
        ({"derivatives": [np.zeros((4, 3, 3))] * 24}, ValueError, r"derivatives\[0\] has shape"),
    ],
)
def test_refuses(alloys, labels, error, message):
    frames, energies, _, _ = alloys
    with pytest.raises(error, match=message):
        EquivariantNetworkRegressor(**SMALL).fit(frames, energies, **labels)


def test_refuses_forces_of_other_targets(alloys):
    frames, energies, forces, _ = alloys
    with pytest.raises(TypeError, match="y is a dict of several"):
        EquivariantNetworkRegressor(**SMALL).fit(frames, {"energy": energies}, forces=forces)
    with pytest.raises(ValueError, match="scalar targets only"):
        EquivariantNetworkRegressor(**SMALL).fit(frames, np.ones((24, 3)), forces=forces)
    with pytest.raises(ValueError, match="per-atom"):
        EquivariantNetworkRegressor(**SMALL).fit(frames, [np.arange(4.0)] * 24, forces=forces)
    with pytest.raises(ValueError, match="force_weight"):
        EquivariantNetworkRegressor(**SMALL, force_weight=0).fit(frames, energies, forces=forces)
