"""Charges and dipoles of atoms learned from derivatives: kernels against differences, models against known charges."""

import warnings

import numpy as np
import pytest
from ase import Atoms

from eqkernels import ChargeKernel, CovariantKernel, LambdaSOAP, SparseTensorGPR
from eqkernels.derivatives import predict_derivatives
from eqkernels.io import load_model, save_model
from eqkernels.kernels import AtomicDipoleKernel, Restricted
from eqkernels.regression.sparse.derivatives import kernel_derivatives
from eqkernels.structures import DerivativeLabels
from eqkernels.testing import assert_equivariant
from tests.descriptors.density.test_gradients import moved
from tests.kernels.test_charges import molecules
from tests.regression.sparse.test_derivatives import close, difference
from tests.regression.sparse.test_tensor_derivatives import numbers, water
from tests.regression.test_charges import BOTH, ELECTRONEGATIVITY, SOAP, labelled

CHARGES, DIPOLES = ChargeKernel(2, weight=2.0, reach=4.0), AtomicDipoleKernel(2, weight=0.5)
KERNELS = [
    CHARGES,
    ChargeKernel(1, False, weight=0.3, reach=np.inf),
    CovariantKernel(zeta=1) + 0.3 * CHARGES + DIPOLES,
    AtomicDipoleKernel(1, False, weight=1.0),
    Restricted(CHARGES, "O") * CovariantKernel(),
    Restricted(DIPOLES, "C") + Restricted(CHARGES * CHARGES, "H"),
    CovariantKernel() * Restricted(CHARGES, "O"),
]


@pytest.fixture(scope="module")
def apart():
    """Frames of which parts are about to come apart, and a descriptor."""
    frames = molecules(names=["H2O", "CH3OH"])
    frames[0] = frames[0] + Atoms("OH", [[3.5, 0.3, 0.1], [4.2, 0.1, 0.9]])
    return frames, LambdaSOAP(3.5, n_max=2, l_max=2, irreps="0e+1o+2e", accuracy=1e-12).fit(molecules())


@pytest.mark.parametrize("irrep", ["1o", "2e", "0e"])
@pytest.mark.parametrize("k", range(len(KERNELS)))
def test_derivatives_of_kernels_are_differences(apart, k, irrep):
    (frames, soap), kernel = apart, KERNELS[k]
    points = soap.transform(molecules(5))
    points = points.split_centers(np.arange(0, len(points.species), 5))
    features, n = soap.transform(frames), sum(map(len, frames))
    every = {"derivatives": DerivativeLabels(np.zeros((n, 3, 1)), np.arange(n))}
    found = kernel_derivatives(soap, frames, features, kernel, points, every, 5e4, irrep)["derivatives"]
    for structure, atom, axis in ((0, 2, 1), (1, 0, 2)):
        numeric = difference(lambda changed: kernel(soap.transform(changed), points, irrep=irrep),
                             lambda h, at=(structure, atom, axis): moved(frames, *at, h), 1e-3)[structure]  # fmt: skip
        one = found[atom + structure * len(frames[0]), axis].transpose(1, 0, 2)
        assert np.abs(one - numeric).max() < 1e-8 * max(np.abs(numeric).max(), 1e-3)


def charges_of(frames):
    """Derivatives of the dipoles of ``labelled``: charges of the elements that add up to the total charge."""
    out = []
    for atoms in frames:
        charges = np.array([ELECTRONEGATIVITY[z] for z in atoms.numbers])
        charges += (atoms.info.get("charge", 0) - charges.sum()) / len(atoms)
        out.append(charges[:, None, None] * np.eye(3))
    return out


@pytest.mark.parametrize("charged", [False, True], ids=["neutral", "charged"])
@pytest.mark.parametrize("with_dipoles", [False, True])
def test_charges_are_learned_from_derivatives(charged, with_dipoles, tmp_path):
    frames, dipoles = labelled(charged)
    derivatives = charges_of(frames)
    model = SparseTensorGPR(60, kernel=BOTH, descriptor=SOAP, target="dipole", random_state=0, baseline=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the total charge breaks no sum rule
        model.fit(frames[:16], dipoles[:16] if with_dipoles else None, derivatives=derivatives[:16])
    predicted = model.predict_derivatives(frames[16:])
    size = np.std(numbers(derivatives))
    assert np.sqrt(np.mean((numbers(predicted) - numbers(derivatives[16:])) ** 2)) < 0.2 * size
    assert np.sqrt(np.mean((model.predict(frames[16:]) - dipoles[16:]) ** 2)) < 0.05
    for one, atoms in zip(predicted, frames[16:], strict=True):
        assert np.abs(one.sum(axis=0) - atoms.info.get("charge", 0) * np.eye(3)).max() < 1e-10
    _, std = model.predict_derivatives(frames[16:18], return_std=True)
    assert all(np.isfinite(one).all() and (one > 0).all() for one in std)
    save_model(model, tmp_path / "model.eqk")
    again = load_model(tmp_path / "model.eqk")
    close(numbers(again.predict_derivatives(frames[16:18])), numbers(predicted[:2]), 1e-12)
    close(numbers(predict_derivatives(model, frames[16:18])), numbers(predicted[:2]), 1e-12)


def test_charges_are_better_than_dipoles_of_atoms_alone():
    frames, _ = labelled()
    derivatives = charges_of(frames)
    errors = []
    for kernel in (CovariantKernel(), BOTH):
        model = SparseTensorGPR(60, kernel=kernel, descriptor=SOAP, target="dipole", random_state=0, baseline=None)
        model.fit(frames[:16], derivatives=derivatives[:16])
        errors.append(np.std(numbers(model.predict_derivatives(frames[16:])) - numbers(derivatives[16:])))
    assert errors[1] < 0.8 * errors[0]


def test_laws_of_symmetry():
    frames, _ = labelled()
    model = SparseTensorGPR(40, kernel=BOTH, descriptor=SOAP, target="dipole", random_state=0, baseline=None)
    model.fit(frames[:8], derivatives=charges_of(frames[:8]))
    assert_equivariant(model.predict_derivatives, frames[8:10])


def test_quadrupoles_of_charges_and_dipoles():
    frames, random = molecules(0, ["H2O", "CH3OH", "HCOOH", "CH3CHO"] * 3), np.random.default_rng(0)
    kernel = CovariantKernel() + CHARGES + DIPOLES
    soap = LambdaSOAP(3.0, n_max=3, l_max=2, irreps="0e+1o+2e")
    options = {"kernel": kernel, "descriptor": soap, "baseline": None, "random_state": 0}
    labels = random.normal(size=(12, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their symmetry
        reference = SparseTensorGPR(30, noise=1e-3, **options).fit(frames, labels + labels.transpose(0, 2, 1))
    derivatives = reference.predict_derivatives(frames)
    model = SparseTensorGPR(30, target="ij=ji", **options).fit(frames, derivatives=derivatives)
    close(numbers(model.predict_derivatives(frames)), numbers(derivatives), 1e-5)


def test_the_choice_of_weights():
    """Charges of the elements need their weight; labels of dipoles of atoms do not."""
    frames, _ = labelled()
    model = SparseTensorGPR(40, kernel=BOTH, descriptor=SOAP, target="dipole", random_state=0, baseline=None)
    model.fit(frames[:12], derivatives=charges_of(frames[:12]))
    chosen = model.kernel_["1o"].get_params()
    assert chosen["k2__weight"] > 1e-4
    assert chosen["k2__weight_bounds"] == "fixed"
    reference = SparseTensorGPR(40, noise=1e-3, kernel=CovariantKernel(), descriptor=SOAP, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their symmetry
        reference.fit(frames[:12], np.random.default_rng(0).normal(size=(12, 3)))
    other = model.fit(frames[:12], derivatives=reference.predict_derivatives(frames[:12]))
    assert other.kernel_["1o"].get_params()["k2__weight"] < 1e-2 * chosen["k2__weight"]
    close(numbers(other.predict_derivatives(frames[:12])), numbers(reference.predict_derivatives(frames[:12])), 1e-3)


def test_parts_one_after_the_other():
    frames, dipoles = labelled(True)
    derivatives = charges_of(frames)
    model = SparseTensorGPR(40, kernel=CovariantKernel() + ChargeKernel(weight=0.5), descriptor=SOAP, random_state=0, baseline=None,
                            target="dipole", noise=1e-4, derivative_noise=1e-4, n_jobs=2)  # fmt: skip
    model.partial_fit(frames[:8], dipoles[:8], derivatives=derivatives[:8], solve=False)
    model.partial_fit(frames[8:16], derivatives=derivatives[8:16])
    close(numbers(model.predict_derivatives(frames[16:])), numbers(derivatives[16:]), 0.3)


def test_total_charges_that_the_kernel_does_not_know():
    frames, _, derivatives = water(4)
    for atoms in frames:
        atoms.info["charge"] = 1
    moved_on = [one + np.eye(3) / len(one) for one in derivatives]
    model = SparseTensorGPR(12, descriptor=SOAP, target="dipole", random_state=0, baseline=None)
    with pytest.warns(UserWarning, match=r"acoustic sum rule in 4 of 4.*ChargeKernel"):
        model.fit(frames, derivatives=moved_on)
