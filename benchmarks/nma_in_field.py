"""N-methylacetamide in electric fields: one model of the energy, whose derivatives by the field are dipoles.

python benchmarks/nma_in_field.py nma_in_field.xyz [sparse points]

The file is data/NMA/validation of https://github.com/zhangylch/FIREANN (MIT), as extended XYZ with the keys
``ref_energy``, ``ref_forces``, ``dipole``, ``electric_field``. In this file dE/dF is plus the dipole.

Models of energies and forces without and with the field, of dipoles, and of all of them; 400 structures to train, 245
to test. "powers of the field" is ``SparseFieldGPR``, "field in features" a polynomial kernel with the field in it.
"""

import sys
import time

import ase.io
import numpy as np

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorKernelRidge
from eqkernels.regression import SparseFieldGPR
from eqkernels.response import input_derivatives

FIELD = {"electric_field": "1o"}
SETTINGS = {"cutoff": 4.5, "cutoff_width": 1.0, "n_max": 6, "l_max": 4, "sigma": 0.3, "scaling_scale": 2.0}
N_TRAIN = 400
N_POINTS = int(sys.argv[2]) if len(sys.argv) > 2 else 2600
# For energies without field; those of the features with the field are as they are by default.
GEOMETRY = {**SETTINGS, "center_weight": 1.5}
# Of several decades those of the largest marginal likelihood, which "auto" finds in a much longer time.
NOISES = {"noise": 6e-7, "force_noise": 6e-6}
SHARED = {"kernel": CovariantKernel(3), "displacement": 0.05, "memory": 4.0, "random_state": 0}


def rmse(one, other):
    return np.sqrt(np.mean((np.asarray(one) - other) ** 2))


def by_powers(**labels):
    points = N_POINTS, N_POINTS // 7, max(8, N_POINTS // 100)
    model = SparseFieldGPR(
        points, descriptor=LambdaSOAP(**GEOMETRY), field_scale=0.15, dipole_noise=2e-8, **NOISES, **SHARED
    )
    return model.fit(train, energies[:N_TRAIN], forces=forces[:N_TRAIN], **labels)


def by_features(field, **labels):
    descriptor = LambdaSOAP(**SETTINGS, inputs=FIELD, input_weight=0.1) if field else LambdaSOAP(**GEOMETRY)
    model = SparseTensorGPR(N_POINTS, descriptor=descriptor, input_noise=1e-6, **NOISES, **SHARED)
    return model.fit(train, energies[:N_TRAIN], forces=forces[:N_TRAIN], **labels)


def report(name, fit, field=True):
    start = time.process_time()
    model = fit()
    energy, force = rmse(model.predict(test), energies[N_TRAIN:]), np.concatenate(model.predict_forces(test))
    line = f"{name:50}{1e3 * energy:12.1f}{1e3 * rmse(force, np.concatenate(forces[N_TRAIN:])):12.1f}"
    if field:
        line += f"{rmse(input_derivatives(model, test, 'electric_field'), dipoles[N_TRAIN:]):12.4f}"
    print(f"{line}{time.process_time() - start:10.0f} s", flush=True)


frames = ase.io.read(sys.argv[1], ":")
frames = [frames[k] for k in np.random.default_rng(0).permutation(len(frames))]
energies, forces = np.array([a.info["ref_energy"] for a in frames]), [a.arrays["ref_forces"] for a in frames]
dipoles = np.array([a.get_dipole_moment() for a in frames])
train, test = frames[:N_TRAIN], frames[N_TRAIN:]
print(f"{'RMSE':50}{'energy, meV':>12}{'forces':>12}{'dipole, e A':>12}")
spread = np.std(energies[N_TRAIN:]), np.std(np.concatenate(forces)), np.std(dipoles[N_TRAIN:])
print(f"{'(spread)':50}{1e3 * spread[0]:12.1f}{1e3 * spread[1]:12.1f}{spread[2]:12.4f}")

model = TensorKernelRidge(
    kernel=CovariantKernel(3), descriptor=LambdaSOAP(**SETTINGS, inputs=FIELD, input_weight=0.1), target="dipole"
)
print(f"{'dipoles':74}{rmse(model.fit(train, dipoles[:N_TRAIN]).predict(test), dipoles[N_TRAIN:]):12.4f}", flush=True)
report("energies, forces, no field", lambda: by_features(False), field=False)
report("energies, forces; powers of the field", by_powers)
report("energies, forces, dipoles; powers of the field", lambda: by_powers(dipoles=dipoles[:N_TRAIN]))
report("energies, forces; field in features", lambda: by_features(True))
labels = {"input_derivatives": {"electric_field": dipoles[:N_TRAIN]}}
report("energies, forces, dipoles; field in features", lambda: by_features(True, **labels))
