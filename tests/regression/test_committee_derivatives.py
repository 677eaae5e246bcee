"""Committees whose members learn from forces, and their derivatives."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from sklearn.pipeline import make_pipeline

from eqkernels import (
    EquivariantNetworkRegressor,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCalculator,
    TensorCommittee,
    TensorKernelRidge,
)
from eqkernels.derivatives import predict_forces

SOAP = LambdaSOAP(cutoff=4.0, n_max=3, l_max=2)


@pytest.fixture(scope="module")
def data():
    frames = [bulk("Cu", cubic=True) for _ in range(12)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
    return frames, [a.get_potential_energy() for a in frames], [a.get_forces() for a in frames]


NETWORK = EquivariantNetworkRegressor(4.0, channels=3, n_radial=4, max_iter=30, batch_size=3, random_state=0)
MEMBERS = [NETWORK, SparseTensorGPR(20, descriptor=SOAP, random_state=0)]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda one: type(one).__name__)
def test_forces(data, member):
    frames, energies, forces = data
    model = TensorCommittee(member, n_estimators=3, random_state=0).fit(frames, energies, forces=forces)
    mean, std = model.predict_forces(frames, return_std=True)
    of_members = [np.concatenate(one.predict_forces(frames)) for one in model.estimators_]
    np.testing.assert_allclose(np.concatenate(mean), np.mean(of_members, axis=0), atol=1e-12)
    spread = model.recalibration_["0e"] * np.std(of_members, axis=0, ddof=1)
    np.testing.assert_allclose(np.concatenate(std), spread, atol=1e-12)
    np.testing.assert_allclose(np.concatenate(model.predict_forces(frames)), np.concatenate(mean), atol=1e-10)
    errors = np.concatenate(mean) - np.concatenate(forces)
    assert np.std(errors) < 0.5 * np.std(np.concatenate(forces))
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator({"energy": model})
    np.testing.assert_allclose(atoms.get_forces(), mean[0], atol=1e-10)
    np.testing.assert_allclose(atoms.calc.get_property("forces_std", atoms), std[0], atol=1e-10)


@pytest.mark.parametrize("inside", [True, False])
def test_forces_of_pipelines(data, inside):
    """The descriptor is a step of each member, or before the committee."""
    frames, energies, _ = data
    if inside:
        model = TensorCommittee(make_pipeline(SOAP, TensorKernelRidge(alpha=1e-3)), n_estimators=3, random_state=0)
    else:
        model = make_pipeline(SOAP, TensorCommittee(TensorKernelRidge(alpha=1e-3), n_estimators=3, random_state=0))
    model.fit(frames, energies)
    found, step, slopes = predict_forces(model, frames[:1])[0], 1e-4, []
    for sign in (1, -1):
        atoms = frames[0].copy()
        atoms.positions[1, 2] += sign * step
        slopes.append(model.predict([atoms])[0])
    assert found[1, 2] == pytest.approx(-(slopes[0] - slopes[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_refuses(data):
    frames, energies, forces = data
    with pytest.raises(ValueError, match="forces has 3 entries for 12 structures"):
        TensorCommittee(NETWORK, n_estimators=3).fit(frames, energies, forces=forces[:3])
