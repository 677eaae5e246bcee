r"""Normal modes of a structure, and their infrared and Raman lines.

Displacements along a normal coordinate Q are those of an eigenvector e of the mass-weighted Hessian, and derivatives by
Q those by the positions times them:

.. math::

    \frac{\partial \mathbf r_i}{\partial Q} = \frac{\mathbf e_i}{\sqrt{m_i}} , \quad
    A = \frac{N_A}{12 \varepsilon_0 c^2} |\mu'|^2 , \quad S = 45 a'^2 + 7 \gamma'^2 , \quad
    a' = \tfrac 1 3 \operatorname{tr} \alpha' , \quad
    \gamma'^2 = \tfrac 1 2 \big( 3 \operatorname{tr} \alpha'^2 - (\operatorname{tr} \alpha')^2 \big)

(E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations, 1955; D. A. Long, The Raman Effect, 2002).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import check_positive, real_array
from eqkernels.spectra.displacements import differentiate
from eqkernels.spectra.spectral_units import (
    ABSORPTION,
    DIPOLE_UNITS,
    FREQUENCY,
    POLARIZABILITY_UNITS,
    unit_factor,
)
from eqkernels.spectra.spectrum import RamanSpectrum, Spectrum

# Rigid motions below this part of the largest are none: rotations about the axis of a linear molecule.
_INDEPENDENT = 1e-4
_SHAPES = ("gaussian", "lorentzian")


@dataclass(frozen=True)
class HarmonicSpectrum:
    """Lines of the normal modes of a structure.

    Use :meth:`from_structure` or :meth:`from_derivatives` to make it.

    Attributes
    ----------
    wavenumbers : ndarray of shape (n_modes,)
        In cm^-1, ascending; negative for imaginary modes.
    modes : ndarray of shape (n_modes, n_atoms, 3)
        Displacements by the normal coordinate, in amu^(-1/2).
    absorption : ndarray of shape (n_modes,) or None
        Infrared intensities in km/mol.
    isotropic, anisotropic : ndarray of shape (n_modes,) or None
        Parts 45 a'^2 and 7 gamma'^2 of the Raman activities, in Angstrom^4 / amu.

    See Also
    --------
    infrared_spectrum, raman_spectrum : Spectra of trajectories, with the same units.
    eqkernels.plotting.SpectrumDisplay : Pictures.

    References
    ----------
    E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations, McGraw-Hill 1955; D. A. Long, The Raman Effect, Wiley
    2002.

    Examples
    --------
    Carbon monoxide as two charges of 0.3 e on a spring:

    >>> import numpy as np
    >>> from ase import Atoms
    >>> atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.128]])
    >>> spring, charges = 118.6 * np.diag([0, 0, 1]), np.array([0.3, -0.3])  # eV / A^2, e
    >>> hessian = np.kron([[1, -1], [-1, 1]], spring)
    >>> born_charges = charges[:, None, None] * np.eye(3)
    >>> lines = HarmonicSpectrum.from_derivatives(atoms, hessian, born_charges)
    >>> lines.wavenumbers.round(), lines.absorption.round(1)
    (array([2168.]), array([12.8]))
    """

    wavenumbers: NDArray[np.float64]
    modes: NDArray[np.float64]
    absorption: NDArray[np.float64] | None = None
    isotropic: NDArray[np.float64] | None = None
    anisotropic: NDArray[np.float64] | None = None

    @classmethod
    def from_structure(
        cls,
        atoms: Atoms,
        *,
        energy: Any = None,
        dipole: Any = None,
        polarizability: Any = None,
        dipole_unit: str = "e A",
        polarizability_unit: str = "A^3",
        step: float = 0.01,
    ) -> HarmonicSpectrum:
        """Lines from finite differences of forces, dipoles and polarizabilities.

        Parameters
        ----------
        atoms : ase.Atoms
            At a minimum of the energy; a warning says if it is not.
        energy, dipole, polarizability : estimator or ASE calculator, default=None
            Models, of which that of the energy (in eV) has forces, or calculators. None: ``atoms.calc``, of the dipole
            and the polarizability if it has them, and otherwise nothing.
        dipole_unit, polarizability_unit : str
            What they are predicted in, as of :func:`infrared_spectrum` and :func:`raman_spectrum`. ASE's calculators
            have ``"e A"`` and ``"e^2 A^2/eV"``.
        step : float, default=0.01
            Of the displacements, in Angstrom.

        Returns
        -------
        HarmonicSpectrum

        Raises
        ------
        TypeError, ValueError
            If there is nothing to take forces from, or a unit is none.

        Notes
        -----
        Differences of the dipole of a periodic cell are known up to multiples of e times a lattice vector: the smallest
        are taken.
        """
        to_dipole = unit_factor(dipole_unit, DIPOLE_UNITS, "dipoles")
        to_volume = unit_factor(polarizability_unit, POLARIZABILITY_UNITS, "polarizabilities")
        check_positive(step, "step")
        found = differentiate(atoms, energy, dipole, polarizability, float(step), to_dipole)
        raman = None if found.raman is None else to_volume * found.raman
        return cls.from_derivatives(atoms, found.hessian, found.born_charges, raman)

    @classmethod
    def from_derivatives(
        cls, atoms: Atoms, hessian: Any, born_charges: ArrayLike | None = None, raman_tensors: ArrayLike | None = None
    ) -> HarmonicSpectrum:
        """Lines from derivatives by positions, however they were computed.

        Parameters
        ----------
        atoms : ase.Atoms
            Structure, with its masses.
        hessian : array-like of shape (3 n_atoms, 3 n_atoms) or (n_atoms, 3, n_atoms, 3), or VibrationsData
            Second derivatives of the energy in eV / Angstrom^2, or what ``ase.vibrations.Vibrations.get_vibrations``
            returns for all atoms.
        born_charges : array-like of shape (n_atoms, 3, 3), default=None
            Derivatives of the dipole in e: first its index, then that of the position.
        raman_tensors : array-like of shape (n_atoms, 3, 3, 3), default=None
            Derivatives of the polarizability in Angstrom^2: first its indices, then that of the position.

        Returns
        -------
        HarmonicSpectrum

        Raises
        ------
        ValueError
            If an array does not fit the number of atoms.
        """
        n = len(atoms)
        wavenumbers, modes = normal_modes(atoms, hessian)
        absorption = isotropic = anisotropic = None
        if born_charges is not None:
            slopes = np.einsum("iab,mib->ma", _checked(born_charges, (n, 3, 3), "born_charges"), modes)
            absorption = ABSORPTION * (slopes**2).sum(axis=1)
        if raman_tensors is not None:
            alpha = np.einsum("iabc,mic->mab", _checked(raman_tensors, (n, 3, 3, 3), "raman_tensors"), modes)
            trace = np.trace(alpha, axis1=1, axis2=2)
            isotropic = 45 * (trace / 3) ** 2
            anisotropic = 7 * 0.5 * (3 * (alpha**2).sum(axis=(1, 2)) - trace**2)
        return cls(wavenumbers, modes, absorption, isotropic, anisotropic)

    @property
    def activity(self) -> NDArray[np.float64]:
        """Raman activities 45 a'^2 + 7 gamma'^2, in Angstrom^4 / amu."""
        isotropic, anisotropic = self._raman()
        return isotropic + anisotropic

    @property
    def depolarization_ratio(self) -> NDArray[np.float64]:
        """Of each mode 3 gamma'^2 / (45 a'^2 + 4 gamma'^2), 0 to 3/4; NaN where there is no activity."""
        isotropic, anisotropic = self._raman()
        polarized = isotropic + 4 / 7 * anisotropic
        return np.divide(3 / 7 * anisotropic, polarized, where=polarized > 0, out=np.full(len(polarized), np.nan))

    def infrared_spectrum(
        self, width: float = 10.0, *, shape: str = "gaussian", wavenumbers: ArrayLike | None = None
    ) -> Spectrum:
        """Infrared lines as peaks.

        Parameters
        ----------
        width : float, default=10.0
            Full width at half maximum, in cm^-1.
        shape : {"gaussian", "lorentzian"}, default="gaussian"
        wavenumbers : array-like of shape (n,), default=None
            Where to compute it, in cm^-1; None: up to 10 % beyond the last line, 10 a width.

        Returns
        -------
        Spectrum
            In km/mol per cm^-1. Imaginary modes are left out.

        Raises
        ------
        ValueError
            If the dipole was not differentiated.
        """
        if self.absorption is None:
            raise ValueError("there are no infrared intensities: give a dipole, or born_charges")
        return self._broadened(self.absorption, width, shape, wavenumbers, "km/mol / cm^-1")

    def raman_spectrum(
        self, width: float = 10.0, *, shape: str = "gaussian", wavenumbers: ArrayLike | None = None
    ) -> RamanSpectrum:
        """Raman lines as peaks.

        Parameters
        ----------
        width, shape, wavenumbers
            As for :meth:`infrared_spectrum`.

        Returns
        -------
        RamanSpectrum
            In Angstrom^4/amu per cm^-1.

        Raises
        ------
        ValueError
            If the polarizability was not differentiated.
        """
        parts = (self._broadened(part, width, shape, wavenumbers, "A^4/amu / cm^-1") for part in self._raman())
        return RamanSpectrum(*parts)

    def __str__(self) -> str:
        columns = {"cm^-1": self.wavenumbers}
        if self.absorption is not None:
            columns["km/mol"] = self.absorption
        if self.isotropic is not None:
            columns |= {"A^4/amu": self.activity, "depolarization": self.depolarization_ratio}
        lines = ["".join(f"{name:>16}" for name in columns)]
        lines += ["".join(f"{value:16.2f}" for value in row) for row in zip(*columns.values(), strict=True)]
        return "\n".join(lines)

    def _raman(self):
        if self.isotropic is None or self.anisotropic is None:
            raise ValueError("there are no Raman activities: give a polarizability, or raman_tensors")
        return self.isotropic, self.anisotropic

    def _broadened(self, areas, width, shape, wavenumbers, unit):
        check_positive(width, "width")
        if shape not in _SHAPES:
            raise ValueError(f"shape={shape!r} must be 'gaussian' or 'lorentzian'")
        if wavenumbers is None:
            wavenumbers = np.arange(0, 1.1 * self.wavenumbers.max(initial=width) + 10 * width, width / 10)
        grid, real = real_array(wavenumbers, "wavenumbers", finite=True), self.wavenumbers > 0
        away = (grid - self.wavenumbers[real, None]) / (0.5 * width)
        peaks = (
            np.exp(-np.log(2) * away**2) * np.sqrt(np.log(2) / np.pi)
            if shape == "gaussian"
            else 1 / (np.pi * (1 + away**2))
        )
        return Spectrum(grid, (areas[real] @ peaks / (0.5 * width))[None], unit)


def normal_modes(atoms: Atoms, hessian: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wavenumbers and displacements of the vibrations of a structure.

    Translations, and of what is not periodic rotations, are projected out.

    Parameters
    ----------
    atoms : ase.Atoms
        Structure, with its masses.
    hessian : array-like of shape (3 n_atoms, 3 n_atoms) or (n_atoms, 3, n_atoms, 3), or VibrationsData
        In eV / Angstrom^2.

    Returns
    -------
    wavenumbers : ndarray of shape (n_modes,)
        In cm^-1, ascending; negative for imaginary modes. 3 n_atoms - 6 of them (of linear molecules - 5, of crystals
        - 3).
    modes : ndarray of shape (n_modes, n_atoms, 3)
        Displacements by the normal coordinate, in amu^(-1/2).

    Raises
    ------
    ValueError
        If the Hessian does not fit the number of atoms.

    Examples
    --------
    >>> import numpy as np
    >>> from ase import Atoms
    >>> hessian = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.diag([0, 0, 35.9]))  # eV / A^2
    >>> wavenumbers, modes = normal_modes(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), hessian)
    >>> wavenumbers.round()
    array([4401.])
    """
    n = len(atoms)
    matrix = hessian.get_hessian_2d() if hasattr(hessian, "get_hessian_2d") else hessian
    matrix = real_array(matrix, "hessian", finite=True)
    if matrix.size != 9 * n**2:
        raise ValueError(f"the Hessian has shape {matrix.shape}, expected ({3 * n}, {3 * n}) for {n} atoms")
    matrix = matrix.reshape(3 * n, 3 * n)
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    vibrations = _vibrations(atoms)
    weighted = 0.5 * (matrix + matrix.T) / np.outer(roots, roots)
    squares, vectors = np.linalg.eigh(vibrations.T @ weighted @ vibrations)
    modes = (vibrations @ vectors).T / roots
    return FREQUENCY * np.sign(squares) * np.sqrt(np.abs(squares)), modes.reshape(-1, n, 3)


def _vibrations(atoms):
    """Orthonormal mass-weighted displacements that are no rigid motions: (3 n_atoms, n_modes)."""
    n, roots = len(atoms), np.sqrt(atoms.get_masses())[:, None]
    rigid = [roots * axis for axis in np.eye(3)]
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        rigid += [roots * np.cross(axis, arms) for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.reshape(rigid, (-1, 3 * n)).T)
    return left[:, (sizes > _INDEPENDENT * sizes.max()).sum() :]


def _checked(values, shape, name):
    array = real_array(values, name, finite=True)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array
