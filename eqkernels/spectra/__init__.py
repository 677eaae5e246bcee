"""Infrared and Raman spectra, from dynamics or from normal modes, in absolute units."""

from eqkernels.spectra.harmonic import HarmonicSpectrum, normal_modes
from eqkernels.spectra.spectrum import RamanSpectrum, Spectrum
from eqkernels.spectra.trajectories import dipole_rates, infrared_spectrum, raman_spectrum

__all__ = [
    "HarmonicSpectrum",
    "RamanSpectrum",
    "Spectrum",
    "dipole_rates",
    "infrared_spectrum",
    "normal_modes",
    "raman_spectrum",
]
