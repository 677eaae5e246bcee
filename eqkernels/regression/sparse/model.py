"""Sparse environments of a model, the columns that they give to its factors, and how much else fits into its memory."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from eqkernels._memory import check_memory
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.kernels.centers import similarity_of
from eqkernels.regression.sparse.element_charges import IRREP
from eqkernels.regression.sparse.memory import centers_of_block
from eqkernels.regression.sparse.solve import pivoted_cholesky
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.so3 import Irrep

# Bytes of one kernel element: the kernel, its modulus, a copy in the order of the factor, an update.
_BYTES_OF_KERNEL = 4 * 8


@dataclass
class SparseModel:
    """What a fit and predictions know of the sparse environments.

    Attributes
    ----------
    kernel : TensorKernel
    points : EquivariantFeatures
        Sparse environments, each a structure of its own.
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
    element_charges : bool, default=False
        Whether vectors have the baseline of :mod:`eqkernels.regression.sparse.element_charges`.
    """

    kernel: TensorKernel
    points: EquivariantFeatures
    species: np.ndarray
    baseline: str | None
    pivots: dict[str, np.ndarray]
    multiplicities: dict[str, int]
    environment_size: int
    memory: float
    element_charges: bool = False

    def size(self, irrep):
        """Count the columns of the factor of an irrep: kernels, prior, baseline, labels."""
        return self.n_kernel(irrep) + 1 + self.n_baseline(irrep) + self.multiplicities[irrep]

    def dim(self, irrep):
        """Count the components of an irrep: 2 lambda + 1."""
        return Irrep.parse(irrep).dim

    def n_kernel(self, irrep):
        """Count the kernel columns: at most sparse points times 2 lambda + 1."""
        return len(self.pivots[irrep])

    def n_baseline(self, irrep):
        """Count the baseline columns: none but for scalars, and for vectors that are made of charges."""
        if irrep == IRREP and self.element_charges:
            return len(self.species) - 1
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
        widths = [self.points.blocks[irrep].shape[2] / max(self.n_kernel(irrep), 1) for irrep in self.multiplicities]
        return min(widths) / (1 if similarity_of(self.kernel) else len(self.species))

    def bytes_of_points(self):
        """Bytes of the features of the sparse points."""
        return sum(block.nbytes for block in self.points.blocks.values())

    def bytes_of_block(self):
        """Bytes for the arrays of one block beside the sparse points."""
        return max(self.memory - self.bytes_of_points(), 0.25 * self.memory)

    def centers_per_block(self):
        """How many centers have their features in memory at once."""
        return centers_of_block(self.environment_size, self.bytes_of_block())

    def labels_per_block(self):
        """How many labels have their kernels in memory at once."""
        width = max(len(self.points) * self.dim(irrep) ** 2 for irrep in self.multiplicities)
        return max(1, int(0.3 * self.bytes_of_block() / (_BYTES_OF_KERNEL * width)))

    def slices(self, n):
        """Ranges of n labels whose kernels are in memory at once."""
        size = self.labels_per_block()
        return [slice(start, start + size) for start in range(0, n, size)]

    def coefficients(self, irrep, of_pivots):
        """Coefficients of all components of all points, (n_points (2 lambda + 1), multiplicity)."""
        out = np.zeros((len(self.points) * self.dim(irrep), of_pivots.shape[1]))
        out[self.pivots[irrep]] = of_pivots
        return out

    def points_in_use(self, irrep):
        """Sparse points of which an irrep has components, and the pivots counted in these points.

        Parameters
        ----------
        irrep : str

        Returns
        -------
        EquivariantFeatures, ndarray of int
        """
        pivots, d = self.pivots[irrep], self.dim(irrep)
        used, place = np.unique(pivots // d, return_inverse=True)
        if len(used) in (0, len(self.points)):
            return self.points, pivots
        return some_points(self.points, used, irrep, self.kernel.more_irreps), d * place + pivots % d


def some_points(points, rows, irrep, more=()):
    """Sparse points with the blocks that kernels of an irrep need, without a copy where they are the first ones.

    Parameters
    ----------
    points : EquivariantFeatures
    rows : ndarray of int
        Ascending.
    irrep : str
    more : tuple of str, default=()
        Other irreps whose features the kernels need.

    Returns
    -------
    EquivariantFeatures
    """
    own = copy(points)
    own.blocks = {key: block for key, block in points.blocks.items() if key in (irrep, "0e", *more)}
    # names of features do not matter here, parts of unions do
    own.labels = {}
    own.parts = {name: {key: one[key] for key in own.blocks if key in one} for name, one in points.parts.items()}
    first = len(rows) > 0 and rows[-1] == len(rows) - 1
    return own[: len(rows)] if first else own[rows]


def factor_points(kernel, points, chosen):
    """Cholesky factors of the kernels among the sparse environments; components that depend on others drop out.

    Parameters
    ----------
    kernel : TensorKernel
    points : EquivariantFeatures
    chosen : dict of str to ndarray of int
        Rows of the points that each irrep has.

    Returns
    -------
    pivots : dict of str to ndarray of int
        Components of the points that are kept.
    cholesky : dict of str to ndarray
        Data of their triangular factors.

    Raises
    ------
    MemoryError
        If the matrices take more than the machine has.
    """
    widths = {irrep: len(rows) * Irrep.parse(irrep).dim for irrep, rows in chosen.items()}
    needed = 3 * 8 * max(widths.values()) ** 2 + 2 * 8 * sum(width**2 for width in widths.values())
    check_memory(needed, f"A sparse model of {len(points)} points", "choose fewer with n_points")
    pivots, cholesky = {}, {}
    with threadpool_limits(1):  # the same bits whatever the number of threads
        for irrep, rows in chosen.items():
            n, d = widths[irrep], Irrep.parse(irrep).dim
            some = some_points(points, rows, irrep, kernel.more_irreps)
            matrix = kernel(some, irrep=irrep).transpose(0, 2, 1, 3).reshape(n, n)
            kept, lower = pivoted_cholesky(matrix)
            pivots[irrep] = (d * rows[:, None] + np.arange(d)).ravel()[kept]
            cholesky[irrep] = TriangularFactor.of_upper(lower.T).data
    return pivots, cholesky
