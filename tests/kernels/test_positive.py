"""All kernels are positive semidefinite, on features of any sign."""

import numpy as np
import pytest

from eqkernels import CovariantKernel, EquivariantFeatures, EquivariantUnion, LambdaSOAP
from eqkernels.kernels import Restricted, Scaled
from tests.conftest import random_frames

SMALL = {"cutoff": 3.5, "n_max": 2, "l_max": 2, "sigma": 0.4}


def lowest(kernel, features, irrep):
    """Smallest eigenvalue of the whole matrix, relative to the largest."""
    matrix = kernel(features, irrep=irrep)
    n, _, d, _ = matrix.shape
    eigenvalues = np.linalg.eigvalsh(matrix.transpose(0, 2, 1, 3).reshape(n * d, n * d))
    return eigenvalues[0] / max(eigenvalues[-1], 1e-300)


def any_features(seed, d=3):
    """Features that no descriptor made: invariants of both signs, structures of 0 to 3 environments."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, 4, size=12)
    n = counts.sum()
    blocks = {"0e": random.normal(size=(n, 1, 3)), f"{d // 2}o": random.normal(size=(n, d, 2))}
    blocks["0e"][::5] = 0.0
    atoms = np.concatenate([np.arange(count) for count in counts])
    structures = np.repeat(np.arange(12), counts)
    parts = {"one": {"0e": (0, 2), "1o": (0, 1)}, "other": {"0e": (2, 3), "1o": (1, 2)}}
    return EquivariantFeatures(blocks, random.choice([1, 6], size=n), structures, atoms, counts, parts)


def combinations(zeta, normalize, aggregate):
    one = CovariantKernel(zeta, normalize, aggregate)
    other = CovariantKernel(zeta=1, normalize=False, aggregate="mean")
    return {
        "alone": one,
        "sum": one + 1e-3 * other,
        "product": one * other,
        "power": one * one * other,
        "scaled": Scaled(one, 1e5) * (one + other),
        "species": Restricted(one, center_species="C") * Restricted(other, center_species=1) + Restricted(other, "H"),
        "part": Restricted(one, part="one") + one * Restricted(one, "C", part="other"),
    }


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("zeta", [1, 2, 3, np.int32(4), 7.0])
def test_features_of_any_sign(zeta, normalize, aggregate):
    for seed in range(4):
        features = any_features(seed)
        for name, kernel in combinations(zeta, normalize, aggregate).items():
            for irrep in ("0e", "1o"):
                assert lowest(kernel, features, irrep) > -1e-12, (name, irrep, seed)


@pytest.mark.parametrize("normalize", ["invariant", True, False])
@pytest.mark.parametrize("periodic", [False, True])
def test_features_of_descriptors(periodic, normalize):
    frames = random_frames(3, n_frames=14, n_species=3, periodic=periodic)
    union = EquivariantUnion([("one", LambdaSOAP(**SMALL)), ("other", LambdaSOAP(**{**SMALL, "cutoff": 2.5}))])
    features, density = union.fit_transform(frames), LambdaSOAP(**SMALL).fit_transform(frames)
    assert density.density is not None
    for zeta in (1, 2, 5):
        for irrep in ("0e", "1o", "2e"):
            for name, kernel in combinations(zeta, normalize, "sum").items():
                assert lowest(kernel, features, irrep) > -1e-12, (name, irrep)
            of_density = CovariantKernel(zeta, normalize)
            of_density = of_density + CovariantKernel(1, normalize) * of_density
            assert lowest(of_density, density, irrep) > -1e-12


def test_powers_between_integers_are_refused_for_they_are_indefinite():
    p = np.array([[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [0, 1.0]])
    assert np.linalg.eigvalsh((p @ p.T) ** 0.5)[0] < -1e-2
    features = any_features(0)
    for kernel in (CovariantKernel(1.5), 2.0 * CovariantKernel(2) + CovariantKernel(2.5)):
        with pytest.raises(ValueError, match="must be an integer, at least 1"):
            kernel(features, irrep="1o")


@pytest.mark.parametrize("factor", [-1.0, 0.0, np.nan, np.inf, "1"])
def test_factors_that_are_not_positive_are_refused(factor):
    with pytest.raises(ValueError, match="factor=.* must be positive, or the kernel is not positive definite"):
        Scaled(CovariantKernel(), factor)(any_features(0), irrep="1o")
