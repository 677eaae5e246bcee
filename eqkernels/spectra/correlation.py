r"""Spectral densities of fluctuating quantities, from windowed autocorrelation functions of their time derivatives.

For a quantity A that fluctuates classically at the temperature T,

.. math::

    D(\omega) = \frac{1 - e^{-\beta \hbar \omega}}{\pi \hbar \omega}\, Q(\omega)
                \int_{-\infty}^{\infty} dt\, e^{-i \omega t}\, w(t)\, \langle \dot A(0) \dot A(t) \rangle ,

where Q corrects for quantum statistics. With the harmonic correction Q = beta hbar omega / (1 - exp(-beta hbar omega))
the density of a harmonic mode integrates to (dA/dQ)^2, whatever the temperature: these are the lines of
:mod:`eqkernels.spectra.harmonic`. R. Ramirez, T. Lopez-Ciudad, P. Kumar P, D. Marx, J. Chem. Phys. 121, 3973 (2004),
doi:10.1063/1.1774986, compare the corrections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import constants, fft

from eqkernels.spectra.spectral_units import ANGULAR, reduced_energy

#: Q by name, of x = beta hbar omega.
QUANTUM_CORRECTIONS: dict[str, Callable[..., Any]] = {
    "harmonic": lambda x: np.divide(x, -np.expm1(-x), where=x > 0, out=np.ones_like(x)),
    "standard": lambda x: 2 / (1 + np.exp(-x)),
    "schofield": lambda x: np.exp(x / 2),
    "none": np.ones_like,
}
WINDOWS = ("gaussian", "hann")
# Where the Gaussian window ends, in its standard deviations: it is 1e-5 there.
_END = 4.8
# Points of the grid within the resolution.
_POINTS_PER_LINE = 8
_FEMTO = 1e-15


def lag_window(window, resolution, timestep):
    """Window whose Fourier transform has the full width at half maximum ``resolution``.

    Parameters
    ----------
    window : {"gaussian", "hann"}
    resolution : float
        In cm^-1.
    timestep : float
        In fs.

    Returns
    -------
    ndarray of shape (n_lags,)
        From lag 0, where it is 1.
    """
    width = ANGULAR * resolution * _FEMTO  # rad / fs
    if window == "gaussian":
        sigma = width / np.sqrt(8 * np.log(2))
        lags = timestep * np.arange(int(np.ceil(_END / (sigma * timestep))))
        return np.exp(-0.5 * (sigma * lags) ** 2)
    end = 2 * np.pi / width
    lags = timestep * np.arange(int(np.ceil(end / timestep)))
    return np.cos(0.5 * np.pi * lags / end) ** 2


def autocorrelation(values, n_lags):
    """Mean of the products of vectors at times that differ by a lag.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_components)
    n_lags : int

    Returns
    -------
    ndarray of shape (n_lags,)
    """
    n = len(values)
    transformed = fft.rfft(values, fft.next_fast_len(n + n_lags, real=True), axis=0)
    power = (np.abs(transformed) ** 2).sum(axis=1)
    return fft.irfft(power, fft.next_fast_len(n + n_lags, real=True))[:n_lags] / (n - np.arange(n_lags))


def spectral_densities(blocks, timestep, window, temperature, correction, rates):
    """Density D of each block.

    Parameters
    ----------
    blocks : list of ndarray of shape (n_times, n_components)
        Quantities, or their time derivatives per fs.
    timestep : float
        In fs.
    window : ndarray of shape (n_lags,)
    temperature : float
        In K.
    correction : str
    rates : bool
        Whether the blocks are time derivatives.

    Returns
    -------
    wavenumbers : ndarray of shape (n,)
        In cm^-1, to the largest that the time step resolves.
    densities : ndarray of shape (n_blocks, n)
        In the unit of the quantity squared, over amu Angstrom^2 cm^-1.
    """
    n_lags = len(window)
    n = fft.next_fast_len(2 * max(n_lags, _POINTS_PER_LINE * n_lags // 2), real=True)
    wavenumbers = fft.rfftfreq(n, timestep * _FEMTO) / (100 * constants.c)
    densities = []
    for block in blocks:
        values = block if rates else np.diff(block, axis=0) / timestep
        products = window * autocorrelation(values, n_lags)
        # the integral over both signs of the time
        transformed = timestep * (2 * fft.rfft(products, n).real - products[0])
        densities.append(transformed)
    omega = ANGULAR * wavenumbers * _FEMTO  # rad / fs
    power = np.array(densities)
    if not rates:  # differences are 2 sin(omega dt / 2) / dt instead of omega times the amplitude
        half = 0.5 * omega * timestep
        power /= np.sinc(half / np.pi) ** 2
    x = reduced_energy(wavenumbers, temperature)
    # (1 - e^-x) / x, 1 at 0
    damping = 1 / QUANTUM_CORRECTIONS["harmonic"](x)
    inverse_energy = constants.atomic_mass * constants.angstrom**2 / (constants.k * temperature) / _FEMTO**2
    factor = inverse_energy * damping * QUANTUM_CORRECTIONS[correction](x) / np.pi
    return wavenumbers, power * factor * ANGULAR * _FEMTO
