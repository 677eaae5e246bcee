"""Labels that no model of positions and species can reach: the symmetry of their structures forbids a part of them.

The part is y - mean over g of D(g) y. Structures that cannot be symmetric are passed over: an operation takes each atom
to a place as far from the centroid, so that atoms without a partner of their element at their distance lie, with the
centroid, in its axis or plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from eqkernels._warnings import warn
from eqkernels.structures import StructureBatch
from eqkernels.structures.labels import Labels
from eqkernels.symmetry.allowed import symmetrize
from eqkernels.symmetry.explanations import Explanation, explain_zero
from eqkernels.symmetry.space_groups import point_group

# Angstrom: structures that are less exact do not make features vanish.
_EXACT = 1e-3
# So many structures are looked at, in equal steps, and so many groups of molecules and of crystals are found.
_MOST_TESTED, _MOST_MOLECULES, _MOST_CRYSTALS, _MOST_ATOMS = 500, 100, 50, 60
# A part as large as this, relative to the spread of the labels, is no rounding of a label.
_MATTERS = 0.05


@dataclass(frozen=True)
class UnreachablePart:
    """Part of a label that the symmetry of its structure forbids.

    Attributes
    ----------
    structure : int
    size : float
        Norm of the part, in the unit of the labels; of labels of atoms, the largest.
    relative : float
        The same over the spread of all labels.
    """

    structure: int
    size: float
    relative: float


def unreachable_parts(batch: StructureBatch, labels: Labels) -> Iterator[UnreachablePart]:
    """Parts of labels that symmetry forbids, of the structures that are looked at.

    Parameters
    ----------
    batch : StructureBatch
    labels : Labels

    Yields
    ------
    UnreachablePart
        Those larger than a twentieth of the spread.
    """
    if not labels.per_atom and labels.tensor.rank == 0 and not labels.tensor.axial:
        return  # invariants of structures are never forbidden
    given, spread = labels.given(), _spread(labels)
    for k in _symmetric_candidates(batch):
        value = np.asarray(given[k], dtype=float)
        if not np.isfinite(value).all():
            continue
        try:
            allowed = symmetrize(batch[k], value, labels.tensor, per_atom=labels.per_atom, tolerance=_EXACT)
        except ValueError:  # of a structure that has no group to find, such as one with two atoms at one place
            continue
        difference = (value - allowed).reshape(len(value) if labels.per_atom else 1, -1)
        size = float(np.linalg.norm(difference, axis=1).max())
        if size > _MATTERS * spread:
            yield UnreachablePart(k, size, size / spread)


def warn_if_unreachable(batch: StructureBatch, labels: Labels) -> None:
    """Warn if labels have parts that the symmetry of their structures forbids, with the largest of them.

    Parameters
    ----------
    batch : StructureBatch
    labels : Labels
    """
    parts = list(unreachable_parts(batch, labels))
    if parts:
        warn(description(batch, labels, parts))


def description(batch: StructureBatch, labels: Labels, parts: list[UnreachablePart]) -> str:
    """Sentence about the largest part, and how many there are.

    Parameters
    ----------
    batch : StructureBatch
    labels : Labels
    parts : list of UnreachablePart
        Not empty.

    Returns
    -------
    str
    """
    worst = max(parts, key=lambda part: part.size)
    atoms = batch[worst.structure]
    whose = "labels of the atoms" if labels.per_atom else "label"
    have = "have" if labels.per_atom else "has"
    number = f"; so have {len(parts) - 1} more of the structures that were looked at" if len(parts) > 1 else ""
    return (
        f"the {whose} of structure {worst.structure} ({atoms.symbols}) {have} a part "
        f"of {worst.size:.3g}, {worst.relative:.0%} of the spread, that its symmetry forbids: {_reason(atoms, labels)}"
        f"{number}. No model of positions and species learns it: see eqkernels.symmetry.explain_zero, check the label, "
        "or add an input that breaks the symmetry"
    )


def _reason(atoms, labels):
    if labels.per_atom:
        return f"tensors of equivalent atoms in {point_group(atoms, tolerance=_EXACT).schoenflies} are related"
    explanation = explain_zero(atoms, labels.tensor, tolerance=_EXACT)
    assert isinstance(explanation, Explanation)
    names = " and ".join(map(str, explanation.operations))
    left = (
        "nothing" if explanation.zero else f"{explanation.allowed.dimension} of {explanation.n_components} components"
    )
    return f"in {explanation.allowed.group.schoenflies}, {names} leave{'s' * (' and ' not in names)} {left}"


def _spread(labels):
    """Root mean square of what is not the same in all orientations; at least a trace of the labels' size."""
    values = labels.tensor.to_irreps(labels.values)
    square = 0.0
    for key, block in values.items():
        centered = block - block.mean(axis=0) if key == "0e" else block
        square += float(np.sum(centered**2)) / len(block)
    return max(square**0.5, 1e-6 * float(np.abs(labels.values).max(initial=0.0)), 1e-300)


def _symmetric_candidates(batch):
    """Structures that may be symmetric."""
    n = len(batch.offsets) - 1
    crystals = _MOST_CRYSTALS if find_spec("spglib") is not None else 0
    molecules = _MOST_MOLECULES
    for k in range(0, n, max(1, -(-n // _MOST_TESTED))):
        part = slice(batch.offsets[k], batch.offsets[k + 1])
        if part.stop - part.start > _MOST_ATOMS or not (molecules or crystals):
            continue
        if batch.pbc[k].sum() > 1 and crystals:
            crystals -= 1
            yield k
        elif not batch.pbc[k].any() and molecules and may_be_symmetric(batch.positions[part], batch.numbers[part]):
            molecules -= 1
            yield k


def may_be_symmetric(positions: NDArray[np.float64], numbers: NDArray[np.int64], tolerance: float = _EXACT) -> bool:
    """Whether a molecule may have an operation but the identity.

    Parameters
    ----------
    positions : ndarray of shape (n_atoms, 3)
    numbers : ndarray of int, shape (n_atoms,)
    tolerance : float, default=1e-3

    Returns
    -------
    bool
        False only where there is none.
    """
    vectors = positions - positions.mean(axis=0)
    distances = np.linalg.norm(vectors, axis=1)
    order = np.lexsort((distances, numbers))
    near = (np.diff(distances[order]) < 2 * tolerance) & (np.diff(numbers[order]) == 0)
    paired = np.zeros(len(numbers), dtype=bool)
    paired[order[1:][near]] = paired[order[:-1][near]] = True
    alone = vectors[~paired]
    # atoms without a partner stay where they are: three directions of them leave the identity only
    return len(alone) < 3 or bool(np.linalg.svd(alone, compute_uv=False)[2] < tolerance * np.sqrt(len(alone)))
