"""Chosen hyperparameters and error bars on the water dimers of TENSOAP's examples.

    python benchmarks/error_bars_water.py path/to/water_dimer.xyz

The file is in https://github.com/dilkins/TENSOAP (A. Grisafi et al., Phys. Rev. Lett. 120, 036002 (2018)). 200 dimers
to train, the 800 others to test, in several random splits; nothing is tuned. Printed are the error relative to that of
the best of a decade grid of regularizations, chosen on the test set, and the share of the components of the test set
that lie within the 68 % and 95 % error bars.
"""

import argparse
import time

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, TensorCommittee, TensorGPR, TensorKernelRidge
from eqkernels.metrics import frobenius_rmse

SETTINGS = {"cutoff": 6.5, "n_max": 8, "l_max": 4, "sigma": 0.5, "scaling_scale": 3.0}
ALPHAS = 10.0 ** np.arange(-10, 1)
MODELS = {
    "GP, left-out error (default)": TensorGPR(),
    "GP, marginal likelihood": TensorGPR(criterion="lml"),
    "GP, left-out density": TensorGPR(criterion="loo_density"),
    "committee": TensorCommittee(random_state=0),
}


def best_of_grid(train, y_train, test, y_test):
    kernel = CovariantKernel()
    square, crossed = kernel.blocks(train), kernel.blocks(test, train)
    ridges = [TensorKernelRidge(alpha, kernel="precomputed").fit(square, y_train) for alpha in ALPHAS]
    return min(frobenius_rmse(y_test, ridge.predict(crossed)) for ridge in ridges)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--splits", type=int, default=5)
    arguments = parser.parse_args()
    frames = ase.io.read(arguments.path, ":")
    for atoms in frames:
        atoms.pbc = False  # the file flags molecules as periodic, without a cell
    print(f"{'':46}{'RMSE / best':>12}{'68 %':>8}{'95 %':>8}{'fit (s)':>9}")
    for name, shape in (("mu", (3,)), ("alpha", (3, 3))):
        y = np.array([atoms.info[name] for atoms in frames]).reshape(len(frames), *shape)
        features = LambdaSOAP(**SETTINGS).fit_transform(frames, y)
        for split in range(arguments.splits):
            order = np.random.RandomState(split).permutation(len(frames))
            train, test = order[:200], order[200:]
            best = best_of_grid(features[train], y[train], features[test], y[test])
            for label, model in MODELS.items():
                start = time.perf_counter()
                model.fit(features[train], y[train])
                seconds = time.perf_counter() - start
                mean, std = model.predict(features[test], return_std=True)
                error = np.abs(mean - y[test])
                inside = [np.mean(error <= width * std) for width in (1.0, 1.96)]
                ratio = frobenius_rmse(y[test], mean) / best
                what = f"{name}, split {split}, {label}"
                print(f"{what:46}{ratio:12.3f}{inside[0]:8.1%}{inside[1]:8.1%}{seconds:9.1f}", flush=True)


if __name__ == "__main__":
    main()
