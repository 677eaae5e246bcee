import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from eqkernels import (
    CovariantKernel,
    EquivariantUnion,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
)
from eqkernels.datasets import load_water_clusters
from eqkernels.kernels import Restricted
from eqkernels.metrics import frobenius_rmse
from eqkernels.so3 import CartesianTensor, wigner_d
from eqkernels.testing import assert_equivariant, random_rotation, transformed
from tests.conftest import random_frames, water_set

SMALL = {"cutoff": 3.0, "n_max": 3, "l_max": 2, "sigma": 0.4}
FREE = 0.8 * CovariantKernel(zeta=3)
KERNELS = {
    "default": None,
    "factor": FREE,
    "sum": 0.3 * CovariantKernel(zeta=1) + 2.0 * FREE,
    "product": FREE * (CovariantKernel(zeta=2) + 0.2 * CovariantKernel(zeta=1, aggregate="mean")),
    "species": 1.0 * Restricted(FREE, center_species="O") + 1.0 * Restricted(CovariantKernel(), center_species=1),
}
QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def data():
    frames, vector, matrix, scalar = water_set(14, seed=3)
    random = np.random.default_rng(0)
    noise = {name: 0.05 * random.normal(size=y.shape) for name, y in (("vector", vector), ("scalar", scalar))}
    noisy = matrix + 0.05 * (lambda e: e + e.swapaxes(1, 2))(random.normal(size=matrix.shape))
    rank3 = np.einsum("na,nbc->nabc", vector, noisy) + 0.05 * random.normal(size=(14, 3, 1, 1)) * noisy[:, None]
    targets = {"vector": vector + noise["vector"], "matrix": noisy, "scalar": scalar + noise["scalar"], "rank3": rank3}
    features = LambdaSOAP(**SMALL, irreps="0e+1o+2e+2o+3o+0o").fit_transform(frames)
    return frames, features, targets


def dense(kernel, features, irrep):
    n, _, d, _ = (matrix := kernel(features, irrep=irrep)).shape
    return matrix.transpose(0, 2, 1, 3).reshape(n * d, n * d)


def log_gaussian(y, covariance):
    sign, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    return -0.5 * y @ np.linalg.solve(covariance, y) - 0.5 * log_det


def reflected_tensors(atoms):
    """Normal of the plane of a water molecule, and the symmetric tensors that its reflection leaves as they are."""
    normal = np.cross(*(atoms.positions[1:] - atoms.positions[0]))
    mirror = np.eye(3) - 2 * np.outer(normal, normal) / (normal @ normal)
    tensors = [np.eye(3)[[a]].T @ np.eye(3)[[b]] for a in range(3) for b in range(a, 3)]
    tensors = [one + one.T for one in tensors]
    return normal, [one + mirror @ one @ mirror for one in tensors]


def allowed_in_plane(frames, irrep):
    """Orthonormal axes of the components of symmetric tensors that the planes of water molecules allow."""
    blocks = []
    for atoms in frames:
        components = CartesianTensor("ij=ji").to_irreps(np.stack(reflected_tensors(atoms)[1]))[irrep][..., 0]
        axes, sizes, _ = np.linalg.svd(components.T)
        blocks.append(axes[:, : np.sum(sizes > 1e-10)])
    return block_diag(*blocks)


@QUIET
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("criterion", ["lml", "loo_density", "loo_error"])
def test_gradients_are_finite_differences(data, name, criterion):
    _, features, targets = data
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=len(features))
    options = {"kernel": KERNELS[name], "signal_variance": 0.7, "noise": 0.02}
    for target in ("matrix", "rank3"):
        fitted = TensorGPR(**options, optimizer=None, per_atom=False).fit(
            features, targets[target], sample_weight=weight
        )
        theta = fitted.theta_ + 0.1
        _, gradient = fitted._evaluate(criterion, theta, True)
        for k in range(len(theta)):
            step = 1e-5 * np.eye(len(theta))[k]
            high, low = (fitted._evaluate(criterion, theta + sign * step, False) for sign in (1, -1))
            np.testing.assert_allclose(gradient[k], (high - low) / 2e-5, rtol=1e-6, atol=3e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("weighted", [False, True])
def test_marginal_likelihood_is_the_density_of_the_labels(data, weighted):
    _, features, targets = data
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=len(features)) if weighted else None
    options = {"signal_variance": 0.7, "noise": 0.02, "optimizer": None, "normalize_y": False, "baseline": None}
    fitted = TensorGPR(**options).fit(features, targets["matrix"], sample_weight=weight)
    expected = 0.0
    for irrep, block in CartesianTensor("ij=ji").to_irreps(targets["matrix"]).items():
        noise = np.repeat(np.ones(len(features)) if weight is None else 1 / weight, block.shape[1])
        covariance = 0.7 * (dense(CovariantKernel(), features, irrep) + 0.02 * np.diag(noise))
        axes = allowed_in_plane(data[0], irrep)
        expected += log_gaussian(axes.T @ block[..., 0].ravel(), axes.T @ covariance @ axes)
    np.testing.assert_allclose(fitted.log_marginal_likelihood(), expected, rtol=1e-9)
    np.testing.assert_allclose(fitted.log_marginal_likelihood(fitted.theta_), expected, rtol=1e-9)


def test_prediction_is_the_conditional_distribution(data):
    _, features, targets = data
    options = {"signal_variance": 0.7, "noise": 0.02 / 0.7, "optimizer": None, "normalize_y": False}
    fitted = TensorGPR(**options, kernel=FREE).fit(features[:10], targets["vector"][:10])
    order = [1, 2, 0]  # of l = 1: y, z, x
    full = 0.7 * dense(FREE, features, "1o")
    train, test = np.arange(30), np.arange(30, 42)
    gain = full[np.ix_(test, train)] @ np.linalg.inv(full[np.ix_(train, train)] + 0.02 * np.eye(30))
    mean = (gain @ targets["vector"][:10][:, order].ravel()).reshape(4, 3)
    cov = full[np.ix_(test, test)] - gain @ full[np.ix_(train, test)]
    latent = cov.reshape(4, 3, 4, 3)
    noisy = (cov + 0.02 * np.eye(12)).reshape(4, 3, 4, 3)
    predicted, joint = fitted.predict(features[10:], return_cov="joint")
    np.testing.assert_allclose(predicted[:, order], mean, atol=1e-9)
    np.testing.assert_allclose(joint[:, order][..., order], noisy, atol=1e-9)
    _, blocks = fitted.predict(features[10:], return_cov=True, include_noise=False)
    np.testing.assert_allclose(blocks[:, order][..., order], np.einsum("nanb->nab", latent), atol=1e-9)
    _, std = fitted.predict(features[10:], return_std=True)
    np.testing.assert_allclose(std[:, order], np.sqrt(np.einsum("nana->na", noisy)), atol=1e-9)
    equal = TensorKernelRidge(alpha=0.02 / 0.7, kernel=FREE).fit(features[:10], targets["vector"][:10])
    np.testing.assert_allclose(predicted, equal.predict(features[10:]), atol=1e-9)
    samples = fitted.sample_y(features[10:], n_samples=20000)
    assert samples.shape == (4, 3, 20000)
    np.testing.assert_allclose(samples.mean(axis=-1), predicted, atol=0.05 * np.sqrt(noisy.max()))
    flat = samples.reshape(12, -1)
    np.testing.assert_allclose(np.cov(flat), joint.reshape(12, 12), atol=0.05 * np.abs(noisy).max())


@QUIET
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_covariance_turns_with_the_structure_and_is_positive(periodic, aggregate):
    frames = random_frames(5, n_frames=9, n_species=3, periodic=periodic)
    random = np.random.default_rng(0)
    fitted = TensorGPR(
        CovariantKernel(aggregate=aggregate), descriptor=LambdaSOAP(**SMALL), target="ij"
    ).fit(frames[:6], random.normal(size=(6, 3, 3)))  # fmt: skip
    assert_equivariant(fitted, frames)
    assert_equivariant(lambda X: fitted.predict(X, return_cov=True)[1], frames[6:])
    assert_equivariant(lambda X: fitted.predict(X, return_cov=True, include_noise=False)[1], frames)
    _, cov = fitted.predict(frames, return_cov=True)
    eigenvalues = np.linalg.eigvalsh(cov.reshape(9, 9, 9))
    assert eigenvalues.min() > -1e-12 * eigenvalues.max()
    _, joint = fitted.predict(frames, return_cov="joint")
    eigenvalues = np.linalg.eigvalsh(joint.reshape(81, 81))
    assert eigenvalues.min() > -1e-12 * eigenvalues.max()
    np.testing.assert_allclose(np.einsum("nijnkl->nijkl", joint), cov, atol=1e-9 * np.abs(cov).max())
    rotation = random_rotation(1)
    turned = [transformed(atoms, rotation) for atoms in frames]
    _, before = fitted.predict_irreps(frames)
    for irrep, block in fitted.predict_irreps(turned)[1].items():
        d = wigner_d(irrep, rotation)
        np.testing.assert_allclose(block, d @ before[irrep] @ d.T, atol=1e-10 * np.abs(block).max())


@QUIET
def test_left_out_equals_refits(data):
    _, features, targets = data
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=len(features))
    for target in ("vector", "matrix", "scalar", "rank3"):
        y = targets[target]
        fitted = TensorGPR(normalize_y=False, kernel=FREE, per_atom=False).fit(features, y, sample_weight=weight)
        mean, cov = fitted.predict_left_out(return_cov=True)
        options = {"optimizer": None, "normalize_y": False, "target": fitted.target_}
        for k in range(0, len(features), 3):
            others = np.delete(np.arange(len(features)), k)
            for irrep in fitted.kernel_:
                refitted = TensorGPR(
                    fitted.kernel_[irrep], **options, signal_variance=fitted.signal_variance_[irrep],
                    noise=fitted.noise_[irrep],
                ).fit(features[others], y[others], sample_weight=weight[others])  # fmt: skip
                expected, spread = refitted.predict_irreps(features[[k]], include_noise=False)
                tensor = CartesianTensor(fitted.target_)
                got = tensor.to_irreps(mean[k])[irrep]
                np.testing.assert_allclose(got, expected[irrep][0], atol=1e-8 * np.abs(y).max())
                part = dict(zip(map(str, (i for _, i in tensor.irreps)), tensor.irreps.slices(), strict=True))[irrep]
                components = tensor.change_of_basis @ cov[k].reshape(3**tensor.rank, -1) @ tensor.change_of_basis.T
                one = refitted.copy_covariance_[irrep]
                if len(one) == 1:
                    noise = fitted.signal_variance_[irrep] * fitted.noise_[irrep] / weight[k]
                    wanted = spread[irrep][0] + noise * np.eye(len(spread[irrep][0]))
                    np.testing.assert_allclose(components[part, part], wanted, atol=1e-8 * np.abs(wanted).max())


def test_left_out_atoms_equal_refits(data):
    frames, features, _ = data
    random = np.random.default_rng(4)
    y = [np.outer(random.normal(size=3), [1.0, 0, 0]) + atoms.positions for atoms in frames]
    y[2][1] = np.nan
    options = {"normalize_y": False, "noise": 0.1, "optimizer": None, "target": "i"}
    fitted = TensorGPR(**options).fit(features, y)
    mean, std = fitted.predict_left_out(return_std=True)
    assert np.isnan(mean[2][1]).all()
    for k in (0, 2, 7):
        others = np.delete(np.arange(len(features)), k)
        refitted = TensorGPR(**options).fit(features[others], [y[j] for j in others])
        expected, spread = refitted.predict(features[[k]], return_std=True)
        labelled = ~np.isnan(y[k])
        np.testing.assert_allclose(mean[k][labelled], expected[0][labelled], atol=1e-8)
        np.testing.assert_allclose(std[k][labelled], spread[0][labelled], atol=1e-8)
    scalars = [atoms.positions[:, 0] ** 2 + atoms.numbers for atoms in frames]
    options["target"] = ""
    mean = TensorGPR(**options).fit(features, scalars).predict_left_out()
    refitted = TensorGPR(**options).fit(features[1:], scalars[1:])
    np.testing.assert_allclose(mean[0], refitted.predict(features[[0]])[0], atol=1e-8)


def test_left_out_criterion_is_the_sum_of_predictive_densities(data):
    _, features, targets = data
    y = targets["matrix"]
    fitted = TensorGPR(normalize_y=False, baseline=None, optimizer=None, noise=0.02).fit(features, y)
    mean, cov = fitted.predict_left_out(return_cov=True)
    basis = CartesianTensor("ij=ji").change_of_basis
    expected = 0.0
    for k, atoms in enumerate(data[0]):
        tensors = np.stack([value.ravel() for value in reflected_tensors(atoms)[1]], axis=1)
        error, spread = basis @ (y[k] - mean[k]).ravel(), basis @ cov[k].reshape(9, 9) @ basis.T
        left, sizes, _ = np.linalg.svd(basis @ tensors)
        axes = left[:, : np.sum(sizes > 1e-10)]
        expected += log_gaussian(axes.T @ error, axes.T @ spread @ axes)
    np.testing.assert_allclose(fitted.leave_one_out_criterion(), expected, rtol=1e-8)


@QUIET
@pytest.mark.parametrize("criterion", ["lml", "loo_density", "loo_error"])
def test_the_optimum_is_one_and_is_found_again(data, criterion):
    _, features, targets = data
    options = {"criterion": criterion, "random_state": 5, "n_restarts_optimizer": 2}
    kernel = 0.3 * CovariantKernel(zeta=1) + 2.0 * CovariantKernel(zeta=3)
    fitted, again = (TensorGPR(kernel, **options).fit(features, targets["matrix"]) for _ in range(2))
    np.testing.assert_array_equal(fitted.theta_, again.theta_)
    np.testing.assert_array_equal(
        fitted.predict(features, return_cov=True)[1], again.predict(features, return_cov=True)[1]
    )
    best = fitted._evaluate(criterion, fitted.theta_, False)
    random = np.random.default_rng(0)
    for _ in range(20):
        assert (
            fitted._evaluate(criterion, fitted.theta_ + 0.2 * random.normal(size=len(fitted.theta_)), False)
            < best + 1e-3
        )


@QUIET
@pytest.mark.parametrize("criterion", ["lml", "loo_density", "loo_error"])
def test_exponents_are_the_best_of_those_within_the_bounds(data, criterion):
    _, features, targets = data
    options = {"criterion": criterion, "signal_variance_bounds": (1e-6, 1e6)}
    kernel = 0.3 * CovariantKernel(zeta=1) + CovariantKernel(zeta=3, zeta_bounds=(1.5, 5))
    fitted = TensorGPR(kernel, **options).fit(features, targets["matrix"])
    assert not any("zeta" in name for name in fitted.theta_names_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = {}
        for zeta in range(2, 6):
            fixed = 0.3 * CovariantKernel(zeta=1) + CovariantKernel(zeta)
            alone[zeta] = TensorGPR(fixed, **options).fit(features, targets["matrix"])
    for irrep, chosen in fitted.kernel_.items():
        values = {}
        for zeta, one in alone.items():
            features_of = one._problem(one.kernel_[irrep], features, irrep)
            signal, noise = one.signal_variance_[irrep], one.noise_[irrep]
            start = np.concatenate([np.log([signal, noise]), one.kernel_[irrep].theta])
            values[zeta] = features_of(criterion, start)[0]
        best = max(values, key=values.get)
        assert chosen.k2.zeta == best
        assert chosen.k1.factor == alone[best].kernel_[irrep].k1.factor
        assert fitted.noise_[irrep] == alone[best].noise_[irrep]
    kept = TensorGPR(kernel, optimizer=None).fit(features, targets["matrix"])
    assert {one.k2.zeta for one in kept.kernel_.values()} == {3}
    with pytest.warns(ConvergenceWarning, match="kernel__zeta of 1o ended at [23], a bound of its range 2 to 3"):
        TensorGPR(CovariantKernel(zeta_bounds=(2, 3)), criterion=criterion).fit(features, targets["vector"] ** 0)


def test_scale_of_the_default_covers_structures_left_out(data):
    _, features, targets = data
    y = targets["vector"]
    fitted = TensorGPR().fit(features, y)
    mean, cov = fitted.predict_left_out(return_cov=True)
    squares = [r @ np.linalg.solve(c, r) for r, c in zip(y - mean, cov, strict=True)]
    inside = chi2.cdf(squares, 3) <= 0.75
    assert abs(inside.mean() - 0.75) < 1.5 / len(y)


@pytest.mark.parametrize("noise", [1e-12, 1e-4])
def test_a_given_noise_leaves_error_bars_that_fit(data, noise):
    """Labels that have nothing to do with the structures, declared free of noise: the error bars must tell."""
    _, features, _ = data
    y = np.random.default_rng(7).normal(size=14)
    fitted = TensorGPR(noise=noise, noise_bounds="fixed").fit(features, y)
    mean, std = fitted.predict_left_out(return_std=True)
    ratio = np.sqrt(np.mean((mean - y) ** 2 / std**2))
    assert 0.5 < ratio < 2.0


def test_copies_of_one_structure_do_not_make_others_certain(waters):
    frames, vector, *_ = waters
    fitted = TensorGPR(descriptor=LambdaSOAP(**SMALL)).fit(frames[:1] * 6, np.tile(vector[0], (6, 1)))
    mean, std = fitted.predict(frames, return_std=True)
    np.testing.assert_allclose(mean[0], vector[0], atol=1e-6)
    assert std[1:].max() > 1e-3
    assert std[0].max() < 1e-3 * std[1:].max()


def test_two_length_scales_in_a_union():
    frames, vector, *_ = water_set(25, seed=1)
    union = EquivariantUnion([("near", LambdaSOAP(2.0, n_max=3, l_max=2)), ("far", LambdaSOAP(4.0, n_max=3, l_max=2))])
    near, far = (Restricted(CovariantKernel(), part=name) for name in ("near", "far"))
    model = make_pipeline(union, TensorGPR(1.0 * near + 1.0 * far)).fit(frames[:20], vector[:20])
    assert set(model[-1].theta_names_) >= {"1o__kernel__k1__factor", "1o__kernel__k2__factor"}
    assert model.score(frames[20:], vector[20:]) > 0.99
    alone = LambdaSOAP(2.0, n_max=3, l_max=2).fit_transform(frames, vector)
    np.testing.assert_allclose(
        near(union.fit(frames).transform(frames), irrep="1o"), CovariantKernel()(alone, irrep="1o")
    )


def test_hostile_data(waters):
    frames, vector, matrix, scalar = waters
    descriptor = LambdaSOAP(**SMALL)

    def check(model, frames, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mean, cov = model.fit(frames, y).predict(waters[0][30:], return_cov=True)
            assert np.isfinite(model.predict_left_out()).all()
        assert np.isfinite(mean).all()
        assert np.isfinite(cov).all()
        return mean, cov

    for criterion in ("lml", "loo_density", "loo_error"):
        model = TensorGPR(descriptor=descriptor, criterion=criterion)
        for y in (vector, matrix, scalar):
            check(model, frames[:1], y[:1])
            check(model, frames[:2] + frames[:2], np.concatenate([y[:2], y[:2]]))
            check(model, frames[:2] + frames[:2], np.concatenate([y[:2], y[2:4]]))
            check(clone(model).set_params(noise=1e-12, noise_bounds="fixed"), frames[:20], y[:20])
        mean, cov = check(model, frames[:5], np.full(5, -76.3))
        np.testing.assert_allclose(mean, -76.3)
        assert (cov == 0).all()
        check(model, frames[:5], np.zeros((5, 3)))
        check(model, frames[:5], np.tile(np.eye(3), (5, 1, 1)))
    with pytest.warns(UserWarning, match="the labels have no part 0e beyond the baseline: it is predicted with zero"):
        TensorGPR(descriptor=descriptor).fit(frames[:5], np.ones(5))
    with pytest.warns(ConvergenceWarning, match="signal_variance of 1o ended at .* a bound of its range"):
        TensorGPR(descriptor=descriptor, signal_variance_bounds=(1e-9, 1e-8)).fit(frames, vector)
    from ase.build import molecule

    symmetric = [molecule("CO2"), molecule("C2H2"), molecule("C6H6"), molecule("C2H4"), molecule("H2CO")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = TensorGPR(descriptor=descriptor).fit(symmetric[:4], np.random.default_rng(0).normal(size=(4, 3)))
        assert np.isfinite(fitted.predict(symmetric[:4], return_cov=True)[1]).all()


def test_weight_zero_is_absence(waters):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    weight = np.ones(20)
    weight[[3, 8]] = 0
    first = TensorGPR(baseline="mean").fit(features[:20], matrix[:20], sample_weight=weight)
    kept = np.flatnonzero(weight)
    second = TensorGPR(baseline="mean").fit(features[kept], matrix[kept])
    np.testing.assert_allclose(first.predict(features[20:]), second.predict(features[20:]), atol=1e-7)
    assert np.flatnonzero(np.isnan(first.predict_left_out()[:, 0, 0])).tolist() == [3, 8]


def test_tensors_of_atoms(waters):
    frames, *_ = waters
    centered = [atoms.positions - atoms.positions.mean(axis=0) for atoms in frames]
    y = [np.einsum("ni,nj->nij", one, one[[1, 2, 0]]) for one in centered]
    y[0][1] = np.nan
    model = make_pipeline(LambdaSOAP(**SMALL, irreps="0e+1e+2e"), TensorGPR(target="ij")).fit(frames[:20], y[:20])
    mean, cov = model.predict(frames[20:24], return_cov=True)
    assert [one.shape for one in cov] == [(3, 3, 3, 3, 3)] * 4
    _, joint = model.predict(frames[20:24], return_cov="joint")
    assert joint.shape == (12, 3, 3, 12, 3, 3)
    np.testing.assert_allclose(np.einsum("nijnkl->nijkl", joint), np.concatenate(cov), atol=1e-9 * np.abs(joint).max())
    assert_equivariant(lambda X: model.predict(X, return_cov=True)[1], frames[20:22], tolerance=1e-9)
    assert [one.shape for one in model[-1].sample_y(model[0].transform(frames[20:22]), 5)] == [(3, 3, 3, 5)] * 2
    model[-1].recalibrate(model[0].transform(frames[20:]), y[20:])
    assert set(model[-1].recalibration_) == {"0e", "1e", "2e"}


def test_recalibration_fits_the_scale(waters):
    frames, _, matrix, _ = waters
    features = LambdaSOAP(**SMALL).fit_transform(frames, matrix)
    fitted = TensorGPR(optimizer=None, signal_variance=100.0, noise=1e-3).fit(features[:20], matrix[:20])
    before, far = fitted.predict(features[20:], return_cov=True)
    after, cov = fitted.recalibrate(features[20:], matrix[20:]).predict(features[20:], return_cov=True)
    np.testing.assert_array_equal(before, after)
    residuals = CartesianTensor("ij=ji").to_irreps(matrix[20:] - after)
    _, blocks = fitted.predict_irreps(features[20:])
    for irrep, residual in residuals.items():
        ratio = np.sum(residual**2, axis=(1, 2)) / np.einsum("naa->n", blocks[irrep])
        np.testing.assert_allclose(ratio.mean(), 1.0)
    assert not np.allclose(far, cov)


def test_scikit_learn_tools(waters, tmp_path):
    frames, _, matrix, _ = waters
    pipeline = make_pipeline(LambdaSOAP(**SMALL), TensorGPR())
    grid = {
        "tensorgpr__criterion": ["lml", "loo_density"],
        "tensorgpr__kernel": [CovariantKernel(1), CovariantKernel(2)],
    }
    search = GridSearchCV(pipeline, grid, cv=3).fit(frames, matrix)
    best = search.best_estimator_
    expected = best.predict(frames, return_std=True)
    for copy in (pickle.loads(pickle.dumps(best)), clone(best).fit(frames, matrix)):
        for a, b in zip(copy.predict(frames, return_std=True), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    joblib.dump(best, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict(frames), expected[0])
    assert (cross_val_score(best, frames, matrix, cv=3) > 0.9).all()


def test_optimizer_of_the_user(data):
    _, features, targets = data

    def nothing(obj_func, initial_theta, bounds):
        value, gradient = obj_func(initial_theta)
        assert len(gradient) == len(initial_theta) == len(bounds)
        return initial_theta, obj_func(initial_theta, eval_gradient=False)

    fitted = TensorGPR(optimizer=nothing, criterion="lml").fit(features, targets["matrix"])
    best = TensorGPR(criterion="lml").fit(features, targets["matrix"])
    assert fitted.log_marginal_likelihood_value_ <= best.log_marginal_likelihood_value_
    fixed = TensorGPR(noise_bounds="fixed", noise=0.3).fit(features, targets["matrix"])
    assert fixed.noise_["2e"] == pytest.approx(0.3)
    assert fixed.theta_names_ == ["0e__signal_variance", "2e__signal_variance"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel": "precomputed"}, TypeError, "must be a kernel such as"),
        ({"criterion": "aic"}, ValueError, "criterion='aic' must be one of"),
        ({"optimizer": "adam"}, ValueError, "must be 'fmin_l_bfgs_b', a callable or None"),
        ({"noise": 0.0}, ValueError, "noise=0.0 must be a positive"),
        ({"noise": {"1o": 1.0}}, ValueError, "noise has the irreps .*, the target has"),
        ({"signal_variance_bounds": (2, 1)}, ValueError, "the smaller first, or 'fixed'"),
        ({"n_restarts_optimizer": -1}, ValueError, "n_restarts_optimizer=-1 must be an integer"),
        ({"kernel": CovariantKernel(zeta_bounds=3)}, ValueError, "zeta_bounds=3 must be a pair"),
        ({"kernel": CovariantKernel(zeta_bounds=(2.2, 2.8))}, ValueError, "contains no positive integer"),
        ({"kernel": CovariantKernel(zeta=1.5)}, ValueError, "zeta=1.5 must be an integer, at least 1"),
    ],
)
def test_messages(data, options, error, message):
    _, features, targets = data
    with pytest.raises(error, match=message):
        TensorGPR(**options).fit(features, targets["matrix"])


def test_messages_of_predict(data):
    frames, features, targets = data
    fitted = TensorGPR().fit(features, targets["matrix"])
    with pytest.raises(ValueError, match="at most one of return_std and return_cov"):
        fitted.predict(features, return_std=True, return_cov=True)
    with pytest.raises(ValueError, match="return_cov='all' must be True, False or 'joint'"):
        fitted.predict(features, return_cov="all")
    with pytest.raises(TypeError, match="transform the frames with the same descriptor"):
        fitted.predict(frames, return_cov="joint")
    with pytest.raises(ValueError, match=r"theta has shape \(1,\), expected \(4,\)"):
        fitted.log_marginal_likelihood([0.0])
    with pytest.raises(ValueError, match="criterion='lml' must be one of"):
        fitted.leave_one_out_criterion(criterion="lml")


def test_a_kernel_that_cannot_fit_in_memory_is_told_before(data, monkeypatch):
    _, features, targets = data
    monkeypatch.setattr("eqkernels._memory.memory_limit", lambda: 1e4)
    with pytest.raises(
        MemoryError,
        match=r"TensorGPR: the exact kernel of 14 .* 70 components, would take .* this process may use .*Sparse",
    ):
        TensorGPR().fit(features, targets["matrix"])


def test_units_of_the_labels_do_not_matter(data):
    _, features, targets = data
    first = TensorGPR().fit(features[:10], targets["matrix"][:10])
    mean, std = first.predict(features[10:], return_std=True)
    for unit in (1e-15, 1e9):
        second = TensorGPR().fit(features[:10], unit * targets["matrix"][:10])
        scaled_mean, scaled_std = second.predict(features[10:], return_std=True)
        np.testing.assert_allclose(scaled_mean / unit, mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(scaled_std / unit, std, rtol=1e-4)


@pytest.mark.parametrize("model", [TensorGPR(), SparseTensorGPR(10), TensorCommittee(n_estimators=4, random_state=0)])
def test_a_recalibration_that_fails_changes_nothing(data, model):
    _, features, targets = data
    with pytest.raises(NotFittedError):
        clone(model).recalibrate(features, targets["matrix"])
    model.fit(features[:10], targets["matrix"][:10]).recalibrate(features[10:], targets["matrix"][10:])
    before = dict(model.recalibration_)
    for y in (targets["vector"][10:], targets["matrix"][:2]):
        with pytest.raises(ValueError, match=r"trailing shape|inconsistent numbers"):
            model.recalibrate(features[10:], y)
        assert model.recalibration_ == before


def test_recalibration_of_an_irrep_without_labels(data):
    _, features, targets = data
    with pytest.warns(UserWarning, match="the labels have no part 1e: it is predicted with zero variance"):
        fitted = TensorGPR(target="ij").fit(
            LambdaSOAP(**SMALL, irreps="0e+1e+2e").fit_transform(data[0])[:10], targets["matrix"][:10]
        )
    rest = LambdaSOAP(**SMALL, irreps="0e+1e+2e").fit_transform(data[0])[10:]
    assert fitted.recalibrate(rest, targets["matrix"][10:]).recalibration_["1e"] == 1.0
    with pytest.raises(ValueError, match="all predicted variances of 1e are zero, the errors are not: no factor"):
        fitted.recalibrate(rest, targets["matrix"][10:] + [[0, 1, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("name", ["dipole", "polarizability"])
def test_default_settings_need_no_tuning(name):
    data = load_water_clusters()
    dimers = [k for k, atoms in enumerate(data.frames) if len(atoms) == 6]
    y = data[name][dimers]
    features = LambdaSOAP(4.5, n_max=4, l_max=3, sigma=0.5).fit_transform([data.frames[k] for k in dimers], y)
    train, test = np.arange(90), np.arange(90, len(dimers))
    square, crossed = (CovariantKernel().blocks(features[rows], features[train]) for rows in (train, test))
    errors = []
    for alpha in 10.0 ** np.arange(-8, 1):
        ridge = TensorKernelRidge(alpha, kernel="precomputed").fit(square, y[train])
        errors.append(frobenius_rmse(y[test], ridge.predict(crossed)))
    mean, std = TensorGPR().fit(features[train], y[train]).predict(features[test], return_std=True)
    assert frobenius_rmse(y[test], mean) < 1.1 * min(errors)
    inside = [np.mean(np.abs(mean - y[test]) <= width * std) for width in (1.0, 1.96)]
    assert 0.55 < inside[0] < 0.8
    assert 0.85 < inside[1] < 0.99


@pytest.mark.parametrize("kernel", [CovariantKernel(1), CovariantKernel(2), CovariantKernel(2, False)])
@pytest.mark.parametrize("target", ["charges", "features"])
def test_error_bars_without_noise(kernel, target):
    """Labels that are a function of the structure: error bars are those of what was not learned, however small."""
    frames = water_set(160, seed=8)[0]
    descriptor = LambdaSOAP(4.0, n_max=2, l_max=2, irreps="0e+1o")
    features = descriptor.fit_transform(frames)
    y = np.array([[-0.4, 0.2, 0.2] @ atoms.positions for atoms in frames])
    if target == "features":
        block, random = features.blocks["1o"] / np.abs(features.blocks["1o"]).max(), np.random.default_rng(0)
        values = np.add.reduceat(block @ random.normal(size=block.shape[2]), features.offsets[:-1])
        y = CartesianTensor("i").to_cartesian({"1o": values[:, :, None]})
    new, left_out = [], []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(160)
        train, test = order[:80], order[80:]
        fitted = TensorGPR(kernel, target="i").fit(features[train], y[train])
        mean, std = fitted.predict(features[test], return_std=True)
        new.append(np.mean(np.abs(mean - y[test]) < std))
        mean, std = fitted.predict_left_out(return_std=True)
        left_out.append(np.mean(np.abs(mean - y[train]) < std))
        assert fitted.noise_["1o"] < 1e-6
    assert 0.6 < np.mean(new) < 0.8
    assert 0.6 < np.mean(left_out) < 0.8
    # neither batch nor orientation are seen
    mean, spread, rotation = fitted.predict(features[test]), np.std(y), random_rotation(2)
    turned = descriptor.transform([transformed(frames[k], rotation) for k in test[:20]])
    assert np.abs(fitted.predict(turned) - mean[:20] @ rotation.T).max() < 1e-8 * spread
    alone = np.concatenate([fitted.predict(features[[k]]) for k in test[:20]])
    assert np.abs(alone - mean[:20]).max() < 1e-8 * spread
