"""Write saved models, and what they predict, for the tests of all later versions: python -m tests.io.make_golden FOLDER.

Run it in a new folder when the format changes or with other versions of numpy and scikit-learn. Files that are there
stay as they are: they stand for the version that wrote them.
"""

import sys
from pathlib import Path

import ase.io
import numpy as np

from eqkernels.io import save_model
from tests.io.models import MAKERS, fitted, others, outcomes

GOLDEN = Path(__file__).parent / "golden"


def structures(name):
    """The structures whose predictions are stored, as they are read from a file."""
    return ase.io.read(GOLDEN / ("copper.xyz" if name == "sparse_gpr_with_forces" else "water.xyz"), ":")


def write_structures():
    for file, name in (("copper.xyz", "sparse_gpr_with_forces"), ("water.xyz", "ridge")):
        if not (GOLDEN / file).exists():
            frames = [atoms.copy() for atoms in others(name)]
            ase.io.write(GOLDEN / file, frames, format="extxyz")


def main(folder, names):
    folder = GOLDEN / folder
    folder.mkdir(parents=True, exist_ok=True)
    write_structures()
    for name in names or MAKERS:
        path = folder / f"{name}.eqk"
        if not path.exists():
            model = fitted(name)
            save_model(model, path)
            np.savez(path.with_suffix(".npz"), **outcomes(model, structures(name)))
            print(path, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
