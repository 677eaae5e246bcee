"""Dipoles with charges of the atoms, with dipoles of the atoms, and with both.

    python benchmarks/charges.py [path/to/water_monomer.xyz path/to/water_dimer.xyz]

Molecules of 17 to 55 atoms (``load_chain_molecules``) in random splits, and trained on smaller, tested on larger ones;
small molecules and water clusters of the package; and the water files of TENSOAP's examples
(https://github.com/dilkins/TENSOAP), if given. Nothing is tuned on the test set. Printed are the RMSE (Frobenius norm)
of each kernel, and its ratio to that of the dipoles of the atoms.
"""

import argparse
import time
import warnings
from pathlib import Path

import ase.io
import numpy as np

from eqkernels import ChargeKernel, CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorGPR, TensorKernelRidge
from eqkernels.datasets import load_chain_molecules, load_small_organics, load_water_clusters
from eqkernels.metrics import frobenius_rmse

KERNELS = {
    "dipoles of atoms": CovariantKernel(),
    "charges": ChargeKernel(),
    "both": CovariantKernel() + ChargeKernel(),
}
MODELS = {
    "TensorKernelRidge": TensorKernelRidge(),
    "TensorGPR": TensorGPR(),
    "SparseTensorGPR": SparseTensorGPR(n_points=1000, random_state=0),
}
SPLITS = 2


def sets(paths):
    """Names, frames, dipoles, and splits into training and test set."""
    data = load_chain_molecules()
    n, sizes = len(data.frames), np.array([len(atoms) for atoms in data.frames])
    by_size = np.argsort(sizes, kind="stable")
    yield "17 to 55 atoms", data.frames, data.dipole, random_splits(n, 2 * n // 3)
    yield "smaller to larger", data.frames, data.dipole, [(by_size[: 2 * n // 3], by_size[2 * n // 3 :])]
    for name, data in (("small organics", load_small_organics()), ("water clusters", load_water_clusters())):
        yield name, data.frames, data.dipole, random_splits(len(data.frames), 200)
    for path in paths:
        frames = ase.io.read(path, ":")
        for atoms in frames:
            atoms.pbc = False  # the file flags molecules as periodic, without a cell
        yield Path(path).stem, frames, np.array([atoms.info["mu"] for atoms in frames]), random_splits(len(frames), 200)


def random_splits(n, n_train):
    """Training and test sets of random splits."""
    orders = [np.random.RandomState(k).permutation(n) for k in range(SPLITS)]
    return [(order[:n_train], order[n_train:]) for order in orders]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--sets", type=int, nargs="*", help="numbers of the sets; default: all")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'set':20}{'model':20}{'kernel':18}{'RMSE':>9}{'ratio':>8}{'CPU (s)':>9}")
    for number, (name, frames, dipoles, splits) in enumerate(sets(arguments.paths)):
        if arguments.sets is not None and number not in arguments.sets:
            continue
        features = LambdaSOAP(cutoff=4.0, n_max=4, l_max=3).fit_transform(frames, dipoles)
        for label in arguments.models:
            reference = None
            for kernel_name, kernel in KERNELS.items():
                start, errors = time.process_time(), []
                for train, test in splits:
                    model = MODELS[label].set_params(kernel=kernel).fit(features[train], dipoles[train])
                    errors.append(frobenius_rmse(dipoles[test], model.predict(features[test])))
                error, seconds = np.sqrt(np.mean(np.square(errors))), (time.process_time() - start) / len(splits)
                reference = reference or error
                row = f"{name:20}{label:20}{kernel_name:18}{error:9.4f}{error / reference:8.3f}{seconds:9.1f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
