"""N-methylacetamide in electric fields: one model of the energy, whose derivatives by the field are dipoles.

python benchmarks/nma_in_field.py nma_in_field.xyz

The file is data/NMA/validation of https://github.com/zhangylch/FIREANN (MIT), as extended XYZ with the keys
``ref_energy``, ``ref_forces``, ``dipole``, ``electric_field``. In this file dE/dF is plus the dipole.

Models of energies and forces without and with the field, of dipoles, and of both: energies of the same structures in
slightly different fields, E(F + d) = E(F) + mu d, have the dipoles in them. 400 structures to train, 245 to test.
"""

import sys
import time

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorKernelRidge
from eqkernels.response import input_derivatives

FIELD = {"electric_field": "1o"}
SETTINGS = {"cutoff": 4.5, "cutoff_width": 1.0, "n_max": 6, "l_max": 4, "sigma": 0.3, "scaling_scale": 2.0}
N_TRAIN, N_POINTS = 400, 2000
# Of the fields with which dipoles are told to a model of energies, in V / A.
SHIFT = 0.05


def rmse(one, other):
    return np.sqrt(np.mean((np.asarray(one) - other) ** 2))


def shifted(atoms, direction):
    """Copy of a structure in another field."""
    copy = atoms.copy()
    copy.info["electric_field"] = atoms.info["electric_field"] + SHIFT * direction
    return copy


def energy_model(weight):
    inputs = {"inputs": FIELD, "input_weight": weight} if weight else {}
    descriptor = LambdaSOAP(**SETTINGS, **inputs)
    return SparseTensorGPR(N_POINTS, kernel=CovariantKernel(zeta=3), descriptor=descriptor, random_state=0)


def report(name, model, weight, start):
    energy, slopes = rmse(model.predict(test), energies[N_TRAIN:]), model.vjp(test, np.ones(len(test)))
    force = rmse(-slopes.positions, np.concatenate(forces[N_TRAIN:]))
    line = f"{name:34}{1e3 * energy:12.1f}{1e3 * force:12.1f}"
    if weight:
        line += f"{rmse(input_derivatives(model, test, 'electric_field'), dipoles[N_TRAIN:]):12.4f}"
    print(f"{line}{time.process_time() - start:10.0f} s", flush=True)


frames = ase.io.read(sys.argv[1], ":")
frames = [frames[k] for k in np.random.default_rng(0).permutation(len(frames))]
energies, forces = np.array([a.info["ref_energy"] for a in frames]), [a.arrays["ref_forces"] for a in frames]
dipoles = np.array([a.get_dipole_moment() for a in frames])
train, test = frames[:N_TRAIN], frames[N_TRAIN:]
print(f"{'RMSE':34}{'energy, meV':>12}{'forces':>12}{'dipole, e A':>12}")
spread = np.std(energies[N_TRAIN:]), np.std(np.concatenate(forces)), np.std(dipoles[N_TRAIN:])
print(f"{'(spread)':34}{1e3 * spread[0]:12.1f}{1e3 * spread[1]:12.1f}{spread[2]:12.4f}")

start = time.process_time()
model = TensorKernelRidge(
    kernel=CovariantKernel(3), descriptor=LambdaSOAP(**SETTINGS, inputs=FIELD, input_weight=0.1), target="dipole"
)
print(f"{'dipoles':58}{rmse(model.fit(train, dipoles[:N_TRAIN]).predict(test), dipoles[N_TRAIN:]):12.4f}", flush=True)
for name, weight in (("energies, forces, no field", 0.0), ("energies, forces, field", 0.1)):
    start = time.process_time()
    model = energy_model(weight).fit(train, energies[:N_TRAIN], forces=forces[:N_TRAIN])
    report(name, model, weight, start)

start = time.process_time()
steps = np.concatenate([np.eye(3), -np.eye(3)])
more = [shifted(atoms, step) for atoms in train for step in steps]
more_energies = (energies[:N_TRAIN, None] + SHIFT * dipoles[:N_TRAIN] @ steps.T).ravel()
both = [*forces[:N_TRAIN], *[None] * len(more)]
model = energy_model(0.1).fit([*train, *more], [*energies[:N_TRAIN], *more_energies], forces=both)
report("energies, forces, field, dipoles", model, 0.1, start)
