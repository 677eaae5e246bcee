"""Physics with inputs: the Lorentz force, a particle in a vector potential, and molecules in a field."""

import numpy as np
import pytest
from ase import Atoms

from eqkernels import CovariantKernel, LambdaSOAP, NBodyFeatures, SparseTensorGPR, TensorKernelRidge, TensorRidge
from eqkernels.response import input_derivatives
from tests.conftest import random_frames

ATOM = {"cutoff": 2.0, "n_max": 1, "l_max": 1}
LORENTZ = {"charge": "0e", "velocity": "1o time-odd", "magnetic_field": "1e time-odd"}


def particles(n, seed):
    """Charges that move in a magnetic field, and the Lorentz force q v x B on them."""
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = Atoms("H", info={"magnetic_field": random.normal(size=3)})
        atoms.arrays["velocity"], atoms.arrays["charge"] = random.normal(size=(1, 3)), random.normal(size=1)
        frames.append(atoms)
    return frames, np.array([lorentz(atoms) for atoms in frames])


def lorentz(atoms):
    return atoms.arrays["charge"][0] * np.cross(atoms.arrays["velocity"][0], atoms.info["magnetic_field"])


def error(model):
    (train, forces), (test, expected) = particles(20, 0), particles(50, 1)
    predicted = model.fit(train, forces).predict(test)
    return np.linalg.norm(predicted - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    "model",
    [
        TensorKernelRidge(
            1e-14, kernel=CovariantKernel(2, False), target="i", descriptor=LambdaSOAP(**ATOM, inputs=LORENTZ)
        ),
        TensorRidge(
            1e-14,
            normalize=False,
            target="i",
            descriptor=NBodyFeatures(**ATOM, nu=3, n_components=None, irreps="0e+1o", inputs=LORENTZ),
        ),
    ],
    ids=["kernel", "three factors"],
)
def test_the_lorentz_force_is_learned_exactly(model):
    assert error(model) < 1e-6


@pytest.mark.parametrize(
    "inputs",
    [
        {"charge": "0e", "velocity": "1o time-odd"},  # no field
        {**LORENTZ, "magnetic_field": "1o time-odd"},  # as if the field were polar: no cross product with this parity
        {
            **LORENTZ,
            "velocity": "1o",
        },  # an even velocity: the force would change sign with the field under time reversal
    ],
    ids=["no field", "polar field", "even velocity"],
)
def test_the_lorentz_force_needs_the_cross_product(inputs):
    descriptor = LambdaSOAP(**ATOM, inputs=inputs)
    if inputs.get("magnetic_field") == "1o time-odd" or "magnetic_field" not in inputs:
        # even with all signs under time reversal ignored
        descriptor = LambdaSOAP(**ATOM, inputs={name: text.removesuffix(" time-odd") for name, text in inputs.items()})
    model = TensorKernelRidge(1e-8, kernel=CovariantKernel(2, False), target="i", descriptor=descriptor)
    assert error(model) > 0.5


def hamiltonian(n, seed):
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = Atoms("H", info={"vector_potential": random.normal(size=3)})
        atoms.arrays["momentum"], atoms.arrays["charge"] = random.normal(size=(1, 3)), random.normal(size=1)
        frames.append(atoms)
    return frames


def kinetic(atoms):
    return atoms.arrays["momentum"][0] - atoms.arrays["charge"][0] * atoms.info["vector_potential"]


def test_a_particle_in_a_vector_potential():
    """H = (p - q A)^2 / 2 m: the energy, and the velocity and the current as its derivatives."""
    mass, inputs = 1.7, {"momentum": "1o time-odd", "vector_potential": "1o time-odd", "charge": "0e"}
    train, test = hamiltonian(60, 0), hamiltonian(30, 1)
    energies, expected = (np.array([kinetic(a) @ kinetic(a) for a in frames]) / (2 * mass) for frames in (train, test))
    descriptor = LambdaSOAP(**ATOM, irreps="0e", inputs=inputs)
    options = {"kernel": CovariantKernel(2, False), "baseline": None, "noise": 1e-14, "random_state": 0}
    model = SparseTensorGPR(60, descriptor=descriptor, **options).fit(train, energies)
    np.testing.assert_allclose(model.predict(test), expected, atol=1e-6 * expected.std())
    velocity = np.array([kinetic(a) for a in test]) / mass
    np.testing.assert_allclose(input_derivatives(model, test, "momentum"), velocity, atol=1e-5)
    charges = np.array([a.arrays["charge"] for a in test])
    np.testing.assert_allclose(input_derivatives(model, test, "vector_potential"), -charges * velocity, atol=1e-5)
    second = input_derivatives(model, test, "vector_potential", order=2)
    np.testing.assert_allclose(second, (charges**2 / mass)[:, :, None] * np.eye(3), atol=1e-5)


def test_second_derivatives_are_differences_of_energies():
    frames = random_frames(seed=2, n_frames=8)
    for k, atoms in enumerate(frames):
        atoms.info["field"] = np.random.default_rng(k).normal(size=3)
    energies = np.array([np.sum(a.info["field"] @ a.positions.T) ** 2 for a in frames])
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, inputs={"field": "1o"})
    model = SparseTensorGPR(20, descriptor=descriptor, noise=1e-6, random_state=0).fit(frames, energies)
    found, h = input_derivatives(model, frames[:2], "field", order=2), 0.02

    def energy(x, y, dx, dy):
        moved = [atoms.copy() for atoms in frames[:2]]
        for atoms in moved:
            change = np.zeros(3)
            change[x] += dx * h
            change[y] += dy * h
            atoms.info["field"] = atoms.info["field"] + change
        return model.predict(moved)

    for x, y in ((0, 1), (2, 2)):
        mixed = [energy(x, y, *signs) for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        expected = (mixed[0] - mixed[1] - mixed[2] + mixed[3]) / (4 * h**2)
        np.testing.assert_allclose(found[:, x, y], expected, atol=1e-2 * np.abs(found).max())
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))


def test_unknown_inputs_are_refused():
    frames = random_frames(seed=2, n_frames=4)
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2)
    model = SparseTensorGPR(5, descriptor=descriptor, noise=1e-6, random_state=0).fit(frames, np.arange(4.0))
    with pytest.raises(ValueError, match="the model has no input 'field'"):
        input_derivatives(model, frames, "field")
    with pytest.raises(ValueError, match="'field' is not in all atoms.info"):
        input_derivatives(model, frames, "field", order=2)
