"""Time and memory of a sparse Gaussian process, and how they grow with structures N and sparse points M.

    python benchmarks/sparse_scaling.py --structures 100000 --points 2000 --jobs 2     # one size
    python benchmarks/sparse_scaling.py --growth --jobs 2                              # a table of small sizes

The molecules (H, C, N, O) are the bundled small organics, distorted and turned at random, and are made when they are
needed. Their polarizability (lambda = 0 and 2) is that of Thole's model of interacting atomic dipoles (Chem. Phys. 59,
341 (1981)): the inverse of a matrix, known for every geometry.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from scipy.spatial.transform import Rotation

from eqkernels import LambdaSOAP, SparseTensorGPR
from eqkernels.datasets import load_small_organics
from eqkernels.metrics import frobenius_rmse, irrep_rmse

# Thole's polarizabilities of H, C, N, O in cubic Angstrom, and the range of his linear damping.
ALPHA = np.zeros(9)
ALPHA[[1, 6, 7, 8]] = 0.514, 1.405, 1.105, 0.862
DAMPING = 1.662
N_TEST = 500
GROWTH = [(2000, 250), (4000, 250), (8000, 250), (4000, 125), (4000, 500), (4000, 1000)]


class Molecules:
    """Distorted molecules as a sequence that makes them when asked; number k is always the same."""

    def __init__(self, n_structures, first=0):
        self.frames = load_small_organics().frames
        self.n_structures, self.first = n_structures, first

    def __len__(self):
        return self.n_structures

    def __getitem__(self, key):
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(len(self)))]
        random = np.random.default_rng(self.first + key)
        atoms = self.frames[(self.first + key) % len(self.frames)].copy()
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        atoms.positions = Rotation.random(random_state=int(random.integers(2**31))).apply(atoms.positions)
        return atoms


def polarizability(atoms):
    alpha, n = ALPHA[atoms.numbers], len(atoms)
    vectors = atoms.positions[:, None] - atoms.positions
    distances = np.linalg.norm(vectors, axis=2) + np.eye(n)
    v = np.minimum(distances / (DAMPING * np.cbrt(np.multiply.outer(alpha, alpha)) ** 0.5), 1.0)
    near = (4 * v**3 - 3 * v**4) / distances**3
    matrix = near[:, :, None, None] * np.eye(3)
    matrix -= 3 * (v**4 / distances**5)[:, :, None, None] * vectors[..., :, None] * vectors[..., None, :]
    matrix[np.arange(n), np.arange(n)] = np.eye(3) / alpha[:, None, None]
    inverse = np.linalg.inv(matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n))
    return inverse.reshape(n, 3, n, 3).sum(axis=(0, 2))


def labels(molecules):
    return np.array([polarizability(molecules[k]) for k in range(len(molecules))])


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run(arguments):
    start = time.perf_counter()
    molecules, test = Molecules(arguments.structures), Molecules(N_TEST, first=10**8)
    y, y_test = labels(molecules), labels(test)
    n_centers = sum(len(atoms) for atoms in molecules[:900]) / len(molecules[:900]) * len(molecules)
    print(
        f"{len(molecules)} molecules, about {n_centers:.0f} environments, labels: {time.perf_counter() - start:.1f} s"
    )
    noise = "auto" if arguments.noise is None else arguments.noise
    model = SparseTensorGPR(
        n_points=arguments.points,
        noise=noise,
        descriptor=LambdaSOAP(cutoff=4.0, n_max=arguments.n_max, l_max=arguments.l_max),
        target="ij=ji",
        memory=arguments.memory,
        random_state=0,
        n_jobs=arguments.jobs,
        verbose=1,
    )
    begin, cpu = time.perf_counter(), time.process_time()
    model.partial_fit(molecules, y, solve=False)
    folded, cpu = time.perf_counter() - begin, time.process_time() - cpu
    memory = peak()
    model.partial_fit(molecules[:1], y[:1])
    solved = time.perf_counter() - begin - folded
    begin = time.perf_counter()
    predicted = model.predict(test)
    seconds = time.perf_counter() - begin
    print(f"fold {folded:.1f} s ({cpu:.1f} s CPU, peak {memory:.2f} GiB), solve {solved:.1f} s, predict {N_TEST} in "
          f"{seconds:.1f} s")  # fmt: skip
    deviation = np.sqrt(np.mean(np.sum((y_test - y.mean(axis=0)) ** 2, axis=(1, 2))))
    error = frobenius_rmse(y_test, predicted)
    by_irrep = ", ".join(f"{key} {one:.4f}" for key, one in irrep_rmse(y_test, predicted, "ij=ji").items())
    print(f"RMSE {error:.4f} A^3 of {deviation:.3f} ({by_irrep})")
    print(f"RESULT {len(molecules):7d} {arguments.points:5d} {folded:8.1f} {solved:8.1f} {peak():8.2f} {error:8.4f}")


def growth(arguments):
    """Every size in a process of its own, so that each has its own peak of memory."""
    print("      N     M   fold/s  solve/s  peak/GiB  RMSE/A^3")
    for n, m in GROWTH:
        options = ["--structures", n, "--points", m, "--jobs", arguments.jobs, "--memory", arguments.memory]
        options += ["--n-max", arguments.n_max, "--l-max", arguments.l_max]
        command = [sys.executable, __file__, *map(str, options)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        print(next(line for line in output.stdout.splitlines() if line.startswith("RESULT"))[6:], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=2000)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--noise", type=float, default=None, help="relative to the signal variance; default: optimized")
    parser.add_argument("--memory", type=float, default=0.5, help="GiB of a block")
    parser.add_argument("--n-max", type=int, default=5)
    parser.add_argument("--l-max", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    arguments = parser.parse_args()
    growth(arguments) if arguments.growth else run(arguments)


if __name__ == "__main__":
    main()
