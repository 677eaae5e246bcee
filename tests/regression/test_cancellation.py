"""Predictions depend neither on the batch, nor on the orientation, nor on the choice of the cell."""

from fractions import Fraction

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from eqkernels import (
    CovariantKernel,
    EquivariantFeatures,
    LambdaSOAP,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.kernels.precise_sums import contract_precisely, contract_scalars_vjp
from eqkernels.testing import random_rotation

# Of the spread of the labels.
TOLERANCE = 1e-8


@pytest.fixture(scope="module")
def crystals():
    """Distorted copper, whose environments resemble each other, with its energies, forces and stress."""
    random, frames = np.random.default_rng(0), []
    for k in range(50):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.02, seed=k)
        atoms.calc = EMT()
        frames.append(atoms)
    energies = np.array([atoms.get_potential_energy() for atoms in frames])
    forces = [atoms.get_forces() for atoms in frames]
    return frames, energies, forces, np.array([atoms.get_stress(voigt=False) for atoms in frames])


def rotated(atoms, k):
    rotation = (-1) ** k * random_rotation(np.random.RandomState(k))
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ rotation.T, scale_atoms=False)
    atoms.positions = atoms.positions @ rotation.T
    return atoms, rotation


@pytest.mark.parametrize("kinds", [("forces",), ("forces", "stress")])
def test_sparse_model_with_forces(crystals, kinds):
    frames, energies, *others = crystals
    labels = {kind: one[:30] for kind, one in zip(("forces", "stress"), others, strict=True) if kind in kinds}
    model = SparseTensorGPR(n_points=150, descriptor=LambdaSOAP(n_max=4, l_max=2), random_state=0)
    model.fit(frames[:30], energies[:30], **labels)
    assert model.cancellation_["0e"] > 1e-6  # else the test shows nothing
    test = frames[30:36]
    mean, forces, stress = model.predict(test), model.predict_forces(test), model.predict_stress(test)
    spreads = np.std(energies), np.std(np.concatenate(others[0])), np.std(others[1])
    batch = model.predict(test * 100)[: len(test)]
    np.testing.assert_allclose(batch, mean, atol=TOLERANCE * spreads[0], rtol=0)
    for k, atoms in enumerate(test):
        moved_atoms, r = rotated(atoms, k)
        for one in (atoms, moved_atoms, atoms.repeat((2, 1, 1))):
            assert abs(model.predict([one])[0] / len(one) - mean[k] / len(atoms)) < TOLERANCE * spreads[0] / len(atoms)
        assert np.abs(model.predict_forces([moved_atoms])[0] - forces[k] @ r.T).max() < TOLERANCE * spreads[1]
        assert np.abs(model.predict_stress([moved_atoms])[0] - r @ stress[k] @ r.T).max() < TOLERANCE * spreads[2]


@pytest.mark.parametrize("model", [TensorKernelRidge(alpha=1e-12), TensorKernelRidge(), TensorGPR()])
def test_exact_models_of_little_noise(crystals, model):
    frames, energies = crystals[:2]
    model.set_params(descriptor=LambdaSOAP(n_max=4, l_max=2)).fit(frames[:30], energies[:30])
    assert model.cancellation_["0e"] > 1e-8
    mean = model.predict(frames[30:])
    for k, atoms in enumerate(frames[30:]):
        assert abs(model.predict([rotated(atoms, k)[0]])[0] - mean[k]) < TOLERANCE * np.std(energies)


@pytest.mark.parametrize("model", [TensorKernelRidge(), TensorRidge()])
def test_vectors_of_crystals_that_are_nearly_perfect(model):
    """Their features have the rounding of the invariant ones, a thousand times their own."""
    frames, random = [], np.random.default_rng(0)
    for k in range(3):
        atoms = bulk("NaCl", "rocksalt", a=5.6)
        atoms.rattle(1e-3, seed=k)
        frames.append(atoms)
    y = random.normal(size=(3, 3))
    model.set_params(descriptor=LambdaSOAP(3.0, n_max=2, l_max=2), target="i").fit(frames, y)
    for k, (atoms, mean) in enumerate(zip(frames, model.predict(frames), strict=True)):
        moved_atoms, r = rotated(atoms, k)
        assert np.abs(model.predict([moved_atoms])[0] - r @ mean).max() < TOLERANCE * np.std(y)


def test_precise_sums_are_those_of_exact_arithmetic():
    frames = [bulk("Cu", cubic=True) for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=k)
    features = LambdaSOAP(n_max=2, l_max=1, irreps="0e+1o").fit_transform(frames)
    x, y = (_single_environments(one) for one in (features[:1], features[1:]))
    m = len(y)
    random = np.random.default_rng(0)
    kernel = CovariantKernel(zeta=3, normalize=False)
    for irrep, d in (("0e", 1), ("1o", 3)):
        coef = 10.0 ** random.uniform(0, 12, size=(m, d, 1)) * random.choice([-1, 1], size=(m, d, 1))
        exact = _exact(x, y, irrep, coef, 3)
        summed = contract_precisely(kernel, x, y, irrep, coef)
        scale = np.abs(coef).max() * np.abs(features.blocks["0e"]).max() ** 3
        np.testing.assert_allclose(summed, exact, rtol=1e-14, atol=1e-20 * scale)
    coef, step = coef[:, 0, 0], 1e-6
    slopes = contract_scalars_vjp(x, y, coef, 3, None)
    direction = random.normal(size=x.blocks["0e"].shape)
    moved = [_moved(x, sign * step * direction) for sign in (1, -1)]
    difference = [_exact(one, y, "0e", coef[:, None, None], 3)[:, 0, 0] for one in moved]
    expected = (difference[0] - difference[1]) / (2 * step)
    np.testing.assert_allclose(np.sum(slopes * direction, axis=(1, 2)), expected, rtol=1e-6)


@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_kernels_are_precise_with_their_norms_and_products(normalize, aggregate):
    """Kernels of float32 features, so that twice the precision of their products is that of a float128."""
    frames = [molecule(name) for name in ("H2O", "NH3", "CH3OH")]
    features = LambdaSOAP(n_max=2, l_max=1, irreps="0e+1o").fit_transform(frames)
    exact = {key: block.astype(np.longdouble) for key, block in features.blocks.items()}
    first = CovariantKernel(2, normalize=normalize, aggregate=aggregate)
    kernel = (first * (0.3 * CovariantKernel(1, normalize=normalize, aggregate=aggregate)), first)
    products = {key: np.einsum("imf,jnf->ijmn", block, block) for key, block in exact.items()}
    grams = {key: np.einsum("iimn->imn", one) for key, one in products.items()}
    norms = {key: np.sqrt(np.sum(one**2, axis=(1, 2))) ** np.longdouble(0.5) for key, one in grams.items()}

    def summed(key, zeta):
        own = norms[key if normalize is True else "0e"] if normalize is not False else np.ones(len(features.species))
        inner = norms["0e"] if normalize is not False else np.ones(len(features.species))
        pairs = products[key] / np.multiply.outer(own, own)[:, :, None, None]
        pairs = pairs * (products["0e"] / np.multiply.outer(inner, inner)[:, :, None, None]) ** (zeta - 1)
        pairs[features.species[:, None] != features.species] = 0
        membership = (features.structures == np.arange(3)[:, None]).astype(np.longdouble)
        if aggregate == "mean":
            membership /= membership.sum(axis=1, keepdims=True)
        return np.einsum("ai,ijmn,bj->abmn", membership, pairs, membership)

    for key in ("0e", "1o"):
        for one, expected in zip(
            kernel, (summed(key, 2) * np.longdouble(0.3) * summed("0e", 1), summed(key, 2)), strict=True
        ):
            high, low = one.precise(features, features, key)
            largest = np.abs(expected).max()
            error = np.abs((high.astype(np.longdouble) + low) - expected).max() / largest
            assert error < 3e-18, (key, error)


def _single_environments(features):
    """The same environments, each as a structure of its own."""
    n = len(features.species)
    return EquivariantFeatures(features.blocks, features.species, np.arange(n), np.zeros(n, int), np.ones(n, int))


def _moved(features, by):
    out = features[:]
    out.blocks = {**features.blocks, "0e": features.blocks["0e"] + by}
    return out


def _exact(x, y, irrep, coef, zeta):
    """Sum of (p_i . p_m) (p_i . p_m of the scalars)^(zeta - 1) c_m in rational numbers."""

    def fractions(array):
        return np.vectorize(Fraction, otypes=[object])(array)

    p, q, p0, q0, c = map(fractions, (x.blocks[irrep], y.blocks[irrep], x.blocks["0e"], y.blocks["0e"], coef))
    out = np.zeros((len(p), p.shape[1], 1))
    for i in range(len(p)):
        for mu in range(p.shape[1]):
            total = Fraction(0)
            for m in range(len(q)):
                power = (p0[i, 0] @ q0[m, 0]) ** (zeta - 1)
                total += power * sum((p[i, mu] @ q[m, nu]) * c[m, nu, 0] for nu in range(p.shape[1]))
            out[i, mu, 0] = float(total)
    return out


def test_sums_and_products_of_kernels_contract_as_their_matrices(crystals):
    frames = crystals[0][:6]
    features = LambdaSOAP(n_max=3, l_max=2, irreps="0e+2e").fit_transform(frames)
    x, y = features[:2], features[2:]
    random = np.random.default_rng(0)
    for kernel in (
        CovariantKernel(zeta=1),
        CovariantKernel(zeta=2, normalize=True, aggregate="mean"),
        CovariantKernel(zeta=3, normalize=False) + 0.5 * CovariantKernel(zeta=1),
        CovariantKernel(zeta=2) * CovariantKernel(zeta=1),
    ):
        for irrep, d in (("0e", 1), ("2e", 5)):
            coef, cotangents = random.normal(size=(len(y), d, 1)), random.normal(size=(len(x), d, 1))
            expected = np.einsum("nmab,mbk->nak", kernel(x, y, irrep=irrep), coef)
            scale = np.abs(expected).max()
            contracted = contract_precisely(kernel, x, y, irrep, coef)
            np.testing.assert_allclose(contracted, expected, rtol=1e-9, atol=1e-12 * scale)
            slopes = kernel.contract_vjp(x, y, irrep, cotangents, coef)
            weights = np.einsum("nak,mbk->nmab", cotangents, coef)
            for key, array in kernel.vjp(x, y, irrep, weights).items():
                np.testing.assert_allclose(slopes[key], array, rtol=1e-8, atol=1e-9 * np.abs(array).max() + 1e-300)
