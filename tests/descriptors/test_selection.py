import numpy as np
import pytest
from ase.build import molecule
from sklearn.pipeline import make_pipeline

from eqkernels import EquivariantPCA, FeatureSelection, LambdaSOAP, TensorKernelRidge
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames

DESCRIPTOR = LambdaSOAP(cutoff=3.5, n_max=3, l_max=2, irreps="0e+1o+2e")
REDUCERS = [
    FeatureSelection(6),
    FeatureSelection(0.2, selection="leverage"),
    FeatureSelection(4, selection="random"),
    EquivariantPCA(5),
]


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_what_is_left_turns_with_the_structure(reducer):
    frames = random_frames(2, n_frames=6, n_species=2)
    assert_equivariant(make_pipeline(DESCRIPTOR, reducer).fit(frames), frames)


def test_farthest_points_by_brute_force():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_frames=8, n_species=2))
    chosen = FeatureSelection(7).fit(features).learned_["1o"]
    columns = features.blocks["1o"].reshape(-1, features.blocks["1o"].shape[2]).T
    assert chosen[0] == np.argmax(np.linalg.norm(columns, axis=1))
    for k in range(1, 7):
        distances = np.linalg.norm(columns[:, None] - columns[chosen[:k]], axis=2).min(axis=1)
        assert distances[chosen[k]] == pytest.approx(distances.max(), rel=1e-9)


def test_cur_spans_the_features_better_than_chance():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_frames=12, n_species=2))

    def unexplained(chosen):
        samples = features.blocks["0e"][:, 0]
        part = samples[:, chosen]
        return np.linalg.norm(samples - part @ np.linalg.lstsq(part, samples, rcond=None)[0])

    best = unexplained(FeatureSelection(8, selection="leverage").fit(features).learned_["0e"])
    for seed in range(5):
        assert best < unexplained(
            FeatureSelection(8, selection="random", random_state=seed).fit(features).learned_["0e"]
        )


def test_principal_components_are_those_of_the_covariance():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_frames=40, n_species=1))
    for key, block in features.blocks.items():
        samples = block.reshape(-1, block.shape[2])
        _, _, expected = np.linalg.svd(samples, full_matrices=False)
        found = EquivariantPCA(3).fit(features).learned_[key]
        np.testing.assert_allclose(np.abs(found.T @ expected[:3].T), np.eye(3), atol=1e-7)


def test_all_components_keep_the_kernel():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_frames=3, n_species=2))
    n = {key: min(block[..., 0].size, block.shape[2]) for key, block in features.blocks.items()}
    turned = EquivariantPCA(n).fit_transform(features)
    for key, block in features.blocks.items():
        one, two = (b.reshape(-1, b.shape[2]) @ b.reshape(-1, b.shape[2]).T for b in (block, turned.blocks[key]))
        np.testing.assert_allclose(one, two, atol=1e-10 * np.abs(one).max())


def test_in_a_pipeline_with_a_regressor(waters):
    model = make_pipeline(DESCRIPTOR, FeatureSelection(0.5), TensorKernelRidge(alpha=1e-6))
    assert model.fit(waters[0][:30], waters[1][:30]).score(waters[0][30:], waters[1][30:]) > 0.9


@pytest.mark.parametrize(
    ("reducer", "message"),
    [
        (FeatureSelection(10**6), "n_features=1000000 is more than the"),
        (FeatureSelection(1.5), "must be a positive integer, a fraction"),
        (FeatureSelection({"0e": 3}), "the features have a block 1o"),
        (FeatureSelection(3, selection="best"), "selection='best' must be one of"),
        (EquivariantPCA(0), "n_components=0 must be"),
    ],
)
def test_wrong_parameters_are_told(reducer, message):
    features = DESCRIPTOR.fit_transform(random_frames(3, n_species=2))
    with pytest.raises(ValueError, match=message):
        reducer.fit(features)


def test_other_features_are_refused():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_species=2))
    other = LambdaSOAP(cutoff=3.5, n_max=2, l_max=2).fit_transform(random_frames(3, n_species=2))
    with pytest.raises(ValueError, match="at fit there were"):
        FeatureSelection(3).fit(features).transform(other)
    with pytest.raises(TypeError, match="EquivariantFeatures"):
        FeatureSelection(3).fit(random_frames(3))


def test_labels_follow():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_species=2))
    selection = FeatureSelection(5).fit(features)
    chosen = selection.learned_["1o"]
    np.testing.assert_array_equal(selection.transform(features).labels["1o"], features.labels["1o"][chosen])
    assert EquivariantPCA(3).fit_transform(features).labels["1o"]["component"].tolist() == [0, 1, 2]


def test_repeated_structures_are_no_new_directions():
    frames = random_frames(3, n_frames=2, n_species=1)
    features = DESCRIPTOR.fit_transform([*frames, *frames, *frames])
    for components in EquivariantPCA(10).fit(features).learned_.values():
        np.testing.assert_allclose(components.T @ components, np.eye(10), atol=1e-12)
    alike = DESCRIPTOR.fit_transform([frames[0]] * 3)
    with pytest.raises(ValueError, match="features are independent on these structures"):
        FeatureSelection(15, selection="leverage").fit(alike)


def test_cur_by_singular_value_decomposition():
    features = DESCRIPTOR.fit_transform(random_frames(3, n_frames=12, n_species=2))
    rest, expected = features.blocks["0e"][:, 0].copy(), []
    for _ in range(8):
        weights = np.abs(np.linalg.svd(rest)[2][0])
        weights[expected] = -1
        expected.append(int(np.argmax(weights)))
        column = rest[:, expected[-1]] / np.linalg.norm(rest[:, expected[-1]])
        rest -= np.outer(column, column @ rest)
    assert FeatureSelection(8, selection="leverage").fit(features).learned_["0e"].tolist() == expected


@pytest.mark.parametrize("reduction", [FeatureSelection(3), EquivariantPCA(2)], ids=str)
def test_structures_without_centers(reduction):
    frames = [molecule(name) for name in ("H2O", "CH3OH", "C2H6", "CH4")]
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, center_species=["C"]).fit(frames)
    reduction.fit(descriptor.transform(frames))
    blocks = reduction.transform(descriptor.transform(frames[:1])).blocks
    assert {block.shape[0] for block in blocks.values()} == {0}
