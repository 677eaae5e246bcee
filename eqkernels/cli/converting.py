"""``eqkernels convert``: Cartesian tensors in files to irreducible components or Voigt's notation, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from eqkernels.cli.console import Problem, check_output, say
from eqkernels.cli.labelled import read_labelled
from eqkernels.so3 import CartesianTensor, cartesian_tensor

FORMS = ("irreps", "cartesian", "voigt")
# xx, yy, zz, yz, xz, xy
_ROWS, _COLUMNS = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])


def convert(
    paths: list[Path], output: Path, target: str, to: str, how_to_read: dict[str, Any], axial: str = ""
) -> None:
    """Write frames with a tensor in another form.

    In the form ``"irreps"`` each irrep has a key, such as ``alpha_2e``, with its components m = -l ... l, several
    copies one after the other; in ``"voigt"`` six numbers xx, yy, zz, yz, xz, xy stand under ``alpha_voigt``.
    """
    check_output(output)
    if to not in FORMS:
        raise Problem(f"--to {to}: take {', '.join(FORMS)}")
    if to == "cartesian":
        frames, key = list(_from_parts(paths, target, how_to_read, axial)), how_to_read.get("key") or target
    else:
        data = read_labelled(paths, target, **how_to_read)
        tensor = cartesian_tensor(data.target, np.ndim(data.y[0]) - int(data.per_atom))
        tensor = CartesianTensor(tensor.formula, axial=axial or tensor.axial)
        frames, key = data.frames, data.key
        for atoms, value in zip(frames, data.y, strict=True):
            place = atoms.arrays if data.per_atom else atoms.info
            place.update(_parts(np.asarray(value), tensor, key, to, data.per_atom))
    ase.io.write(output, frames, format="extxyz")
    say(f"wrote {output}: {key!r} as {to}")


def _parts(value, tensor, key, to, per_atom):
    rows = value if per_atom else value[None]
    if to == "voigt":
        if rows.shape[1:] != (3, 3) or not np.allclose(rows, rows.swapaxes(1, 2), atol=1e-6 * np.abs(rows).max()):
            raise Problem(f"{key!r} is not a symmetric matrix, which is what has a Voigt notation")
        parts = {f"{key}_voigt": rows[:, _ROWS, _COLUMNS]}
    else:
        blocks = tensor.to_irreps(tensor.project(rows))
        parts = {f"{key}_{irrep}": block.swapaxes(1, 2).reshape(len(rows), -1) for irrep, block in blocks.items()}
    return {name: part if per_atom else part[0] for name, part in parts.items()}


def _from_parts(paths, target, how_to_read, axial):
    """Frames with the Cartesian tensor that their irreps or their six Voigt components make up."""
    key = how_to_read.get("key") or target
    tensor = cartesian_tensor(target)
    tensor = CartesianTensor(tensor.formula, axial=axial or tensor.axial)
    for path in paths:
        for k, atoms in enumerate(ase.io.iread(path, how_to_read.get("index") or ":")):
            for place in (atoms.info, atoms.arrays):
                value = _whole(place, key, tensor, place is atoms.arrays)
                if value is not None:
                    place[key] = value.reshape(len(value), -1) if place is atoms.arrays else value[0]
                    break
            else:
                names = ", ".join(f"{key}_{irrep}" for _, irrep in tensor.irreps)
                raise Problem(f"structure {k} of {path} has neither {key}_voigt nor {names}")
            yield atoms


def _whole(place, key, tensor, per_atom):
    if f"{key}_voigt" in place:
        six = np.asarray(place[f"{key}_voigt"], dtype=float).reshape(-1, 6)
        value = np.empty((len(six), 3, 3))
        value[:, _ROWS, _COLUMNS] = value[:, _COLUMNS, _ROWS] = six
        return value
    blocks = {}
    for multiplicity, irrep in tensor.irreps:
        name = f"{key}_{irrep}"
        if name not in place:
            return None
        part = np.asarray(place[name], dtype=float)
        n = len(part) if per_atom else 1
        blocks[str(irrep)] = part.reshape(n, multiplicity, irrep.dim).swapaxes(1, 2)
    return tensor.to_cartesian(blocks)
