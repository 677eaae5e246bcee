import os
import pickle
import signal
import warnings

import joblib
import numpy as np
import pytest
from ase import Atoms
from scipy.linalg import block_diag
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from eqkernels import (
    CartesianTensor,
    CovariantKernel,
    EquivariantFeatures,
    LambdaSOAP,
    SparseTensorGPR,
    TensorKernelRidge,
)
from eqkernels.kernels import Scaled
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames, water_set

SMALL = {"cutoff": 3.0, "n_max": 4, "l_max": 3, "sigma": 0.4}
SOAP = LambdaSOAP(**SMALL)


def sparse(**options):
    return SparseTensorGPR(**{"n_points": 30, "descriptor": SOAP, "random_state": 0, **options})


class Lazy:
    """A sequence that is no list, with an action at some of the requests."""

    def __init__(self, frames, action=None):
        self.frames, self.action = frames, action

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, key):
        if self.action is not None:
            self.action(key)
        return self.frames[key]


# -- the exact model as the limit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("periodic", [False, True])
def test_all_environments_are_the_exact_model(aggregate, periodic):
    frames = random_frames(5, n_frames=24, n_species=3, periodic=periodic)
    random = np.random.default_rng(0)
    vectors, matrices, energies = random.normal(size=(24, 3)), random.normal(size=(24, 3, 3)), random.normal(size=24)
    weight = random.uniform(0.1, 2.0, size=16)
    kernel = CovariantKernel(aggregate=aggregate)
    for y in (vectors, matrices + matrices.transpose(0, 2, 1), energies):
        exact = TensorKernelRidge(alpha=1e-4, kernel=kernel, descriptor=SOAP).fit(frames[:16], y[:16], weight)
        model = sparse(n_points=1000, noise=1e-4, kernel=kernel).fit(frames[:16], y[:16], weight)
        np.testing.assert_allclose(model.predict(frames), exact.predict(frames), atol=1e-6 * np.abs(y).max())


def naive_gaussian_process(features, y, test, irrep, noise, axes):
    """Log marginal likelihood, signal variance, mean and covariance as in Rasmussen and Williams, eq. 2.23 to 2.30.

    Labels are known along the axes (n d, n_known).
    """
    n, d = len(features), 2 * int(irrep[:-1]) + 1
    kernel = CovariantKernel()(features, irrep=irrep).transpose(0, 2, 1, 3).reshape(n * d, n * d)
    y, matrix, n_known = axes.T @ y, axes.T @ kernel @ axes + noise * np.eye(axes.shape[1]), axes.shape[1]
    variance = y @ np.linalg.solve(matrix, y) / n_known
    likelihood = -0.5 * (n_known + np.linalg.slogdet(2 * np.pi * variance * matrix)[1])
    cross = CovariantKernel()(test, features, irrep=irrep).transpose(0, 2, 1, 3).reshape(len(test) * d, n * d) @ axes
    prior = CovariantKernel()(test, irrep=irrep).transpose(0, 2, 1, 3).reshape(len(test) * d, -1)
    covariance = variance * (prior - cross @ np.linalg.solve(matrix, cross.T) + noise * np.eye(len(prior)))
    return likelihood, variance, covariance.reshape(len(test), d, len(test), d)


def test_likelihood_and_covariance_are_those_of_the_exact_process(waters):
    frames, vector, *_ = waters
    features = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    train, test = features[:20], features[20:26]
    model = SparseTensorGPR(n_points=1000, noise=1e-3, random_state=0).fit(train, vector[:20])
    y = vector[:20][:, [1, 2, 0]].ravel()
    # a dipole is in the plane of the molecule
    in_plane = [np.linalg.qr((one.positions[1:] - one.positions[0]).T)[0][[1, 2, 0]] for one in frames[:20]]
    likelihood, variance, covariance = naive_gaussian_process(train, y, test, "1o", 1e-3, block_diag(*in_plane))
    assert model.log_marginal_likelihood_value_ == pytest.approx(likelihood, rel=1e-8)
    assert model.signal_variance_["1o"] == pytest.approx(variance, rel=1e-6)
    _, cov = model.predict(test, return_cov="joint")
    xyz = [2, 0, 1]
    expected = covariance[:, xyz][:, :, :, xyz]
    np.testing.assert_allclose(cov, expected, atol=1e-6 * np.abs(expected).max())
    mean, std = model.predict(test, return_std=True)
    np.testing.assert_allclose(std, np.sqrt(np.einsum("iaia->ia", expected)), rtol=1e-5)
    np.testing.assert_array_equal(mean, model.predict(test))


def test_sparse_model_is_that_of_the_formula(waters):
    """Subset of regressors with the dense matrices of Quinonero-Candela 2005, eq. 16, and its likelihood."""
    frames, _, _, scalar = waters
    features = LambdaSOAP(**SMALL, irreps="0e").fit_transform(frames)
    noise, y = 1e-2, scalar[:30] - 1.0
    model = SparseTensorGPR(n_points=6, noise=noise, baseline=None, random_state=1).fit(features[:30], y)
    points = features.__class__(**model.points_)
    k_mm, k_nm = (CovariantKernel()(one, points)[:, :, 0, 0] for one in (points, features[:30]))
    solved = np.linalg.solve(k_nm.T @ k_nm + noise * k_mm, k_nm.T @ y)
    np.testing.assert_allclose(model.coef_["0e"][:, 0], solved, rtol=1e-5)
    full = k_nm @ np.linalg.solve(k_mm, k_nm.T) + noise * np.eye(30)
    variance = y @ np.linalg.solve(full, y) / 30
    assert model.signal_variance_["0e"] == pytest.approx(variance, rel=1e-6)
    likelihood = -0.5 * (30 + np.linalg.slogdet(2 * np.pi * variance * full)[1])
    assert model.log_marginal_likelihood_value_ == pytest.approx(likelihood, rel=1e-8)
    k_full = CovariantKernel()(features[:30])[:, :, 0, 0]
    unexplained = np.trace(k_full - full + noise * np.eye(30)) / 30
    assert model.unexplained_["0e"] == pytest.approx(unexplained, rel=1e-5)


def test_automatic_noise_is_the_best_of_the_likelihood(waters):
    frames, vector, *_ = waters
    y = vector + 0.03 * np.random.default_rng(0).normal(size=vector.shape)
    best = sparse().fit(frames, y)
    values = [sparse(noise=best.noise_["1o"] * f).fit(frames, y).log_marginal_likelihood_value_ for f in (0.5, 1, 2)]
    assert values[1] > max(values[0], values[2])
    assert np.sqrt(best.noise_["1o"] * best.signal_variance_["1o"]) == pytest.approx(0.03, rel=0.3)
    assert best.log_marginal_likelihood_value_ == pytest.approx(values[1], rel=1e-10)


@pytest.mark.parametrize("selection", ["fps", "random"])
@pytest.mark.parametrize("n_points", [{"0e": 30, "2e": 8}, {"0e": {"O": 5, "H": 6}, "2e": {"O": 9, "H": 4}}])
def test_points_of_each_irrep(waters, n_points, selection):
    """Each irrep is the subset of regressors of its own points, the first of those that all share."""
    frames, _, matrix, _ = waters
    model = sparse(n_points=n_points, noise=1e-2, selection=selection, baseline=None).fit(frames[:30], matrix[:30])
    features = LambdaSOAP(**SMALL, irreps="0e+2e").fit_transform(frames)
    shared, tensor = EquivariantFeatures(**model.points_), CartesianTensor("ij=ji")
    prediction, labels = tensor.to_irreps(model.predict(frames)), tensor.to_irreps(matrix[:30])
    for irrep, d in (("0e", 1), ("2e", 5)):
        given = n_points[irrep]
        of_species = {8: given["O"], 1: given["H"]} if isinstance(given, dict) else {8: given // 2, 1: given // 2}
        rows = [np.flatnonzero(shared.species == species)[:count] for species, count in of_species.items()]
        points = shared[np.sort(np.concatenate(rows))]
        k_mm, k_nm, k_tm = (
            CovariantKernel()(one, points, irrep=irrep).transpose(0, 2, 1, 3).reshape(-1, d * len(points))
            for one in (points, features[:30], features)
        )
        values, vectors = np.linalg.eigh(k_mm)
        root = 0.1 * np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        stacked = np.concatenate([labels[irrep].ravel(), np.zeros(len(root))])
        expected = k_tm @ np.linalg.lstsq(np.vstack([k_nm, root]), stacked, rcond=1e-13)[0]
        np.testing.assert_allclose(prediction[irrep].ravel(), expected, atol=1e-6)
    assert np.isfinite(model.predict(frames, return_cov=True)[1]).all()
    assert_equivariant(model, frames[:4])


def test_labels_that_are_taken_for_noise_are_told(waters):
    frames, vector, *_ = waters
    noise = np.random.default_rng(2).normal(size=(40, 3))
    with pytest.warns(UserWarning, match="explains the 1o labels as noise: .* set noise="):
        sparse().fit(frames, noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".* that its symmetry forbids")  # noise has no symmetry
        sparse().fit(frames, vector)
        sparse().fit(frames, np.full(40, 3.7))
        sparse(noise=100.0).fit(frames, noise)


# -- error bars ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_points", [9, 60])
def test_error_bars_are_calibrated_and_turn_with_the_structure(n_points):
    frames, _, matrix, _ = water_set(400, seed=3)
    noise = np.random.default_rng(1).normal(size=matrix.shape)
    matrix = matrix + 0.02 * (noise + noise.transpose(0, 2, 1))
    model = sparse(n_points=n_points).fit(frames[:100], matrix[:100])
    mean, std = model.predict(frames[100:], return_std=True)
    z = np.abs(mean - matrix[100:]) / std
    assert 0.5 < np.mean(z < 1) < 0.9
    assert 0.85 < np.mean(z < 1.96) < 1.0
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = [atoms.copy() for atoms in frames[100:105]]
    for atoms in turned:
        atoms.positions = atoms.positions @ turn.T
    _, cov = model.predict(frames[100:105], return_cov=True)
    _, after = model.predict(turned, return_cov=True)
    expected = np.einsum("ia,jb,kc,ld,nabcd->nijkl", turn, turn, turn, turn, cov)
    np.testing.assert_allclose(after, expected, atol=1e-10 * np.abs(cov).max() + 1e-13)
    assert np.linalg.eigvalsh(cov.reshape(5, 9, 9)).min() > -1e-12 * np.abs(cov).max()
    np.testing.assert_allclose(model.predict(frames[100:105], return_std=True)[1] ** 2,
                               np.einsum("nabab->nab", cov), rtol=1e-9)  # fmt: skip
    without = model.predict(frames[100:105], return_std=True, include_noise=False)[1]
    assert (without <= std[:5]).all()


def test_samples_have_the_joint_distribution(waters):
    frames, vector, *_ = waters
    model = sparse(n_points=10).fit(frames[:30], vector[:30])
    mean, cov = model.predict(frames[30:33], return_cov="joint")
    samples = model.sample_y(frames[30:33], n_samples=20000, random_state=1)
    assert samples.shape == (3, 3, 20000)
    np.testing.assert_allclose(samples.mean(axis=-1), mean, atol=0.05 * np.sqrt(cov.max()))
    np.testing.assert_allclose(np.cov(samples.reshape(9, -1)), cov.reshape(9, 9), atol=0.05 * np.abs(cov).max())


def test_structures_unlike_the_data_have_wide_error_bars(waters):
    frames, vector, *_ = waters
    model = sparse().fit(frames, vector)
    far = frames[0].copy()
    far.positions[1] *= 1.5
    _, std = model.predict([frames[0], far], return_std=True)
    assert std[1].max() > 5 * std[0].max()


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("n_species", [1, 4])
def test_predictions_are_equivariant(periodic, n_species):
    frames = random_frames(n_species, n_frames=8, n_species=n_species, periodic=periodic)
    y = np.random.default_rng(0).normal(size=(8, 3, 3))
    assert_equivariant(sparse(n_points=8, noise=1e-2).fit(frames, y), frames)


# -- streams -------------------------------------------------------------------------------------------------------------


def same_predictions(first, second, frames, tolerance=1e-7):
    expected = first.predict(frames)
    np.testing.assert_allclose(second.predict(frames), expected, atol=tolerance * np.abs(expected).max())


def test_partial_fits_are_one_fit():
    frames, vector, _, scalar = water_set(90, seed=1)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=90)
    for y in (vector, scalar):
        parts = sparse(noise=1e-4).partial_fit(frames[:40], y[:40], weight[:40], solve=False)
        with pytest.raises(NotFittedError):
            parts.predict(frames)
        parts.partial_fit(frames[40:70], y[40:70], weight[40:70]).partial_fit(frames[70:], y[70:], weight[70:])
        whole = sparse(noise=1e-4).partial_fit(frames[:40], y[:40], 0 * weight[:40] + 1e-30, solve=False)
        whole.partial_fit(frames, y, weight)
        same_predictions(whole, parts, frames)
        # of dipoles of water, the component across the plane of the molecule is forbidden
        counted = {"0e": 90, "1o": 60}
        assert {key: sums[0] for key, sums in parts.label_totals_.items()}.items() <= counted.items()
    with pytest.raises(ValueError, match="trailing shape"):
        parts.partial_fit(frames, vector)
    with pytest.raises(TypeError, match="fitted on frames"):
        parts.partial_fit(SOAP.fit(frames).transform(frames), scalar)
    with pytest.raises(ValueError, match="species C"):
        parts.partial_fit(random_frames(0, n_frames=2, n_species=2), scalar[:2])


def test_neither_blocks_nor_jobs_nor_the_container_matter(tmp_path):
    frames, _, matrix, _ = water_set(300, seed=2)
    model = sparse(n_points=12, noise=1e-4).fit(frames, matrix)
    for options in ({"n_jobs": 2}, {"n_jobs": -1}):
        other = sparse(n_points=12, noise=1e-4, **options).fit(frames, matrix)
        for key, coef in model.coef_.items():
            np.testing.assert_array_equal(other.coef_[key], coef)
    with joblib.parallel_config("loky"):
        other = sparse(n_points=12, noise=1e-4, n_jobs=2).fit(Lazy(frames), matrix)
    np.testing.assert_array_equal(other.coef_["2e"], model.coef_["2e"])
    same_predictions(model, sparse(n_points=12, noise=1e-4, memory=0.016).fit(frames, matrix), frames)
    same_predictions(model, other, Lazy(frames))
    features = LambdaSOAP(**SMALL, irreps="0e+2e").fit_transform(frames)
    of_features = sparse(n_points=12, noise=1e-4).fit(features, matrix)
    np.testing.assert_array_equal(of_features.coef_["2e"], model.coef_["2e"])
    from ase.io import Trajectory

    path = str(tmp_path / "frames.traj")
    with Trajectory(path, "w") as written:
        for atoms in frames:
            written.write(atoms)
    with Trajectory(path) as stored:
        same_predictions(model, sparse(n_points=12, noise=1e-4).fit(stored, matrix), frames)


def test_a_sequence_is_never_in_memory_as_a_whole():
    frames, vector, *_ = water_set(2000, seed=2)
    largest = []
    lazy = Lazy(frames, lambda key: largest.append(len(frames[key]) if isinstance(key, slice) else 1))
    sparse(n_points=4, noise=1e-4).fit(lazy, vector)
    assert max(largest) <= 1024


def test_progress_and_sizes_are_reported(waters, capsys, monkeypatch):
    monkeypatch.setattr("eqkernels._progress._PAUSE", 0.0)
    frames, vector, *_ = waters
    sparse(verbose=1).fit(frames, vector)
    told = capsys.readouterr().err
    assert "30 sparse environments (H 15, O 15)" in told
    assert "SparseTensorGPR: 100% of " in told
    assert "1o: noise" in told


def test_cluster_that_loses_a_worker_gives_the_same_weights(cluster):
    frames, _, matrix, _ = water_set(600, seed=2)
    model = sparse(n_points=16, noise=1e-4).fit(frames, matrix)
    largest, requests = [], []

    def watch(key):
        """Kill a worker half-way; see how much the scheduler holds."""
        if not isinstance(key, slice) or key.stop - key.start > 200:
            return  # reads before the fold
        requests.append(key)
        if len(requests) == 5:
            os.kill(next(iter(cluster.run(os.getpid).values())), signal.SIGKILL)
        if len(requests) % 3 == 0:
            largest.append(cluster.run_on_scheduler(_bytes_of_tasks))

    other = sparse(n_points=16, noise=1e-4).fit(Lazy(frames, watch), matrix, client=cluster)
    for key, coef in model.coef_.items():
        np.testing.assert_allclose(other.coef_[key], coef, rtol=1e-8, atol=1e-8 * np.abs(coef).max())
    assert len(requests) >= 8
    assert max(largest) < 0.2 * len(pickle.dumps(frames))
    with joblib.parallel_config("dask"):
        by_joblib = sparse(n_points=16, noise=1e-4, n_jobs=2).fit(frames, matrix)
    np.testing.assert_allclose(by_joblib.coef_["2e"], model.coef_["2e"], rtol=1e-8)


def _bytes_of_tasks(dask_scheduler):
    """Of all but the largest, which holds the sparse points, once."""
    sizes = [len(pickle.dumps(task.run_spec)) for task in list(dask_scheduler.tasks.values())]
    return sum(sizes) - max(sizes, default=0)


# -- hard cases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["auto", 1e-12])
def test_degenerate_data_give_a_sensible_model(waters, noise):
    frames, vector, matrix, scalar = waters
    cases = {
        "duplicates": (frames[:5] * 6, np.concatenate([vector[:5]] * 6)),
        "one structure": (frames[:1], vector[:1]),
        "one matrix": (frames[:1], matrix[:1]),
        "constant scalar": (frames, np.full(40, 3.7)),
        "constant vector": (frames[:6], np.zeros((6, 3))),
        "constant matrix": (frames[:6], np.tile(2 * np.eye(3), (6, 1, 1))),
        "isolated atoms": ([one[[0]] for one in frames[:3]], vector[:3]),
    }
    for name, (X, y) in cases.items():
        model = sparse(n_points=200, noise=noise).fit(X, y)
        mean, std = model.predict(X, return_std=True)
        assert np.isfinite(mean).all(), name
        assert np.isfinite(std).all(), name
        assert np.isfinite(list(model.noise_.values())).all(), name
        if name != "isolated atoms":  # whose vector is zero by symmetry
            # three components of one matrix do not tell that there is no noise
            within = 0.05 if name == "one matrix" and noise == "auto" else 1e-4
            np.testing.assert_allclose(mean, y, atol=within, err_msg=name)
    assert np.abs(mean).max() == 0.0


def test_components_that_vanish_by_symmetry_are_finite():
    """In molecules with a mirror plane along the axes the hydrogens cancel, in their variance too, to rounding."""
    random = np.random.default_rng(0)
    halves, heights = random.uniform(0.7, 0.85, size=40), random.uniform(0.5, 0.65, size=40)
    frames = [Atoms("OH2", [[0, 0, 0], [x, 0, z], [-x, 0, z]]) for x, z in zip(halves, heights, strict=True)]
    vectors = np.array([[0.0, 0.0, z] for z in heights])
    for y in (vectors, np.einsum("na,nb->nab", vectors, vectors)):
        mean, std = sparse().fit(frames[:30], y[:30]).predict(frames[30:], return_std=True)
        assert np.isfinite(std).all()
        np.testing.assert_allclose(mean, y[30:], atol=0.01)


def test_tiny_noise_is_solved_as_well_as_it_can_be():
    """A model that is linear in five functions: labels of it come back, whatever the noise; normal equations fail."""
    frames, _, matrix, _ = water_set(60, seed=5)
    teacher = sparse(n_points=40, noise=1e-3).fit(frames, matrix)
    y = teacher.predict(frames)
    for noise in (1e-8, 1e-10, 1e-12):
        pupil = sparse(n_points=40, noise=noise).fit(frames[:40], y[:40])
        np.testing.assert_allclose(pupil.predict(frames[40:]), y[40:], atol=1e-4)


def test_labels_of_atoms():
    frames, *_ = water_set(60, seed=1)
    y = []
    for atoms in frames:
        bonds = atoms.positions[1:] - atoms.positions[0]
        both = bonds.sum(axis=0)
        y.append(np.array([np.outer(both, both), np.outer(bonds[0], both), np.outer(bonds[1], both)]))
    y[0][1] = np.nan
    y[3][:] = np.nan
    kernel = TensorKernelRidge(alpha=1e-4, descriptor=SOAP, target="ij").fit(frames[:40], y[:40])
    exact = sparse(n_points=1000, noise=1e-4, target="ij").fit(frames[:40], y[:40])
    for a, b in zip(kernel.predict(frames[40:]), exact.predict(frames[40:]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    model = sparse(n_points=40, target="ij").fit(frames[:40], y[:40])
    mean, std = model.predict(frames[40:], return_std=True)
    assert [one.shape for one in std] == [(3, 3, 3)] * 20
    z = np.abs(np.concatenate(mean) - np.concatenate(y[40:])) / np.concatenate(std)
    assert 0.8 < np.mean(z < 1.96) <= 1.0
    for one in y:
        one[1:] = np.nan
    oxygens = sparse(target="ij", n_points={"O": 20}).fit(frames, y)
    mean, std = oxygens.predict(frames[:1], return_std=True)
    np.testing.assert_array_equal(np.isnan(std[0][:, 0, 0]), [False, True, True])
    np.testing.assert_array_equal(np.isnan(mean[0][:, 0, 0]), [False, True, True])


def test_any_kernel_serves(waters):
    frames, vector, *_ = waters
    kernel = CovariantKernel(zeta=1) + Scaled(CovariantKernel(zeta=3, normalize=True), 0.5)
    assert sparse(kernel=kernel).fit(frames[:30], vector[:30]).score(frames[30:], vector[30:]) > 0.99
    exact = TensorKernelRidge(alpha=1e-3, kernel=kernel, descriptor=SOAP).fit(frames[:10], vector[:10])
    limit = sparse(n_points=1000, noise=1e-3, kernel=kernel).fit(frames[:10], vector[:10])
    np.testing.assert_allclose(limit.predict(frames), exact.predict(frames), atol=1e-6)


def test_errors_say_what_to_do(waters):
    frames, vector, *_ = waters
    for options, message in (
        ({"noise": 0.0}, "noise=0.0 must be a positive"),
        ({"noise": "best"}, "noise='best' must be 'auto'"),
        ({"noise": {"2e": 1.0}}, r"noise has the irreps \['2e'\], the target has \['1o'\]"),
        ({"selection": "best"}, "selection='best' must be one of"),
        ({"n_points": 0}, "n_points=0 must be a positive integer"),
        ({"n_points": 1}, "n_points=1 is less than the number of species, 2"),
        ({"n_points": {"0e": 9, "2e": 9}}, r"n_points has the irreps \['0e', '2e'\], the target has \['1o'\]"),
        ({"n_points": {"1o": 0}}, "n_points=0 must be a positive integer"),
        ({"memory": -1}, "memory=-1 must be a positive, finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            sparse(**options).fit(frames, vector)
    broken = [one.copy() for one in frames]
    broken[33].positions[0] = np.nan
    with pytest.raises(ValueError, match="structure 33, atom 0 has a position that is NaN"):
        sparse().fit(broken, vector)
    with pytest.raises(ValueError, match="at most one of return_std and return_cov"):
        sparse().fit(frames, vector).predict(frames, return_std=True, return_cov=True)


def test_scikit_learn_tools(waters, tmp_path):
    frames, _, matrix, _ = waters
    pipeline = make_pipeline(LambdaSOAP(**SMALL), SparseTensorGPR(n_points=20, random_state=0))
    grid = {"lambdasoap__cutoff": [2.5, 3.0], "sparsetensorgpr__n_points": [10, 20]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(frames, matrix)
    assert search.best_score_ > 0.98
    best = search.best_estimator_
    expected = best.predict(frames)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(best)).predict(frames), expected)
    joblib.dump(best, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict(frames), expected)
    np.testing.assert_array_equal(clone(best).fit(frames, matrix).predict(frames), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (cross_val_score(best, frames, matrix, cv=3) > 0.9).all()
    best.fit(frames[:30], matrix[:30])
    std = best.predict(frames, return_std=True)[1]
    best[-1].recalibrate(best[0].transform(frames[30:]), matrix[30:])
    assert np.abs(best.predict(frames, return_std=True)[1] / std - 1).max() > 1e-3
