"""The map of a sparse fit: structures and labels in, triangular factors out, block by block within a memory budget."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from eqkernels._ranges import structure_blocks
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.regression.base import labelled_rows
from eqkernels.regression.baseline import best_ridge, composition_design
from eqkernels.regression.sparse.derivatives import COMPONENTS, derivative_rows, derivative_work, factor_key
from eqkernels.regression.sparse.memory import centers_of_block
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.structures import DerivativeLabels, StructureBatch, atom_counts

# Bytes of one kernel element: the kernel, its modulus, a copy in the order of the factor, an update.
_BYTES_OF_KERNEL = 4 * 8
# A part has this many labels (or as much other work) for each sparse point: merging its factor with another one then
# costs a tenth of making it.
_LABELS_PER_POINT = 4
# But no less than this: handing a part out has a price as well.
_LABELS_PER_PART = 256
# With more labels than this for each element the baseline needs no ridge.
_LABELS_PER_ELEMENT = 500


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
        For labels of atoms: the atom, counted from the first atom of the part.
    weight : ndarray of shape (n_labels,), or None
    derivatives : dict of str to DerivativeLabels
        ``"forces"`` and ``"stress"``, their owners counted from the first atom and structure of the part.
    """

    X: StructureBatch | list | EquivariantFeatures
    start: int
    blocks: dict[str, np.ndarray]
    atoms: np.ndarray | None
    weight: np.ndarray | None
    derivatives: dict[str, DerivativeLabels] = field(default_factory=dict)

    def block(self, start, stop, n_atoms):
        """Take structures start .. stop - 1 of this part, in which structure k has n_atoms[k] atoms."""
        labels = slice(start, stop)
        atoms = None
        if self.atoms is not None:
            ends = np.concatenate([[0], np.cumsum(n_atoms)])
            labels = slice(*np.searchsorted(self.atoms, ends[[start, stop]]))
            atoms = self.atoms[labels] - ends[start]
        derivatives = _between(self.derivatives, start, stop, n_atoms)
        return Part(self.X[start:stop], self.start + start, *self._labels(labels, atoms), derivatives)

    def _labels(self, rows, atoms):
        blocks = {irrep: block[rows] for irrep, block in self.blocks.items()}
        return blocks, atoms, None if self.weight is None else self.weight[rows]


def _between(derivatives, start, stop, n_atoms):
    """Take the derivatives of structures start .. stop - 1, in which structure k has n_atoms[k] atoms."""
    first, n = int(np.sum(n_atoms[:start])), int(np.sum(n_atoms[start:stop]))
    bounds = {"forces": (first, first + n), "stress": (start, stop)}
    return {kind: labels.between(*bounds[kind]) for kind, labels in derivatives.items()}


class Parts:
    """Data set in parts of equal work, which depend on nothing but the data and the number of sparse points.

    Parameters
    ----------
    source : Source
    labels : Labels
    blocks : dict of str to ndarray of shape (n_labels, 2 lambda + 1, multiplicity)
    weight : ndarray of shape (n_structures,), or None
    job : FoldJob
    derivatives : dict of str to DerivativeLabels
        ``"forces"`` and ``"stress"``, as far as there are any.

    Attributes
    ----------
    totals : ndarray of shape (3,)
        Of labels whose weight is not zero: how many, the sums of their weights and of the logarithms of these.
    derivative_totals : dict of str to ndarray of shape (3,)
        The same for each component of the derivatives.
    """

    def __init__(self, source, labels, blocks, weight, job, derivatives):
        self.source, self.labels, self.blocks, self.derivatives = source, labels, blocks, derivatives
        ends = np.concatenate([[0], source.ends])
        per_atom = labels.atoms is not None
        self.label_ends = np.searchsorted(labels.atoms, ends) if per_atom else np.arange(len(ends))
        counts = np.diff(self.label_ends)
        self.weight = None if weight is None else np.repeat(weight, counts)
        self.totals = _totals(np.ones(counts.sum()) if weight is None else self.weight)
        self.derivative_totals = {}
        for kind, given in derivatives.items():
            structures = np.searchsorted(ends, given.owners, side="right") - 1 if kind == "forces" else given.owners
            weights = np.ones(len(given)) if weight is None else weight[structures]
            self.derivative_totals[kind] = COMPONENTS[kind] * _totals(weights)
        work = counts + job.work_per_center() * source.n_atoms
        work = np.cumsum(work + derivative_work(job, source.n_atoms, derivatives) if derivatives else work)
        size = max(_LABELS_PER_POINT * len(job.points["species"]), _LABELS_PER_PART) * (1 + len(derivatives))
        n_parts = max(1, round(work[-1] / size))
        inner = np.searchsorted(work, work[-1] * np.arange(1, n_parts) / n_parts) + 1
        self.edges = np.unique(np.concatenate([[0], inner, [len(source)]]))

    def __len__(self):
        return len(self.edges) - 1

    def __getitem__(self, k):
        start, stop = self.edges[k : k + 2]
        labels = slice(self.label_ends[start], self.label_ends[stop])
        atoms = self.labels.atoms
        if atoms is not None:
            atoms = atoms[labels] - (self.source.ends[start] - self.source.n_atoms[start])
        blocks = {irrep: block[labels] for irrep, block in self.blocks.items()}
        weight = None if self.weight is None else self.weight[labels]
        derivatives = _between(self.derivatives, int(start), int(stop), self.source.n_atoms)
        return Part(self.source[int(start) : int(stop)], int(start), blocks, atoms, weight, derivatives)


def _totals(weight):
    used = weight[weight > 0]
    return np.array([len(used), used.sum(), np.log(used).sum()])


@dataclass
class FoldJob:
    """What turns a part into triangular factors of the rows of its labels.

    The columns of the rows are: kernels with the sparse points; the standard deviation of the label by the prior, whose
    sum of squares is the trace of the full kernel matrix; baseline; labels. Forces and stress, derivatives of scalars,
    have factors of their own with the same columns, of which those of prior and baseline are zero: the composition does
    not change, and what sparse environments leave out is told from energies alone.

    Attributes
    ----------
    descriptor : transformer or None
        Fitted; None where X are features.
    kernel : TensorKernel
    points : dict
        Sparse environments, arguments of EquivariantFeatures.
    species : ndarray of int
        Species of the baseline.
    baseline : {"composition", "mean", None}
    pivots : dict of str to ndarray of int
        For each irrep the components of the sparse points that do not depend on others, in the order of the columns.
    multiplicities : dict of str to int
        How often the target has each irrep.
    environment_size : int
        Features of one environment, in all irreps and components that the descriptor makes.
    memory : float
        Bytes for the sparse points and the arrays of one block.
    """

    descriptor: object
    kernel: TensorKernel
    points: dict
    species: np.ndarray
    baseline: str | None
    pivots: dict[str, np.ndarray]
    multiplicities: dict[str, int]
    environment_size: int
    memory: float

    def size(self, irrep):
        """Count the columns of the factor of an irrep: kernels, prior, baseline, labels."""
        return self.n_kernel(irrep) + 1 + self.n_baseline(irrep) + self.multiplicities[irrep]

    def n_kernel(self, irrep):
        """Count the kernel columns: at most sparse points times 2 lambda + 1."""
        return len(self.pivots[irrep])

    def n_baseline(self, irrep):
        """Count the baseline columns: none but for scalars."""
        if irrep != "0e" or self.baseline is None:
            return 0
        return 1 if self.baseline == "mean" else len(self.species)

    def summary(self):
        """Sizes, in words."""
        size = sum(4 * self.size(irrep) ** 2 for irrep in self.multiplicities) / 2**30
        return (
            f"{self.bytes_of_points() / 2**30:.3g} GiB; factors of {size:.3g} GiB; blocks of "
            f"{self.centers_per_block()} centers and {self.labels_per_block()} labels"
        )

    def work_per_center(self):
        """Work of the kernels of a center, in units of the work of folding a label."""
        widths = [self.points["blocks"][irrep].shape[2] / max(self.n_kernel(irrep), 1) for irrep in self.multiplicities]
        return min(widths) / len(self.species)

    def bytes_of_points(self):
        """Bytes of the features of the sparse points."""
        return sum(block.nbytes for block in self.points["blocks"].values())

    def room(self):
        """Bytes for the arrays of one block beside the sparse points."""
        return max(self.memory - self.bytes_of_points(), 0.25 * self.memory)

    def centers_per_block(self):
        """How many centers have their features in memory at once."""
        return centers_of_block(self.environment_size, self.room())

    def labels_per_block(self):
        """How many labels have their kernels in memory at once."""
        width = max(len(self.points["species"]) * (2 * int(irrep[:-1]) + 1) ** 2 for irrep in self.multiplicities)
        return max(1, int(0.3 * self.room() / (_BYTES_OF_KERNEL * width)))

    def __call__(self, part):
        """Fold a part: data of the factor of each irrep, and of forces and stress as far as there are any."""
        factors = {irrep: TriangularFactor(self.size(irrep)) for irrep in self.multiplicities}
        points = EquivariantFeatures.of_checked(**self.points)
        for block in self._blocks(part):
            features = self._features(block)
            size = self.labels_per_block()
            for start in range(0, len(features), size):
                rows = slice(start, start + size)
                for irrep in self.multiplicities:
                    factors[irrep].fold(self.rows(features[rows], points, irrep, *block._labels(rows, None)))
            if block.derivatives:
                for kind, rows in derivative_rows(self, block, features, points):
                    key = factor_key(kind)
                    factors[key] = factors.get(key, TriangularFactor(self.size("0e"))).fold(rows)
        return {irrep: factor.data for irrep, factor in factors.items()}

    def merge(self, left, right):
        """Factors of two sets of structures together."""
        merged = left | right  # forces and stress may be in one only
        for key in left.keys() & right.keys():
            size = self.size(key.split()[0])
            merged[key] = TriangularFactor(size, left[key]).copy().merge(TriangularFactor(size, right[key])).data
        return merged

    def rows(self, features, points, irrep, blocks, _, weight):
        """Rows of one irrep, (n (2 lambda + 1), size)."""
        values = blocks[irrep]
        n, d, multiplicity = values.shape
        n_kernel = self.n_kernel(irrep)
        rows = np.empty((n, d, self.size(irrep)))
        used, pivots = points_in_use(points, self.pivots[irrep], d)
        kernel = self.kernel(features, used, irrep=irrep)
        point, component = np.divmod(pivots, d)
        rows[:, :, :n_kernel] = kernel[:, point, :, component].transpose(1, 2, 0)
        # what symmetry makes zero, such as the variance of a dipole across the plane of a molecule, may be -1e-19
        prior = np.maximum(np.einsum("naa->na", self.kernel.diag(features, irrep=irrep)), 0.0)
        rows[:, :, n_kernel] = np.sqrt(prior)
        if self.n_baseline(irrep):
            design = composition_design(features.composition(self.species), self.baseline, self.kernel.aggregate)
            rows[:, 0, n_kernel + 1 : -multiplicity] = design
        rows[:, :, -multiplicity:] = values
        if weight is not None:
            rows *= np.sqrt(weight)[:, None, None]
        return rows.reshape(n * d, -1)

    def _blocks(self, part):
        n_atoms = atom_counts(part.X)
        for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(n_atoms)]), self.centers_per_block()):
            yield part.block(start, stop, n_atoms)

    def _features(self, block):
        """Features with one structure for each label."""
        features = block.X if self.descriptor is None else self.descriptor.transform(block.X)
        if self.descriptor is None:
            features.origin = block.start
        rows = slice(None) if block.atoms is None else labelled_rows(features, block.atoms)
        unknown = np.flatnonzero(~np.isin(features.species[rows], self.species))
        if len(unknown):
            row = np.arange(len(features.species))[rows][unknown[0]]
            symbol, where = chemical_symbols[features.species[row]], features.where(row)
            raise ValueError(
                f"there are no sparse points for the species {symbol} (first in {where}): sparse points are chosen at "
                "the first fit, which must have all species"
            )
        return features if block.atoms is None else features.split_centers(rows)


def ridge_of_source(source, labels, blocks, weight, job):
    """Ridge of the baseline by the errors on structures left out, which the factors do not tell.

    Parameters
    ----------
    source : Source
    labels : Labels
    blocks : dict of str to ndarray of shape (n_labels, 2 lambda + 1, multiplicity)
    weight : ndarray of shape (n_structures,), or None
    job : FoldJob

    Returns
    -------
    float
    """
    if job.baseline != "composition" or "0e" not in blocks:
        return 0.0
    if len(blocks["0e"]) > _LABELS_PER_ELEMENT * len(job.species):
        return 0.0
    structures = np.repeat(np.arange(len(source)), source.n_atoms)
    numbers, rows, groups = source.numbers, structures, np.arange(len(source))
    if labels.atoms is not None:
        numbers, rows, groups = numbers[labels.atoms], np.arange(len(labels.atoms)), structures[labels.atoms]
    known = np.isin(numbers, job.species)
    counts = np.zeros((len(groups), len(job.species)))
    np.add.at(counts, (rows[known], np.searchsorted(job.species, numbers[known])), 1.0)
    design = composition_design(counts, job.baseline, job.kernel.aggregate)
    return best_ridge(design, blocks["0e"][:, 0], groups, None if weight is None else weight[groups])


def points_in_use(points, pivots, d):
    """Sparse points of which an irrep has components, and the pivots counted in these points.

    Parameters
    ----------
    points : EquivariantFeatures
    pivots : ndarray of int
        Components that are used, d for each point.
    d : int

    Returns
    -------
    EquivariantFeatures, ndarray of int
    """
    used, place = np.unique(pivots // d, return_inverse=True)
    return (points, pivots) if len(used) in (0, len(points)) else (points[used], d * place + pivots % d)
