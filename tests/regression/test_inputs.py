"""Inputs in models that read their structures in parts, in unions, committees, searches and recommendations."""

import numpy as np
import pytest

from eqkernels import (
    AutoTensorRegressor,
    EquivariantNetworkRegressor,
    EquivariantUnion,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCommittee,
    recommend,
)
from eqkernels.io import load_model, save_model
from eqkernels.testing import assert_equivariant
from tests.descriptors.test_input_channels import SMALL, dipoles, frames_with_inputs, kinds

INPUTS = kinds(["field", "charge"])
SOAP = LambdaSOAP(**SMALL, inputs=INPUTS)
UNION = EquivariantUnion([("field", SOAP), ("spin", LambdaSOAP(**SMALL, inputs=kinds(["spin", "field"])))])


class Trajectory:
    """Structures that are made when they are asked for."""

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, key):
        return Trajectory(self.frames[key]) if isinstance(key, slice) else self.frames[key].copy()


def energies(frames):
    return np.array([np.sum(a.info["field"] * dipoles([a])[0]) for a in frames])


@pytest.fixture(scope="module")
def frames():
    return frames_with_inputs(n_frames=300)


@pytest.mark.parametrize("descriptor", [SOAP, UNION], ids=["soap", "union"])
def test_sparse_models_that_stream(descriptor, frames, tmp_path):
    y = energies(frames)
    options = {"descriptor": descriptor, "random_state": 0, "noise": 1e-4}
    model = SparseTensorGPR(30, **options).fit(frames, y)
    streamed = SparseTensorGPR(30, **options, n_jobs=2).fit(Trajectory(frames), y)
    predicted = model.predict(frames)
    np.testing.assert_allclose(streamed.predict(Trajectory(frames)), predicted, atol=1e-10)
    slopes = model.vjp(frames[:40], np.ones(40)).inputs
    for name, array in streamed.vjp(Trajectory(frames[:40]), np.ones(40)).inputs.items():
        np.testing.assert_allclose(array, slopes[name], atol=1e-8)
    save_model(model, tmp_path / "model.eqk")
    np.testing.assert_array_equal(load_model(tmp_path / "model.eqk").predict(frames), predicted)
    rest = SparseTensorGPR(30, **options).fit(frames[:200], y[:200]).partial_fit(frames[200:], y[200:])
    assert np.isfinite(rest.predict(frames)).all()
    forces = [-np.outer(a.arrays["charge"], a.info["field"]) for a in frames]
    with_forces = SparseTensorGPR(30, **options).fit(Trajectory(frames[:40]), y[:40], forces=forces[:40])
    assert with_forces.predict_forces(Trajectory(frames))[0].shape == (len(frames[0]), 3)
    inputs = {**INPUTS, **({"spin": "1e"} if descriptor is UNION else {})}
    assert_equivariant(model, frames[:3], tolerance=1e-8, n_transformations=2, inputs=inputs)


@pytest.mark.parametrize("make", [list, Trajectory])
@pytest.mark.parametrize("descriptor", [SOAP, UNION], ids=["soap", "union"])
def test_structures_without_an_input_are_named_by_their_number(descriptor, make, frames):
    model = SparseTensorGPR(10, descriptor=descriptor, random_state=0).fit(frames, energies(frames))
    bad = [atoms.copy() for atoms in frames]
    del bad[290].info["field"]
    for call in (lambda: model.predict(make(bad)), lambda: model.fit(make(bad), energies(frames))):
        with pytest.raises(ValueError, match="the input 'field' of structure 290 is missing"):
            call()


def test_two_kinds_of_an_input_in_a_union(frames):
    """A vector for the features of a descriptor may be a pseudovector for those of another."""
    frames = frames[:20]
    kinds_of_spin = [("axial", {"spin": "1e"}), ("time", {"spin": "1e time-odd"})]
    union = EquivariantUnion([(name, LambdaSOAP(**SMALL, inputs=one)) for name, one in kinds_of_spin]).fit(frames)
    parts = [LambdaSOAP(**SMALL, inputs=one).fit(frames).transform(frames) for _, one in kinds_of_spin]
    np.testing.assert_array_equal(
        union.transform(frames).blocks["1o"], np.concatenate([part.blocks["1o"] for part in parts], axis=2)
    )


def test_committees(frames):
    y = energies(frames)
    for base in (
        SparseTensorGPR(20, descriptor=SOAP, random_state=0),
        EquivariantNetworkRegressor(3.0, channels=4, max_iter=5, inputs=INPUTS, random_state=0),
    ):
        model = TensorCommittee(base, n_estimators=3, random_state=0, n_jobs=2).fit(frames[:60], y[:60])
        mean, std = model.predict(frames[60:80], return_std=True)
        assert np.isfinite(mean).all()
        assert (std > 0).all()
        assert_equivariant(model, frames[:2], tolerance=1e-8, n_transformations=2, inputs=INPUTS)


def test_searches(frames, tmp_path):
    """A model found for data that depend on a field is better with the field than without it."""
    y = dipoles(frames)
    errors = {}
    for inputs in (None, INPUTS):
        model = AutoTensorRegressor(4.0, target="dipole", inputs=inputs, random_state=0, n_jobs=2)
        model.fit(frames[:60], y[:60])
        errors[inputs is None] = 1 - model.score(frames[60:], y[60:])
    assert errors[False] < 0.2 * errors[True]
    assert "inputs=" in model.notes_[0]
    save_model(model, tmp_path / "model.eqk")
    np.testing.assert_array_equal(load_model(tmp_path / "model.eqk").predict(frames[:5]), model.predict(frames[:5]))
    assert_equivariant(model, frames[:2], tolerance=1e-7, n_transformations=2, inputs=INPUTS)


def test_recommendations(frames):
    y = dipoles(frames)
    for n in (30, 80):
        advice = recommend(frames[:n], y[:n], target="dipole", inputs=INPUTS, minutes=0.01)
        model = advice.model.fit(frames[:n], y[:n])
        assert model.score(frames[200:], y[200:]) > 0.7
    for inputs, message in (("1o", "must be None or a dict"), ({"absent": "1o"}, "'absent' of structure 0 is missing")):
        with pytest.raises(ValueError, match=message):
            recommend(frames[:30], y[:30], inputs=inputs)
        with pytest.raises(ValueError, match=message):
            AutoTensorRegressor(1.0, inputs=inputs).fit(frames[:30], y[:30])
