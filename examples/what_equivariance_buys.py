"""
What equivariance buys
======================

A dipole learned from a few structures: random rotations of each of them instead of equivariance.

A kernel model of Cartesian coordinates does not know that a rotated molecule has a rotated dipole. It can learn it from
rotated copies of the training structures: here 1, 10, 100 and 500 random ones of each of ten water molecules, tested on
other molecules in other orientations. Invariant features do not help, however many copies there are, since they are
the same for all orientations: the best prediction of a vector is zero. The equivariant kernel needs no copies. Smidt
(Trends Chem. 3, 82, 2021) states that augmentation takes about 500 times the data in three dimensions. Takes about half
a minute after the first run, which compiles, and writes what_equivariance_buys.png.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import make_pipeline

from eqkernels import LambdaSOAP, TensorKernelRidge
from eqkernels.datasets import load_water_clusters
from eqkernels.metrics import frobenius_rmse
from eqkernels.testing import random_rotation, transformed

COPIES, N_TRAIN = (1, 10, 100, 500), 10
data = load_water_clusters()
monomers = [k for k, atoms in enumerate(data.frames) if len(atoms) == 3]
random = np.random.RandomState(0)


def rotated(structures, n_copies):
    """Structures and dipoles in random orientations."""
    frames, dipoles = [], []
    for k in structures:
        for _ in range(n_copies):
            rotation = random_rotation(random)
            frames.append(transformed(data.frames[k], rotation))
            dipoles.append(rotation @ data.dipole[k])
    return frames, np.array(dipoles)


def coordinates(frames):
    """Positions of hydrogen atoms from oxygen: a vector of six numbers."""
    return np.array([(atoms.positions[1:] - atoms.positions[0]).ravel() for atoms in frames])


def invariants(frames):
    """Power spectra, mean over the atoms."""
    return LambdaSOAP(cutoff=3.0, n_max=4, l_max=3, irreps="0e").fit_transform(frames).invariants("mean")


def best_error(features, train, validation, test):
    """Error on test structures, with the width of the kernel that is best on those for validation."""
    x, x_validation, x_test = (features(frames) for frames, _ in (train, validation, test))
    scale = np.var(x, axis=0).sum() + 1e-12
    errors = []
    for gamma in (0.1, 0.4, 1.6):
        model = KernelRidge(kernel="rbf", gamma=gamma / scale, alpha=1e-6).fit(x, train[1])
        parts = (x_validation, validation[1]), (x_test, test[1])
        errors.append([frobenius_rmse(y, model.predict(part)) for part, y in parts])
    return min(errors)[1]


train, validation, test = monomers[:N_TRAIN], monomers[N_TRAIN : 2 * N_TRAIN], monomers[2 * N_TRAIN :]
held_back = rotated(validation, 10), rotated(test, 10)
spread = np.sqrt(np.mean(np.sum(held_back[1][1] ** 2, axis=1)))
curves = {"coordinates": [], "invariant features": []}
for n_copies in COPIES:
    sample = rotated(train, n_copies)
    curves["coordinates"].append(best_error(coordinates, sample, *held_back) / spread)
    if n_copies <= 100:
        curves["invariant features"].append(best_error(invariants, sample, *held_back) / spread)
model = make_pipeline(LambdaSOAP(cutoff=3.0, n_max=4, l_max=3), TensorKernelRidge()).fit(*rotated(train, 1))
equivariant = frobenius_rmse(held_back[1][1], model.predict(held_back[1][0])) / spread

print(f"error of dipoles over their size, {N_TRAIN} training molecules")
for name, errors in curves.items():
    print(f"{name:>20}: " + ", ".join(f"{error:.4f} ({n})" for error, n in zip(errors, COPIES, strict=False)))
print(f"{'equivariant kernel':>20}: {equivariant:.4f}, without copies")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, errors in curves.items():
    ax.loglog(COPIES[: len(errors)], errors, "o-", label=name)
ax.axhline(equivariant, color="black", label="equivariant kernel, no copies")
ax.axvline(500, color="grey", linestyle=":", linewidth=1.0)
ax.annotate("about 500 (Smidt 2021)", (480, 0.01), rotation=90, ha="right", va="bottom", color="grey")
ax.set(xlabel="random rotations of each training molecule", ylabel="error over the size of the dipole")
ax.set_title(f"dipoles of water from {N_TRAIN} molecules")
ax.legend(loc="upper left", bbox_to_anchor=(0.3, 0.85))
figure.savefig("what_equivariance_buys.png", dpi=120)
