"""
Charges beyond the cutoff
=========================

The attraction of two molecular ions, learned nearby and predicted far beyond the cutoff.

Takes some seconds after the first run, which compiles. Energies of ammonium beside formate, in random
orientations and with fixed partial charges, are learned from distances up to 7 Angstrom, with and without the fields
of all atoms (``long_range=1``), and predicted up to 15. Writes long_range.png.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import molecule

from eqkernels import LambdaSOAP, TensorRidge
from eqkernels.testing import random_rotation

COULOMB = 14.3996  # e^2 / (4 pi eps0) in eV Angstrom
rng = np.random.RandomState(0)


def cation():
    """Ammonium, with charges that sum up to 1."""
    corners = 1.03 / np.sqrt(3) * np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
    return Atoms("NH4", np.concatenate([[(0, 0, 0)], corners])), np.array([-0.8] + 4 * [0.45])


def anion():
    """Carbon, hydrogen and two oxygens of formic acid, with charges that sum up to -1."""
    atoms = molecule("HCOOH")
    atoms.translate(-atoms.positions.mean(axis=0))
    charges = {"C": 0.7, "O": -0.8, "H": -0.1}
    del atoms[[atom.index for atom in atoms if atom.symbol == "H"][0]]
    return atoms, np.array([charges[symbol] for symbol in atoms.symbols])


def pair(distance):
    """Two ions in random orientations, and their energy."""
    (one, q), (two, p) = cation(), anion()
    one.positions = one.positions @ random_rotation(rng).T
    two.positions = two.positions @ random_rotation(rng).T + [0, 0, distance]
    gaps = np.linalg.norm(one.positions[:, None] - two.positions, axis=2)
    return one + two, COULOMB * np.sum(q[:, None] * p / gaps)


near, far = rng.uniform(4.5, 7.0, 120), np.linspace(4.5, 15.0, 60)
train, y = zip(*map(pair, near), strict=True)
test, truth = zip(*map(pair, far), strict=True)
fig, ax = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
ax.plot(far, truth, "k.", ms=5, label="reference")
for long_range, color in ((None, "C1"), (1, "C0")):
    descriptor = LambdaSOAP(cutoff=3.0, n_max=4, l_max=2, irreps="0e", long_range=long_range, long_range_sigma=0.5)
    model = TensorRidge(descriptor=descriptor).fit(list(train), np.array(y))
    predicted = model.predict(list(test))
    error = np.sqrt(np.mean((predicted - truth)[far > 7] ** 2))
    print(f"long_range={long_range}: {error:.3f} eV beyond 7 Angstrom, of a spread of {np.std(truth):.2f}")
    ax.plot(far, predicted, color=color, lw=1.2, label=f"long_range={long_range} ({error:.2f} eV)")
ax.axvspan(near.min(), near.max(), color="0.92", zorder=0)
ax.text(near.mean(), 0.97, "learned here", ha="center", va="top", color="0.4", transform=ax.get_xaxis_transform())
ax.set(xlabel="distance of the ions (Å)", ylabel="energy (eV)")
ax.legend(frameon=False, loc="lower right")
fig.savefig("long_range.png", dpi=150)
print("wrote long_range.png")
