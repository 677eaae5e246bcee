"""Physics that the bundled labels must obey: frames, units, signs and the order of indices show in it."""

import numpy as np
import pytest
from ase.units import Bohr

from eqkernels.datasets import load_chiral_molecules, load_small_organics, load_water_clusters

LEVI_CIVITA = np.zeros((3, 3, 3))
for even in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    LEVI_CIVITA[even] = 1.0
    LEVI_CIVITA[even[::-1]] = -1.0
FLOAT32 = 1e-6  # relative accuracy of sums of labels stored with 7 digits


@pytest.fixture(scope="module")
def organics():
    return load_small_organics()


@pytest.fixture(scope="module")
def water():
    return load_water_clusters()


@pytest.fixture(scope="module")
def chiral():
    return load_chiral_molecules()


@pytest.fixture(params=["organics", "water", "chiral"])
def data(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["organics", "water"])
def atomic(request):
    return request.getfixturevalue(request.param)


def _mean_norm(data, label, name):
    return np.linalg.norm(data[label][data.names == name], axis=1).mean()


def _mean_isotropic_shielding(data, name, number):
    values = [
        np.trace(tensors[atoms.numbers == number], axis1=1, axis2=2) / 3
        for atoms, tensors, molecule in zip(data.frames, data.shielding, data.names, strict=True)
        if molecule == name
    ]
    return np.concatenate(values).mean()


def test_polarizabilities_are_positive_definite(data):
    assert np.linalg.eigvalsh(data.polarizability).min() > 2.0


def test_quadrupoles_have_no_trace(data):
    traces = data.quadrupole.trace(axis1=1, axis2=2)
    np.testing.assert_allclose(traces, 0, atol=FLOAT32 * np.abs(data.quadrupole).max())


def test_no_structure_is_an_outlier_among_those_of_its_molecule(data):
    traces = data.polarizability.trace(axis1=1, axis2=2)
    for name in np.unique(data.names):
        chosen = data.names == name
        assert np.ptp(data.energy[chosen]) < 0.15  # hartree; 3 eV of strain is 0.11
        np.testing.assert_allclose(traces[chosen], np.median(traces[chosen]), rtol=0.4, err_msg=name)


def test_dipoles_of_symmetric_molecules_are_small(organics):
    of_water = _mean_norm(organics, "dipole", "water")
    assert of_water == pytest.approx(0.79, abs=0.1)  # 2.0 debye
    for name in ("carbon dioxide", "acetylene", "methane", "ethane", "cyclopropane"):
        assert _mean_norm(organics, "dipole", name) < 0.35 * of_water


def test_dipole_of_water_points_from_oxygen_to_the_hydrogens(organics):
    for k in np.flatnonzero(organics.names == "water"):
        oxygen, *hydrogens = organics.frames[k].positions
        bisector = np.mean(hydrogens, axis=0) - oxygen
        dipole = organics.dipole[k]
        assert dipole @ bisector > 0.97 * np.linalg.norm(dipole) * np.linalg.norm(bisector)


def test_forces_have_no_sum_and_no_torque(atomic):
    for atoms, forces in zip(atomic.frames, atomic.forces, strict=True):
        np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(np.cross(atoms.positions, forces).sum(axis=0), 0, atol=3e-6)


def test_moving_the_molecule_leaves_its_dipole(atomic):
    for tensors in atomic.polar_tensor:
        np.testing.assert_allclose(tensors.sum(axis=0), 0, atol=1e-5)


def test_turning_the_molecule_turns_its_dipole(atomic):
    for atoms, tensors, dipole in zip(atomic.frames, atomic.polar_tensor, atomic.dipole, strict=True):
        turned = np.einsum("kij,jal,kl->ia", tensors, LEVI_CIVITA, atoms.positions / Bohr)
        np.testing.assert_allclose(turned, np.einsum("ial,l->ia", LEVI_CIVITA, dipole), atol=1e-5)


def test_electric_field_gradients_have_no_trace(atomic):
    for tensors in atomic.electric_field_gradient:
        np.testing.assert_allclose(np.trace(tensors, axis1=1, axis2=2), 0, atol=1e-5)


def test_field_gradient_of_a_hydrogen_lies_along_its_bond(organics):
    for k in np.flatnonzero(organics.names == "methane"):
        carbon, *hydrogens = organics.frames[k].positions
        for hydrogen, tensor in zip(hydrogens, organics.electric_field_gradient[k][1:], strict=True):
            bond = (hydrogen - carbon) / np.linalg.norm(hydrogen - carbon)
            values, axes = np.linalg.eigh(tensor)
            assert abs(axes[:, np.argmax(np.abs(values))] @ bond) > 0.98


def test_shieldings_order_as_in_experiment(organics):
    carbon = {
        name: _mean_isotropic_shielding(organics, name, 6)
        for name in ("methane", "ethane", "acetylene", "ethylene", "formaldehyde")
    }
    assert list(carbon) == sorted(carbon, key=carbon.get, reverse=True)
    assert carbon["methane"] == pytest.approx(200, abs=15)
    proton = {name: _mean_isotropic_shielding(organics, name, 1) for name in ("methane", "ethylene", "formaldehyde")}
    assert list(proton) == sorted(proton, key=proton.get, reverse=True)
    assert proton["methane"] == pytest.approx(31, abs=2)
    oxygen = {
        name: _mean_isotropic_shielding(organics, name, 8) for name in ("water", "carbon dioxide", "formaldehyde")
    }
    assert list(oxygen) == sorted(oxygen, key=oxygen.get, reverse=True)


def test_shieldings_have_an_antisymmetric_part(organics):
    tensors = np.concatenate(organics.shielding)
    antisymmetric = (tensors - tensors.transpose(0, 2, 1)) / 2
    assert np.median(np.linalg.norm(antisymmetric, axis=(1, 2))) > 0.1


def test_polarizability_of_a_cluster_is_nearly_that_of_its_molecules(water):
    traces = water.polarizability.trace(axis1=1, axis2=2)
    monomer, dimer, trimer = (traces[water.names == f"water {size}"].mean() for size in ("monomer", "dimer", "trimer"))
    assert dimer == pytest.approx(2 * monomer, rel=0.05)
    assert trimer == pytest.approx(3 * monomer, rel=0.05)


def test_energy_of_a_cluster_is_nearly_that_of_its_molecules(water):
    monomer, dimer, trimer = (
        water.energy[water.names == f"water {size}"].mean() for size in ("monomer", "dimer", "trimer")
    )
    assert dimer == pytest.approx(2 * monomer, abs=0.01)
    assert trimer == pytest.approx(3 * monomer, abs=0.01)


def _torsion_sine(atoms):
    """Sine of the H-O-O-H torsion, times positive lengths: it changes sign in a mirror."""
    oxygens, hydrogens = (atoms.positions[atoms.numbers == number] for number in (8, 1))
    distances = np.linalg.norm(hydrogens[:, None] - oxygens, axis=-1)
    first, second = hydrogens[distances.argmin(axis=0)]
    axis = oxygens[1] - oxygens[0]
    return np.dot(np.cross(first - oxygens[0], second - oxygens[1]), axis / np.linalg.norm(axis))


def test_trace_of_gprime_follows_the_hand_of_the_molecule(chiral):
    peroxide = np.flatnonzero(chiral.names == "hydrogen peroxide")
    hand = np.array([_torsion_sine(chiral.frames[k]) for k in peroxide])
    trace = chiral.gprime[peroxide].trace(axis1=1, axis2=2)
    assert np.corrcoef(hand, trace)[0, 1] < -0.5
    assert abs(np.corrcoef(np.abs(hand), trace)[0, 1]) < 0.3
    assert 0.4 < np.mean(hand > 0) < 0.6


def test_gprime_is_neither_symmetric_nor_antisymmetric(chiral):
    swapped = chiral.gprime.transpose(0, 2, 1)
    size = np.linalg.norm(chiral.gprime)
    assert np.linalg.norm(chiral.gprime - swapped) > 0.1 * size
    assert np.linalg.norm(chiral.gprime + swapped) > 0.1 * size
