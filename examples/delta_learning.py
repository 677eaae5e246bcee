"""
Delta learning with induced dipoles
===================================

A model learns what Thole's model of interacting atomic dipoles leaves of the polarizabilities of water clusters.

Learning curves of kernel ridge regression, alone and with ``baseline=TholePolarizability()``, which is fitted to the
same labels first: trained on dimers, for other dimers and for trimers, which have three pairs of molecules in place of
one. Error bars are the spread over three random training sets. Takes some seconds after the first run, which compiles,
and writes delta_learning.png.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from eqkernels import TensorKernelRidge, TholePolarizability
from eqkernels.datasets import load_water_clusters
from eqkernels.metrics import frobenius_rmse

data = load_water_clusters()
molecules = np.array([len(atoms) // 3 for atoms in data.frames])
dimers, trimers = np.flatnonzero(molecules == 2), np.flatnonzero(molecules == 3)
models = {
    "kernel": TensorKernelRidge(),
    "kernel, baseline=TholePolarizability()": TensorKernelRidge(baseline=TholePolarizability()),
    "TholePolarizability alone": TholePolarizability(),
}
sizes = [10, 20, 40, 80, 160]


def errors(model, seed):
    """Errors for dimers and trimers, by the size of the training set."""
    order = np.random.default_rng(seed).permutation(dimers)
    rows = []
    for n in sizes:
        model.fit([data.frames[k] for k in order[:n]], data.polarizability[order[:n]])
        tests = order[200:], trimers
        rows.append(
            [frobenius_rmse(data.polarizability[test], model.predict([data.frames[k] for k in test])) for test in tests]
        )
    return np.array(rows)


figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
for name, model in models.items():
    found = np.array([errors(model, seed) for seed in range(3)])
    for k, axis in enumerate(axes):
        axis.errorbar(sizes, found[:, :, k].mean(axis=0), found[:, :, k].std(axis=0), marker="o", capsize=3, label=name)
    print(f"{name:40} dimers {found[:, -1, 0].mean():.3f}, trimers {found[:, -1, 1].mean():.3f} a0^3")
for axis, title in zip(axes, ("dimers", "trimers"), strict=True):
    axis.set(xscale="log", yscale="log", xlabel="dimers in the training set", title=f"Errors for {title}")
    axis.set_xticks(sizes, [str(n) for n in sizes], minor=False)
    axis.minorticks_off()
axes[0].set_ylabel("RMSE of the polarizability (a0$^3$)")
axes[1].legend()
figure.tight_layout()
figure.savefig("delta_learning.png", dpi=150)
