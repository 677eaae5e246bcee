import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from eqkernels import (
    LambdaSOAP,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    rank_candidates,
)
from eqkernels.descriptors import EquivariantFeatures

SMALL = {"cutoff": 3.0, "n_max": 3, "l_max": 2, "sigma": 0.4}
FIXED = {"optimizer": None, "normalize_y": False, "noise": 0.01, "baseline": None}


def joined(features, rows):
    return EquivariantFeatures(**features.to_dict())[rows]


@pytest.mark.parametrize("of_atoms", [False, True])
def test_order_is_that_of_refits_after_each_choice(waters, of_atoms):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    y = [np.tile(one, (3, 1, 1)) for one in matrix] if of_atoms else matrix
    options = {**FIXED, "target": "ij=ji"}
    train, pool = list(range(6)), list(range(6, 20))
    model = TensorGPR(**options).fit(features[train], y[:6])
    order, gain = rank_candidates(model, features[pool], n_candidates=6, return_gain=True)
    for best, expected in zip(order, gain, strict=True):
        labels = [y[k] for k in train] if of_atoms else y[train]
        _, cov = (
            TensorGPR(**options)
            .fit(joined(features, train), labels)
            .predict(joined(features, pool), return_cov=True, include_noise=False)
        )
        variance = np.array([np.einsum("...ijij->...", one).sum() for one in cov])
        variance[[pool.index(k) for k in train if k in pool]] = 0
        assert variance.argmax() == best
        np.testing.assert_allclose(variance.max(), expected, rtol=1e-8)
        train.append(pool[best])
    assert (np.diff(gain) <= 1e-12).all()


def test_duplicates_come_last_and_pipelines_are_taken_apart(waters):
    frames, vector, *_ = waters
    model = make_pipeline(LambdaSOAP(**SMALL), TensorGPR()).fit(frames[:10], vector[:10])
    order, gain = rank_candidates(model, frames[10:18] + frames[10:18], return_gain=True)
    assert len(set(order[:8] % 8)) == 8
    assert sorted(order) == list(range(16))
    assert np.isfinite(gain).all()
    np.testing.assert_array_equal(order, rank_candidates(model[-1], model[0].transform(frames[10:18] + frames[10:18])))


def test_sparse_models_with_all_environments_rank_as_the_exact_one(waters):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    sparse = SparseTensorGPR(1000, noise=0.01, baseline=None, random_state=0).fit(features[:6], matrix[:6])
    pool = features[range(6, 20)]
    options = {**FIXED, "signal_variance": sparse.signal_variance_}
    exact = TensorGPR(**options).fit(features[:6], matrix[:6])
    order, gain = rank_candidates(sparse, pool, return_gain=True)
    expected, of_exact = rank_candidates(exact, pool, return_gain=True)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_allclose(gain, of_exact, rtol=1e-5)


@pytest.mark.parametrize("of_atoms", [False, True])
def test_sparse_ranking_conditions_the_covariance(waters, of_atoms):
    """The gains are those of conditioning the joint covariance of all candidates, written out."""
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    y = [np.array([one, 2 * one, -one]) for one in matrix] if of_atoms else matrix
    model = SparseTensorGPR(12, random_state=0, target="ij=ji").fit(features[:20], y[:20])
    pool = features[range(20, 32)]
    order, gain = rank_candidates(model, pool, n_candidates=4, return_gain=True)
    _, full = model.predict(pool, return_cov="joint", include_noise=False)
    _, noisy = model.predict(pool, return_cov="joint")
    size = 9 * (3 if of_atoms else 1)
    full, noisy = (one.reshape(12 * size, -1) for one in (full, noisy))
    noise = noisy - full
    for best, expected in zip(order, gain, strict=True):
        variance = np.diag(full).reshape(12, size).sum(axis=1)
        np.testing.assert_allclose(variance[best], expected, rtol=1e-6)
        left = np.setdiff1d(np.arange(12), order[: np.flatnonzero(order == best)[0]])
        assert variance[best] >= variance[left].max() * (1 - 1e-9)
        rows = np.arange(best * size, (best + 1) * size)
        block = full[np.ix_(rows, rows)] + noise[np.ix_(rows, rows)]
        full = full - full[:, rows] @ np.linalg.pinv(block, rcond=1e-10) @ full[rows]


@pytest.mark.parametrize("of_atoms", [False, True])
def test_committees(waters, of_atoms):
    frames, _, matrix, _ = waters
    y = [np.array([one, 2 * one, one]) for one in matrix] if of_atoms else matrix
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    base = TensorKernelRidge(1e-2, target="ij=ji")
    model = TensorCommittee(base, n_estimators=8, random_state=0).fit(features[:20], y[:20])
    pool = features[[*range(20, 30), *range(20, 30)]]
    order, gain = rank_candidates(model, pool, return_gain=True)
    _, cov = model.predict(pool, return_cov=True)
    variance = np.array([np.einsum("...ijij->...", one).sum() for one in cov])
    assert variance.argmax() == order[0]
    np.testing.assert_allclose(gain[0], variance.max())
    assert sorted(order) == list(range(20))
    assert (np.diff(gain) <= 1e-12).all()
    assert order[1] % 10 != order[0] % 10


def test_messages(waters):
    frames, vector, *_ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, vector)
    message = "must be a TensorGPR, SparseTensorGPR or TensorCommittee or end in one, got TensorRidge"
    with pytest.raises(TypeError, match=message):
        rank_candidates(TensorRidge().fit(features, vector), features)
    with pytest.raises(ValueError, match="n_candidates=99 must be between 1 and the number of candidates, 40"):
        rank_candidates(TensorGPR().fit(features, vector), features, 99)
