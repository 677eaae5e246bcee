"""Learned features on water dimers: dipole and polarizability from 50, 200 and 500 structures.

    python benchmarks/learned_water.py path/to/water_dimer.xyz [--seeds 3]

The file is that of the examples of TENSOAP (https://github.com/dilkins/TENSOAP); the last 200 of a fixed permutation
are the test. RMSE per Cartesian component in atomic units, the median over seeds, default parameters, one thread: the
network with its closed-form readout, its features in a covariant kernel (zeta 2), and those joined to fixed
lambda-SOAP.
"""

import argparse
import os
import time
import warnings

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
from ase.io import read  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

from eqkernels import (  # noqa: E402
    CovariantKernel,
    EquivariantNetwork,
    EquivariantNetworkRegressor,
    EquivariantUnion,
    LambdaSOAP,
    TensorKernelRidge,
)

BUDGETS = {50: 5, 200: 15, 500: 60}  # structures: seconds of CPU
FIXED = {"cutoff": 6.5, "n_max": 8, "l_max": 4, "sigma": 0.5, "scaling_scale": 3.0, "scaling_exponent": 4.0}


def models(budget, seed):
    kernel = TensorKernelRidge(kernel=CovariantKernel(zeta=2))
    network = EquivariantNetwork(time_budget=budget, random_state=seed)
    both = EquivariantUnion([("learned", network), ("fixed", LambdaSOAP(**FIXED))])
    return {
        "network": EquivariantNetworkRegressor(time_budget=budget, random_state=seed),
        "network + kernel": make_pipeline(network, kernel),
        "network and lambda-SOAP + kernel": make_pipeline(both, kernel),
        "lambda-SOAP + kernel": make_pipeline(LambdaSOAP(**FIXED), kernel),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    frames = read(arguments.path, ":")
    for atoms in frames:
        atoms.pbc = False
    order = np.random.RandomState(0).permutation(1000)
    test = order[800:]
    for name, shape in (("mu", (-1, 3)), ("alpha", (-1, 3, 3))):
        labels = np.array([atoms.info[name] for atoms in frames]).reshape(shape)
        for n, budget in BUDGETS.items():
            train, errors, seconds = order[:n], {}, {}
            for seed in range(arguments.seeds):
                for label, model in models(budget, seed).items():
                    start = time.process_time()
                    model.fit([frames[k] for k in train], labels[train])
                    seconds.setdefault(label, []).append(time.process_time() - start)
                    difference = model.predict([frames[k] for k in test]) - labels[test]
                    errors.setdefault(label, []).append(np.sqrt(np.mean(difference**2)))
            for label, values in errors.items():
                cpu = np.median(seconds[label])
                print(f"{name:6s} {n:4d} {label:34s} RMSE {np.median(values):.5f}   {cpu:6.1f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
