import numpy as np
import pytest
from sklearn.utils import _safe_indexing

from eqkernels import EquivariantFeatures, EquivariantUnion, LambdaSOAP, SphericalExpansion


@pytest.fixture
def features(molecules):
    return LambdaSOAP(4.0, n_max=2, l_max=2, irreps="0e+1o", center_species=["C", "N"]).fit_transform(molecules)


def rows_of(features, k):
    return features.blocks["1o"][features.structures == k]


@pytest.mark.parametrize("key", [slice(2, 5), slice(None, None, -2), [4, 0, 0], np.array([3, 1]), 3, -1])
def test_slices_by_structure(features, key):
    picked = np.atleast_1d(np.arange(len(features))[key])
    part = features[key]
    assert part.shape[0] == len(part) == len(picked)
    for k, original in enumerate(picked):
        np.testing.assert_array_equal(rows_of(part, k), rows_of(features, original))
        assert part.n_atoms[k] == features.n_atoms[original]


def test_indexing_by_scikit_learn(features):
    mask = features.n_atoms > 3
    np.testing.assert_array_equal(features[mask].n_atoms, features.n_atoms[mask])
    np.testing.assert_array_equal(_safe_indexing(features, [5, 2]).n_atoms, features.n_atoms[[5, 2]])
    np.testing.assert_array_equal(features[np.array([1, 2]), ...].n_atoms, features.n_atoms[[1, 2]])


def test_saves_and_loads(features, tmp_path):
    features.save(tmp_path / "features.npz")
    again = EquivariantFeatures.load(tmp_path / "features.npz")
    for key, block in features.blocks.items():
        np.testing.assert_array_equal(again.blocks[key], block)
    for name in ("species", "structures", "atoms", "n_atoms"):
        np.testing.assert_array_equal(getattr(again, name), getattr(features, name))
    assert set(again.labels) == set(features.labels) == {"0e", "1o"}
    for key, labels in features.labels.items():
        assert again.labels[key].dtype == labels.dtype
        np.testing.assert_array_equal(again.labels[key], labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formats_change_no_bit(molecules, tmp_path, dtype):
    features = LambdaSOAP(4.0, n_max=2, l_max=2, dtype=dtype).fit_transform(molecules)
    features.save(tmp_path / "features.npz")
    for again in (
        EquivariantFeatures.from_dict(features.to_dict()),
        EquivariantFeatures.load(tmp_path / "features.npz"),
    ):
        for key, block in features.blocks.items():
            assert again.blocks[key].dtype == block.dtype == dtype
            np.testing.assert_array_equal(again.blocks[key], block)
    with pytest.raises(ValueError, match=r"lacks the keys \['n_atoms'\] and has the unknown keys \['weights'\]"):
        EquivariantFeatures.from_dict(
            {"weights" if key == "n_atoms" else key: one for key, one in features.to_dict().items()}
        )


def test_labels_follow_the_features(molecules, features):
    for part in (features[3:5], features[[4, 0]], features.split_centers()):
        np.testing.assert_array_equal(part.labels["1o"], features.labels["1o"])
    density = SphericalExpansion(4.0, n_max=2, l_max=1, center_species=["C", "N"]).fit_transform(molecules)
    joined = features | density
    for key, labels in joined.labels.items():
        assert labels.shape == joined.blocks[key].shape[2:]
    n = len(features.labels["1o"])
    assert joined.labels["1o"].dtype.names == ("species_1", "n_1", "l_1", "species_2", "n_2", "l_2", "species", "n")
    np.testing.assert_array_equal(joined.labels["1o"]["l_1"][:n], features.labels["1o"]["l_1"])
    np.testing.assert_array_equal(joined.labels["1o"]["species"][n:], density.labels["1o"]["species"])
    assert set(joined.labels["1o"]["species_1"][n:]) == set(joined.labels["1o"]["species"][:n]) == {-1}
    named = EquivariantUnion(
        [("a", LambdaSOAP(3.0, n_max=2, l_max=2)), ("b", LambdaSOAP(5.0, n_max=2, l_max=2))]
    ).fit_transform(molecules)
    np.testing.assert_array_equal(
        named.part("b").labels["1o"], LambdaSOAP(5.0, n_max=2, l_max=2).fit(molecules).feature_labels("1o")
    )
    replaced = features[:]
    replaced.blocks["1o"] = replaced.blocks["1o"][:, :, :3]  # a user's selection: its labels are no longer known
    assert set(replaced[1:].labels) == {"0e"}
    bare = EquivariantFeatures(**{**features.to_dict(), "labels": None})
    assert "1o" not in (features | bare).labels
    assert "1o" not in (bare | features).labels


def test_joined_along_the_features(features):
    joined = features | features
    assert joined.blocks["1o"].shape[2] == 2 * features.blocks["1o"].shape[2]
    with pytest.raises(ValueError, match="same centers"):
        features | features[1:]


def test_does_not_become_an_array(features):
    with pytest.raises(TypeError, match="each block transforms differently under rotation"):
        np.asarray(features)


def test_invariants(features):
    np.testing.assert_allclose(features.invariants("sum").sum(axis=0), features.invariants().sum(axis=0))
    with pytest.raises(KeyError, match="no scalar block"):
        EquivariantFeatures({}, [1], [0], [0], [1]).invariants()
