import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from eqkernels import CovariantKernel, EquivariantUnion, LambdaSOAP, NBodyFeatures, SparseTensorGPR, SphericalExpansion
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.streamed_gradients import iter_gradients
from eqkernels.kernels import Restricted
from eqkernels.regression.sparse.derivatives import kernel_derivatives
from eqkernels.regression.sparse.evidence import StackedProblem
from eqkernels.structures import DerivativeLabels, StructureBatch, find_neighbors, read_forces, read_stress
from eqkernels.structures.derivative_labels import to_voigt
from tests.conftest import random_frames
from tests.descriptors.density.test_gradients import moved, strained

SMALL = {"cutoff": 3.4, "n_max": 3, "l_max": 2, "sigma": 0.5, "accuracy": 1e-12}
SOAP = LambdaSOAP(**SMALL)
SCALARS = LambdaSOAP(**SMALL, irreps="0e")
KERNELS = [
    CovariantKernel(zeta=1),
    CovariantKernel(zeta=2),
    CovariantKernel(zeta=3, normalize=True, aggregate="mean"),
    CovariantKernel(zeta=1, normalize=False),
    CovariantKernel(zeta=3, normalize=False, aggregate="mean"),
    CovariantKernel(zeta=1) + 0.3 * CovariantKernel(zeta=3),
    CovariantKernel(zeta=2) * CovariantKernel(zeta=4, aggregate="mean"),
    Restricted(CovariantKernel(zeta=2, aggregate="mean"), "C")
    + CovariantKernel(zeta=1) * Restricted(CovariantKernel()),
]


def sparse(**options):
    return SparseTensorGPR(**{"n_points": 12, "descriptor": SOAP, "random_state": 0, **options})


def smooth_frames(seed, **options):
    """Random structures without pairs where the cutoff function has jumps in its second derivative."""
    for k in range(seed, seed + 1000):
        frames = random_frames(k, **options)
        distances = find_neighbors(StructureBatch.from_frames(frames), 3.5).distances
        if np.abs(distances[:, None] - [SMALL["cutoff"], SMALL["cutoff"] - 0.5]).min() > 3e-3:
            return frames
    raise AssertionError("no such frames")


def copper(n, seed=0, repeat=(1, 1, 2)):
    """Strained and rattled crystals with the energies, forces and stresses of an effective medium."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * repeat if k % 2 else bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.1 * random.normal(size=atoms.positions.shape)
        frames.append(atoms)
    return labelled(frames, EMT)


def labelled(frames, calculator):
    energies, forces, stresses = [], [], []
    for atoms in frames:
        atoms.calc = calculator()
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
        stresses.append(atoms.get_stress(voigt=False))
        atoms.calc = None
    return frames, np.array(energies), forces, np.array(stresses)


@pytest.fixture(scope="module")
def crystals():
    return copper(16)


def difference(function, change, step=2e-4):
    """Central difference of sixth order."""
    weights = np.array([-1, 9, -45, 45, -9, 1]) / (60 * step)
    return sum(w * function(change(k * step)) for w, k in zip(weights, (-3, -2, -1, 1, 2, 3), strict=True))


def close(value, expected, tolerance):
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# -- derivatives of kernels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=range(len(KERNELS)))
@pytest.mark.parametrize(("periodic", "n_species"), [(False, 3), (True, 2)])
def test_derivatives_of_kernels_are_differences(kernel, periodic, n_species):
    frames = smooth_frames(3, n_frames=3, n_species=n_species, periodic=periodic)
    features = SCALARS.fit(frames).transform(frames)
    points = features.split_centers(np.arange(0, len(features.species), 2))
    n_atoms = sum(len(atoms) for atoms in frames)
    every = {kind: DerivativeLabels(np.zeros((n, 1)), np.arange(n)) for kind, n in (("forces", n_atoms), ("stress", 3))}
    # memory for a center or two: nothing depends on the parts
    found = kernel_derivatives(SCALARS, frames, features, kernel, points, every, 2e4)

    def matrix(changed):
        return kernel(SCALARS.transform(changed), points)[..., 0, 0]

    for axis, (structure, atom) in enumerate([(0, 1), (1, 0), (2, 1)]):
        numeric = difference(matrix, lambda step, at=(structure, atom, axis): moved(frames, *at, step))[structure]
        close(found["forces"][..., 0, :, 0][sum(len(one) for one in frames[:structure]) + atom, axis], numeric, 1e-7)
    numeric = np.empty((3, 3, 3, len(points)))
    for x, y in ((0, 0), (1, 2), (2, 1)):
        numeric[:, x, y] = difference(matrix, lambda step, at=(x, y): strained(frames, *at, step))
    close(found["stress"][..., 0, :, 0][:, 0], numeric[:, 0, 0], 1e-7)
    close(found["stress"][..., 0, :, 0][:, 3], np.sqrt(0.5) * (numeric[:, 1, 2] + numeric[:, 2, 1]), 1e-7)


def test_parts_of_a_union_and_all_centers_at_once():
    frames = smooth_frames(3, n_frames=3, n_species=2, periodic=True)
    union = EquivariantUnion(
        [("near", LambdaSOAP(2.9, n_max=2, l_max=2, accuracy=1e-12)), ("far", SphericalExpansion(**SMALL))]
    )
    features = union.fit(frames).transform(frames)
    kernel = Restricted(CovariantKernel(), part="near") + Restricted(CovariantKernel(zeta=1), "H", part="far")
    points, n = features.split_centers(), sum(len(atoms) for atoms in frames)
    every = {"forces": DerivativeLabels(np.zeros((n, 3)), np.arange(n))}
    found = [kernel_derivatives(union, frames, features, kernel, points, every, memory) for memory in (1e4, 1e9)]
    close(*(one["forces"] for one in found), 1e-12)
    numeric = difference(
        lambda changed: kernel(union.transform(changed), points)[..., 0, 0], lambda h: moved(frames, 0, 1, 2, h)
    )
    close(found[0]["forces"][1, 2, 0, :, 0], numeric[0], 1e-7)
    sizes = [len(one.centers) for one in iter_gradients(SOAP.fit(frames), frames, 1.0)]
    assert max(sizes) < n  # a center at a time


# -- predictions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [False, True])
def test_predicted_forces_and_stress_are_differences_of_energies(periodic):
    frames = smooth_frames(5, n_frames=3, n_species=2, periodic=periodic)
    frames += random_frames(5, n_frames=9, n_species=2, periodic=periodic)
    energies = np.random.default_rng(0).normal(size=12)
    for atoms in frames if periodic else []:
        atoms.cell = np.where(atoms.cell.lengths()[:, None] > 0, atoms.cell.array, np.eye(3) * 5)
    kernel = CovariantKernel(aggregate="mean") + 0.5 * CovariantKernel(zeta=3, aggregate="mean")
    model = sparse(kernel=kernel, noise=1e-2).fit(frames, energies)
    some = frames[:3]
    forces = model.predict_forces(some)
    assert [one.shape for one in forces] == [(len(atoms), 3) for atoms in some]
    close(-forces[1][0, 2], difference(model.predict, lambda h: moved(some, 1, 0, 2, h))[1], 1e-7)
    if periodic:
        numeric = difference(model.predict, lambda h: strained(some, 0, 1, h))
        volumes = np.array([atoms.get_volume() for atoms in some])
        close(model.predict_stress(some)[:, 0, 1] * volumes, numeric, 1e-7)
        np.testing.assert_array_equal(model.predict_stress(some), model.predict_stress(some).transpose(0, 2, 1))


@pytest.mark.parametrize("k", range(len(KERNELS)))
def test_vjp_of_tensors_is_a_difference(k):
    frames = smooth_frames(5, n_frames=3, n_species=2, periodic=True)
    frames += random_frames(5, n_frames=6, n_species=2, periodic=True)
    random = np.random.default_rng(k)
    tensors = random.normal(size=(9, 3, 3))
    y = (tensors[:, 0], tensors + tensors.transpose(0, 2, 1), tensors)[k % 3]
    model = sparse(kernel=KERNELS[k], noise=1e-2).fit(frames, y)
    some, cotangents = frames[:3], random.normal(size=y[:3].shape)

    def total(changed):
        return np.sum(cotangents * model.predict(changed))

    positions, strain = model.vjp(some, cotangents)
    close(positions[len(some[0]) + 1, 2], difference(total, lambda h: moved(some, 1, 1, 2, h)), 1e-7)
    numeric = difference(lambda changed: np.sum(cotangents[2] * model.predict(changed)[2]),
                         lambda h: strained(some, 0, 1, h))  # fmt: skip
    close(strain[2, 0, 1], numeric, 1e-7)
    assert np.abs(positions[: len(some[0])].sum(axis=0)).max() < 1e-10 * np.abs(positions).max()


def test_vjp_does_not_depend_on_blocks():
    frames, random = random_frames(5, n_frames=9, n_species=2), np.random.default_rng(0)
    labels = [random.normal(size=(len(atoms), 3)) for atoms in frames]
    model = sparse(noise=1e-2, kernel=CovariantKernel(normalize=True)).fit(frames, labels)
    whole = model.vjp(frames, labels)
    close(model.set_params(memory=1e-6).vjp(frames, labels).positions, whole.positions, 1e-12)
    numeric = difference(
        lambda changed: sum(np.sum(g * y) for g, y in zip(labels, model.predict(changed), strict=True)),
        lambda h: moved(frames, 0, 1, 0, h),
    )
    close(whole.positions[1, 0], numeric, 1e-7)


def test_descriptors_with_contracted_derivatives_alone_predict():
    frames = smooth_frames(5, n_frames=3, n_species=2)
    union = EquivariantUnion([("three", NBodyFeatures(2.9, n_max=2, l_max=2, accuracy=1e-12)), ("two", SOAP)])
    kernel = Restricted(CovariantKernel(), part="three") * CovariantKernel(zeta=1)
    model = sparse(descriptor=union, kernel=kernel, noise=1e-2).fit(frames, [0.3, -0.2, 0.5])
    numeric = difference(model.predict, lambda h: moved(frames, 1, 0, 2, h))[1]
    close(-model.predict_forces(frames)[1][0, 2], numeric, 1e-7)


def test_vjp_of_labels_of_atoms():
    frames = random_frames(5, n_frames=8, n_species=2)
    random = np.random.default_rng(0)
    labels = [random.normal(size=len(atoms)) for atoms in frames]
    model = sparse(noise=1e-2, target="").fit(frames, labels)
    cotangents = [random.normal(size=len(atoms)) for atoms in frames]
    total = lambda changed: sum(g @ y for g, y in zip(cotangents, model.predict(changed), strict=True))  # noqa: E731
    numeric = difference(total, lambda h: moved(frames, 0, 1, 0, h))
    close(model.vjp(frames, cotangents).positions[1, 0], numeric, 1e-7)
    with pytest.raises(ValueError, match="per-atom targets"):
        model.predict_forces(frames)


def test_forces_and_stress_turn_with_the_structure(crystals):
    frames, energies, forces, stresses = crystals
    model = sparse(noise=1e-6, force_noise=1e-5, stress_noise=1e-7).fit(
        frames, energies, forces=forces, stress=stresses
    )
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))  # of determinant -1 or 1

    def turned(atoms):
        return Atoms(atoms.numbers, atoms.positions @ rotation.T, cell=atoms.cell.array @ rotation.T, pbc=True)

    others = [turned(atoms) for atoms in frames[:4]]
    for one, other in zip(model.predict_forces(frames[:4]), model.predict_forces(others), strict=True):
        close(other, one @ rotation.T, 1e-10)
        assert np.abs(one.sum(axis=0)).max() < 1e-10 * np.abs(one).max()
    close(model.predict_stress(others), rotation @ model.predict_stress(frames[:4]) @ rotation.T, 1e-10)
    # and the model of turned data is the same
    again = clone(model).fit([turned(atoms) for atoms in frames], energies, forces=[f @ rotation.T for f in forces],
                             stress=rotation @ stresses @ rotation.T)  # fmt: skip
    close(again.predict(frames), model.predict(frames), 1e-6)


# -- the solution -------------------------------------------------------------------------------------------------------


def dense_model(model, frames, energies, forces, stresses, weight, noises):
    """Likelihood with the best baseline and signal variance, predictions of all: formulas with dense matrices."""
    descriptor, points = model.descriptor_, EquivariantFeatures(**model.points_)
    features, kernel = descriptor.transform(frames), model._kernel()
    n_atoms = [len(atoms) for atoms in frames]
    every = {"forces": DerivativeLabels(np.zeros(0), np.arange(sum(n_atoms))),
             "stress": DerivativeLabels(np.zeros(0), np.arange(len(frames)))}  # fmt: skip
    slopes = kernel_derivatives(descriptor, frames, features, kernel, points, every, 1e9)
    slopes = {kind: one[:, :, 0, :, 0] for kind, one in slopes.items()}
    volumes = np.array([atoms.get_volume() for atoms in frames])
    matrix = np.concatenate([
        kernel(features, points)[..., 0, 0],
        -slopes["forces"].reshape(-1, len(points)),
        (slopes["stress"] / volumes[:, None, None]).reshape(-1, len(points)),
    ])  # fmt: skip
    y = np.concatenate([energies, np.concatenate(forces).ravel(), to_voigt(stresses).ravel()])
    design = np.zeros((len(y), len(model.species_)))
    design[: len(frames)] = features.composition(model.species_)
    weights = np.concatenate([weight, np.repeat(weight, 3 * np.array(n_atoms)), np.repeat(weight, 6)])
    counts = np.array([len(frames), 3 * sum(n_atoms), 6 * len(frames)])
    gamma = np.repeat(noises, counts) / np.maximum(weights, 1e-300)
    prior = matrix @ np.linalg.solve(kernel(points)[..., 0, 0], matrix.T)
    known = np.isfinite(y) & (weights > 0)
    covariance = prior[np.ix_(known, known)] + np.diag(gamma[known])
    d, inverse = design[known], np.linalg.inv(covariance)
    baseline = np.linalg.solve(d.T @ inverse @ d, d.T @ inverse @ y[known])
    rest = y[known] - d @ baseline
    variance = rest @ inverse @ rest / len(rest)
    likelihood = -0.5 * (len(rest) * (np.log(2 * np.pi * variance) + 1) + np.linalg.slogdet(covariance)[1])
    return likelihood, variance, prior[:, known] @ inverse @ rest + design @ baseline


@pytest.fixture(scope="module")
def alloy():
    frames, *_ = copper(8, seed=3)
    for k, atoms in enumerate(frames):
        atoms.numbers[: 1 + k % 3] = 47
    return labelled(frames, EMT)


def test_fit_is_the_dense_solution(alloy):
    frames, energies, forces, stresses = alloy
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=len(frames))
    weight[5] = 0.0
    known = [one.copy() for one in forces]
    known[2][:], known[3][1] = np.nan, np.nan
    some = stresses.copy()
    some[4] = np.nan
    noises = (1e-3, 1e-4, 1e-5)
    model = sparse(noise=1e-3, force_noise=1e-4, stress_noise=1e-5, n_points=10)
    model.fit(frames, energies, weight, forces=known, stress=some)
    likelihood, variance, values = dense_model(model, frames, energies, known, some, weight, noises)
    assert model.log_marginal_likelihood_value_ == pytest.approx(likelihood, rel=1e-8)
    assert model.signal_variance_["0e"] == pytest.approx(variance, rel=1e-7)
    assert model.noise_ == {"0e": 1e-3, "0e forces": pytest.approx(1e-4), "0e stress": pytest.approx(1e-5)}
    n, m = len(frames), sum(len(atoms) for atoms in frames)
    close(model.predict(frames), values[:n], 1e-8)
    close(np.concatenate(model.predict_forces(frames)).ravel(), values[n : n + 3 * m], 1e-7)
    close(to_voigt(model.predict_stress(frames)).ravel(), values[n + 3 * m :], 1e-7)


def test_error_bars_are_those_of_all_labels(alloy):
    frames, energies, forces, _ = alloy
    options = {"noise": 1e-3, "force_noise": 1e-4, "n_points": 1000}
    model = sparse(**options).fit(frames, energies, forces=forces)
    _, alone = sparse(**options).fit(frames, energies).predict(frames, return_std=True, include_noise=False)
    # all environments are points: variances are those of the exact process, whatever the labels are
    features = model.descriptor_.transform(frames)
    points, kernel = features.split_centers(), model._kernel()
    n = len(features.species)
    every = {"forces": DerivativeLabels(np.zeros(0), np.arange(n))}
    slopes = -kernel_derivatives(model.descriptor_, frames, features, kernel, points, every, 1e9)["forces"][
        :, :, 0, :, 0
    ]
    rows = np.concatenate([kernel(features, points)[..., 0, 0], slopes.reshape(3 * n, -1)])
    inverse = np.linalg.pinv(kernel(points)[..., 0, 0], rcond=1e-13, hermitian=True)
    prior, gamma = rows @ inverse @ rows.T, np.repeat([1e-3, 1e-4], [len(frames), 3 * n])
    cross = prior[: len(frames)]
    exact = prior[: len(frames), : len(frames)] - cross @ np.linalg.solve(prior + np.diag(gamma), cross.T)
    _, std = model.predict(frames, return_std=True, include_noise=False)
    np.testing.assert_allclose(std, np.sqrt(model.signal_variance_["0e"] * np.diag(exact)), rtol=1e-4)
    assert len(alone) == len(std)


def test_automatic_noises_are_the_best_of_the_likelihood(crystals, monkeypatch):
    frames, energies, forces, stresses = crystals
    problems = []
    original = StackedProblem.best_noises
    monkeypatch.setattr(
        StackedProblem, "best_noises", lambda self, given: problems.append(self) or original(self, given)
    )
    model = sparse(n_points=30).fit(frames, energies, forces=forces, stress=stresses)
    noises, best = np.array(list(model.noise_.values())), model.log_marginal_likelihood_value_
    for t in range(3):
        for factor in (0.5, 2.0):
            other = noises.copy()
            other[t] *= factor
            assert problems[0].likelihood(other) < best + 0.05
    at = noises * [3.0, 0.3, 2.0]
    value, gradient, _ = problems[0].gradient(at)
    assert value == pytest.approx(problems[0].likelihood(at), rel=1e-12)
    numeric = [
        difference(lambda x, t=t: problems[0].likelihood(at * np.exp(x * np.eye(3)[t])), lambda h: h, 1e-2)
        for t in range(3)
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)
    # one that is given stays, the others are found
    given = sparse(n_points=30, force_noise=1e-4).fit(frames, energies, forces=forces, stress=stresses)
    assert given.noise_["0e forces"] == pytest.approx(1e-4, rel=1e-12)
    assert given.log_marginal_likelihood_value_ < best


@pytest.mark.parametrize("n_points", [40, 300])
def test_energies_are_not_given_away_as_noise(n_points):
    random, frames = np.random.default_rng(0), []
    for _ in range(40):
        atoms = bulk("Cu", a=3.75, cubic=True) * (2, 1, 1)
        atoms.numbers[random.permutation(8)[: random.integers(0, 9)]] = 47
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.12 * random.normal(size=atoms.positions.shape)
        frames.append(atoms)
    frames, energies, forces, _ = labelled(frames, EMT)
    model = sparse(n_points=n_points, descriptor=LambdaSOAP(5.5, n_max=6, l_max=3, sigma=0.4)).fit(
        frames, energies, forces=forces
    )
    # the largest likelihood of all takes them for noise, with errors of more than their spread
    assert np.std(model.predict(frames) - energies) < 0.4 * np.std(energies)


def test_labels_that_tell_nothing_are_left_out(crystals):
    frames, energies, forces, stresses = labelled([bulk("Cu", a=a) for a in np.linspace(3.5, 3.75, 12)], EMT)
    model = sparse().fit(frames[::2], energies[::2], forces=forces[::2])  # all zero by symmetry
    alone = sparse().fit(frames[::2], energies[::2])
    np.testing.assert_array_equal(model.coef_["0e"], alone.coef_["0e"])
    assert set(model.noise_) == {"0e"}
    model.fit(frames[::2], energies[::2], forces=forces[::2], stress=stresses[::2])
    assert np.abs(model.predict(frames) - energies).max() < 0.02 * np.ptp(energies)
    frames, energies, forces, _ = crystals
    weight = np.r_[np.zeros(4), np.ones(12)]
    model = sparse().fit(frames, energies, weight, forces=[*forces[:4], *[None] * 12])
    close(model.coef_["0e"], sparse().fit(frames, energies, weight).coef_["0e"], 1e-9)


# -- data in parts ------------------------------------------------------------------------------------------------------


def predictions(model, frames):
    return np.concatenate([model.predict(frames), np.concatenate(model.predict_forces(frames)).ravel()])


def test_partial_fits_are_one_fit(crystals):
    frames, energies, forces, stresses = crystals
    options = {"noise": 1e-5, "force_noise": 1e-4, "stress_noise": 1e-6}
    # points come from the first call, so that it sees the same candidates
    halves = sparse(**options).partial_fit(frames[:8], energies[:8], forces=forces[:8], solve=False)
    halves.partial_fit(frames[8:12], energies[8:12], solve=False)
    halves.partial_fit(frames[12:], energies[12:], forces=forces[12:], stress=stresses[12:])
    unknown = [None] * 4
    known = [*forces[:8], *unknown, *forces[12:]]
    stress = [None] * 12 + list(stresses[12:])
    at_once = sparse(**options).partial_fit(frames[:8], energies[:8], forces=forces[:8], solve=False)
    at_once.partial_fit(frames[8:], energies[8:], forces=known[8:], stress=stress[8:])
    close(predictions(halves, frames), predictions(at_once, frames), 1e-7)
    assert halves.log_marginal_likelihood_value_ == pytest.approx(at_once.log_marginal_likelihood_value_, rel=1e-9)
    np.testing.assert_array_equal(halves.label_totals_["0e"], at_once.label_totals_["0e"])
    assert halves.derivative_totals_["stress"][0] == 24


class Lazy:
    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, key):
        return self.frames[key]


def test_neither_blocks_nor_jobs_nor_the_container_matter(monkeypatch, crystals):
    from eqkernels.regression.sparse import parts

    frames, energies, forces, stresses = crystals
    monkeypatch.setattr(parts, "_LABELS_PER_PART", 20)
    monkeypatch.setattr(parts, "_LABELS_PER_POINT", 2)
    options = {"noise": 1e-5, "force_noise": 1e-4, "stress_noise": 1e-6}
    fits = [
        sparse(**options, **more).fit(X, energies, forces=forces, stress=stresses)
        for X, more in (
            (frames, {}),
            (frames, {"n_jobs": 2}),
            (Lazy(frames), {}),
            (frames, {"memory": 2e-4}),
        )
    ]
    first = predictions(fits[0], frames)
    for other in fits[1:3]:
        np.testing.assert_array_equal(predictions(other, frames), first)
        np.testing.assert_array_equal(other.coef_["0e"], fits[0].coef_["0e"])
    close(predictions(fits[3], frames), first, 1e-8)


def test_cluster_gives_the_same_bits(monkeypatch, crystals):
    distributed = pytest.importorskip("distributed")
    from eqkernels.regression.sparse import parts

    frames, energies, forces, stresses = crystals
    monkeypatch.setattr(parts, "_LABELS_PER_PART", 20)
    monkeypatch.setattr(parts, "_LABELS_PER_POINT", 2)
    options = {"noise": 1e-5, "force_noise": 1e-4, "stress_noise": 1e-6}
    model = sparse(**options).fit(frames, energies, forces=forces, stress=stresses)
    with distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client:
        other = sparse(**options).fit(frames, energies, forces=forces, stress=stresses, client=client)
    np.testing.assert_array_equal(other.coef_["0e"], model.coef_["0e"])


def test_without_derivatives_nothing_changes(crystals):
    frames, energies, *_ = crystals
    plain = sparse().fit(frames, energies)
    unknown = sparse().fit(frames, energies, forces=[None] * 16, stress=np.full((16, 6), np.nan))
    np.testing.assert_array_equal(plain.coef_["0e"], unknown.coef_["0e"])
    assert set(plain.factors_) == set(plain.noise_) == {"0e"}
    assert plain.derivative_totals_ == {}


def test_stored_and_cloned(crystals, tmp_path):
    skops = pytest.importorskip("skops.io")
    frames, energies, forces, stresses = crystals
    model = sparse().fit(frames, energies, forces=forces, stress=stresses)
    skops.dump(model, tmp_path / "model.skops")
    stored = skops.load(tmp_path / "model.skops", trusted=skops.get_untrusted_types(file=tmp_path / "model.skops"))
    for other in (stored, pickle.loads(pickle.dumps(model)), clone(model).fit(frames, energies, forces=forces,
                                                                               stress=stresses)):  # fmt: skip
        np.testing.assert_array_equal(predictions(other, frames), predictions(model, frames))
        np.testing.assert_array_equal(other.predict_stress(frames), model.predict_stress(frames))
    stored.partial_fit(frames[:2], energies[:2], forces=forces[:2])
    scores = cross_val_score(sparse(noise=1e-4, force_noise=1e-4), frames, energies, cv=3, params={"forces": forces})
    assert scores.min() > 0.6


# -- errors -------------------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(crystals):
    frames, energies, forces, stresses = crystals
    model = sparse(noise=1e-4)
    with pytest.raises(ValueError, match="scalar targets only.*'i'"):
        model.fit(frames, np.ones((16, 3)), forces=forces)
    with pytest.raises(ValueError, match=r"forces\[3\] has shape \(2, 3\), structure 3 has 8 atoms"):
        model.fit(frames, energies, forces=[*forces[:3], forces[3][:2], *forces[4:]])
    with pytest.raises(ValueError, match="forces has 2 entries for 16 structures"):
        model.fit(frames, energies, forces=forces[:2])
    with pytest.raises(TypeError, match=r"forces\[0\].* is not numeric but text"):
        read_forces([["a"]], np.array([1]))
    bad = [one.copy() for one in forces]
    bad[4][1, 0] = np.nan
    with pytest.raises(ValueError, match="the force on structure 4, atom 1 has NaN"):
        model.fit(frames, energies, forces=bad)
    skew = stresses.copy()
    skew[7, 0, 1] += 0.1
    with pytest.raises(ValueError, match="stress of structure 7 is not symmetric"):
        model.fit(frames, energies, stress=skew)
    with pytest.raises(ValueError, match=r"stress\[0\] has shape \(9,\)"):
        read_stress(np.ones((1, 9)), np.ones(1))
    molecule = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.3]])
    with pytest.raises(ValueError, match="structure 16 has no cell"):
        model.fit([*frames, molecule], [*energies, 0.0], stress=[*stresses, np.zeros((3, 3))])
    features = LambdaSOAP(**SMALL, irreps="0e").fit_transform(frames)
    with pytest.raises(TypeError, match="frames"):
        model.fit(features, energies, forces=forces)
    with pytest.raises(TypeError, match="NBodyFeatures has no derivatives of single features"):
        sparse(descriptor=NBodyFeatures(2.7, n_max=2, l_max=2)).fit(frames, energies, forces=forces)
    with pytest.raises(ValueError, match="force_noise=0 must be"):
        sparse(force_noise=0).fit(frames, energies, forces=forces)
    model.fit(features, energies)
    with pytest.raises(TypeError, match="frames"):
        model.predict_forces(frames)
    model.fit(frames, energies)
    with pytest.raises(ValueError, match="structure 1 has no cell"):
        model.predict_stress([frames[0], molecule])
    with pytest.raises(ValueError, match="cotangents"):
        model.vjp(frames, np.ones(3))


def test_voigt_order_is_that_of_ase(crystals):
    frames, _, _, stresses = crystals
    frames[0].calc = EMT()
    voigt = read_stress([frames[0].get_stress()], np.ones(1))
    np.testing.assert_array_equal(voigt.values, read_stress(stresses[:1], np.ones(1)).values)
    frames[0].calc = None
    assert np.linalg.norm(voigt.values) == pytest.approx(np.linalg.norm(stresses[0]), rel=1e-12)


# -- learning -----------------------------------------------------------------------------------------------------------


def rmse(one, other):
    return np.sqrt(np.mean((np.concatenate(one) - np.concatenate(other)) ** 2))


def test_forces_teach_more_than_energies():
    frames, energies, forces, stresses = copper(30, seed=5)
    train, test = slice(0, 20), slice(20, None)
    model = sparse(n_points=80, descriptor=LambdaSOAP(5.0, n_max=5, l_max=3, sigma=0.4))
    model.fit(frames[train], energies[train])
    alone = rmse(model.predict_forces(frames[test]), forces[test])
    model.fit(frames[train], energies[train], forces=forces[train], stress=stresses[train])
    both = rmse(model.predict_forces(frames[test]), forces[test])
    assert both < 0.4 * alone
    assert both < 0.05 * np.std(np.concatenate(forces))
    assert rmse(model.predict_stress(frames[test]), stresses[test]) < 0.2 * np.std(stresses)


def test_molecules_learn_a_pair_potential():
    frames, energies, forces = random_frames(1, n_frames=60, n_species=1, n_atoms=(3, 5)), [], []
    for atoms in frames:
        atoms.positions *= 1.5
        atoms.calc = MorsePotential(r0=2.0, rho0=3.0)
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    model = sparse(n_points=200, descriptor=LambdaSOAP(5.0, n_max=6, l_max=3, sigma=0.4))
    alone = rmse(model.fit(frames[:40], energies[:40]).predict_forces(frames[40:]), forces[40:])
    both = rmse(model.fit(frames[:40], energies[:40], forces=forces[:40]).predict_forces(frames[40:]), forces[40:])
    assert both < 0.5 * alone
