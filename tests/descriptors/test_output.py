"""What the transformers write into, and in which type, must not change what they write."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.sparse import issparse

from eqkernels import SOAP, Bispectrum, LambdaSOAP, NBodyFeatures, SphericalExpansion
from tests.conftest import random_frames

OPTIONS = {"cutoff": 3.5, "n_max": 5, "l_max": 3}
DESCRIPTORS = [SphericalExpansion(**OPTIONS), LambdaSOAP(**OPTIONS, irreps="0e+0o+1o+1e+2e+3o"), SOAP(**OPTIONS)]


def blocks_of(features):
    return {"0e": features} if isinstance(features, np.ndarray) else features.blocks


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda one: type(one).__name__)
def test_single_precision(descriptor, frames):
    double = blocks_of(descriptor.fit(frames).transform(frames))
    parameters = {**descriptor.get_params(), "dtype": "float32"}
    single = blocks_of(type(descriptor)(**parameters).fit(frames).transform(frames))
    for key, block in single.items():
        assert block.dtype == np.float32
        np.testing.assert_allclose(block, double[key], atol=3e-6 * np.abs(double[key]).max())


def check_given_arrays_are_filled(descriptor, frames):
    fresh = descriptor.fit(frames).transform(frames)
    blocks = {key: np.full_like(block, np.nan) for key, block in blocks_of(fresh).items()}
    descriptor.transform(frames, out=blocks["0e"] if isinstance(fresh, np.ndarray) else blocks)
    for key, block in blocks_of(fresh).items():
        np.testing.assert_array_equal(blocks[key], block)


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda one: type(one).__name__)
def test_given_arrays_are_filled(descriptor, frames):
    check_given_arrays_are_filled(descriptor, frames)


@pytest.mark.parametrize(
    "descriptor",
    [
        SOAP(**OPTIONS, dtype="float32"),
        SOAP(**OPTIONS, aggregate="mean"),
        SOAP(**OPTIONS, compression="mu2"),
        SOAP(**OPTIONS, compression="mu1nu1"),
        LambdaSOAP(**OPTIONS, irreps="0e+0o+2e", dtype="float32"),
        LambdaSOAP(**OPTIONS, irreps="0e+0o+1o", compression="mu2"),
        LambdaSOAP(**OPTIONS, irreps="0e+1e+2e", compression="mu1nu1"),
        NBodyFeatures(cutoff=3.5, n_max=2, l_max=2, nu=3, irreps="0e+1o", n_components=20, n_products=50),
        Bispectrum(cutoff=3.5, n_max=2, l_max=2),
    ],
    ids=lambda one: type(one).__name__,
)
def test_arrays_are_filled_with_every_option(descriptor):
    check_given_arrays_are_filled(descriptor, random_frames(5, n_frames=5, n_species=3))


def test_features_of_an_earlier_call_are_filled(molecules):
    descriptor = LambdaSOAP(**OPTIONS).fit(molecules)
    expected = descriptor.transform(molecules)
    earlier = descriptor.transform(molecules[::-1])
    again = descriptor.transform(molecules, out=earlier)
    for key, block in expected.blocks.items():
        assert again.blocks[key] is earlier.blocks[key]
        np.testing.assert_array_equal(again.blocks[key], block)


def test_unfit_arrays_are_refused():
    frames = random_frames(1)
    soap = SOAP(**OPTIONS).fit(frames)
    good = soap.transform(frames)
    for bad in (good[:-1], good.astype("float32"), good.T.copy().T):
        with pytest.raises(ValueError, match="out"):
            soap.transform(frames, out=bad)
    with pytest.raises(ValueError, match="out.*must be an array of float64"):
        LambdaSOAP(**OPTIONS).fit(frames).transform(frames, out={})


@pytest.mark.parametrize("aggregate", [None, "sum", "mean"])
def test_sparse_rows(aggregate):
    frames = random_frames(4, n_frames=6, n_species=4)
    dense = SOAP(**OPTIONS, aggregate=aggregate).fit(frames).transform(frames)
    sparse = SOAP(**OPTIONS, aggregate=aggregate, sparse=True).fit(frames).transform(frames)
    assert issparse(sparse)
    np.testing.assert_allclose(sparse.toarray(), dense, atol=1e-14 * np.abs(dense).max())
    if aggregate is None:
        assert sparse.nnz < 0.7 * dense.size


@pytest.mark.parametrize("limit", [1, 60_000, 1e9])
def test_parts_make_up_the_whole(limit):
    frames = random_frames(2, n_frames=9, n_species=2)
    soap = SOAP(**OPTIONS).fit(frames)
    parts = list(soap.iter_transform(iter(frames), memory_limit=limit))
    np.testing.assert_array_equal(np.concatenate(parts), soap.transform(frames))
    assert len(parts) == {1: 9, 60_000: len(parts), 1e9: 1}[limit]
    assert all(len(part) <= max(limit / (8 * part.shape[1]), max(map(len, frames))) for part in parts)
    descriptor = LambdaSOAP(**OPTIONS, irreps="1o").fit(frames)
    parts = [part.blocks["1o"] for part in descriptor.iter_transform(frames, memory_limit=limit)]
    np.testing.assert_array_equal(np.concatenate(parts), descriptor.transform(frames).blocks["1o"])


@pytest.mark.parametrize("aggregate", [None, "sum", "mean"])
@pytest.mark.parametrize("sparse", [False, True])
def test_structures_without_centers(sparse, aggregate):
    frames = [molecule("CO2"), molecule("H2O")]
    soap = SOAP(cutoff=3.0, n_max=2, l_max=1, center_species=["H"], sparse=sparse, aggregate=aggregate).fit(frames)
    for some in (frames[:1], frames):
        rows = soap.transform(some)
        rows = rows.toarray() if sparse else rows
        n_hydrogen = 2 * (len(some) - 1)
        assert rows.shape == (n_hydrogen if aggregate is None else len(some), soap.transform(frames).shape[1])
        assert rows.dtype == np.float64
        assert aggregate is None or not rows[0].any()
