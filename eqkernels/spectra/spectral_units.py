r"""Units of spectra.

Derivatives by a normal coordinate Q, in Angstrom times the square root of the atomic mass unit, are in e / amu^(1/2)
for dipoles and Angstrom^2 / amu^(1/2) for polarizabilities. The integrated absorption of a line is

.. math:: A = \frac{N_A}{12 \varepsilon_0 c^2} \Big| \frac{\partial \mu}{\partial Q} \Big|^2 .
"""

from __future__ import annotations

import numpy as np
from scipy import constants

_DEBYE = 1e-21 / constants.c / constants.e / constants.angstrom  # in e Angstrom
_BOHR = constants.physical_constants["Bohr radius"][0] / constants.angstrom  # in Angstrom
# Coulomb's constant in eV Angstrom / e^2: between polarizabilities as volumes and as dipoles by fields
_COULOMB = constants.e / (4 * np.pi * constants.epsilon_0 * constants.angstrom)

#: e Angstrom in the units of dipoles.
DIPOLE_UNITS = {"e A": 1.0, "e a0": _BOHR, "D": _DEBYE}
#: Angstrom^3 in the units of polarizabilities.
POLARIZABILITY_UNITS = {"A^3": 1.0, "a0^3": _BOHR**3, "e^2 A^2/eV": _COULOMB}

#: km/mol of a line with a derivative of 1 e / amu^(1/2).
ABSORPTION = constants.N_A * constants.e**2 / (12 * constants.epsilon_0 * constants.c**2 * constants.atomic_mass) / 1e3
#: cm^-1 of a mode with a force constant of 1 eV / (Angstrom^2 amu).
FREQUENCY = np.sqrt(constants.e / constants.atomic_mass) / constants.angstrom / (200 * np.pi * constants.c)
#: Angular frequency in 1/s of 1 cm^-1.
ANGULAR = 200 * np.pi * constants.c


def reduced_energy(wavenumbers, temperature):
    """Energies of quanta over k T.

    Parameters
    ----------
    wavenumbers : ndarray
        In cm^-1.
    temperature : float
        In K.

    Returns
    -------
    ndarray
    """
    return constants.hbar * ANGULAR * wavenumbers / (constants.k * temperature)


def unit_factor(unit, units, what):
    """Factor to the unit of the calculation, or an error that lists the units."""
    if unit not in units:
        raise ValueError(f"unit={unit!r} of {what} must be one of {', '.join(map(repr, units))}")
    return units[unit]
