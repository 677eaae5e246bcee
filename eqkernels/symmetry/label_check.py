"""Labels that do not follow their own structures: in another frame, order, handedness, parity, unit or sign.

An equivariant model predicts the label of each structure from those of the others, by least absolute deviations. Labels
far from their predictions are left out, the model is fitted again, and each of them is compared with what the
usual mistakes would make of the prediction.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from eqkernels._numeric import check_positive
from eqkernels.so3 import CartesianTensor
from eqkernels.so3.cartesian import PSEUDO
from eqkernels.structures import as_list, atom_counts, read_labels
from eqkernels.symmetry.label_hypotheses import fixed_hypotheses, rotated, scaled
from eqkernels.symmetry.label_predictions import LabelPredictions

# Fewer do not show what is usual.
_FEWEST = 20
# Of the norm of a label; genuine antisymmetric parts are rarely smaller.
_ASYMMETRIC = 0.01
# A mistake explains a label if it takes away this part of the deviation, and the rest is below this part of the
# threshold. Without an explanation, deviations are reported from this multiple of the threshold.
_EXPLAINED, _REST, _UNEXPLAINED = 0.35, 0.5, 4.0
# A rotation or a factor is fitted, so that many labels come closer to their predictions: it takes a larger deviation.
_FREE = 1.6
# All labels are compared with other readings where a part of the spread as large as this is not learned; another
# reading has at most half of the error. So many structures are enough to see it.
_UNRELATED, _BETTER, _ENOUGH = 0.3, 0.5, 150


@dataclass(frozen=True)
class LabelFinding:
    """A label that breaks the symmetry of its structure.

    Attributes
    ----------
    structure : int or None
        Index of the structure; None: all of them.
    atom : int or None
        Index of the atom; None: the structure, or all of its atoms.
    kind : str
        "sign", "unit", "transposed", "component order", "Voigt order", "mirrored", "rotated", "parity",
        "index symmetry" or "unexplained".
    size : float
        Deviation from the prediction, in multiples of the usual error of structures like it; for all structures the
        factor by which the error becomes smaller; for "index symmetry" the part of the norm that breaks it.
    text : str
        What the label looks like.
    """

    structure: int | None
    atom: int | None
    kind: str
    size: float
    text: str

    def __str__(self):
        where = "all structures" if self.structure is None else f"structure {self.structure}"
        where += "" if self.atom is None else f", atom {self.atom}"
        return f"{where}: {self.text}"


class LabelReport(list):
    """List of findings that prints one on each line.

    Examples
    --------
    >>> print(LabelReport([LabelFinding(3, None, "sign", 80.0, "the sign is reversed")]))
    structure 3: the sign is reversed
    """

    def __str__(self):
        return "\n".join(map(str, self)) or "no label breaks the symmetry of its structure"


def check_labels(
    frames: Sequence[Atoms],
    y: Any,
    target: str | CartesianTensor | None = None,
    *,
    per_atom: bool | None = None,
    descriptor: Any = None,
    aggregate: str = "sum",
    threshold: float = 5.0,
) -> LabelReport:
    """Find labels in another frame, order of components, handedness, parity, unit or sign than the others.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        At least 20, of which most resemble others of them.
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        Labels, as for ``fit``.
    target : str or CartesianTensor, default=None
        The property or its index symmetry; None: found from y.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.
    descriptor : transformer, default=None
        Features of the model; None: ``LambdaSOAP(cutoff=6.0, n_max=4, l_max=3)``.
    aggregate : {"sum", "mean"}, default="sum"
        Mean for properties that do not grow with the structure, such as a dielectric tensor.
    threshold : float, default=5.0
        How far a label may deviate from its prediction, in multiples of the usual error of structures like it. Smaller
        values find smaller mistakes, and sooner call a structure wrong that is only unlike the others.

    Returns
    -------
    LabelReport
        A list of :class:`LabelFinding`, those of all structures first; empty if nothing was found.

    Raises
    ------
    ValueError
        With fewer than 20 structures, or labels that cannot be read.

    See Also
    --------
    eqkernels.symmetry.check_equivariance : The same question for models.

    Notes
    -----
    What cannot be seen in the data is not found: a sign or a unit that is wrong in all labels, the transposition of all
    polar tensors, or the inversion of a tensor of even rank, which does not change it. A single vector, or tensor of
    rank 2, that was mirrored cannot be told from a rotated one. A mistake is found where it moves a label by more than
    ``threshold`` times the error of the model.

    Examples
    --------
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> dipole = data.dipole[:100].copy()
    >>> dipole[7] = dipole[7, [1, 2, 0]]
    >>> print(check_labels(data.frames[:100], dipole, "dipole"))
    structure 7: components in the order y z x (e3nn) instead of x y z
    """
    check_positive(threshold, "threshold")
    frames = as_list(frames)
    if len(frames) < _FEWEST:
        raise ValueError(f"frames are {len(frames)} structures: at least {_FEWEST} are needed to know what is usual")
    labels = read_labels(y, atom_counts(frames), target, per_atom)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of models that are fitted to wrong labels
        model = LabelPredictions(frames, labels, descriptor, aggregate)
        report = LabelReport(_asymmetric(model, labels.values))
        model.predict(threshold)
        of_all = _of_all(model, labels.values)
        if of_all:
            model.predict(threshold)
        report += of_all
        for structure in model.suspects:
            report += _of_structure(model, int(structure), threshold)
    return report


def _asymmetric(model, given):
    """Labels that do not have the index symmetry which is declared, or that the others have."""
    for row, (one, kept) in enumerate(zip(given, model.values, strict=True)):
        broken = float(np.linalg.norm(one - kept)) / max(float(np.linalg.norm(one)), 1e-300)
        if broken > _ASYMMETRIC:
            text = f"{broken:.1%} of its norm breaks the index symmetry {model.tensor.formula!r}"
            yield LabelFinding(int(model.structures[row]), _atom(model, row), "index symmetry", broken, text)


def _atom(model, row):
    return None if model.atoms[row] is None else int(model.atoms[row])


def _of_all(model, given):
    """Mistake that all labels share, which is undone in the model."""
    tensor, values = model.tensor, model.values
    if tensor.rank == 0 or model.relative_error() < _UNRELATED:
        return []
    kept = np.setdiff1d(np.arange(len(model.n_atoms)), model.suspects)
    kept = np.sort(np.random.default_rng(0).permutation(kept)[:_ENOUGH])
    error = model.read_as(tensor, values, kept)
    readings = [(one.kind, one.text, tensor, one.undo(values)) for one in _fixed(tensor)]
    readings = [reading for reading in readings if reading[0] not in ("sign", "transposed")]
    other = CartesianTensor(tensor.formula, axial="" if tensor.axial else PSEUDO)
    text = f"these are {_described(other)}, not {_described(tensor)}"
    readings.append(("parity", text, other, given))
    errors = [model.read_as(reading[2], reading[3], kept) for reading in readings]
    best = int(np.argmin(errors))
    if errors[best] > _BETTER * error:
        model.set_target(tensor)
        return []
    kind, text, tensor, model.values = readings[best]
    model.set_target(tensor)
    return [LabelFinding(None, None, kind, error / max(errors[best], 1e-300), text)]


def _described(tensor):
    if tensor.axial == PSEUDO:
        return f"{'pseudovectors' if tensor.rank == 1 else f'pseudotensors {tensor.formula!r}'}"
    return f"tensors {tensor.formula!r} with {f'{tensor.axial!r} axial' if tensor.axial else 'no axial index'}"


def _of_structure(model, structure, threshold):
    """Explain one structure that is far off, or its atoms."""
    known = np.isfinite(model.predicted.reshape(len(model.predicted), -1)).all(axis=1)
    rows = np.flatnonzero((model.structures == structure) & known)
    far = [row for row in rows if model.misfit(np.array([row]), model.values[[row]]) > threshold**2]
    found = _explained(model, rows, threshold) if len(far) > 1 or len(rows) == 1 else None
    if found is None and model.atoms[rows[0]] is not None:
        of_atoms = [(row, _explained(model, rows[k : k + 1], threshold)) for k, row in enumerate(rows)]
        findings = [LabelFinding(structure, _atom(model, row), *one) for row, one in of_atoms if one is not None]
        if findings:
            return findings
    if found is None:
        size = model.misfit(rows, model.values[rows]) ** 0.5
        if size < _UNEXPLAINED * threshold:
            return []
        found = ("unexplained", size, f"{size:.0f} times as far from its prediction as is usual")
    return [LabelFinding(structure, None, *found)]


def _explained(model, rows, threshold):
    """Kind, size and text of the simplest mistake that explains some rows; None if there is none."""
    values = model.values[rows]
    before = model.misfit(rows, values)
    if before < threshold**2:
        return None
    allowed = min(_EXPLAINED**2 * before, (_REST * threshold) ** 2)
    misfits = [(model.misfit(rows, one.undo(values)), one) for one in _hypotheses(model, rows, threshold)]
    least = min(misfit for misfit, _ in misfits)
    if least > allowed:
        return None
    # of those that are as good as the best, the first is the simplest
    one = next(one for misfit, one in misfits if misfit <= min(allowed, 4 * least + 4))
    return one.kind, before**0.5, one.text


def _fixed(tensor):
    return fixed_hypotheses(tensor.rank, tensor.rank == 2 and "=" in tensor.formula, len(tensor.axial))


def _hypotheses(model, rows, threshold):
    """Mistakes that these rows may have, the simplest first."""
    values, tensor = model.values[rows], model.tensor
    yield from _fixed(tensor)
    if model.misfit(rows, values) < (_FREE * threshold) ** 2:
        return
    factor = scaled(values, model.predicted[rows])
    if factor is not None:
        yield factor
    if tensor.rank > 0:
        odd = (tensor.rank - len(tensor.axial)) % 2 == 1
        for improper in (False, True)[: 1 + odd]:
            one = rotated(values, lambda turned: model.misfit(rows, turned), improper)
            if one is not None:
                yield one
