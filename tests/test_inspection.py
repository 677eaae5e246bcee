"""What carries a prediction: features that matter by construction, and those that do not."""

import numpy as np
import pytest
from ase import Atoms
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, NBodyFeatures, TensorRidge
from eqkernels.inspection import permutation_importance


@pytest.fixture(scope="module")
def trimers():
    """H-O-F chains whose vector is that to the hydrogen: the fluorine says nothing."""
    random, frames = np.random.default_rng(0), []
    for _ in range(60):
        directions = random.normal(size=(2, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        frames.append(Atoms("OHF", [[0, 0, 0], *(directions * random.uniform(1.0, 2.0, size=(2, 1)))]))
    return frames, np.array([atoms.positions[1] - atoms.positions[0] for atoms in frames])


@pytest.mark.parametrize("pipeline", [False, True])
def test_neighbors_that_matter(trimers, pipeline):
    frames, y = trimers
    descriptor = LambdaSOAP(cutoff=3.0, n_max=4, l_max=2, center_species=["O"])
    model = make_pipeline(descriptor, TensorRidge(1e-6)) if pipeline else TensorRidge(1e-6, descriptor=descriptor)
    model.fit(frames[:40], y[:40])
    result = permutation_importance(model, frames[40:], y[40:])
    importance = dict(zip(result.names, result.importances_mean, strict=True))
    assert list(importance) == ["H", "O", "F"]
    assert importance["H"] > 0.5 * np.sqrt(np.mean(np.sum(y**2, axis=1)))
    assert result.importances.shape == (3, 5)
    for by, first in (("radial", "n=0"), ("angular", "l=0")):
        assert permutation_importance(model, frames[40:], y[40:], by=by, n_repeats=1).names[0] == first


def test_an_unchanged_part_has_no_importance(trimers):
    frames, y = trimers[0][:10], trimers[1][:10]
    same = [frames[0]] * 4  # exchanged between copies, nothing changes
    model = TensorRidge(1e-6, descriptor=LambdaSOAP(cutoff=3.0, n_max=3, l_max=2)).fit(frames, y)
    result = permutation_importance(model, same, np.array([y[0]] * 4))
    np.testing.assert_allclose(result.importances, 0.0, atol=1e-12)


def test_messages(trimers):
    frames, y = trimers[0][:10], trimers[1][:10]
    model = TensorRidge(1e-6, descriptor=LambdaSOAP(cutoff=3.0, n_max=2, l_max=1)).fit(frames, y)
    with pytest.raises(ValueError, match="by='shell' must be one of 'species'"):
        permutation_importance(model, frames, y, by="shell")
    with pytest.raises(ValueError, match="n_repeats=0"):
        permutation_importance(model, frames, y, n_repeats=0)
    body = TensorRidge(1e-6, descriptor=NBodyFeatures(cutoff=3.0, n_max=2, l_max=1)).fit(frames, y)
    with pytest.raises(TypeError, match="do not say of which species"):
        permutation_importance(body, frames, y)
    features = LambdaSOAP(cutoff=3.0, n_max=2, l_max=1).fit_transform(frames)
    with pytest.raises(TypeError, match="must be fitted to frames"):
        permutation_importance(TensorRidge().fit(features, y), frames, y)
