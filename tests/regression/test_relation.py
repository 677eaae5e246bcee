"""Labels that cannot be learned as they are read are not fitted in silence."""

import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, TensorGPR, TensorKernelRidge
from eqkernels.datasets import load_chiral_molecules, load_small_organics
from eqkernels.regression.relation import left_out_squares
from eqkernels.testing import random_rotation
from tests.conftest import water_set

MODELS = {
    "TensorKernelRidge": partial(TensorKernelRidge, 1e-6),
    "chosen alpha": TensorKernelRidge,
    "TensorGPR": TensorGPR,
}
SMALL = {"cutoff": 4.0, "n_max": 4, "l_max": 3}


def messages(model, frames, y, **descriptor):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_pipeline(LambdaSOAP(**SMALL, **descriptor), model).fit(frames, y)
    return [str(one.message) for one in caught if "no relation between" in str(one.message)]


def axial(frames):
    """Vectors that keep their sign under inversion, from a tensor product over the bonds of water."""
    bonds = np.array([(a.positions[1] - a.positions[0], a.positions[2] - a.positions[0]) for a in frames])
    lengths = np.linalg.norm(bonds, axis=2)
    return np.cross(bonds[:, 0], bonds[:, 1]) * (lengths[:, :1] ** 2 - lengths[:, 1:] ** 2)


@pytest.mark.parametrize("name", MODELS)
def test_axial_tensors_read_as_polar_and_tensors_in_another_frame(name):
    frames, vectors, matrices, _ = water_set(60, seed=3)
    random = np.random.RandomState(0)
    assert messages(MODELS[name](), frames, axial(frames))
    assert not messages(MODELS[name](target="magnetic_moment"), frames, axial(frames), irreps="0e+1e")
    assert not messages(MODELS[name](), frames, vectors)
    assert not messages(MODELS[name](), frames, matrices)
    turned = np.array([random_rotation(random) @ one for one in vectors])
    assert messages(MODELS[name](), frames, turned)
    assert not messages(MODELS[name](), frames[:10], turned[:10])  # chance


def test_optical_rotation_is_axial():
    data = load_chiral_molecules()
    frames, tensors = data.frames[:80], data.gprime[:80]
    assert messages(TensorKernelRidge(), frames, tensors)
    assert not messages(TensorKernelRidge(target="optical_rotation"), frames, tensors, irreps="0e+0o+1o+2o")


@pytest.mark.parametrize("property_name", ["dipole", "polarizability", "hyperpolarizability"])
def test_ordinary_data_do_not_warn(property_name):
    data = load_small_organics()
    for n in (40, 120):
        assert not messages(TensorKernelRidge(), data.frames[:n], data[property_name][:n])


def test_left_out_squares_equal_refits():
    random = np.random.default_rng(0)
    root = random.normal(size=(24, 40))
    kernel = (root @ root.T).reshape(8, 3, 8, 3).transpose(0, 2, 1, 3)
    values, total = random.normal(size=(8, 3, 2)), 0.0
    for k in range(8):
        rest = np.delete(np.arange(8), k)
        matrix = kernel[np.ix_(rest, rest)].transpose(0, 2, 1, 3).reshape(21, 21) + 0.3 * np.eye(21)
        dual = np.linalg.solve(matrix, values[rest].reshape(21, 2))
        total += np.sum((values[k] - kernel[k, rest].transpose(1, 0, 2).reshape(3, 21) @ dual) ** 2)
    np.testing.assert_allclose(left_out_squares(kernel, values, 0.3), (total / values.size, np.mean(values**2)))
