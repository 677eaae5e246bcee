"""``eqkernels convert``: Cartesian tensors in files to the forms of other codes and fields, and back.

The forms, and the keys that a tensor ``alpha`` gets in them:

- ``irreps``, ``e3nn``, ``pyscf``, ``complex``: spherical components, ``alpha_2e``, ``alpha_e3nn_2e``, ...; complex ones
  as ``alpha_complex_2e_real`` and ``alpha_complex_2e_imag``;
- ``voigt``: ``alpha_voigt``, row by row;
- ``haeberlen``, ``span-skew``, ``quadrupolar``: ``sigma_iso``, ``sigma_anisotropy``, ..., which do not lead back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.data import atomic_numbers

from eqkernels.cli.console import Problem, check_output, say
from eqkernels.cli.labelled import read_labelled
from eqkernels.so3 import CartesianTensor, cartesian_tensor, from_spherical, from_voigt, to_spherical, to_voigt
from eqkernels.so3.principal_values import haeberlen, quadrupolar_coupling, span_skew

_COMPONENTS = {"irreps": "eqkernels", "e3nn": "e3nn", "pyscf": "pyscf", "complex": "complex"}
_PARAMETERS: dict[str, Callable[..., Any]] = {
    "haeberlen": haeberlen,
    "span-skew": span_skew,
    "quadrupolar": quadrupolar_coupling,
}
FORMS = (*_COMPONENTS, "cartesian", "voigt", *_PARAMETERS)
# Kinds in Voigt's notation by the rank of the tensor, where nothing is said.
_USUAL_KINDS = {2: "stress", 3: "piezoelectric_e", 4: "stiffness"}


def convert(
    paths: list[Path],
    output: Path,
    target: str,
    to: str,
    how_to_read: dict[str, Any],
    axial: str = "",
    kind: str | None = None,
    moments: str | None = None,
) -> None:
    """Write frames with a tensor in another form.

    Parameters
    ----------
    paths : list of Path
    output : Path
    target : str
    to : str
        One of the forms.
    how_to_read : dict
        Arguments of :func:`eqkernels.io.read`.
    axial : str, default=""
    kind : str, default=None
        Of :func:`eqkernels.so3.to_voigt`; None: without factors.
    moments : str, default=None
        Quadrupole moments in barn, as in ``"H=0.00286,N=0.02044"``.
    """
    check_output(output)
    if to not in FORMS:
        raise Problem(f"--to {to}: take {', '.join(FORMS)}")
    if (to == "quadrupolar") != (moments is not None):
        raise Problem("--to quadrupolar needs quadrupole moments in barn, as in --moments H=0.00286,N=0.02044, and "
                      "nothing else does")  # fmt: skip
    if to == "cartesian":
        frames, key = list(_from_parts(paths, target, how_to_read, axial, kind)), how_to_read.get("key") or target
    else:
        data = read_labelled(paths, target, **how_to_read)
        tensor = cartesian_tensor(data.target, np.ndim(data.y[0]) - int(data.per_atom))
        tensor = CartesianTensor(tensor.formula, axial=axial or tensor.axial)
        frames, key, by_species = data.frames, data.key, _moments(moments)
        for atoms, value in zip(frames, data.y, strict=True):
            rows = np.asarray(value) if data.per_atom else np.asarray(value)[None]
            parts = _parts(rows, tensor, to, kind, by_species[atoms.numbers if data.per_atom else [0]])
            for name, part in parts.items():
                part = part.reshape(len(part), -1) if part.ndim > 1 else part
                (atoms.arrays if data.per_atom else atoms.info)[f"{key}_{name}"] = part if data.per_atom else part[0]
    ase.io.write(output, frames, format="extxyz")
    say(f"wrote {output}: {key!r} as {to}")


def _parts(rows, tensor, to, kind, moments):
    """Arrays, one row a tensor, by what follows the key."""
    if to == "voigt":
        return {"voigt": to_voigt(rows, _kind(tensor, kind))}
    if to in _PARAMETERS:
        if tensor.rank != 2:
            raise Problem(f"--to {to} is for tensors of two indices, not for {tensor.formula!r}")
        more = (moments,) if to == "quadrupolar" else ()
        return _PARAMETERS[to](rows, *more)._asdict()
    parts = to_spherical(tensor.project(rows), tensor, _COMPONENTS[to])
    if to == "complex":
        parts = {f"{irrep}_{name}": getattr(part, name) for irrep, part in parts.items() for name in ("real", "imag")}
    return {irrep if to == "irreps" else f"{to}_{irrep}": part for irrep, part in parts.items()}


def _kind(tensor, kind):
    kind = _USUAL_KINDS.get(tensor.rank) if kind is None else kind
    if kind is None:
        raise Problem(f"tensors with the indices {tensor.formula!r} have no Voigt notation")
    return kind


def _moments(moments):
    """Moments by atomic number, NaN where they are not said."""
    by_species = np.full(max(atomic_numbers.values()) + 1, np.nan)
    for pair in moments.split(",") if moments else []:
        symbol, _, value = (text.strip() for text in pair.partition("="))
        try:
            by_species[atomic_numbers[symbol]] = float(value)
        except (KeyError, ValueError):
            raise Problem(f"--moments {moments}: write elements and barns, as in H=0.00286,N=0.02044") from None
    return by_species


def _from_parts(paths, target, how_to_read, axial, kind):
    """Frames with the Cartesian tensor that its components in another form make up."""
    key = how_to_read.get("key") or target
    tensor = cartesian_tensor(target)
    tensor = CartesianTensor(tensor.formula, axial=axial or tensor.axial)
    for path in paths:
        for k, atoms in enumerate(ase.io.iread(path, how_to_read.get("index") or ":")):
            for place in (atoms.info, atoms.arrays):
                value = _whole(place, key, tensor, kind, place is atoms.arrays)
                if value is not None:
                    place[key] = value.reshape(len(value), -1) if place is atoms.arrays else value[0]
                    break
            else:
                names = ", ".join(f"{key}_{irrep}" for _, irrep in tensor.irreps)
                raise Problem(f"structure {k} of {path} has neither {key}_voigt nor {names}")
            yield atoms


def _whole(place, key, tensor, kind, per_atom):
    if f"{key}_voigt" in place:
        kind = _kind(tensor, kind)
        shape = to_voigt(np.zeros(tensor.shape), kind).shape
        return from_voigt(np.asarray(place[f"{key}_voigt"], dtype=float).reshape(-1, *shape), kind)
    for form, convention in _COMPONENTS.items():
        stem = key if form == "irreps" else f"{key}_{form}"
        components = {str(irrep): _component(place, f"{stem}_{irrep}", form) for _, irrep in tensor.irreps}
        if all(part is not None for part in components.values()):
            shaped = {
                str(irrep): components[str(irrep)].reshape(-1 if per_atom else 1, multiplicity, irrep.dim)
                for multiplicity, irrep in tensor.irreps
            }
            return from_spherical(shaped, tensor, convention)
    return None


def _component(place, name, form):
    if form != "complex":
        return np.asarray(place[name], dtype=float) if name in place else None
    if f"{name}_real" not in place or f"{name}_imag" not in place:
        return None
    return np.asarray(place[f"{name}_real"], dtype=float) + 1j * np.asarray(place[f"{name}_imag"], dtype=float)
