"""Derivatives of forces, dipoles and polarizabilities by central differences, of models or of ASE's calculators."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels._warnings import warn
from eqkernels.derivatives import vjp

# In eV / Angstrom: forces of a structure that was not relaxed.
_LARGE_FORCE = 0.05


class Differences(NamedTuple):
    """Derivatives by the positions.

    Attributes
    ----------
    hessian : ndarray of shape (n_atoms, 3, n_atoms, 3)
    born_charges : ndarray of shape (n_atoms, 3, 3) or None
        In e.
    raman : ndarray of shape (n_atoms, 3, 3, 3) or None
        In the unit of the polarizability over Angstrom.
    """

    hessian: NDArray[np.float64]
    born_charges: NDArray[np.float64] | None
    raman: NDArray[np.float64] | None


def differentiate(
    atoms: Atoms, energy: Any, dipole: Any, polarizability: Any, step: float, to_dipole: float
) -> Differences:
    """Displace every atom along every axis, both ways.

    Parameters
    ----------
    atoms : ase.Atoms
    energy, dipole, polarizability : estimator, calculator or None
        None: the calculator of the atoms.
    step : float
        In Angstrom.
    to_dipole : float
        Unit of the dipole in e Angstrom.

    Returns
    -------
    Differences
    """
    if energy is None and atoms.calc is None:
        raise TypeError("there is nothing to take forces from: give energy=, or set atoms.calc")
    sources = {"forces": energy, "dipole": dipole, "polarizability": polarizability}
    sources = {what: atoms.calc if source is None else source for what, source in sources.items()}
    wanted = {what: source for what, source in sources.items() if _has(source, what)}
    if "forces" not in wanted:
        raise TypeError(f"{type(sources['forces']).__name__} has no forces")
    n, frames = len(atoms), _displaced(atoms, step)
    values = _evaluated(wanted, frames)
    force = np.abs(_forces(wanted["forces"], [atoms.copy()])[0]).max()
    if force > _LARGE_FORCE:
        warn(f"forces of up to {force:.2g} eV/Angstrom: the structure is no minimum, relax it first", UserWarning)
    slopes = {
        what: _differences(np.asarray(value).reshape(n, 3, 2, *np.shape(value)[1:])) for what, value in values.items()
    }
    hessian = -slopes["forces"] / (2 * step)
    born = raman = None
    if "dipole" in slopes:
        born = to_dipole * slopes["dipole"]
        if atoms.pbc.any():  # differences up to e times lattice vectors
            cell = atoms.cell.complete().array
            born -= (
                np.rint(np.linalg.solve(cell.T, born.reshape(-1, 3).T).T * np.asarray(atoms.pbc)).reshape(born.shape)
                @ cell
            )
        born = (born / (2 * step)).transpose(0, 2, 1)
    if "polarizability" in slopes:
        raman = (slopes["polarizability"] / (2 * step)).transpose(0, 2, 3, 1)
    return Differences(hessian, born, raman)


def _displaced(atoms, step):
    frames = []
    for i in range(len(atoms)):
        for axis in range(3):
            for sign in (-1, 1):
                frame = atoms.copy()
                frame.positions[i, axis] += sign * step
                frames.append(frame)
    return frames


def _differences(values):
    return values[:, :, 1] - values[:, :, 0]


def _has(source, what):
    return source is not None and (hasattr(source, "predict") or what in source.implemented_properties)


def _evaluated(sources, frames):
    """Values of all frames: of models together, of calculators frame by frame, each computed once."""
    values = {}
    for what, source in sources.items():
        if hasattr(source, "predict"):
            values[what] = _forces(source, frames) if what == "forces" else np.asarray(source.predict(frames))
    computed = {what: source for what, source in sources.items() if what not in values}
    lists: dict[str, list] = {what: [] for what in computed}
    for frame in frames:
        for what, source in computed.items():
            lists[what].append(np.array(source.get_property(what, frame)))
    return values | lists


def _forces(source, frames):
    if not hasattr(source, "predict"):
        return np.array([source.get_property("forces", frame) for frame in frames])
    return -vjp(source, frames, np.ones(len(frames))).positions.reshape(len(frames), -1, 3)
