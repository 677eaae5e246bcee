"""How the cost of SOAP grows with atoms, n_max, l_max, species, neighbors, and how near it is to what is possible.

    python benchmarks/descriptor_scaling.py

One thread, CPU time. Beside the microseconds per atom stand the rates of useful floating-point operations (density and
power spectrum) and of bytes written, and first what a matrix product and a copy reach here.
"""

import os
import resource
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

from eqkernels import SOAP, LambdaSOAP  # noqa: E402
from eqkernels.datasets import load_small_organics  # noqa: E402
from eqkernels.structures import StructureBatch, find_neighbors  # noqa: E402

STANDARD = {"cutoff": 5.0, "n_max": 8, "l_max": 6, "sigma": 0.3}
NUMBERS = (1, 6, 7, 8, 9, 16, 17, 35)


def best(function, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def box(n_atoms, n_species=2, neighbors=28, cutoff=5.0, seed=0):
    """Random periodic box in which an atom has so many neighbors on average, none very near."""
    random = np.random.default_rng(seed)
    length = (n_atoms * 4 / 3 * np.pi * cutoff**3 / neighbors) ** (1 / 3)
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n_atoms]
    positions = (grid + random.uniform(-0.25, 0.25, size=grid.shape)) * length / side
    return Atoms(random.choice(NUMBERS[:n_species], n_atoms), positions, cell=[length] * 3, pbc=True)


def report(label, frames, options):
    soap = SOAP(**options).fit(frames)
    out = soap.transform(frames)
    seconds, n_atoms = best(lambda: soap.transform(frames, out=out)), len(out)
    pairs = len(find_neighbors(StructureBatch.from_frames(frames), options["cutoff"]).neighbors)
    n_lm, n_max = (options["l_max"] + 1) ** 2, options["n_max"]
    n_channels = n_max * len(soap.neighbor_species_)
    flops = 2 * n_lm * (pairs * n_max + n_atoms * n_channels * (n_channels + 1) / 2)
    print(
        f"{label:34s} {1e6 * seconds / n_atoms:8.2f} us/atom  {pairs / n_atoms:6.1f} neighbors "
        f"{flops / seconds / 1e9:7.1f} Gflop/s {out.nbytes / seconds / 1e9:6.2f} GB/s",
        flush=True,
    )


def stream(label, descriptor, n_environments=100_000):
    """Peak memory of the process while distorted molecules are made, transformed in parts, and dropped."""
    molecules, random = load_small_organics().frames, np.random.default_rng(0)

    def distorted():
        n_atoms = 0
        while n_atoms < n_environments:
            atoms = molecules[random.integers(len(molecules))].copy()
            atoms.positions += random.normal(scale=0.02, size=atoms.positions.shape)
            n_atoms += len(atoms)
            yield atoms

    descriptor.fit(molecules)
    start = time.process_time()
    for _ in descriptor.iter_transform(distorted()):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{label}: {n_environments} environments in {time.process_time() - start:.1f} s, peak {peak:.2f} GiB")


def main():
    stream("SOAP", SOAP(**STANDARD))
    compressed = LambdaSOAP(**STANDARD, n_species_channels=2, n_optimal=3)
    stream("lambda-SOAP, 2 channels of species, 3 optimal functions", compressed)
    a, copy = np.random.default_rng(0).random((1000, 1000)), np.empty(1 << 24)
    source = np.ones_like(copy)
    print(f"matrix product {2e9 / best(lambda: a @ a) / 1e9:.1f} Gflop/s, ", end="")
    print(f"copy {copy.nbytes / best(lambda: np.copyto(copy, source)) / 1e9:.1f} GB/s written")
    for n_atoms in (64, 256, 1024, 4096):
        report(f"{n_atoms} atoms", [box(n_atoms)], STANDARD)
    for n_max in (4, 8, 12, 16):
        report(f"n_max = {n_max}", [box(512)], {**STANDARD, "n_max": n_max})
    for l_max in (2, 4, 6, 9, 12):
        report(f"l_max = {l_max}", [box(512)], {**STANDARD, "l_max": l_max})
    for n_species in (1, 2, 4, 8):
        report(f"{n_species} species", [box(256, n_species)], STANDARD)
    for neighbors in (14, 28, 56, 112):
        report(f"about {neighbors} neighbors", [box(512, neighbors=neighbors)], STANDARD)


if __name__ == "__main__":
    main()
