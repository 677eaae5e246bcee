"""Kernel models on many species make no features, in pipelines or not, and nobody sees a difference."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from eqkernels import (
    SOAP,
    EquivariantFeatures,
    LambdaSOAP,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
)
from eqkernels.kernels import CovariantKernel
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames

DESCRIPTOR = LambdaSOAP(cutoff=3.5, n_max=4, l_max=3)


def data(shape, per_atom=False, periodic=False):
    frames = random_frames(7, n_frames=12, n_species=4, n_atoms=(5, 8), periodic=periodic)
    random = np.random.default_rng(0)
    return frames, [
        random.normal(size=(len(atoms), *shape)) if per_atom else random.normal(size=shape) for atoms in frames
    ]


MODELS = [
    TensorKernelRidge(alpha=1e-3),
    TensorKernelRidge(alpha=1e-3, kernel=CovariantKernel(zeta=1, normalize=False, aggregate="mean")),
    TensorKernelRidge(alpha=[1e-3, 1e-1, 1e3]),
    TensorGPR(),
]


@pytest.mark.filterwarnings("ignore:the best alpha")  # of labels that are noise
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize(
    ("shape", "per_atom", "periodic"), [((3, 3), False, True), ((3,), True, False), ((3, 3), True, False)]
)
def test_the_same_as_with_features(model, shape, per_atom, periodic):
    frames, y = data(shape, per_atom, periodic)
    train, test = slice(0, 9), slice(9, None)
    short = make_pipeline(clone(DESCRIPTOR), clone(model)).fit(frames[train], y[train])
    assert "density" in short[-1].X_fit_
    of_frames = clone(model).set_params(descriptor=DESCRIPTOR).fit(frames[train], y[train])
    features = EquivariantFeatures.from_dict(short[0].transform(frames).to_dict())
    long = clone(model).fit(features[train], y[train])
    assert "density" not in long.X_fit_
    for one in (short, of_frames, pickle.loads(pickle.dumps(short))):
        found, expected = one.predict(frames[test]), long.predict(features[test])
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)


def test_what_is_kept_is_plain():
    """Arrays, numbers and strings in dicts, which skops can store."""
    frames, y = data((3, 3))
    kept = make_pipeline(clone(DESCRIPTOR), TensorKernelRidge()).fit(frames, y)[-1].X_fit_
    assert {type(one) for one in kept["maker"].values()} <= {str, int, np.ndarray, type(None)}
    assert kept["density"].shape[1:] == (16, 16)


def test_predictions_of_coefficients_that_cancel():
    """A kernel of little noise, whose dual coefficients are 1e10 times the labels: alone, in a batch, rotated."""
    frames = [molecule("NH3"), *[molecule("OH") for _ in range(2)]]
    for k, atoms in enumerate(frames):
        atoms.rattle(1e-3, seed=k)
    y = np.random.default_rng(0).normal(size=(3, 3))
    model = make_pipeline(
        LambdaSOAP(2.0, n_max=3, l_max=1, sigma=0.15), TensorKernelRidge(alpha=1e-13, target="i")
    ).fit(frames, y)
    assert "density" in model[-1].X_fit_
    assert model[-1].cancellation_["1o"] > 1e-8
    others = [atoms.copy() for atoms in frames]
    for atoms in others:
        atoms.rattle(0.05, seed=7)
    alone = np.array([model.predict([atoms])[0] for atoms in others])
    np.testing.assert_allclose(alone, model.predict(others * 3)[:3], atol=1e-8 * np.std(y))
    assert_equivariant(model, others, tolerance=1e-8)


def test_nearly_symmetric_environments_keep_their_digits():
    """Norms of blocks that nearly vanish, which ``normalize=True`` divides by, are lost in the overlaps of densities."""
    frames, y = data((3,))
    for k, atoms in enumerate(frames):  # carbon in a square of oxygens, moved out of its center by 1e-5
        corners = [[1.3, 0, 0], [-1.3, 0, 0], [0, 1.3, 0], [0, -1.3, 0]]
        atoms += Atoms("CO4", positions=np.array([[1e-5, 2e-5 * k, 0], *corners]) + [30.0, 0.0, 0.0])
    kernel = CovariantKernel(zeta=1, normalize=True)
    model = TensorKernelRidge(alpha=1e-3, kernel=kernel, descriptor=DESCRIPTOR).fit(frames, y)
    assert_equivariant(model, frames, tolerance=1e-8)


@pytest.mark.parametrize("model", [TensorKernelRidge, TensorGPR, SparseTensorGPR])
def test_plain_arrays_are_refused(model):
    frames, y = data(())
    with pytest.raises(TypeError, match="makes ndarray, not EquivariantFeatures"):
        model(descriptor=SOAP()).fit(frames, y)
