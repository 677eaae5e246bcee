import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, LearnedTensorRegressor, TensorCommittee, TensorGPR, TensorKernelRidge, TensorRidge
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
    member = LearnedTensorRegressor(cutoff=3.0, channels=4, l_max=1, n_layers=1, max_iter=15, random_state=0)
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
    GridSearchCV(TensorCommittee(TensorRidge(), 3), {"estimator__alpha": [1e-4, 1e-2]}, cv=3).fit(features, matrix)
    assert (cross_val_score(model, features, matrix, cv=3) > 0.9).all()
    assert CartesianTensor(model.target_).irreps == CartesianTensor("ij=ji").irreps
    for options, error, message in (
        ({"n_estimators": 1}, ValueError, "n_estimators=1 must be an integer, at least 2"),
        ({"max_samples": 0}, ValueError, "max_samples=0 must be a fraction"),
        ({"max_samples": 1.0}, ValueError, "no structure was left out by 2 members: lower max_samples=1.0"),
        ({"estimator": TensorKernelRidge(kernel="precomputed")}, TypeError, "cannot use kernel='precomputed'"),
    ):
        with pytest.raises(error, match=message):
            TensorCommittee(**options).fit(features, matrix)
    with pytest.raises(ValueError, match="at most one of"):
        model.predict(features, return_std=True, return_cov=True)
