"""Kernels by sums over environments are those by pairs of environments."""

import numpy as np
import pytest
from ase.build import bulk

from eqkernels import CovariantKernel, LambdaSOAP
from eqkernels.kernels import outer_products
from tests.kernels.test_contraction import frames

IRREPS = "0e+1o+2e"


@pytest.fixture(scope="module")
def features():
    """Structures of up to 250 atoms, of which some have no center."""
    descriptor = LambdaSOAP(3.0, n_max=2, l_max=2, irreps=IRREPS, center_species=["H", "O", "Mg"]).fit(frames(8))
    large = [atoms * (5, 5, 5) if atoms.pbc.any() else atoms for atoms in frames(6)]
    return descriptor.transform(large), descriptor.transform(frames(5, seed=1))


def over_pairs(kernel, X, Y, irrep):
    """Sum of kernels of structures with a single environment."""
    of_pairs, _ = kernel._over_pairs(X.split_centers(), Y.split_centers(), irrep)
    matrix = np.zeros((len(X), len(Y), *of_pairs.shape[2:]))
    np.add.at(matrix, (X.structures[:, None], Y.structures), of_pairs)
    return matrix


@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("zeta", [1, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_sums_are_those_over_pairs(features, zeta, normalize, irrep, symmetric, monkeypatch):
    monkeypatch.setattr(outer_products, "_ELEMENTS", 3000)
    monkeypatch.setattr(outer_products, "_FEATURES", 3000)
    X, Y = features[0], features[0] if symmetric else features[1]
    got, moduli = outer_products.outer_product_kernel(X, Y, irrep, zeta, normalize)
    expected, exact_moduli = CovariantKernel(zeta, normalize)._over_pairs(X, None if symmetric else Y, irrep)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    d = X.block_shape(irrep)[1]
    assert (exact_moduli <= d * moduli * (1 + 1e-12)).all()


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_kernel_of_large_structures(aggregate):
    large = bulk("MgO", "rocksalt", a=4.2) * (5, 5, 5)
    large.rattle(0.1)
    X = LambdaSOAP(3.0, n_max=1, l_max=1, irreps="0e+1o").fit_transform([large, *frames(3)])
    Y = X[[1, 0]]
    kernel = CovariantKernel(2, aggregate=aggregate)
    pairs, sums = outer_products.operations(X, X, "1o", 2, "invariant")
    assert sums < pairs
    expected = over_pairs(CovariantKernel(2), X, Y, "1o")
    if aggregate == "mean":
        expected = expected / np.diff(X.offsets)[:, None, None, None] / np.diff(Y.offsets)[:, None, None]
    np.testing.assert_allclose(kernel(X, Y, irrep="1o"), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_small_structures_take_pairs(features):
    pairs, sums = outer_products.operations(features[1], features[1], "2e", 2, "invariant")
    assert pairs < sums
    assert outer_products.operations(features[0], features[0], "2e", 3, "invariant")[1] == np.inf
