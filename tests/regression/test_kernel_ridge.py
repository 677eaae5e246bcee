import pickle
import warnings

import joblib
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from sklearn.pipeline import Pipeline, make_pipeline

from eqkernels import (
    CartesianTensor,
    CovariantKernel,
    LambdaSOAP,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.kernels import TensorKernel
from eqkernels.metrics import neg_frobenius_rmse, neg_irrep_rmse
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames, water_set

SMALL = {"cutoff": 3.0, "n_max": 4, "l_max": 3, "sigma": 0.4}
MODELS = [TensorKernelRidge(alpha=1e-8), TensorRidge(alpha=1e-8)]


def model(regressor=None, **options):
    return make_pipeline(LambdaSOAP(**SMALL, **options), clone(regressor or TensorKernelRidge(alpha=1e-8)))


@pytest.mark.parametrize("regressor", MODELS, ids=["kernel", "linear"])
def test_learns_vectors_matrices_and_scalars(waters, regressor):
    frames, *targets = waters
    for y in targets:
        fitted = model(regressor).fit(frames[:30], y[:30])
        assert fitted.predict(frames[30:]).shape == y[30:].shape
        assert fitted.score(frames[30:], y[30:]) > 0.995
        assert_equivariant(fitted, frames[30:33], tolerance=1e-9)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("n_species", [1, 4])
def test_predictions_are_equivariant(periodic, n_species):
    frames = random_frames(n_species, n_frames=8, n_species=n_species, periodic=periodic)
    random = np.random.default_rng(0)
    y = random.normal(size=(8, 3, 3))
    fitted = model(TensorKernelRidge(alpha=1e-2)).fit(frames, y)
    assert fitted[-1].target_ == "ij"
    assert_equivariant(fitted, frames)


@pytest.mark.parametrize("name", ["CO2", "C2H2", "C2H4", "C6H6"])
@pytest.mark.parametrize("regressor", MODELS, ids=["kernel", "linear"])
def test_centrosymmetric_molecules_have_no_dipole_whatever_the_training_data(name, regressor):
    frames = [molecule(one) for one in ("H2O", "CH3OH", "CH3CHO", "C6H6", "CO")]
    y = np.random.default_rng(1).normal(size=(5, 3))  # benzene's among them cannot be fitted, by symmetry
    fitted = model(clone(regressor).set_params(alpha=1e-6)).fit(frames, y)
    assert np.abs(fitted.predict([molecule("CH3OH")])).max() > 1e-3
    assert np.abs(fitted.predict([molecule(name)])).max() < 1e-10


def test_pseudoscalars_tell_mirror_images_apart():
    chiral = random_frames(4, n_frames=6, n_species=3, n_atoms=(4, 6))
    mirrored = [atoms.copy() for atoms in chiral]
    for atoms in mirrored:
        atoms.positions[:, 2] *= -1
    frames = chiral + mirrored
    y = np.repeat([1.0, -1.0], 6)
    target = CartesianTensor("ijk=-jik=-ikj", axial="")  # the fully antisymmetric tensor: one pseudoscalar
    assert str(target.irreps) == "1x0o"
    tensors = target.to_cartesian({"0o": y[:, None, None]})
    pseudo = TensorKernelRidge(alpha=1e-6, descriptor=LambdaSOAP(4.0, n_max=3, l_max=3), target=target).fit(
        frames, tensors
    )
    np.testing.assert_allclose(pseudo.predict(frames), tensors, atol=1e-3)
    # scalars cannot: the prediction is the mean of both
    scalar = TensorKernelRidge(alpha=1e-6, descriptor=LambdaSOAP(4.0, n_max=3, l_max=3)).fit(frames, y)
    np.testing.assert_allclose(scalar.predict(frames), 0.0, atol=1e-6)


def test_linear_kernel_and_ridge_are_the_same_model(waters):
    frames, vector, matrix, scalar = waters
    weight = np.random.default_rng(0).uniform(0.1, 2.0, size=30)
    for y in (vector, matrix, scalar):
        for aggregate in ("sum", "mean"):
            kernel = TensorKernelRidge(alpha=1e-4, kernel=CovariantKernel(zeta=1, aggregate=aggregate))
            linear = TensorRidge(alpha=1e-4, aggregate=aggregate)
            first, second = (
                make_pipeline(LambdaSOAP(**SMALL), one).fit(frames[:30], y[:30], **{f"{name}__sample_weight": weight})
                for name, one in (("tensorkernelridge", kernel), ("tensorridge", linear))
            )
            np.testing.assert_allclose(first.predict(frames[30:]), second.predict(frames[30:]), atol=1e-8)


def test_solution_is_that_of_the_normal_equations(waters):
    frames, vector, *_ = waters
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    weight = np.random.default_rng(0).uniform(0.1, 2.0, size=len(frames))
    fitted = TensorKernelRidge(alpha=0.01).fit(features, vector, sample_weight=weight)
    kernel = CovariantKernel()(features, irrep="1o").transpose(0, 2, 1, 3).reshape(120, 120)
    expected = np.linalg.solve(kernel + 0.01 * np.diag(1 / np.repeat(weight, 3)), vector[:, [1, 2, 0]].ravel())
    np.testing.assert_allclose(fitted.dual_coef_["1o"].ravel(), expected, rtol=1e-8)


def test_a_weight_of_two_is_the_structure_twice_and_of_zero_never(waters):
    frames, vector, *_ = waters
    frames, vector = frames[:8], vector[:8]
    weight = np.array([2, 1, 1, 1, 1, 1, 1, 0])
    weighted = TensorKernelRidge(alpha=0.1, descriptor=LambdaSOAP(**SMALL)).fit(frames, vector, sample_weight=weight)
    order = [0, 0, 1, 2, 3, 4, 5, 6]
    repeated = TensorKernelRidge(alpha=0.1, descriptor=LambdaSOAP(**SMALL)).fit(
        [frames[k] for k in order], vector[order]
    )
    np.testing.assert_allclose(weighted.predict(frames), repeated.predict(frames), atol=1e-10)


def test_composition_is_fitted_first():
    frames = random_frames(2, n_frames=20, n_species=3)
    counts = np.array([[np.sum(atoms.numbers == z) for z in (1, 6, 7)] for atoms in frames])
    energy = counts @ [-0.5, -38.0, -54.0]
    fitted = TensorKernelRidge(alpha=10.0, descriptor=LambdaSOAP(**SMALL)).fit(frames[:15], energy[:15])
    np.testing.assert_allclose(fitted.predict(frames[15:]), energy[15:], rtol=1e-8)
    np.testing.assert_allclose(fitted.baseline_[:, 0], [-0.5, -38.0, -54.0], rtol=1e-8)
    mean = TensorKernelRidge(alpha=1e9, descriptor=LambdaSOAP(**SMALL), baseline="mean").fit(frames, energy)
    np.testing.assert_allclose(mean.predict(frames[:2]), energy.mean(), rtol=1e-4)
    intensive = TensorKernelRidge(
        alpha=10.0, descriptor=LambdaSOAP(**SMALL), kernel=CovariantKernel(aggregate="mean")
    ).fit(frames, counts @ [1.0, 2.0, 3.0] / counts.sum(axis=1))
    np.testing.assert_allclose(intensive.baseline_[:, 0], [1.0, 2.0, 3.0], rtol=1e-8)


def test_alpha_for_each_irrep(waters):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    first = TensorKernelRidge(alpha={"0e": 1e-8, "2e": 1e-2}).fit(features, matrix)
    second = TensorKernelRidge(alpha={"2e": 1e-2, "0e": 1e-8}).fit(features, matrix)
    both = TensorKernelRidge(alpha=1e-2).fit(features, matrix)
    for key in ("0e", "2e"):
        np.testing.assert_array_equal(first.dual_coef_[key], second.dual_coef_[key])
    np.testing.assert_array_equal(first.dual_coef_["2e"], both.dual_coef_["2e"])
    assert np.abs(first.dual_coef_["0e"] - both.dual_coef_["0e"]).max() > 1e-3


def test_one_precomputed_kernel_for_all_alphas(waters):
    frames, vector, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    blocks = CovariantKernel().blocks(features)
    grid = {"alpha": [1e-8, 1e-4, 1.0]}
    direct = GridSearchCV(TensorKernelRidge(), grid, cv=4).fit(features, matrix)
    precomputed = GridSearchCV(TensorKernelRidge(kernel="precomputed"), grid, cv=4).fit(blocks, matrix)
    np.testing.assert_allclose(
        direct.cv_results_["mean_test_score"], precomputed.cv_results_["mean_test_score"], rtol=1e-7
    )
    # a single irrep may come as a plain array
    array = CovariantKernel()(LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames), irrep="1o")
    fitted = TensorKernelRidge(kernel="precomputed", alpha=1e-8).fit(array[:30, :30], vector[:30])
    assert fitted.score(array[30:, :30], vector[30:]) > 0.99
    with pytest.raises(ValueError, match="must be square"):
        TensorKernelRidge(kernel="precomputed").fit(array[:, :3], vector)
    with pytest.raises(ValueError, match="no block 0e"):
        TensorKernelRidge(kernel="precomputed").fit(array, matrix)


def test_labels_of_atoms(waters):
    frames, *_ = waters
    y = []
    for atoms in frames:
        bonds = atoms.positions[1:] - atoms.positions[0]
        both = bonds.sum(axis=0)
        # not symmetric, and different for the two hydrogens
        y.append(np.array([np.outer(both, both), np.outer(bonds[0], both), np.outer(bonds[1], both)]))
    y[0][1] = np.nan
    y[3][:] = np.nan
    pipeline = model(TensorKernelRidge(alpha=1e-6, per_atom=True))
    pipeline.fit(frames[:30], y[:30])
    predicted = pipeline.predict(frames[30:])
    assert [one.shape for one in predicted] == [(3, 3, 3)] * 10
    assert pipeline.score(frames[30:], y[30:]) > 0.98
    assert_equivariant(pipeline, frames[30:32], tolerance=1e-9)
    oxygens = model(TensorKernelRidge(alpha=1e-6, target="ij=ji"), center_species=["O"])
    with pytest.raises(ValueError, match="structure 0, atom 2 has a label but is not a center"):
        oxygens.fit(frames, y)
    for one in y:
        one[1:] = np.nan
    predicted = oxygens.fit(frames, y).predict(frames[:1])[0]
    assert np.isnan(predicted[1:]).all()
    assert np.isfinite(predicted[0]).all()
    assert np.isfinite(cross_val_score(oxygens, frames, y, cv=3)).all()


def test_antisymmetric_noise_is_measured_and_told(waters):
    frames, _, matrix, _ = waters
    noisy = matrix + 1e-5 * np.random.default_rng(0).normal(size=matrix.shape)
    with pytest.warns(UserWarning, match=r"symmetric under 'ij=ji' only to .*e-06 of its norm"):
        fitted = model().fit(frames, noisy)
    predicted = fitted.predict(frames)
    np.testing.assert_allclose(predicted, predicted.swapaxes(1, 2), atol=1e-14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model().fit(frames, matrix)
        model(TensorKernelRidge(target="ij"), irreps="0e+1e+2e").fit(frames, noisy)
    skew = matrix + np.array([[0, 0.5, 0], [-0.5, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"breaks the declared symmetry 'ij=ji': .* \(inferred: target='ij'\)"):
        model(TensorKernelRidge(target="ij=ji")).fit(frames, skew)


def test_scikit_learn_tools(waters, tmp_path):
    frames, _, matrix, _ = waters
    pipeline = Pipeline(
        [("soap", LambdaSOAP(**SMALL)), ("model", TensorKernelRidge(kernel=CovariantKernel()))],
        memory=str(tmp_path / "cache"),
    )
    grid = {
        "soap__cutoff": [2.5, 3.0],
        "soap__sigma": [0.3],
        "model__kernel__zeta": [1, 2],
        "model__alpha": [1e-8, 1e-4],
    }
    search = GridSearchCV(pipeline, grid, cv=5, n_jobs=2).fit(frames, matrix)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.9
    best = search.best_estimator_
    expected = best.predict(frames)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(best)).predict(frames), expected)
    joblib.dump(best, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict(frames), expected)
    np.testing.assert_array_equal(clone(best).fit(frames, matrix).predict(frames), expected)
    assert (cross_val_score(best, frames, matrix, cv=3) > 0.9).all()
    sizes, _, scores = learning_curve(best, frames, matrix, cv=3, train_sizes=[5, 20])
    assert scores.mean(axis=1)[1] > scores.mean(axis=1)[0]
    scoring = {"all": neg_frobenius_rmse, "2e": neg_irrep_rmse("2e")}
    GridSearchCV(pipeline, {"model__alpha": [1e-8, 1.0]}, scoring=scoring, refit="2e", cv=3, n_jobs=2).fit(
        frames, matrix
    )


def test_frames_and_features_give_the_same(waters):
    frames, vector, *_ = waters
    descriptor = LambdaSOAP(**SMALL)
    features = descriptor.fit_transform(frames, vector)
    of_features = TensorKernelRidge().fit(features, vector)
    of_frames = TensorKernelRidge(descriptor=descriptor).fit(frames, vector)
    np.testing.assert_array_equal(of_features.predict(features), of_frames.predict(frames))
    with pytest.raises(TypeError, match="transform the frames with the same descriptor first"):
        of_features.predict(frames)


def test_species_without_training_data():
    frames = random_frames(3, n_frames=4, n_species=1) + random_frames(4, n_frames=4, n_species=2)
    features = LambdaSOAP(**SMALL).fit_transform(frames)
    fitted = TensorKernelRidge().fit(features[:4], np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"species C \(first in structure 0, atom \d\) was not a center species"):
        fitted.predict(features[4:])
    labels = [np.where(atoms.numbers[:, None] == 1, 1.0, np.nan) * np.ones(3) for atoms in frames]
    for regressor in (TensorKernelRidge(target="i"), TensorRidge(target="i")):
        predicted = regressor.fit(features, labels).predict(features)
        for atoms, one in zip(frames, predicted, strict=True):
            np.testing.assert_array_equal(np.isnan(one).any(axis=1), atoms.numbers != 1)


def test_singular_kernel_gives_the_shortest_solution(waters):
    frames, vector, *_ = waters
    twice = frames[:5] + frames[:5]
    fitted = TensorKernelRidge(alpha=0.0, descriptor=LambdaSOAP(**SMALL))
    with pytest.warns(UserWarning, match="singular to rounding"):
        fitted.fit(twice, np.concatenate([vector[:5], vector[:5]]))
    np.testing.assert_allclose(fitted.predict(frames[:5]), vector[:5], atol=1e-5)


def test_prediction_in_blocks(waters, monkeypatch):
    frames, vector, *_ = waters
    fitted = TensorKernelRidge(descriptor=LambdaSOAP(**SMALL)).fit(frames, vector)
    whole = fitted.predict(frames)
    monkeypatch.setattr("eqkernels.regression.base._STRUCTURES_PER_BLOCK", 7)
    np.testing.assert_allclose(fitted.predict(frames), whole, atol=1e-12)


def test_input_is_left_alone(waters):
    frames, _, matrix, _ = waters
    before = [atoms.copy() for atoms in frames], matrix.copy()
    model().fit(frames, matrix).predict(frames)
    assert all(a == b for a, b in zip(frames, before[0], strict=True))
    np.testing.assert_array_equal(matrix, before[1])
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    blocks = CovariantKernel().blocks(features)
    kernel = blocks.blocks["0e"].copy()
    TensorKernelRidge(kernel="precomputed").fit(blocks, matrix)
    np.testing.assert_array_equal(blocks.blocks["0e"], kernel)


@pytest.mark.parametrize(
    "model", [TensorKernelRidge(1e-4), TensorGPR(optimizer=None), SparseTensorGPR(9, noise=1e-3, random_state=0)]
)
def test_aggregate_is_stated_in_the_model_or_the_kernel(model):
    frames, vector = water_set(12, seed=0)[:2]
    means = clone(model).set_params(aggregate="mean").fit(frames, vector).predict(frames[:3])
    of_kernel = clone(model).set_params(kernel=CovariantKernel(aggregate="mean")).fit(frames, vector)
    np.testing.assert_array_equal(of_kernel.predict(frames[:3]), means)
    doubled = [atoms + Atoms(atoms, positions=atoms.positions + 50.0) for atoms in frames[:3]]
    intensive = clone(model).set_params(aggregate="mean").fit(frames, vector)
    np.testing.assert_allclose(intensive.predict(doubled), means, atol=1e-9)
    with pytest.raises(ValueError, match="aggregate='mean', but kernel=.* has 'sum': state it once"):
        clone(model).set_params(aggregate="mean", kernel=CovariantKernel()).fit(frames, vector)
    with pytest.raises(ValueError, match="aggregate='median' must be one of"):
        clone(model).set_params(aggregate="median").fit(frames, vector)


class Own(TensorKernel):
    """A kernel that has nothing but the method that the base class asks for."""

    def __call__(self, X, Y=None, irrep="0e"):
        return CovariantKernel(zeta=1, normalize=False)(X, Y, irrep=irrep)


@pytest.mark.parametrize("kernel", [CovariantKernel(zeta=1, normalize=False), Own()])
@pytest.mark.parametrize("estimator", [TensorKernelRidge(), TensorKernelRidge(1e-6), TensorGPR()])
def test_features_without_invariants(waters, kernel, estimator):
    frames, vector, *_ = waters
    features = LambdaSOAP(cutoff=3.5, n_max=3, l_max=2, irreps="1o").fit_transform(frames)
    estimator = clone(estimator).set_params(kernel=kernel, target="i").fit(features[:30], vector[:30])
    assert estimator.score(features[30:], vector[30:]) > 0.9
