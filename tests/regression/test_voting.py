"""Means of different models."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, TensorKernelRidge, TensorRidge, TensorVotingRegressor
from eqkernels.datasets import load_water_clusters
from eqkernels.testing import assert_equivariant

SMALL = LambdaSOAP(cutoff=4.0, n_max=3, l_max=2)


@pytest.fixture(scope="module")
def data():
    water = load_water_clusters()
    return water.frames[:24], water.dipole[:24]


def test_the_mean_is_weighted(data):
    frames, y = data
    models = [
        ("linear", TensorRidge(1e-3, descriptor=SMALL)),
        ("kernel", make_pipeline(SMALL, TensorKernelRidge(1e-3))),
    ]
    alone = [clone(model).fit(frames, y).predict(frames) for _, model in models]
    both = TensorVotingRegressor(models, weights=[1, 3]).fit(frames, y)
    np.testing.assert_allclose(both.predict(frames), 0.25 * alone[0] + 0.75 * alone[1], atol=1e-12)
    assert_equivariant(both, frames[:3], tolerance=1e-8)
    assert both.score(frames, y) > 0.9


def test_per_atom_targets_and_searches(data):
    frames = data[0]
    vectors = [atoms.positions - atoms.get_center_of_mass() for atoms in frames]
    models = [("a", TensorRidge(1e-3, descriptor=SMALL)), ("b", TensorRidge(1e-1, descriptor=SMALL))]
    model = TensorVotingRegressor(models, target="forces").fit(frames, vectors)
    expected = [one.predict(frames[:2]) for one in model.estimators_]
    for k, mean in enumerate(model.predict(frames[:2])):
        np.testing.assert_allclose(mean, (expected[0][k] + expected[1][k]) / 2, atol=1e-12)
    search = GridSearchCV(TensorVotingRegressor(models), {"a__alpha": [1e-4, 1e-2]}, cv=3).fit(*data)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimators": []}, "at least one"),
        ({"estimators": [("a", TensorRidge)]}, "expected a model"),
        ({"estimators": [("a", TensorRidge()), ("a", TensorRidge())]}, "not unique"),
        ({"estimators": [("a", TensorRidge())], "weights": [1, 2]}, "must be 1 numbers"),
        ({"estimators": [("a", TensorRidge())], "weights": [-1]}, "none of them negative"),
    ],
)
def test_messages(data, parameters, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TensorVotingRegressor(**parameters).fit(*data)
