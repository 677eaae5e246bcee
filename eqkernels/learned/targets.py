"""Labels of a network: irreps of tensors of structures or atoms, of one property or of several."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eqkernels.regression.baseline import composition_design, fit_baseline
from eqkernels.so3 import Irrep
from eqkernels.so3.inference import SYMMETRY_TOLERANCE, infer_formula
from eqkernels.structures import read_labels

# Labels that are smaller than this part of the largest are rounding: an irrep that vanishes is not learned.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Target:
    """One irrep of one property.

    Attributes
    ----------
    name : str
        ``"property:irrep"``.
    irrep : Irrep
    values : ndarray of shape (n_samples, 2 l + 1, multiplicity)
        Without their baseline, of unit mean square (zero if they are constant).
    segments : ndarray of int, shape (n_atoms,)
        Sample to which each atom contributes; -1: none.
    row_weights : ndarray of shape (n_atoms,)
        1, or for a mean over atoms 1 / number of them.
    sample_weights : ndarray of shape (n_samples,)
        Square roots of the weights of the samples.
    per_atom : bool
        Whether samples are atoms.
    counts : ndarray of shape (n_samples,), or None
        What each sample counts as an observation (:mod:`eqkernels.learned.symmetric_samples`); None: 1.
    """

    name: str
    irrep: Irrep
    values: np.ndarray
    segments: np.ndarray
    row_weights: np.ndarray
    sample_weights: np.ndarray
    per_atom: bool
    counts: np.ndarray | None = None

    def pick(self, atoms):
        """Those samples that the given atoms belong to, the atoms counted anew."""
        kept, inverse = np.unique(self.segments[atoms], return_inverse=True)
        if len(kept) and kept[0] < 0:
            kept, inverse = kept[1:], inverse - 1
        names = ["values", "sample_weights", *(["counts"] if self.counts is not None else [])]
        picked = {name: getattr(self, name)[kept] for name in names}
        return replace(self, **picked, segments=inverse.astype(np.int64), row_weights=self.row_weights[atoms])


def read_targets(y, batch, target, baseline, aggregate, sample_weight=None, per_atom=None):
    """All irreps of the labels, ready to be fitted.

    Parameters
    ----------
    y : array-like, list of arrays, or dict of str to one of them
        As for :meth:`TensorRegressor.fit`.
    batch : StructureBatch
    target : str, CartesianTensor, dict of str to one of them, or None
        Index symmetry of the labels, or names of properties; None: found from them.
    baseline : {"composition", "mean", None}
    aggregate : {"sum", "mean"}
    sample_weight : ndarray of shape (n_structures,), default=None
    per_atom : bool, dict of str to bool, or None
        Whether labels belong to atoms; None: what the target says, or the only way in which they can be read.

    Returns
    -------
    targets : list of Target
    formulas : dict of str to str
        Symmetry of every property.
    """
    properties = y if isinstance(y, dict) else {"y": y}
    if not properties:
        raise ValueError("y is an empty dict: give at least one property, {'name': labels}")
    if not all(isinstance(name, str) for name in properties):
        raise TypeError(f"the names of the properties in y must be strings, got {list(properties)}")
    for declared, what in ((target, "target declares the symmetry"), (per_atom, "per_atom declares the kind")):
        unknown = sorted(set(declared) - set(properties)) if isinstance(declared, dict) else []
        if unknown:
            given = f"y has the properties {sorted(properties)}" if isinstance(y, dict) else "y is not a dict"
            raise ValueError(f"{what} of {', '.join(map(repr, unknown))}, but {given}")
    targets, formulas = [], {}
    for name, labels in properties.items():
        try:
            read = read_labels(labels, np.diff(batch.offsets), of_property(target, name), of_property(per_atom, name))
            if not batch.inputs:  # which may leave structures less symmetry
                warn_if_unreachable(batch, read)
            tensor, found = _read_property(name, read, batch, baseline, aggregate, sample_weight)
        except (TypeError, ValueError) as error:
            raise type(error)(f"property {name!r}: {error}" if isinstance(y, dict) else str(error)) from error
        formulas[name] = tensor.formula
        targets += found
    return targets, formulas


def warn_if_unreachable(batch, labels):
    """Warn of labels that the symmetry of their structures forbids."""
    from eqkernels.symmetry import reach  # which imports models, for other checks

    reach.warn_if_unreachable(batch, labels)


def known_symmetries(y, declared, found):
    """Declare the symmetries of labels that are like earlier ones.

    Parameters
    ----------
    y : array-like, or dict of them
    declared : str, CartesianTensor, dict of str to one of them, or None
        By the user.
    found : dict of str to str
        Of the earlier labels.

    Returns
    -------
    str, CartesianTensor or dict of str to one of them
    """
    if declared is not None and not isinstance(declared, dict):
        return declared
    names = y if isinstance(y, dict) else {"y"}
    unknown = [name for name in names if name not in found]
    if found and unknown:
        raise ValueError(f"y has the properties {sorted(names)}, earlier labels {sorted(found)}: use fit for others")
    return {name: symmetry for name, symmetry in {**found, **(declared or {})}.items() if name in names}


def of_property(declared, name):
    """Look up what is declared of a property, for all or in a dict; None if nothing is."""
    return declared.get(name) if isinstance(declared, dict) else declared


def _read_property(name, labels, batch, baseline, aggregate, sample_weight):
    tensor = labels.tensor
    if tensor.asymmetry(labels.values) > SYMMETRY_TOLERANCE:
        raise ValueError(
            f"y breaks the declared symmetry {tensor.formula!r}: state the symmetry that it has (inferred: "
            f"target={infer_formula(labels.values)!r})"
        )
    per_atom = labels.per_atom
    structures = batch.structure_of_atom
    segments = structures
    if per_atom:
        segments = np.full(batch.n_atoms, -1)
        segments[labels.atoms] = np.arange(len(labels.atoms))
    mean = aggregate == "mean" and not per_atom
    row_weights = 1.0 / np.diff(batch.offsets)[structures] if mean else np.ones(batch.n_atoms)
    weights = np.ones(len(labels.values))
    if sample_weight is not None:
        weights = np.sqrt(sample_weight)[structures[labels.atoms] if per_atom else slice(None)]
    size, found = np.abs(labels.values[weights > 0]).max(initial=0.0), []
    for key, block in tensor.to_irreps(labels.values).items():
        if key == "0e" and baseline is not None:
            groups = structures[labels.atoms] if per_atom else None
            block = _without_baseline(block, batch, segments, baseline, aggregate, groups, weights)
        scale = np.sqrt(np.mean(block**2) if sample_weight is None else _weighted_square(block, weights**2))
        values = block / scale if scale > _ROUNDING * size else np.zeros_like(block)
        found.append(Target(f"{name}:{key}", Irrep.parse(key), values, segments, row_weights, weights, per_atom))
    return tensor, found


def _weighted_square(block, weights):
    """Mean square of the samples by their weights; none may have any, if labels are those of other atoms."""
    total = weights.sum()
    return np.sum(weights * np.mean(block**2, axis=(1, 2))) / total if total > 0 else 0.0


def _without_baseline(block, batch, segments, baseline, aggregate, groups, weights):
    labelled = segments >= 0
    species, columns = np.unique(batch.numbers, return_inverse=True)
    counts = np.zeros((len(block), len(species)))
    np.add.at(counts, (segments[labelled], columns[labelled]), 1.0)
    design = composition_design(counts, baseline, aggregate)
    rest = block[:, 0] - design @ fit_baseline(design, block[:, 0], groups, weights**2)
    # what is left of labels that the baseline explains is rounding, not a target
    rest[np.abs(rest) < _ROUNDING * np.abs(block).max(initial=0.0)] = 0.0
    return rest[:, None]
