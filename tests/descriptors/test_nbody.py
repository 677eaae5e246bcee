import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from eqkernels import Bispectrum, LambdaSOAP, NBodyFeatures, SphericalExpansion, TensorKernelRidge
from eqkernels.descriptors.products.coupled_products import Products, largest_products
from eqkernels.so3 import Irrep, clebsch_gordan
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames
from tests.descriptors.density.test_gradients import difference, moved, strained

SMALL = {"cutoff": 3.5, "n_max": 2, "l_max": 2}
IRREPS = "0e+1o+1e+2e+2o+3o"
ALL = {"n_components": 10**6, "n_products": None}


def grams(features):
    """Scalar products of all environments and components, which no orthogonal change of the features alters."""
    return {key: np.einsum("imf,jnf->imjn", block, block) for key, block in features.blocks.items()}


def assert_same_grams(found, expected, tolerance=1e-10):
    assert set(found) == set(expected)
    for key, gram in expected.items():
        np.testing.assert_allclose(found[key], gram, atol=tolerance * np.abs(gram).max(), err_msg=key)


def coefficients(frames, **options):
    """Density coefficients c[l][i, m, q] of all environments."""
    return list(SphericalExpansion(**options).fit_transform(frames).blocks.values())


def coupled_products(nu, c, l_max):
    """Printed formula of the recursion over all ordered products: blocks (i, mu, features) by (lambda, parity)."""
    blocks = {(l, (-1) ** l): block for l, block in enumerate(c)}
    for _ in range(nu - 1):
        products = {}
        for (l1, p), left in blocks.items():
            for l2, right in enumerate(c):
                for lam in range(abs(l1 - l2), l1 + l2 + 1):
                    product = np.einsum("abm,iaq,ibp->imqp", clebsch_gordan(l1, l2, lam), left, right)
                    products.setdefault((lam, p * (-1) ** l2), []).append(product.reshape(*product.shape[:2], -1))
        blocks = {irrep: np.concatenate(parts, axis=2) for irrep, parts in products.items()}
    return blocks


def test_order_two_is_lambda_soap(frames):
    expected = grams(LambdaSOAP(**SMALL, irreps=IRREPS).fit_transform(frames))
    for options in ({"n_components": None}, ALL):
        assert_same_grams(grams(NBodyFeatures(**SMALL, nu=2, irreps=IRREPS, **options).fit_transform(frames)), expected)


def test_order_one_is_the_density(molecules):
    features = NBodyFeatures(**SMALL, nu=1, irreps="0e+1o+2e", **ALL).fit_transform(molecules)
    assert_same_grams(grams(features), grams(SphericalExpansion(**SMALL).fit_transform(molecules)))


@pytest.mark.parametrize("nu", [3, 4])
def test_all_products_are_the_printed_formula(nu):
    frames = random_frames(seed=3, n_frames=2, n_species=2 if nu == 3 else 1, n_atoms=(2, 4))
    options = {"cutoff": 3.5, "n_max": 2 if nu == 3 else 1, "l_max": 2 if nu == 3 else 1}
    blocks = coupled_products(nu, coefficients(frames, **options), options["l_max"])
    irreps = "0e+0o+1o+1e+2e" if nu == 3 else "0e+1o+2e"  # with one channel of l < 2, no others at nu = 4
    expected = {}
    for key in irreps.split("+"):
        block = blocks[int(key[0]), 1 if key[1] == "e" else -1]
        expected[key] = np.einsum("imf,jnf->imjn", block, block)
    for contraction in ({"n_components": None}, ALL):
        features = NBodyFeatures(**options, nu=nu, irreps=irreps, **contraction).fit_transform(frames)
        assert_same_grams(grams(features), expected)


@pytest.mark.parametrize(
    "options", [{"n_components": 12, "n_products": 40}, {"n_components": 12, "lambda_max": 2}, {"n_components": None}]
)
def test_equivariant(frames, options):
    irreps = IRREPS + ("+0o" if len(frames[0]) > 2 else "")
    assert_equivariant(NBodyFeatures(**SMALL, irreps=irreps, **options).fit(frames), frames)


def test_contraction_keeps_the_largest_part(molecules):
    """The components of fewer products than all are the best of their rank: no other ones keep more of the squares."""
    full = NBodyFeatures(**SMALL, nu=2, n_components=None, irreps="1o").fit_transform(molecules).blocks["1o"]
    descriptor = NBodyFeatures(**SMALL, nu=2, n_components=9, n_products=None, irreps="1o").fit(molecules)
    block = descriptor.transform(molecules).blocks["1o"]
    singular = np.linalg.svd(full.reshape(-1, full.shape[2]), compute_uv=False) ** 2
    np.testing.assert_allclose(np.einsum("imf,imf->f", block, block), singular[:9], rtol=1e-9, atol=1e-12 * singular[0])
    np.testing.assert_allclose(descriptor.kept_["2"]["1o"], singular[:9].sum() / singular.sum())
    np.testing.assert_allclose(descriptor.variances_["2"]["1o"], singular[:9] / (full.shape[0] * 3), rtol=1e-9)


def test_selection_takes_the_products_of_largest_variance():
    random = np.random.default_rng(0)
    left = {Irrep(1, -1): -np.sort(-random.random(6)), Irrep(0, 1): -np.sort(-random.random(4))}
    right = {Irrep.natural(l): -np.sort(-random.random(5)) for l in range(2)}
    products = [
        Products(Irrep(0, 1), Irrep(1, -1), np.array([[k, 0, 5] for k in range(4)]), np.ones((4, 2))),
        Products(Irrep(1, -1), Irrep(0, 1), np.array([[k, k % 3, 5] for k in range(6)]), np.ones((6, 2))),
    ]
    every = sorted(
        left[one.left][k] * right[one.factor][q] for one in products for k, q in zip(*one.pairs(), strict=True)
    )
    for n in (1, 7, 30, 100):
        chosen = largest_products(products, n, left, right)
        found = sorted(
            left[one.left][k] * right[one.factor][q] for one in chosen for k, q in zip(*one.pairs(), strict=True)
        )
        np.testing.assert_array_equal(found, every[-n:])


def test_more_products_and_components_approach_the_full_kernel(molecules):
    full = grams(NBodyFeatures(**SMALL, n_components=None, irreps="0e+1o").fit_transform(molecules))
    errors = []
    for n_components, n_products in ((4, 20), (15, 100), (40, 400)):
        found = grams(
            NBodyFeatures(**SMALL, n_components=n_components, n_products=n_products, irreps="0e+1o").fit_transform(
                molecules
            )
        )
        errors.append([np.linalg.norm(found[key] - full[key]) / np.linalg.norm(full[key]) for key in full])
    assert np.all(np.diff(errors, axis=0) < 0)
    assert np.max(errors[-1]) < 2e-2


def test_neither_chunks_nor_threads_matter(molecules, monkeypatch):
    descriptor = NBodyFeatures(**SMALL, n_components=10, n_products=60)
    expected = descriptor.fit_transform(molecules)
    parallel = clone(descriptor).set_params(n_jobs=3).fit(molecules)
    for key, block in parallel.transform(molecules).blocks.items():
        np.testing.assert_array_equal(block, expected.blocks[key])
    monkeypatch.setattr("eqkernels.descriptors.nbody._CENTERS_PER_TASK", 3)
    for size in (8, 10**5):
        monkeypatch.setattr("eqkernels.descriptors.nbody._BYTES_PER_CHUNK", size)
        for key, block in descriptor.transform(molecules).blocks.items():
            np.testing.assert_allclose(block, expected.blocks[key], atol=1e-12 * np.abs(block).max())
        np.testing.assert_allclose(
            clone(descriptor).fit(molecules).variances_["3"]["0e"], descriptor.variances_["3"]["0e"], rtol=1e-8
        )


def test_some_atoms_are_centers(molecules):
    whole = NBodyFeatures(**SMALL, n_components=None, irreps="1o").fit(molecules)
    part = NBodyFeatures(**SMALL, n_components=None, irreps="1o", center_species=["N"]).fit(molecules)
    everything, nitrogens = whole.transform(molecules), part.transform(molecules)
    np.testing.assert_allclose(nitrogens.blocks["1o"], everything.blocks["1o"][everything.species == 7], atol=1e-14)
    with pytest.raises(ValueError, match="no atom of X is a center of center_species=\\['Au'\\]"):
        NBodyFeatures(**SMALL, center_species=["Au"]).fit(molecules)


def test_learns_with_scikit_learn(waters):
    frames, vector, _, _ = waters
    descriptor = NBodyFeatures(3.0, n_max=3, l_max=2, n_components=10, n_products=60)
    search = GridSearchCV(
        make_pipeline(descriptor, TensorKernelRidge(alpha=1e-8)), {"nbodyfeatures__n_components": [2, 20]}, cv=2
    )
    search.fit(frames, vector)
    assert search.best_params_ == {"nbodyfeatures__n_components": 20}
    assert search.best_score_ > 0.99
    assert search.best_estimator_[0].irreps_ == "0e+1o"
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(frames), search.predict(frames))
    model = TensorKernelRidge(descriptor=Bispectrum(3.0, n_max=2, l_max=2, irreps="auto")).fit(frames, vector)
    assert model.score(frames, vector) > 0.99


def test_labels_of_features(molecules):
    for options in ({"n_components": None}, {"n_components": 5}):
        descriptor = NBodyFeatures(**SMALL, **options, irreps="0e+1e+2o").fit(molecules)
        for key, block in descriptor.transform(molecules).blocks.items():
            labels = descriptor.feature_labels(key)
            assert len(labels) == block.shape[2] == len(np.unique(labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"nu": 0, "n_components": 2.5},
            "nu=0 must be an integer between 1 and 8; n_components=2.5 must be an integer between 1",
        ),
        ({"n_products": 0}, "n_products=0 must be an integer between 1 and 1000000000, or None"),
        ({"lambda_max": -1}, "lambda_max=-1 must be an integer between 0 and 1000000000, or None"),
        ({"nu": 2, "irreps": "0o"}, "irrep 0o has no features at nu=2, l_max=2"),
        ({"irreps": "7e"}, "lambda must not exceed 6"),
        ({"irreps": "6e", "lambda_max": 3}, "irrep 6e has no features at nu=3, l_max=2, n_max=2, lambda_max=3"),
    ],
)
def test_wrong_parameters(molecules, options, message):
    with pytest.raises(ValueError, match=message):
        NBodyFeatures(**SMALL).set_params(**options).fit(molecules)


def test_single_precision_and_given_arrays(molecules):
    for options in ({"n_components": None}, {"n_components": 8}):
        descriptor = NBodyFeatures(**SMALL, **options).fit(molecules)
        expected = descriptor.transform(molecules)
        single = clone(descriptor).set_params(dtype="float32").fit(molecules)
        out = {key: np.full(block.shape, np.nan, np.float32) for key, block in expected.blocks.items()}
        features = single.transform(molecules, out=out)
        for key, block in expected.blocks.items():
            assert features.blocks[key] is out[key]
            np.testing.assert_allclose(out[key], block, atol=1e-6 * np.abs(block).max())
        parts = list(single.iter_transform(iter(molecules), memory_limit=4000))
        assert len(parts) > 1
        np.testing.assert_allclose(np.concatenate([part.blocks["1o"] for part in parts]), out["1o"], atol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {"nu": 1},
        {"nu": 2, "n_components": 5, "n_products": 30},
        {"nu": 3, "n_components": 6, "n_products": 40},
        {"nu": 3, "n_components": None},
        {"nu": 4, "n_components": 4, "n_products": 20},
    ],
    ids=str,
)
def test_products_with_the_derivatives_are_differences(frames, options):
    """Derivatives of a sum of features with random weights, by one coordinate of an atom and by a strain."""
    descriptor = NBodyFeatures(**SMALL, accuracy=1e-11, irreps="0e+1o+2e", **options).fit(frames)
    random = np.random.default_rng(0)
    cotangents = {key: random.normal(size=block.shape) for key, block in descriptor.transform(frames).blocks.items()}
    derivatives = descriptor.vjp(frames, cotangents)

    def total(change):
        found = difference(descriptor, change)
        return sum(np.sum(cotangents[key] * found[key]) for key in cotangents)

    starts = np.cumsum([0, *map(len, frames)])
    scale = np.abs(derivatives.positions).max()
    for structure, atom, axis in ((0, 0, 2), (1, 1, 0)):
        expected = total(lambda h, k=structure, i=atom, x=axis: moved(frames, k, i, x, h))
        np.testing.assert_allclose(derivatives.positions[starts[structure] + atom, axis], expected, atol=1e-7 * scale)
    expected = total(lambda h: strained(frames, 1, 2, h))
    np.testing.assert_allclose(derivatives.strain[:, 1, 2].sum(), expected, atol=1e-7 * scale)


def test_no_gradients_of_single_features():
    assert not hasattr(NBodyFeatures(), "gradients")
