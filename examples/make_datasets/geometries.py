"""Thermal geometries of small molecules: normal modes of GFN2-xTB, sampled classically (needs tblite)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms
from ase.build import molecule as g2_molecule
from ase.data import covalent_radii
from ase.units import Bohr, Hartree, _amu, _e, _hbar, invcm, kB
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

try:
    from tblite.interface import Calculator
except ImportError as error:
    raise ImportError('making geometries needs tblite: pip install "eqkernels[data]"') from error

SEED = 20260101
ORGANIC_MOLECULES = {  # the name in ASE's G2 collection, which gives the starting geometry
    "water": "H2O",
    "ammonia": "NH3",
    "methane": "CH4",
    "formaldehyde": "H2CO",
    "methanol": "CH3OH",
    "hydrogen cyanide": "HCN",
    "acetylene": "C2H2",
    "ethylene": "C2H4",
    "ethane": "C2H6",
    "methylamine": "H3CNH2",
    "formic acid": "HCOOH",
    "acetonitrile": "CH3CN",
    "acetaldehyde": "CH3CHO",
    "oxirane": "CH2OCH2",
    "carbon dioxide": "CO2",
    "hydrazine": "N2H4",
    "hydrogen peroxide": "H2O2",
    "ketene": "H2CCO",
    "nitrous oxide": "N2O",
    "ethanol": "CH3CH2OH",
    "dimethyl ether": "CH3OCH3",
    "allene": "C3H4_D2d",
    "propyne": "C3H4_C3v",
    "cyclopropene": "C3H4_C2v",
    "aziridine": "CH2NHCH2",
    "glyoxal": "OCHCHO",
    "cyclopropane": "C3H6_D3h",
    "propene": "C3H6_Cs",
    "dimethylamine": "C2H6NH",
    "ethylamine": "CH3CH2NH2",
}
ORGANIC_TEMPERATURES = (300.0, 1500.0)  # K, drawn uniformly
TEMPERATURE = 600.0  # K, of the other sets
MAX_STRAIN = 3.0  # eV above the minimum: more than this is a broken molecule
MIN_FREQUENCY = 200.0  # cm^-1; softer modes are sampled as if this hard, for they are not harmonic
MIN_DISTANCE = 0.6  # of the sum of covalent radii: closer atoms are rejected
MAX_BOND = 1.25  # of the sum of covalent radii: closer atoms are bonded
MAX_STRETCH = 0.2  # of a bond; normal modes turn methyl groups along straight lines, which stretches their bonds
CLUSTER_SIZES = {"water monomer": 1, "water dimer": 2, "water trimer": 3}
CLUSTER_DISTANCES = (2.5, 5.0)  # Angstrom between the oxygen atoms of a molecule and the one it was placed next to
CLUSTER_TEMPERATURE = 1500.0  # K, of the Metropolis criterion that prefers attractive clusters
MIN_CONTACT = 1.6  # Angstrom between atoms of different molecules
MAX_REPULSION = 0.22  # eV
HESSIAN_STEP = 2.5e-3  # Angstrom
QUANTUM = _hbar * 1e10 / np.sqrt(_e * _amu)  # eV of a mode whose mass-weighted curvature is 1 eV / (Angstrom^2 amu)


def small_organics(n_each):
    """Distorted molecules of H, C, N and O.

    Parameters
    ----------
    n_each : int
        Number of geometries of each molecule; a smaller number gives a subset of a larger one.

    Returns
    -------
    list of ase.Atoms
        Randomly turned, centred at the origin, with ``info["name"]``; the molecules alternate.
    """
    groups = []
    for index, name in enumerate(ORGANIC_MOLECULES):
        rng = np.random.default_rng([SEED, 0, index])
        modes = NormalModes.of(ORGANIC_MOLECULES[name])
        groups.append(_sampled_frames(name, modes.numbers, partial(_distorted, rng, modes), n_each, rng))
    return _interleave(groups)


def water_clusters(n_each):
    """Water monomers, dimers and trimers at random distances and orientations, the attractive ones preferred.

    Parameters
    ----------
    n_each : dict of str to int
        Number of geometries for each key of ``CLUSTER_SIZES``.

    Returns
    -------
    list of ase.Atoms
        As in :func:`small_organics`.
    """
    modes, groups = NormalModes.of("H2O"), []
    for name, size in CLUSTER_SIZES.items():
        rng = np.random.default_rng([SEED, 1, size])
        numbers = np.tile(modes.numbers, size)
        groups.append(_sampled_frames(name, numbers, partial(_water_cluster, rng, modes, size), n_each[name], rng))
    return _interleave(groups)


def chiral_molecules(n_each):
    """Molecules without mirror symmetry: by torsion (hydrogen peroxide) or by thermal distortion (the others).

    Parameters
    ----------
    n_each : dict of str to int
        Number of geometries for each name of a molecule.

    Returns
    -------
    list of ase.Atoms
        As in :func:`small_organics`.
    """
    groups = []
    for index, (name, count) in enumerate(n_each.items()):
        rng = np.random.default_rng([SEED, 2, index])
        modes = NormalModes.of(ORGANIC_MOLECULES[name])
        sample = _twisted_peroxide if name == "hydrogen peroxide" else _distorted_little
        groups.append(_sampled_frames(name, modes.numbers, partial(sample, rng, modes), count, rng))
    return _interleave(groups)


def xtb_energy_and_gradient(numbers, positions):
    """GFN2-xTB energy (eV) and its gradient (eV / Angstrom)."""
    calculator = Calculator("GFN2-xTB", np.asarray(numbers), np.asarray(positions) / Bohr)
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 0.05)
    result = calculator.singlepoint()
    return result.get("energy") * Hartree, result.get("gradient") * Hartree / Bohr


@dataclass(frozen=True)
class NormalModes:
    """Minimum of a molecule and the harmonic vibrations around it.

    Attributes
    ----------
    numbers : ndarray of int, shape (n_atoms,)
        Atomic numbers.
    minimum : ndarray of shape (n_atoms, 3)
        Positions at the minimum (Angstrom).
    energy : float
        Energy there (eV).
    displacements : ndarray of shape (n_modes, n_atoms, 3)
        One standard deviation of the displacement along each mode at a temperature of 1 K (Angstrom).
    """

    numbers: np.ndarray
    minimum: np.ndarray
    energy: float
    displacements: np.ndarray

    @classmethod
    def of(cls, name):
        """Relax a molecule of ASE's G2 collection and compute its modes."""
        atoms = g2_molecule(name)
        minimum = _relax(atoms.numbers, atoms.positions)
        inverse_root_mass = np.repeat(atoms.get_masses(), 3) ** -0.5
        weighted = _hessian(atoms.numbers, minimum) * np.outer(inverse_root_mass, inverse_root_mass)
        curvatures, modes = np.linalg.eigh(weighted)
        singular_values = np.linalg.svd(minimum - minimum.mean(axis=0), compute_uv=False)
        n_rigid = 5 if singular_values[1] < 1e-2 else 6  # a linear molecule has one rotation less
        frequencies = np.maximum(np.sqrt(np.maximum(curvatures[n_rigid:], 0)), MIN_FREQUENCY * invcm / QUANTUM)
        displacements = inverse_root_mass[:, None] * modes[:, n_rigid:] * np.sqrt(kB) / frequencies
        energy = xtb_energy_and_gradient(atoms.numbers, minimum)[0]
        return cls(atoms.numbers, minimum, energy, displacements.T.reshape(len(frequencies), -1, 3))

    def sample(self, rng, temperature):
        """Positions drawn from the classical harmonic distribution."""
        amplitudes = np.sqrt(temperature) * rng.normal(size=len(self.displacements))
        return self.minimum + np.einsum("m,mix->ix", amplitudes, self.displacements)

    def strain(self, positions):
        """Energy above the minimum (eV)."""
        return xtb_energy_and_gradient(self.numbers, positions)[0] - self.energy

    def keeps_its_bonds(self, positions):
        """Whether all bonds are about as long as at the minimum, and no other atoms are as close."""
        first, second = np.triu_indices(len(positions), k=1)
        radii = covalent_radii[self.numbers[first]] + covalent_radii[self.numbers[second]]
        at_minimum = np.linalg.norm(self.minimum[first] - self.minimum[second], axis=1)
        distances = np.linalg.norm(positions[first] - positions[second], axis=1)
        bonded = at_minimum < MAX_BOND * radii
        stretch = np.abs(distances / at_minimum - 1)[bonded]
        return bool(np.all(distances > MIN_DISTANCE * radii) and np.all(stretch < MAX_STRETCH))


def _relax(numbers, positions):
    def objective(flat):
        energy, gradient = xtb_energy_and_gradient(numbers, flat.reshape(-1, 3))
        return energy, gradient.ravel()

    flat = positions.ravel()
    for _ in range(3):  # BFGS stops early at the noise of its line search; from a fresh start it goes on
        flat = minimize(objective, flat, jac=True, method="BFGS", options={"gtol": 1e-4, "maxiter": 300}).x
    return flat.reshape(-1, 3)


def _hessian(numbers, positions):
    """Central differences of the gradient (eV / Angstrom^2)."""
    rows = []
    for step in HESSIAN_STEP * np.eye(positions.size).reshape(-1, *positions.shape):
        forward = xtb_energy_and_gradient(numbers, positions + step)[1]
        backward = xtb_energy_and_gradient(numbers, positions - step)[1]
        rows.append((forward - backward).ravel() / (2 * HESSIAN_STEP))
    hessian = np.array(rows)
    return (hessian + hessian.T) / 2


def _random_rotation(rng):
    return Rotation.from_quat(rng.normal(size=4)).as_matrix()


def _sampled_frames(name, numbers, sample, count, rng):
    """Call ``sample`` until it has given ``count`` geometries; it returns None for one to be rejected."""
    frames = []
    while len(frames) < count:
        positions = sample()
        if positions is not None:
            positions = (positions - positions.mean(axis=0)) @ _random_rotation(rng).T
            frames.append(Atoms(numbers, positions, info={"name": name}))
    return frames


def _interleave(groups):
    """Order in which each beginning of the list has the molecules in the proportions of the whole."""
    keyed = [
        ((k + 0.5) / len(group), index, frame) for index, group in enumerate(groups) for k, frame in enumerate(group)
    ]
    return [frame for _, _, frame in sorted(keyed, key=lambda entry: entry[:2])]


def _distorted(rng, modes):
    positions = modes.sample(rng, rng.uniform(*ORGANIC_TEMPERATURES))
    return positions if modes.keeps_its_bonds(positions) and modes.strain(positions) <= MAX_STRAIN else None


def _distorted_little(rng, modes):
    positions = modes.sample(rng, TEMPERATURE)
    return positions if modes.keeps_its_bonds(positions) else None


def _twisted_peroxide(rng, modes):
    """Distort hydrogen peroxide and turn one O-H bond about the O-O axis."""
    positions, angle = modes.sample(rng, TEMPERATURE), rng.uniform(0, 2 * np.pi)
    first, second = np.flatnonzero(modes.numbers == 8)
    hydrogens = np.flatnonzero(modes.numbers == 1)
    moved = hydrogens[np.argmin(np.linalg.norm(positions[hydrogens] - positions[second], axis=1))]
    axis = positions[second] - positions[first]
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    positions[moved] = positions[second] + turn.apply(positions[moved] - positions[second])
    return positions if modes.keeps_its_bonds(positions) else None


def _water_cluster(rng, modes, size):
    """Place distorted water molecules next to each other; None if they clash or are not bound enough."""
    monomers = []
    for _ in range(size):
        monomer = modes.sample(rng, TEMPERATURE)
        monomer = (monomer - monomer[0]) @ _random_rotation(rng).T
        if monomers:
            direction = rng.normal(size=3)
            neighbour = monomers[rng.integers(len(monomers))]
            monomer = monomer + neighbour[0] + rng.uniform(*CLUSTER_DISTANCES) * direction / np.linalg.norm(direction)
        monomers.append(monomer)
    for k, monomer in enumerate(monomers):
        for other in monomers[:k]:
            if np.linalg.norm(monomer[:, None] - other[None], axis=-1).min() < MIN_CONTACT:
                return None
    cluster = np.vstack(monomers)
    energy = xtb_energy_and_gradient(np.tile(modes.numbers, size), cluster)[0]
    binding = energy - sum(xtb_energy_and_gradient(modes.numbers, monomer)[0] for monomer in monomers)
    accepted = rng.random() <= np.exp(-binding / (kB * CLUSTER_TEMPERATURE)) and binding <= MAX_REPULSION
    return cluster if accepted else None
