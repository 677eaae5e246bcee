r"""Spectra as functions of the wavenumber, with error bars from blocks of the data.

A Raman spectrum is made of an isotropic and an anisotropic part, :math:`45 a'^2` and :math:`7 \gamma'^2`, with a the
mean polarizability and gamma its anisotropy. Light scattered at a right angle, polarized parallel and perpendicular to
that of the laser, and the depolarization ratio, are

.. math:: S_\parallel = 45 a'^2 + 4 \gamma'^2 , \quad S_\perp = 3 \gamma'^2 , \quad \rho = S_\perp / S_\parallel .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import constants, integrate

from eqkernels.spectra.spectral_units import reduced_energy


@dataclass(frozen=True)
class Spectrum:
    """Intensity on a grid of wavenumbers.

    Attributes
    ----------
    wavenumbers : ndarray of shape (n,)
        In cm^-1, ascending.
    blocks : ndarray of shape (n_blocks, n)
        Spectra of independent parts of the data.
    unit : str
        Of the intensity.

    Examples
    --------
    >>> import numpy as np
    >>> line = Spectrum(np.arange(5.0), np.array([[0.0, 1.0, 2.0, 1.0, 0.0], [0.0, 1.0, 4.0, 1.0, 0.0]]), "km/mol cm")
    >>> line.intensity, float(line.std[2]), line.integrate()
    (array([0., 1., 3., 1., 0.]), 1.0, 5.0)
    """

    wavenumbers: NDArray[np.float64]
    blocks: NDArray[np.float64]
    unit: str

    @property
    def intensity(self) -> NDArray[np.float64]:
        """Mean over the blocks."""
        return self.blocks.mean(axis=0)

    @property
    def std(self) -> NDArray[np.float64] | None:
        """Standard error of the mean over the blocks; None if there is only one."""
        n = len(self.blocks)
        return self.blocks.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else None

    def integrate(self, low: float = 0.0, high: float = np.inf) -> float:
        """Area between two wavenumbers: the intensity of a line.

        Parameters
        ----------
        low, high : float
            In cm^-1.

        Returns
        -------
        float
            In the unit of the intensity times cm^-1: km/mol of infrared, Angstrom^4 / amu of Raman spectra.
        """
        return float(self._areas(low, high).mean())

    def integration_error(self, low: float = 0.0, high: float = np.inf) -> float:
        """Estimate the standard error of :meth:`integrate` from the blocks; NaN if there is only one."""
        areas = self._areas(low, high)
        return float(areas.std(ddof=1) / np.sqrt(len(areas))) if len(areas) > 1 else np.nan

    def __add__(self, other: Spectrum) -> Spectrum:
        return Spectrum(self.wavenumbers, self.blocks + other.blocks, self.unit)

    def __mul__(self, factor: Any) -> Spectrum:
        return Spectrum(self.wavenumbers, self.blocks * np.asarray(factor), self.unit)

    __rmul__ = __mul__

    def _areas(self, low, high):
        inside = (self.wavenumbers >= low) & (self.wavenumbers <= high)
        return integrate.trapezoid(self.blocks[:, inside], self.wavenumbers[inside], axis=1)


@dataclass(frozen=True)
class RamanSpectrum:
    """Raman activities on a grid of wavenumbers: their integral over a line is its activity in Angstrom^4 / amu.

    Attributes
    ----------
    isotropic, anisotropic : Spectrum
        45 a'^2 and 7 gamma'^2.
    """

    isotropic: Spectrum
    anisotropic: Spectrum

    @property
    def wavenumbers(self) -> NDArray[np.float64]:
        """In cm^-1."""
        return self.isotropic.wavenumbers

    @property
    def total(self) -> Spectrum:
        """Activity: 45 a'^2 + 7 gamma'^2."""
        return self.isotropic + self.anisotropic

    @property
    def polarized(self) -> Spectrum:
        """Scattered light parallel to the laser's: 45 a'^2 + 4 gamma'^2."""
        return self.isotropic + (4 / 7) * self.anisotropic

    @property
    def depolarized(self) -> Spectrum:
        """Scattered light perpendicular to the laser's: 3 gamma'^2."""
        return (3 / 7) * self.anisotropic

    def depolarization_ratio(self, low: float = 0.0, high: float = np.inf) -> float:
        """Ratio of the areas of depolarized and polarized light between two wavenumbers, 0 to 3/4.

        Parameters
        ----------
        low, high : float
            In cm^-1.

        Returns
        -------
        float
        """
        return self.depolarized.integrate(low, high) / self.polarized.integrate(low, high)

    def cross_section(self, laser: float, temperature: float) -> Spectrum:
        r"""Differential cross section of Stokes scattering at a right angle, without an analyzer.

        .. math:: \frac{d\sigma}{d\Omega} = \frac{(2 \pi)^4}{45} (\tilde\nu_0 - \tilde\nu)^4 \frac{h}{8 \pi^2 c
                  \tilde\nu} \frac{S}{1 - e^{-h c \tilde\nu / k T}}

        (D. Porezag, M. R. Pederson, Phys. Rev. B 54, 7830 (1996), doi:10.1103/PhysRevB.54.7830).

        Parameters
        ----------
        laser : float
            Wavelength in nm.
        temperature : float
            In K.

        Returns
        -------
        Spectrum
            In cm^2 / (sr cm^-1); zero at the wavenumber 0 and beyond that of the laser.
        """
        wavenumbers, start = self.wavenumbers, 1e7 / laser
        inside = (wavenumbers > 0) & (wavenumbers < start)
        nu = np.where(inside, wavenumbers, 1.0)
        activity = 1e-40 / constants.atomic_mass  # m^4 / kg
        factor = (
            (2 * np.pi) ** 4 / 45 * (1e2 * (start - nu)) ** 4 * constants.h / (8 * np.pi**2 * constants.c * 1e2 * nu)
        )
        factor /= -np.expm1(-reduced_energy(nu, temperature))
        total = self.total * np.where(inside, 1e4 * activity * factor, 0.0)
        return Spectrum(wavenumbers, total.blocks, "cm^2 / (sr cm^-1)")
