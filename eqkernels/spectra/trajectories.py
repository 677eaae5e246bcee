r"""Infrared and Raman spectra of a trajectory, from the fluctuations of its dipoles and polarizabilities.

With the spectral densities D of the dipole, of the mean polarizability a and of the traceless part of the
polarizability (:mod:`eqkernels.spectra.correlation`),

.. math::

    A(\tilde\nu) = \frac{N_A}{12 \varepsilon_0 c^2} D_\mu , \quad
    S_\text{iso}(\tilde\nu) = 45 D_a , \quad S_\text{aniso}(\tilde\nu) = 7 \cdot \tfrac 3 2 D_{\alpha - a} .
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.units import fs
from numpy.typing import ArrayLike, NDArray
from scipy import constants

from eqkernels._numeric import check_integer, check_positive, real_array
from eqkernels.spectra.correlation import QUANTUM_CORRECTIONS, WINDOWS, lag_window, spectral_densities
from eqkernels.spectra.spectral_units import ABSORPTION, DIPOLE_UNITS, POLARIZABILITY_UNITS, unit_factor
from eqkernels.spectra.spectrum import RamanSpectrum, Spectrum


def infrared_spectrum(
    dipoles: ArrayLike | Sequence[ArrayLike],
    timestep: float,
    *,
    unit: str,
    temperature: float,
    rates: bool = False,
    resolution: float = 10.0,
    window: str = "gaussian",
    quantum_correction: str = "harmonic",
    n_blocks: int = 5,
    volume: float | None = None,
) -> Spectrum:
    """Infrared absorption of a trajectory.

    Parameters
    ----------
    dipoles : array-like of shape (n_times, 3), or list of them
        Of one trajectory, or of several that are independent.
    timestep : float
        Between the entries, in fs.
    unit : {"e A", "e a0", "D"}
        Of the dipoles; ASE's is e Angstrom, D is debye.
    temperature : float
        Of the dynamics, in K.
    rates : bool, default=False
        Whether the entries are time derivatives, per fs. The dipole of a periodic cell is known only up to
        multiples of e times a lattice vector, and jumps where an atom leaves the cell: then give the derivatives, which
        :func:`dipole_rates` makes of Born charges and velocities.
    resolution : float, default=10.0
        Full width at half maximum, in cm^-1, that the window gives to a sharp line. A finer resolution needs longer
        trajectories, and is noisier.
    window : {"gaussian", "hann"}, default="gaussian"
        By which the autocorrelation function is multiplied. The Hann window needs half the time, and has small negative
        lobes beside strong lines.
    quantum_correction : {"harmonic", "standard", "schofield", "none"}, default="harmonic"
        Factor from classical to quantum time correlation, with x = h c nu / k T: x / (1 - e^-x), 2 / (1 + e^-x),
        e^(x/2) or 1. The first is exact for harmonic modes.
    n_blocks : int, default=5
        Parts of each trajectory, whose spectra give the error bars.
    volume : float, default=None
        Of the cell, in Angstrom^3: for the absorption coefficient of a liquid or crystal.

    Returns
    -------
    Spectrum
        Molar napierian absorption in km/mol per cm^-1 (1 is 100 L / (mol cm)), which integrates to the intensities
        of harmonic calculations; or with a volume the absorption coefficient times the refractive index, in cm^-1.

    Raises
    ------
    ValueError
        If a trajectory is too short for the resolution, its entries are no vectors, or a parameter is out of range.

    See Also
    --------
    HarmonicSpectrum : Lines of normal modes.
    eqkernels.plotting.SpectrumDisplay : Pictures.

    Notes
    -----
    The trajectory should sample the temperature and move freely (NVE, or a weak thermostat). Motions with less than two
    entries a period appear at a wrong wavenumber: 4000 cm^-1 needs 4 fs at most.

    References
    ----------
    D. A. McQuarrie, Statistical Mechanics, 1976, chapter 21; M. Thomas et al., Phys. Chem. Chem. Phys. 15, 6608 (2013),
    doi:10.1039/c3cp44302g.

    Examples
    --------
    A charge of e and mass of 1 amu that swings at 1000 cm^-1 with the mean energy of 300 K:

    >>> import numpy as np
    >>> times = np.arange(40000.0)  # fs
    >>> omega = 2 * np.pi * 2.99792458e-5 * 1000  # rad / fs
    >>> amplitude = np.sqrt(2 * 300 * 8.314462618e-7 / omega**2)  # k T in amu A^2 / fs^2
    >>> dipoles = np.outer(amplitude * np.cos(omega * times), [1.0, 0.0, 0.0])
    >>> spectrum = infrared_spectrum(dipoles, 1.0, unit="e A", temperature=300)
    >>> float(spectrum.wavenumbers[spectrum.intensity.argmax()].round(-1)), round(spectrum.integrate(900, 1100), -1)
    (1000.0, 970.0)
    """
    blocks = _blocks(dipoles, "dipoles", (3,), unit_factor(unit, DIPOLE_UNITS, "dipoles"), n_blocks)
    how = _Settings(timestep, temperature, rates, resolution, window, quantum_correction)
    wavenumbers, density = how.densities(blocks)
    if volume is None:
        return Spectrum(wavenumbers, ABSORPTION * density, "km/mol / cm^-1")
    check_positive(volume, "volume")
    # km/mol per cm^-1 are 10 m^2/mol
    to_absorption = 10.0 / constants.N_A / (volume * constants.angstrom**3) / 100
    return Spectrum(wavenumbers, to_absorption * ABSORPTION * density, "cm^-1")


def raman_spectrum(
    polarizabilities: ArrayLike | Sequence[ArrayLike],
    timestep: float,
    *,
    unit: str,
    temperature: float,
    rates: bool = False,
    resolution: float = 10.0,
    window: str = "gaussian",
    quantum_correction: str = "harmonic",
    n_blocks: int = 5,
) -> RamanSpectrum:
    """Raman activity of a trajectory.

    Parameters
    ----------
    polarizabilities : array-like of shape (n_times, 3, 3), or list of them
        Symmetric, of one trajectory, or of several that are independent.
    timestep : float
        Between the entries, in fs.
    unit : {"A^3", "a0^3", "e^2 A^2/eV"}
        Of the polarizabilities; the last is ASE's.
    temperature : float
        Of the dynamics, in K.
    rates : bool, default=False
        Whether the entries are time derivatives, per fs.
    resolution : float, default=10.0
        Full width at half maximum, in cm^-1, that the window gives to a sharp line. A finer resolution needs longer
        trajectories, and is noisier.
    window : {"gaussian", "hann"}, default="gaussian"
        By which the autocorrelation function is multiplied. The Hann window needs half the time, and has small negative
        lobes beside strong lines.
    quantum_correction : {"harmonic", "standard", "schofield", "none"}, default="harmonic"
        Factor from classical to quantum time correlation, with x = h c nu / k T: x / (1 - e^-x), 2 / (1 + e^-x),
        e^(x/2) or 1. The first is exact for harmonic modes.
    n_blocks : int, default=5
        Parts of each trajectory, whose spectra give the error bars.

    Returns
    -------
    RamanSpectrum
        Isotropic, anisotropic, polarized and depolarized activities in Angstrom^4/amu per cm^-1, which integrate to
        the activities of harmonic calculations; :meth:`RamanSpectrum.cross_section` has the factors of the laser and
        of the temperature.

    Raises
    ------
    ValueError
        If a trajectory is too short for the resolution, its entries are no matrices, or a parameter is out of range.

    See Also
    --------
    infrared_spectrum : Absorption.

    References
    ----------
    M. Thomas et al., Phys. Chem. Chem. Phys. 15, 6608 (2013), doi:10.1039/c3cp44302g; D. A. Long, The Raman Effect,
    Wiley 2002.

    Examples
    --------
    >>> import numpy as np
    >>> times = np.arange(40000.0)
    >>> breathing = 10 * np.eye(3) + 0.1 * np.cos(0.2 * times)[:, None, None] * np.eye(3)
    >>> spectrum = raman_spectrum(breathing, 1.0, unit="A^3", temperature=300)
    >>> spectrum.depolarization_ratio() < 1e-6
    True
    """
    factor = unit_factor(unit, POLARIZABILITY_UNITS, "polarizabilities")
    blocks = _blocks(polarizabilities, "polarizabilities", (3, 3), factor, n_blocks)
    how = _Settings(timestep, temperature, rates, resolution, window, quantum_correction)
    means = [np.trace(block, axis1=1, axis2=2)[:, None] / 3 for block in blocks]
    rests = [block - mean[:, :, None] * np.eye(3) for block, mean in zip(blocks, means, strict=True)]
    wavenumbers, isotropic = how.densities(means)
    _, anisotropic = how.densities([np.sqrt(1.5) * rest.reshape(-1, 9) for rest in rests])
    unit = "A^4/amu / cm^-1"
    return RamanSpectrum(Spectrum(wavenumbers, 45 * isotropic, unit), Spectrum(wavenumbers, 7 * anisotropic, unit))


def dipole_rates(velocities: ArrayLike, born_charges: Any, *, unit: str = "ase") -> NDArray[np.float64]:
    r"""Time derivatives of the dipole from Born charges and velocities.

    .. math:: \dot\mu_a = \sum_i \sum_b \frac{\partial \mu_a}{\partial r_{ib}} v_{ib}

    They do not depend on the branch of the polarization of a periodic cell.

    Parameters
    ----------
    velocities : array-like of shape (n_times, n_atoms, 3)
    born_charges : array-like of shape (n_times, n_atoms, 3, 3)
        In e; the first index is that of the dipole, the second that of the position. Labels of Born charges with the
        opposite order: give ``swapaxes(-1, -2)``.
    unit : {"ase", "A/fs"}, default="ase"
        Of the velocities: that of ``atoms.get_velocities()``, or Angstrom per fs.

    Returns
    -------
    ndarray of shape (n_times, 3)
        In e Angstrom / fs, for ``infrared_spectrum(rates, ..., unit="e A", rates=True)``.

    Examples
    --------
    >>> import numpy as np
    >>> velocities = np.zeros((1, 2, 3))
    >>> velocities[0, :, 2] = 0.01, -0.02  # Angstrom / fs
    >>> dipole_rates(velocities, np.array([[np.eye(3), -np.eye(3)]]), unit="A/fs")
    array([[0.  , 0.  , 0.03]])
    """
    factor = unit_factor(unit, {"ase": fs, "A/fs": 1.0}, "velocities")
    v = real_array(velocities, "velocities", finite=True)
    charges = real_array(born_charges if isinstance(born_charges, np.ndarray) else list(born_charges), "born_charges")
    if v.ndim != 3 or v.shape[2] != 3 or charges.shape != (*v.shape, 3):
        raise ValueError(
            f"velocities have shape {v.shape} and born_charges {charges.shape}, expected (n_times, n_atoms, 3) and "
            "(n_times, n_atoms, 3, 3)"
        )
    return factor * np.einsum("tiab,tib->ta", charges, v)


class _Settings:
    """What both kinds of spectra need, checked."""

    def __init__(self, timestep, temperature, rates, resolution, window, quantum_correction):
        for name, value in (("timestep", timestep), ("temperature", temperature), ("resolution", resolution)):
            check_positive(value, name)
        if window not in WINDOWS:
            raise ValueError(f"window={window!r} must be one of {', '.join(map(repr, WINDOWS))}")
        if quantum_correction not in QUANTUM_CORRECTIONS:
            names = ", ".join(map(repr, QUANTUM_CORRECTIONS))
            raise ValueError(f"quantum_correction={quantum_correction!r} must be one of {names}")
        self.timestep, self.temperature, self.rates = float(timestep), float(temperature), rates
        self.correction, self.resolution = quantum_correction, resolution
        self.window = lag_window(window, resolution, timestep)

    def densities(self, blocks):
        shortest = min(len(block) for block in blocks)
        if shortest < len(self.window) + 2:
            raise ValueError(
                f"resolution={self.resolution} cm^-1 needs blocks of {len(self.window) + 2} entries "
                f"({1e-3 * self.timestep * len(self.window):.3g} ps), the shortest has {shortest}: give longer "
                "trajectories, fewer n_blocks, window='hann' or a larger resolution"
            )
        return spectral_densities(blocks, self.timestep, self.window, self.temperature, self.correction, self.rates)


def _blocks(values, name, shape, factor, n_blocks):
    """Parts of the trajectories, whose means are removed, in the unit of the calculation."""
    check_integer(n_blocks, "n_blocks", 1, 10**6)
    several = isinstance(values, list | tuple) and len(values) and np.ndim(values[0]) == len(shape) + 1
    blocks = []
    for k, one in enumerate(values if several else [values]):
        array = real_array(one, f"{name}[{k}]" if several else name, finite=True)
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            raise ValueError(f"{name} have shape {array.shape}, expected (n_times, {', '.join(map(str, shape))})")
        size = len(array) // n_blocks
        blocks += [factor * array[j * size : (j + 1) * size] for j in range(n_blocks)]
    return blocks
