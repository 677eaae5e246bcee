"""Interaction energies of charged molecules that are pulled apart, with the fields of all atoms and without.

    python benchmarks/charged_pairs.py path/to/charge_charge.xyz

The data are those of https://github.com/lab-cosmo/atomistic-cookbook (examples/lode-linear), with ``energyA`` and
``energyB`` of the two molecules. A random half to learn from, or the nearer half to predict the farther; in the box of
the file and without. Printed are RMSE in eV.
"""

import argparse
import warnings

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorGPR, TensorRidge

LINEAR = CovariantKernel(zeta=1)
MODELS = {
    "TensorRidge()": TensorRidge(),
    "TensorRidge(1e-10, normalize=False)": TensorRidge(1e-10, normalize=False),
    "TensorGPR(zeta=1)": TensorGPR(kernel=LINEAR),
    "SparseTensorGPR(2000, zeta=1)": SparseTensorGPR(2000, kernel=LINEAR, random_state=0),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    frames = ase.io.read(parser.parse_args().path, ":")
    warnings.simplefilter("ignore")
    energies = np.array([a.get_potential_energy() - a.info["energyA"] - a.info["energyB"] for a in frames])
    distances = np.array([atoms.info["distance"] for atoms in frames])
    halves = np.random.RandomState(0).rand(len(frames)) < 0.5, distances <= np.median(distances)
    for periodic in (True, False):
        for atoms in frames:
            atoms.calc, atoms.pbc = None, periodic
        for long_range in (None, 1):
            descriptor = LambdaSOAP(3.0, n_max=4, l_max=2, long_range=long_range, irreps="0e")
            features = descriptor.fit_transform(frames)
            for name, model in MODELS.items():
                errors = []
                for half in halves:
                    train, test = np.flatnonzero(half), np.flatnonzero(~half)
                    found = model.fit(features[train], energies[train]).predict(features[test])
                    errors.append(np.sqrt(np.mean((found - energies[test]) ** 2)))
                where, fields = "box" if periodic else "free", "fields" if long_range else "near"
                print(f"{where:5} {fields:7} {name:36} random {errors[0]:.3f} farther {errors[1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
