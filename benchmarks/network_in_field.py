"""N-methylacetamide in electric fields: networks that know of the field, and networks that do not.

python benchmarks/network_in_field.py nma_in_field.xyz [SECONDS]

The file is that of nma_in_field.py, with the key ``polarizability`` besides. 400 structures to train, 245 to test:
dipoles, polarizabilities and energies, a network of each for SECONDS of CPU (60), without the field and with it in both
architectures. The dipole beside the energy is the derivative of the energy by the field.
"""

import sys
import time

import ase.io
import numpy as np

from eqkernels import EquivariantNetworkRegressor
from eqkernels.response import input_derivatives

FIELD = {"electric_field": "1o"}
N_TRAIN = 400


def rmse(one, other):
    return np.sqrt(np.mean((np.asarray(one) - other) ** 2))


frames = ase.io.read(sys.argv[1], ":")
frames = [frames[k] for k in np.random.default_rng(0).permutation(len(frames))]
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
dipoles = np.array([atoms.get_dipole_moment() for atoms in frames])
labels = {
    "dipole": dipoles,
    "polarizability": np.array([atoms.info["polarizability"] for atoms in frames]),
    "energy": np.array([atoms.info["ref_energy"] for atoms in frames]),
}
test = frames[N_TRAIN:]
for name, y in labels.items():
    print(f"{name}, spread {np.std(y[N_TRAIN:]):.4g}")
    for architecture, inputs in (("message_passing", None), ("message_passing", FIELD), ("ace", None), ("ace", FIELD)):
        start = time.process_time()
        model = EquivariantNetworkRegressor(
            4.5, architecture=architecture, target=name, inputs=inputs, time_budget=seconds, random_state=0
        )
        model.fit(frames[:N_TRAIN], y[:N_TRAIN])
        error = rmse(model.predict(test), y[N_TRAIN:])
        line = f"  {architecture:16}{'with' if inputs else 'without'} the field: {error:.4g}"
        if inputs and name == "energy":
            line += f", its dipole {rmse(input_derivatives(model, test, 'electric_field'), dipoles[N_TRAIN:]):.4g}"
        print(f"{line} ({time.process_time() - start:.0f} s)", flush=True)
