"""
Charges of atoms in molecules larger than the cutoff
====================================================

Dipoles of donor-acceptor chains and peptides, with charges of the atoms beside their dipoles.

Takes half a minute. Models are trained on the smaller molecules and tested on the larger ones: local dipoles of the
atoms do not know how far apart charges are, charges do. Writes charges.png, with predicted dipoles of both, and the
charges of one molecule beside those of the reference.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from eqkernels import ChargeKernel, CovariantKernel, LambdaSOAP, TensorKernelRidge
from eqkernels.datasets import load_chain_molecules
from eqkernels.metrics import frobenius_rmse

data = load_chain_molecules()
sizes = np.array([len(atoms) for atoms in data.frames])
order = np.argsort(sizes, kind="stable")[::2]
train, test = order[:100], order[100:]
print(f"{len(train)} molecules of {sizes[train].min()} to {sizes[train].max()} atoms to train,", end=" ")
print(f"{len(test)} of {sizes[test].min()} to {sizes[test].max()} to test")

features = LambdaSOAP(cutoff=4.0, n_max=4, l_max=3).fit_transform(data.frames, data.dipole)
models = {
    "dipoles of atoms": TensorKernelRidge(),
    "charges and dipoles": TensorKernelRidge(kernel=CovariantKernel() + ChargeKernel()),
}
fig, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
limit = 1.05 * np.abs(data.dipole[test]).max()
for ax, (name, model) in zip(axes, models.items(), strict=False):
    model.fit(features[train], data.dipole[train])
    predicted = model.predict(features[test])
    error = frobenius_rmse(data.dipole[test], predicted)
    print(f"{name:20} RMSE {error:.3f} e Angstrom")
    ax.plot([-limit, limit], [-limit, limit], color="0.7", lw=1)
    ax.plot(data.dipole[test].ravel(), predicted.ravel(), ".", ms=3)
    ax.set(title=f"{name}, RMSE {error:.3f} e Å", xlabel="GFN2-xTB dipole (e Å)", ylabel="predicted (e Å)")
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")

longest = next(k for k in test if "polyene" in data.names[k])
charges = model.predict_charges(features[[longest]])[0]
atoms = data.frames[longest]
heavy = np.flatnonzero(atoms.numbers > 1)
groups = np.argmin(np.linalg.norm(atoms.positions[:, None] - atoms.positions[heavy], axis=2), axis=1)
along = np.linalg.norm(atoms.positions[heavy] - atoms.positions[heavy[0]], axis=1)
for values, label, style in ((data.charges[longest], "GFN2-xTB, Mulliken", "o-"), (charges, "predicted", "s--")):
    axes[2].plot(along, np.bincount(groups, values), style, ms=4, lw=1, label=label)
axes[2].axhline(0, color="0.7", lw=1)
axes[2].set(title=data.names[longest], xlabel="distance from the first atom (Å)", ylabel="charge, with hydrogen (e)")
axes[2].legend(frameon=False)
fig.savefig("charges.png", dpi=120)
print(f"charges of {data.names[longest]} add up to {charges.sum():.1e} e")
