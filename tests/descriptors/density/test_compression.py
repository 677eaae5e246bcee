import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from eqkernels import SOAP, LambdaSOAP, NBodyFeatures, SphericalExpansion, TensorKernelRidge
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames

OPTIONS = {"cutoff": 3.5, "n_max": 4, "l_max": 3}
EMBEDDING = {"H": [1.0, 0.2], "C": [0.3, 1.0], "N": [0.5, -0.6], "O": [-0.4, 0.7]}
COMPRESSED = [{"n_optimal": 2}, {"n_species_channels": 1}, {"species_embedding": EMBEDDING, "n_optimal": 3}]


def gram(rows):
    return rows @ rows.T


@pytest.mark.parametrize("options", COMPRESSED, ids=str)
def test_compressed_features_turn_with_the_structure(frames, options):
    assert_equivariant(LambdaSOAP(**OPTIONS, irreps="0e+0o+1o+2e+3e", **options).fit(frames), frames)


def test_a_complete_contraction_changes_no_kernel():
    frames = random_frames(2, n_frames=6, n_species=3)
    plain = LambdaSOAP(**OPTIONS, irreps="0e+1o+2o").fit_transform(frames)
    for options in ({"n_optimal": 4}, {"n_species_channels": 3}, {"n_species_channels": 3, "n_optimal": 4}):
        turned = LambdaSOAP(**OPTIONS, irreps="0e+1o+2o", **options).fit_transform(frames)
        for key, block in plain.blocks.items():
            found, expected = (gram(one.reshape(-1, one.shape[2])) for one in (turned.blocks[key], block))
            np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_contraction_is_the_printed_formula():
    frames = random_frames(3, n_frames=8, n_species=4)
    full = SphericalExpansion(**OPTIONS).fit_transform(frames).blocks
    # species first: eigenvectors of their correlation
    split = {key: block.reshape(*block.shape[:2], 4, 4) for key, block in full.items()}
    correlation = sum(np.einsum("iman,imbn->ab", block, block) for block in split.values())
    weights = np.linalg.eigh(correlation)[1][:, ::-1][:, :2]
    found = SphericalExpansion(**OPTIONS, n_species_channels=2, n_optimal=3).fit_transform(frames).blocks
    for key, block in split.items():
        embedded = np.einsum("iman,ak->imkn", block, weights)
        columns = []
        for k in range(2):
            covariance = np.einsum("imn,imp->np", embedded[:, :, k], embedded[:, :, k])
            columns.append(embedded[:, :, k] @ np.linalg.eigh(covariance)[1][:, ::-1][:, :3])
        expected = np.concatenate(columns, axis=2)
        signs = np.sign(np.einsum("imq,imq->q", expected, found[key]))
        np.testing.assert_allclose(found[key], expected * signs, atol=1e-12)


def test_optimal_functions_keep_more_variance_than_any_others():
    frames = random_frames(5, n_frames=10, n_species=2)
    full = SphericalExpansion(**OPTIONS).fit_transform(frames).blocks
    optimal = SphericalExpansion(**OPTIONS, n_optimal=2).fit_transform(frames).blocks
    for key, block in full.items():
        split = block.reshape(*block.shape[:2], 2, 4)
        for pair in np.argwhere(np.triu(np.ones((4, 4)), 1)):
            assert np.sum(optimal[key] ** 2) > np.sum(split[..., pair] ** 2)


def test_embedding_of_single_species_is_no_change():
    frames = random_frames(1, n_species=2)
    given = {"H": [1.0, 0.0], "C": [0.0, 1.0]}
    same = SOAP(**OPTIONS, species_embedding=given).fit_transform(frames)
    np.testing.assert_allclose(same, SOAP(**OPTIONS).fit_transform(frames), atol=1e-14)


def test_higher_body_order_of_compressed_channels():
    frames = random_frames(2, n_frames=4, n_species=2)
    features = NBodyFeatures(
        3.5, n_max=3, l_max=2, nu=3, n_components=10, irreps="0e+1o", n_optimal=2, n_species_channels=1
    )
    assert_equivariant(features.fit(frames), frames)


def test_names_and_labels():
    frames = random_frames(1, n_species=2)
    names = SOAP(**OPTIONS, n_optimal=2).fit(frames).get_feature_names_out()
    assert names[0] == "H0 H0 l0"
    assert len(names) == SOAP(**OPTIONS, n_optimal=2).fit_transform(frames).shape[1]
    assert SOAP(**OPTIONS, compression="mu1nu1").fit(frames).get_feature_names_out()[0] == "H0 *0 l0"
    assert SOAP(**OPTIONS, n_species_channels=1).fit(frames).get_feature_names_out()[1] == "(0)0 (0)1 l0"


def test_scikit_learn_tools(waters):
    frames, tensors = waters[0], waters[1]
    model = make_pipeline(LambdaSOAP(**OPTIONS), TensorKernelRidge(alpha=1e-6))
    grid = GridSearchCV(model, {"lambdasoap__n_optimal": [2, None], "lambdasoap__n_species_channels": [1, None]}, cv=2)
    grid.fit(frames, tensors)
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    descriptor = clone(LambdaSOAP(**OPTIONS, n_optimal=2)).fit(frames)
    again = pickle.loads(pickle.dumps(descriptor))
    np.testing.assert_array_equal(descriptor.transform(frames).blocks["1o"], again.transform(frames).blocks["1o"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_optimal": 5}, "n_optimal=5 must not exceed n_max=4"),
        ({"n_optimal": 0}, "n_optimal=0 must be an integer between 1"),
        ({"n_species_channels": 3}, "n_species_channels=3 is more than the 2 species"),
        ({"n_species_channels": 1, "species_embedding": EMBEDDING}, "exclude each other"),
        ({"compression": "mu3"}, "compression='mu3' must be one of .None"),
        ({"compression": "mu2", "n_species_channels": 1}, "leaves no species"),
        ({"species_embedding": {"H": [1.0]}}, "has no vector for C, only for H"),
        ({"species_embedding": {"H": [1.0], "C": [1.0, 2.0]}}, "vectors of the same length"),
    ],
)
def test_wrong_parameters_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        SOAP(**OPTIONS, **options).fit(random_frames(1, n_species=2))


def test_a_species_without_data_is_told():
    frames = random_frames(1, n_species=2)
    for options in ({"n_optimal": 2}, {"n_species_channels": 1}):
        with pytest.raises(ValueError, match="neighbor_species contains S, of which"):
            SOAP(**OPTIONS, neighbor_species=["H", "C", "S"], **options).fit(frames)
