"""Derivatives of every model that has them are differences of what it predicts, in pipelines too."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from eqkernels import (
    CovariantKernel,
    EquivariantNetworkRegressor,
    EquivariantPCA,
    FeatureSelection,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    TensorCalculator,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    TensorVotingRegressor,
)
from eqkernels.derivatives import predict_derivatives, predict_forces, predict_stress, value_and_vjp, vjp
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames
from tests.descriptors.density.test_gradients import moved, strained
from tests.regression.sparse.test_derivatives import SMALL, close, difference, smooth_frames

SOAP = LambdaSOAP(**SMALL)
MODELS = {
    "ridge": lambda: TensorRidge(1e-2, descriptor=SOAP),
    "ridge, own norm, mean": lambda: TensorRidge(1e-2, normalize=True, aggregate="mean", descriptor=SOAP),
    "ridge, no norm": lambda: TensorRidge(1e-2, normalize=False, descriptor=SOAP),
    "kernel ridge": lambda: TensorKernelRidge(1e-2, descriptor=SOAP),
    "kernel ridge, sum": lambda: TensorKernelRidge(
        1e-2, kernel=CovariantKernel(3, normalize=True) + 0.1 * CovariantKernel(1), descriptor=SOAP
    ),
    "gpr": lambda: TensorGPR(noise=1e-2, optimizer=None, descriptor=SOAP),
    "sparse gpr": lambda: SparseTensorGPR(15, noise=1e-2, descriptor=SOAP, random_state=0),
    "network": lambda: EquivariantNetworkRegressor(channels=4, max_iter=3, cutoff=3.4, random_state=0),
    "pipeline": lambda: make_pipeline(LambdaSOAP(**SMALL), TensorKernelRidge(1e-2)),
    "reduced": lambda: make_pipeline(LambdaSOAP(**SMALL), FeatureSelection(0.5), EquivariantPCA(8), TensorRidge(1e-2)),
    "search": lambda: GridSearchCV(
        make_pipeline(LambdaSOAP(**SMALL), TensorRidge()), {"tensorridge__alpha": [1e-2]}, cv=2
    ),
    "three densities": lambda: make_pipeline(NBodyFeatures(3.4, n_max=2, l_max=2), TensorKernelRidge(1e-2)),
}
RANDOM = np.random.default_rng(0).normal(size=(12, 3, 3))
TENSORS = {
    "scalar": RANDOM[:, 0, 0],
    "dipole": RANDOM[:, 0],
    "polarizability": RANDOM + RANDOM.transpose(0, 2, 1),
    "ij": RANDOM,
}


def structures(periodic):
    options = {"n_species": 2, "periodic": periodic}
    frames = smooth_frames(5, n_frames=3, **options) + random_frames(5, n_frames=9, **options)
    for atoms in frames if periodic else []:
        atoms.cell = np.where(atoms.cell.lengths()[:, None] > 0, atoms.cell.array, np.eye(3) * 5)
    return frames


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("tensor", "periodic"), [("scalar", True), ("dipole", False), ("polarizability", True), ("ij", False)]
)
def test_derivatives_are_differences(name, tensor, periodic):
    frames = structures(periodic)
    model = MODELS[name]().fit(frames, TENSORS[tensor])
    some = frames[:3]
    found = predict_derivatives(model, some)
    assert [one.shape for one in found] == [(len(atoms), *TENSORS[tensor].shape[1:], 3) for atoms in some]
    close(found[1][0, ..., 2], difference(model.predict, lambda h: moved(some, 1, 0, 2, h))[1], 1e-7)
    for one in found:  # the acoustic sum rule
        assert np.abs(one.sum(axis=0)).max() < 1e-10 * max(np.abs(one).max(), 1e-10)
    cotangents = np.random.default_rng(1).normal(size=TENSORS[tensor][:3].shape)
    slopes = vjp(model, some, cotangents)
    total = np.sum(cotangents[1][..., None] * found[1], axis=tuple(range(1, found[1].ndim - 1)))
    close(slopes.positions[len(some[0]) :][: len(some[1])], total, 1e-10)
    if tensor == "scalar":
        close(predict_forces(model, some)[2], -found[2], 1e-10)
        numeric = difference(model.predict, lambda h: strained(some, 0, 1, h))
        volumes = np.array([atoms.get_volume() for atoms in some])
        close(predict_stress(model, some)[:, 0, 1] * volumes, numeric, 1e-7)
    elif name != "search":
        with pytest.raises(ValueError, match="predicted for scalar targets only.*take derivatives"):
            predict_forces(model, some)


@pytest.mark.parametrize("name", ["ridge", "kernel ridge", "gpr"])
def test_methods_and_functions_are_the_same(name):
    frames = structures(False)
    model = MODELS[name]().fit(frames, TENSORS["dipole"])
    for one, other in zip(model.predict_derivatives(frames), predict_derivatives(model, frames), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_equivariant(model.predict_derivatives, frames[:2])
    both = make_pipeline(LambdaSOAP(**SMALL), MODELS[name]().set_params(descriptor=None)).fit(frames, TENSORS["dipole"])
    close(np.concatenate(predict_derivatives(both, frames)), np.concatenate(model.predict_derivatives(frames)), 1e-9)
    assert both[-1].descriptor_ is None  # the model is what it was


def test_labels_of_atoms_have_vector_jacobian_products():
    frames, random = structures(False), np.random.default_rng(2)
    labels = [random.normal(size=(len(atoms), 3)) for atoms in frames]
    labels[1][0] = np.nan
    for model in (TensorRidge(1e-2, descriptor=SOAP), TensorKernelRidge(1e-2, descriptor=SOAP, per_atom=True)):
        model.fit(frames, labels)
        cotangents = [random.normal(size=one.shape) for one in labels]

        def total(changed, model=model, cotangents=cotangents):
            return sum(np.sum(g * y) for g, y in zip(cotangents, model.predict(changed), strict=True))

        close(
            model.vjp(frames, cotangents).positions[1, 0], difference(total, lambda h: moved(frames, 0, 1, 0, h)), 1e-7
        )
        with pytest.raises(ValueError, match="fitted to per-atom targets.*take vjp"):
            model.predict_derivatives(frames)


def test_a_pipeline_is_a_calculator():
    frames = structures(True)
    model = make_pipeline(LambdaSOAP(**SMALL), TensorKernelRidge(1e-2)).fit(frames, TENSORS["scalar"])
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator(model)
    close(atoms.get_forces(), predict_forces(model, frames[:1])[0], 1e-12)
    close(atoms.get_stress(voigt=False), predict_stress(model, frames[:1])[0], 1e-12)


def test_several_properties_and_no_derivatives():
    frames, y = structures(False), TENSORS["dipole"]
    network = EquivariantNetworkRegressor(channels=4, max_iter=2, cutoff=3.4, random_state=0)
    network.fit(frames, {"dipole": y, "energy": TENSORS["scalar"]})
    with pytest.raises(ValueError, match="several properties, dipole, energy: take vjp"):
        network.predict_derivatives(frames)
    with pytest.raises(TypeError, match="TensorVotingRegressor has no derivatives by positions: take TensorRidge"):
        predict_derivatives(TensorVotingRegressor([("one", TensorRidge(1e-2, descriptor=SOAP))]).fit(frames, y), frames)
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    alone = TensorRidge(1e-2).fit(features, y)
    for X in (frames, features):
        with pytest.raises(TypeError, match="frames, both at fit and here.*pass the pipeline to eqkernels.derivatives"):
            alone.predict_derivatives(X)


@pytest.mark.parametrize("zeta", [1, 2, 3])
@pytest.mark.parametrize("normalize", ["invariant", False])
def test_a_value_and_its_derivatives_at_once(zeta, normalize):
    """Kernels are multiplied once for both, and give what they give one by one."""
    frames = random_frames(5, n_frames=9, n_species=2)
    energies = np.random.default_rng(0).normal(size=9)
    soap = LambdaSOAP(3.4, n_max=3, l_max=2)
    for aggregate in ("sum", "mean"):
        kernel = CovariantKernel(zeta, normalize, aggregate)
        for model in (
            TensorKernelRidge(1e-3, kernel=kernel, descriptor=soap),
            TensorGPR(kernel=kernel, descriptor=soap),
            SparseTensorGPR(20, kernel=kernel, descriptor=soap, noise=1e-3, random_state=0),
        ):
            model.fit(frames, energies)
            for atoms in frames[:2]:
                value, derivatives = value_and_vjp(model, atoms, np.ones(1))
                separate = model.vjp([atoms], np.ones(1))
                assert value == pytest.approx(model.predict([atoms]), rel=1e-12, abs=1e-12)
                np.testing.assert_allclose(derivatives.positions, separate.positions, rtol=0, atol=1e-12)
                np.testing.assert_allclose(derivatives.strain, separate.strain, rtol=0, atol=1e-12)
