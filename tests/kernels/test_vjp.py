import numpy as np
import pytest

from eqkernels import CovariantKernel, LambdaSOAP
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import Restricted, TensorKernel
from tests.conftest import random_frames

KERNELS = [
    CovariantKernel(zeta=1, normalize=False),
    CovariantKernel(zeta=3, normalize=True),
    CovariantKernel(zeta=1, aggregate="mean"),
    0.5 * CovariantKernel(zeta=3) * Restricted(CovariantKernel(aggregate="mean"), "C") + CovariantKernel(zeta=1),
]


@pytest.fixture(scope="module")
def features():
    frames = random_frames(3, n_frames=6, n_species=2)
    return LambdaSOAP(3.5, n_max=3, l_max=2, sigma=0.5, irreps="0e+1o+2e").fit_transform(frames)


def changed(features, blocks):
    return EquivariantFeatures(blocks, features.species, features.structures, features.atoms, features.n_atoms)


@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
@pytest.mark.parametrize("kernel", KERNELS, ids=range(len(KERNELS)))
def test_products_are_differences_along_any_direction(kernel, irrep, features):
    left, right, random = features[:4], features[3:], np.random.default_rng(0)
    weights = random.normal(size=kernel(left, right, irrep=irrep).shape)
    # blocks that vanish, of atoms without neighbors, stay so: normalized they would jump
    direction = {key: random.normal(size=block.shape) * block for key, block in left.blocks.items()}
    found = kernel.vjp(left, right, irrep, weights)
    along = sum(np.sum(direction[key] * array) for key, array in found.items())

    def total(step):
        blocks = {key: block + step * direction[key] for key, block in left.blocks.items()}
        return np.sum(weights * kernel(changed(left, blocks), right, irrep=irrep))

    step = 1e-4
    numeric = (8 * (total(step) - total(-step)) - total(2 * step) + total(-2 * step)) / (12 * step)
    assert along == pytest.approx(numeric, rel=1e-8)


@pytest.mark.parametrize("kernel", KERNELS, ids=range(len(KERNELS)))
def test_gradients_and_products_agree(kernel, features):
    points = features.split_centers()
    weights = np.random.default_rng(0).normal(size=(len(features), len(points)))
    total = 0.0
    for one in kernel.gradient(features, points):
        w = weights[features.structures]
        total = total + (w * one.points) @ points.blocks["0e"][:, 0]
        total = total + np.sum(w * one.own, axis=1)[:, None] * features.blocks["0e"][:, 0]
    expected = kernel.vjp(features, points, "0e", weights[:, :, None, None])["0e"][:, 0]
    np.testing.assert_allclose(total, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_what_has_no_derivatives_says_so(features):
    class Own(TensorKernel):
        """A kernel of a user, without derivatives."""

    with pytest.raises(TypeError, match="Own has no derivatives"):
        Own().vjp(features, features, "0e", np.zeros((6, 6, 1, 1)))
    with pytest.raises(TypeError, match="Own has no derivatives"):
        Own().gradient(features, features)
    with pytest.raises(ValueError, match="single environments"):
        CovariantKernel().gradient(features, features)
