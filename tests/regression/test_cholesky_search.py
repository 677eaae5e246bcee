"""A regularization found by Cholesky factorizations is that of an eigendecomposition."""

import numpy as np
import pytest

from eqkernels import LambdaSOAP, TensorKernelRidge
from eqkernels.regression import cholesky_search, kernel_ridge
from tests.regression.test_regularization import SMALL, noisy


@pytest.fixture
def data(waters):
    frames, dipole, _, _ = waters
    features, matrix = noisy(waters)
    forces = [np.random.default_rng(k).normal(size=(len(atoms), 3)) for k, atoms in enumerate(frames)]
    with_vectors = LambdaSOAP(**SMALL).fit_transform(frames, dipole)
    return {"structures": (features, matrix, None), "atoms": (with_vectors, forces, True)}


@pytest.mark.parametrize("kind", ["structures", "atoms"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("baseline", ["composition", "mean", None])
def test_all_structures_left_out(data, kind, weighted, baseline, monkeypatch):
    features, y, per_atom = data[kind]
    weight = np.random.default_rng(1).choice([0.0, 0.5, 2.0], size=len(features)) if weighted else None
    model = TensorKernelRidge(baseline=baseline, per_atom=per_atom, target="ij=ji" if per_atom is None else "i")
    model.fit(features, y, weight)
    alpha, score, errors = model.alpha_, model.best_score_, model.cv_results_
    monkeypatch.setattr(kernel_ridge, "LARGE", 0)
    monkeypatch.setattr(cholesky_search, "_PART", 10**9)
    model.fit(features, y, weight)
    assert model.alpha_ == alpha
    assert model.best_score_ == pytest.approx(score, rel=1e-8)
    for irrep in alpha:
        tried = dict(zip(errors["alpha"].tolist(), errors[irrep].tolist(), strict=True))
        got = dict(zip(model.cv_results_["alpha"].tolist(), model.cv_results_[irrep].tolist(), strict=True))
        finite = {one: value for one, value in got.items() if np.isfinite(value)}
        assert 2 <= len(finite) <= 4 or len(tried) == 1
        assert finite == pytest.approx({one: tried[one] for one in finite}, rel=1e-7)


def test_a_part_of_the_structures(data, monkeypatch):
    """The error is that of the structures left out, by models fitted to all others."""
    features, y, _ = data["structures"]
    monkeypatch.setattr(kernel_ridge, "LARGE", 0)
    monkeypatch.setattr(cholesky_search, "_PART", 60)
    model = TensorKernelRidge(baseline=None, target="ij=ji").fit(features, y)
    part = cholesky_search._part(np.arange(len(features)), 5)
    assert 2 <= len(part) <= 60 // 5
    errors = []
    for k in part:
        others = np.setdiff1d(np.arange(len(features)), k)
        one = TensorKernelRidge(model.alpha_, baseline=None, target="ij=ji").fit(features[others], y[others])
        errors.append(one.predict(features[[k]])[0] - y[k])
    deviators = np.array(errors)
    deviators -= np.trace(deviators, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    at = model.cv_results_["alpha"].tolist().index(model.alpha_["2e"])
    assert model.cv_results_["2e"][at] == pytest.approx(np.sqrt(np.sum(deviators**2) / (5 * len(part))), rel=1e-6)


def test_no_alpha_is_free_of_rounding(data, monkeypatch):
    """The largest is taken, as by an eigendecomposition."""
    features, y, _ = data["structures"]
    monkeypatch.setattr(kernel_ridge, "NEGLIGIBLE", -1.0)
    alpha = TensorKernelRidge(target="ij=ji").fit(features, y).alpha_
    monkeypatch.setattr(kernel_ridge, "LARGE", 0)
    assert TensorKernelRidge(target="ij=ji").fit(features, y).alpha_ == pytest.approx(alpha)
