"""Kernels add, multiply and scale: small expressions instead of options.

What a Gaussian process may choose is declared as in :mod:`sklearn.gaussian_process.kernels`: a parameter with a
companion ``<name>_bounds`` is free unless the bounds are ``"fixed"``. Free factors are positive and enter ``theta``
by their logarithms; exponents ``zeta`` are integers, of which each combination is a kernel of ``variants()``.

All kernels are positive semidefinite: sums, elementwise products (I. Schur, J. Reine Angew. Math. 140, 1 (1911)) and
positive multiples of such kernels are, elementwise powers between integers are not (C. H. FitzGerald, R. A. Horn, J.
Math. Anal. Appl. 61, 633 (1977)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from math import prod
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from eqkernels._types import Blocks, Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.bounds import check_bounds, check_zeta, integers, is_exponent, is_fixed, is_open, positive
from eqkernels.kernels.gradients import KernelGradient, sum_gradients
from eqkernels.kernels.precise_sums import add_kernels, multiply_kernels
from eqkernels.kernels.vjp import sum_vjps
from eqkernels.so3 import Irrep

# Each combination of exponents is fitted on its own: more than these are a mistake.
_MOST_VARIANTS = 100


class TensorKernel(BaseEstimator):
    """Base class: ``kernel(X, Y=None, irrep=...)`` returns an array (n, m, 2 lambda + 1, 2 lambda + 1).

    Kernels combine: ``a + b``, ``2.0 * a``, and ``a * b``, in which the second factor enters with its invariant part
    and so may be any kernel. All of them keep their parameters reachable, e.g. ``k1__zeta``.

    Examples
    --------
    >>> from eqkernels.kernels import CovariantKernel
    >>> kernel = CovariantKernel(zeta=1) + 0.5 * CovariantKernel(zeta=3)
    >>> kernel.get_params()["k2__kernel__zeta"]
    3
    >>> kernel.hyperparameters
    ['k2__factor']
    """

    __array_ufunc__ = None  # numpy leaves sums and products with its numbers to this class
    #: whether the kernel needs the positions of the centers, which makes it one of structures, not of atoms
    uses_positions: bool = False
    #: blocks of features that it needs besides that of the irrep and the invariants
    more_irreps: tuple[str, ...] = ()

    @property
    def hyperparameters(self) -> list[str]:
        """Names of the free factors, in the order of ``theta``."""
        params = self.get_params()
        return [name for name in self._free() if not is_exponent(name) and not is_open(params[name])]

    @property
    def choices(self) -> dict[str, range]:
        """Integers within the bounds of each free exponent, a dict of str to range."""
        params, choices = self.get_params(), {}
        for name in filter(is_exponent, self._free()):
            if name.endswith("zeta"):
                check_zeta(params[name])
            choices[name] = integers(params[f"{name}_bounds"], f"{name}_bounds")
        return choices

    def variants(self) -> list[TensorKernel]:
        """Make a copy of the kernel for each combination of free exponents, smaller exponents first.

        Returns
        -------
        list of TensorKernel
            This kernel itself where all exponents are fixed.
        """
        choices = self.choices
        if not choices:
            return [self]
        count = prod(map(len, choices.values()))
        if count > _MOST_VARIANTS:
            raise ValueError(
                f"the bounds of {', '.join(choices)} allow {count} kernels, each of which is fitted: narrow them to at "
                f"most {_MOST_VARIANTS}"
            )
        chosen = product(*choices.values())
        return [clone(self).set_params(**dict(zip(choices, values, strict=True))) for values in chosen]

    def _free(self):
        bounds = {name: value for name, value in self.get_params().items() if name.endswith("_bounds")}
        return [name.removesuffix("_bounds") for name, value in bounds.items() if not is_fixed(value)]

    @property
    def theta(self) -> Floats:
        """Logarithms of the free factors, shape (n_free,)."""
        params = self.get_params()
        return np.log([positive(params[name], name) for name in self.hyperparameters])

    @property
    def bounds(self) -> Floats:
        """Logarithms of the bounds of the free factors, shape (n_free, 2)."""
        params = self.get_params()
        pairs = [check_bounds(params[f"{name}_bounds"], f"{name}_bounds") for name in self.hyperparameters]
        return np.log(np.reshape(pairs, (-1, 2)))

    def clone_with_theta(self, theta: ArrayLike) -> TensorKernel:
        """Copy with other values of the free factors.

        Parameters
        ----------
        theta : array-like of shape (n_free,)
            Their logarithms.

        Returns
        -------
        TensorKernel
        """
        values = np.exp(theta).tolist()
        return clone(self).set_params(**dict(zip(self.hyperparameters, values, strict=True)))

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Kernel of every structure with itself.

        Parameters
        ----------
        X : EquivariantFeatures
        irrep : str, default="0e"

        Returns
        -------
        ndarray of shape (n_structures, 2 lambda + 1, 2 lambda + 1)
        """
        if not isinstance(X, EquivariantFeatures | KernelBlocks):
            raise TypeError(f"X must be EquivariantFeatures, got {type(X).__name__}")
        d = Irrep.parse(irrep).dim
        blocks = [self(X[[k]], irrep=irrep)[0, 0] for k in range(len(X))]
        return np.reshape(blocks, (len(X), d, d))

    def operations(self, X: EquivariantFeatures, irrep: str = "0e") -> float:
        """Work of the matrix of a set of structures, in any unit: by default the pairs of environments.

        Parameters
        ----------
        X : EquivariantFeatures
        irrep : str, default="0e"

        Returns
        -------
        float
        """
        return float(np.sum(np.unique(X.species, return_counts=True)[1].astype(float) ** 2))

    def theta_gradient(
        self, X: EquivariantFeatures, irrep: str = "0e", cache: dict[Any, Any] | None = None
    ) -> tuple[Floats, Blocks]:
        """Kernel matrix and its derivatives by the logarithms of the free factors.

        Parameters
        ----------
        X : EquivariantFeatures
        irrep : str, default="0e"
        cache : dict, default=None
            Filled with what does not depend on the free factors; pass the same one with the same X again.

        Returns
        -------
        matrix : ndarray of shape (n, n, 2 lambda + 1, 2 lambda + 1)
        derivatives : dict of str to ndarray of that shape
            One for each name in ``hyperparameters``.
        """
        cache = {} if cache is None else cache
        if self.hyperparameters:
            return self._theta_gradient(X, irrep, cache)
        key = ("matrix", irrep, _identity(self))
        if key not in cache:
            cache[key] = self(X, irrep=irrep)
        return cache[key], {}

    def _theta_gradient(self, X, irrep, cache):
        raise NotImplementedError(f"{type(self).__name__} has free factors {self.hyperparameters} but no derivative")

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[KernelGradient]:
        """Differentiate kernels with single environments by the features (:mod:`eqkernels.kernels.gradients`).

        Parameters
        ----------
        X : EquivariantFeatures
            Structures.
        Y : EquivariantFeatures
            Structures of one environment at most, such as sparse points.
        irrep : str, default="0e"

        Returns
        -------
        list of KernelGradient
            By different ranges of the features.
        """
        raise TypeError(f"{type(self).__name__} has no derivatives to fit to: use CovariantKernel")

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Vector-Jacobian product: derivatives of sum(weights * kernel) by the features of X.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str
        weights : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)

        Returns
        -------
        dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        """
        raise TypeError(f"{type(self).__name__} has no derivatives by features: use CovariantKernel")

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Kernel matrices to twice the working precision, for sums in which they cancel.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str

        Returns
        -------
        high, low : ndarray of shape (n_structures_X, n_structures_Y, 2 lambda + 1, 2 lambda + 1)
            Their sum is the kernel; zeros for ``low`` where a kernel knows no better.
        """
        matrix = self(X, Y, irrep=irrep)
        return matrix, np.zeros(matrix.shape)

    def contract_vjp(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, cotangents: Floats, coef: Floats
    ) -> Blocks:
        """Vector-Jacobian product: derivatives of sum(cotangents * (kernel @ coef)) by the features of X.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str
        cotangents : ndarray of shape (n_structures_X, 2 lambda + 1, n_columns)
        coef : ndarray of shape (n_structures_Y, 2 lambda + 1, n_columns)

        Returns
        -------
        dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        """
        return self.vjp(X, Y, irrep, np.einsum("nak,mbk->nmab", cotangents, coef, optimize=True))

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum of kernels times coefficients as a function of features (:mod:`eqkernels.kernels.contraction`).

        Parameters
        ----------
        Y : EquivariantFeatures
        irrep : str
        coef : ndarray of shape (n_structures_Y, 2 lambda + 1, n_columns)

        Returns
        -------
        callable
            Of features X; returns an array (n_structures_X, 2 lambda + 1, n_columns).
        """
        return lambda X: np.einsum("nmab,mbk->nak", self(X, Y, irrep=irrep), coef, optimize=True)

    def atomic_parts(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, coef: Floats
    ) -> tuple[Floats, Floats]:
        """Contributions of the centers to the sum of kernels times coefficients: charges, and tensors of their own.

        Parameters
        ----------
        X, Y : EquivariantFeatures
        irrep : str
        coef : ndarray of shape (n_structures_Y, 2 lambda + 1, n_columns)

        Returns
        -------
        charges : ndarray of shape (n, n_columns)
            Of all centers of the structures of which X are a part.
        tensors : ndarray of shape (n_centers, 2 lambda + 1, n_columns)
        """
        n = len(X.species) if X.places is None else len(X.places.whole.positions)
        charges = np.zeros((n, coef.shape[2]))
        return charges, self.contraction(Y, irrep, coef)(X.split_centers())

    def offset(self, X: EquivariantFeatures, irrep: str) -> Floats | None:
        """Tensors of structures that are known without learning, (n_structures, 2 lambda + 1); None: there are none.

        Parameters
        ----------
        X : EquivariantFeatures
        irrep : str

        Returns
        -------
        ndarray or None
        """
        return None

    def offset_vjp(self, X: EquivariantFeatures, irrep: str, cotangents: Floats) -> Any:
        """Differentiate sum(cotangents * offset) by the positions of all centers; 0 where there is no offset.

        Parameters
        ----------
        X : EquivariantFeatures
            Complete structures.
        irrep : str
        cotangents : ndarray of shape (n_structures, 2 lambda + 1, multiplicity)

        Returns
        -------
        ndarray of shape (n_centers, 3), or 0
        """
        return 0.0

    def blocks(
        self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irreps: Iterable[str] | None = None
    ) -> KernelBlocks:
        """Kernel matrices of several irreps, to be used as ``X`` of ``TensorKernelRidge(kernel="precomputed")``.

        Parameters
        ----------
        X, Y : EquivariantFeatures
            Two sets of structures; None for Y means X.
        irreps : iterable of str, default=None
            Which blocks; None: all those of X.

        Returns
        -------
        KernelBlocks
        """
        species = sorted(set(X.species.tolist()))
        counts = {str(number): X.composition([number])[:, 0] for number in species}
        keys = list(X.blocks) if irreps is None else list(irreps)
        return KernelBlocks({key: self(X, Y, irrep=key) for key in keys}, counts)

    def __add__(self, other):
        return Sum(self, other) if isinstance(other, TensorKernel) else NotImplemented

    def __mul__(self, other):
        if isinstance(other, Real):
            return Scaled(self, other)
        return Product(self, other) if isinstance(other, TensorKernel) else NotImplemented

    __rmul__ = __mul__


class Sum(TensorKernel):
    """Sum of two kernels."""

    def __init__(self, k1: TensorKernel, k2: TensorKernel):
        self.k1 = k1
        self.k2 = k2

    @property
    def aggregate(self) -> str | None:
        """How both kernels treat the size of a structure; None where they differ."""
        return self.k1.aggregate if self.k1.aggregate == self.k2.aggregate else None

    @property
    def uses_positions(self) -> bool:  # type: ignore[override]
        """Whether one of them needs the positions of the centers."""
        return self.k1.uses_positions or self.k2.uses_positions

    @property
    def more_irreps(self) -> tuple[str, ...]:  # type: ignore[override]
        """Blocks of features that one of them needs."""
        return self.k1.more_irreps + self.k2.more_irreps

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Sum of the two matrices."""
        return self.k1(X, Y, irrep=irrep) + self.k2(X, Y, irrep=irrep)

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Sum of both."""
        return self.k1.diag(X, irrep) + self.k2.diag(X, irrep)

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[KernelGradient]:
        """Gradients of both."""
        return sum_gradients(self.k1.gradient(X, Y, irrep) + self.k2.gradient(X, Y, irrep))

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Sum of both."""
        return sum_vjps(*(kernel.vjp(X, Y, irrep, weights) for kernel in (self.k1, self.k2)))

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Sum of both."""
        return add_kernels(self.k1.precise(X, Y, irrep), self.k2.precise(X, Y, irrep))

    def contract_vjp(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, cotangents: Floats, coef: Floats
    ) -> Blocks:
        """Sum of both."""
        return sum_vjps(*(one.contract_vjp(X, Y, irrep, cotangents, coef) for one in (self.k1, self.k2)))

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum of both."""
        first, second = (kernel.contraction(Y, irrep, coef) for kernel in (self.k1, self.k2))
        return lambda X: first(X) + second(X)

    def atomic_parts(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, coef: Floats
    ) -> tuple[Floats, Floats]:
        """Sum of both."""
        first, second = (kernel.atomic_parts(X, Y, irrep, coef) for kernel in (self.k1, self.k2))
        return first[0] + second[0], first[1] + second[1]

    def offset(self, X: EquivariantFeatures, irrep: str) -> Floats | None:
        """Take what one of them knows: the total charge counts once."""
        first = self.k1.offset(X, irrep)
        return self.k2.offset(X, irrep) if first is None else first

    def offset_vjp(self, X: EquivariantFeatures, irrep: str, cotangents: Floats) -> Any:
        """Differentiate what one of them knows."""
        knows = self.k1 if self.k1.offset(X[:0], irrep) is not None else self.k2
        return knows.offset_vjp(X, irrep, cotangents)

    def _theta_gradient(self, X, irrep, cache):
        first, of_first = self.k1.theta_gradient(X, irrep, cache)
        second, of_second = self.k2.theta_gradient(X, irrep, cache)
        return first + second, {**_prefixed("k1", of_first), **_prefixed("k2", of_second)}


class Product(TensorKernel):
    """Product of a covariant kernel with the invariant part of another, structure by structure."""

    def __init__(self, k1: TensorKernel, k2: TensorKernel):
        self.k1 = k1
        self.k2 = k2

    @property
    def aggregate(self) -> str | None:
        """How the covariant factor treats the size of a structure."""
        return self.k1.aggregate

    @property
    def uses_positions(self) -> bool:  # type: ignore[override]
        """Whether one of them needs the positions of the centers."""
        return self.k1.uses_positions or self.k2.uses_positions

    @property
    def more_irreps(self) -> tuple[str, ...]:  # type: ignore[override]
        """Blocks of features that one of them needs."""
        return self.k1.more_irreps + self.k2.more_irreps

    def offset(self, X: EquivariantFeatures, irrep: str) -> Floats | None:
        """Take what the covariant factor knows."""
        return self.k1.offset(X, irrep)

    def offset_vjp(self, X: EquivariantFeatures, irrep: str, cotangents: Floats) -> Any:
        """Differentiate what the covariant factor knows."""
        return self.k1.offset_vjp(X, irrep, cotangents)

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Matrices of the first kernel times the scalar kernel of the second."""
        return self.k1(X, Y, irrep=irrep) * self.k2(X, Y, irrep="0e")

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Kernel of the first times the scalar kernel of the second."""
        return self.k1.diag(X, irrep) * self.k2.diag(X, "0e")

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[KernelGradient]:
        """Gradient of each times the kernel of the other."""
        first, second = self.k1(X, Y, irrep=irrep)[X.structures], self.k2(X, Y, irrep="0e")[X.structures, :, 0, 0]
        first = first[:, :, 0, 0] if irrep == "0e" else first
        of_first = [one.times(second) for one in self.k1.gradient(X, Y, irrep)]
        return sum_gradients(of_first + [one.times(first) for one in self.k2.gradient(X, Y)])

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Each with weights that the other one multiplies."""
        first, second = self.k1(X, Y, irrep=irrep), self.k2(X, Y, irrep="0e")
        along = np.sum(weights * first, axis=(2, 3), keepdims=True)
        return sum_vjps(self.k1.vjp(X, Y, irrep, weights * second), self.k2.vjp(X, Y, "0e", along))

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Matrices of the first times the scalar kernel of the second."""
        return multiply_kernels(self.k1.precise(X, Y, irrep), self.k2.precise(X, Y, "0e"))

    def _theta_gradient(self, X, irrep, cache):
        first, of_first = self.k1.theta_gradient(X, irrep, cache)
        second, of_second = self.k2.theta_gradient(X, "0e", cache)
        derivatives = {f"k1__{name}": one * second for name, one in of_first.items()}
        derivatives |= {f"k2__{name}": first * one for name, one in of_second.items()}
        return first * second, derivatives


class Scaled(TensorKernel):
    """A kernel times a positive number.

    Parameters
    ----------
    kernel : TensorKernel
    factor : float
    factor_bounds : pair of floats or "fixed", default=(1e-6, 1e6)
        Range in which a Gaussian process may choose the factor: the weights of the terms of a sum.
    """

    def __init__(
        self, kernel: TensorKernel, factor: float | Real, factor_bounds: tuple[float, float] | str = (1e-6, 1e6)
    ):
        self.kernel = kernel
        self.factor = factor
        self.factor_bounds = factor_bounds

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
        """Contributions with scaled coefficients."""
        return self.kernel.atomic_parts(X, Y, irrep, positive(self.factor, "factor") * coef)

    def offset(self, X: EquivariantFeatures, irrep: str) -> Floats | None:
        """Take what the kernel knows, which the factor does not change."""
        return self.kernel.offset(X, irrep)

    def offset_vjp(self, X: EquivariantFeatures, irrep: str, cotangents: Floats) -> Any:
        """Differentiate what the kernel knows."""
        return self.kernel.offset_vjp(X, irrep, cotangents)

    def __call__(self, X: EquivariantFeatures, Y: EquivariantFeatures | None = None, irrep: str = "0e") -> Floats:
        """Scaled matrix."""
        return positive(self.factor, "factor") * self.kernel(X, Y, irrep=irrep)

    def diag(self, X: EquivariantFeatures | KernelBlocks, irrep: str = "0e") -> Floats:
        """Scaled kernel."""
        return positive(self.factor, "factor") * self.kernel.diag(X, irrep)

    def gradient(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str = "0e") -> list[KernelGradient]:
        """Scaled gradient."""
        return [one.times(positive(self.factor, "factor")) for one in self.kernel.gradient(X, Y, irrep)]

    def vjp(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, weights: Floats) -> Blocks:
        """Scaled product."""
        return self.kernel.vjp(X, Y, irrep, positive(self.factor, "factor") * weights)

    def precise(self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str) -> tuple[Floats, Floats]:
        """Scaled matrix."""
        factor = np.reshape(positive(self.factor, "factor"), (1, 1, 1, 1))
        return multiply_kernels(self.kernel.precise(X, Y, irrep), (factor, np.zeros((1, 1, 1, 1))))

    def contract_vjp(
        self, X: EquivariantFeatures, Y: EquivariantFeatures, irrep: str, cotangents: Floats, coef: Floats
    ) -> Blocks:
        """Scaled product."""
        return self.kernel.contract_vjp(X, Y, irrep, positive(self.factor, "factor") * cotangents, coef)

    def contraction(self, Y: EquivariantFeatures, irrep: str, coef: Floats) -> Callable[[EquivariantFeatures], Floats]:
        """Sum with scaled coefficients."""
        return self.kernel.contraction(Y, irrep, positive(self.factor, "factor") * coef)

    def _theta_gradient(self, X, irrep, cache):
        factor = positive(self.factor, "factor")
        matrix, derivatives = self.kernel.theta_gradient(X, irrep, cache)
        derivatives = {f"kernel__{name}": factor * one for name, one in derivatives.items()}
        if not is_fixed(self.factor_bounds):
            derivatives["factor"] = factor * matrix
        return factor * matrix, derivatives


def _prefixed(prefix, derivatives):
    return {f"{prefix}__{name}": one for name, one in derivatives.items()}


def _identity(kernel):
    """Class and plain parameters, by which equal kernels are recognized."""
    params = kernel.get_params()
    nested = {name: type(value).__name__ if hasattr(value, "get_params") else value for name, value in params.items()}
    return type(kernel).__name__, repr(sorted(nested.items(), key=lambda item: item[0]))
