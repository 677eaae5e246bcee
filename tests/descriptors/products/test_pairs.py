"""Blocks of products of two densities, from random numbers: the printed formula, its derivatives, and their transpose."""

import numpy as np
import pytest

from eqkernels.descriptors.products.pairs import pair_couplings
from eqkernels.descriptors.products.product_blocks import product_block
from eqkernels.so3 import Irrep, clebsch_gordan
from tests.naive import lambda_soap

L_MAX, SPECIES, N_RADIAL = 2, (1, 8), 2


def made(irrep, seed=0, n=3):
    block = product_block(Irrep.parse(irrep), L_MAX, SPECIES, N_RADIAL, N_RADIAL)
    density = np.random.default_rng(seed).normal(size=(n, (L_MAX + 1) ** 2, len(SPECIES) * N_RADIAL))
    out = np.full((n, *block.shape), np.nan)
    block.fill(density, out)
    return block, density, out


@pytest.mark.parametrize("irrep", ["0e", "1o", "1e", "2e", "2o"])
def test_printed_formula(irrep):
    _, density, out = made(irrep)
    parsed = Irrep.parse(irrep)
    for row, c in zip(out, density, strict=True):
        expected = lambda_soap(c, L_MAX, parsed.l, parsed.p)
        np.testing.assert_allclose(row, expected, atol=1e-13)


@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
def test_derivatives_are_differences_and_the_cotangents_their_transpose(irrep):
    block, density, _ = made(irrep)
    changes = np.zeros((len(density), 2, *density.shape[1:]))
    changes[...] = np.random.default_rng(1).normal(size=changes.shape)
    first, width = 2, 2  # of the second species alone
    out = np.zeros((len(density), 2, block.shape[0], len(block.changing(first, width))))
    block.fill_derivatives(
        density, np.arange(len(density)), np.ascontiguousarray(changes[..., first : first + width]), first, out
    )
    cotangent = np.random.default_rng(2).normal(size=(len(density), *block.shape))
    by_density = np.zeros_like(density)
    block.contract(density, cotangent, by_density)
    for x in range(2):
        step = np.zeros_like(density)
        step[:, :, first : first + width] = changes[:, x, :, first : first + width]
        ends = []
        for sign in (1, -1):  # exact for products of two
            end = np.empty((len(density), *block.shape))
            block.fill(density + sign * step, end)
            ends.append(end)
        expected = (ends[0] - ends[1]) / 2
        np.testing.assert_allclose(out[:, x], expected[:, :, block.changing(first, width)], atol=1e-12)
        np.testing.assert_allclose(np.sum(by_density * step), np.sum(cotangent * expected), atol=1e-11)


def test_tables_are_the_coefficients():
    degrees, rows, sources, values = pair_couplings(2, 2, 1)
    for p, (l1, l2) in enumerate(degrees):
        table = np.zeros((5, 2 * l1 + 1, 2 * l2 + 1))
        for k in range(5 * (2 * l1 + 1)):
            np.add.at(table[k // (2 * l1 + 1), k % (2 * l1 + 1)], sources[rows[p] + k], values[rows[p] + k])
        np.testing.assert_allclose(table, np.sqrt(2) * clebsch_gordan(l1, l2, 2).transpose(2, 0, 1), atol=1e-15)
