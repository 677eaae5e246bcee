"""The readout against least squares with all columns at once, in pieces or not, for structures and for atoms."""

import numpy as np
import pytest

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.learned import readout
from eqkernels.learned.readout import Readout

SPECIES = np.array([1, 6, 8, 79])


def features_of(n_structures, n_features):
    """Random vector features of structures of one to five atoms."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 6, size=n_structures)
    n_atoms = sizes.sum()
    atoms = np.concatenate([np.arange(size) for size in sizes])
    species = np.concatenate([SPECIES, random.choice(SPECIES, size=n_atoms - 4)])
    block = random.normal(size=(n_atoms, 3, n_features))
    return EquivariantFeatures({"1o": block}, species, np.repeat(np.arange(n_structures), sizes), atoms, sizes)


def dense_design(features, segments, n_segments, weights):
    """Rows (n_segments * 3) and columns of all species, filled atom by atom."""
    block = features.blocks["1o"]
    design = np.zeros((n_segments, 3, len(SPECIES), block.shape[2]))
    for row, segment, species, weight in zip(block, segments, features.species, weights, strict=True):
        design[segment, :, np.searchsorted(SPECIES, species)] += weight * row
    return design.reshape(n_segments * 3, -1)


def least_squares(design, values, noise, roots):
    roots, n_columns = np.repeat(roots, 3)[:, None], design.shape[1]
    rows = np.vstack([roots * design, np.sqrt(noise) * np.eye(n_columns)])
    return np.linalg.lstsq(rows, np.vstack([roots * values.reshape(-1, 1), np.zeros((n_columns, 1))]), rcond=None)[0]


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("n_features", [3, 7, 60])
@pytest.mark.parametrize("numbers", [1, 2**22])
def test_structures(monkeypatch, numbers, n_features, aggregate):
    monkeypatch.setattr(readout, "_NUMBERS", numbers)
    features, random = features_of(70, n_features), np.random.default_rng(1)
    y, weight, sizes = random.normal(size=(70, 3)), random.uniform(0.5, 2.0, size=70), np.diff(features.offsets)
    model = Readout({"1o": 1e-3}, aggregate=aggregate, target="i", baseline=None, per_atom=False).fit(
        features, y, weight
    )
    scale = 1.0 / sizes[features.structures] if aggregate == "mean" else np.ones(len(features.species))
    design = dense_design(features, features.structures, 70, scale)
    values = y[:, [1, 2, 0]]  # components of l = 1 are y, z, x
    expected = least_squares(design, values, 1e-3, np.sqrt(weight))
    np.testing.assert_allclose(model.coef_["1o"].reshape(-1, 1), expected, atol=1e-9)
    np.testing.assert_allclose(model.predict(features)[:, [1, 2, 0]].reshape(-1, 1), design @ expected, atol=1e-9)


@pytest.mark.parametrize("n_features", [3, 60])
def test_atoms(n_features):
    features, random = features_of(20, n_features), np.random.default_rng(1)
    n_atoms, offsets = len(features.species), features.offsets
    values, weight = random.normal(size=(n_atoms, 3)), random.uniform(0.5, 2.0, size=20)
    y = [values[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    model = Readout({"1o": 1e-3}, aggregate="sum", target="i", baseline=None, per_atom=True).fit(features, y, weight)
    design = dense_design(features, np.arange(n_atoms), n_atoms, np.ones(n_atoms))
    expected = least_squares(design, values[:, [1, 2, 0]], 1e-3, np.sqrt(weight)[features.structures])
    np.testing.assert_allclose(model.coef_["1o"].reshape(-1, 1), expected, atol=1e-9)
    predicted = np.concatenate(list(model.predict(features)))
    np.testing.assert_allclose(predicted[:, [1, 2, 0]].reshape(-1, 1), design @ expected, atol=1e-9)
