"""A charge of each element as the baseline of dipoles that are learned from derivatives."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorCalculator
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.io import load_model, save_model
from eqkernels.regression.sparse.derivatives import kernel_derivatives
from eqkernels.regression.sparse.element_charges import element_dipoles, element_slopes
from eqkernels.structures import DerivativeLabels
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames
from tests.descriptors.density.test_gradients import moved, strained
from tests.kernels.test_charges import molecules
from tests.regression.sparse.test_derivatives import SMALL, SOAP, close, difference, sparse
from tests.regression.sparse.test_tensor_derivatives import CHARGES, numbers, water

ELEMENTS = {"Na": 1.1, "K": 0.9, "Cl": -1.05, "Br": -0.95, "Mg": 2.0, "O": -1.9, "Ca": 2.3}


def salts(seed=0, n=14):
    """Distorted rock salts and the charges of their elements, minus their mean."""
    random, frames, derivatives = np.random.default_rng(seed), [], []
    for k in range(n):
        names = [("Na", "Cl"), ("K", "Br"), ("Mg", "O"), ("Ca", "O"), ("Na", "Br"), ("K", "Cl")][k % 6]
        atoms = bulk("".join(names), "rocksalt", a=5.2 + 0.5 * random.uniform(), cubic=True)
        atoms.rattle(0.1, seed=k)
        if k % 3 == 0:
            atoms = atoms[:7]  # a vacancy: the mean is not zero
        charges = np.array([ELEMENTS[symbol] for symbol in atoms.symbols])
        derivatives.append((charges - charges.mean())[:, None, None] * np.eye(3))
        frames.append(atoms)
    return frames, derivatives


@pytest.fixture(scope="module")
def fitted():
    frames, derivatives = salts()
    return frames, derivatives, sparse(n_points=30, target="dipole").fit(frames, derivatives=derivatives)


def test_slopes_are_those_of_the_dipoles():
    frames = molecules(names=["H2O", "CH3OH"])
    frames[0] = frames[0] + Atoms("OH", [[3.5, 0.3, 0.1], [4.2, 0.1, 0.9]])  # parts that are about to come apart
    species, soap = np.array([1, 6, 8]), LambdaSOAP(**SMALL).fit(frames)
    slopes = element_slopes(soap.transform(frames), species)
    for structure, atom, axis in ((0, 2, 1), (1, 3, 0)):
        numeric = difference(lambda changed: element_dipoles(soap.transform(changed), species),
                             lambda h, at=(structure, atom, axis): moved(frames, *at, h), 1e-3)[structure]  # fmt: skip
        close(slopes[atom + structure * len(frames[0]), axis], numeric, 1e-9)
    assert np.abs(slopes[: len(frames[0])].sum(axis=0)).max() < 1e-12


def test_charges_of_crystals_are_learned(fitted, tmp_path):
    frames, derivatives, model = fitted
    others, expected = salts(seed=5)
    predicted = model.predict_derivatives(others)
    close(numbers(predicted), numbers(expected), 1e-6)
    for one in predicted:
        assert np.abs(one.sum(axis=0)).max() < 1e-10
    charges = dict(zip(model.species_.tolist(), model.element_charges_, strict=True))
    assert charges[12] - charges[8] == pytest.approx(3.9, abs=1e-6)
    assert_equivariant(model.predict_derivatives, others[:2])
    np.testing.assert_allclose(model.predict_charges(others[:1])[0], expected[0][:, 0, 0], atol=1e-6)
    save_model(model, tmp_path / "model.eqk")
    close(numbers(load_model(tmp_path / "model.eqk").predict_derivatives(others)), numbers(predicted), 1e-12)
    doubled = others[0].repeat((2, 1, 1))
    close(model.predict_derivatives([doubled])[0], np.tile(predicted[0], (2, 1, 1)), 1e-9)
    without = sparse(n_points=30, target="dipole", baseline=None).fit(frames, derivatives=derivatives)
    assert without.element_charges_ is None
    assert np.std(numbers(without.predict_derivatives(others)) - numbers(expected)) > 0.03


def test_dipoles_of_crystals_have_no_value(fitted):
    frames, derivatives, model = fitted
    with pytest.raises(ValueError, match=r"structure 0 is periodic.*predict_derivatives"):
        model.predict(frames[:2])
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator({"dipole": model})
    close(atoms.calc.get_property("born_charges", atoms), derivatives[0], 1e-6)
    cluster = frames[0].copy()
    cluster.pbc = False
    assert np.isfinite(model.predict([cluster])).all()


def test_some_at_a_time(fitted):
    frames, derivatives, whole = fitted
    model = sparse(n_points=30, target="dipole", n_jobs=2)
    model.partial_fit(frames[:7], derivatives=derivatives[:7], solve=False)
    model.partial_fit(frames[7:], derivatives=derivatives[7:])
    close(numbers(model.predict_derivatives(frames)), numbers(whole.predict_derivatives(frames)), 1e-5)


def test_vjp_of_molecules_is_a_difference():
    frames, dipoles, derivatives = (one[:8] for one in water(8))
    model = sparse(n_points=30).fit(frames, np.array(dipoles), derivatives=derivatives)
    cotangents = np.random.default_rng(0).normal(size=(2, 3))
    found = model.vjp(frames[:2], cotangents)
    numeric = difference(lambda changed: np.sum(cotangents * model.predict(changed)),
                         lambda h: moved(frames[:2], 1, 2, 0, h))  # fmt: skip
    assert found.positions[8, 0] == pytest.approx(numeric, rel=1e-6)
    numeric = difference(lambda changed: np.sum(cotangents * model.predict(changed)),
                         lambda h: strained(frames[:2], 0, 1, h))  # fmt: skip
    assert found.strain[:, 0, 1].sum() == pytest.approx(numeric, rel=1e-6)
    assert_equivariant(model, frames[:3])


def test_fit_is_the_generalized_least_squares_of_the_charges():
    """Coefficients and charges of dense matrices: y = D q + noise of the covariance of the kernel."""
    frames, dipoles, derivatives = (one[:6] for one in water(6))
    model = sparse(noise=1e-2, derivative_noise=1e-2, n_points=1000, kernel=CovariantKernel(zeta=2), target="dipole")
    for y in (None, np.array(dipoles)):
        model.fit(frames, y, derivatives=derivatives)
        points, kernel = EquivariantFeatures(**model.points_), CovariantKernel(zeta=2)
        features = model.descriptor_.transform(frames)
        n, size = 36, 3 * len(points)
        every = {"derivatives": DerivativeLabels(np.zeros((n, 3, 1)), np.arange(n))}
        part = frames, features, kernel, points, every, 1e9, "1o"
        rows = kernel_derivatives(model.descriptor_, *part)["derivatives"].reshape(-1, size)
        design = element_slopes(features, model.species_).reshape(-1, 2)
        labels = np.concatenate([one.transpose(0, 2, 1)[..., [1, 2, 0]].ravel() for one in derivatives])
        if y is not None:
            rows = np.concatenate([rows, kernel(features, points, irrep="1o").transpose(0, 2, 1, 3).reshape(-1, size)])
            design = np.concatenate([design, element_dipoles(features, model.species_).reshape(-1, 2)])
            labels = np.concatenate([labels, y[:, [1, 2, 0]].ravel()])
        own = kernel(points, irrep="1o").transpose(0, 2, 1, 3).reshape(size, size)
        covariance = rows @ np.linalg.pinv(own, rcond=1e-13, hermitian=True) @ rows.T + 1e-2 * np.eye(len(rows))
        weighted = np.linalg.solve(covariance, design)
        charges = np.linalg.lstsq(weighted.T @ design, weighted.T @ labels, rcond=1e-10)[0]
        assert charges[1] - charges[0] == pytest.approx(np.diff(model.element_charges_)[0], rel=1e-6)
        mean = (covariance - 1e-2 * np.eye(len(rows))) @ np.linalg.solve(covariance, labels - design @ charges)
        expected = (mean + design @ charges)[: 9 * n]
        found = np.concatenate([
            one.transpose(0, 2, 1)[..., [1, 2, 0]].ravel() for one in model.predict_derivatives(frames)
        ])  # fmt: skip
        close(found, expected, 1e-6)
        assert abs(charges[1] - charges[0] - (CHARGES[8] - CHARGES[1])) < 0.3


def test_elements_that_were_not_seen_have_the_charges_of_those_like_them():
    frames, derivatives = salts()
    without = [k for k, atoms in enumerate(frames) if "K" not in atoms.symbols]
    soap = LambdaSOAP(3.4, n_max=2, l_max=2, species_embedding="periodic", handle_unknown="embed")
    kernel = CovariantKernel(center_similarity=1.0)
    model = sparse(n_points=20, target="dipole", descriptor=soap, kernel=kernel)
    model.fit([frames[k] for k in without], derivatives=[derivatives[k] for k in without])
    k = next(k for k, atoms in enumerate(frames) if str(atoms.symbols[:2]) == "KBr")
    predicted, expected = model.predict_derivatives([frames[k]])[0], derivatives[k]
    assert np.abs(predicted.sum(axis=0)).max() < 1e-10
    assert np.sqrt(np.mean((predicted - expected) ** 2)) < 0.3 * np.std(expected)


def test_where_there_are_none():
    frames = random_frames(5, n_frames=8, n_species=2, periodic=True)
    random = np.random.default_rng(0)
    derivatives = [random.normal(size=(len(atoms), 3, 3)) for atoms in frames]
    derivatives = [one - one.mean(axis=0) for one in derivatives]
    tensors = [one[:, :, None] * one[:, None] for one in derivatives]
    tensors = [one - one.mean(axis=0) for one in tensors]
    for labels in (
        {"y": random.normal(size=(8, 3)), "derivatives": derivatives},  # a branch of the dipole that users have chosen
        {"derivatives": tensors},
        {"y": random.normal(size=8), "forces": [one[:, 0] for one in derivatives]},
    ):
        assert sparse().fit(frames, **labels).element_charges_ is None
    molecules_alone = water(6)
    assert sparse().fit(molecules_alone[0], np.array(molecules_alone[1])).element_charges_ is None
    options = {"target": "dipole", "descriptor": SOAP, "n_points": 12, "random_state": 0}
    assert SparseTensorGPR(**options, baseline="mean").fit(frames, derivatives=derivatives).element_charges_ is None
