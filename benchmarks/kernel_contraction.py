"""Kernels from lambda-SOAP features and straight from densities: time and memory, by the number of species.

    python benchmarks/kernel_contraction.py

Random structures of 24 atoms; the kernel of a polarizability (0e and 2e), zeta 2. CPU microseconds for each pair of
environments of one species, with the making of the features, and kB for each environment. The column "chosen" is what
a model does that is given frames.
"""

import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

from eqkernels import CovariantKernel, DensityKernel, LambdaSOAP, SphericalExpansion  # noqa: E402
from eqkernels.kernels.density import contraction_is_cheaper  # noqa: E402

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


def kernels(descriptor, kernel, frames):
    features = descriptor.transform(frames)
    return [kernel(features, irrep=irrep) for irrep in IRREPS]


def main():
    print("species n_max l_max   features: us  kB   densities: us  kB   ratio   chosen")
    for n_max, l_max in ((6, 4), (8, 6)):
        for n_species in (1, 2, 4, 8, 16):
            frames, options = structures(n_species), {"cutoff": 4.0, "n_max": n_max, "l_max": l_max}
            density = SphericalExpansion(**options).fit(frames)
            features = LambdaSOAP(**options, irreps="+".join(IRREPS)).fit(frames)
            species, counts = np.unique(np.concatenate([atoms.numbers for atoms in frames]), return_counts=True)
            n_pairs, n_centers = np.sum(counts**2) / 2, counts.sum()
            widths = [2 * l + 1 for l in range(l_max + 1)]
            small = 8 * sum(widths) * n_max * len(species)
            large = 8 * sum((2 * int(irrep[0]) + 1) * len(features.feature_labels(irrep)) for irrep in IRREPS)
            contracted = 1e6 * seconds(lambda f=frames, d=density: kernels(d, DensityKernel(), f)) / n_pairs
            line = f"{n_species:7d} {n_max:5d} {l_max:5d}"
            if large * n_centers < MOST_BYTES:
                stored = 1e6 * seconds(lambda f=frames, d=features: kernels(d, CovariantKernel(), f)) / n_pairs
                line += (
                    f"{stored:15.2f} {large / 1e3:5.0f}{contracted:15.2f} {small / 1e3:4.0f}{stored / contracted:8.2f}"
                )
            else:
                line += f"{'-':>15} {large / 1e3:5.0f}{contracted:15.2f} {small / 1e3:4.0f}{'-':>8}"
            chosen = contraction_is_cheaper(CovariantKernel(), features, n_centers)
            print(f"{line}   {'densities' if chosen else 'features'}", flush=True)


if __name__ == "__main__":
    main()
