"""Spectra of motions whose lines are known in closed form, in absolute units."""

import numpy as np
import pytest
from scipy import constants
from scipy.integrate import trapezoid
from scipy.signal import lfilter

from eqkernels.spectra import dipole_rates, infrared_spectrum, raman_spectrum
from eqkernels.testing import random_rotation

C = 100 * constants.c  # cm / s
BOLTZMANN = constants.k / constants.atomic_mass / 1e10  # amu A^2 / fs^2 / K
# km/mol of a derivative of 1 debye / (A amu^(1/2)), as quantum-chemistry programs state it; 1 debye in e A
KM_MOL, DEBYE = 42.2561, 0.20819434
ARBITRARY = 0.7


def angular(wavenumber):
    return 2 * np.pi * C * wavenumber * 1e-15  # rad / fs


def oscillator(wavenumber, temperature, timestep=0.5, n_times=60000, mass=3.0):
    """Displacement in A of a particle with the mean energy of the temperature."""
    omega = angular(wavenumber)
    amplitude = np.sqrt(2 * BOLTZMANN * temperature / mass) / omega
    return amplitude * np.cos(omega * timestep * np.arange(n_times) + ARBITRARY)


def peak(spectrum):
    """Position of the maximum, from a parabola through the logarithm."""
    y, k = spectrum.intensity, int(spectrum.intensity.argmax())
    low, top, high = np.log(y[k - 1 : k + 2])
    return spectrum.wavenumbers[k] + 0.5 * (low - high) / (low - 2 * top + high) * spectrum.wavenumbers[1]


@pytest.mark.parametrize("temperature", [100, 300, 2000])
@pytest.mark.parametrize("wavenumber", [200.0, 1595.0, 3700.0])
@pytest.mark.parametrize("window", ["gaussian", "hann"])
def test_infrared_line_of_an_oscillator(temperature, wavenumber, window):
    """A = N_A / (12 eps0 c^2) (dmu/dQ)^2, at any temperature."""
    charge, mass = 0.4, 3.0
    direction = random_rotation(0)[0]
    dipoles = 2.0 + charge * oscillator(wavenumber, temperature)[:, None] * direction
    spectrum = infrared_spectrum(dipoles, 0.5, unit="e A", temperature=temperature, window=window, n_blocks=1)
    expected = KM_MOL * (charge / DEBYE) ** 2 / mass
    assert spectrum.integrate(wavenumber - 100, wavenumber + 100) == pytest.approx(expected, rel=0.01)
    assert peak(spectrum) == pytest.approx(wavenumber, abs=0.2)
    assert spectrum.std is None
    inside = spectrum.wavenumbers[spectrum.intensity > 0.5 * spectrum.intensity.max()]
    assert np.ptp(inside) == pytest.approx(10.0, abs=3.0)  # two points of the grid


def test_units_of_dipoles_are_those_said():
    x = np.outer(oscillator(1000, 300), [0, 0.3, 0])
    common = {"temperature": 300, "n_blocks": 1}
    reference = infrared_spectrum(x, 0.5, unit="e A", **common).integrate()
    for unit, factor in (("D", DEBYE), ("e a0", 0.52917721)):
        other = infrared_spectrum(x / factor, 0.5, unit=unit, **common)
        assert other.integrate() == pytest.approx(reference, rel=1e-6)


def test_rigid_rotor():
    """P(omega) ~ omega exp(-I omega^2 / 2 k T): A(omega) ~ omega^3 exp(...)."""
    temperature, inertia, dipole, timestep = 300.0, 0.8, 0.4, 2.0  # K, amu A^2, e A, fs
    thermal = np.sqrt(BOLTZMANN * temperature / inertia)
    omegas = np.linspace(0, 6.5 * thermal, 400)
    probability = omegas / thermal**2 * np.exp(-0.5 * (omegas / thermal) ** 2)
    # instead of more trajectories where they are likely, larger dipoles
    amplitudes = dipole * np.sqrt(probability * omegas[1] * len(omegas))
    times = timestep * np.arange(2500)
    trajectories = []
    for k, (omega, amplitude) in enumerate(zip(omegas, amplitudes, strict=True)):
        plane = amplitude * random_rotation(k)
        trajectories.append(np.outer(np.cos(omega * times), plane[0]) + np.outer(np.sin(omega * times), plane[1]))
    spectrum = infrared_spectrum(trajectories, timestep, unit="e A", temperature=temperature, resolution=20, n_blocks=1)
    # N_A mu^2 / (6 eps0 c^2 I): that of two vibrations with dmu/dQ = mu / sqrt I
    expected = 2 * KM_MOL * (dipole / DEBYE) ** 2 / inertia
    assert spectrum.integrate() == pytest.approx(expected, rel=0.01)
    omega = angular(spectrum.wavenumbers)
    x = inertia * omega**2 / (BOLTZMANN * temperature)
    shape = x**1.5 * np.exp(-x / 2)
    shape *= expected / trapezoid(shape, spectrum.wavenumbers)
    assert np.abs(spectrum.intensity - shape).max() < 0.03 * shape.max()
    strongest = np.sqrt(3) * thermal
    high = spectrum.intensity > 0.8 * spectrum.intensity.max()
    fitted = np.polyder(np.polyfit(spectrum.wavenumbers[high], spectrum.intensity[high], 4))
    tops = np.roots(fitted)
    top = tops[np.abs(tops - peak(spectrum)).argmin()].real
    assert angular(top) == pytest.approx(strongest, rel=0.01)


def modes_of_polarizability():
    isotropic, anisotropic = np.eye(3), np.diag([1.0, -2.0, 1.0])
    shear = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.0], [0.3, 0.0, 0.0]])
    return [(isotropic, 0.0), (anisotropic, 0.75), (shear, 0.75), (isotropic + anisotropic, None)]


@pytest.mark.parametrize(("slope", "ratio"), modes_of_polarizability())
def test_raman_line_of_an_oscillator(slope, ratio):
    """S = 45 a'^2 + 7 gamma'^2, written out as in textbooks."""
    rotation, mass = random_rotation(1), 3.0
    slope = rotation @ slope @ rotation.T
    polarizabilities = 5 * np.eye(3) + oscillator(1000, 300)[:, None, None] * slope
    spectrum = raman_spectrum(polarizabilities, 0.5, unit="A^3", temperature=300, n_blocks=1)
    d = slope / np.sqrt(mass)
    a = np.trace(d) / 3
    gamma2 = 0.5 * ((d[0, 0] - d[1, 1]) ** 2 + (d[1, 1] - d[2, 2]) ** 2 + (d[2, 2] - d[0, 0]) ** 2)
    gamma2 += 3 * (d[0, 1] ** 2 + d[1, 2] ** 2 + d[0, 2] ** 2)
    assert spectrum.isotropic.integrate(900, 1100) == pytest.approx(45 * a**2, rel=0.01, abs=1e-9)
    assert spectrum.anisotropic.integrate(900, 1100) == pytest.approx(7 * gamma2, rel=0.01, abs=1e-9)
    assert spectrum.total.integrate(900, 1100) == pytest.approx(45 * a**2 + 7 * gamma2, rel=0.01)
    expected = 3 * gamma2 / (45 * a**2 + 4 * gamma2) if ratio is None else ratio
    assert spectrum.depolarization_ratio(900, 1100) == pytest.approx(expected, abs=1e-6)
    assert peak(spectrum.total) == pytest.approx(1000, abs=0.2)
    for unit, factor in (("a0^3", 0.52917721**3), ("e^2 A^2/eV", 14.3996454)):
        other = raman_spectrum(polarizabilities / factor, 0.5, unit=unit, temperature=300, n_blocks=1)
        assert other.total.integrate(900, 1100) == pytest.approx(spectrum.total.integrate(900, 1100), rel=1e-6)


def test_cross_section():
    """From the transition moment of an oscillating dipole, (omega_s / c)^4 |<1|alpha|0>|^2, at low temperature."""
    wavenumber, laser, slope, mass = 2331.0, 514.5, 1.1, 3.0
    polarizabilities = 1.7 * np.eye(3) + slope * oscillator(wavenumber, 300)[:, None, None] * np.eye(3)
    spectrum = raman_spectrum(polarizabilities, 0.5, unit="A^3", temperature=300, n_blocks=1)
    section = spectrum.cross_section(laser, temperature=1.0)
    zero_point = constants.hbar / (2 * mass * constants.atomic_mass * 2 * np.pi * C * wavenumber)  # m^2
    wave_number = 2 * np.pi * (1 / (laser * 1e-9) - 100 * wavenumber)  # 1 / m
    expected = wave_number**4 * (slope * 1e-20) ** 2 * zero_point * 1e4  # cm^2
    assert section.unit == "cm^2 / (sr cm^-1)"
    assert section.integrate(2200, 2400) == pytest.approx(expected, rel=0.01)
    warm = spectrum.cross_section(laser, temperature=3000.0).integrate(2200, 2400)
    occupation = 1 / np.expm1(constants.h * C * wavenumber / (constants.k * 3000))
    assert warm == pytest.approx((1 + occupation) * expected, rel=0.01)
    assert (section.intensity[section.wavenumbers > 1e7 / laser] == 0).all()


def test_rates_and_branches():
    """A periodic dipole that jumps between branches is useless, Born charges times velocities are not."""
    n, timestep = 30000, 0.5
    omega, charges = angular(900), np.array([0.5, -0.5])
    x = oscillator(900, 300, timestep, n)
    rate = np.gradient(x, timestep)
    velocities = np.zeros((n, 2, 3))
    velocities[:, 0, 0], velocities[:, 1, 0] = 0.5 * rate, -0.5 * rate
    born = np.broadcast_to(charges[:, None, None] * np.eye(3), (n, 2, 3, 3))
    rates = dipole_rates(velocities, born, unit="A/fs")
    np.testing.assert_allclose(rates[:, 0], 0.5 * rate)
    np.testing.assert_allclose(
        dipole_rates(velocities, born) / rates.max(), rates * 0.09822694788 / rates.max(), rtol=1e-6
    )
    common = {"unit": "e A", "temperature": 300, "n_blocks": 1}
    direct = infrared_spectrum(np.outer(0.5 * x, [1, 0, 0]), timestep, **common)
    spectrum = infrared_spectrum(rates, timestep, rates=True, **common)
    assert spectrum.integrate(800, 1000) == pytest.approx(
        direct.integrate(800, 1000), rel=2e-3 + (omega * timestep) ** 2 / 3
    )
    jumping = (0.5 * x + 0.01) % 0.02
    wrong = infrared_spectrum(np.outer(jumping, [1, 0, 0]), timestep, **common)
    assert abs(wrong.integrate(800, 1000) / direct.integrate(800, 1000) - 1) > 0.3


def test_quantum_corrections():
    """Against the harmonic factor at 3000 cm^-1 and 300 K."""
    dipoles = np.outer(oscillator(3000, 300), [1, 0, 0])
    x = constants.h * C * 3000 / (constants.k * 300)
    expected = {
        "harmonic": x / (1 - np.exp(-x)),
        "standard": 2 / (1 + np.exp(-x)),
        "schofield": np.exp(x / 2),
        "none": 1,
    }
    areas = {
        name: infrared_spectrum(
            dipoles, 0.5, unit="e A", temperature=300, quantum_correction=name, resolution=4, n_blocks=1
        ).integrate(2900, 3100)
        for name in expected
    }
    for name, factor in expected.items():
        assert areas[name] / areas["none"] == pytest.approx(factor, rel=0.01)


def test_absorption_coefficient_of_a_volume():
    dipoles = np.outer(oscillator(1000, 300), [1, 0, 0])
    molar = infrared_spectrum(dipoles, 0.5, unit="e A", temperature=300, n_blocks=2)
    cell = infrared_spectrum(dipoles, 0.5, unit="e A", temperature=300, n_blocks=2, volume=30.0)
    # 1 km/mol per cm^-1 is 1e5 cm^2/mol; divided by the volume of a mole in cm^3
    np.testing.assert_allclose(cell.intensity, molar.intensity * 1e5 / (constants.N_A * 30e-24), rtol=1e-9)
    assert cell.unit == "cm^-1"


def test_error_bars_of_blocks():
    """Areas of independent trajectories of a damped oscillator in noise scatter as their error bars say."""
    random = np.random.default_rng(0)
    omega, friction, timestep = angular(1000), 0.01, 1.0
    decay = np.exp(-friction * timestep / 2)
    noise = random.normal(size=(80, 15000))
    values = lfilter([1.0], [1.0, -2 * decay * np.cos(omega * timestep), decay**2], noise, axis=1)[:, 1000:]
    spectra = [
        infrared_spectrum(np.outer(one, [1, 0, 0]), timestep, unit="e A", temperature=300, resolution=30)
        for one in values
    ]
    areas = np.array([spectrum.integrate(700, 1300) for spectrum in spectra])
    errors = np.array([spectrum.integration_error(700, 1300) for spectrum in spectra])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(areas.std(ddof=1), rel=0.2)
    at_top = [spectrum.intensity[spectrum.wavenumbers.searchsorted(1000)] for spectrum in spectra]
    bars = [spectrum.std[spectrum.wavenumbers.searchsorted(1000)] for spectrum in spectra]
    assert np.sqrt(np.mean(np.square(bars))) == pytest.approx(np.std(at_top, ddof=1), rel=0.3)


def test_several_trajectories_are_blocks():
    parts = [np.outer(oscillator(1000, temperature, n_times=20000), [1, 0, 0]) for temperature in (200, 400)]
    spectrum = infrared_spectrum(parts, 0.5, unit="e A", temperature=300, n_blocks=1)
    assert spectrum.blocks.shape[0] == 2
    one = infrared_spectrum(parts[0], 0.5, unit="e A", temperature=300, n_blocks=1)
    np.testing.assert_allclose(spectrum.blocks[0], one.blocks[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "debye"}, "unit='debye' of dipoles must be one of 'e A', 'e a0', 'D'"),
        ({"resolution": 0.1}, "resolution=0.1 cm.-1 needs blocks of"),
        ({"window": "box"}, "window='box'"),
        ({"quantum_correction": "egelstaff"}, "quantum_correction='egelstaff'"),
        ({"temperature": -1}, "temperature=-1"),
        ({"timestep": 0}, "timestep=0"),
        ({"dipoles": np.zeros((100, 2))}, r"expected \(n_times, 3\)"),
        ({"dipoles": np.full((100, 3), np.nan)}, "NaN"),
        ({"n_blocks": 0}, "n_blocks=0"),
        ({"volume": 0.0}, "volume=0.0"),
    ],
)
def test_errors(change, message):
    arguments = {"dipoles": np.zeros((7000, 3)), "timestep": 1.0, "unit": "e A", "temperature": 300, "n_blocks": 1}
    with pytest.raises(ValueError, match=message):
        infrared_spectrum(**(arguments | change))
