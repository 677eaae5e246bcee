"""Energies and forces by a sparse Gaussian process beside GAP, on the same structures and as many sparse points.

    python benchmarks/forces_vs_gap.py [--train TRAIN.xyz --test TEST.xyz] [--points 500] [--gap-python PYTHON]

Files have energies and forces (eV, eV/A) as ASE reads them; without them, structures are displaced copper cells by
ASE's effective medium theory. GAP (A. P. Bartok et al., Phys. Rev. Lett. 104, 136403 (2010)) is ``gap_fit`` of
quippy-ase 0.9 (with f90wrap 0.2), found beside the Python that has it: ``--gap-python``, by default the one that runs
this. It has one SOAP for each species that shares its points, as its documentation has it. Both run on one thread, GAP
in a process of its own; time is that of the CPU, and fits are counted without reading files.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
from ase.build import bulk  # noqa: E402
from ase.calculators.emt import EMT  # noqa: E402

from eqkernels import LambdaSOAP, SparseTensorGPR  # noqa: E402

# predicts by a GAP in a Python that has quippy, and prints errors and seconds
PREDICT = """
import sys, time, json, ase.io, numpy as np
from quippy.potential import Potential
frames, start = ase.io.read(sys.argv[1], ":"), 0.0
gap, energies, forces = Potential(param_filename=sys.argv[2]), [], []
for k, atoms in enumerate(frames):
    if k == 1:  # the first one sets it up
        start = time.process_time()
    atoms.calc = gap
    energies.append(atoms.get_potential_energy())
    forces.append(atoms.get_forces())
seconds = (time.process_time() - start) / (len(frames) - 1)
print(json.dumps({"seconds": seconds, "energies": energies, "forces": np.concatenate(forces).tolist()}))
"""


def copper(n, seed):
    random, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.set_cell(atoms.cell * random.uniform(0.97, 1.03), scale_atoms=True)
        atoms.rattle(0.15, seed=seed + k)
        atoms.calc = EMT()
        frames.append(atoms)
    return frames


def labels(frames):
    return np.array([a.get_potential_energy() for a in frames]), [a.get_forces() for a in frames]


def rmse(a, b):
    return float(np.sqrt(np.mean((np.concatenate(a) - np.concatenate(b)) ** 2)))


def of_eqkernels(train, test, options):
    energies, forces = labels(train)
    descriptor = LambdaSOAP(cutoff=options.cutoff, n_max=8, l_max=4, sigma=0.4)
    model = SparseTensorGPR(options.points, descriptor=descriptor, random_state=0)
    model.fit(train[:3], energies[:3], forces=forces[:3]).predict_forces(test[:2])  # compiles
    start = time.process_time()
    model.fit(train, energies, forces=forces)
    fit, start = time.process_time() - start, time.process_time()
    predicted = model.predict(test), model.predict_forces(test)
    seconds = (time.process_time() - start) / len(test)
    return fit, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, seconds, *predicted


def of_gap(train, test, options, folder):
    for name, frames in (("train", train), ("test", test)):
        copies = [a.copy() for a in frames]
        for copy, energy, forces in zip(copies, *labels(frames), strict=True):
            if not copy.pbc.any():
                copy.center(vacuum=options.cutoff + 5.0)
            copy.info, copy.arrays["dft_forces"] = {"dft_energy": energy}, forces
        ase.io.write(folder / f"{name}.xyz", copies, format="extxyz")
    species = sorted({int(z) for a in train for z in a.numbers})
    share = options.points // len(species)
    of_all = (
        f"l_max=4 n_max=8 atom_sigma=0.4 zeta=2 cutoff={options.cutoff} cutoff_transition_width=1.0 n_sparse={share}"
    )
    of_all += f" delta=0.2 covariance_type=dot_product sparse_method=cur_points add_species=F n_species={len(species)}"
    of_all += f" species_Z={{{{{' '.join(map(str, species))}}}}}"
    soaps = " : ".join(f"soap {of_all} Z={z}" for z in species)
    command = [
        str(Path(options.gap_python).parent / "gap_fit"), f"at_file={folder / 'train.xyz'}", f"gap={{{soaps}}}",
        "e0_method=average", "default_sigma={0.001 0.02 0.0 0.0}", "energy_parameter_name=dft_energy",
        "force_parameter_name=dft_forces", f"gp_file={folder / 'gap.xml'}",
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"gap_fit failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [options.gap_python, "-c", PREDICT, str(folder / "test.xyz"), str(folder / "gap.xml")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"GAP did not predict:\n{done.stderr[-2000:]}")
    lines = done.stdout.splitlines()
    found = json.loads(next(line for line in lines if line.startswith("{")))
    ends = np.cumsum([len(a) for a in test])[:-1]
    fit = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    forces = np.split(np.array(found["forces"]), ends)
    return fit, after.ru_maxrss / 2**20, found["seconds"], np.array(found["energies"]), forces


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train")
    parser.add_argument("--test")
    parser.add_argument("--structures", type=int, default=500, help="of the file to train on, at most")
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--cutoff", type=float, default=4.0)
    parser.add_argument("--gap-python", default=sys.executable)
    options = parser.parse_args()
    train, test = (
        (ase.io.read(options.train, f":{options.structures}"), ase.io.read(options.test, ":"))
        if options.train
        else (copper(60, 0), copper(40, 1000))
    )
    energies, forces = labels(test)
    print(f"{len(train)} structures to train, {len(test)} to predict, {options.points} sparse points, one thread")
    print(f"{'':10}  fit s  memory GiB  ms a structure  energy RMSE meV  force RMSE meV/A")
    rows = {"eqkernels": of_eqkernels(train, test, options)}
    if (Path(options.gap_python).parent / "gap_fit").exists():
        with tempfile.TemporaryDirectory() as folder:
            rows["GAP"] = of_gap(train, test, options, Path(folder))
    for name, (fit, memory, seconds, found, forces_found) in rows.items():
        errors = 1e3 * rmse([found], [energies]), 1e3 * rmse(forces_found, forces)
        print(f"{name:10}  {fit:5.1f}  {memory:10.2f}  {1e3 * seconds:14.2f}  {errors[0]:15.2f}  {errors[1]:16.1f}")
    if "GAP" in rows:
        ours, theirs = rows["eqkernels"], rows["GAP"]
        ratios = [theirs[k] / ours[k] for k in range(3)]
        print(f"GAP over eqkernels: fit {ratios[0]:.1f}, memory {ratios[1]:.1f}, prediction {ratios[2]:.1f}")
    else:
        print(f"no gap_fit beside {options.gap_python}: install quippy-ase 0.9 there to compare")


if __name__ == "__main__":
    main()
