"""The recursion without a contraction: its derivatives, and that order one is the density."""

import numpy as np

from eqkernels.descriptors.products.recursion import Recursion
from eqkernels.so3 import Irrep

IRREPS = [Irrep(0, 1), Irrep(1, -1)]


def recursion(nu):
    places = {Irrep.natural(l): np.arange(2) for l in range(2)}
    return Recursion(nu, IRREPS, nu, places, None, None, {})


def features(nu, density):
    made = recursion(nu)
    out = {irrep: np.empty((len(density), irrep.dim, n)) for irrep, n in made.n_features(nu).items() if irrep in IRREPS}
    made.fill_features(density, nu, out)
    return out


def test_order_one_is_the_density():
    density = np.random.default_rng(0).normal(size=(3, 4, 2))
    blocks = features(1, density)
    np.testing.assert_array_equal(blocks[IRREPS[0]], density[:, :1])
    np.testing.assert_array_equal(blocks[IRREPS[1]], density[:, 1:])


def test_vjp_is_the_difference():
    random = np.random.default_rng(0)
    density, step = random.normal(size=(2, 3, 4, 2))
    cotangents = {irrep: random.normal(size=block.shape) for irrep, block in features(3, density).items()}
    out = np.zeros_like(density)
    recursion(3).vjp(density, 3, cotangents, out)

    def total(t):
        return sum(np.sum(cotangents[irrep] * block) for irrep, block in features(3, density + t * step).items())

    # of a polynomial of the third degree, with steps of 1 and 2
    expected = (8 * (total(1) - total(-1)) - (total(2) - total(-2))) / 12
    np.testing.assert_allclose(np.sum(out * step), expected, rtol=1e-10)
