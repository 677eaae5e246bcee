"""
Correlations of three neighbors
===============================

What lambda-SOAP cannot see, and kernels of higher body order can: the volumes that three neighbors of an atom span.

A carbon has four hydrogens at random. The label is the sum of the squared volumes of the parallelepipeds of each three
of the bonds: a function of four atoms at a time. Linear models of products of two densities (body order 3, lambda-SOAP)
know the lengths and angles of pairs of bonds, not which pairs belong together, and stop learning. Products of three
densities (body order 4) contain the label. The square of the kernel of lambda-SOAP (zeta = 2), which multiplies all
pairs with all others, helps less. Takes some ten seconds after the first run, which compiles, and writes
body_order.png.
"""

from itertools import combinations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms

from eqkernels import CovariantKernel, LambdaSOAP, TensorKernelRidge, WignerKernel
from eqkernels.metrics import frobenius_rmse

SIZES, TEST = (25, 50, 100, 200, 400), 200
KERNELS = {
    "body order 3 (lambda-SOAP)": WignerKernel(3, zeta=1),
    "body order 3, zeta = 2": CovariantKernel(zeta=2),
    "body order 4": WignerKernel(4, zeta=1),
    "body order 5": WignerKernel(5, zeta=1),
}

random = np.random.default_rng(0)
frames, volumes = [], []
while len(frames) < SIZES[-1] + TEST:
    bonds = random.normal(size=(4, 3))
    bonds *= (random.uniform(0.9, 1.4, size=4) / np.linalg.norm(bonds, axis=1))[:, None]
    if min(np.linalg.norm(a - b) for a, b in combinations(bonds, 2)) > 0.6:
        frames.append(Atoms("CH4", positions=np.vstack([np.zeros(3), bonds])))
        volumes.append(sum(np.linalg.det(three) ** 2 for three in combinations(bonds, 3)))
volumes = np.array(volumes)

descriptor = LambdaSOAP(cutoff=3.0, n_max=4, l_max=4, sigma=0.3, center_species="C", irreps="0e")
features = descriptor.fit_transform(frames)
spread, test = np.std(volumes), slice(SIZES[-1], None)
figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
for label, kernel in KERNELS.items():
    errors = []
    for size in SIZES:
        model = TensorKernelRidge(kernel=kernel).fit(features[:size], volumes[:size])
        errors.append(frobenius_rmse(volumes[test], model.predict(features[test])) / spread)
    print(f"{label:28}" + "".join(f"{error:9.4f}" for error in errors))
    axes.loglog(SIZES, errors, "o-", label=label)
axes.set_xticks(SIZES, map(str, SIZES))
axes.minorticks_off()
axes.set(xlabel="training structures", ylabel="RMSE / spread of the labels")
axes.legend(frameon=False)
figure.savefig("body_order.png", dpi=150)
