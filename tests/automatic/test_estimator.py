"""The search as a user sees it: it keeps to its time, says what it did, and what it says of its error is true."""

import time

import numpy as np
import pytest
from sklearn.base import clone

from eqkernels import AutoTensorRegressor, LambdaSOAP, TensorKernelRidge
from eqkernels.automatic.kernel_search import KernelSearch, KernelSetting, candidate_settings, edges
from eqkernels.automatic.labelled_structures import Labelled
from eqkernels.datasets import load_small_organics, load_water_clusters
from eqkernels.metrics import frobenius_rmse
from eqkernels.testing import assert_equivariant


@pytest.fixture(scope="module")
def organics():
    data = load_small_organics()
    return data.frames, data.dipole


@pytest.fixture(scope="module")
def fitted(organics):
    frames, y = organics
    AutoTensorRegressor(5, random_state=0).fit(frames[:110], y[:110])  # compiles
    start = time.process_time()
    model = AutoTensorRegressor(20, target="dipole", random_state=0).fit(frames[:200], y[:200])
    return model, time.process_time() - start


def test_expected_error_and_time(fitted, organics):
    (model, seconds), (frames, y) = fitted, organics
    assert seconds < 30
    error = frobenius_rmse(y[200:500], model.predict(frames[200:500]))
    assert 0.6 < error / model.expected_error_["rmse"] < 1.5
    low, high = model.expected_error().interval
    assert 0.85 * low < error < high / 0.85
    default = TensorKernelRidge(descriptor=LambdaSOAP()).fit(frames[:200], y[:200])
    assert error < frobenius_rmse(y[200:500], default.predict(frames[200:500]))
    assert sum(model.weights_.values()) == pytest.approx(1)
    assert len(model.weights_) == len(model.estimators_)


def test_error_bars(fitted, organics):
    (model, _), (frames, y) = fitted, organics
    mean, std = model.predict(frames[200:500], return_std=True)
    np.testing.assert_array_equal(mean, model.predict(frames[200:500]))
    assert 0.5 < np.mean(np.abs(y[200:500] - mean) < std) < 0.85


def test_equivariance(fitted, organics):
    assert_equivariant(fitted[0], organics[0][:5], tolerance=1e-8)


def test_report(fitted):
    report = fitted[0].report()
    for word in ("held back", "one by one", "LambdaSOAP(cutoff=", "prediction:", "Frobenius norm", "TensorGPR"):
        assert word in report
    assert len({len(column) for column in fitted[0].cv_results_.values()}) == 1


def test_few_labels_are_left_out_one_by_one():
    data = load_water_clusters()
    model = AutoTensorRegressor(20, random_state=0).fit(data.frames[:40], data.dipole[:40])
    assert model.expected_error_["how"] == "leave-one-out"
    assert model.weights_ == {"kernel": 1.0}
    error = frobenius_rmse(data.dipole[40:], model.predict(data.frames[40:]))
    assert 0.5 < error / model.expected_error_["rmse"] < 2


def test_groups_are_held_back_whole(organics):
    frames, y = organics
    groups = np.repeat(np.arange(12), 10)
    model = AutoTensorRegressor(6, random_state=0).fit(frames[:120], y[:120], groups=groups)
    assert model.expected_error_["how"].endswith("in whole groups")
    assert model.expected_error_["n_structures"] % 10 == 0


def test_targets_of_atoms():
    data = load_small_organics()
    frames = data.frames[:60]
    y = [atoms.positions - atoms.get_center_of_mass() for atoms in frames]
    y[3] = np.full_like(y[3], np.nan)
    model = AutoTensorRegressor(8, per_atom=True, random_state=0).fit(frames, y)
    mean, std = model.predict(frames[:4], return_std=True)
    assert [one.shape for one in mean] == [one.shape for one in std] == [one.shape for one in y[:4]]


def test_parameters():
    model = clone(AutoTensorRegressor(60, target="dipole"))
    assert model.get_params()["time_budget"] == 60
    for bad in ({"time_budget": 0}, {"time_budget": "long"}, {"aggregate": "median"}, {"n_jobs": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            AutoTensorRegressor(**bad).fit([], [])


def test_weights_and_input(organics):
    frames, y = organics
    many = AutoTensorRegressor(20, random_state=0)
    weight = np.where(np.arange(40) < 20, 1.0, 1e-8)
    wrong = np.where((np.arange(40) < 20)[:, None], y[:40], -y[:40])
    weighted = many.fit(frames[:40], wrong, sample_weight=weight).predict(frames[20:40])
    equal = clone(many).fit(frames[:40], wrong).predict(frames[20:40])
    assert frobenius_rmse(y[20:40], weighted) < frobenius_rmse(y[20:40], equal)
    with pytest.raises(TypeError, match="got features"):
        many.fit(LambdaSOAP(3.0).fit_transform(frames[:5]), y[:5])
    with pytest.raises(ValueError, match="sample_weight"):
        many.fit(frames[:40], y[:40], sample_weight=weight[:3])


def test_too_few_structures(organics):
    frames, y = organics
    with pytest.raises(ValueError, match="at least 5"):
        AutoTensorRegressor().fit(frames[:4], y[:4])


def test_halving_keeps_the_best(organics):
    frames, y = organics
    options = {"target": "dipole", "per_atom": False, "aggregate": None}
    search = KernelSearch(Labelled(frames, y), np.arange(200), 3.0, options, 4)
    found = search.run()
    sizes = [one["n_structures"] for one in search.tried]
    assert sorted(set(sizes)) == [150, 200]
    last = [one for one in search.tried if one["n_structures"] == 200]
    assert found == min(last, key=lambda one: one["rmse"])["setting"]
    first = [one for one in search.tried if one["n_structures"] == 150]
    assert min(first, key=lambda one: one["rmse"])["setting"] in [one["setting"] for one in last]


def test_search_ends_with_its_time(organics):
    frames, y = organics
    options = {"target": "dipole", "per_atom": False, "aggregate": None}
    search = KernelSearch(Labelled(frames, y), np.arange(200), 3.0, options, 4, lambda: True)
    assert search.run() == candidate_settings(4)[0]
    assert len(search.tried) == 1


def test_edges():
    assert edges(KernelSetting({"cutoff": 6.5}, 4)) == [
        "cutoff=6.5 is the largest that is tried",
        "zeta=4 is the largest that is tried",
    ]
    assert edges(KernelSetting({"cutoff": 5.0}, 2)) == []


def test_many_elements_are_embedded_and_learn_from_each_other():
    assert all("n_species_channels" in one.descriptor for one in candidate_settings(7))
    assert all("n_species_channels" not in one.descriptor for one in candidate_settings(6) + candidate_settings(20))
    few, many = (KernelSetting({"cutoff": 5.0}).others(n) for n in (19, 20))
    assert {one.center_similarity for one in few} == {0.0}
    assert {one.center_similarity for one in many} == {0.0, 0.5, 1.0}
    assert "center_similarity=0.5" in str(many[-2])
    assert many[-1].parts("mean")["kernel"].center_similarity == 1.0


@pytest.mark.parametrize("target", ["dielectric", "polarizability"])
def test_means_and_sums_over_atoms(organics, target):
    """A tensor that does not grow with the molecule is a mean over its atoms."""
    frames = organics[0][:40]
    y = np.array([np.einsum("ni,nj->ij", one, one) for one in (atoms.positions for atoms in frames)])
    model = AutoTensorRegressor(3, target=target, random_state=0).fit(frames, y)
    assert model.estimators_[0].kernel.aggregate == ("mean" if target == "dielectric" else "sum")
    assert np.isfinite(model.predict(frames[:2])).all()
