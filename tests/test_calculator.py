import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.units import fs, invcm, kB
from ase.vibrations import Infrared
from ase.vibrations.placzek import PlaczekStatic as Placzek
from ase.vibrations.raman import StaticRamanCalculator
from scipy.spatial.transform import Rotation

from eqkernels import (
    EquivariantNetworkRegressor,
    EquivariantUnion,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCalculator,
    TensorKernelRidge,
)
from eqkernels.spectra import HarmonicSpectrum
from tests.pair_potentials import PairWater
from tests.regression.sparse.test_derivatives import copper

SOAP = LambdaSOAP(4.0, n_max=4, l_max=3, sigma=0.5)


@pytest.fixture(scope="module")
def crystals():
    return copper(16)


@pytest.fixture(scope="module")
def model(crystals):
    frames, energies, forces, stresses = crystals
    return SparseTensorGPR(60, descriptor=SOAP, random_state=0).fit(frames, energies, forces=forces, stress=stresses)


def test_results_are_predictions(crystals, model):
    atoms = crystals[0][1].copy()
    atoms.calc = TensorCalculator(model)
    assert atoms.get_potential_energy() == model.predict([atoms])[0]
    np.testing.assert_allclose(atoms.get_forces(), model.predict_forces([atoms])[0], atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), model.predict_stress([atoms])[0], rtol=1e-12)


def test_relaxation_and_conserved_energy(crystals, model):
    atoms = crystals[0][3].copy()
    atoms.calc = TensorCalculator(model)
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=50)
    assert np.abs(atoms.get_forces()).max() < 1e-3
    atoms.rattle(0.05, seed=0)
    dynamics, totals = VelocityVerlet(atoms, timestep=1.0 * fs), []
    for _ in range(20):
        dynamics.run(1)
        totals.append(atoms.get_total_energy())
    assert np.ptp(totals) < 0.02 * atoms.get_kinetic_energy()


def test_other_models_and_errors(crystals):
    frames, energies, forces, _ = crystals
    learned = EquivariantNetworkRegressor(channels=4, max_iter=3, cutoff=3.5, random_state=0).fit(frames, energies)
    atoms = frames[1].copy()
    atoms.calc = TensorCalculator(learned)
    np.testing.assert_array_equal(atoms.get_forces(), -learned.vjp([atoms], [1.0]).positions)
    atoms.cell = None
    atoms.pbc = False
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    dipoles = SparseTensorGPR(20, descriptor=SOAP, random_state=0, noise=1e-2).fit(
        frames, np.array([f[0] for f in forces])
    )
    atoms = bulk("Cu")
    atoms.calc = TensorCalculator(dipoles)
    with pytest.raises(ValueError, match="not energies"):
        atoms.get_potential_energy()


# -- models of several properties ----------------------------------------------------------------------------------------

WATER = LambdaSOAP(cutoff=6.0, n_max=6, l_max=4, sigma=0.5)


def dimer():
    """Two molecules at the minimum of their potential."""
    molecule = np.array([[0, 0, 0], [0.8165, 0.577, 0], [-0.8165, 0.577, 0]])
    atoms = Atoms("OHHOHH", np.concatenate([molecule, molecule[:, [2, 0, 1]] + [0.3, -2.8, 0.2]]))
    atoms.calc = PairWater()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=300)
    return atoms


@pytest.fixture(scope="module")
def waters():
    """The dimer, distorted dimers and models of their energy, dipole and polarizability."""
    random, start, frames = np.random.default_rng(0), dimer(), []
    axis = start.positions[3] - start.positions[0]
    for _ in range(160):
        atoms = start.copy()
        turn = Rotation.from_rotvec(0.2 * random.normal(size=3))
        atoms.positions[3:] = turn.apply(atoms.positions[3:] - atoms.positions[3]) + atoms.positions[3]
        atoms.positions[3:] += axis / np.linalg.norm(axis) * random.uniform(-0.15, 0.3) + 0.1 * random.normal(size=3)
        atoms.positions += 0.04 * random.normal(size=(6, 3))
        frames.append(atoms)
    moving = start.copy()
    moving.calc = start.calc
    dynamics = Langevin(moving, 1.0 * fs, temperature_K=200, friction=0.02 / fs, fixcm=False, rng=random)
    for _ in range(200):
        dynamics.run(15)
        frames.append(moving.copy())
    labels = {what: [np.array(start.calc.get_property(what, atoms)) for atoms in frames]
              for what in ("energy", "forces", "dipole", "polarizability")}  # fmt: skip
    models = {"energy": SparseTensorGPR(600, descriptor=WATER, random_state=0)}
    models["energy"].fit(frames, np.array(labels["energy"]), forces=labels["forces"])
    for what in ("dipole", "polarizability"):
        models[what] = SparseTensorGPR(200, descriptor=WATER, target=what, random_state=0)
        models[what].fit(frames, np.array(labels[what]))
    return start, frames, models


def test_all_properties_are_predictions_and_their_derivatives(waters):
    _, frames, models = waters
    calc, atoms = TensorCalculator(models), frames[3].copy()
    atoms.calc = calc
    assert set(calc.implemented_properties) >= {
        "energy", "free_energy", "forces", "stress", "dipole", "born_charges", "born_effective_charges",
        "polarizability", "raman_tensors", "energy_std", "dipole_std", "polarizability_std",
    }  # fmt: skip
    assert atoms.get_potential_energy() == models["energy"].predict([atoms])[0]
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), -models["energy"].vjp([atoms], [1.0]).positions, atol=1e-9)
    np.testing.assert_array_equal(atoms.get_dipole_moment(), models["dipole"].predict([atoms])[0])
    np.testing.assert_array_equal(calc.get_property("polarizability"), models["polarizability"].predict([atoms])[0])
    for name, of in (("born_charges", "dipole"), ("raman_tensors", "polarizability")):
        found, step = calc.get_property(name, atoms), 1e-4
        for i in (0, 4):
            for k in range(3):
                moved = [atoms.copy(), atoms.copy()]
                moved[0].positions[i, k] -= step
                moved[1].positions[i, k] += step
                low, high = models[of].predict(moved)
                np.testing.assert_allclose(found[i, ..., k], (high - low) / (2 * step), atol=1e-5)
    np.testing.assert_array_equal(calc.results["born_charges"], calc.results["born_effective_charges"])
    np.testing.assert_allclose(calc.results["born_charges"].sum(axis=0), 0, atol=1e-8)  # neutral


def test_energy_and_forces_together_are_those_of_their_own(waters, crystals):
    """Computed from the features once, for descriptors that stand alone and in unions."""
    frames, energies, forces, _ = crystals
    union = EquivariantUnion([("near", LambdaSOAP(3.0, n_max=3, l_max=2)), ("far", LambdaSOAP(5.0, n_max=3, l_max=2))])
    joined = SparseTensorGPR(30, descriptor=union, random_state=0).fit(frames, energies, forces=forces)
    for atoms, one in ((frames[2].copy(), joined), (waters[1][5].copy(), waters[2]["energy"])):
        atoms.calc = TensorCalculator(one)
        found = atoms.get_forces()
        scale = np.abs(found).max()
        np.testing.assert_allclose(found, -one.vjp([atoms], [1.0]).positions, atol=1e-12 * scale)
        assert atoms.get_potential_energy() == one.predict([atoms])[0]


def test_energy_is_kept_by_dynamics(waters):
    """Drift of the total energy below 1e-4 eV/ps: velocity Verlet with 0.5 fs, for 1 ps at 100 K."""
    start, _, models = waters
    atoms = start.copy()
    atoms.calc = TensorCalculator(models)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=100)
    random = np.random.default_rng(0)
    atoms.set_momenta(random.normal(size=(6, 3)) * np.sqrt(kB * 100 * atoms.get_masses())[:, None])
    Stationary(atoms)
    ZeroRotation(atoms)
    dynamics, totals = VelocityVerlet(atoms, timestep=0.5 * fs), []
    for _ in range(500):
        dynamics.run(4)
        totals.append(atoms.get_total_energy())
    assert 2.5 < atoms.get_distance(0, 3) < 3.5
    drift = np.polyfit(2e-3 * np.arange(500), totals, 1)[0]
    assert abs(drift) < 1e-4


def test_infrared_and_raman_of_ase(waters, tmp_path):
    """ASE's own spectra run with the calculator, and agree with ours."""
    start, _, models = waters
    atoms = start.copy()
    atoms.calc = TensorCalculator(models)
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=200)
    infrared = Infrared(atoms, name=str(tmp_path / "ir"), delta=0.005)
    infrared.run()
    lines = HarmonicSpectrum.from_structure(atoms, step=0.005)
    real = slice(-6, None)  # intramolecular ones
    np.testing.assert_allclose(infrared.get_energies()[real].real / invcm, lines.wavenumbers[real], rtol=1e-3)
    np.testing.assert_allclose(42.2561 * infrared.intensities[real], lines.absorption[real], rtol=0.02, atol=0.1)

    def polarizability():
        return lambda one: atoms.calc.get_property("polarizability", one)

    raman = StaticRamanCalculator(atoms, polarizability, name=str(tmp_path / "raman"), delta=0.005)
    raman.run()
    theirs = Placzek(atoms, name=str(tmp_path / "raman"), delta=0.005)
    intensities = theirs.get_absolute_intensities()[real].real
    # theirs are in e^2 A^2/eV: as volumes, times Coulomb's constant squared
    ours = HarmonicSpectrum.from_structure(atoms, step=0.005, polarizability_unit="e^2 A^2/eV")
    np.testing.assert_allclose(intensities, ours.activity[real], rtol=0.02)


def test_phonons_of_ase(crystals, model, tmp_path):
    atoms = bulk("Cu", a=3.6)
    phonons = Phonons(atoms, TensorCalculator(model), supercell=(2, 2, 2), delta=0.02, name=str(tmp_path / "phonon"))
    phonons.run()
    phonons.read(acoustic=True)
    energies = phonons.band_structure([[0, 0, 0], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(energies[0], 0, atol=2e-3)
    assert energies[1].max() > 0.01


def test_error_bars_and_limits(waters):
    _, frames, models = waters
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator(models)
    atoms.get_forces()
    assert "energy_std" not in atoms.calc.results
    expected = models["energy"].predict([atoms], return_std=True)[1][0]
    assert atoms.calc.get_property("energy_std", atoms) == pytest.approx(expected)
    atoms.calc = TensorCalculator(models, error_bars=True)
    atoms.get_potential_energy()
    atoms.get_dipole_moment()
    assert atoms.calc.results["energy_std"] == pytest.approx(expected)
    np.testing.assert_allclose(
        atoms.calc.results["dipole_std"], models["dipole"].predict([atoms], return_std=True)[1][0]
    )
    # far from the training set
    atoms.calc = TensorCalculator(models, max_std={"energy": 3 * expected})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()
    atoms.positions[1] += 1.0
    with pytest.warns(UserWarning, match=r"H4O2, calculation 2: the error bar of energy is .*, above the limit of"):
        atoms.get_forces()


class WithForces:
    """A model whose forces have error bars."""

    def __init__(self, model):
        self.model = model

    def predict(self, X, return_std=False):
        return self.model.predict(X, return_std=return_std)

    def vjp(self, X, cotangents):
        return self.model.vjp(X, cotangents)

    def predict_forces(self, X, return_std=False):
        forces = self.model.predict_forces(X)
        bars = [np.zeros((len(atoms), 3)) for atoms in X]
        bars[0][4, 1] = 0.7
        return (forces, bars) if return_std else forces


def test_error_bars_of_forces_name_the_atom(waters):
    _, frames, models = waters
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator(WithForces(models["energy"]), max_std={"forces": 0.5})
    with pytest.warns(UserWarning, match=r"atom 4 \(H\): the error bar of forces is 0.7, above the limit of 0.5"):
        atoms.get_forces()
    assert atoms.calc.results["forces_std"][4, 1] == 0.7
    atoms.calc = TensorCalculator(WithForces(models["energy"]))
    assert atoms.calc.get_property("forces_std", atoms).shape == (6, 3)
    np.testing.assert_allclose(atoms.calc.results["forces"], models["energy"].predict_forces([atoms])[0], atol=1e-12)


def test_a_network_of_several_properties(waters):
    start, frames, models = waters
    labels = {"energy": models["energy"].predict(frames[:30]), "dipole": models["dipole"].predict(frames[:30])}
    network = EquivariantNetworkRegressor(channels=4, max_iter=3, cutoff=3.5, random_state=0).fit(frames[:30], labels)
    atoms = frames[2].copy()
    atoms.calc = TensorCalculator(network)
    predicted = network.predict([atoms])
    assert atoms.get_potential_energy() == predicted["energy"][0]
    np.testing.assert_array_equal(atoms.get_dipole_moment(), predicted["dipole"][0])
    zero = {"energy": [1.0], "dipole": np.zeros((1, 3))}
    np.testing.assert_allclose(atoms.get_forces(), -network.vjp([atoms], zero).positions)
    along_y = {"energy": [0.0], "dipole": np.array([[0.0, 1.0, 0.0]])}
    np.testing.assert_allclose(
        atoms.calc.get_property("born_charges", atoms)[:, 1], network.vjp([atoms], along_y).positions
    )


def test_per_atom_properties_and_files(waters, tmp_path):
    _, frames, models = waters
    charges = [0.1 * atoms.numbers for atoms in frames[:40]]
    of_atoms = TensorKernelRidge(descriptor=WATER, target="charges").fit(frames[:40], charges)
    atoms = frames[50].copy()
    atoms.calc = TensorCalculator(models | {"charges": of_atoms})
    np.testing.assert_allclose(atoms.get_charges(), of_atoms.predict([atoms])[0])
    atoms.get_potential_energy()
    atoms.calc.get_property("energy_std", atoms)
    ase.io.write(tmp_path / "out.traj", atoms)
    ase.io.write(tmp_path / "out.xyz", atoms)
    for name in ("out.traj", "out.xyz"):
        assert ase.io.read(tmp_path / name).get_potential_energy() == pytest.approx(atoms.get_potential_energy())
    assert "energy_std" not in atoms.calc.export_properties()


def test_models_without_derivatives_have_no_forces(waters):
    class Plain:
        def predict(self, X):
            return np.zeros(len(X))

    atoms = waters[0].copy()
    atoms.calc = TensorCalculator(Plain())
    assert atoms.get_potential_energy() == 0
    assert atoms.calc.implemented_properties == ["energy", "free_energy"]
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_forces()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: TensorCalculator({}), ValueError, "there are no models"),
        (lambda m: TensorCalculator({"energy": 3}), TypeError, "the model of 'energy' is a int, which has no predict"),
        (
            lambda m: TensorCalculator(m, max_std={"quadrupole": 1.0}),
            ValueError,
            "error bars: they give those of 'energy'",
        ),
        (lambda m: TensorCalculator(m, max_std={"energy": 0}), ValueError, "max_std\\['energy'\\]=0"),
    ],
)
def test_wrong_models_and_limits(waters, make, error, message):
    with pytest.raises(error, match=message):
        make(waters[2])
