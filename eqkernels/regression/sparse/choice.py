"""How the sparse environments of a model are chosen, and their kernels factored, before a fit reads its labels."""

from __future__ import annotations

import numpy as np

from eqkernels.kernels.centers import similarity_of
from eqkernels.kernels.sparse_points import choose_points, first_points, points_by_irrep
from eqkernels.regression.sparse.displaced import N_COPIES, DisplacedSource
from eqkernels.regression.sparse.memory import centers_of_block, check_fit, environment_sizes, n_values
from eqkernels.regression.sparse.model import factor_points
from eqkernels.regression.sparse.source import candidate_features, choose_candidates, most_points_of_species

# Environments, for each sparse point, among which the points are chosen.
_CANDIDATES_PER_POINT = 20


class SparseChoice:
    """Candidates for sparse environments, and the choice among them.

    Parameters
    ----------
    data : TrainingData
    irreps : list of str
        Those of the target.
    n_points : int or dict
        As for ``SparseTensorGPR``.
    random : RandomState
    displacement : float, default=None
        Of the copies of structures whose environments are candidates too; None: there are none.

    Attributes
    ----------
    candidates : ndarray of int
        Structures whose labelled environments are candidates.
    species : ndarray of int
        Of the labelled environments, once points were chosen.
    """

    def __init__(self, data, irreps, n_points, random, displacement=None):
        self.displacement = displacement
        self.source, self.irreps, self.random = data.source, irreps, random
        atoms = data.labels.atoms
        self.labelled = np.full(len(self.source.numbers), atoms is None)
        if atoms is not None:
            self.labelled[atoms] = True
        self.wanted, self.largest = points_by_irrep(n_points, irreps)
        self.total = sum(self.largest.values()) if isinstance(self.largest, dict) else self.largest
        limit = _CANDIDATES_PER_POINT * self.total
        self.candidates = choose_candidates(self.source, self.labelled, limit, random)

    def points(self, descriptor, kernel, selection, memory):
        """Choose the sparse environments, if they and the largest structure fit into the memory.

        Parameters
        ----------
        descriptor : transformer or None
            Fitted; None where the source holds features.
        kernel : TensorKernel
        selection : str
        memory : float
            Bytes.

        Returns
        -------
        points : EquivariantFeatures
        environment_size : int
            Features of one environment, in all irreps and components that the descriptor makes.
        """
        source, labelled, shared = self.source, self.labelled, similarity_of(kernel)
        shapes, needed = environment_sizes(source, descriptor), {"0e", *self.irreps, *kernel.more_irreps}
        of_points = {irrep: shape for irrep, shape in shapes.items() if irrep in needed}
        n_candidates = labelled.sum() * (1 if self.displacement is None else 1 + N_COPIES)
        check_fit(shapes, of_points, min(self.total, n_candidates), source.n_atoms.max(), memory)
        limit = centers_of_block(n_values(shapes), memory)
        blocks = self._features(descriptor, needed, limit)
        most = 0.2 * memory / (8 * n_values(of_points))
        copies = 0 if self.displacement is None else N_COPIES
        most = most_points_of_species(source, self.candidates, labelled, self.largest, most, 1 + copies)
        normalize = getattr(kernel, "normalize", "invariant")
        seen: set[int] = set()
        chosen = choose_points(_noted(blocks, seen), self.largest, selection, normalize, self.random, most, shared)
        self.species = np.array(sorted(seen))
        return chosen, n_values(shapes)

    def _features(self, descriptor, needed, limit):
        """Features of the candidates, block by block."""
        rest = self.candidates, self.labelled, descriptor, needed, limit
        yield from candidate_features(self.source, *rest)
        if self.displacement is not None:
            displaced = DisplacedSource(self.source, descriptor, self.displacement, self.random)
            for _ in range(N_COPIES):
                yield from candidate_features(displaced, *rest)

    def factors(self, points, kernel):
        """Factor the kernels among the points of each irrep, see :func:`factor_points`."""
        shared = similarity_of(kernel) > 0
        chosen = {irrep: first_points(points, count, shared) for irrep, count in self.wanted.items()}
        return factor_points(kernel, points, chosen)


def _noted(blocks, seen):
    """Blocks of features, of which the species are added to a set."""
    for block in blocks:
        seen.update(np.unique(block.species).tolist())
        yield block
