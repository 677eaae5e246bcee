"""
A potential of an alloy from energies, forces and stress
========================================================

A potential of a copper-silver alloy from energies, forces and stress, used for relaxation.

Takes half a minute after the first run, which compiles. The labels come from an effective medium potential (ase's EMT).
Prints the errors of Gaussian processes that were fitted to energies alone, with forces, and with stress too, and of a
network that learned from all of them, relaxes a structure with the last Gaussian process, and writes a parity plot of
the forces to forces.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from sklearn.base import clone

from eqkernels import EquivariantNetworkRegressor, LambdaSOAP, SparseTensorGPR, TensorCalculator

start = time.perf_counter()
random, frames = np.random.default_rng(0), []
for _ in range(80):
    atoms = bulk("Cu", a=3.85, cubic=True) * (2, 1, 1)
    atoms.numbers[random.permutation(8)[: random.integers(0, 9)]] = 47
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.08 * random.normal(size=atoms.positions.shape)
    atoms.calc = EMT()
    frames.append(atoms)
y = np.array([atoms.get_potential_energy() for atoms in frames])
forces = np.array([atoms.get_forces() for atoms in frames])
stress = np.array([atoms.get_stress(voigt=False) for atoms in frames])
train, test = slice(0, 60), slice(60, None)


# near neighbors matter most: their density is weighted more
descriptor = LambdaSOAP(cutoff=5.5, n_max=6, l_max=4, sigma=0.5, scaling_scale=2.5)


def rmse(one, other):
    return np.sqrt(np.mean((np.asarray(one) - other) ** 2))


print(f"RMSE on {len(y[test])} structures, learned from {len(y[train])}")
print(f"{'labels':24}{'energy':>12}{'forces':>12}{'stress':>12}")
print(f"{'':24}{'meV/atom':>12}{'meV/A':>12}{'meV/A^3':>12}")
spread = np.std(y[test]) / 8, np.std(forces[test]), np.std(stress[test])
print(f"{'(spread of the data)':24}" + "".join(f"{1e3 * value:12.2f}" for value in spread))
fig, axes = plt.subplots(1, 4, figsize=(12, 3.6), sharex=True, sharey=True, layout="constrained")
process = SparseTensorGPR(n_points=500, descriptor=descriptor, random_state=0)
network = EquivariantNetworkRegressor(cutoff=5.5, max_iter=60, random_state=0)
known, models = {}, {}
steps = ("energies", {}, process), ("+ forces", {"forces": forces[train]}, process)
steps += ("+ stress", {"stress": stress[train]}, process), ("network", {}, network)
for ax, (name, labels, kind) in zip(axes, steps, strict=True):
    known |= labels
    models[name] = model = clone(kind).fit(frames[train], y[train], **known)
    predicted = np.array(model.predict_forces(frames[test]))
    errors = rmse(model.predict(frames[test]), y[test]) / 8, rmse(predicted, forces[test])
    errors += (rmse(model.predict_stress(frames[test]), stress[test]),)
    print(f"{name:24}" + "".join(f"{1e3 * value:12.2f}" for value in errors))
    ax.axline((0, 0), slope=1, color="gray", linewidth=0.8)
    ax.plot(forces[test].ravel(), predicted.ravel(), "o", markersize=3, markeredgewidth=0, alpha=0.5)
    ax.set(title=f"{name}: RMSE {1e3 * errors[1]:.0f} meV/Å", xlabel="force (eV/Å)", aspect="equal")
    ax.locator_params(nbins=6)
model = models["+ stress"]
noise = {key: np.sqrt(value * model.signal_variance_["0e"]) for key, value in model.noise_.items()}
print(
    "noise that the likelihood found (meV, A): " + ", ".join(f"{key} {1e3 * value:.2g}" for key, value in noise.items())
)

atoms, reference = frames[-1].copy(), frames[-1].copy()
atoms.calc, reference.calc = TensorCalculator(model), EMT()
for one in (atoms, reference):
    BFGS(one, logfile=None).run(fmax=0.01, steps=100)
away = np.abs(atoms.positions - reference.positions).max()
print(f"relaxed with the model: atoms up to {away:.3f} A from where the potential takes them")

axes[0].set_ylabel("predicted force (eV/Å)")
fig.savefig("forces.png", dpi=150)
print(f"wrote forces.png, {time.perf_counter() - start:.1f} s in all")
