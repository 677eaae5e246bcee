"""Error bars of networks: the readout as a Gaussian process in full, and how often errors lie within them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels import EquivariantNetworkRegressor
from eqkernels.datasets import load_small_organics
from eqkernels.learned.readout import Readout
from eqkernels.learned.regressor import held_back
from eqkernels.regression.covariance import scale_of_irreps
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch
from eqkernels.testing import random_rotation, transformed
from tests.learned.test_readout import dense_design, features_of

SMALL = {"channels": 4, "n_layers": 1, "max_iter": 20, "random_state": 0}


@pytest.fixture(scope="module")
def organics():
    data = load_small_organics()
    order = np.random.RandomState(0).permutation(len(data.frames))
    return [data.frames[k] for k in order], data.dipole[order]


@pytest.fixture(scope="module")
def fitted(organics):
    frames, y = organics
    model = EquivariantNetworkRegressor(max_iter=30, channels=8, error_bars=True, target="dipole", random_state=0)
    return model.fit(frames[:300], y[:300])


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_posterior_of_the_readout(aggregate):
    features, y, noise = features_of(40, 3), np.random.default_rng(1).normal(size=(40, 3)), 0.3
    model = Readout({"1o": noise}, aggregate=aggregate, target="i", baseline=None, per_atom=False, error_bars=True)
    model.fit(features[:30], y[:30])
    sizes = np.diff(features.offsets)
    scale = 1.0 / sizes[features.structures] if aggregate == "mean" else np.ones(len(features.species))
    design = dense_design(features, features.structures, 40, scale)
    known, new = design[:90], design[90:]
    kernel = known @ known.T / noise + np.eye(90)
    labels = y[:30][:, [1, 2, 0]].reshape(90)
    variance = labels @ np.linalg.solve(kernel, labels) / 90
    cross = new @ known.T / noise
    full = variance * (new @ new.T / noise + np.eye(30) - cross @ np.linalg.solve(kernel, cross.T))
    expected = np.stack([full[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] for k in range(10)])[:, [2, 0, 1]][:, :, [2, 0, 1]]
    mean, found = model.predict(features[30:], return_cov=True)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mean, model.predict(features[30:]))
    without = model.predict(features[30:], return_cov=True, include_noise=False)[1]
    np.testing.assert_allclose(found - without, np.broadcast_to(variance * np.eye(3), found.shape), atol=1e-12)


def test_coverage(fitted, organics):
    frames, y = organics[0][300:], organics[1][300:]
    mean, std = fitted.predict(frames, return_std=True)
    np.testing.assert_allclose(mean, fitted.predict(frames), atol=1e-10)
    z = np.abs(mean - y) / std
    assert 0.5 < np.mean(z < 1) < 0.85
    assert np.mean(z < 1.96) > 0.8
    # larger where the errors are
    large = std.mean(axis=1) > np.median(std.mean(axis=1))
    errors = np.linalg.norm(mean - y, axis=1)
    assert np.median(errors[large]) > np.median(errors[~large])


def test_error_bars_rotate(fitted, organics):
    frames, rotation = organics[0][300:305], random_rotation(0)
    turned = [transformed(atoms, rotation) for atoms in frames]
    readout, network = fitted.readouts_["y"], fitted.descriptor_
    cov, other = (readout.predict(network.transform(one), return_cov=True)[1] for one in (frames, turned))
    np.testing.assert_allclose(other, rotation @ cov @ rotation.T, atol=1e-10 * np.abs(cov).max())


def test_atoms_and_several_properties(organics):
    frames = organics[0][:40]
    y = {
        "charges": [0.1 * atoms.numbers - 0.1 * atoms.numbers.mean() for atoms in frames],
        "dipole": organics[1][:40],
    }
    y["charges"][3] = np.full(len(frames[3]), np.nan)
    model = EquivariantNetworkRegressor(**SMALL, error_bars=True, per_atom={"charges": True, "dipole": False})
    mean, std = model.fit(frames, y).predict(frames[:5], return_std=True)
    assert std["dipole"].shape == (5, 3)
    assert [one.shape for one in std["charges"]] == [one.shape for one in mean["charges"]]
    assert all((one > 0).all() for one in std["charges"])


def test_messages(organics):
    frames, y = organics
    model = EquivariantNetworkRegressor(**SMALL).fit(frames[:30], y[:30])
    with pytest.raises(ValueError, match="fit it with error_bars=True"):
        model.predict(frames[:2], return_std=True)
    with pytest.raises(ValueError, match="20 structures at least, there are 19"):
        EquivariantNetworkRegressor(**SMALL, error_bars=True).fit(frames[:19], y[:19])
    with pytest.raises(ValueError, match="error_bars"):
        EquivariantNetworkRegressor(**SMALL, error_bars="yes").fit(frames[:30], y[:30])


def test_species_of_a_single_structure_are_learned():
    frames = [molecule("H2O")] * 30 + [Atoms("Au"), molecule("CH4")]
    for seed in range(5):
        learned, held = held_back(StructureBatch.from_frames(frames), seed)
        assert len(held) == 10
        assert {30, 31} <= set(learned)
        assert np.array_equal(np.sort(np.concatenate([learned, held])), np.arange(32))


@pytest.mark.parametrize("target", ["energy", "i", "ij=ji"])
def test_factor_of_a_part(target):
    """Components of Gaussian errors, and of those of which a few are far larger."""
    tensor, random = CartesianTensor("" if target == "energy" else target), np.random.default_rng(0)
    residuals = tensor.project(3.0 * random.normal(size=(4000, *tensor.shape)))
    basis = tensor.change_of_basis
    unit = (basis.T @ basis).reshape(tensor.shape * 2)
    cov = np.broadcast_to(unit, (4000, *unit.shape))
    for factor in scale_of_irreps(tensor, residuals, cov, 0.6827).values():
        assert factor == pytest.approx(3.0, rel=0.05)
    residuals[:40] *= 100
    for key, factor in scale_of_irreps(tensor, residuals, cov, 0.6827).items():
        assert factor == pytest.approx(3.0, rel=0.08)
        assert scale_of_irreps(tensor, residuals, cov)[key] > 10
