import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from eqkernels import (
    EquivariantNetworkRegressor,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.calibration import calibration_curve
from eqkernels.so3 import CartesianTensor
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames, water_set

SMALL = {"cutoff": 3.0, "n_max": 3, "l_max": 2, "sigma": 0.4}


@pytest.mark.parametrize(
    "base", [None, TensorRidge(1e-4), TensorGPR(), make_pipeline(LambdaSOAP(**SMALL), TensorRidge())]
)
def test_wraps_any_regressor(waters, base):
    frames, _, matrix, _ = waters
    noise = 0.01 * np.random.default_rng(0).normal(size=matrix.shape)
    matrix = matrix + noise + noise.swapaxes(1, 2)
    committee = TensorCommittee(base, n_estimators=5, random_state=0)
    model = committee if hasattr(base, "steps") else make_pipeline(LambdaSOAP(**SMALL), committee)
    mean, cov = model.fit(frames[:30], matrix[:30]).predict(frames[30:], return_cov=True)
    _, std = model.predict(frames[30:], return_std=True)
    np.testing.assert_allclose(std, np.sqrt(np.einsum("nijij->nij", cov)))
    assert np.linalg.eigvalsh(cov.reshape(10, 9, 9)).min() > -1e-12 * cov.max()
    assert model.score(frames[30:], matrix[30:]) > 0.9
    assert_equivariant(model, frames[30:33], tolerance=1e-9)
    assert_equivariant(lambda X: model.predict(X, return_cov=True)[1], frames[30:33], tolerance=1e-8)


def test_wraps_learned_features(waters):
    frames, vector, *_ = waters
    member = EquivariantNetworkRegressor(cutoff=3.0, channels=4, l_max=1, n_layers=1, max_iter=15, random_state=0)
    model = TensorCommittee(member, n_estimators=4, random_state=0).fit(frames[:30], vector[:30])
    _, std = model.predict(frames[30:], return_std=True)
    assert std.shape == vector[30:].shape
    assert np.isfinite(std).all()
    assert model.score(frames[30:], vector[30:]) > 0.9
    assert_equivariant(model, frames[30:33], tolerance=1e-9)


def test_spread_is_scaled_to_the_errors():
    frames, vector, *_ = water_set(160, seed=2)
    vector = vector + 0.05 * np.random.default_rng(0).normal(size=vector.shape)
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    model = TensorCommittee(TensorKernelRidge(1e-3), random_state=0).fit(features[:80], vector[:80])
    mean, std = model.predict(features[80:], return_std=True)
    _, observed = calibration_curve(vector[80:], mean, std, [0.68, 0.95])
    assert 0.5 < observed[0] < 0.85
    assert observed[1] > 0.85
    members = np.array([one.predict(features[80:]) for one in model.estimators_])
    np.testing.assert_allclose(std, model.recalibration_["1o"] * members.std(axis=0, ddof=1))
    model.recalibrate(features[80:120], vector[80:120])
    mean, cov = model.predict(features[80:120], return_cov=True)
    ratio = np.sum((vector[80:120] - mean) ** 2, axis=1) / np.einsum("naa->n", cov)
    np.testing.assert_allclose(ratio.mean(), 1.0)


def test_every_member_sees_every_species_and_labels_of_atoms():
    frames = random_frames(1, n_frames=20, n_species=1) + random_frames(4, n_frames=1, n_species=4)
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    y = [np.random.default_rng(k).normal(size=(len(atoms), 3)) for k, atoms in enumerate(frames)]
    y[0][1] = np.nan
    model = TensorCommittee(TensorKernelRidge(1e-2, target="i"), n_estimators=6, random_state=0).fit(features, y)
    mean, std = model.predict(features, return_std=True)
    assert [one.shape for one in std] == [one.shape for one in y]
    assert np.isfinite(np.concatenate(std)).all()
    total = TensorCommittee(n_estimators=6, random_state=0).fit(features, np.ones((21, 3)))
    assert np.isfinite(total.predict(features)).all()


def test_scikit_learn_tools_and_messages(waters):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    with joblib.parallel_config("threading"):
        model = TensorCommittee(n_estimators=4, random_state=1, n_jobs=2).fit(features, matrix)
    expected = model.predict(features, return_std=True)
    weight = np.ones(len(features))
    for copy in (pickle.loads(pickle.dumps(model)), clone(model).set_params(n_jobs=1).fit(features, matrix, weight)):
        np.testing.assert_allclose(copy.predict(features, return_std=True), expected, rtol=1e-12)
    GridSearchCV(TensorCommittee(TensorRidge(), n_estimators=3), {"estimator__alpha": [1e-4, 1e-2]}, cv=3).fit(
        features, matrix
    )
    assert (cross_val_score(model, features, matrix, cv=3) > 0.9).all()
    assert CartesianTensor(model.target_).irreps == CartesianTensor("ij=ji").irreps
    for options, error, message in (
        ({"n_estimators": 1}, ValueError, "n_estimators=1 must be an integer, at least 2"),
        ({"max_samples": 0}, ValueError, "max_samples=0 must be a fraction"),
        ({"max_samples": np.inf}, ValueError, "max_samples=inf must be a fraction"),
        ({"max_samples": np.nan}, ValueError, "max_samples=nan must be a fraction"),
        ({"max_samples": 1.5}, ValueError, "max_samples=1.5 must be a fraction"),
        ({"max_samples": True}, ValueError, "max_samples=True must be a fraction"),
        ({"max_samples": 1.0}, ValueError, "was left out by 2 members: lower max_samples=1.0"),
        ({"max_samples": 2**70}, ValueError, "was left out by 2 members: lower max_samples=1180591620717411303424"),
        ({"estimator": LambdaSOAP()}, TypeError, "must be a regressor"),
        ({"estimator": TensorRidge}, TypeError, "must be a regressor"),
        ({"estimator": TensorKernelRidge(kernel="precomputed")}, TypeError, "cannot use kernel='precomputed'"),
    ):
        with pytest.raises(error, match=message):
            TensorCommittee(**options).fit(features, matrix)
    with pytest.raises(ValueError, match="at most one of"):
        model.predict(features, return_std=True, return_cov=True)
    with pytest.raises(TypeError, match="a committee has one property"):
        TensorCommittee(EquivariantNetworkRegressor()).fit(frames, {"matrix": matrix})


@pytest.mark.parametrize("base", [TensorRidge(1e-4), TensorGPR(), SparseTensorGPR(8)])
@pytest.mark.parametrize("formula", ["", "i", "ij", "ij=ji"])
@pytest.mark.filterwarnings("ignore:the l")
def test_labels_without_a_trace_of_the_structure_have_error_bars_of_their_size(base, formula):
    """Members that learned nothing agree, or nearly: their spread must not decide the scale of the error bars."""
    frames, tensor = water_set(12, seed=1)[0], CartesianTensor(formula)
    y = tensor.inverse_transform(np.random.default_rng(0).normal(size=(12, tensor.dim)))
    committee = TensorCommittee(base, n_estimators=4, random_state=0, per_atom=False)
    model = make_pipeline(LambdaSOAP(**SMALL), committee).fit(frames, y)
    _, std = model.predict(frames, return_std=True)
    assert 0.1 < np.sqrt(np.mean(std**2)) < 30
    assert_equivariant(lambda X: model.predict(X, return_cov=True)[1], frames[:2], tolerance=1e-7)


def test_members_that_agree_have_the_error_bars_of_their_errors():
    """With two structures, all members that can be tested on one have seen the other alone, and predict the same."""
    frames, vector, *_ = water_set(2, seed=3)
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    model = TensorCommittee(TensorRidge(), random_state=0).fit(features, vector)
    _, cov = model.predict(features, return_cov=True)
    left_out = [TensorRidge().fit(features[[1 - k]], vector[[1 - k]]).predict(features[[k]])[0] for k in (0, 1)]
    floor = np.mean((vector - left_out) ** 2)
    factor, spread = model.recalibration_["1o"], np.mean(np.einsum("naa->n", cov)) / 3
    np.testing.assert_allclose(factor**2 * model.floor_["1o"], floor)
    assert spread >= floor * (1 - 1e-9)


@pytest.mark.parametrize(
    "base", [TensorRidge(1e-4), TensorGPR(), EquivariantNetworkRegressor(cutoff=3.0, channels=2, max_iter=1)]
)
@pytest.mark.filterwarnings("ignore:the l")
def test_labels_that_are_all_equal(base):
    frames, *_ = water_set(8, seed=1)
    learned = isinstance(base, EquivariantNetworkRegressor)
    X = frames if learned else LambdaSOAP(**SMALL, irreps="0e+1e+2e").fit_transform(frames)
    for y in (np.ones(8), np.zeros((8, 3, 3)), np.tile(np.eye(3), (8, 1, 1))):
        model = TensorCommittee(base, n_estimators=3, random_state=0).fit(X, y)
        mean, std = model.predict(X, return_std=True)
        np.testing.assert_allclose(mean, y, atol=1e-8)
        assert np.abs(std).max() < 1e-8
        model.recalibrate(X, y)


def test_gaps_in_labels_of_atoms_and_weights_of_zero():
    frames = random_frames(1, n_frames=12, n_species=2)
    random = np.random.default_rng(0)
    y = [random.normal(size=(len(atoms), 3)) for atoms in frames]
    for values, atoms in zip(y, frames, strict=True):  # of each species a single atom has a label, but for hydrogen
        values[atoms.numbers != 1] = np.nan
    y[0][frames[0].numbers == 6] = 1.0
    y[3][:] = np.nan
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    for X in (features, frames):
        base = TensorRidge(1e-2, descriptor=LambdaSOAP(**SMALL), target="i")
        model = TensorCommittee(base, n_estimators=5, max_samples=3, random_state=0).fit(X, y)
        assert np.isfinite(np.concatenate(model.predict(X, return_std=True)[1])).all()
    weight, vector = np.zeros(12), random.normal(size=(12, 3))
    weight[[2, 5, 7]] = 1.0
    model = TensorCommittee(TensorRidge(1e-2), n_estimators=8, max_samples=2, random_state=0)
    predicted = model.fit(features, vector, weight).predict(features)
    vector[weight == 0] = 1e6  # labels without weight change nothing
    np.testing.assert_allclose(model.fit(features, vector, weight).predict(features), predicted)
    assert model.predict(features, return_std=True)[1].max() < 100


def test_recalibration_of_variances_that_are_zero(waters):
    frames, vector, *_ = waters
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    with pytest.warns(UserWarning, match="zero variance"):
        model = TensorGPR().fit(features, np.ones(40))
    assert model.recalibrate(features, np.ones(40)).recalibration_ == {"0e": 1.0}  # nothing but rounding to explain
    with pytest.raises(
        ValueError, match="all predicted variances of 0e are zero, the errors are not: .* Fit on labels"
    ):
        model.recalibrate(features, vector[:, 0])
    assert model.recalibration_ == {"0e": 1.0}
