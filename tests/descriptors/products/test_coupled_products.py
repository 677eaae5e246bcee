"""One step of the recursion: scalar products of the kept features are those of all ordered products."""

import numpy as np
import pytest

from eqkernels.descriptors.products.coupled_products import (
    all_products,
    coupling_factors,
    fill_products,
    parse_signed,
    signed_irrep,
)
from eqkernels.so3 import Irrep, clebsch_gordan

L_MAX, N_CHANNELS = 2, 3


@pytest.mark.parametrize("irrep", ["0e", "1o", "1e", "2e"])
def test_kept_pairs_have_the_scalar_products_of_all(irrep):
    irrep, random = Irrep.parse(irrep), np.random.default_rng(0)
    density = [random.normal(size=(2, 2 * l + 1, N_CHANNELS)) for l in range(L_MAX + 1)]
    left = {Irrep(l, (-1) ** l): block for l, block in enumerate(density)}
    products = all_products(2, irrep, dict.fromkeys(left, N_CHANNELS), dict.fromkeys(left, N_CHANNELS))
    out = np.empty((2, irrep.dim, sum(group.size for group in products)))
    fill_products(products, irrep, left, left, out)
    every = []
    for l1 in range(L_MAX + 1):
        for l2 in range(L_MAX + 1):
            if abs(l1 - l2) <= irrep.l <= l1 + l2 and (-1) ** (l1 + l2) == irrep.p:
                product = np.einsum("abm,iaq,ibp->imqp", clebsch_gordan(l1, l2, irrep.l), density[l1], density[l2])
                every.append(product.reshape(2, irrep.dim, -1))
    every = np.concatenate(every, axis=2)
    np.testing.assert_allclose(out[0] @ out[1].T, every[0] @ every[1].T, atol=1e-12)


def test_factors_obey_parity_time_reversal_and_the_triangle():
    def degrees(left, irrep, l_max):
        found = coupling_factors(left, irrep, [Irrep.natural(l) for l in range(l_max + 1)])
        return [factor.l for factor in found]

    assert degrees(Irrep(1, -1), Irrep(1, -1), 4) == [0, 2]
    assert degrees(Irrep(1, -1), Irrep(1, 1), 4) == [1]
    assert degrees(Irrep(2, 1), Irrep(2, 1), 2) == [0, 2]
    velocity, axial = signed_irrep(1, -1, -1), signed_irrep(1, 1, -1)
    assert coupling_factors(velocity, Irrep(1, -1), [Irrep(1, 1), axial]) == [axial]
    assert parse_signed(str(axial)) == axial != Irrep(1, 1)
