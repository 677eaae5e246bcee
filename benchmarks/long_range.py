"""Cost of the fields of all atoms: time per atom against the number of atoms and the volume of the cell.

Distorted rock salt, the same with vacuum (a cell that is longer along one axis), and clusters without a cell; the
density with its cutoff beside it, and LodeSphericalExpansion of featomic where that is installed (extra ``bench``).
CPU time of one thread, the best of some repetitions.

    python benchmarks/long_range.py [--largest 1000]
"""

import argparse
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

import numpy as np
from ase.build import bulk

from eqkernels import SphericalExpansion

N_MAX, L_MAX, CUTOFF, SIGMA = 6, 4, 5.0, 1.0


def salt(n, vacuum=1):
    """Rock salt of n x n x n cubic cells, distorted, with the given factor of room along z."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(n)
    atoms.rattle(0.1, seed=0)
    atoms.set_cell(atoms.cell.array * np.array([[1], [1], [vacuum]]))
    return atoms


def seconds(work, *arguments, repetitions=3):
    """Best CPU time of some calls, after one that compiles and makes the tables."""
    work(*arguments)
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        work(*arguments)
        times.append(time.process_time() - start)
    return min(times)


def lode_of_featomic():
    """Make a calculator with the same parameters and as many wave vectors, or None."""
    try:
        import featomic
    except ImportError:
        return None
    descriptor = SphericalExpansion(CUTOFF, n_max=N_MAX, l_max=L_MAX, density="potential", sigma=SIGMA).fit([salt(1)])
    return featomic.LodeSphericalExpansion(
        density={"type": "SmearedPowerLaw", "smearing": SIGMA, "exponent": 1},
        k_cutoff=descriptor._expansion()._transforms.cutoff,
        basis={"type": "TensorProduct", "max_angular": L_MAX,
               "radial": {"type": "Gto", "max_radial": N_MAX - 1, "radius": CUTOFF}},
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1000, help="atoms of the largest structure")
    largest, theirs = parser.parse_args().largest, lode_of_featomic()
    options = {"n_max": N_MAX, "l_max": L_MAX}
    near = SphericalExpansion(CUTOFF, **options)
    fields = {name: SphericalExpansion(CUTOFF, **options, density="potential", sigma=SIGMA, accuracy=accuracy)
              for name, accuracy in (("fields", 1e-9), ("1e-4", 1e-4))}  # fmt: skip
    print(f"ms per atom, n_max={N_MAX}, l_max={L_MAX}, cutoff={CUTOFF}, sigma={SIGMA}, two species")
    print(f"{'structure':>16} {'atoms':>6} {'density':>8} {'fields':>8} {'1e-4':>8} {'vjp':>8} {'featomic':>9}")
    for kind, sizes, vacuum in (
        ("crystal", range(1, 8), 1),
        ("half vacuum", range(1, 5), 2),
        ("cluster", range(1, 8), 1),
    ):
        for n in sizes:
            atoms = salt(n, vacuum)
            atoms.pbc = kind != "cluster"
            if len(atoms) > largest:
                break
            more = {"repetitions": 3 if len(atoms) < 300 else 1}
            for one in (near, *fields.values()):
                one.fit([atoms])
            times = [seconds(one.transform, [atoms], **more) for one in (near, *fields.values())]
            blocks = dict(fields["fields"].transform([atoms]).blocks)
            times.append(seconds(fields["fields"].vjp, [atoms], blocks, **more))
            compare = theirs is not None and kind != "cluster"
            times.append(seconds(theirs.compute, [atoms], **more) if compare else np.nan)
            row = " ".join(f"{1e3 * value / len(atoms):8.2f}" for value in times)
            print(f"{kind:>16} {len(atoms):6d} {row}", flush=True)


if __name__ == "__main__":
    main()
