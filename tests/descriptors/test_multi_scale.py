"""A descriptor at several scales is the union of its copies."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from eqkernels import (
    SOAP,
    Bispectrum,
    CovariantKernel,
    EquivariantUnion,
    LambdaSOAP,
    MultiScale,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorKernelRidge,
    TensorRidge,
    load_model,
    save_model,
)
from eqkernels.kernels import Restricted
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames

SMALL = {"n_max": 2, "l_max": 2}
DESCRIPTORS = [
    LambdaSOAP(**SMALL),
    LambdaSOAP(**SMALL, irreps="0e+1o", n_species_channels=2, compression="mu1nu1", dtype="float32"),
    LambdaSOAP(**SMALL, long_range=1, n_jobs=2),
    SphericalExpansion(**SMALL, radial_basis="laplacian"),
    NBodyFeatures(**SMALL, n_components=4, n_products=30),
    Bispectrum(**{**SMALL, "n_max": 1}),
]


def union(descriptor, cutoffs=(2.0, 4.0), sigmas=(0.3, 0.6)):
    return EquivariantUnion(
        [
            (f"scale{k + 1}", clone(descriptor).set_params(cutoff=cutoff, sigma=sigma))
            for k, (cutoff, sigma) in enumerate(zip(cutoffs, sigmas, strict=True))
        ]
    )


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda one: type(one).__name__)
def test_features_of_the_union(descriptor, periodic):
    frames = random_frames(seed=1, n_frames=3, n_species=3, periodic=periodic)
    for atoms in frames:
        atoms.pbc = periodic  # fields of long range need all directions
    found, expected = (
        one.fit_transform(frames) for one in (MultiScale(descriptor, cutoff=(2.0, 4.0)), union(descriptor))
    )
    assert found.blocks.keys() == expected.blocks.keys()
    assert found.parts == expected.parts
    for key in found.blocks:
        np.testing.assert_array_equal(found.blocks[key], expected.blocks[key])
    assert_equivariant(MultiScale(descriptor).fit(frames), frames[:2], tolerance=1e-5, n_transformations=1)


@pytest.mark.parametrize(
    ("sigma", "expected"), [(None, [0.2, 0.4, 0.5]), (0.35, [0.35] * 3), ((0.1, 0.2, 0.7), [0.1, 0.2, 0.7])]
)
def test_widths(sigma, expected):
    frames = random_frames(seed=1, n_frames=2)
    model = MultiScale(LambdaSOAP(**SMALL, sigma=0.2), cutoff=np.array([2.0, 4.0, 5.0]), sigma=sigma).fit(frames)
    np.testing.assert_allclose([part.sigma for _, part in model.transformers_], expected)
    assert [part.cutoff for _, part in model.transformers_] == [2.0, 4.0, 5.0]


def test_derivatives():
    """Those of all features, by the union's gradients and by differences."""
    frames, h = random_frames(seed=2, n_frames=3, n_species=2, periodic=True), 1e-5
    model = MultiScale(LambdaSOAP(**SMALL, irreps="0e+1o"), cutoff=(2.0, 4.0)).fit(frames)
    features, random = model.transform(frames), np.random.default_rng(0)
    cotangents = {key: random.normal(size=block.shape) for key, block in features.blocks.items()}
    positions, strain = model.vjp(frames, cotangents)
    moved = [[atoms.copy() for atoms in frames] for _ in range(2)]
    moved[0][1].positions[1, 2] += h
    moved[1][1].positions[1, 2] -= h
    values = [{key: np.sum(b * cotangents[key]) for key, b in model.transform(one).blocks.items()} for one in moved]
    row = len(frames[0]) + 1
    np.testing.assert_allclose(
        sum((values[0][k] - values[1][k]) / (2 * h) for k in values[0]), positions[row, 2], rtol=1e-6
    )
    gradients = model.gradients(frames, strain=True)
    total = np.zeros_like(positions)
    first = np.cumsum([0] + [len(atoms) for atoms in frames])
    for key, dense in gradients.blocks.items():
        along = np.einsum("edmf,emf->ed", dense, cotangents[key][gradients.centers])
        np.add.at(total, first[gradients.structures] + gradients.atoms, along)
    np.testing.assert_allclose(total, positions, atol=1e-10)
    by_strain = sum(np.einsum("nxymf,nmf->nxy", s, cotangents[key]) for key, s in gradients.strain.items())
    summed = np.zeros_like(strain)
    np.add.at(summed, features.structures, by_strain)
    np.testing.assert_allclose(summed, strain, atol=1e-9)
    with pytest.raises(ValueError, match=r"cotangents\['0e'\] has shape"):
        model.vjp(frames, {"0e": cotangents["0e"][:, :, :-1]})


def energies(frames):
    return np.array([np.sum(np.exp(-a.get_all_distances(mic=True)[np.triu_indices(len(a), 1)])) for a in frames])


def test_models(tmp_path):
    """Forces, kernels of each scale, searches and files."""
    frames = random_frames(seed=3, n_frames=12, n_species=2)
    scales = MultiScale(LambdaSOAP(**SMALL), cutoff=(2.0, 4.0))
    model = SparseTensorGPR(10, descriptor=scales, random_state=0, noise=1e-4).fit(frames, energies(frames))
    other = SparseTensorGPR(10, descriptor=union(LambdaSOAP(**SMALL)), random_state=0, noise=1e-4)
    other.fit(frames, energies(frames))
    np.testing.assert_allclose(model.predict(frames), other.predict(frames), atol=1e-10)
    for one, two in zip(model.predict_forces(frames), other.predict_forces(frames), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-10)
    forces = [np.zeros((len(a), 3)) for a in frames]
    SparseTensorGPR(10, descriptor=scales, random_state=0).fit(frames, energies(frames), forces=forces)
    kernel = Restricted(CovariantKernel(), part="scale1") + Restricted(CovariantKernel(), part="scale2")
    y = np.array([a.numbers @ (a.positions - a.positions.mean(axis=0)) for a in frames])
    normalized = TensorKernelRidge(1e-5, kernel=kernel, descriptor=scales).fit(frames, y)
    features = union(LambdaSOAP(**SMALL, irreps="0e+1o")).fit(frames).transform(frames)
    by_hand = sum(
        CovariantKernel()(clone(member).fit(frames).transform(frames), irrep="1o")
        for _, member in union(LambdaSOAP(**SMALL, irreps="0e+1o")).transformers
    )
    np.testing.assert_allclose(kernel(features, irrep="1o"), by_hand, atol=1e-12)
    assert normalized.score(frames, y) > 0.9
    search = GridSearchCV(TensorRidge(1e-3, descriptor=scales), {"descriptor__cutoff": [(2.0, 3.0), (2.0,)]}, cv=3)
    search.fit(frames, y)
    assert search.best_params_["descriptor__cutoff"] in [(2.0, 3.0), (2.0,)]
    pytest.importorskip("skops")
    save_model(normalized, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(frames), normalized.predict(frames))


def test_parameters():
    model = MultiScale().set_params(descriptor__n_max=3, cutoff=(2.5, 5.0))
    assert model.descriptor.n_max == 3
    frames = random_frames(seed=1, n_frames=2)
    labels = clone(model).fit(frames).feature_labels("1o")
    assert set(labels["scale"]) == {1, 2}
    assert labels.dtype.names[:3] == ("scale", "species_1", "n_1")
    for parameters, message in [
        ({"cutoff": 3.0}, r"cutoff=3.0 must be positive numbers"),
        ({"cutoff": ()}, "must be positive numbers"),
        ({"cutoff": (3.0, -1.0)}, "must be positive numbers"),
        ({"sigma": (0.3,)}, "one for each of the 2 cutoffs"),
        ({"sigma": "wide"}, "must be None, a positive number, or one for each cutoff"),
        ({"descriptor": union(LambdaSOAP())}, "has no parameter cutoff and no sigma"),
        ({"descriptor": SOAP()}, "makes ndarray, not EquivariantFeatures"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            MultiScale(LambdaSOAP(**SMALL)).set_params(**parameters).fit_transform(frames)
    with pytest.raises(ValueError, match="several cutoffs are those of MultiScale"):
        LambdaSOAP((3.0, 6.0)).fit(frames)
