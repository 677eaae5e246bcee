import numpy as np
import pytest
from ase import Atoms

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorGPR, TensorKernelRidge
from eqkernels.learned.targets import read_targets
from eqkernels.regression.baseline import best_ridge, composition_design, fit_baseline, left_out_baselines
from eqkernels.structures import StructureBatch
from tests.conftest import random_frames

SMALL = {"cutoff": 3.0, "n_max": 1, "l_max": 1, "sigma": 0.5, "n_species_channels": 1}


def naive(design, values, weight, ridge):
    """The minimum as printed: a common contribution that is free, deviations that are not."""
    n_columns = design.shape[1]
    root = np.sqrt(weight)[:, None]
    rows = root * np.column_stack([design.sum(axis=1), design])
    damped = np.column_stack([np.zeros(n_columns), np.sqrt(ridge) * np.eye(n_columns)])
    right = np.concatenate([root * values, np.zeros((n_columns, values.shape[1]))])
    solution = np.linalg.lstsq(np.concatenate([rows, damped]), right, rcond=None)[0]
    return solution[0] + solution[1:]


def problem(seed, grouped):
    random = np.random.default_rng(seed)
    n, n_columns = random.integers(4, 30), random.integers(1, 8)
    design = random.integers(1, 4, size=(n, n_columns)) * (random.random((n, n_columns)) < 0.5)
    design[design.sum(axis=1) == 0, 0] = 1
    values = design @ random.normal(size=(n_columns, 2)) + random.normal(size=(n, 2))
    groups = np.unique(np.sort(random.integers(0, n // 2, size=n)), return_inverse=True)[1] if grouped else np.arange(n)
    return design.astype(float), values, groups, random.uniform(0.3, 2.0, size=n)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_equals_the_printed_minimum_and_refits(seed, grouped):
    design, values, groups, weight = problem(seed, grouped)
    for ridge in (1e-2, 3.0):
        expected = naive(design, values, weight, ridge)
        np.testing.assert_allclose(fit_baseline(design, values, groups, weight, ridge), expected, atol=1e-9)
    least = np.linalg.lstsq(np.sqrt(weight)[:, None] * design, np.sqrt(weight)[:, None] * values, rcond=None)[0]
    np.testing.assert_allclose(design @ fit_baseline(design, values, groups, weight, 0.0), design @ least, atol=1e-9)
    ridge = best_ridge(design, values, groups, weight)
    left_out = left_out_baselines(design, values, groups, weight)
    for group in np.unique(groups):
        own, others = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        refitted = fit_baseline(design[others], values[others], None, weight[others], ridge)
        np.testing.assert_allclose(left_out[own], np.broadcast_to(refitted, left_out[own].shape), atol=1e-6)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_the_ridge_has_the_least_error_on_what_is_left_out(seed, grouped):
    design, values, groups, weight = problem(seed, grouped)

    def error(ridge):
        total = 0.0
        for group in np.unique(groups):
            own, others = groups == group, groups != group
            residual = values[own] - design[own] @ naive(design[others], values[others], weight[others], ridge)
            total += np.sum(weight[own, None] * residual**2)
        return total

    chosen, scale = best_ridge(design, values, groups, weight), np.linalg.norm(design, 2) ** 2
    best = min(error(scale * ratio) for ratio in 10.0 ** np.arange(-6, 4))
    if chosen:
        assert error(chosen) < 1.03 * best
        assert error(chosen) < error(1e-9 * scale) / 1.04
    else:
        assert error(1e-9 * scale) < 1.08 * best


def many_species(n, seed, size=(2, 7), n_species=72):
    """Structures of two to four out of many elements, and contributions of atoms and of pairs."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        numbers = random.choice(np.arange(1, n_species + 1), size=random.integers(2, 5), replace=False)
        frames.append(Atoms(random.choice(numbers, size=random.integers(*size)), pbc=False))
        frames[-1].positions[:] = (
            1.7 * np.arange(len(frames[-1]))[:, None] + random.normal(size=(len(frames[-1]), 3)) / 5
        )
    return frames


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("seed", range(3))
def test_with_many_species_it_is_no_worse_than_a_constant(aggregate, seed):
    """Properties with more noise than the elements explain."""
    frames, random = many_species(160, seed), np.random.default_rng(seed)
    counts = np.array([np.bincount(atoms.numbers, minlength=73)[1:] for atoms in frames], dtype=float)
    sizes = counts.sum(axis=1)
    y = 10.0 + counts @ random.normal(size=72) / sizes + 3.0 * random.normal(size=160)
    y = y * sizes if aggregate == "sum" else y
    design, train = composition_design(counts, "composition", aggregate), np.arange(80)
    known = design[train].any(axis=0)
    test = np.array([k for k in range(80, 160) if not design[k, ~known].any()])
    coefficients = fit_baseline(design[train][:, known], y[train, None])[:, 0]
    error = np.sqrt(np.mean((design[test][:, known] @ coefficients - y[test]) ** 2))
    constant = np.sqrt(np.mean((y[test] - y[train].mean()) ** 2))
    least = np.linalg.lstsq(design[train], y[train], rcond=None)[0]
    assert error < 1.1 * constant
    assert error < 0.7 * np.sqrt(np.mean((design[test] @ least - y[test]) ** 2))
    # an element that only the structure left out has is predicted like the average atom
    left_out = left_out_baselines(design[train], y[train, None], train)[..., 0]
    for k in np.flatnonzero(np.count_nonzero(design[train], axis=0) == 1)[:5]:
        row = int(np.flatnonzero(design[train][:, k])[0])
        others = np.delete(train, row)
        ridge = best_ridge(design[train], y[train, None])
        expected = naive(design[others], y[others, None], np.ones(79), ridge)[:, 0]
        np.testing.assert_allclose(left_out[row], expected, atol=1e-6)


def test_few_species_and_many_structures_are_least_squares():
    for seed in range(10):
        random = np.random.default_rng(seed)
        design = random.integers(0, 12, size=(200, 4)).astype(float)
        values = design @ random.normal(size=(4, 1)) + random.normal(size=(200, 1)) * random.uniform(0.1, 10.0)
        expected = np.linalg.lstsq(design, values, rcond=None)[0]
        np.testing.assert_allclose(fit_baseline(design, values), expected, rtol=1e-9)


def test_an_exact_composition_is_found_beside_an_element_that_occurs_once():
    random = np.random.default_rng(0)
    design = np.zeros((120, 5))
    design[:, :4] = random.integers(0, 9, size=(120, 4))
    design[7, 4] = 2
    exact = np.array([-13.6, -1030.0, -2040.0, -75.0, -39000.0])
    np.testing.assert_allclose(fit_baseline(design, (design @ exact)[:, None])[:, 0], exact, rtol=1e-8)


def test_elements_that_are_never_apart_share_their_contribution_evenly():
    alone = fit_baseline(np.array([[2.0, 1], [4, 2]]), np.array([[-30.0], [-60.0]]))
    np.testing.assert_allclose(alone, -10.0)  # the average atom, also in proportions not seen
    assert (fit_baseline(np.zeros((3, 2)), np.ones((3, 1))) == 0).all()


def test_models_share_the_ridge():
    frames = many_species(40, seed=5, n_species=30)
    y = np.random.default_rng(5).normal(size=40) + np.array([len(atoms) for atoms in frames])
    features = LambdaSOAP(**SMALL, irreps="0e").fit_transform(frames)
    ridge = TensorKernelRidge(alpha=0.1).fit(features, y)
    design = features.composition(ridge.species_)
    chosen = best_ridge(design, y[:, None])
    assert chosen > 0
    np.testing.assert_allclose(ridge.baseline_, naive(design, y[:, None], np.ones(40), chosen), atol=1e-8)
    sparse = SparseTensorGPR(n_points=len(features.species), noise=0.1).fit(features, y)
    assert sparse.baseline_ridge_ == pytest.approx(chosen)
    np.testing.assert_allclose(sparse.baseline_, ridge.baseline_, atol=1e-8)
    np.testing.assert_allclose(sparse.predict(features), ridge.predict(features), atol=1e-6)
    batch = StructureBatch.from_frames(frames)
    targets, _ = read_targets(y, batch, None, "composition", "sum")
    rest = y - design @ ridge.baseline_[:, 0]
    np.testing.assert_allclose(targets[0].values.ravel(), rest / np.sqrt(np.mean(rest**2)), atol=1e-8)


def test_per_atom_labels_leave_out_structures():
    frames = random_frames(3, n_frames=12, n_species=4)
    random = np.random.default_rng(2)
    y = [np.full(len(atoms), random.normal()) + 0.01 * atoms.numbers for atoms in frames]
    # no two atoms of a structure have the same neighbors, or none
    features = LambdaSOAP(cutoff=9.0, n_max=2, l_max=1, irreps="0e").fit_transform(frames)
    exact = TensorKernelRidge(alpha=0.1, target="").fit(features, y)
    sparse = SparseTensorGPR(n_points=len(features.species), noise=0.1, target="").fit(features, y)
    np.testing.assert_allclose(sparse.baseline_, exact.baseline_, atol=1e-8)
    design = composition_design(features.split_centers(np.arange(len(features.species))).composition(exact.species_), "composition", "sum")  # fmt: skip
    expected = fit_baseline(design, np.concatenate(y)[:, None], features.structures)
    np.testing.assert_allclose(exact.baseline_, expected, atol=1e-9)


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_errors_on_structures_left_out_are_those_of_refits_at_the_ridge(aggregate, monkeypatch):
    frames = many_species(30, seed=8, n_species=20)
    y = np.random.default_rng(8).normal(size=30) + 5.0
    features = LambdaSOAP(**SMALL, irreps="0e").fit_transform(frames)
    kernel = CovariantKernel(aggregate=aggregate)
    fitted = TensorKernelRidge([0.1], kernel=kernel).fit(features, y)
    design = composition_design(features.composition(fitted.species_), "composition", aggregate)
    chosen = best_ridge(design, y[:, None])
    assert chosen > 0
    process = TensorGPR(kernel, normalize_y=False, noise=0.1, optimizer=None).fit(features, y)
    monkeypatch.setattr("eqkernels.regression.baseline._Problem.best_ridge", lambda *_: chosen)
    every = LambdaSOAP(**SMALL, irreps="0e").fit(frames)
    rest = []
    for k in range(30):
        others = np.delete(np.arange(30), k)
        shift = design[others] @ naive(design[others], y[others, None], np.ones(29), chosen)[:, 0]
        coefficients = naive(design[others], y[others, None], np.ones(29), chosen)[:, 0]
        matrix = kernel(every.transform(frames), irrep="0e")[:, :, 0, 0]
        dual = np.linalg.solve(matrix[np.ix_(others, others)] + 0.1 * np.eye(29), y[others] - shift)
        rest.append(matrix[k, others] @ dual + design[k] @ coefficients)
    np.testing.assert_allclose(process.predict_left_out(), rest, atol=1e-6)
    np.testing.assert_allclose(fitted.cv_results_["0e"][0], np.sqrt(np.mean((rest - y) ** 2)), rtol=1e-6)
