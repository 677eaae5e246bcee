"""Thole's model against formulas written out pair by pair, closed forms, experiments and differences."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import atomic_numbers
from ase.units import Bohr
from scipy.integrate import quad
from scipy.optimize import approx_fprime

from eqkernels import LambdaSOAP, TensorGPR, TensorKernelRidge, TholePolarizability
from eqkernels.datasets import load_small_organics
from eqkernels.regression.induced_dipoles import DAMPINGS, by_size
from eqkernels.regression.thole import PUBLISHED, PUBLISHED_A
from eqkernels.structures import StructureBatch
from tests.conftest import random_frames

KINDS = list(DAMPINGS)


def model_of(frames, damping="exponential", a=None, alphas=None, unit="angstrom^3"):
    """A model with stated parameters."""
    model = TholePolarizability(damping, a=1.9, unit=unit)
    model = model.fit(frames, np.array([len(atoms) * np.eye(3) for atoms in frames]))
    model.a_ = PUBLISHED_A[damping] if a is None else a
    alphas = {symbol: PUBLISHED[symbol] * Bohr**3 for symbol in model.polarizabilities_} if alphas is None else alphas
    model.polarizabilities_ = {symbol: alphas[symbol] for symbol in model.polarizabilities_}
    return model


def enclosed(damping, a, u):
    """Charge within u and the potential's damping, by quadrature of the density of charge that is printed there."""
    if damping == "exponential":

        def density(x):
            return a**3 / (8 * np.pi) * np.exp(-a * x)
    else:

        def density(x):
            return 3 / np.pi * (a - x) / a**4 if x < a else 0.0

    return quad(lambda x: 4 * np.pi * x**2 * density(x), 0, u, limit=200)[0]


@pytest.mark.parametrize("damping", KINDS)
@pytest.mark.parametrize("u", [0.4, 1.1, 2.9])
def test_factors_are_those_of_the_charge_density(damping, u):
    """The field of a charge is damped by the charge within; that of a dipole is its derivative."""
    a, factors = 1.9, DAMPINGS[damping]
    f, g = factors[0](np.array([u * a ** factors[1]]))[:2]
    np.testing.assert_allclose(f[0], enclosed(damping, a, u), rtol=1e-8)
    h = 1e-4
    slope = (enclosed(damping, a, u + h) - enclosed(damping, a, u - h)) / (2 * h)
    np.testing.assert_allclose(g[0], f[0] - u * slope / 3, rtol=1e-6, atol=1e-7)


def naive(atoms, alphas, a, damping):
    """The equations as printed, atom by atom."""
    n = len(atoms)
    matrix = np.zeros((3 * n, 3 * n))
    for i in range(n):
        matrix[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = np.eye(3) / alphas[atoms.symbols[i]]
        for j in set(range(n)) - {i}:
            r = atoms.positions[i] - atoms.positions[j]
            d = np.linalg.norm(r)
            s = (alphas[atoms.symbols[i]] * alphas[atoms.symbols[j]]) ** (1 / 6)
            if damping == "exponential":
                w = a * d / s
                f = 1 - (w**2 / 2 + w + 1) * np.exp(-w)
                g = 1 - (w**3 / 6 + w**2 / 2 + w + 1) * np.exp(-w)
            else:
                v = min(d / (a * s), 1.0)
                f, g = 4 * v**3 - 3 * v**4, v**4
            matrix[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = f * np.eye(3) / d**3 - 3 * g * np.outer(r, r) / d**5
    return np.linalg.inv(matrix).reshape(n, 3, n, 3).sum(axis=(0, 2))


@pytest.mark.parametrize("damping", KINDS)
def test_formulas(damping):
    frames = random_frames(seed=2, n_frames=9, n_species=4) + [Atoms("O")]
    model = model_of(frames, damping)
    expected = [naive(atoms, model.polarizabilities_, model.a_, damping) for atoms in frames]
    np.testing.assert_allclose(model.predict(frames), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(model.predict(frames[:1])[0], expected[0], rtol=1e-10, atol=1e-12)
    assert np.linalg.eigvalsh(model.predict(frames)).min() > 0


def test_two_atoms_far_apart():
    """Silberstein's closed form: the dipoles amplify each other along the axis and weaken each other across it."""
    a1, a2, r = 1.3, 0.6, 6.0
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, r]])
    alpha = model_of([atoms], alphas={"C": a1, "O": a2}).predict([atoms])[0]
    along = (a1 + a2 + 4 * a1 * a2 / r**3) / (1 - 4 * a1 * a2 / r**6)
    across = (a1 + a2 - 2 * a1 * a2 / r**3) / (1 - a1 * a2 / r**6)
    np.testing.assert_allclose(alpha, np.diag([across, across, along]), atol=2e-5)
    linear = model_of([atoms], "linear", alphas={"C": a1, "O": a2}).predict([atoms])[0]
    np.testing.assert_allclose(linear, np.diag([across, across, along]), rtol=1e-12, atol=1e-12)


# Mean polarizabilities (cubic Angstrom) of experiments, CRC Handbook of Chemistry and Physics.
MEASURED = {
    "N2": 1.740, "O2": 1.581, "H2O": 1.45, "CH4": 2.593, "C2H6": 4.47, "CH3OH": 3.29, "CO": 1.95, "CO2": 2.911,
    "H2CO": 2.77, "HF": 0.80, "HCl": 2.63, "C2H4": 4.25, "C6H6": 10.0, "CH3Cl": 4.72, "NH3": 2.22,
}  # fmt: skip


def test_published_parameters_give_measured_polarizabilities():
    """Those of van Duijnen and Swart were fitted to such molecules, and err by some percent."""
    frames = [molecule(name) for name in MEASURED]
    means = np.trace(model_of(frames).predict(frames), axis1=1, axis2=2) / 3
    errors = means / np.array(list(MEASURED.values())) - 1
    assert np.abs(errors).max() < 0.13
    assert np.sqrt(np.mean(errors**2)) < 0.06
    for unit, size in (("bohr^3", Bohr**3), ("angstrom^3", 1.0)):
        alphas = {symbol: value * Bohr**3 / size for symbol, value in PUBLISHED.items()}
        np.testing.assert_allclose(
            np.trace(model_of(frames, alphas=alphas, unit=unit).predict(frames), axis1=1, axis2=2) / 3 * size, means
        )


@pytest.mark.parametrize("damping", KINDS)
def test_derivatives(damping):
    frames = [molecule("CH3OH"), molecule("H2O"), *random_frames(seed=5, n_frames=2, n_species=3)]
    model, h = model_of(frames, damping), 1e-5
    for atoms, found in zip(frames, model.predict_derivatives(frames), strict=True):
        numeric = np.zeros(found.shape)
        for atom in range(len(atoms)):
            for direction in range(3):
                moved = [atoms.copy(), atoms.copy()]
                moved[0].positions[atom, direction] += h
                moved[1].positions[atom, direction] -= h
                numeric[atom, ..., direction] = np.subtract(*model.predict(moved)) / (2 * h)
        np.testing.assert_allclose(found, numeric, atol=1e-7 * np.abs(found).max())
        np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-10)
    random = np.random.default_rng(0)
    cotangents, strain = random.normal(size=(len(frames), 3, 3)), random.normal(size=(3, 3))
    positions, by_strain = model.vjp(frames, cotangents)
    expected = [
        np.einsum("ailj,il->aj", d, c) for d, c in zip(model.predict_derivatives(frames), cotangents, strict=True)
    ]
    np.testing.assert_allclose(positions, np.concatenate(expected), atol=1e-12)
    moved = [[Atoms(a.numbers, a.positions @ (np.eye(3) + s * h * strain).T) for a in frames] for s in (1, -1)]
    change = (model.predict(moved[0]) - model.predict(moved[1])) / (2 * h)
    np.testing.assert_allclose(
        np.sum(by_strain * strain, axis=(1, 2)), np.sum(change * cotangents, axis=(1, 2)), rtol=1e-6
    )


@pytest.mark.parametrize("damping", KINDS)
def test_slopes_of_the_fit(damping):
    frames = random_frames(seed=6, n_frames=4, n_species=3)
    batch = StructureBatch.from_frames(frames)
    kinds = np.searchsorted(batch.species, batch.numbers)
    theta = np.log([0.4, 1.3, 1.0, 1.8])[: len(batch.species) + 1]
    theta[-1] = np.log(1.8)
    for molecules in by_size(batch, kinds):

        def values(x, molecules=molecules):
            return molecules.response(np.exp(x[:-1]), np.exp(x[-1]), damping).polarizabilities.ravel()

        found = molecules.response(np.exp(theta[:-1]), np.exp(theta[-1]), damping).by_parameters(len(theta) - 1)
        numeric = approx_fprime(theta, values, 1e-7)
        np.testing.assert_allclose(found.reshape(numeric.shape), numeric, atol=2e-5 * np.abs(numeric).max())


@pytest.mark.parametrize("damping", KINDS)
def test_fit_finds_the_parameters(damping):
    frames = [molecule(name) for name in ("CH3OH", "H2O", "CH4", "C2H4", "CO2", "H2CO", "C6H6", "O2")]
    alphas = {"H": 3.4, "C": 7.5, "O": 6.9}
    truth = model_of(frames, damping, 1.6, alphas, unit="bohr^3")
    model = TholePolarizability(damping).fit(frames, truth.predict(frames))
    assert model.a_ == pytest.approx(1.6, rel=1e-4)
    assert model.polarizabilities_ == pytest.approx(alphas, rel=1e-4)
    assert model.rmse_ < 1e-3
    fixed = TholePolarizability(damping, a=1.6).fit(frames, truth.predict(frames))
    assert fixed.a_ == pytest.approx(1.6)
    in_angstrom = TholePolarizability(damping, unit="angstrom^3").fit(frames, truth.predict(frames) * Bohr**3)
    np.testing.assert_allclose(in_angstrom.predict(frames), model.predict(frames) * Bohr**3, rtol=1e-6, atol=1e-10)


def test_weights_and_elements_without_labels():
    """A molecule of weight zero says nothing: its elements keep their published values."""
    frames = [molecule(name) for name in ("CH3OH", "H2O", "CH4", "HCl")]
    y = model_of(frames, unit="bohr^3", alphas=PUBLISHED).predict(frames)
    y[3] *= 5
    model = TholePolarizability().fit(frames, y, sample_weight=[1, 1, 2, 0])
    assert model.polarizabilities_["Cl"] == pytest.approx(PUBLISHED["Cl"], rel=1e-2)
    exotic = [molecule("SiH4"), molecule("Na2"), molecule("PH3")]
    found = TholePolarizability().fit(exotic, np.array([32.0, 260.0, 31.0])[:, None, None] * np.eye(3))
    assert all(value > 0 for value in found.polarizabilities_.values())
    assert found.rmse_ < 30


def test_input_that_is_refused():
    frames = [molecule("H2O"), molecule("CH4")]
    y = np.array([10 * np.eye(3), 17 * np.eye(3)])
    model = TholePolarizability().fit(frames, y)
    with pytest.raises(ValueError, match="species N .first in structure 1, atom 0. was not seen at fit, which saw H"):
        model.predict([frames[0], molecule("NH3")])
    with pytest.raises(ValueError, match="structure 1 is periodic: TholePolarizability is a model of molecules"):
        model.predict([frames[0], bulk("C")])
    with pytest.raises(ValueError, match="trailing shape"):
        TholePolarizability().fit(frames, y[:, 0])
    with pytest.raises(ValueError, match="breaks the declared symmetry"):
        TholePolarizability().fit(frames, y + np.diag([5.0, 5.0], 1))
    with pytest.raises(ValueError, match="damping='gauss' must be one of"):
        TholePolarizability("gauss").fit(frames, y)
    with pytest.warns(UserWarning, match="if it is in angstrom.3, write unit='angstrom.3'"):
        TholePolarizability().fit(frames, y * Bohr**3)
    with pytest.warns(UserWarning, match="if it is in bohr.3, write unit='bohr.3'"):
        TholePolarizability(unit="angstrom^3").fit(frames, y)


def test_as_a_baseline():
    """What the kernel learns is smaller, and derivatives are those of the sum."""
    data = load_small_organics()
    frames, y, h = data.frames[:45], data.polarizability[:45], 1e-5
    descriptor = LambdaSOAP(cutoff=3.5, n_max=3, l_max=2)
    model = TensorGPR(descriptor=descriptor, optimizer=None, baseline=TholePolarizability()).fit(frames, y)
    alone = TholePolarizability().fit(frames, y)
    np.testing.assert_allclose(model.baseline_model_.predict(frames), alone.predict(frames))
    rest = TensorGPR(descriptor=descriptor, optimizer=None).fit(frames, y - alone.predict(frames))
    np.testing.assert_allclose(model.predict_left_out(), rest.predict_left_out() + alone.predict(frames), atol=1e-8)
    kernel = TensorKernelRidge(1e-6, descriptor=descriptor, baseline=TholePolarizability()).fit(frames, y)
    atoms = frames[3]
    moved = [atoms.copy(), atoms.copy()]
    moved[0].positions[1, 0] += h
    moved[1].positions[1, 0] -= h
    numeric = np.subtract(*kernel.predict(moved)) / (2 * h)
    np.testing.assert_allclose(
        kernel.predict_derivatives([atoms])[0][1, ..., 0], numeric, atol=1e-4 * np.abs(numeric).max()
    )
    assert atomic_numbers["C"] in alone.species_
