"""Conversion to and from metatensor, where it is installed, and agreement with what featomic makes."""

import numpy as np
import pytest

from eqkernels import EquivariantFeatures, LambdaSOAP, NBodyFeatures, SphericalExpansion
from tests.conftest import random_frames
from tests.test_peers import featomic_density

metatensor = pytest.importorskip("metatensor")

IRREPS = "0e+1o+1e+2e+2o+3o"


def assert_same(found, expected):
    assert list(found.blocks) == list(expected.blocks)
    for key, block in expected.blocks.items():
        assert found.blocks[key].dtype == block.dtype
        np.testing.assert_array_equal(found.blocks[key], block)
    for name in ("species", "structures", "atoms", "n_atoms"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    "descriptor",
    [
        LambdaSOAP(3.5, n_max=2, l_max=2, irreps="0e+0o+1o+1e+2e"),
        LambdaSOAP(3.5, n_max=2, l_max=2, dtype="float32"),
        SphericalExpansion(3.5, n_max=2, l_max=2),
        NBodyFeatures(3.5, n_max=1, l_max=1, n_components=None, irreps="0e+1o"),
        NBodyFeatures(3.5, n_max=2, l_max=2, n_components=5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_there_and_back(descriptor, molecules):
    features = descriptor.fit_transform(molecules)
    tensor_map = features.to_metatensor()
    assert tensor_map.keys.names == ["o3_lambda", "o3_sigma", "center_type"]
    again = EquivariantFeatures.from_metatensor(tensor_map)
    assert_same(again, features)
    for key, labels in features.labels.items():
        assert set(again.labels[key].dtype.names) == set(labels.dtype.names)
        for name in labels.dtype.names:
            np.testing.assert_array_equal(again.labels[key][name], labels[name])
    assert_same(EquivariantFeatures.from_metatensor(tensor_map.keys_to_samples("center_type")), features)


def test_features_without_labels_and_joined_ones(molecules):
    features = LambdaSOAP(3.5, n_max=2, l_max=2).fit_transform(molecules)
    bare = EquivariantFeatures(**{**features.to_dict(), "labels": None})
    assert bare.to_metatensor().block(0).properties.names == ["feature"]
    again = EquivariantFeatures.from_metatensor(bare.to_metatensor())
    assert_same(again, bare)
    assert not again.labels
    twice = features | LambdaSOAP(5.0, n_max=2, l_max=2).fit_transform(molecules)
    tensor_map = twice.to_metatensor()
    assert tensor_map.block(0).properties.names[-1] == "copy"
    assert_same(EquivariantFeatures.from_metatensor(tensor_map), twice)


def test_sigma_is_the_parity_of_the_harmonics(molecules):
    features = LambdaSOAP(3.5, n_max=2, l_max=2, irreps="0e+0o+1o+1e+2e+2o").fit_transform(molecules)
    tensor_map = features.to_metatensor()
    for key, lam, sigma in (("0e", 0, 1), ("0o", 0, -1), ("1o", 1, 1), ("1e", 1, -1), ("2e", 2, 1), ("2o", 2, -1)):
        block = tensor_map.block({"o3_lambda": lam, "o3_sigma": sigma, "center_type": 6})
        np.testing.assert_array_equal(block.values, features.blocks[key][features.species == 6])


def test_atoms_that_are_not_centers(molecules):
    features = LambdaSOAP(3.5, n_max=2, l_max=2, center_species=["C"]).fit_transform(molecules)
    with pytest.raises(ValueError, match="are not centers: pass the number of atoms of every structure"):
        EquivariantFeatures.from_metatensor(features.to_metatensor())
    assert_same(EquivariantFeatures.from_metatensor(features.to_metatensor(), list(map(len, molecules))), features)


def featomic_spectrum(featomic, frames, **options):
    expansion = featomic.SphericalExpansion(**featomic_density(featomic))
    return featomic.clebsch_gordan.EquivariantPowerSpectrum(expansion).compute(frames, **options)


def test_names_and_scalar_products_are_those_of_featomic():
    featomic = pytest.importorskip("featomic")
    frames = random_frames(2, n_frames=5, n_species=2)
    theirs = featomic_spectrum(featomic, frames, neighbors_to_properties=True)
    ours = LambdaSOAP(4.0, n_max=5, l_max=4, sigma=0.3, irreps=IRREPS).fit_transform(frames).to_metatensor()
    assert ours.keys.names == theirs.keys.names
    for key, block in ours.items():
        other = theirs.block(key)
        assert block.samples == other.samples
        assert block.components == other.components
        assert block.properties.names == other.properties.names
        of_theirs = {tuple(row) for row in other.properties.values.tolist()}
        assert {tuple(row) for row in block.properties.values.tolist()} <= of_theirs
        # featomic keeps l_1 <= l_2 without a weight for the other order
        once = np.array(other.properties["l_1"]) == np.array(other.properties["l_2"])
        weighted = other.values * np.where(once, 1.0, np.sqrt(2.0))
        gram, expected = (np.einsum("imf,jnf->imjn", one, one) for one in (block.values, weighted))
        # sizes differ by the normalization of the densities, one factor for all blocks
        scale = expected_scale(ours, theirs)
        np.testing.assert_allclose(scale * gram, expected, atol=1e-8 * np.abs(expected).max())


def expected_scale(ours, theirs):
    sums = [np.sum(one.block({"o3_lambda": 0, "o3_sigma": 1, "center_type": 1}).values ** 2) for one in (theirs, ours)]
    return sums[0] / sums[1]


def test_features_of_featomic_are_read():
    featomic = pytest.importorskip("featomic")
    frames = random_frames(2, n_frames=3, n_species=2)
    theirs = featomic_spectrum(featomic, frames, neighbors_to_properties=True)
    features = EquivariantFeatures.from_metatensor(theirs)
    np.testing.assert_array_equal(features.species, np.concatenate([atoms.numbers for atoms in frames]))
    np.testing.assert_array_equal(features.n_atoms, [len(atoms) for atoms in frames])
    block = theirs.block({"o3_lambda": 2, "o3_sigma": 1, "center_type": 6})
    names = [f"species_{one[9]}" if "type" in one else one for one in block.properties.names]
    assert features.labels["2e"].dtype.names == tuple(names)
    np.testing.assert_array_equal(features.blocks["2e"][features.species == 6].sum(axis=2), block.values.sum(axis=2))
    sparse = featomic_spectrum(featomic, frames)
    with pytest.raises(ValueError, match=r"keys_to_properties, e.g. of \['neighbor_1_type', 'neighbor_2_type'\]"):
        EquivariantFeatures.from_metatensor(sparse)
    moved = sparse.keys_to_properties(["neighbor_1_type", "neighbor_2_type"])
    joined = EquivariantFeatures.from_metatensor(moved)
    for key, block in features.blocks.items():
        gram, expected = (np.einsum("imf,jnf->imjn", one, one) for one in (joined.blocks[key], block))
        np.testing.assert_allclose(gram, expected, atol=1e-12 * np.abs(expected).max())
