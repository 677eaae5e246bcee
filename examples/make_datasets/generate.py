"""Remake the bundled data: geometries, then labels, then the files in the package.

Run as ``python -m examples.make_datasets.generate {geometries,labels,pack} [options]``; needs
``pip install "eqkernels[data]"``. The labels are resumable: each structure is a file in the work directory, and what
is there is not computed again. The geometries can differ between machines where modes are degenerate; the labels
belong to the geometries that are stored with them.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

import eqkernels.datasets
from eqkernels.datasets._storage import PROPERTIES, SET_PROPERTIES, pack_arrays

GEOMETRIES_PER_ORGANIC_MOLECULE = 30
GEOMETRIES_PER_CLUSTER = {"water monomer": 100, "water dimer": 300, "water trimer": 100}
GEOMETRIES_PER_CHIRAL_MOLECULE = {"hydrogen peroxide": 250, "hydrazine": 50, "methanol": 50, "allene": 50}


def make_geometries(work, names):
    """Sample the structures of each set and store them as ``geometries.npz`` in its folder.

    Raises
    ------
    FileExistsError
        If a folder has labels, which would belong to other geometries.
    """
    from examples.make_datasets import geometries

    for name in names:
        if any((work / name).glob("[0-9]*.npz")):
            raise FileExistsError(f"{work / name} has labels of earlier geometries; remove it or give another --work")

    makers = {
        "small_organics": lambda: geometries.small_organics(GEOMETRIES_PER_ORGANIC_MOLECULE),
        "water_clusters": lambda: geometries.water_clusters(GEOMETRIES_PER_CLUSTER),
        "chiral_molecules": lambda: geometries.chiral_molecules(GEOMETRIES_PER_CHIRAL_MOLECULE),
    }
    for name in names:
        started = time.perf_counter()
        frames = makers[name]()
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "geometries.npz",
            names=[atoms.info["name"] for atoms in frames],
            n_atoms=[len(atoms) for atoms in frames],
            numbers=np.concatenate([atoms.numbers for atoms in frames]),
            positions=np.vstack([atoms.positions for atoms in frames]).round(6),
        )
        print(f"{name}: {len(frames)} geometries in {time.perf_counter() - started:.0f} s", flush=True)


def read_geometries(folder):
    """Names, atomic numbers and positions of the structures of a set, as lists."""
    with np.load(folder / "geometries.npz") as stored:
        names, ends = stored["names"].tolist(), np.cumsum(stored["n_atoms"])[:-1]
        return names, np.split(stored["numbers"], ends), np.split(stored["positions"], ends)


def compute_labels(work, names, part=(0, 1)):
    """Compute the missing labels of each set.

    Parameters
    ----------
    work : Path
        Work directory, with the geometries.
    names : sequence of str
        Names of the sets.
    part : (int, int), default=(0, 1)
        ``(k, n)`` computes every n-th structure, starting at k, so that n processes can share the work.

    Returns
    -------
    dict of str to str
        Errors, by file.
    """
    from examples.make_datasets.quantum_chemistry import compute_properties

    errors = {}
    for name in names:
        molecules, numbers, positions = read_geometries(work / name)
        started, n_done, chosen = time.perf_counter(), 0, range(part[0], len(molecules), part[1])
        for index in chosen:
            file = _label_file(work, name, index)
            if not file.exists():
                try:
                    labels = compute_properties(numbers[index], positions[index], SET_PROPERTIES[name])
                    _write_at_once(file, labels)
                except (RuntimeError, np.linalg.LinAlgError) as error:
                    errors[str(file)] = f"{molecules[index]}: {error!r}"
                n_done += 1
                per_structure = (time.perf_counter() - started) / n_done
                print(f"{name} {index + 1}/{len(molecules)} {molecules[index]}, {per_structure:.2f} s each", flush=True)
    return errors


def _label_file(work, name, index):
    return work / name / f"{index:05d}.npz"


def _write_at_once(file, arrays):
    """Write under another name first, so that no process finds half a file."""
    unfinished = file.with_suffix(f".unfinished{os.getpid()}")
    with unfinished.open("wb") as stream:
        np.savez(stream, **arrays)
    unfinished.rename(file)


def pack(work, names, destination):
    """Gather the labelled structures of each set in one compressed file.

    Returns
    -------
    dict of str to str
        The structures left out, by file.
    """
    missing: dict[str, str] = {}
    for name in names:
        molecules, numbers, positions = read_geometries(work / name)
        files = [_label_file(work, name, index) for index in range(len(molecules))]
        missing |= {str(file): "no label" for file in files if not file.exists()}
        have = [index for index, file in enumerate(files) if file.exists()]
        labels = []
        for index in have:
            with np.load(files[index]) as stored:
                labels.append({key: stored[key] for key in stored.files})
        arrays = pack_arrays(
            [molecules[index] for index in have],
            [numbers[index] for index in have],
            [positions[index] for index in have],
            {key: [entry[key] for entry in labels] for key in PROPERTIES if key in SET_PROPERTIES[name]},
        )
        file = destination / f"{name}.npz"
        np.savez_compressed(file, **arrays)
        print(f"{name}: {len(have)} of {len(files)} structures, {file.stat().st_size / 1e6:.3f} MB in {file}")
    return missing


def main(arguments=None):
    """Run one step from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.make_datasets.generate", description=__doc__.split("\n")[0]
    )
    parser.add_argument("step", choices=["geometries", "labels", "pack"])
    parser.add_argument("--set", dest="names", action="append", choices=list(SET_PROPERTIES), help="default: all")
    parser.add_argument("--work", type=Path, default=Path("dataset_work"), help="work directory")
    parser.add_argument("--part", default="0/1", metavar="k/n", help="labels: every n-th structure, starting at k")
    parser.add_argument(
        "--destination",
        type=Path,
        default=Path(eqkernels.datasets.__file__).parent,
        help="pack: folder of the data files",
    )
    options = parser.parse_args(arguments)
    names = options.names or list(SET_PROPERTIES)
    problems = {}
    if options.step == "geometries":
        make_geometries(options.work, names)
    elif options.step == "labels":
        first, count = map(int, options.part.split("/"))
        problems = compute_labels(options.work, names, (first, count))
    else:
        problems = pack(options.work, names, options.destination)
    for file, problem in problems.items():
        print(f"FAILED {file}: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
