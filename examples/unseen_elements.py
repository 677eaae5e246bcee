"""
Elements that were not seen
===========================

Elements learn from those like them in the periodic table, and models answer for elements that were not among them.

Left: the similarity of elements by group, period, covalent radius and electronegativity, from which
``species_embedding="periodic"`` and ``center_similarity`` follow. Right: energies of alloys of five metals, and of
alloys with a sixth that no training structure contains, with their error bars. Takes some seconds after the first run,
which compiles, and writes unseen_elements.png.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import atomic_numbers

from eqkernels import CovariantKernel, LambdaSOAP, TensorGPR
from eqkernels.structures.elements import element_similarity

random = np.random.RandomState(0)


def alloys(metals, n):
    """Distorted cells of four atoms, and their energies."""
    frames = []
    for k in range(n):
        symbols = random.choice(metals, size=4)
        constant = np.mean([bulk(one, cubic=True).cell[0, 0] for one in symbols])
        atoms = bulk("Cu", "fcc", a=constant * (0.96 + 0.08 * random.rand()), cubic=True)
        atoms.symbols = symbols
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

names = "H C N O F P S Cl Se Br I B Al Ga Si Sn Pb Li Na K Mg Ca Sr Sc Ti Zr Nb Mo W Fe Ni Pd Pt Cu Ag Au Zn"
symbols = names.split()
numbers = [atomic_numbers[one] for one in symbols]
image = left.imshow(element_similarity(numbers, numbers), cmap="viridis", vmin=0, vmax=1)
left.set_xticks(range(len(symbols)), symbols, rotation=90, fontsize=6)
left.set_yticks(range(len(symbols)), symbols, fontsize=6)
left.set(title="Similarity of elements")
figure.colorbar(image, ax=left, shrink=0.8)
figure.tight_layout()
figure.savefig("unseen_elements.png", dpi=120)
