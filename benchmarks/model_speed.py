"""Time of models: fit, prediction and single structures, for molecules and boxes of water, beside sums over all pairs.

    python benchmarks/model_speed.py [--boxes 160 32] [--dimers PATH]

Molecules: polarizability of small organics, 600 to train, 300 to predict, LambdaSOAP(cutoff=4, n_max=5, l_max=3). The
column "pairs" is the time of the same prediction by kernels with all training structures, for forty structures.
Boxes: a 2e kernel of boxes of water, by sums over environments and over pairs of environments. With a file of water
dimers (polarizabilities in ``info["alpha"]``) also what the choice of alpha adds to a fit.
"""

import argparse
import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import molecule  # noqa: E402

from eqkernels import (  # noqa: E402
    CovariantKernel,
    LambdaSOAP,
    SparseTensorGPR,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.datasets import load_small_organics  # noqa: E402
from eqkernels.kernels.outer_products import outer_product_kernel  # noqa: E402


def seconds(function, repeats=1):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def seconds_of_pairs(X, training_set, irreps=("0e", "2e")):
    """Kernels by pairs of environments, of features that are there, as a fitted model keeps them."""
    for features in (X, training_set or X):
        for irrep in ("0e", *irreps):
            features.block(irrep)
    return seconds(lambda: [CovariantKernel()._over_pairs(X, training_set, irrep) for irrep in irreps], 3)


def report_machine():
    matrix, array = np.random.default_rng(0).normal(size=(2000, 2000)), np.zeros(2**25)
    rate = 2 * 2000**3 / seconds(lambda: matrix @ matrix, 3)
    copied = 2 * array.nbytes / seconds(array.copy, 3)
    print(f"one thread: DGEMM {rate / 1e9:.0f} Gflop/s, a copy moves {copied / 1e9:.0f} GB/s\n")


def report_molecules():
    data = load_small_organics()
    order = np.random.RandomState(0).permutation(len(data.frames))
    train, test = ([data.frames[k] for k in part] for part in (order[:600], order[600:]))
    y, n_atoms = data.polarizability[order[:600]], sum(map(len, test))
    descriptor = LambdaSOAP(cutoff=4.0, n_max=5, l_max=3, irreps="0e+2e").fit(train)
    descriptor.transform(test[:2])
    own = seconds(lambda: [descriptor.transform(test).blocks[key] for key in ("0e", "2e")], 3) / n_atoms
    print(f"{'small organics, 600 to train':32} fit s  predict us/atom  one frame ms  pairs us/atom  ratio")
    print(f"{'the descriptor alone':32} {'':5}  {1e6 * own:15.0f}")
    models = (
        TensorRidge(),
        TensorKernelRidge(1e-6),
        TensorKernelRidge(),
        TensorGPR(),
        SparseTensorGPR(n_points=500, random_state=0),
    )
    for model in models:
        model.set_params(descriptor=LambdaSOAP(cutoff=4.0, n_max=5, l_max=3))
        fit = seconds(lambda model=model: model.fit(train, y))
        model.predict(test[:2])
        batch = seconds(lambda model=model: model.predict(test), 3) / n_atoms
        single = np.median([seconds(lambda model=model, k=k: model.predict(test[k : k + 1])) for k in range(100)])
        line = f"{repr(model).split('(')[0] + ' ' + repr(getattr(model, 'alpha', '')):32} {fit:5.1f}"
        line += f"  {1e6 * batch:15.0f}  {1e3 * single:12.2f}"
        if hasattr(model, "X_fit_"):
            pairs = seconds_of_pairs(descriptor.transform(test[:40]), descriptor.transform(train))
            pairs = pairs / sum(map(len, test[:40])) + own
            line += f"  {1e6 * pairs:13.0f}  {pairs / batch:5.1f}"
        print(line, flush=True)


def box(n, seed):
    random, length = np.random.default_rng(seed), (29.9 * n) ** (1 / 3)
    cells, water, atoms = int(np.ceil(n ** (1 / 3))), molecule("H2O"), Atoms(cell=[length] * 3, pbc=True)
    for place in list(np.ndindex(cells, cells, cells))[:n]:
        one = water.copy()
        one.euler_rotate(*random.uniform(0, 360, 3))
        one.positions += (np.array(place) + 0.5) * length / cells - one.positions.mean(axis=0)
        atoms += one
    return atoms


def report_boxes(n_boxes, n_molecules):
    frames = [box(n_molecules, seed) for seed in range(n_boxes)]
    X = LambdaSOAP(cutoff=4.0, n_max=5, l_max=3, irreps="0e+2e").fit_transform(frames)
    print(f"\n2e kernel of {n_boxes} boxes of {3 * n_molecules} atoms")
    kernel = CovariantKernel()
    few = X[: max(2, n_boxes // 8)]
    pairs = seconds_of_pairs(few, None, ["2e"]) * (n_boxes / len(few)) ** 2
    sums = seconds(lambda: outer_product_kernel(X, X, "2e", 2, "invariant"))
    chosen = seconds(lambda: kernel(X, irrep="2e"))
    expected, got = kernel._over_pairs(few, None, "2e")[0], kernel(few, irrep="2e")
    gap = np.abs(got - expected).max() / np.abs(expected).max()
    print(f"pairs {pairs:.1f} s (from {len(few)} boxes), sums {sums:.1f} s, chosen {chosen:.1f} s")
    print(f"{pairs / chosen:.1f} times faster, largest difference {gap:.0e}")


def report_alpha(path):
    frames = ase.io.read(path, ":")
    for atoms in frames:
        atoms.pbc = False
    y = np.array([np.reshape(atoms.info["alpha"], (3, 3)) for atoms in frames])
    y = (y + y.transpose(0, 2, 1)) / 2
    print("\nwater dimers  fit s at alpha=1e-6  alpha='auto'  ratio  alpha")
    for n in (300, len(frames)):
        times = []
        for alpha in (1e-6, "auto"):
            model = TensorKernelRidge(alpha, descriptor=LambdaSOAP(cutoff=4.0))
            times.append(seconds(lambda model=model, n=n: model.fit(frames[:n], y[:n])))
        print(f"{n:12}  {times[0]:19.1f}  {times[1]:12.1f}  {times[1] / times[0]:5.2f}  {model.alpha_}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, nargs=2, default=(160, 32), metavar=("BOXES", "MOLECULES"))
    parser.add_argument("--dimers")
    options = parser.parse_args()
    report_machine()
    report_molecules()
    report_boxes(*options.boxes)
    if options.dimers:
        report_alpha(options.dimers)
