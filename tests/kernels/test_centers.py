"""Kernels between centers of different species, against the formula and against finite differences."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqkernels import CovariantKernel, LambdaSOAP
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import select_sparse_points
from eqkernels.kernels.centers import center_similarity, similarity_of
from eqkernels.structures.elements import element_similarity

SIMILARITIES = [0.0, 0.3, 0.5, 0.8, 1.0]


def _frames():
    frames = [molecule(name) for name in ("H2O", "CH3OH", "NH3", "CH3SH", "SiH4")]
    frames += [bulk("NaCl", "rocksalt", 5.64), bulk("GaAs", "zincblende", 5.65)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=k)
    return frames


@pytest.fixture(scope="module")
def features():
    return LambdaSOAP(4.0, n_max=2, l_max=2, irreps="0e+1o+2e", species_embedding="periodic").fit_transform(_frames())


def _naive(features, irrep, zeta, normalize, mean, similarity):
    """Sum over all pairs of environments, term by term."""
    p, q = features.block(irrep), features.block("0e")[:, 0]
    n, d, _ = p.shape
    out = np.zeros((len(features), len(features), d, d))
    for i in range(n):
        for j in range(n):
            a, b = features.species[[i, j]]
            alike = float(a == b) if similarity == 0 else element_similarity([a], [b])[0, 0] ** (1 / similarity - 1)
            norms = np.linalg.norm(q[i]) * np.linalg.norm(q[j])
            scalar, block = q[i] @ q[j], p[i] @ p[j].T
            if normalize:
                scalar, block = scalar / norms, block / norms
            out[features.structures[i], features.structures[j]] += alike * scalar ** (zeta - 1) * block
    counts = np.bincount(features.structures)
    return out / np.outer(counts, counts)[:, :, None, None] if mean else out


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    ("zeta", "normalize", "mean"), [(1, "invariant", False), (2, "invariant", True), (3, False, False)]
)
@pytest.mark.parametrize("irrep", ["0e", "1o", "2e"])
def test_kernel_is_its_formula(features, irrep, zeta, normalize, mean, similarity):
    kernel = CovariantKernel(zeta, normalize, "mean" if mean else "sum", center_similarity=similarity)
    expected = _naive(features, irrep, zeta, normalize, mean, similarity)
    size = np.abs(expected).max()
    matrix = kernel(features, irrep=irrep)
    n = len(matrix) * matrix.shape[2]
    assert np.abs(matrix - expected).max() < 1e-12 * size
    assert np.abs(kernel(features[:3], features[2:], irrep) - expected[:3, 2:]).max() < 1e-12 * size
    assert np.abs(kernel.diag(features, irrep) - np.einsum("iiab->iab", expected)).max() < 1e-12 * size
    high, low = kernel.precise(features, features, irrep)
    assert np.abs(high + low - expected).max() < 1e-12 * size
    coef = np.random.default_rng(0).normal(size=(len(features), matrix.shape[2], 2))
    sums = kernel.contraction(features, irrep, coef)(features)
    assert np.abs(sums - np.einsum("ijab,jbk->iak", expected, coef)).max() < 1e-11 * size
    assert np.linalg.eigvalsh(matrix.transpose(0, 2, 1, 3).reshape(n, n))[0] > -1e-12 * size * n


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("irrep", ["0e", "1o"])
@pytest.mark.parametrize("zeta", [1, 3])
def test_derivatives_are_finite_differences(features, irrep, zeta, similarity):
    kernel, random = CovariantKernel(zeta, center_similarity=similarity), np.random.default_rng(1)
    X, Y = features[:4], features.split_centers()[::3]
    weights = random.normal(size=kernel(X, Y, irrep).shape)
    slopes = kernel.vjp(X, Y, irrep, weights)
    moved = {key: random.normal(size=slope.shape) for key, slope in slopes.items()}
    scale = 1e-4 * np.abs(X.block("0e")).max()

    def value(step):
        blocks = {key: X.block(key) + step * moved[key] if key in moved else X.block(key) for key in X.blocks}
        return np.sum(
            weights * kernel(EquivariantFeatures(blocks, X.species, X.structures, X.atoms, X.n_atoms), Y, irrep)
        )

    expected = (8 * (value(scale) - value(-scale)) - value(2 * scale) + value(-2 * scale)) / (12 * scale)
    assert sum(np.sum(slopes[key] * moved[key]) for key in moved) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("similarity", [0.5, 1.0])
def test_gradient_is_that_of_the_vector_jacobian_product(features, similarity):
    kernel = CovariantKernel(2, center_similarity=similarity)
    X, Y = features[:4], features.split_centers()[::3]
    weights = np.random.default_rng(2).normal(size=(len(X), len(Y), 1, 1))
    gradient = kernel.gradient(X, Y)[0]
    w = weights[X.structures, :, 0, 0]
    own = np.sum(w * gradient.own, axis=1)[:, None] * X.block("0e")[:, 0]
    expected = kernel.vjp(X, Y, "0e", weights)["0e"][:, 0]
    assert np.allclose(
        (w * gradient.points) @ Y.block("0e")[:, 0] + own, expected, rtol=1e-10, atol=1e-14 * np.abs(expected).max()
    )


def test_all_64_elements_of_a_set_of_crystals():
    numbers = np.r_[1, 3:10, 11:18, 19:36, 37:54, 55:58, 72:84]
    assert len(numbers) == 64
    frames = [Atoms([a, b], [[0, 0, 0], [0, 0, 1.9]]) for a, b in zip(numbers, np.roll(numbers, 7), strict=True)]
    descriptor = LambdaSOAP(4.0, n_max=2, l_max=1, irreps="0e+1o")
    made = descriptor.fit_transform(frames)
    assert descriptor.periodic_channels_ == 8  # 64 elements are many
    for similarity in (0.5, 1.0):
        kernel = CovariantKernel(2, center_similarity=similarity)
        expected = _naive(made[:20], "1o", 2, True, False, similarity)
        assert np.allclose(kernel(made[:20], irrep="1o"), expected, atol=1e-13)
        matrix = kernel(made)[:, :, 0, 0]
        assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * np.abs(matrix).max()
        assert matrix[0, 30] > 0  # no element in common, nor alike


def test_from_the_same_species_to_all_alike():
    species = np.array([8, 16, 11, 8])
    same = center_similarity(species, species, 0.0)
    assert np.array_equal(same, species[:, None] == species)
    assert np.allclose(center_similarity(species, species, 1e-3), same, atol=1e-12)
    assert np.allclose(center_similarity(species, species, 0.5), element_similarity(species, species))
    assert np.allclose(center_similarity(species, species, 1 - 1e-6), 1.0, atol=1e-4)
    assert np.array_equal(center_similarity(species, species, 1.0), np.ones((4, 4)))


@pytest.mark.parametrize("bad", [-0.1, 1.1, "all", None, np.nan, True])
def test_other_similarities_are_refused(features, bad):
    with pytest.raises(ValueError, match="center_similarity=.* must be a number from 0"):
        CovariantKernel(center_similarity=bad)(features)


def test_similarity_of_a_sum_of_kernels():
    assert similarity_of(CovariantKernel() + 2.0 * CovariantKernel(center_similarity=0.7)) == 0.7
    assert similarity_of(CovariantKernel()) == similarity_of(None) == 0


@pytest.mark.parametrize("selection", ["fps", "leverage", "random"])
def test_sparse_points_are_shared(features, selection):
    points = select_sparse_points(features, 6, selection, random_state=0, center_similarity=1.0)
    assert len(points) == 6 < len(np.unique(features.species))
    if selection == "fps":  # of species that are not alike
        assert len(np.unique(points.species)) > 3
    own = select_sparse_points(features, {"H": 1, "Na": 1, "Cl": 1, "C": 1, "O": 1, "N": 1, "S": 1, "Si": 1, "Ga": 1, "As": 1},
                               center_similarity=1.0)  # fmt: skip
    assert np.array_equal(own.species, np.unique(features.species))
