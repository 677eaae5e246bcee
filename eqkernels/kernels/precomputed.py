"""Kernels that were computed before, in the place of one that is computed from features: ``kernel="precomputed"``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.so3 import Irrep, cartesian_tensor


class Precomputed(TensorKernel):
    """Kernel that is looked up in :class:`KernelBlocks`.

    Parameters
    ----------
    aggregate : {"sum", "mean"}, default="sum"
        How the kernels treat the size of a structure.
    """

    def __init__(self, aggregate: str = "sum"):
        self.aggregate = aggregate

    def __call__(self, X: Any, Y: Any = None, irrep: str = "0e") -> NDArray[np.float64]:
        """Matrix of one irrep."""
        return X.blocks[irrep]

    def contraction(self, Y: Any, irrep: str, coef: NDArray[np.float64]) -> Callable[[Any], NDArray[np.float64]]:
        """Sum of kernels times coefficients, one for each column of the matrix."""

        def sums(X):
            if X.shape[1] != len(coef):
                raise ValueError(f"the kernel has {X.shape[1]} columns, the model was fitted on {len(coef)} structures")
            return np.einsum("nmab,mbk->nak", self(X, irrep=irrep), coef, optimize=True)

        return sums


def read_kernel(X: Any, target: Any) -> KernelBlocks:
    """Read kernel matrices, of which an array is that of the only irrep of the target.

    Parameters
    ----------
    X : KernelBlocks, or array-like of shape (n, m, 2 lambda + 1, 2 lambda + 1)
    target : str, CartesianTensor or None
        None: the natural irrep of its degree.

    Returns
    -------
    KernelBlocks

    Raises
    ------
    ValueError
        If an array has another shape, the target several irreps, or a kernel is not finite.
    """
    if not isinstance(X, KernelBlocks):
        X = np.asarray(X)
        if X.ndim != 4 or X.shape[2] != X.shape[3] or X.shape[2] % 2 == 0:
            raise ValueError(
                f"a precomputed kernel has shape (n, m, 2 lambda + 1, 2 lambda + 1), got {X.shape}: make it with "
                "kernel(features, irrep='1o') or kernel.blocks(features)"
            )
        X = KernelBlocks({_only_irrep(X.shape[2], target): X})
    for irrep, block in X.blocks.items():
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0, :2]
            raise ValueError(f"the kernel of {irrep} between structures {row} and {column} is not finite")
    return X


def _only_irrep(dim, target):
    if target is None:
        l = (dim - 1) // 2
        return str(Irrep(l, (-1) ** l))
    irreps = [str(irrep) for _, irrep in cartesian_tensor(target).irreps]
    if len(irreps) > 1 or Irrep.parse(irreps[0]).dim != dim:
        raise ValueError(
            f"one precomputed array of {dim} x {dim} blocks cannot serve the irreps {', '.join(irreps)} of the "
            "target: pass kernel.blocks(features)"
        )
    return irreps[0]
