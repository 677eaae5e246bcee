"""Models of dipoles fitted to derivatives: Born charges of crystals, and dipoles of molecules without a dipole label.

    python benchmarks/derivatives.py --crystals path/to/bec_crystals_1520.xyz --dimers path/to/water_dimer.xyz

Crystals: Born effective charges, array ``becs`` of the file (https://github.com/shiangfang/e3nn-models), minus what
breaks the acoustic sum rule. Dimers: three numbers of each, its dipole or the derivatives by one coordinate of one
atom, of a kernel ridge regression of all dipoles (``mu`` of the file, https://github.com/dilkins/TENSOAP). Printed are
RMSE per component, with and without a charge of each element, and the CPU time of fit and prediction.
"""

import argparse
import time
import warnings

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorKernelRidge

DESCRIPTOR = LambdaSOAP(cutoff=5.0, n_max=4, l_max=3)
BASELINES = ("composition", None)


def model(n_points, baseline="composition"):
    """Make a model of dipoles."""
    return SparseTensorGPR(n_points, descriptor=DESCRIPTOR, target="dipole", baseline=baseline, random_state=0)


def rmse(values, expected):
    """Root mean square error per component."""
    return np.sqrt(np.mean((np.asarray(values) - np.asarray(expected)) ** 2))


def crystals(path, sizes):
    """Born charges, learned as derivatives of a dipole."""
    frames = ase.io.read(path, ":")
    order = np.random.RandomState(0).permutation(len(frames))
    charges = [atoms.arrays["becs"].reshape(-1, 3, 3) for atoms in frames]
    charges = [one - one.mean(axis=0) for one in charges]
    for n, n_points in sizes:
        train, seen = order[:n], np.unique(np.concatenate([frames[k].numbers for k in order[:n]]))
        test = [k for k in order[n : n + 100] if np.isin(frames[k].numbers, seen).all()]
        expected = np.concatenate([charges[k] for k in test])
        for baseline in BASELINES:
            start = time.process_time()
            fitted = model(n_points, baseline)
            fitted.fit([frames[k] for k in train], derivatives=[charges[k] for k in train])
            found = fitted.predict_derivatives([frames[k] for k in test])
            broken = max(np.abs(one.sum(axis=0)).max() for one in found)
            seconds = time.process_time() - start
            row = f"{n:6} crystals, {baseline!s:12} RMSE {rmse(np.concatenate(found), expected):.3f}"
            print(f"{row} of {rmse(expected, 0):.2f}, sum rule {broken:.0e}, {seconds:.0f} s", flush=True)


def one_of(derivatives, random):
    """Leave one direction of one atom."""
    part, atom, direction = np.full_like(derivatives, np.nan), random.integers(len(derivatives)), random.integers(3)
    part[atom, :, direction] = derivatives[atom, :, direction]
    return part


def dimers(path, sizes):
    """Dipoles, learned from dipoles or from as many derivatives."""
    frames = ase.io.read(path, ":")
    dipoles = np.array([atoms.info["mu"] for atoms in frames])
    for atoms in frames:
        atoms.pbc = False  # the file flags molecules as periodic, without a cell
    reference = TensorKernelRidge(kernel=CovariantKernel(zeta=2), descriptor=DESCRIPTOR, target="dipole")
    reference.fit(frames, dipoles)
    frames = [frames[k] for k in np.random.RandomState(1).permutation(len(frames))]
    dipoles, random = reference.predict(frames), np.random.default_rng(0)
    derivatives = [one_of(reference.predict_derivatives([atoms])[0], random) for atoms in frames[:800]]
    test = slice(800, None)
    for n, n_points in sizes:
        errors = [rmse(model(n_points).fit(frames[:n], dipoles[:n]).predict(frames[test]), dipoles[test])]
        for baseline in BASELINES:
            fitted = model(n_points, baseline).fit(frames[:n], derivatives=derivatives[:n])
            errors.append(rmse(fitted.predict(frames[test]), dipoles[test]))
        print(f"{n:6} dimers, dipoles {errors[0]:.4f}, derivatives {errors[1]:.4f}, without charges {errors[2]:.4f}",
              flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals")
    parser.add_argument("--dimers")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.crystals:
        crystals(arguments.crystals, [(300, 400), (800, 600)])
    if arguments.dimers:
        dimers(arguments.dimers, [(200, 800), (400, 800), (700, 1200)])


if __name__ == "__main__":
    main()
