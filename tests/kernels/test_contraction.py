"""Contracted sums of kernels are the sums over all pairs, without the training set."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels import CovariantKernel, EquivariantFeatures, EquivariantUnion, LambdaSOAP
from eqkernels.kernels import Restricted
from eqkernels.kernels.contraction import Contraction

IRREPS = "0e+1o+2e"


def frames(n, seed=0):
    """Molecules and crystals, of which some have no oxygen."""
    random, out = np.random.RandomState(seed), []
    for k in range(n):
        atoms = [molecule("H2O"), molecule("CH4"), molecule("CH3OH"), bulk("MgO", "rocksalt", a=4.2)][k % 4]
        atoms.positions += random.normal(scale=0.1, size=atoms.positions.shape)
        out.append(atoms)
    return out


def plain_sum(kernel, X, Y, irrep, coef):
    return np.einsum("nmab,mbk->nak", kernel(X, Y, irrep=irrep), coef)


@pytest.fixture(scope="module")
def features():
    descriptor = LambdaSOAP(3.0, n_max=3, l_max=2, irreps=IRREPS).fit(frames(8))
    return descriptor.transform(frames(9)), descriptor.transform(frames(6, seed=1))


def stored(features):
    """The same blocks without densities."""
    return EquivariantFeatures(dict(features.blocks), features.species, features.structures, features.atoms,
                               features.n_atoms)  # fmt: skip


@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("zeta", [1, 2, 3])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_sum_over_pairs(features, zeta, normalize, irrep, aggregate):
    Y, X = features
    kernel = CovariantKernel(zeta, normalize, aggregate)
    coef = np.random.RandomState(0).normal(size=(len(Y), Y.block_shape(irrep)[1], 2))
    expected = plain_sum(kernel, X, Y, irrep, coef)
    for left, right in ((X, Y), (stored(X), stored(Y)), (X, stored(Y))):
        got = kernel.contraction(right, irrep, coef)(left)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("n_training", [1, 120])
def test_matrix_and_vectors(n_training):
    descriptor = LambdaSOAP(3.0, n_max=2, l_max=1, irreps="0e").fit(frames(4))
    Y, X = descriptor.transform(frames(n_training)), descriptor.transform(frames(4, seed=1))
    coef = np.random.RandomState(0).normal(size=(n_training, 1, 1))
    contraction = CovariantKernel().contraction(Y, "0e", coef)
    np.testing.assert_allclose(contraction(X), plain_sum(CovariantKernel(), X, Y, "0e", coef), rtol=1e-12)
    oxygen = contraction._of_species[8].arrays
    n_features = Y.block_shape("0e")[2]
    assert [one.shape for one in oxygen] == (
        [(1, n_features), (1, 1)] if n_training == 1 else [(n_features, n_features)]
    )


@pytest.mark.parametrize(
    "kernel",
    [
        CovariantKernel(1) + 0.3 * CovariantKernel(2),
        CovariantKernel(2) * CovariantKernel(3),
        Restricted(CovariantKernel(2), center_species="O"),
        Restricted(CovariantKernel(2, aggregate="mean"), center_species=["H", "C"]),
        Restricted(CovariantKernel(2), part="near") + Restricted(CovariantKernel(1), part="far"),
    ],
)
def test_combined_kernels(kernel):
    union = EquivariantUnion([(name, LambdaSOAP(cutoff, n_max=2, l_max=2, irreps=IRREPS)) for name, cutoff in
                              (("near", 2.0), ("far", 4.0))])  # fmt: skip
    Y = union.fit_transform(frames(7))
    X, coef = union.transform(frames(5, seed=1)), np.random.RandomState(0).normal(size=(7, 5, 1))
    expected = plain_sum(kernel, X, Y, "2e", coef)
    got = kernel.contraction(Y, "2e", coef)(X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_species_and_centers_that_are_missing():
    descriptor = LambdaSOAP(3.0, n_max=2, l_max=2, irreps=IRREPS, center_species=["O", "C"]).fit(frames(4))
    Y, X = descriptor.transform(frames(1)), descriptor.transform(frames(4, seed=1))
    coef = np.ones((1, 3, 1))
    got = CovariantKernel().contraction(Y, "1o", coef)(X)
    assert not got[1].any()  # methane has no oxygen
    np.testing.assert_allclose(got, plain_sum(CovariantKernel(), X, Y, "1o", coef), rtol=0, atol=1e-14)


@pytest.mark.parametrize("irrep", ["0e", "2e"])
@pytest.mark.parametrize("zeta", [2, 3])
def test_environments_without_neighbors_of_some_species(zeta, irrep, monkeypatch):
    """Only a part of the contracted arrays is read, of which the last ones are kept."""
    monkeypatch.setattr("eqkernels.kernels.contraction._LARGE", 0)
    descriptor = LambdaSOAP(3.0, n_max=2, l_max=2, irreps=IRREPS).fit(frames(4))
    Y, kernel = descriptor.transform(frames(12)), CovariantKernel(zeta)
    coef = np.random.RandomState(0).normal(size=(len(Y), int(irrep[0]) * 2 + 1, 2))
    contraction = kernel.contraction(Y, irrep, coef)
    for seed in range(3):
        X = descriptor.transform([*frames(8, seed)[::-1], Atoms("O")])
        expected = plain_sum(kernel, X, Y, irrep, coef)
        np.testing.assert_allclose(contraction(X), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    oxygen = contraction._of_species[8]
    sizes = [sum(one.size for one in part) for part in oxygen._kept.values()]
    assert len(sizes) > 1
    assert sum(sizes) <= sum(one.size for one in oxygen.arrays)


def test_too_large_to_contract(features, monkeypatch):
    Y, X = features
    monkeypatch.setattr("eqkernels.kernels.contraction._MOST_ELEMENTS", 10)
    coef = np.ones((len(Y), 3, 1))
    contraction = CovariantKernel().contraction(Y, "1o", coef)
    assert not isinstance(contraction, Contraction)
    np.testing.assert_allclose(contraction(X), plain_sum(CovariantKernel(), X, Y, "1o", coef), rtol=1e-13)


@pytest.mark.parametrize("normalize", ["invariant", False])
@pytest.mark.parametrize("zeta", [1, 2, 3])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_derivatives_by_features(features, zeta, normalize, aggregate):
    """Differences of the plain sum over pairs."""
    Y, X = features
    kernel, random = CovariantKernel(zeta, normalize, aggregate), np.random.RandomState(0)
    coef, cotangents = random.normal(size=(len(Y), 1, 2)), random.normal(size=(len(X), 1, 2))
    got = kernel.contraction(Y, "0e", coef).scalars_vjp(X, cotangents)
    direction, step = random.normal(size=got.shape) * np.abs(X.blocks["0e"]).max(), 1e-6
    values = []
    for sign in (1, -1):
        moved = stored(X)
        moved.blocks["0e"] = X.blocks["0e"] + sign * step * direction
        values.append(np.sum(cotangents * plain_sum(kernel, moved, stored(Y), "0e", coef)))
    expected = (values[0] - values[1]) / (2 * step)
    assert np.sum(got * direction) == pytest.approx(expected, rel=1e-7)


def test_densities_are_not_replaced_by_much_larger_arrays(monkeypatch):
    monkeypatch.setattr("eqkernels.kernels.contraction._FEW_ELEMENTS", 0)
    Y = LambdaSOAP(3.0, n_max=4, l_max=2, irreps="0e+2e").fit_transform(frames(12))
    coef = np.ones((len(Y), 5, 1))
    assert not isinstance(CovariantKernel(3).contraction(Y, "2e", coef), Contraction)
    assert isinstance(CovariantKernel(3).contraction(stored(Y), "2e", coef), Contraction)
