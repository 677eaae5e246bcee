"""Kernels of lambda-SOAP from features and from the densities they are made of: time and memory, by number of species.

    python benchmarks/kernel_contraction.py

Random structures of 24 atoms; the kernel of a polarizability (0e and 2e), zeta 2. CPU microseconds for each pair of
environments of one species, from frames to kernels, and kB for each environment. The column "chosen" is what kernels
do by themselves. Below, fit and predict of make_pipeline(LambdaSOAP(), TensorKernelRidge()) on eight species.
"""

import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

from eqkernels import CovariantKernel, EquivariantFeatures, LambdaSOAP, TensorKernelRidge  # noqa: E402
from eqkernels.kernels import environments  # noqa: E402

SYMBOLS = ["H", "C", "N", "O", "F", "S", "P", "Cl", "Br", "I", "Si", "B", "Li", "Na", "K", "Ca"]
IRREPS = ("0e", "2e")
MOST_BYTES = 2**30


def structures(n_species, n_frames=8):
    random = np.random.default_rng(0)
    symbols = [SYMBOLS[k % n_species] for k in range(24)]
    return [Atoms(symbols, positions=random.uniform(0, 7, (24, 3))) for _ in range(n_frames)]


def seconds(function):
    function()
    times = []
    for _ in range(3):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def from_features(descriptor, frames):
    features = EquivariantFeatures.from_dict(descriptor.transform(frames).to_dict())
    return [CovariantKernel()(features, irrep=irrep) for irrep in IRREPS]


def from_densities(descriptor, frames):
    chosen, environments._LARGE = environments._LARGE, -1
    try:
        features = descriptor.transform(frames)
        return [CovariantKernel()(features, irrep=irrep) for irrep in IRREPS]
    finally:
        environments._LARGE = chosen


def chosen(descriptor, frames):
    X = descriptor.transform(frames)
    direct = isinstance(
        environments.environments(X, None, "2e", "invariant", True)[0], environments.DensityEnvironments
    )
    return "densities" if direct else "features"


def by_species():
    print("species n_max l_max   features: us  kB   densities: us  kB   ratio   chosen")
    for n_max, l_max in ((6, 4), (8, 6)):
        for n_species in (1, 2, 4, 8, 16):
            frames = structures(n_species)
            descriptor = LambdaSOAP(cutoff=4.0, n_max=n_max, l_max=l_max, irreps="+".join(IRREPS)).fit(frames)
            species, counts = np.unique(np.concatenate([atoms.numbers for atoms in frames]), return_counts=True)
            n_pairs, n_centers = np.sum(counts**2) / 2, counts.sum()
            small = 8 * (l_max + 1) ** 2 * n_max * len(species)
            large = 8 * sum((2 * int(irrep[0]) + 1) * len(descriptor.feature_labels(irrep)) for irrep in IRREPS)
            contracted = 1e6 * seconds(lambda f=frames, d=descriptor: from_densities(d, f)) / n_pairs
            line = f"{n_species:7d} {n_max:5d} {l_max:5d}"
            if large * n_centers < MOST_BYTES:
                stored = 1e6 * seconds(lambda f=frames, d=descriptor: from_features(d, f)) / n_pairs
                line += f"{stored:15.2f} {large / 1e3:5.0f}"
                line += f"{contracted:15.2f} {small / 1e3:4.0f}{stored / contracted:8.2f}"
            else:
                line += f"{'-':>15} {large / 1e3:5.0f}{contracted:15.2f} {small / 1e3:4.0f}{'-':>8}"
            print(f"{line}   {chosen(descriptor, frames)}", flush=True)


def pipelines():
    frames, random = structures(8, 40), np.random.default_rng(0)
    half = random.normal(size=(len(frames), 3, 3))
    y = half + half.transpose(0, 2, 1)
    model = make_pipeline(LambdaSOAP(cutoff=4.0, n_max=8, l_max=6), TensorKernelRidge(alpha=1e-3))
    print(f"pipeline, eight species, 40 structures: fit {seconds(lambda: model.fit(frames, y)):.2f} s,", end=" ")
    stored = sum(one.nbytes for one in model[-1].X_fit_.values() if isinstance(one, np.ndarray))
    print(f"predict {seconds(lambda: model.predict(frames)):.2f} s, {stored / 1e6:.1f} MB of training set", flush=True)


if __name__ == "__main__":
    by_species()
    pipelines()
