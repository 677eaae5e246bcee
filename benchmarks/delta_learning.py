"""Polarizabilities with and without Thole's model as a baseline: ``python benchmarks/delta_learning.py [qm7x.xyz]``.

The file, of one molecule of QM7-X distorted 100 times, is qm7x_reduced_100.xyz in the tests of metatrain.
"""

import sys
import time

import ase.io
import numpy as np

from eqkernels import LambdaSOAP, TensorKernelRidge
from eqkernels.datasets import load_small_organics, load_water_clusters
from eqkernels.metrics import frobenius_rmse
from eqkernels.regression import TholePolarizability


def compare(title, train, test):
    """Print a row: errors of Thole's model, of a kernel model, and of the kernel model of what Thole's leaves."""
    (frames, y), (others, truth) = train, test
    models = [
        TholePolarizability(),
        TensorKernelRidge(descriptor=LambdaSOAP()),
        TensorKernelRidge(descriptor=LambdaSOAP(), baseline=TholePolarizability()),
    ]
    errors, seconds = [], []
    for model in models:
        start = time.process_time()
        errors.append(frobenius_rmse(truth, model.fit(frames, y).predict(others)))
        seconds.append(time.process_time() - start)
    spread = np.sqrt(np.mean(np.sum((truth - y.mean(axis=0)) ** 2, axis=(1, 2))))
    print(f"| {title} | {spread:.3g} | " + " | ".join(f"{one:.3g}" for one in errors) + " |", flush=True)
    print("   seconds: " + ", ".join(f"{one:.1f}" for one in seconds), flush=True)


def part(data, rows):
    """Frames and polarizabilities of some structures."""
    return [data.frames[k] for k in rows], data.polarizability[rows]


def main():
    """Print a table."""
    print("| training set | spread | Thole | kernel | kernel and Thole |\n|---|---|---|---|---|")
    organics, water = load_small_organics(), load_water_clusters()
    order = np.random.default_rng(0).permutation(len(organics.frames))
    for n in (30, 100, 300):
        compare(f"{n} small organics", part(organics, order[:n]), part(organics, order[600:]))
    sizes = np.array([len(atoms) for atoms in organics.frames])
    small, large = np.flatnonzero(sizes <= 6), np.flatnonzero(sizes >= 8)
    compare("all of up to 6 atoms, for those of 8 to 10", part(organics, small), part(organics, large))
    counts = np.array([len(atoms) // 3 for atoms in water.frames])
    dimers = np.random.default_rng(0).permutation(np.flatnonzero(counts == 2))
    for n in (30, 100):
        compare(f"{n} water dimers", part(water, dimers[:n]), part(water, dimers[150:]))
    compare("100 water dimers, for trimers", part(water, dimers[:100]), part(water, np.flatnonzero(counts == 3)))
    monomers = np.flatnonzero(counts == 1)
    compare("water monomers, for dimers", part(water, monomers), part(water, dimers))
    for path in sys.argv[1:]:
        frames = ase.io.read(path, ":")
        y = np.array([np.reshape(atoms.info["polarizability"], (3, 3)) for atoms in frames])
        y = 0.5 * (y + y.transpose(0, 2, 1))
        for atoms in frames:
            atoms.pbc = False
        order = np.random.default_rng(0).permutation(len(frames))
        train, test = ([[frames[k] for k in rows], y[rows]] for rows in (order[:50], order[60:]))
        compare("50 geometries of C5H7NS (QM7-X)", train, test)


if __name__ == "__main__":
    main()
