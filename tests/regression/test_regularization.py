import pickle
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, LeaveOneOut, cross_val_predict, cross_val_score

from eqkernels import CartesianTensor, CovariantKernel, LambdaSOAP, TensorGPR, TensorKernelRidge, TensorRidge
from eqkernels.metrics import frobenius_rmse, irrep_rmse
from eqkernels.regression.baseline import best_ridge, fit_baseline, left_out_baselines
from tests.conftest import random_frames

SMALL = {"cutoff": 3.0, "n_max": 3, "l_max": 2, "sigma": 0.4}
ALPHAS = (1e-6, 1e-4, 1e-2, 1.0)


# Hydrogen atoms that rotations about the axis exchange, to rounding.
ANGLES = np.deg2rad([0, 120, 240])
AMMONIA = Atoms(
    "NH3", np.vstack([[0, 0, 0.38], np.stack([0.94 * np.cos(ANGLES), 0.94 * np.sin(ANGLES), 0 * ANGLES], 1)])
)


def noisy(waters):
    frames, _, matrix, _ = waters
    noise = 0.05 * np.random.default_rng(0).normal(size=matrix.shape)
    return LambdaSOAP(**SMALL).fit_transform(frames, matrix), matrix + noise + noise.swapaxes(1, 2)


@pytest.mark.parametrize("baseline", ["composition", "mean", None])
def test_errors_are_those_of_refits(waters, baseline):
    features, y = noisy(waters)
    options = {"baseline": baseline, "target": "ij=ji"}
    fitted = TensorKernelRidge(ALPHAS, **options).fit(features, y)
    for k, alpha in enumerate(ALPHAS):
        predicted = cross_val_predict(TensorKernelRidge(alpha, **options), features, y, cv=LeaveOneOut())
        for irrep, error in irrep_rmse(y, predicted, target="ij=ji").items():
            np.testing.assert_allclose(fitted.cv_results_[irrep][k], error, rtol=1e-8)
    best = TensorKernelRidge(fitted.alpha_, **options)
    np.testing.assert_allclose(fitted.predict(features), best.fit(features, y).predict(features), atol=1e-9)
    expected = frobenius_rmse(y, cross_val_predict(best, features, y, cv=LeaveOneOut()))
    np.testing.assert_allclose(-fitted.best_score_, expected, rtol=1e-8)


def test_a_structure_that_would_decide_alone_does_not():
    """Curves of a molecule that is stretched, and the only structure of its kind: by refits without each structure."""
    random, frames = np.random.default_rng(0), []
    for distance in random.uniform(0.9, 1.6, size=40):
        frames.append(Atoms("HF", [[0, 0, 0], [0, 0, distance]]))
    energies = np.array([(atoms.positions[1, 2] - 1.2) ** 2 for atoms in frames]) + 1e-3 * random.normal(size=40)
    frames, energies = [*frames, Atoms("HF", [[0, 0, 0], [0, 0, 2.8]])], np.append(energies, 0.5)
    features = LambdaSOAP(**SMALL, irreps="0e").fit_transform(frames)
    alphas = 10.0 ** np.arange(-6, 2)
    options = {"baseline": "mean", "kernel": CovariantKernel(zeta=1)}
    model = TensorKernelRidge(alphas, **options).fit(features, energies)
    squares = np.array([
        (energies - cross_val_predict(TensorKernelRidge(one, **options), features, energies, cv=LeaveOneOut())) ** 2
        for one in alphas
    ])  # fmt: skip
    np.testing.assert_allclose(model.cv_results_["0e"], np.sqrt(squares.mean(axis=1)), rtol=1e-6)
    assert squares[int(np.argmin(squares.sum(axis=1))), -1] > 0.5 * squares.sum(axis=1).min()
    assert model.alpha_["0e"] == alphas[int(np.argmin(squares[:, :-1].sum(axis=1)))]
    assert model.alpha_["0e"] != alphas[int(np.argmin(squares.sum(axis=1)))]
    assert model.loo_rmse_["0e"] == model.cv_results_["0e"][alphas == model.alpha_["0e"]]
    few = TensorKernelRidge(alphas, **options).fit(features[-10:], energies[-10:])
    assert few.alpha_["0e"] == few.cv_results_["alpha"][int(np.argmin(few.cv_results_["0e"]))]


def test_weights_and_precomputed_kernels(waters):
    features, y = noisy(waters)
    weight = np.random.default_rng(0).uniform(0.2, 2.0, size=len(features))
    weight[5] = 0.0
    blocks = CovariantKernel().blocks(features)
    first = TensorKernelRidge(ALPHAS).fit(features, y, sample_weight=weight)
    second = TensorKernelRidge(ALPHAS, kernel="precomputed").fit(blocks, y, sample_weight=weight)
    squares = []
    for k in np.flatnonzero(weight):
        others = np.delete(np.arange(len(features)), k)
        one = TensorKernelRidge(1e-2).fit(features[others], y[others], sample_weight=weight[others])
        squares.append(np.sum((one.predict(features[[k]])[0] - y[k]) ** 2))
    expected = np.average(squares, weights=weight[weight > 0])
    got = first.cv_results_["0e"][2] ** 2 + 5 * first.cv_results_["2e"][2] ** 2
    np.testing.assert_allclose(got, expected, rtol=1e-8)
    for irrep in ("0e", "2e"):
        np.testing.assert_allclose(first.cv_results_[irrep], second.cv_results_[irrep], rtol=1e-9)
    direct = TensorKernelRidge(first.alpha_).fit(features, y, sample_weight=weight)
    np.testing.assert_allclose(first.predict(features), direct.predict(features), atol=1e-9)
    assert np.isfinite(cross_val_score(TensorKernelRidge(kernel="precomputed"), blocks, y, cv=3)).all()


def test_atoms_of_a_structure_are_left_out_together(waters):
    frames, *_ = waters
    random = np.random.default_rng(0)
    y = [atoms.positions - atoms.positions.mean(axis=0) + 0.1 * random.normal(size=(3, 3)) for atoms in frames]
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    fitted = TensorKernelRidge([1e-2], target="i").fit(features, y)
    predicted = []
    for k in range(40):
        one = TensorKernelRidge(1e-2, target="i").fit(features[np.delete(np.arange(40), k)], y[:k] + y[k + 1 :])
        predicted.extend(one.predict(features[[k]]))
    error = np.sqrt(np.mean((np.concatenate(predicted) - np.concatenate(y)) ** 2))
    np.testing.assert_allclose(fitted.cv_results_["1o"][0], error, rtol=1e-8)


def test_baselines_without_each_group():
    frames = random_frames(3, n_frames=12, n_species=3)
    design = np.array([[np.sum(atoms.numbers == z) for z in (1, 6, 7)] for atoms in frames], dtype=float)
    design[:, 2] = 0
    design[4] = [1, 0, 5]  # the only one with this element
    values = np.random.default_rng(0).normal(size=(12, 2))
    weight = np.random.default_rng(1).uniform(0.5, 2, size=12)
    groups = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7, 7])
    got, ridge = left_out_baselines(design, values, groups, weight), best_ridge(design, values, groups, weight)
    for group in range(8):
        others = groups != group
        expected = fit_baseline(design[others], values[others], None, weight[others], ridge)
        for row in np.flatnonzero(~others):
            np.testing.assert_allclose(got[row], expected, atol=1e-10)


def test_scikit_learn_tools_and_messages(waters):
    features, y = noisy(waters)
    model = TensorKernelRidge()
    again = clone(model).fit(features, y)
    np.testing.assert_array_equal(again.predict(features), model.fit(features, y).predict(features))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(features), model.predict(features))
    GridSearchCV(model, {"kernel": [CovariantKernel(1), CovariantKernel(2)]}, cv=3).fit(features, y)
    for alphas in ([], [0.0, 1.0], [-1.0], ["a"], np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="must be positive, finite numbers, at least one"):
            TensorKernelRidge(alphas).fit(features, y)
    with pytest.warns(UserWarning, match="the best alpha of 2e is the largest of those tried, 1e-05"):
        TensorKernelRidge([1e-9, 1e-5]).fit(features, y)
    one = TensorKernelRidge(baseline=None).fit(features[:1], y[:1])  # nothing is left to choose by
    assert np.linalg.norm(one.predict(features[:1]) - y[:1]) < 0.2 * np.linalg.norm(y[:1])
    assert np.isfinite(one.best_score_)


def test_a_warning_at_both_ends(waters):
    features, y = noisy(waters)
    frames, vector, *_ = waters
    exact = LambdaSOAP(**SMALL).fit_transform(frames, vector)
    with pytest.warns(UserWarning, match=r"the best alpha of 1o is the smallest of those tried, 0.1: try smaller ones"):
        TensorKernelRidge([0.1, 1.0]).fit(exact, vector)
    with pytest.warns(UserWarning, match="the best alpha of 2e is the largest of those tried, 1e-05"):
        TensorKernelRidge([1e-9, 1e-5]).fit(features, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TensorKernelRidge([0.1]).fit(exact, vector)  # nothing was chosen
        TensorKernelRidge().fit(exact, vector)
        # below rounding there is nothing to be found
        TensorKernelRidge([1e-20, 1e-3]).fit(exact, vector)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e7])
def test_the_default_range_has_the_scale_of_the_kernel(waters, scale):
    """Without noise a much wider range has little more to offer, whatever the size of the features."""
    frames, vector, *_ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, vector)
    for block in features.blocks.values():
        block *= scale
    for kernel in (CovariantKernel(2, False), CovariantKernel(1, False, "mean")):
        fitted = TensorKernelRidge(kernel=kernel).fit(features, vector)
        diagonal = np.mean(np.einsum("nnaa->na", kernel(features, irrep="1o")))
        wide = diagonal * 10.0 ** np.arange(-20, 6)
        best = np.nanmin(TensorKernelRidge(wide, kernel=kernel).fit(features, vector).cv_results_["1o"])
        assert np.nanmin(fitted.cv_results_["1o"]) < 3 * best
        exponents = np.log10(fitted.cv_results_["alpha"])
        np.testing.assert_allclose(np.diff(exponents), 1.0)
        assert exponents[0] < np.log10(diagonal) - 9
        assert exponents[-1] > np.log10(diagonal) + 1.9


def test_each_irrep_has_its_own_range(waters):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    features.blocks["2e"] *= 1e4
    fitted = TensorKernelRidge(kernel=CovariantKernel(1, False)).fit(features, matrix)
    tried = {irrep: np.isfinite(fitted.cv_results_[irrep]) for irrep in ("0e", "2e")}
    assert tried["0e"][0]
    assert not tried["2e"][0]
    assert tried["2e"][-1]
    for irrep, alpha in fitted.alpha_.items():
        assert alpha == fitted.cv_results_["alpha"][np.nanargmin(fitted.cv_results_[irrep])]


@pytest.mark.parametrize("per_atom", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_max", [1, 3], ids=["fewer features", "fewer labels"])
def test_linear_errors_are_those_of_refits(waters, per_atom, weighted, n_max):
    """With few features the matrix of these is decomposed, with many that of the labels."""
    frames, matrix = waters[0][:16], waters[2][:16]
    random = np.random.default_rng(0)
    features = LambdaSOAP(**{**SMALL, "n_max": n_max, "l_max": 1}, irreps="0e+2e").fit_transform(frames)
    y = [matrix[k] + np.eye(3) * random.normal(size=(3, 1, 1)) for k in range(16)] if per_atom else matrix
    weight = random.uniform(0.2, 2.0, size=16) if weighted else None
    fitted = TensorRidge([1e-2], target="ij=ji").fit(features, y, weight)
    squares = []
    for k in range(16):
        others = np.delete(np.arange(16), k)
        of_others = None if weight is None else weight[others]
        one = TensorRidge(1e-2, target="ij=ji", baseline=None).fit(features[others], [y[j] for j in others], of_others)
        squares.append(np.mean((np.asarray(one.predict(features[[k]])[0]) - y[k]) ** 2 * 9))
    fitted = TensorRidge([1e-2], target="ij=ji", baseline=None).fit(features, y, weight)
    np.testing.assert_allclose(-fitted.best_score_, np.sqrt(np.average(squares, weights=weight)), rtol=1e-8)


@pytest.mark.parametrize("baseline", ["composition", None])
def test_linear_and_kernel_choose_alike(waters, baseline):
    features, y = noisy(waters)
    kernel = TensorKernelRidge(ALPHAS, kernel=CovariantKernel(zeta=1), baseline=baseline).fit(features, y)
    linear = TensorRidge(ALPHAS, baseline=baseline).fit(features, y)
    for irrep in ("0e", "2e"):
        np.testing.assert_allclose(linear.cv_results_[irrep], kernel.cv_results_[irrep], rtol=1e-6)
    assert linear.alpha_ == kernel.alpha_
    np.testing.assert_array_equal(
        linear.predict(features), TensorRidge(linear.alpha_, baseline=baseline).fit(features, y).predict(features)
    )


def test_parts_of_the_groups_change_nothing(waters, monkeypatch):
    features, y = noisy(waters)
    whole = [model().fit(features, y).cv_results_["2e"] for model in (TensorKernelRidge, TensorRidge)]
    monkeypatch.setattr("eqkernels.regression.leave_one_out._NUMBERS", 100)
    parts = [model().fit(features, y).cv_results_["2e"] for model in (TensorKernelRidge, TensorRidge)]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8)


def test_a_stated_alpha_leaves_no_results_of_a_choice(waters):
    features, y = noisy(waters)
    for model in (TensorKernelRidge(), TensorRidge()):
        model.fit(features, y).set_params(alpha=1e-3).fit(features, y)
        assert model.alpha_ == {"0e": 1e-3, "2e": 1e-3}
        assert not hasattr(model, "cv_results_")


@pytest.mark.parametrize("target", [CartesianTensor("i"), CartesianTensor("i", axial="i")])
@pytest.mark.parametrize("model", [TensorRidge(), TensorKernelRidge(), TensorKernelRidge(alpha=1e-9), TensorGPR()])
@pytest.mark.parametrize("perfect", [Atoms("H"), bulk("Si"), molecule("C2H4"), AMMONIA])
def test_features_that_vanish_or_cancel_by_symmetry(model, perfect, target):
    """Nothing can be learned from structures without a vector, so that nothing is made of their rounding."""
    if str(perfect.symbols) == "NH3" and not target.axial:
        pytest.skip("ammonia has a polar vector")
    frames, y = [perfect] * 3, np.random.default_rng(0).normal(size=(3, 3))
    model = clone(model).set_params(descriptor=LambdaSOAP(2.8, n_max=2, l_max=2), target=target)
    with pytest.warns(UserWarning, match="vanish by symmetry in all structures"):
        model.fit(frames, y)
    distorted = perfect.copy()
    distorted.rattle(0.1)
    assert not model.predict([perfect, distorted]).any()
    if isinstance(model, TensorGPR):
        _, std = model.predict([perfect, distorted], return_std=True)
        assert (std > 0.5 * np.std(y)).all()
        assert (std < 5 * np.std(y)).all()


def test_stated_hyperparameters_stay_where_features_vanish():
    model = TensorGPR(signal_variance=2.0, noise=0.3, optimizer=None, descriptor=LambdaSOAP(2.8, n_max=2), target="i")
    with pytest.warns(UserWarning, match="vanish by symmetry in all structures"):
        model.fit([bulk("Si")] * 3, np.eye(3))
    assert model.signal_variance_["1o"] == pytest.approx(2.0)
    assert model.noise_["1o"] == pytest.approx(0.3)
    assert not model.predict([bulk("Si")]).any()
