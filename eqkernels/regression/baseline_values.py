"""What a baseline of frames predicts, and its derivatives, checked to have the shapes of the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from eqkernels._fitted import last_step
from eqkernels._numeric import as_floats
from eqkernels.descriptors import Derivatives
from eqkernels.regression.pipelines import differentiable
from eqkernels.structures import StructureBatch, as_list, atom_counts, cell_volumes

# Structures that a baseline is asked for at once, of a sequence that makes them when they are asked for.
_STRUCTURES_PER_PART = 256


def named(baseline: Any) -> str:
    """Name of a baseline in a message."""
    return getattr(baseline, "__name__", None) or f"{type(baseline).__name__}(...)"


def baseline_values(model, frames, n_atoms, shape, atoms=None, finite=True):
    """Predictions of a baseline for structures, or for some of their atoms.

    Parameters
    ----------
    model : object with predict, or function
    frames : sequence of ase.Atoms
    n_atoms : sequence of int
        Of each structure, for tensors of atoms.
    shape : tuple of int
        Of a tensor.
    atoms : ndarray of int or slice, default=None
        Atoms that are wanted, counted over all structures; None: tensors of structures.
    finite : bool, default=True
        Whether NaN is refused.

    Returns
    -------
    ndarray of shape (n_structures or n_atoms_wanted, 3, ..., 3)

    Raises
    ------
    TypeError, ValueError
        That names the baseline and the structure.
    """
    parts = []
    for start, part in _parts(frames):
        wanted = [shape if atoms is None else (int(n), *shape) for n in n_atoms[start : start + len(part)]]
        parts += _checked(model, _predicted(model, part), wanted, "prediction", start)
    values = np.array(parts).reshape(len(parts), *shape) if atoms is None else np.concatenate(parts)[atoms]
    finite_rows = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    bad = np.flatnonzero(~finite_rows & finite)
    if len(bad):
        where = f"structure {bad[0]}" if atoms is None else _where(np.arange(sum(n_atoms))[atoms][bad[0]], n_atoms)
        raise ValueError(
            f"baseline={named(model)} predicts NaN or infinity for {where}: leave it out, or mend the baseline"
        )
    return values


def _where(atom, n_atoms):
    ends = np.cumsum(n_atoms)
    k = int(np.searchsorted(ends, atom, side="right"))
    return f"structure {k}, atom {atom - ends[k] + n_atoms[k]}"


def baseline_forces(model: Any, frames: Any) -> list[np.ndarray]:
    """Ask for the forces of a baseline of energies, (n_atoms, 3) for each structure."""
    model = _of_frames(model)
    if hasattr(model, "predict_forces"):
        return _by_atoms(model, frames, model.predict_forces, (3,), "forces")
    if hasattr(model, "predict_derivatives"):
        return [-one for one in _by_atoms(model, frames, model.predict_derivatives, (3,), "derivatives")]
    raise _without(model, "forces", "predict_forces")


def baseline_derivatives(model: Any, frames: Any, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Ask for derivatives by the positions, (n_atoms, 3, ..., 3) for each structure, the direction last."""
    model = _of_frames(model)
    if hasattr(model, "predict_derivatives"):
        return _by_atoms(model, frames, model.predict_derivatives, (*shape, 3), "derivatives")
    if not shape and hasattr(model, "predict_forces"):
        return [-one for one in baseline_forces(model, frames)]
    raise _without(model, "derivatives by positions", "predict_derivatives")


def baseline_stress(model: Any, frames: Any) -> np.ndarray:
    """Ask for the stress of a baseline of energies, (n_structures, 3, 3)."""
    model = _of_frames(model)
    if not hasattr(model, "predict_stress"):
        raise _without(model, "stress", "predict_stress")
    parts = []
    for start, part in _parts(frames):
        found = model.predict_stress(part)
        voigt = np.shape(found) == (len(part), 6)
        parts += _checked(model, found, [(6,) if voigt else (3, 3)] * len(part), "stress", start)
    return np.array([voigt_6_to_full_3x3_stress(one) if one.ndim == 1 else one for one in parts])


def baseline_vjp(model: Any, frames: Any, cotangents: Any, shape: tuple[int, ...], per_atom: bool) -> Derivatives:
    """Vector-Jacobian product of a baseline, of its own or from the derivatives that it has.

    The strain moves the atoms of a molecule, which are all; of a crystal only the stress knows, and where the baseline
    has none, the derivatives by strain are NaN.

    Parameters
    ----------
    model : object
    frames : sequence of ase.Atoms
    cotangents : array-like, or list of array-like
        Of the shape of the predictions.
    shape : tuple of int
        Of a tensor.
    per_atom : bool

    Returns
    -------
    Derivatives
    """
    model = _of_frames(model)
    if hasattr(model, "vjp"):
        return model.vjp(frames, cotangents)
    if per_atom:
        raise _without(model, "derivatives of tensors of atoms", "vjp")
    frames, cotangents = as_list(frames), np.asarray(cotangents, dtype=float)
    every = baseline_derivatives(model, frames, shape)
    axes = len(shape)
    by_atom = [
        np.tensordot(one, c, (range(1, 1 + axes), range(axes))) for one, c in zip(every, cotangents, strict=True)
    ]
    strain = np.array([one.T @ atoms.positions for one, atoms in zip(by_atom, frames, strict=True)])
    periodic = np.array([atoms.pbc.any() for atoms in frames])
    if periodic.any():
        crystals = [frames[k] for k in np.flatnonzero(periodic)]
        strain[periodic] = np.nan
        if not shape and hasattr(model, "predict_stress") and cell_volumes(crystals).all():
            known = baseline_stress(model, crystals) * cell_volumes(crystals)[:, None, None]
            strain[periodic] = cotangents[periodic][:, None, None] * known
    return Derivatives(np.concatenate(by_atom), strain)


def _parts(frames: Any) -> Iterator[tuple[int, list]]:
    """Make lists of frames, with the number of their first; all at once if they are in memory."""
    in_memory = isinstance(frames, list | StructureBatch)
    size = max(len(frames), 1) if in_memory else _STRUCTURES_PER_PART
    for start in range(0, len(frames), size):
        yield start, as_list(frames[start : start + size], start)


def _of_frames(model):
    """Model with the methods that its last step has, if it is a pipeline."""
    return differentiable(model) if hasattr(model, "steps") and hasattr(last_step(model), "vjp") else model


def _predicted(model, part):
    return model.predict(part) if hasattr(model, "predict") else model(part)


def _by_atoms(model, frames, method, shape, what):
    parts = []
    for start, part in _parts(frames):
        parts += _checked(model, method(part), [(int(n), *shape) for n in atom_counts(part)], what, start)
    return parts


def _checked(model, found, shapes, what, start):
    """Arrays of structures, of these shapes."""
    if not hasattr(found, "__len__") or isinstance(found, dict | str):
        raise TypeError(f"baseline={named(model)}: its {what} must be an array or a list, got {type(found).__name__}")
    if len(found) != len(shapes):
        raise ValueError(f"baseline={named(model)}: its {what} has {len(found)} entries for {len(shapes)} structures")
    parts = []
    for k, (one, shape) in enumerate(zip(found, shapes, strict=True), start):
        one = as_floats(one, f"{what} of baseline={named(model)} for structure {k}")
        if one.shape != shape:
            raise ValueError(
                f"baseline={named(model)}: its {what} for structure {k} has shape {one.shape}, expected {shape}, "
                "that of the target"
            )
        parts.append(one)
    return parts


def _without(model, what, method):
    return TypeError(
        f"baseline={named(model)} has no {what}, which the model adds to its own: give it a method {method}(frames)"
    )
