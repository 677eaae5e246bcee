"""A kernel that sees only some of the centers, or one part of the features: terms by species, several length scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.base import species_numbers
from eqkernels.kernels.algebra import TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.gradients import KernelGradient


class Restricted(TensorKernel):
    """A kernel on the centers of some species, or on one descriptor of a union.

    Parameters
    ----------
    kernel : TensorKernel
        What is restricted. With ``aggregate="mean"`` it is the mean over the centers that are left.
    center_species : str, int or list of them, default=None
        Chemical symbols or atomic numbers of the centers; None: all.
    part : str, default=None
        Name of a descriptor in :class:`~eqkernels.descriptors.EquivariantUnion`; None: all features.

    Examples
    --------
    Two length scales with weights of their own:

    >>> from ase.build import molecule
    >>> from eqkernels import CovariantKernel, EquivariantUnion, LambdaSOAP
    >>> near, far = (LambdaSOAP(cutoff, n_max=2, l_max=2) for cutoff in (2.5, 5.0))
    >>> union = EquivariantUnion([("near", near), ("far", far)])
    >>> kernel = Restricted(CovariantKernel(), part="near") + 0.1 * Restricted(CovariantKernel(), part="far")
    >>> kernel(union.fit_transform([molecule("H2O"), molecule("NH3")]), irrep="1o").shape
    (2, 2, 3, 3)
    """

    def __init__(
        self,
        kernel: TensorKernel,
        center_species: str | int | Sequence[str | int] | None = None,
        part: str | None = None,
    ):
        self.kernel = kernel
        self.center_species = center_species
        self.part = part

    @property
    def aggregate(self) -> str | None:
        """How the kernel treats the size of a structure."""
        return self.kernel.aggregate

    @property
    def uses_positions(self) -> bool:  # type: ignore[override]
        """Whether the kernel needs the positions of the centers."""
        return self.kernel.uses_positions

    @property
    def more_irreps(self) -> tuple[str, ...]:  # type: ignore[override]
        """Blocks of features that the kernel needs."""
        return self.kernel.more_irreps

    def atomic_parts(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, coef: Floats
    ) -> tuple[Floats, Floats]:
        """Contributions of the centers that the kernel sees, zero for others."""
        charges, part = self.kernel.atomic_parts(self._restrict(X), self._restrict(Y), irrep, coef)
        tensors = np.zeros((len(X.species), *part.shape[1:]))
        tensors[self._chosen(X)] = part
        return charges, tensors

    def offset(self, X: EquivariantFeatures, irrep: str) -> Floats | None:
        """Take what the kernel knows."""
        return self.kernel.offset(X, irrep)

    def offset_vjp(self, X: EquivariantFeatures, irrep: str, cotangents: Floats) -> Any:
        """Differentiate what the kernel knows."""
        return self.kernel.offset_vjp(X, irrep, cotangents)

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Matrix of the kernel, zero for structures without such centers."""
        return self.kernel(self._restrict(X), None if Y is None else self._restrict(Y), irrep=irrep)

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Kernel of every structure with itself, zero for structures without such centers."""
        return self.kernel.diag(self._restrict(X), irrep)

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[KernelGradient]:
        """Gradient by the part of the features, zero for other centers."""
        inner = self.kernel.gradient(self._restrict(X), self._restrict(Y), irrep)
        ranges = {} if self.part is None else X.parts[self.part]
        columns = {key: tuple(int(one) for one in pair) for key, pair in ranges.items()}
        return [one.spread(self._chosen(X), len(X.species), columns.get(one.block)) for one in inner]

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Product by the part of the features, zero for other centers."""
        return self._spread(X, self.kernel.vjp(self._restrict(X), self._restrict(Y), irrep, weights))

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Matrix of the kernel to twice the working precision."""
        return self.kernel.precise(self._restrict(X), self._restrict(Y), irrep)

    def contract_vjp(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, cotangents: Floats, coef: Floats
    ) -> Blocks:
        """Product by the part of the features, zero for other centers."""
        return self._spread(X, self.kernel.contract_vjp(self._restrict(X), self._restrict(Y), irrep, cotangents, coef))

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum over the centers that the kernel sees."""
        contraction = self.kernel.contraction(self._restrict(Y), irrep, coef)
        return lambda X: contraction(self._restrict(X))

    def _spread(self, X, cotangents):
        rows, out = self._chosen(X), {}
        for key, array in cotangents.items():
            if key == "positions":  # of all centers
                out[key] = array
                continue
            out[key] = np.zeros(X.block_shape(key))
            columns = slice(None) if self.part is None else slice(*X.parts[self.part][key])
            out[key][rows, :, columns] = array
        return out

    def _theta_gradient(self, X, irrep, cache):
        key = ("restricted", self.part, repr(self.center_species))
        if key not in cache:
            cache[key] = self._restrict(X), {}
        matrix, derivatives = self.kernel.theta_gradient(cache[key][0], irrep, cache[key][1])
        return matrix, {f"kernel__{name}": one for name, one in derivatives.items()}

    def _restrict(self, features):
        if not isinstance(features, EquivariantFeatures) or not callable(self.kernel):
            raise TypeError(f"Restricted({self.kernel!r}) of {type(features).__name__}: a kernel of features is needed")
        chosen = self._chosen(features)
        features = features if self.part is None else features.part(self.part)
        return features if self.center_species is None else features.centers(chosen)

    def _chosen(self, features):
        """Rows of the centers that the kernel sees."""
        if self.center_species is None:
            return np.arange(len(features.species))
        return np.flatnonzero(np.isin(features.species, species_numbers(self.center_species, "center_species")))
