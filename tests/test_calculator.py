import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.units import fs

from eqkernels import EquivariantNetworkRegressor, LambdaSOAP, SparseTensorGPR, TensorCalculator
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
    np.testing.assert_array_equal(atoms.get_forces(), model.predict_forces([atoms])[0])
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
