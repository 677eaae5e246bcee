"""Sparse models of tensors that are fitted to derivatives, against differences, dense formulas and a known function."""

import pickle
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from sklearn.base import clone

from eqkernels import CovariantKernel, EquivariantUnion, LambdaSOAP, NBodyFeatures, SphericalExpansion
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.io import load_model, save_model
from eqkernels.kernels import Restricted
from eqkernels.regression.sparse.derivatives import kernel_derivatives
from eqkernels.structures import DerivativeLabels
from eqkernels.testing import assert_equivariant, random_rotation, transformed
from tests.conftest import random_frames
from tests.descriptors.density.test_gradients import moved
from tests.regression.sparse.test_derivatives import KERNELS, SMALL, close, difference, smooth_frames, sparse

# Charges and polarizabilities of a model of water: point charges that induce dipoles on each other.
CHARGES, POLARIZABILITIES = {1: 0.4, 8: -0.8}, {1: 0.2, 8: 0.9}


def induced(atoms):
    """Dipole of point charges and of the dipoles that they induce on other atoms, and its derivatives, by the formula.

    Damped as 1 / (r^2 + 1)^(3/2); dmu_i / dr_aj with the atom first.
    """
    q, alpha = (np.array([table[z] for z in atoms.numbers]) for table in (CHARGES, POLARIZABILITIES))
    r = atoms.positions[:, None] - atoms.positions
    s = np.einsum("abi,abi->ab", r, r) + 1.0
    dipole = q @ atoms.positions + np.einsum("a,b,abi,ab->i", alpha, q, r, s**-1.5)
    slope = np.einsum("a,b,ab,ij->abij", alpha, q, s**-1.5, np.eye(3))
    slope -= 3 * np.einsum("a,b,abi,abj,ab->abij", alpha, q, r, r, s**-2.5)
    return dipole, q[:, None, None] * np.eye(3) + slope.sum(axis=1) - slope.sum(axis=0)


def water(n, seed=0, n_molecules=2):
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = Atoms()
        for k in range(n_molecules):
            one = transformed(molecule("H2O"), random_rotation(np.random.RandomState(random.integers(2**31))))
            one.positions += 0.06 * random.normal(size=(3, 3)) + k * np.array([3.0 + 0.2 * random.normal(), 0, 0])
            atoms += one
        frames.append(atoms)
    return frames, *(list(one) for one in zip(*map(induced, frames), strict=True))


@pytest.fixture(scope="module")
def dimers():
    return water(30)


def numbers(derivatives):
    return np.concatenate([one.ravel() for one in derivatives])


# -- the function and the kernels ---------------------------------------------------------------------------------------


def test_the_formula_is_a_difference():
    frames, _, derivatives = water(1)
    numeric = difference(lambda changed: induced(changed[0])[0], lambda h: moved(frames, 0, 2, 1, h))
    close(derivatives[0][2, :, 1], numeric, 1e-9)


@pytest.mark.parametrize("k", range(len(KERNELS)))
@pytest.mark.parametrize(("irrep", "periodic"), [("1o", True), ("2e", False), ("1e", True), ("0o", False)])
def test_derivatives_of_covariant_kernels_are_differences(k, irrep, periodic):
    kernel, frames = KERNELS[k], smooth_frames(3, n_frames=2, n_species=2, periodic=periodic)
    soap = LambdaSOAP(**SMALL, irreps=f"0e+{irrep}").fit(frames)
    features = soap.transform(frames)
    points, n = features.split_centers(np.arange(0, len(features.species), 3)), sum(map(len, frames))
    every = {"derivatives": DerivativeLabels(np.zeros((n, 3, 1)), np.arange(n))}
    found = kernel_derivatives(soap, frames, features, kernel, points, every, 5e4, irrep)["derivatives"]
    numeric = difference(lambda changed: kernel(soap.transform(changed), points, irrep=irrep),
                         lambda h: moved(frames, 1, 0, 2, h))[1]  # fmt: skip
    close(found[len(frames[0]), 2].transpose(1, 0, 2), numeric, 1e-9)


def test_parts_of_a_union():
    frames = smooth_frames(3, n_frames=2, n_species=2)
    near, far = LambdaSOAP(2.9, n_max=2, l_max=2, accuracy=1e-12, irreps="0e+1o"), SphericalExpansion(**SMALL)
    union = EquivariantUnion([("near", near), ("far", far)]).fit(frames)
    kernel = Restricted(CovariantKernel(normalize=True), part="near") + Restricted(CovariantKernel(), "H", part="far")
    features = union.transform(frames)
    points, n = features.split_centers(), sum(map(len, frames))
    every = {"derivatives": DerivativeLabels(np.zeros((n, 3, 1)), np.arange(n))}
    for memory in (1e4, 1e9):
        found = kernel_derivatives(union, frames, features, kernel, points, every, memory, "1o")["derivatives"]
        numeric = difference(lambda changed: kernel(union.transform(changed), points, irrep="1o"),
                             lambda h: moved(frames, 0, 1, 2, h))[0]  # fmt: skip
        close(found[1, 2].transpose(1, 0, 2), numeric, 1e-9)


# -- the solution -------------------------------------------------------------------------------------------------------


def dense_model(model, frames, y, derivatives, weight, noises):
    """Predictions and variances of a dipole model, formulas with dense matrices; NaN where labels are missing."""
    points, kernel = EquivariantFeatures(**model.points_), model._kernel()
    features, n_atoms = model.descriptor_.transform(frames), np.array([len(atoms) for atoms in frames])
    every = {"derivatives": DerivativeLabels(np.zeros((n_atoms.sum(), 3, 1)), np.arange(n_atoms.sum()))}
    slopes = kernel_derivatives(model.descriptor_, frames, features, kernel, points, every, 1e9, "1o")["derivatives"]
    size = 3 * len(points)
    rows = np.concatenate([kernel(features, points, irrep="1o").transpose(0, 2, 1, 3).reshape(-1, size),
                           slopes.reshape(-1, size)])  # fmt: skip
    # components y, z, x of 1o; derivatives ordered atom, direction, component
    order = [1, 2, 0]
    labels = np.concatenate([np.asarray(y)[:, order].ravel(),
                             np.concatenate([one.transpose(0, 2, 1)[..., order].ravel() for one in derivatives])])  # fmt: skip
    weights = np.concatenate([np.repeat(weight, 3), np.repeat(weight, 9 * n_atoms)])
    gamma = np.repeat(noises, [3 * len(frames), 9 * n_atoms.sum()]) / np.maximum(weights, 1e-300)
    own = kernel(points, irrep="1o").transpose(0, 2, 1, 3).reshape(size, size)
    prior = rows @ np.linalg.pinv(own, rcond=1e-13, hermitian=True) @ rows.T
    known = np.isfinite(labels) & (weights > 0)
    covariance = prior[np.ix_(known, known)] + np.diag(gamma[known])
    solved = np.linalg.solve(covariance, labels[known])
    variance = labels[known] @ solved / known.sum()
    posterior = prior - prior[:, known] @ np.linalg.solve(covariance, prior[known])
    likelihood = -0.5 * (known.sum() * (np.log(2 * np.pi * variance) + 1) + np.linalg.slogdet(covariance)[1])
    return prior[:, known] @ solved, variance * posterior.diagonal(), likelihood


@pytest.mark.parametrize("missing", ["nothing", "some", "all tensors"])
def test_fit_is_the_dense_solution(dimers, missing):
    frames, y, derivatives = (one[:7] for one in dimers)
    y, derivatives = np.array(y), [one.copy() for one in derivatives]
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=7)
    if missing != "nothing":
        y[[0, 3]], derivatives[1][:], weight[5] = np.nan, np.nan, 0.0
        derivatives[2][4], derivatives[4][1, :, 2] = np.nan, np.nan
    if missing == "all tensors":
        y[:] = np.nan
    model = sparse(noise=1e-3, derivative_noise=1e-4, n_points=1000, kernel=CovariantKernel(zeta=3), baseline=None)
    given = None if missing == "all tensors" else y
    model.fit(frames, given, weight, derivatives=[None if np.isnan(one).all() else one for one in derivatives])
    expected, variances, likelihood = dense_model(model, frames, y, derivatives, weight, (1e-3, 1e-4))
    predicted, std = model.predict_derivatives(frames, return_std=True, include_noise=False)
    flat = np.concatenate([one.transpose(0, 2, 1)[..., [1, 2, 0]].ravel() for one in predicted])
    close(model.predict(frames)[:, [1, 2, 0]].ravel(), expected[:21], 1e-7)
    close(flat, expected[21:], 1e-7)
    spread = np.concatenate([one.transpose(0, 2, 1)[..., [1, 2, 0]].ravel() for one in std])
    np.testing.assert_allclose(spread, np.sqrt(variances[21:]), rtol=1e-4)
    assert model.log_marginal_likelihood_value_ == pytest.approx(likelihood, rel=1e-6)
    noisy = np.concatenate([one.ravel() for one in model.predict_derivatives(frames, return_std=True)[1]])
    np.testing.assert_allclose(noisy**2 - numbers(std) ** 2, 1e-4 * model.signal_variance_["1o"], rtol=1e-6)


@pytest.mark.parametrize("make", [lambda t: t + t.transpose(0, 2, 1), lambda t: t, lambda t: t[..., None] * t[:, :1, None]],
                         ids=["ij=ji", "ij", "ijk"])  # fmt: skip
@pytest.mark.parametrize("periodic", [False, True])
def test_tensors_of_any_irreps_are_learned(make, periodic):
    frames = random_frames(5, n_frames=12, n_species=2, periodic=periodic)
    random = np.random.default_rng(0)
    reference = sparse(n_points=40, noise=1e-3).fit(frames, make(random.normal(size=(12, 3, 3))))
    y, derivatives = reference.predict(frames), reference.predict_derivatives(frames)
    known = np.where(np.arange(12) % 3 == 0, 1.0, np.nan).reshape(-1, *[1] * (y.ndim - 1)) * y
    model = sparse(n_points=40).fit(frames, known, derivatives=derivatives)
    close(model.predict(frames), y, 1e-5)
    close(numbers(model.predict_derivatives(frames)), numbers(derivatives), 1e-5)
    alone = sparse(n_points=40).fit(frames, derivatives=derivatives)
    close(numbers(alone.predict_derivatives(frames)), numbers(derivatives), 1e-5)
    assert alone.target_ == model.target_
    assert {key for key in model.noise_ if "derivatives" in key} == {f"{key} derivatives" for key in model.coef_}
    for one in alone.predict_derivatives(frames):
        assert np.abs(one.sum(axis=0)).max() < 1e-10 * np.abs(one).max()


def test_forces_are_derivatives_of_energies_alone():
    frames = random_frames(5, n_frames=12, n_species=2)
    reference = sparse(n_points=40, noise=1e-3).fit(frames, np.random.default_rng(0).normal(size=12))
    energies, forces = reference.predict(frames), reference.predict_forces(frames)
    one = sparse().fit(frames, energies, forces=forces)
    other = sparse().fit(frames, energies, derivatives=[-force for force in forces])
    np.testing.assert_array_equal(one.coef_["0e"], other.coef_["0e"])
    np.testing.assert_array_equal(one.predict_derivatives(frames)[3], -one.predict_forces(frames)[3])
    without = sparse(n_points=40).fit(frames, forces=forces)
    close(numbers(without.predict_forces(frames)), numbers(forces), 1e-4)
    with pytest.raises(ValueError, match="state only forces or derivatives"):
        sparse().fit(frames, energies, forces=forces, derivatives=forces)


def test_automatic_noises_are_the_best_of_the_likelihood(dimers):
    frames, y, derivatives = (one[:10] for one in dimers)
    random = np.random.default_rng(0)
    noisy = [one + 0.01 * random.normal(size=one.shape) for one in derivatives]
    options = {"n_points": 20, "target": "dipole"}
    for labels in (y, None):
        best = sparse(**options).fit(frames, labels, derivatives=noisy)
        noises = best.noise_["1o"], best.noise_["1o derivatives"]
        for factors in ((2.0, 1.0), (0.5, 1.0), (1.0, 2.0), (1.0, 0.5)):
            noise, of_derivatives = np.multiply(noises, factors).tolist()
            other = sparse(**options, noise=noise, derivative_noise=of_derivatives).fit(
                frames, labels, derivatives=noisy
            )
            assert other.log_marginal_likelihood_value_ < best.log_marginal_likelihood_value_ + 0.1


# -- what is learned ----------------------------------------------------------------------------------------------------


def test_derivatives_alone_are_as_good_as_dipoles(dimers):
    frames, y, derivatives = dimers
    random, descriptor = np.random.default_rng(1), LambdaSOAP(5.0, n_max=4, l_max=3, sigma=0.5)
    train, test = slice(0, 20), slice(20, None)
    one_each = [np.full_like(one, np.nan) for one in derivatives]
    for part, whole in zip(one_each, derivatives, strict=True):  # as many numbers: those of one atom and direction
        atom, direction = random.integers(6), random.integers(3)
        part[atom, :, direction] = whole[atom, :, direction]
    model = sparse(n_points=120, descriptor=descriptor, kernel=CovariantKernel(zeta=1), target="dipole")
    errors = {}
    for name, labels in (("dipoles", {"y": y[train]}), ("derivatives", {"derivatives": one_each[train]}),
                         ("all", {"derivatives": derivatives[train]})):  # fmt: skip
        left = clone(model).fit(frames[train], **labels).predict(frames[test]) - y[test]
        errors[name] = np.sqrt(np.mean((left - left.mean(axis=0)) ** 2))
    assert errors["derivatives"] < 2 * errors["dipoles"]
    assert errors["all"] < 0.3 * errors["dipoles"]
    assert errors["all"] < 0.05 * np.std(y[test])


def test_laws_of_symmetry(dimers):
    frames, y, derivatives = (one[:12] for one in dimers)
    model = sparse().fit(frames, y, derivatives=derivatives)
    assert_equivariant(model.predict_derivatives, frames[:3])
    assert_equivariant(lambda some: model.predict_derivatives(some, return_std=True)[0], frames[:3])
    for one in model.predict_derivatives(water(3, seed=5)[0]):
        assert np.abs(one.sum(axis=0)).max() < 1e-10 * np.abs(one).max()


def test_error_bars_fit_the_errors(dimers):
    frames, y, derivatives = dimers
    random = np.random.default_rng(0)
    noisy = [one + 0.02 * random.normal(size=one.shape) for one in derivatives]
    noisy = [one - one.mean(axis=0) for one in noisy]
    model = sparse(n_points=100, descriptor=LambdaSOAP(5.0, n_max=4, l_max=3, sigma=0.5))
    model.fit(frames[:20], np.array(y[:20]), derivatives=noisy[:20])
    mean, std = model.predict_derivatives(frames[20:], return_std=True)
    z = (numbers(mean) - numbers(noisy[20:])) / numbers(std)
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.3


def test_energies_forces_and_stress_have_error_bars():
    random, frames = np.random.default_rng(0), []
    for _ in range(8):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += 0.1 * random.normal(size=(4, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
        frames.append(atoms)
    energies, forces = random.normal(size=8), [random.normal(size=(4, 3)) for _ in frames]
    stress = random.normal(size=(8, 3, 3))
    stress = stress + stress.transpose(0, 2, 1)
    noises = {"noise": 1e-2, "force_noise": 1e-2, "stress_noise": 1e-3}
    model = sparse(**noises).fit(frames, energies, forces=[one - one.mean(axis=0) for one in forces], stress=stress)
    mean, std = model.predict_forces(frames, return_std=True)
    assert [one.shape for one in std] == [one.shape for one in mean]
    stresses, spread = model.predict_stress(frames, return_std=True)
    assert spread.shape == stresses.shape == (8, 3, 3)
    _, of_function = model.predict_stress(frames, return_std=True, include_noise=False)
    signal = model.signal_variance_["0e"]
    added = spread**2 - of_function**2
    np.testing.assert_allclose(added[:, 0, 0], 1e-3 * signal, rtol=1e-8)
    np.testing.assert_allclose(added[:, 0, 1], 0.5e-3 * signal, rtol=1e-8)  # labels have the Frobenius norm
    # strain turned by 90 degrees about z: x and y change places
    turned = [Atoms(a.numbers, a.positions[:, [1, 0, 2]], cell=a.cell.array[:, [1, 0, 2]], pbc=True) for a in frames]
    _, other = model.predict_stress(turned, return_std=True)
    close(other, spread[:, [1, 0, 2]][:, :, [1, 0, 2]], 1e-9)


# -- data in parts ------------------------------------------------------------------------------------------------------


def test_neither_blocks_nor_jobs_nor_parts_matter(dimers, monkeypatch, tmp_path):
    from eqkernels.regression.sparse import parts

    frames, y, derivatives = (one[:16] for one in dimers)
    options = {"noise": 1e-5, "derivative_noise": 1e-4, "target": "dipole"}
    y = np.where((np.arange(16) % 3 > 0)[:, None], y, np.nan)
    model = sparse(**options).fit(frames, y, derivatives=derivatives)
    expected = numbers(model.predict_derivatives(frames))
    stored = load_model(save_model(model, tmp_path / "model.eqk") or tmp_path / "model.eqk")
    for other in (stored, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(numbers(other.predict_derivatives(frames)), expected)
    small = sparse(**options, memory=1e-3).fit(frames, y, derivatives=derivatives)
    close(numbers(small.predict_derivatives(frames)), expected, 1e-6)
    std = numbers(model.predict_derivatives(frames, return_std=True)[1])
    close(numbers(model.set_params(memory=1e-6).predict_derivatives(frames, return_std=True)[1]), std, 1e-9)
    first = sparse(**options).partial_fit(frames[:9], y[:9], derivatives=derivatives[:9], solve=False)
    at_once = sparse(**options).partial_fit(frames[:9], y[:9], derivatives=derivatives[:9], solve=False)
    first.partial_fit(frames[9:12], derivatives=derivatives[9:12], solve=False)
    first.partial_fit(frames[12:], y[12:], derivatives=derivatives[12:])
    at_once.partial_fit(frames[9:], [*[None] * 3, *y[12:]], derivatives=derivatives[9:])
    close(numbers(first.predict_derivatives(frames)), numbers(at_once.predict_derivatives(frames)), 1e-7)
    for irrep, sums in first.label_totals_.items():
        np.testing.assert_array_equal(sums, at_once.label_totals_[irrep])
    assert first.derivative_totals_["derivatives"][0] == 16 * 6 * 3
    monkeypatch.setattr(parts, "_LABELS_PER_PART", 20)
    monkeypatch.setattr(parts, "_LABELS_PER_POINT", 2)
    whole = sparse(**options).fit(frames, y, derivatives=derivatives)
    close(numbers(whole.predict_derivatives(frames)), expected, 1e-7)
    jobs = sparse(**options, n_jobs=2).fit(frames, y, derivatives=derivatives)
    np.testing.assert_array_equal(numbers(jobs.predict_derivatives(frames)), numbers(whole.predict_derivatives(frames)))


def test_no_derivatives_change_nothing(dimers):
    frames, y, _ = (one[:8] for one in dimers)
    plain = sparse().fit(frames, y)
    unknown = sparse().fit(frames, y, derivatives=[None] * 8)
    np.testing.assert_array_equal(plain.coef_["1o"], unknown.coef_["1o"])
    assert unknown.derivative_totals_ == {}


# -- bad input ----------------------------------------------------------------------------------------------------------


def test_bad_input(dimers):
    frames, y, derivatives = (one[:8] for one in dimers)
    model = sparse(target="dipole")

    def fit(changed=derivatives, labels=y, other=model, **more):
        return clone(other).fit(frames, labels, derivatives=changed, **more)

    def at(k, value):
        return [*derivatives[:k], value, *derivatives[k + 1 :]]

    with pytest.raises(
        ValueError, match=r"derivatives\[3\] has shape \(5, 3, 3\), structure 3 has 6 atoms: expected \(6, 3, 3\)"
    ):
        fit(at(3, derivatives[3][:5]))
    with pytest.raises(ValueError, match=r"np.moveaxis\(derivatives\[2\], 1, 0\) puts the atoms first"):
        fit(at(2, np.moveaxis(derivatives[2], 0, 1)))
    with pytest.raises(ValueError, match=r"derivatives\[0\].reshape\(6, 3, 3\) will do"):
        fit(at(0, derivatives[0].reshape(18, 3)))
    with pytest.raises(ValueError, match="derivatives has 7 entries for 8 structures"):
        fit(derivatives[:7])
    spoiled = derivatives[4].copy()
    spoiled[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="derivative of structure 4 by x of atom 2 has NaN or infinity in some"):
        fit(at(4, spoiled))
    with pytest.raises(ValueError, match="the opposite sign"):
        fit([-one for one in derivatives])
    with pytest.raises(ValueError, match=r"divided by 4.8 \(a unit"):
        fit([4.8 * one for one in derivatives])
    with pytest.warns(UserWarning, match=r"sum rule in 1 of 8 structures, most in structure 5: their sum .* up to 0.6"):
        fit(at(5, derivatives[5] + 0.1 * np.eye(3)))
    with pytest.raises(ValueError, match="acoustic sum rule in 8 of 8 structures"):
        fit([np.abs(one) for one in derivatives])
    with pytest.raises(ValueError, match="derivative_noise='no' must be"):
        fit(other=sparse(derivative_noise="no"))
    with pytest.raises(ValueError, match="derivative_noise=-1 must be"):
        fit(other=sparse(derivative_noise=-1))
    with pytest.raises(TypeError, match="need X to be frames"):
        sparse().fit(LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames), y, derivatives=derivatives)
    with pytest.raises(TypeError, match="cannot be fitted to forces, stress or other derivatives"):
        fit(other=sparse(descriptor=NBodyFeatures(2.7, n_max=2, l_max=2)))
    with pytest.raises(ValueError, match="per_atom=True"):
        fit(labels=None, other=sparse(per_atom=True))
    with pytest.raises(ValueError, match="y has per-atom targets"):
        clone(model).set_params(target=None).fit(
            frames, [one[:, 0] for one in derivatives[:8]], derivatives=derivatives
        )
    with pytest.raises(ValueError, match="requires y to be passed"):
        sparse().fit(frames)
    with pytest.raises(ValueError, match="forces and stress are fitted for scalar targets only"):
        fit(forces=[one[:, 0] for one in derivatives])
    other = [one[:, :, None] * np.arange(3)[:, None] for one in derivatives]
    crystals = [Atoms(atoms.numbers, atoms.positions, cell=9 * np.eye(3), pbc=True) for atoms in frames]
    with pytest.raises(ValueError, match="derivatives breaks the declared symmetry"):
        sparse(target="ij=ji").fit(crystals, derivatives=other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(at(5, None))
