"""Kernel models that are given frames of many species make no features, and nobody sees a difference."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from sklearn.base import clone

from eqkernels import (
    SOAP,
    LambdaSOAP,
    SparseTensorGPR,
    SphericalExpansion,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorKernelRidgeCV,
)
from eqkernels.kernels import CovariantKernel, DensityKernel
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
    TensorKernelRidgeCV(alphas=[1e-3, 1e-1, 1e3]),
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
    short = clone(model).set_params(descriptor=DESCRIPTOR).fit(frames[train], y[train])
    assert short.contracted_
    assert type(short.descriptor_) is SphericalExpansion
    irreps = short._tensor().irreps
    features = clone(DESCRIPTOR).set_params(irreps=str(irreps) + "+0e").fit(frames[train]).transform(frames)
    long = clone(model).fit(features[train], y[train])
    assert not long.contracted_
    for one in (short, pickle.loads(pickle.dumps(short))):
        found, expected = one.predict(frames[test]), long.predict(features[test])
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)


def test_nearly_symmetric_environments_keep_their_digits():
    """Norms of blocks that nearly vanish, which ``normalize=True`` divides by, are lost in the overlaps of densities."""
    frames, y = data((3,))
    for k, atoms in enumerate(frames):  # carbon in a square of oxygens, moved out of its center by 1e-5
        corners = [[1.3, 0, 0], [-1.3, 0, 0], [0, 1.3, 0], [0, -1.3, 0]]
        atoms += Atoms("CO4", positions=np.array([[1e-5, 2e-5 * k, 0], *corners]) + [30.0, 0.0, 0.0])
    kernel = CovariantKernel(zeta=1, normalize=True)
    model = TensorKernelRidge(alpha=1e-3, kernel=kernel, descriptor=DESCRIPTOR).fit(frames, y)
    assert not model.contracted_
    assert_equivariant(model, frames, tolerance=1e-8)
    scalars = TensorKernelRidge(kernel=kernel, descriptor=DESCRIPTOR).fit(frames, np.zeros(len(frames)))
    assert (
        scalars.contracted_ == TensorKernelRidge(descriptor=DESCRIPTOR).fit(frames, np.zeros(len(frames))).contracted_
    )


def test_fitted_again_with_a_kernel_that_needs_features():
    frames, y = data((3,))
    model = TensorKernelRidge(descriptor=DESCRIPTOR).fit(frames, y)
    assert model.contracted_
    model.set_params(kernel=2.0 * CovariantKernel()).fit(frames, y)
    assert not model.contracted_
    with pytest.raises(TypeError, match="kernel="):
        TensorGPR(descriptor=DESCRIPTOR).fit(frames, y).set_params(kernel="rbf").fit(frames, y)


def test_committee_shares_features():
    frames, y = data((3,))
    committee = TensorCommittee(TensorKernelRidge(descriptor=DESCRIPTOR), n_estimators=3, random_state=0).fit(frames, y)
    assert np.isfinite(committee.predict(frames)).all()


def test_density_kernel_for_frames():
    """It takes the densities of the descriptor, never its features, even if there are only scalars."""
    frames, y = data(())
    model = TensorKernelRidge(kernel=DensityKernel(), descriptor=DESCRIPTOR).fit(frames, y)
    expected = TensorKernelRidge(descriptor=DESCRIPTOR).fit(frames, y)
    np.testing.assert_allclose(model.predict(frames), expected.predict(frames), atol=1e-7)
    with pytest.raises(ValueError, match="not those of density coefficients"):
        TensorKernelRidge(kernel=DensityKernel()).fit(LambdaSOAP(irreps="0e").fit_transform(frames), y)


@pytest.mark.parametrize("model", [TensorKernelRidge, TensorGPR, SparseTensorGPR])
def test_plain_arrays_are_refused(model):
    frames, y = data(())
    with pytest.raises(TypeError, match="makes ndarray, not EquivariantFeatures"):
        model(descriptor=SOAP()).fit(frames, y)


def test_densities_in_a_pipeline():
    """All irreps of a target, not only those of the densities."""
    frames, y = data((3, 3))
    density = SphericalExpansion(cutoff=3.5, n_max=4, l_max=3).fit_transform(frames)
    model = TensorKernelRidge(kernel=DensityKernel()).fit(density, y)
    expected = TensorKernelRidge(descriptor=DESCRIPTOR).fit(frames, y).predict(frames)
    np.testing.assert_allclose(model.predict(density), expected, atol=1e-9)
