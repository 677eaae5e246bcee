"""Kernels of higher body order: accuracy against cost.

    python benchmarks/body_order.py [path/to/water_dimer.xyz]

Polarizabilities of the small molecules, dipoles and polarizabilities of the water dimers of the package, and, if given,
polarizabilities of the water dimers of TENSOAP's examples (https://github.com/dilkins/TENSOAP), in random splits, with
TensorKernelRidge and its own choice of the regularization. Nothing is tuned on the test set. Printed are the RMSE
(Frobenius norm, mean over the splits) by size of the training set, its ratio to that of CovariantKernel(zeta=2), and the
CPU time of fit and prediction for the largest set.
"""

import argparse
import time
import warnings

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, TensorKernelRidge, WignerKernel
from eqkernels.datasets import load_small_organics, load_water_clusters
from eqkernels.metrics import frobenius_rmse

KERNELS = {
    "CovariantKernel(zeta=2)": CovariantKernel(2),
    "CovariantKernel(zeta=3)": CovariantKernel(3),
    "WignerKernel(4, zeta=1)": WignerKernel(4, 1),
    "WignerKernel(4, zeta=2)": WignerKernel(4, 2),
    "WignerKernel(5, zeta=1)": WignerKernel(5, 1),
    "WignerKernel(5, zeta=2)": WignerKernel(5, 2),
}
SMALL, DIMER = (
    {"cutoff": 4.0, "n_max": 4, "l_max": 3},
    {"cutoff": 6.0, "n_max": 4, "l_max": 3, "sigma": 0.5, "scaling_scale": 3.0},
)
SPLITS, TEST = 2, 200


def sets(path):
    """Names, frames, labels, descriptor, sizes of training sets."""
    organics, waters = load_small_organics(), load_water_clusters()
    yield "small molecules, polarizability", organics.frames, organics.polarizability, SMALL, (100, 300, 700)
    yield "water dimers, dipole", waters.frames, waters.dipole, SMALL, (100, 300)
    yield "water dimers, polarizability", waters.frames, waters.polarizability, SMALL, (100, 300)
    if path:
        frames = ase.io.read(path, ":")
        for atoms in frames:
            atoms.pbc = False  # the file flags molecules as periodic, without a cell
        labels = np.array([atoms.info["alpha"] for atoms in frames], dtype=float).reshape(-1, 3, 3)
        yield "TENSOAP's dimers, polarizability", frames, labels, DIMER, (100, 300, 800)


def errors(kernel, features, labels, sizes):
    """RMSE for every size, in the mean over splits, and the CPU time of the largest."""
    out, seconds = np.zeros(len(sizes)), 0.0
    for split in range(SPLITS):
        order = np.random.RandomState(split).permutation(len(labels))
        test = order[-TEST:]
        for k, size in enumerate(sizes):
            train, start = order[:size], time.process_time()
            model = TensorKernelRidge(kernel=kernel).fit(features[train], labels[train])
            out[k] += frobenius_rmse(labels[test], model.predict(features[test])) / SPLITS
            seconds = time.process_time() - start
    return out, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--sets", type=int, nargs="*", help="numbers of the sets; default: all")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for number, (name, frames, labels, descriptor, sizes) in enumerate(sets(arguments.path)):
        if arguments.sets is not None and number not in arguments.sets:
            continue
        print(f"\n{name}, {len(frames)} structures, trained on {', '.join(map(str, sizes))}", flush=True)
        features, reference = LambdaSOAP(**descriptor).fit_transform(frames, labels), None
        for label, kernel in KERNELS.items():
            found, seconds = errors(kernel, features, labels, sizes)
            reference = found if reference is None else reference
            ratios = "".join(
                f"{error:10.4f} ({error / first:.2f})" for error, first in zip(found, reference, strict=True)
            )
            print(f"{label:26}{ratios}{seconds:9.1f} s", flush=True)


if __name__ == "__main__":
    main()
