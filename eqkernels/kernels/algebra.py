"""Kernels add, multiply and scale: small expressions instead of options."""

from __future__ import annotations

from numbers import Real

from sklearn.base import BaseEstimator

from eqkernels.kernels.blocks import KernelBlocks


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
    """

    def blocks(self, X, Y=None, irreps=None):
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

    def __init__(self, k1, k2):
        self.k1 = k1
        self.k2 = k2

    @property
    def aggregate(self):
        """How both kernels treat the size of a structure; None where they differ."""
        return self.k1.aggregate if self.k1.aggregate == self.k2.aggregate else None

    def __call__(self, X, Y=None, irrep="0e"):
        """Sum of the two matrices."""
        return self.k1(X, Y, irrep=irrep) + self.k2(X, Y, irrep=irrep)


class Product(TensorKernel):
    """Product of a covariant kernel with the invariant part of another, structure by structure."""

    def __init__(self, k1, k2):
        self.k1 = k1
        self.k2 = k2

    @property
    def aggregate(self):
        """How the covariant factor treats the size of a structure."""
        return self.k1.aggregate

    def __call__(self, X, Y=None, irrep="0e"):
        """Matrices of the first kernel times the scalar kernel of the second."""
        return self.k1(X, Y, irrep=irrep) * self.k2(X, Y, irrep="0e")


class Scaled(TensorKernel):
    """A kernel times a positive number."""

    def __init__(self, kernel, factor):
        self.kernel = kernel
        self.factor = factor

    @property
    def aggregate(self):
        """How the kernel treats the size of a structure."""
        return self.kernel.aggregate

    def __call__(self, X, Y=None, irrep="0e"):
        """Scaled matrix."""
        if not self.factor > 0:
            raise ValueError(f"factor={self.factor!r} must be positive, or the kernel is not positive definite")
        return self.factor * self.kernel(X, Y, irrep=irrep)
