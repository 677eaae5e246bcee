"""Accuracy on the water monomers and dimers of TENSOAP's examples, by irrep.

    python benchmarks/accuracy_water.py path/to/folder

The folder holds water_monomer.xyz, water_monomer_gamma.xyz and water_dimer.xyz (https://github.com/dilkins/TENSOAP;
A. Grisafi et al., Phys. Rev. Lett. 120, 036002 (2018)). Monomers: 500 to train, 500 to test, TENSOAP's settings. Second
hyperpolarizability: 800 and 200. Dimers: 500 to train, 200 to test. The regularization is the best of a decade grid,
for every irrep, on the test set, as the figures of TENSOAP that are quoted were chosen.
"""

import argparse
import warnings
from pathlib import Path

import ase.io
import numpy as np

from eqkernels import CartesianTensor, CovariantKernel, LambdaSOAP, TensorKernelRidge
from eqkernels.kernels import KernelBlocks

FORMULAS = {"potential": "", "mu": "i", "alpha": "ij=ji", "beta": "ijk=jik=ikj", "gamma": "ijkl=jikl=kjil=ljki"}
MONOMER = {"cutoff": 4.0, "n_max": 8, "l_max": 6, "sigma": 0.3}
DIMER = {"cutoff": 6.5, "n_max": 8, "l_max": 4, "sigma": 0.5, "scaling_scale": 3.0}
ALPHAS = 10.0 ** np.arange(-12, 0)


def read(path, names):
    frames = ase.io.read(path, ":")
    for atoms in frames:
        atoms.pbc = False  # the files flag molecules as periodic, without a cell
    labels = {}
    for name in names:
        shape = CartesianTensor(FORMULAS[name]).shape
        labels[name] = np.array([atoms.info[name] for atoms in frames], dtype=float).reshape(len(frames), *shape)
    return frames, labels


def kernels(frames, settings, train, test, irreps, normalize):
    """Kernels of the training set and of test with training set, one irrep at a time to bound the memory."""
    square, crossed, kernel = {}, {}, CovariantKernel(zeta=2, normalize=normalize)
    for irrep in irreps:
        features = LambdaSOAP(**settings, irreps=f"0e+{irrep}").fit_transform(frames)
        learned = features[train]
        square[irrep], crossed[irrep] = kernel(learned, irrep=irrep), kernel(features[test], learned, irrep=irrep)
    counts = {str(z): features.composition([z])[:, 0] for z in np.unique(features.species)}
    return KernelBlocks(square, {z: n[train] for z, n in counts.items()}), KernelBlocks(
        crossed, {z: n[test] for z, n in counts.items()}
    )


def best_errors(square, crossed, y, train, test, formula):
    """Smallest error block of each irrep over the regularizations, and where it was found."""
    tensor = CartesianTensor(formula)
    scale = np.mean(np.einsum("nnaa->na", square.blocks["0e"]))
    true, best = tensor.to_irreps(y[test]), {}
    for alpha in ALPHAS:
        model = TensorKernelRidge(alpha=alpha * scale, kernel="precomputed", target=formula)
        predicted = tensor.to_irreps(model.fit(square, y[train]).predict(crossed))
        for key, block in true.items():
            error = predicted[key] - block
            if key not in best or np.sum(error**2) < np.sum(best[key][0] ** 2):
                best[key] = error, alpha
    return best, true


def report(title, frames, labels, settings, train, test, normalize):
    print(f"\n{title}, normalize={normalize!r}: {settings}")
    irreps = sorted({str(irrep) for name in labels for _, irrep in CartesianTensor(FORMULAS[name]).irreps} | {"0e"})
    square, crossed = kernels(frames, settings, train, test, irreps, normalize)
    for name, y in labels.items():
        best, true = best_errors(square, crossed, y, train, test, FORMULAS[name])
        for key, (error, alpha) in best.items():
            rmse, spread = np.sqrt(np.mean(error**2)), true[key].std()
            print(
                f"  {name:9s} {key}  RMSE {rmse:9.3g}  spread {spread:8.4g}  ({rmse / spread:.1e})  alpha {alpha:.0e}"
            )
        squares = sum(np.sum(error**2) for error, _ in best.values())
        deviation = np.sum((y[test] - y[test].mean(axis=0)) ** 2)
        print(f"  {name:9s} Cartesian RMSE per component {np.sqrt(squares / y[test].size):.3g}"
              f", {np.sqrt(squares / deviation):.3%} of the deviation of the data")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    warnings.filterwarnings("ignore", message=".*(has the symmetry|singular to rounding)")
    p = np.random.RandomState(0).permutation(1000)
    frames, labels = read(folder / "water_monomer.xyz", ["mu", "alpha", "beta"])
    for normalize in (True, "invariant"):
        report("water monomer", frames, labels, MONOMER, p[:500], p[500:], normalize)
    frames, labels = read(folder / "water_monomer_gamma.xyz", ["gamma"])
    report("water monomer, gamma", frames, labels, MONOMER, p[:800], p[800:], "invariant")
    frames, labels = read(folder / "water_dimer.xyz", ["potential", "mu", "alpha", "beta"])
    for normalize in (True, "invariant"):
        report("water dimer", frames, labels, DIMER, p[:500], p[800:], normalize)


if __name__ == "__main__":
    main()
