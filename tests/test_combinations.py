"""Options of different parts of the library together: derivatives of every model with every kernel are differences."""

import numpy as np
import pytest

from eqkernels import (
    ChargeKernel,
    CovariantKernel,
    LambdaSOAP,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
)
from tests.conftest import random_frames

FRAMES = random_frames(7, n_frames=8, n_species=3)
DESCRIPTOR = {"cutoff": 4.0, "n_max": 2, "l_max": 2}
KERNELS = {
    "charges": CovariantKernel() + ChargeKernel(weight=0.1),
    "alike": CovariantKernel(center_similarity=0.5),
    "all alike": CovariantKernel(center_similarity=1.0),
    "alike, own norm": CovariantKernel(center_similarity=0.5, normalize=True),
}
MODELS = {
    "ridge": lambda kernel: TensorKernelRidge(1e-3, kernel=kernel),
    "gpr": lambda kernel: TensorGPR(kernel, optimizer=None),
    "sparse": lambda kernel: SparseTensorGPR(20, kernel=kernel, random_state=0),
}


def dipoles(frames):
    return np.array([(0.1 * atoms.numbers) @ (atoms.positions - atoms.positions.mean(axis=0)) for atoms in frames])


def moved(atoms, a, j, step):
    copy = atoms.copy()
    copy.positions[a, j] += step
    return copy


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", MODELS)
def test_derivatives_are_differences(name, kernel):
    model = MODELS[name](KERNELS[kernel]).set_params(descriptor=LambdaSOAP(**DESCRIPTOR), target="dipole")
    model.fit(FRAMES, dipoles(FRAMES))
    atoms, step = FRAMES[0], 1e-4
    found = model.predict_derivatives([atoms])[0]
    for a, j in ((0, 0), (1, 2), (len(atoms) - 1, 1)):
        shifts = [moved(atoms, a, j, k * step) for k in (-2, -1, 1, 2)]
        values = model.predict(shifts)
        expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        np.testing.assert_allclose(found[a, :, j], expected, atol=1e-7 * np.abs(found).max())
    np.testing.assert_allclose(found.sum(axis=0), np.zeros((3, 3)), atol=1e-10 * np.abs(found).max())


@pytest.mark.parametrize("kernel", ["alike", "all alike", "alike, own norm"])
def test_fit_to_derivatives_with_centers_that_are_alike(kernel):
    """Derivatives of point charges, which do not change, by a model that has never seen a dipole."""
    frames = random_frames(8, n_frames=14, n_species=2)
    charges = [0.1 * atoms.numbers - np.mean(0.1 * atoms.numbers) for atoms in frames]
    derivatives = [one[:, None, None] * np.eye(3) for one in charges]
    model = SparseTensorGPR(40, kernel=KERNELS[kernel], descriptor=LambdaSOAP(**DESCRIPTOR), target="dipole",
                            random_state=0, baseline=None).fit(frames, derivatives=derivatives)  # fmt: skip
    found = np.concatenate(model.predict_derivatives(frames))
    spread = np.std(np.concatenate(derivatives))
    assert np.sqrt(np.mean((found - np.concatenate(derivatives)) ** 2)) < 0.8 * spread
    direction = [np.random.default_rng(0).normal(size=(len(atoms), 3)) for atoms in frames[:2]]
    step, ends = 1e-4, []
    for sign in (-1, 1):
        copies = [atoms.copy() for atoms in frames[:2]]
        for atoms, one in zip(copies, direction, strict=True):
            atoms.positions += sign * step * one
        ends.append(model.predict(copies))
    slopes = [np.einsum("aij,aj->i", one, d) for one, d in zip(model.predict_derivatives(frames[:2]), direction,
                                                               strict=True)]  # fmt: skip
    np.testing.assert_allclose((ends[1] - ends[0]) / (2 * step), slopes, atol=1e-5 * np.abs(slopes).max())
