"""Kernels straight from densities are those of the features that could be made of them."""

import numpy as np
import pytest
from ase.build import bulk

from eqkernels import CovariantKernel, EquivariantFeatures, LambdaSOAP
from eqkernels.kernels import environments as module
from tests.conftest import random_frames

OPTIONS = {"cutoff": 3.5, "n_max": 3, "l_max": 3}


@pytest.fixture
def from_densities(monkeypatch):
    """Pairs of densities are taken wherever that is possible, however small the features are."""
    monkeypatch.setattr(module, "_LARGE", -1)
    monkeypatch.setattr("eqkernels.descriptors.made_blocks._SMALL", -1)
    monkeypatch.setattr("eqkernels.kernels.covariant.operations", lambda *_: (0.0, np.inf))


def made(features):
    """The same features as arrays."""
    return EquivariantFeatures.from_dict(features.to_dict())


@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("zeta", [1, 2, 4])
def test_same_kernel_as_from_features(frames, zeta, normalize, from_densities):
    every = [*frames, *random_frames(9, n_frames=3, n_species=2)]
    features = LambdaSOAP(**OPTIONS, irreps="0e+1o+1e+2e+3o").fit_transform(every)
    arrays, n = made(features[:]), len(frames)
    for aggregate in ("sum", "mean"):
        kernel = CovariantKernel(zeta=zeta, normalize=normalize, aggregate=aggregate)
        for irrep in arrays.blocks:
            expected = kernel(arrays[:n], arrays[n:], irrep=irrep)
            found = kernel(features[:n], features[n:], irrep=irrep)
            np.testing.assert_allclose(found, expected, atol=1e-11 * max(1e-3, np.abs(expected).max()), err_msg=irrep)
            expected = kernel(arrays[:n], irrep=irrep)
            found = kernel(features[:n], irrep=irrep)
            np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(expected).max())
    if normalize is not True:
        assert not features.blocks.made  # there was no need for any


def test_ranges_do_not_matter(monkeypatch, from_densities):
    features = LambdaSOAP(**OPTIONS, irreps="0e+1o").fit_transform(random_frames(4, n_frames=6, n_species=2))
    whole = CovariantKernel()(features, irrep="1o")
    monkeypatch.setattr(module, "_ROWS_PER_BLOCK", 3)
    np.testing.assert_allclose(CovariantKernel()(features, irrep="1o"), whole, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"n_species_channels": 3}, {"n_optimal": 2}, {"compression": "mu2"}, {"dtype": "float32"}]
)
def test_compressed_densities(options, from_densities):
    frames = random_frames(4, n_species=4)
    features = LambdaSOAP(**OPTIONS, **options, irreps="0e+1e").fit_transform(frames)
    found = CovariantKernel()(features, irrep="1e")
    assert not features.blocks.made
    atol = 1e-5 if "dtype" in options else 1e-12
    np.testing.assert_allclose(found, CovariantKernel()(made(features), irrep="1e"), atol=atol)


@pytest.mark.parametrize("rattle", [0.0, 1e-6])
def test_blocks_that_nearly_vanish(rattle, from_densities):
    """Scalar products of densities would be nothing but rounding."""
    frames = [bulk("NaCl", "rocksalt", a=5.6, cubic=True) for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.rattle(rattle, seed=k)
    features = LambdaSOAP(**OPTIONS, irreps="0e+1o").fit_transform(frames)
    found, expected = (CovariantKernel()(one, irrep="1o") for one in (features, made(features[:])))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert bool(rattle) == expected.any()


def kind(X, Y=None, irrep="0e", normalize="invariant"):
    left, right = module.environments(X, Y, irrep, normalize, True)
    assert type(left) is type(right)
    return type(left)


def test_what_is_cheaper(monkeypatch):
    few, many = ([random_frames(0, n_species=k, n_atoms=(5, 9)), "0e+1o"] for k in (1, 4))
    few, many, zero = (
        LambdaSOAP(irreps=irreps).fit_transform(frames) for frames, irreps in (few, many, (many[0], "0e+1o+0o"))
    )
    direct, stored = module.DensityEnvironments, module.FeatureEnvironments
    assert kind(few) is stored
    assert kind(many) is kind(many, many[:1], "1o") is direct
    assert kind(many, made(many)) is stored  # blocks that a user made
    assert kind(many, irrep="1o", normalize=True) is stored  # not accurate
    assert kind(zero, irrep="0o") is stored  # products of three
    assert kind(zero, irrep="1o") is direct
    assert kind(LambdaSOAP(irreps="0e", compression="mu1nu1").fit_transform(random_frames(0))) is stored
    monkeypatch.setattr(module, "_LARGE", 1e5)
    assert kind(few[:1]) is stored
    assert kind(few[np.zeros(10, dtype=int)]) is direct  # rather than so many features


def test_a_block_that_was_changed_counts():
    frames = random_frames(0, n_species=4, n_atoms=(5, 9))
    features = LambdaSOAP(irreps="0e+1o").fit_transform(frames)
    before = CovariantKernel()(features, irrep="1o")
    features.blocks["1o"][...] = 0.0
    assert np.abs(before).max() > 1e-3
    assert not CovariantKernel()(features, irrep="1o").any()
    assert not CovariantKernel()(features[:2], features, irrep="1o").any()
    features.blocks["0e"] = np.zeros_like(features.blocks["0e"])
    assert not CovariantKernel(normalize=False)(features, irrep="0e").any()


def test_other_features_are_refused():
    frames = random_frames(4, n_species=2)
    features, other = (LambdaSOAP(3.5, n_max=n, l_max=3, irreps="0e+1o").fit_transform(frames) for n in (3, 4))
    with pytest.raises(ValueError, match="different numbers of features"):
        CovariantKernel()(features, other)
