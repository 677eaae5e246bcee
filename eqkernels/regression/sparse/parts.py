"""The data of a sparse fit, and their parts of equal work."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.regression.baseline import best_ridge, composition_design
from eqkernels.regression.sparse.derivatives import derivative_work
from eqkernels.regression.sparse.source import Source
from eqkernels.structures import DerivativeLabels, StructureBatch
from eqkernels.structures.labels import Labels

# A part has this many labels (or as much other work) for each sparse point: merging its factor with another one then
# costs a tenth of making it.
_LABELS_PER_POINT = 4
# But no less than this: handing a part out has a price as well.
_LABELS_PER_PART = 256
# With more labels than this for each element the baseline needs no ridge.
_LABELS_PER_ELEMENT = 500


@dataclass
class TrainingData:
    """Structures and all that is known of them.

    Attributes
    ----------
    source : Source
    labels : Labels
    blocks : dict of str to ndarray of shape (n_labels, 2 lambda + 1, multiplicity)
        Irreps of the labels.
    weight : ndarray of shape (n_structures,), or None
    derivatives : dict of str to DerivativeLabels
        ``"forces"``, ``"stress"`` and ``"derivatives"``, as far as there are any.
    known : ndarray of bool, shape (n_structures,), or None
        Which structures have a label; None: all.
    """

    source: Source
    labels: Labels
    blocks: dict[str, np.ndarray]
    weight: np.ndarray | None
    derivatives: dict[str, DerivativeLabels]
    known: np.ndarray | None = None


@dataclass
class Part:
    """Some consecutive structures and their labels.

    Attributes
    ----------
    X : StructureBatch, list of ase.Atoms or EquivariantFeatures
    start : int
        Index of the first structure.
    blocks : dict of str to ndarray of shape (n_labels, 2 lambda + 1, multiplicity)
    atoms : ndarray of int, shape (n_labels,), or None
        For per-atom targets: the atom, counted from the first atom of the part.
    weight : ndarray of shape (n_labels,), or None
    derivatives : dict of str to DerivativeLabels
        Their owners are counted from the first atom and structure of the part.
    known : ndarray of bool, shape (n_structures,), or None
        Which structures have a label; None: all.
    """

    X: StructureBatch | list | EquivariantFeatures
    start: int
    blocks: dict[str, np.ndarray]
    atoms: np.ndarray | None
    weight: np.ndarray | None
    derivatives: dict[str, DerivativeLabels] = field(default_factory=dict)
    known: np.ndarray | None = None

    def block(self, start, stop, n_atoms):
        """Take structures start .. stop - 1 of this part, in which structure k has n_atoms[k] atoms."""
        labels = slice(start, stop)
        atoms = None
        if self.atoms is not None:
            ends = np.concatenate([[0], np.cumsum(n_atoms)])
            labels = slice(*np.searchsorted(self.atoms, ends[[start, stop]]))
            atoms = self.atoms[labels] - ends[start]
        derivatives = _between(self.derivatives, start, stop, n_atoms)
        blocks, atoms, weight = self.labelled(labels, atoms)
        known = None if self.known is None else self.known[start:stop]
        return Part(self.X[start:stop], self.start + start, blocks, atoms, weight, derivatives, known)

    def labelled(self, rows, atoms):
        """Blocks, atoms and weights of some of the labels."""
        blocks = {irrep: block[rows] for irrep, block in self.blocks.items()}
        return blocks, atoms, None if self.weight is None else self.weight[rows]


def _between(derivatives, start, stop, n_atoms):
    """Take the derivatives of structures start .. stop - 1, in which structure k has n_atoms[k] atoms."""
    first, n = int(np.sum(n_atoms[:start])), int(np.sum(n_atoms[start:stop]))
    of_structures, of_atoms = (start, stop), (first, first + n)
    return {
        kind: labels.between(*(of_structures if labels.by_structure else of_atoms))
        for kind, labels in derivatives.items()
    }


class Parts:
    """Data set in parts of equal work, which depend on nothing but the data and the number of sparse points.

    Parameters
    ----------
    data : TrainingData
    model : SparseModel

    Attributes
    ----------
    derivative_totals : dict of str to ndarray of shape (3,)
        Of rows of one component of the derivatives whose weight is not zero: how many, the sums of their weights and of
        the logarithms of these.
    """

    def __init__(self, data, model):
        self.data, source, weight, derivatives = data, data.source, data.weight, data.derivatives
        ends = np.concatenate([[0], source.ends])
        atoms = data.labels.atoms
        self.label_ends = np.arange(len(ends)) if atoms is None else np.searchsorted(atoms, ends)
        counts = np.diff(self.label_ends)
        self.weight = None if weight is None else np.repeat(weight, counts)
        self.derivative_totals = {}
        for kind, known in derivatives.items():
            structures = known.owners if known.by_structure else np.searchsorted(ends, known.owners, side="right") - 1
            weights = np.ones(len(known)) if weight is None else weight[structures]
            self.derivative_totals[kind] = _totals(weights, known.directions())
        work = counts + model.work_per_center() * source.n_atoms
        work = np.cumsum(work + derivative_work(model, source.n_atoms, derivatives) if derivatives else work)
        size = max(_LABELS_PER_POINT * len(model.points), _LABELS_PER_PART) * (1 + len(derivatives))
        n_parts = max(1, round(work[-1] / size))
        inner = np.searchsorted(work, work[-1] * np.arange(1, n_parts) / n_parts) + 1
        self.edges = np.unique(np.concatenate([[0], inner, [len(source)]]))

    def __len__(self):
        return len(self.edges) - 1

    def __getitem__(self, k):
        start, stop = self.edges[k : k + 2].tolist()
        source, labels = self.data.source, slice(self.label_ends[start], self.label_ends[stop])
        atoms = self.data.labels.atoms
        if atoms is not None:
            atoms = atoms[labels] - (source.ends[start] - source.n_atoms[start])
        blocks = {irrep: block[labels] for irrep, block in self.data.blocks.items()}
        weight = None if self.weight is None else self.weight[labels]
        derivatives = _between(self.data.derivatives, start, stop, source.n_atoms)
        known = None if self.data.known is None else self.data.known[start:stop]
        return Part(source[start:stop], start, blocks, atoms, weight, derivatives, known)


def _totals(weight, counts):
    """Count the rows with a weight, and sum the weights and their logarithms; ``counts`` rows have each."""
    used, counts = weight[weight > 0], counts[weight > 0]
    return np.array([counts.sum(), counts @ used, counts @ np.log(used)])


def baseline_ridge(data, model):
    """Ridge of the baseline by the leave-one-out error, which the factors do not contain.

    Parameters
    ----------
    data : TrainingData
    model : SparseModel

    Returns
    -------
    float
    """
    source, atoms, scalars = data.source, data.labels.atoms, data.blocks.get("0e")
    if data.known is not None and not data.known.any():
        return 0.0
    if model.baseline != "composition" or scalars is None or len(scalars) > _LABELS_PER_ELEMENT * len(model.species):
        return 0.0
    structures = np.repeat(np.arange(len(source)), source.n_atoms)
    numbers, rows, groups = source.numbers, structures, np.arange(len(source))
    if atoms is not None:
        numbers, rows, groups = numbers[atoms], np.arange(len(atoms)), structures[atoms]
    known = np.isin(numbers, model.species)
    counts = np.zeros((len(groups), len(model.species)))
    np.add.at(counts, (rows[known], np.searchsorted(model.species, numbers[known])), 1.0)
    design = composition_design(counts, model.baseline, model.kernel.aggregate)
    weight = None if data.weight is None else data.weight[groups]
    if data.known is not None:
        design, scalars, groups = design[data.known], scalars[data.known], groups[data.known]
        weight = None if weight is None else weight[data.known]
    return best_ridge(design, scalars[:, 0], groups, weight)
