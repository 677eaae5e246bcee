"""
Elements that were not seen
===========================

Elements learn from those like them in the periodic table, and models answer for elements that were not among them.

Left: the first two coordinates of some metals and ligands in the embedding of ``species_embedding="periodic"``, by
group, period, covalent radius and electronegativity. Right: energies of alloys of five metals, and of alloys with a
sixth that no training structure contains, with their error bars. Takes some seconds after the first run, which
compiles, and writes unseen_elements.png.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import atomic_numbers

from eqkernels import CovariantKernel, LambdaSOAP, TensorGPR
from eqkernels.structures.elements import embedding

random = np.random.RandomState(0)


def alloys(metals, n):
    """Distorted cells of four atoms, and their energies."""
    frames = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.9 + 0.2 * random.rand(), cubic=True)
        atoms.symbols = random.choice(metals, size=4)
        atoms.rattle(0.05, seed=k)
        atoms.calc = EMT()
        frames.append(atoms)
    return frames, np.array([atoms.get_potential_energy() for atoms in frames])


seen, unseen = ["Cu", "Au", "Ni", "Pd", "Pt"], "Ag"
frames, energies = alloys(seen, 100)
model = TensorGPR(
    kernel=CovariantKernel(zeta=2, center_similarity=0.7),
    descriptor=LambdaSOAP(5.0, n_max=3, l_max=2, handle_unknown="embed"),
)
model.fit(frames, energies)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5))
tests = {f"of {', '.join(seen)}": alloys(seen, 30), f"with {unseen}, not seen": alloys([*seen, unseen, unseen], 40)}
for label, (some, expected) in tests.items():
    chosen = [k for k, atoms in enumerate(some) if label.startswith("of") or unseen in atoms.symbols]
    mean, std = model.predict([some[k] for k in chosen], return_std=True)
    error = np.sqrt(np.mean((mean - expected[chosen]) ** 2))
    right.errorbar(expected[chosen], mean, std, fmt="o", markersize=4, linewidth=0.8, label=label)
    print(f"alloys {label:28} RMSE {error:.3f} eV, error bars {std.mean():.3f} eV, spread {expected.std():.3f} eV")
limits = [energies.min(), energies.max()]
right.plot(limits, limits, color="0.6", zorder=0)
right.set(xlabel="energy (eV)", ylabel="predicted (eV)", title="Alloys, EMT energies")
right.legend()

families = {
    "alkali": "Li Na K Rb Cs", "alkaline earth": "Be Mg Ca Sr Ba", "transition metals": "Sc Ti Fe Ni Zr Mo Pd Hf W Pt",
    "coinage and zinc": "Cu Ag Au Zn Cd Hg", "nonmetals": "H C N O P S Se", "halogens": "F Cl Br I",
}  # fmt: skip
symbols = " ".join(families.values()).split()
coordinates = dict(zip(symbols, embedding([atomic_numbers[one] for one in symbols], 8), strict=True))
for label, members in families.items():
    points = np.array([coordinates[one][1:3] for one in members.split()])
    left.scatter(*points.T, s=12, label=label)
    for one, point in zip(members.split(), points, strict=True):
        left.annotate(one, point, xytext=(2, 2), textcoords="offset points", fontsize=8)
left.set(xlabel="second coordinate", ylabel="third coordinate", title="Elements by their similarity")
left.legend(fontsize=7)
figure.tight_layout()
figure.savefig("unseen_elements.png", dpi=120)
