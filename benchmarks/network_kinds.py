"""What attention, invariant networks, networks without gates and pooling do: one data set each.

    python benchmarks/network_kinds.py [invariant] [gates] [attention] [pooling] [--seconds 10] [--seeds 3]

Bundled molecules, and two systems made here, whose labels are functions of what an option adds:

- shared: ten atoms of one element; the label of each is the mean vector to the others, weighted by exp(-3 r / Angstrom)
  over the sum of these weights, as of something that goes to the nearest of them.
- charges: six rigid waters, farther from each other than 4.5 Angstrom; the label is the Coulomb energy between them of
  the charges of TIP3P (W. L. Jorgensen et al., J. Chem. Phys. 79, 926 (1983)), in eV.

Errors are root mean squares over the test set, of forces by the gradient of the energy; the median over seeds. Seconds
are those of CPU, one thread; those of a structure are of predictions.
"""

import argparse
import os
import time
import warnings

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import molecule  # noqa: E402

from eqkernels import EquivariantNetworkRegressor  # noqa: E402
from eqkernels.datasets import load_small_organics  # noqa: E402
from eqkernels.testing import random_rotation  # noqa: E402

COULOMB = 14.399645  # eV Angstrom
CHARGES = np.tile([-0.834, 0.417, 0.417], 6)


def shared(n=300):
    random, frames, labels = np.random.default_rng(0), [], []
    for _ in range(n):
        positions = np.zeros((0, 3))
        while len(positions) < 10:
            new = random.uniform(-2.2, 2.2, size=3)
            if len(positions) == 0 or np.linalg.norm(positions - new, axis=1).min() > 1.0:
                positions = np.vstack([positions, new])
        vectors = positions[None] - positions[:, None]
        weights = np.exp(-3.0 * np.linalg.norm(vectors, axis=2)) * (1 - np.eye(10))
        frames.append(Atoms("Ar10", positions=positions))
        labels.append(np.einsum("ij,ijx->ix", weights / weights.sum(axis=1, keepdims=True), vectors))
    return frames, labels


def charges(n=400):
    random, frames, energies = np.random.RandomState(0), [], []
    water = molecule("H2O").positions - molecule("H2O").positions[0]
    between = np.arange(18)[:, None] // 3 != np.arange(18) // 3
    for _ in range(n):
        centers = np.zeros((0, 3))
        while len(centers) < 6:
            new = random.uniform(-5.0, 5.0, size=3)
            if len(centers) == 0 or np.linalg.norm(centers - new, axis=1).min() > 4.5:
                centers = np.vstack([centers, new])
        positions = np.concatenate([water @ random_rotation(random).T + center for center in centers])
        distances = np.linalg.norm(positions[:, None] - positions, axis=2)
        products = COULOMB * np.outer(CHARGES, CHARGES) * between
        energies.append(0.5 * np.sum(products / np.where(between, distances, 1.0)))
        frames.append(Atoms("OH2" * 6, positions=positions))
    return frames, np.array(energies)


def rmse(predicted, expected):
    predicted, expected = (np.concatenate([np.ravel(one) for one in values]) for values in (predicted, expected))
    return np.sqrt(np.mean((predicted - expected) ** 2))


def measure(frames, y, n_train, options, seconds, seeds, forces=None):
    order = np.random.RandomState(1).permutation(len(frames))
    train, test = order[:n_train], order[-100:]
    errors, of_forces, per_structure, iterations = [], [], [], []
    for seed in range(seeds):
        model = EquivariantNetworkRegressor(time_budget=seconds, random_state=seed, **options)
        model.fit([frames[k] for k in train], [y[k] for k in train])
        some = [frames[k] for k in test]
        model.predict(some)
        start = time.process_time()
        predicted = model.predict(some)
        per_structure.append(time.process_time() - start)
        errors.append(rmse(predicted, [y[k] for k in test]))
        iterations.append(model.n_iter_)
        if forces is not None:
            of_forces.append(rmse(model.predict_forces(some), [forces[k] for k in test]))
    text = f"RMSE {np.median(errors):.5f}"
    if forces is not None:
        text += f", of forces {np.median(of_forces):.5f}"
    return f"{text}; {10 * np.median(per_structure):.2f} ms a structure, {np.median(iterations):.0f} epochs"


def runs():
    organics = load_small_organics()
    energies, tensors = organics["energy"], organics["polarizability"]
    forces = [one / 0.52917721092 for one in organics["forces"]]  # hartree / Angstrom, as the positions
    yield "invariant", "energies of small organics", (organics["frames"], energies, 400), forces, {
        "l_max=0, products=False": {"l_max": 0, "products": False},
        "l_max=0": {"l_max": 0},
        "l_max=1": {"l_max": 1},
        "default (l_max=2)": {},
    }  # fmt: skip
    yield "gates", "polarizabilities of small organics", (organics["frames"], tensors, 400), None, {
        "default (gate)": {},
        'nonlinearity="tensor_product"': {"nonlinearity": "tensor_product"},
        "products=False": {"products": False},
    }  # fmt: skip
    near = {"cutoff": 4.5, "l_max": 1}
    one = {**near, "n_layers": 1, "products": False}
    yield "attention", "shared", (*shared(), 200), None, {
        "n_layers=1, products=False": one,
        "n_layers=1, products=False, attention=True": {**one, "attention": True},
        "default": near,
        "attention=True": {**near, "attention": True},
        "ace": {**near, "architecture": "ace"},
        "ace, attention=True": {**near, "architecture": "ace", "attention": True},
    }  # fmt: skip
    yield "attention", "polarizabilities of small organics", (organics["frames"], tensors, 400), None, {
        "without": {},
        "attention=True": {"attention": True},
    }  # fmt: skip
    pooled = {"cutoff": 3.0, "pooling": "molecules", "pooling_cutoff": 14.0}
    yield "pooling", "charges", (*charges(), 300), None, {
        "cutoff=3": {"cutoff": 3.0},
        "cutoff=6": {"cutoff": 6.0},
        "cutoff=14": {"cutoff": 14.0},
        'cutoff=3, pooling="molecules", pooling_cutoff=14': pooled,
        "the same with l_max=3": {**pooled, "l_max": 3},
        "the same with pooling_layers=2": {**pooled, "pooling_layers": 2},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=["invariant", "gates", "attention", "pooling"])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for kind, name, data, forces, options in runs():
        if kind in arguments.kinds:
            print(f"{kind}: {name}", flush=True)
            for label, one in options.items():
                print(f"  {label:50s} {measure(*data, one, arguments.seconds, arguments.seeds, forces)}", flush=True)


if __name__ == "__main__":
    main()
