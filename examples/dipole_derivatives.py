"""
Dipoles from their derivatives
==============================

Atomic polar tensors, the derivatives of a dipole by the positions of the atoms, teach a model the dipole itself.

Takes some seconds after the first run, which compiles. The labels are those of point charges that induce dipoles on
each other, whose derivatives are known exactly. Prints the errors of models that were fitted to dipoles, to derivatives
and to one derivative of each structure, and writes learning curves, and derivatives with error bars, to
dipole_derivatives.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import molecule

from eqkernels import LambdaSOAP, SparseTensorGPR
from eqkernels.testing import random_rotation

start = time.perf_counter()
random = np.random.RandomState(0)


def dimer():
    """Make two distorted molecules of water, about 3 A apart."""
    atoms = Atoms()
    for k in range(2):
        one = molecule("H2O")
        one.positions = one.positions @ random_rotation(random).T + 0.06 * random.normal(size=(3, 3))
        one.positions[:, 0] += k * (3.0 + 0.2 * random.normal())
        atoms += one
    return atoms


def dipole(atoms):
    """Sum point charges and what they induce to a dipole, with its derivatives [a, i, j] = dmu_i / dr_aj."""
    q, alpha = np.where(atoms.numbers == 8, -0.8, 0.4), np.where(atoms.numbers == 8, 0.9, 0.2)
    r = atoms.positions[:, None] - atoms.positions
    s = np.sum(r**2, axis=2) + 1.0
    mu = q @ atoms.positions + np.einsum("a,b,abi,ab->i", alpha, q, r, s**-1.5)
    pairs = np.einsum("a,b,ab,ij->abij", alpha, q, s**-1.5, np.eye(3))
    pairs -= 3 * np.einsum("a,b,abi,abj,ab->abij", alpha, q, r, r, s**-2.5)
    return mu, q[:, None, None] * np.eye(3) + pairs.sum(axis=1) - pairs.sum(axis=0)


def one_of(derivatives):
    """Leave one direction of one atom: three numbers, as many as a dipole has."""
    part, atom, direction = np.full_like(derivatives, np.nan), random.randint(6), random.randint(3)
    part[atom, :, direction] = derivatives[atom, :, direction]
    return part


frames = [dimer() for _ in range(180)]
dipoles, derivatives = zip(*map(dipole, frames), strict=True)
dipoles, parts = np.array(dipoles), [one_of(one) for one in derivatives]
test = slice(80, None)
descriptor = LambdaSOAP(cutoff=5.0, n_max=4, l_max=3, sigma=0.5)
errors = {}
print(f"RMSE of dipoles, spread {np.std(dipoles[test]):.3f}")
print(f"{'structures':>12}{'dipoles':>12}{'one deriv.':>12}{'all deriv.':>12}{'both':>12}")
for n in (10, 20, 40, 80):
    few = slice(n)
    for name, labels in {
        "dipoles": {"y": dipoles[few]},
        "one derivative of each": {"derivatives": parts[few]},
        "all derivatives": {"derivatives": derivatives[few]},
        "dipoles and derivatives": {"y": dipoles[few], "derivatives": derivatives[few]},
    }.items():
        model = SparseTensorGPR(120, descriptor=descriptor, target="dipole", random_state=0).fit(frames[few], **labels)
        left = model.predict(frames[test]) - dipoles[test]
        errors.setdefault(name, []).append((n, np.sqrt(np.mean(left**2))))
    print(f"{n:12}" + "".join(f"{curve[-1][1]:12.5f}" for curve in errors.values()))

model = SparseTensorGPR(120, descriptor=descriptor, target="dipole", random_state=0)
model.fit(frames[:10], derivatives=derivatives[:10])
mean, std = model.predict_derivatives(frames[test], return_std=True)
left = np.concatenate(mean) - np.concatenate(derivatives[test])
error, bar = np.sqrt(np.mean(left**2)), np.sqrt(np.mean(np.concatenate(std) ** 2))
print(f"derivatives, learned from those of 10: error {error:.4f}, error bars {bar:.4f}")
print(f"largest sum of them over the atoms: {max(abs(one.sum(axis=0)).max() for one in mean):.0e}")

fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.9))
for name, curve in errors.items():
    axes[0].loglog(*np.transpose(curve), "o-", markersize=4, label=name)
axes[0].set(xlabel="training structures", ylabel="RMSE of dipoles (e Å)", xticks=[10, 20, 40, 80], ylim=(1e-3, 0.3))
axes[0].set_yticks([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
axes[0].xaxis.set_major_formatter("{x:.0f}")
axes[0].yaxis.set_major_formatter("{x:g}")
axes[0].minorticks_off()
axes[0].legend(title="learned from", fontsize="small")
true, predicted, bars = (np.concatenate(one[:8]).ravel() for one in (derivatives[test], mean, std))
axes[1].errorbar(true, predicted, 2 * bars, fmt="o", markersize=3, elinewidth=0.8, label="±2 standard deviations")
axes[1].axline((0, 0), slope=1, color="gray", linewidth=0.8)
axes[1].set(xlabel="derivative of the dipole (e)", ylabel="predicted, from 10 structures (e)", aspect="equal")
axes[1].legend(fontsize="small")
fig.tight_layout()
fig.savefig("dipole_derivatives.png", dpi=150)
print(f"wrote dipole_derivatives.png, {time.perf_counter() - start:.1f} s in all")
