"""Energies and forces of a molecule by a network: errors on test frames after seconds of CPU time.

    python benchmarks/learned_forces.py acac_train_300K.xyz acac_test_300K.xyz --minutes 1 5 10

Files with energies and forces that ASE reads (eV, Angstrom), such as those of acetylacetone in
https://github.com/davkovacs/BOTNet-datasets, for which networks on GPUs are published. Prints a line for each budget,
which is that of a whole training: the learning rate falls over it.
"""

import argparse
import time

import numpy as np
from ase.io import read

from eqkernels import EquivariantNetworkRegressor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("train")
parser.add_argument("test")
parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0])
parser.add_argument("--channels", type=int, default=32)
parser.add_argument("--l-max", type=int, default=2)
parser.add_argument("--cutoff", type=float, default=4.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--verbose", type=int, default=0)
arguments = parser.parse_args()


def labels(frames):
    return np.array([atoms.get_potential_energy() for atoms in frames]), [atoms.get_forces() for atoms in frames]


train, test = read(arguments.train, ":"), read(arguments.test, ":")
(energies, forces), (test_energies, test_forces) = labels(train), labels(test)
print(f"{len(train)} structures, {len(test)} of test; energies in meV, forces in meV/A, RMSE")
print(f"{'CPU s':>8}{'epochs':>8}{'energy':>10}{'forces':>10}")
for minutes in arguments.minutes:
    model = EquivariantNetworkRegressor(
        arguments.cutoff, channels=arguments.channels, l_max=arguments.l_max, n_radial=8, n_hidden=32,
        time_budget=60 * minutes, random_state=arguments.seed, verbose=arguments.verbose,
    )  # fmt: skip
    begin = time.process_time()
    model.fit(train, energies, forces=forces)
    seconds = time.process_time() - begin
    errors = (
        model.predict(test) - test_energies,
        np.concatenate(model.predict_forces(test)) - np.concatenate(test_forces),
    )
    in_energy, in_forces = (1e3 * np.sqrt(np.mean(one**2)) for one in errors)
    print(f"{seconds:8.0f}{model.n_iter_:8d}{in_energy:10.2f}{in_forces:10.2f}", flush=True)
