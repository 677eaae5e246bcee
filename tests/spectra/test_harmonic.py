"""Normal modes and their lines against closed forms, ASE's own and finite differences of the modes themselves."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import Infrared, Vibrations

from eqkernels.spectra import HarmonicSpectrum, normal_modes
from eqkernels.testing import random_rotation

KM_MOL, DEBYE = 42.2561, 0.20819434  # per (D/A)^2/amu; debye in e A


class Springs(Calculator):
    """Atoms on springs between all pairs, with charges, and polarizable bonds."""

    implemented_properties = ["energy", "forces", "dipole", "polarizability"]  # noqa: RUF012

    def __init__(self, lengths, spring=30.0, jumps=None, start=0.0):
        super().__init__()
        self.lengths, self.spring, self.jumps, self.start = lengths, spring, jumps, start

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        r = self.atoms.positions
        d = r[:, None] - r[None]
        n = np.linalg.norm(d, axis=2) + np.eye(len(r))
        stretched = (n - self.lengths) * (1 - np.eye(len(r)))
        charges = np.linspace(-0.4, 0.4, len(r))
        self.results["energy"] = 0.25 * self.spring * (stretched**2).sum()
        self.results["forces"] = -self.spring * (stretched[:, :, None] * d / n[:, :, None]).sum(1)
        dipole = charges @ r
        if self.jumps is not None:  # as of a Berry phase: back into the cell
            dipole = dipole - np.floor((dipole - self.start) / self.jumps) * self.jumps
        self.results["dipole"] = dipole
        outer = d[..., :, None] * d[..., None, :]
        self.results["polarizability"] = 2.0 * np.eye(3) * n.sum() + 0.7 * (outer / n[:, :, None, None]).sum((0, 1))


@pytest.fixture
def triatomic():
    atoms = Atoms("OHC", [[0, 0, 0], [0.96, 0, 0.1], [-0.3, 1.2, 0]])
    d = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=2)
    atoms.calc = Springs(d)
    return atoms


def diatomic():
    """A diatomic along z with a spring of 40 eV/A^2, charges of 0.4 e and a polarizability that grows with its length."""
    along, across, charge, spring = 3.0, -0.8, 0.4, 40.0
    atoms = Atoms("NO", [[0, 0, 0], [0, 0, 1.15]])
    rotation = random_rotation(4)
    atoms.positions = atoms.positions @ rotation.T
    axis = rotation[:, 2]
    hessian = np.kron([[1, -1], [-1, 1]], spring * np.outer(axis, axis))
    born = np.array([-charge * np.eye(3), charge * np.eye(3)])
    slope = across * np.eye(3) + (along - across) * np.outer(axis, axis)
    raman = np.array([-slope[:, :, None] * axis, slope[:, :, None] * axis])
    return atoms, hessian, born, raman, (spring, charge, along, across)


def test_diatomic_in_closed_form():
    atoms, hessian, born, raman, (spring, charge, along, across) = diatomic()
    lines = HarmonicSpectrum.from_derivatives(atoms, hessian, born, raman)
    mass = 1 / np.sum(1 / atoms.get_masses())
    hertz = np.sqrt(spring * units._e * 1e20 / (mass * units._amu)) / (2 * np.pi)
    np.testing.assert_allclose(lines.wavenumbers, [hertz / (100 * units._c)], rtol=1e-6)
    np.testing.assert_allclose(lines.absorption, [KM_MOL * (charge / DEBYE) ** 2 / mass], rtol=1e-5)
    mean, gamma = (along + 2 * across) / 3, along - across
    np.testing.assert_allclose(lines.isotropic, [45 * mean**2 / mass], rtol=1e-10)
    np.testing.assert_allclose(lines.anisotropic, [7 * gamma**2 / mass], rtol=1e-10)
    np.testing.assert_allclose(lines.activity, [(45 * mean**2 + 7 * gamma**2) / mass], rtol=1e-10)
    ratio = 3 * gamma**2 / (45 * mean**2 + 4 * gamma**2)
    np.testing.assert_allclose(lines.depolarization_ratio, [ratio], rtol=1e-10)


@pytest.mark.parametrize(("slope", "ratio"), [(np.eye(3), 0.0), (np.diag([1, -2, 1]), 0.75)])
def test_depolarization_of_isotropic_and_anisotropic_modes(slope, ratio):
    atoms, hessian, *_ = diatomic()
    axis = (atoms.positions[1] - atoms.positions[0]) / 1.15
    raman = slope[:, :, None] * axis
    lines = HarmonicSpectrum.from_derivatives(atoms, hessian, raman_tensors=np.array([-raman, raman]))
    np.testing.assert_allclose(lines.depolarization_ratio, [ratio], atol=1e-12)
    spectrum = lines.raman_spectrum(5.0)
    assert spectrum.depolarization_ratio() == pytest.approx(ratio, abs=1e-12)


def test_peaks_have_the_areas_of_the_lines(triatomic):
    lines = HarmonicSpectrum.from_structure(triatomic, polarizability_unit="A^3")
    for shape, tolerance in (("gaussian", 1e-4), ("lorentzian", 0.02)):
        spectrum = lines.infrared_spectrum(8.0, shape=shape)
        assert spectrum.integrate() == pytest.approx(lines.absorption.sum(), rel=tolerance)
        raman = lines.raman_spectrum(8.0, shape=shape)
        assert raman.total.integrate() == pytest.approx(lines.activity.sum(), rel=tolerance)
    one = HarmonicSpectrum(np.array([1000.0]), np.zeros((1, 1, 3)), np.array([1.0])).infrared_spectrum(
        8.0, wavenumbers=[996.0, 1000.0, 1004.0]
    )
    np.testing.assert_allclose(one.intensity[[0, 2]], one.intensity[1] / 2)


def test_equals_ase(triatomic, tmp_path):
    lines = HarmonicSpectrum.from_structure(triatomic, polarizability_unit="A^3", step=0.01)
    theirs = Infrared(triatomic, name=str(tmp_path / "ir"), delta=0.01)
    theirs.run()
    energies = theirs.get_energies()[6:].real / units.invcm
    np.testing.assert_allclose(lines.wavenumbers, energies, rtol=1e-3)
    np.testing.assert_allclose(lines.absorption, KM_MOL * theirs.intensities[6:], rtol=2e-3)
    data = Vibrations(triatomic, name=str(tmp_path / "vib"), delta=0.01)
    data.run()
    wavenumbers, _ = normal_modes(triatomic, data.get_vibrations())
    np.testing.assert_allclose(wavenumbers, lines.wavenumbers, rtol=1e-4)


def test_raman_tensors_are_slopes_along_the_modes(triatomic):
    lines = HarmonicSpectrum.from_structure(triatomic, polarizability_unit="A^3", step=0.005)
    for mode, isotropic, anisotropic in zip(lines.modes, lines.isotropic, lines.anisotropic, strict=True):
        values = []
        for sign in (-1, 1):
            moved = triatomic.copy()
            moved.positions += sign * 1e-4 * mode
            moved.calc = triatomic.calc
            values.append(np.array(moved.calc.get_property("polarizability", moved)))
        slope = (values[1] - values[0]) / 2e-4
        values = np.linalg.eigvalsh(slope)
        assert isotropic == pytest.approx(45 * values.mean() ** 2, rel=2e-3, abs=1e-3)
        gamma2 = 0.5 * ((values - np.roll(values, 1)) ** 2).sum()
        assert anisotropic == pytest.approx(7 * gamma2, rel=2e-3, abs=1e-3)


def test_number_of_modes_and_imaginary_ones():
    for atoms, n in ((molecule("H2O"), 3), (molecule("CO2"), 4), (molecule("CH4"), 9), (bulk("Cu", cubic=True), 9)):
        random = np.random.default_rng(0).normal(size=(3 * len(atoms), 3 * len(atoms)))
        wavenumbers, modes = normal_modes(atoms, random @ random.T)
        assert wavenumbers.shape == (n,)
        assert modes.shape == (n, len(atoms), 3)
        weighted = modes * np.sqrt(atoms.get_masses())[:, None]
        np.testing.assert_allclose(np.einsum("mia,nia->mn", weighted, weighted), np.eye(n), atol=1e-12)
        # no mode moves the center of mass
        np.testing.assert_allclose(np.einsum("mia,i->ma", modes, atoms.get_masses()), 0, atol=1e-10)
        assert (normal_modes(atoms, -random @ random.T)[0] < 0).all()


def test_periodic_dipole_on_branches():
    """Jumps by e times a lattice vector between displaced cells do not show."""
    lengths = np.full((2, 2), 1.3)
    atoms = Atoms("LiF", [[0, 0, 0], [1.3, 0, 0]], cell=np.diag([4.0, 4.1, 4.2]), pbc=True)
    smooth, jumping = atoms.copy(), atoms.copy()
    smooth.calc = Springs(lengths)
    # the dipole lies at the edge of its cell
    edge = smooth.calc.get_property("dipole", smooth)
    jumping.calc = Springs(lengths, jumps=np.array([4.0, 4.1, 4.2]), start=edge)
    first, second = (HarmonicSpectrum.from_structure(one, polarizability_unit="A^3") for one in (smooth, jumping))
    raw = [
        jumping.calc.get_property("dipole", Atoms("LiF", atoms.positions + [[s, 0, 0], [0, 0, 0]], cell=atoms.cell))
        for s in (-1e-3, 1e-3)
    ]
    assert np.abs(raw[1] - raw[0]).max() > 1
    np.testing.assert_allclose(second.absorption, first.absorption, atol=1e-8)


def test_a_structure_that_is_not_relaxed_is_a_warning():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.positions[0] += 0.1
    with pytest.warns(UserWarning, match="the structure is no minimum"):
        HarmonicSpectrum.from_structure(atoms)
    BFGS(atoms, logfile=None).run(fmax=1e-3)
    lines = HarmonicSpectrum.from_structure(atoms)
    assert lines.absorption is None
    assert (lines.wavenumbers > 50).all()
    assert "km/mol" not in str(lines)
    with pytest.raises(ValueError, match="no infrared intensities"):
        lines.infrared_spectrum()
    with pytest.raises(ValueError, match="no Raman activities"):
        lines.raman_spectrum()


def test_models_of_every_property(triatomic):
    """A model of the energy, dipole and polarizability against the calculator that they were fitted to."""
    from eqkernels import LambdaSOAP, SparseTensorGPR

    random, frames = np.random.default_rng(0), []
    for _ in range(60):
        atoms = triatomic.copy()
        atoms.positions += 0.03 * random.normal(size=(3, 3))
        atoms.calc = triatomic.calc
        frames.append(atoms)
    values = {what: [np.array(triatomic.calc.get_property(what, one)) for one in frames]
              for what in ("energy", "forces", "dipole", "polarizability")}  # fmt: skip
    descriptor = LambdaSOAP(cutoff=4.0, n_max=6, l_max=4, sigma=0.4)
    make = {"descriptor": descriptor, "random_state": 0}
    energy = SparseTensorGPR(150, noise=1e-8, **make).fit(frames, np.array(values["energy"]), forces=values["forces"])
    models = {what: SparseTensorGPR(150, noise=1e-7, target=what, **make).fit(frames, np.array(values[what]))
              for what in ("dipole", "polarizability")}  # fmt: skip
    expected = HarmonicSpectrum.from_structure(triatomic, polarizability_unit="A^3")
    lines = HarmonicSpectrum.from_structure(triatomic, energy=energy, **models)
    np.testing.assert_allclose(lines.wavenumbers, expected.wavenumbers, rtol=0.02)
    np.testing.assert_allclose(lines.absorption, expected.absorption, rtol=0.1, atol=0.5)
    np.testing.assert_allclose(lines.activity, expected.activity, rtol=0.1, atol=0.5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: HarmonicSpectrum.from_derivatives(a, np.eye(6)), ValueError, r"expected \(9, 9\) for 3 atoms"),
        (lambda a: HarmonicSpectrum.from_derivatives(a, np.eye(9), np.eye(3)), ValueError, "born_charges has shape"),
        (lambda a: HarmonicSpectrum.from_structure(a.copy()), TypeError, "give energy=, or set atoms.calc"),
        (lambda a: HarmonicSpectrum.from_structure(a, dipole_unit="x"), ValueError, "unit='x' of dipoles"),
        (lambda a: HarmonicSpectrum.from_structure(a).infrared_spectrum(shape="box"), ValueError, "shape='box'"),
    ],
)
def test_errors(triatomic, call, error, message):
    with pytest.raises(error, match=message):
        call(triatomic)
