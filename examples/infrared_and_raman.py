"""
Infrared and Raman spectra of water
===================================

Spectra of a water molecule, from normal modes and from molecular dynamics, of models of its energy, dipole and
polarizability.

Takes half a minute. The models are fitted to 130 distorted molecules of the bundled data (RHF/def2-SVPD: frequencies
are some ten percent too high). Prints the normal modes with their intensities, runs short trajectories of a molecule
that vibrates and rotates at 300 K, and writes both kinds of spectra to infrared_and_raman.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.optimize import BFGS

from eqkernels import LambdaSOAP, SparseTensorGPR, TensorCalculator
from eqkernels.datasets import load_small_organics, load_water_clusters
from eqkernels.plotting import SpectrumDisplay
from eqkernels.spectra import HarmonicSpectrum, infrared_spectrum, raman_spectrum

start = time.perf_counter()
bohr, temperature, timestep = units.Bohr, 300.0, 0.5  # Angstrom, K, fs
n_molecules, n_steps, every = 40, 2000, 6

# frames, and labels in eV, Angstrom and e
frames, labels = [], {"energy": [], "forces": [], "dipole": [], "polarizability": []}
to_ase = {"energy": units.Hartree, "forces": units.Hartree / bohr, "dipole": bohr, "polarizability": bohr**3}
for data, name in ((load_water_clusters(), "water monomer"), (load_small_organics(), "water")):
    for k in np.flatnonzero(data.names == name):
        frames.append(data.frames[k])
        for what, values in labels.items():
            values.append(to_ase[what] * data[what][k])

descriptor = LambdaSOAP(cutoff=3.0, n_max=4, l_max=3, sigma=0.4)
models = {}
for what in ("energy", "dipole", "polarizability"):
    models[what] = SparseTensorGPR(150, descriptor=descriptor, target=what, random_state=0)
    forces = {"forces": labels["forces"]} if what == "energy" else {}
    models[what].fit(frames, np.array(labels[what]), **forces)
print(f"fitted to {len(frames)} molecules, {time.perf_counter() - start:.1f} s")

atoms = frames[0].copy()
atoms.calc = TensorCalculator(models)
BFGS(atoms, logfile=None).run(fmax=1e-4, steps=100)
harmonic = HarmonicSpectrum.from_structure(atoms, dipole_unit="e A", polarizability_unit="A^3")
print(harmonic)


def thermal_velocities(atoms, harmonic, random):
    """Rotation and vibrations with classical energies: velocities at the minimum have all that of the vibrations."""
    masses = atoms.get_masses()[:, None]
    velocities = random.normal(size=(len(atoms), 3)) * np.sqrt(units.kB * temperature / masses)
    velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    # coordinates of the modes, whose kinetic energies of k T / 2 are made k T on average
    along = np.einsum("mia,ia->m", harmonic.modes, masses * velocities)
    return velocities + (np.sqrt(2) - 1) * np.einsum("m,mia->ia", along, harmonic.modes)


# molecules move side by side: a model predicts many at once in little more time than one (for one, ase.md does)
random, masses = np.random.default_rng(0), atoms.get_masses()[:, None]
molecules = [atoms.copy() for _ in range(n_molecules)]
velocities = np.array([thermal_velocities(atoms, harmonic, random) for _ in molecules])


def accelerations():
    by_positions = models["energy"].vjp(molecules, np.ones(n_molecules)).positions
    return -by_positions.reshape(n_molecules, len(atoms), 3) / masses


acceleration, trajectory = accelerations(), []
for step in range(n_steps):
    velocities += 0.5 * timestep * units.fs * acceleration
    for molecule, velocity in zip(molecules, velocities, strict=True):
        molecule.positions += timestep * units.fs * velocity
    acceleration = accelerations()
    velocities += 0.5 * timestep * units.fs * acceleration
    if step % every == 0:
        trajectory += [molecule.copy() for molecule in molecules]
dipoles, polarizabilities = (
    np.array(models[what].predict(trajectory)).reshape(-1, n_molecules, *shape).swapaxes(0, 1)
    for what, shape in (("dipole", (3,)), ("polarizability", (3, 3)))
)
print(f"{n_molecules} trajectories of {1e-3 * n_steps * timestep:g} ps, {time.perf_counter() - start:.1f} s")

how = {"temperature": temperature, "resolution": 50, "window": "hann", "n_blocks": 1}
infrared = infrared_spectrum(list(dipoles), every * timestep, unit="e A", **how)
raman = raman_spectrum(list(polarizabilities), every * timestep, unit="A^3", **how)
for name, spectrum, lines, unit in (
    ("infrared", infrared, harmonic.absorption, "km/mol"),
    ("Raman", raman.total, harmonic.activity, "A^4/amu"),
):
    for low, high, of in ((1300, 2300, lines[:1]), (3300, 4700, lines[1:])):
        area, error = spectrum.integrate(low, high), spectrum.integration_error(low, high)
        print(f"{name}, {low} to {high} cm^-1: {area:.0f} +- {error:.0f} {unit}, normal modes {of.sum():.0f}")

fig, (above, below) = plt.subplots(2, 1, figsize=(7, 5.6), sharex=True, layout="constrained")
SpectrumDisplay.from_harmonic(harmonic, width=50, label="normal modes", ax=above)
SpectrumDisplay.from_spectrum(infrared, label="dynamics", ax=above)
SpectrumDisplay.from_harmonic(harmonic, kind="raman", parts="total", width=50, label="normal modes", ax=below)
SpectrumDisplay.from_spectrum(raman, parts=("total", "depolarized"), label="dynamics", ax=below)
above.set_xlabel("")
below.set_xlim(0, 4800)
fig.savefig("infrared_and_raman.png", dpi=150)
print(f"wrote infrared_and_raman.png, {time.perf_counter() - start:.1f} s in all")
