"""The whole job on 1000 water dimers: dipole, polarizability and first hyperpolarizability from one set of features.

    python benchmarks/water_dimer_job.py path/to/water_dimer.xyz

The file is example/water_dimer of TENSOAP (https://github.com/dilkins/TENSOAP). Reads it, computes features for all
irreps, kernels (training and test), fits ten regularizations, predicts, and prints the Cartesian errors of the best,
with CPU time and peak memory. Settings as in TENSOAP's runs: cutoff 4, n_max 8, l_max 6, sigma 0.3, zeta 2,
every block normalized by itself.
"""

import argparse
import resource
import time
import warnings

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, TensorKernelRidge
from eqkernels.kernels import KernelBlocks
from eqkernels.metrics import frobenius_rmse

TARGETS = {"mu": "i", "alpha": "ij=ji", "beta": "ijk=jik=ikj"}
ALPHAS = 10.0 ** np.arange(-9, 1)


def step(name, start):
    print(f"{name:28s} {time.process_time() - start:6.1f} s CPU")


def kernels_of(frames, train, test, irrep):
    """Kernel of the training set and that of the test set with it, for one irrep: its features live only here."""
    features = LambdaSOAP(4.0, n_max=8, l_max=6, sigma=0.3, irreps=f"0e+{irrep}").fit_transform(frames)
    kernel, train_features, test_features = CovariantKernel(zeta=2, normalize=True), features[train], features[test]
    del features
    return kernel(train_features, irrep=irrep), kernel(test_features, train_features, irrep=irrep)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*(flagged periodic|has the symmetry|singular to rounding)")
    start = time.process_time()
    frames = ase.io.read(arguments.file, ":")
    step("read", start)
    order = np.random.RandomState(0).permutation(len(frames))
    train, test = order[:500], order[500:]

    begin = time.process_time()
    square, crossed = {}, {}
    for irrep in ("0e", "1o", "2e", "3o"):
        square[irrep], crossed[irrep] = kernels_of(frames, train, test, irrep)
    square, crossed = KernelBlocks(square), KernelBlocks(crossed)
    step("features and kernels", begin)

    begin = time.process_time()
    results = {}
    for name, target in TARGETS.items():
        rank = len(target.split("=")[0])
        y = np.array([atoms.info[name] for atoms in frames]).reshape(-1, *(3,) * rank)
        model = TensorKernelRidge(kernel="precomputed", target=target)
        errors = {}
        for alpha in ALPHAS:
            predicted = model.set_params(alpha=alpha).fit(square, y[train]).predict(crossed)
            errors[alpha] = frobenius_rmse(y[test], predicted) / 3 ** (rank / 2)
        results[name] = min(errors.items(), key=lambda item: item[1])
    step("10 fits and predictions x 3", begin)
    for name, (alpha, error) in results.items():
        print(f"{name:6s} RMSE per Cartesian component {error:.4g} a.u. at alpha = {alpha:g}")
    step("whole job", start)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
