"""Labels of a fit to derivatives: some structures, or all, may have no tensor of their own.

The dipole of a crystal has no value, but derivatives; of a molecule that was displaced atom by atom both may be known.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqkernels._numeric import as_floats, is_missing
from eqkernels.regression.baseline_values import baseline_derivatives, baseline_forces, baseline_stress
from eqkernels.regression.sparse.derivatives import check_derivatives_possible, read_forces_and_stress
from eqkernels.so3 import CartesianTensor, cartesian_tensor, infer_formula
from eqkernels.structures import DerivativeLabels, StructureBatch, check_sum_rules, read_derivatives, read_labels
from eqkernels.structures.derivative_labels import to_voigt
from eqkernels.structures.labels import Labels, of_atoms


def read_partial_labels(y, n_atoms, target, per_atom, derivatives):
    """Labels of structures, of which some may be missing.

    Parameters
    ----------
    y : array-like or None
        As for :func:`read_labels`, with NaN or None for structures without a label; None: all are.
    n_atoms : ndarray of int, shape (n_structures,)
    target, per_atom
        As for :func:`read_labels`.
    derivatives : sequence or None
        Of which the rank of the tensor is found where neither y nor target say it.

    Returns
    -------
    labels : Labels
        Zeros where they are missing.
    known : ndarray of bool, shape (n_structures,), or None
        Which structures have a label; None: all.
    """
    y, known = _without_missing(y, len(n_atoms))
    if known is None:
        return read_labels(y, n_atoms, target, per_atom), None
    if known.any():
        labels = read_labels(y, n_atoms[known], target, per_atom)
        if labels.per_atom:
            return read_labels(y, n_atoms, target, per_atom), None  # is refused
        values = np.zeros((len(n_atoms), *labels.values.shape[1:]))
        values[known] = labels.values
        return Labels(values, None, n_atoms, labels.tensor), known
    if of_atoms(target, per_atom):
        raise ValueError("derivatives are those of tensors of structures: per_atom=True, or target, says otherwise")
    tensor = _tensor_of(derivatives, n_atoms) if target is None else cartesian_tensor(target)
    return Labels(np.zeros((len(n_atoms), *tensor.shape)), None, n_atoms, tensor), known


def _without_missing(y, n):
    """Entries of y that are there, and which they are; None: all."""
    if y is None:
        return None, np.zeros(n, dtype=bool)
    entries = list(y) if isinstance(y, list | tuple) else np.asarray(y)
    if len(entries) != n:
        return y, None
    known = np.array([not _missing(one) for one in entries], dtype=bool)
    if known.all():
        return y, None
    return entries[known] if isinstance(entries, np.ndarray) else [entries[k] for k in np.flatnonzero(known)], known


def _missing(entry):
    if is_missing(entry):
        return True
    try:
        return bool(np.isnan(as_floats(entry, "y")).all())
    except (TypeError, ValueError):
        return False  # is refused where it is read


def _tensor_of(derivatives, n_atoms):
    """Tensor whose derivatives these are; a scalar for forces alone."""
    if derivatives is None:
        return CartesianTensor("")
    values = _by_direction(read_derivatives(derivatives, n_atoms))
    return CartesianTensor(infer_formula(values[np.isfinite(values.reshape(len(values), -1)).all(axis=1)]))


def _by_direction(values):
    """Make of derivatives (n_atoms, 3, ..., 3) tensors, one for each atom and direction in which it moves."""
    return np.moveaxis(values, -1, 1).reshape(3 * len(values), *values.shape[1:-1])


def read_all_derivatives(source, labels, known, others, project, charges=None):
    """Check forces, stress and derivatives.

    Parameters
    ----------
    source : Source
    labels : Labels
    known : ndarray of bool or None
        From :func:`read_partial_labels`.
    others : tuple
        Forces, stress and derivatives, as for ``SparseTensorGPR.fit``, or None.
    project : callable
        Takes tensors and their name, and returns them with the symmetry of the target.
    charges : ndarray of shape (n_structures,), default=None
        Total charges of the structures, if the model knows of them: dipoles of ions depend on the origin.

    Returns
    -------
    dict of str to DerivativeLabels
        ``"forces"``, ``"stress"`` and ``"derivatives"``, as far as any are known.
    """
    forces, stress, derivatives = others
    if derivatives is None:
        return read_forces_and_stress(source, forces, stress, labels.per_atom)
    check_derivatives_possible(source, labels.per_atom)
    if labels.tensor.rank == 0 and forces is not None:
        raise ValueError("derivatives of a scalar are minus its forces: state only forces or derivatives")
    values = read_derivatives(derivatives, source.n_atoms, labels.tensor.rank)
    tensors = labels.values if known is None else np.where(_spread(known, labels.values), labels.values, np.nan)
    neutral = values, tensors
    if charges is not None and charges.any() and labels.tensor.rank == 1 and not labels.tensor.axial:
        neutral = _without_charges(source, values, tensors, charges)
    check_sum_rules(neutral[0], source.n_atoms, lambda picked: _batch(source, picked), neutral[1])
    found = read_forces_and_stress(source, forces, stress, False)
    own = _of_tensor(values, labels.tensor, project)
    return {**found, **{kind: one for kind, one in own.items() if len(one)}}


def _without_charges(source, values, tensors, charges):
    """Dipoles and their derivatives without those of the total charges, which are in equal parts on the atoms."""
    shares = np.repeat(charges / np.maximum(source.n_atoms, 1), source.n_atoms)
    ions, tensors = np.flatnonzero(charges), tensors.copy()
    batch = _batch(source, ions)
    means = [batch.positions[a:b].mean(axis=0) for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)]
    tensors[ions] -= charges[ions, None] * np.reshape(means, (-1, 3))
    return values - shares[:, None, None] * np.eye(3), tensors


def _of_tensor(values, tensor, project):
    """Labels of the irreps of a tensor, or of a scalar as forces."""
    if tensor.rank == 0:
        owners = np.flatnonzero(np.isfinite(values).any(axis=1))
        return {"forces": DerivativeLabels(-values[owners], owners)}
    flat = _irreps_of_derivatives(values, tensor, lambda tensors: project(tensors, "derivatives"))
    owners = np.flatnonzero(np.isfinite(flat[:, :, 0]).any(axis=1))
    return {"derivatives": DerivativeLabels(flat[owners], owners)}


def _irreps_of_derivatives(values, tensor, project):
    """Irreps of derivatives (n_atoms, 3, ..., 3), one after the other, (n_atoms, 3, n_components); NaN if unknown."""
    tensors = _by_direction(values)
    there = np.isfinite(tensors.reshape(len(tensors), -1)).all(axis=1)
    flat = np.full((len(tensors), sum(multiplicity * irrep.dim for multiplicity, irrep in tensor.irreps)), np.nan)
    if there.any():
        blocks = tensor.to_irreps(project(tensors[there]))
        flat[there] = np.concatenate([block.reshape(len(block), -1) for block in blocks.values()], axis=1)
    return flat.reshape(len(values), 3, -1)


def minus_baseline_derivatives(model, frames, n_atoms, derivatives, tensor, project):
    """Labels of derivatives minus those of a baseline, which is asked for structures with labels alone.

    Parameters
    ----------
    model : object
        The baseline.
    frames : sequence of ase.Atoms
    n_atoms : ndarray of int, shape (n_structures,)
    derivatives : dict of str to DerivativeLabels
    tensor : CartesianTensor
    project : callable
        As of :func:`read_all_derivatives`.

    Returns
    -------
    dict of str to DerivativeLabels
    """
    rest, ends = {}, np.cumsum(n_atoms)
    for kind, labels in derivatives.items():
        structures = labels.owners if kind == "stress" else np.searchsorted(ends, labels.owners, side="right")
        picked, place = np.unique(structures, return_inverse=True)
        some = [frames[int(k)] for k in picked]
        if kind == "stress":
            rest[kind] = replace(labels, values=labels.values - to_voigt(baseline_stress(model, some)))
            continue
        first = np.cumsum(n_atoms[picked]) - n_atoms[picked]
        rows = first[place] + labels.owners - (ends - n_atoms)[structures]
        if kind == "forces":
            values = np.concatenate(baseline_forces(model, some))
        else:
            every = np.concatenate(baseline_derivatives(model, some, tensor.shape))
            values = _irreps_of_derivatives(every, tensor, lambda one: project(one, "derivatives of the baseline"))
        rest[kind] = replace(labels, values=labels.values - values[rows])
    return rest


def _spread(known, values):
    return known.reshape(-1, *[1] * (values.ndim - 1))


def _batch(source, picked):
    part = source[picked]
    return part if isinstance(part, StructureBatch) else StructureBatch.from_frames(part, quiet=True)
