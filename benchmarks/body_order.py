"""Kernels of higher body order: accuracy against cost.

    python benchmarks/body_order.py [path/to/water_dimer.xyz]

Polarizabilities of small molecules, dipoles and polarizabilities of water clusters of the package, and, if given,
polarizabilities of the water dimers of TENSOAP's examples (https://github.com/dilkins/TENSOAP): 600 structures (500
water clusters), of which 200 are the test set in three random splits, with TensorKernelRidge and its own choice of the
regularization. Nothing is tuned on the test set. Printed are the RMSE (Frobenius norm, mean over the splits) by size of
the training set, its ratio to that of CovariantKernel(zeta=2), and the CPU time of the kernels of all structures.
"""

import argparse
import time
import warnings

import ase.io
import numpy as np

from eqkernels import CartesianTensor, CovariantKernel, LambdaSOAP, TensorKernelRidge, WignerKernel
from eqkernels.datasets import load_small_organics, load_water_clusters
from eqkernels.metrics import frobenius_rmse

KERNELS = {
    "CovariantKernel(zeta=2)": CovariantKernel(2),
    "CovariantKernel(zeta=3)": CovariantKernel(3),
    "WignerKernel(4, zeta=1)": WignerKernel(4, 1),
    "WignerKernel(4, zeta=2)": WignerKernel(4, 2),
    "WignerKernel(5, zeta=1)": WignerKernel(5, 1),
}
SMALL, DIMER = (
    {"cutoff": 4.0, "n_max": 4, "l_max": 3},
    {"cutoff": 6.0, "n_max": 4, "l_max": 3, "sigma": 0.5, "scaling_scale": 3.0},
)
SPLITS, TEST, MOST = 3, 200, 600


def sets(path):
    """Names, frames, labels, target, descriptor."""
    organics, waters = load_small_organics(), load_water_clusters()
    some = np.random.RandomState(0).permutation(len(organics.frames))[:MOST]
    yield "small molecules", [organics.frames[k] for k in some], organics.polarizability[some], "polarizability", SMALL
    yield "water clusters", waters.frames, waters.dipole, "dipole", SMALL
    yield "water clusters", waters.frames, waters.polarizability, "polarizability", SMALL
    if path:
        frames = ase.io.read(path, f":{MOST}")
        for atoms in frames:
            atoms.pbc = False  # the file flags molecules as periodic, without a cell
        labels = np.array([atoms.info["alpha"] for atoms in frames], dtype=float).reshape(-1, 3, 3)
        yield "water dimers of TENSOAP", frames, labels, "polarizability", DIMER


def errors(blocks, labels, target, sizes):
    """RMSE for every size of the training set, in the mean over splits."""
    out = np.zeros(len(sizes))
    for split in range(SPLITS):
        order = np.random.RandomState(split).permutation(len(labels))
        test = order[-TEST:]
        for k, size in enumerate(sizes):
            train = order[:size]
            model = TensorKernelRidge(kernel="precomputed", target=target)
            model.fit(blocks[np.ix_(train, train)], labels[train])
            out[k] += frobenius_rmse(labels[test], model.predict(blocks[np.ix_(test, train)])) / SPLITS
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--sets", type=int, nargs="*", help="numbers of the sets; default: all")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for number, (name, frames, labels, target, descriptor) in enumerate(sets(arguments.path)):
        if arguments.sets is not None and number not in arguments.sets:
            continue
        sizes = [100, len(frames) - TEST]
        print(f"\n{name}, {target}, {len(frames)} structures, trained on {', '.join(map(str, sizes))}", flush=True)
        features, reference = LambdaSOAP(**descriptor).fit_transform(frames, labels), None
        irreps = [str(irrep) for _, irrep in CartesianTensor(target).irreps]
        for label, kernel in KERNELS.items():
            kernel(features[:2])  # compiles
            start = time.process_time()
            blocks = kernel.blocks(features, irreps=irreps)
            seconds = time.process_time() - start
            found = errors(blocks, labels, target, sizes)
            reference = found if reference is None else reference
            ratios = "".join(f"{error:10.4f} ({error / one:.2f})" for error, one in zip(found, reference, strict=True))
            print(f"{label:26}{ratios}{seconds:9.1f} s", flush=True)


if __name__ == "__main__":
    main()
