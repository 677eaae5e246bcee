r"""Orthonormal radial functions in which the atomic density is expanded.

Both bases are orthonormal over the three-dimensional radial measure,

.. math:: \int_0^\infty R_{nl}(r)\, R_{n'l}(r)\, r^2\, dr = \delta_{nn'} ,

and differ in shape. Gaussian-type orbitals are sums of :math:`r^n \exp(-r^2 / 2\sigma_n^2)`, the same for
every l, and reach beyond the cutoff. Laplacian eigenstates are spherical Bessel functions, different for every l,
which vanish at the radius of the sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import spherical_jn

from eqkernels._numeric import check_integer, check_positive, real_array

# The widest Gaussian is followed until exp(-10^2 / 2) = 2e-22, far below the rounding of its maximum.
_TAIL_IN_WIDTHS = 10.0
_POINTS_PER_PANEL = 16
# Functions beyond these oscillate faster than any data need.
_LARGEST_N, _LARGEST_L = 100, 100
# Zeros of Bessel functions are computed in chains of a multiple of this length, each to the last bit.
_ZEROS_PER_CHAIN, _BISECTIONS = 16, 54


def gauss_legendre_panels(edges):
    """Nodes and weights of Gauss-Legendre quadrature with 16 points between neighboring edges."""
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS_PER_PANEL)
    half = np.diff(edges)[:, None] / 2
    middle = (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * nodes).ravel(), (half * weights).ravel()


class RadialBasis(Protocol):
    """What the expansion needs of a radial basis: :class:`GTO`, :class:`LaplacianEigenstates`, or that of a user."""

    @property
    def n_max(self) -> int:
        """Number of functions of each degree."""

    @property
    def radius(self) -> float:
        """Distance that the functions are made for."""

    @property
    def support(self) -> float:
        """Distance beyond which all functions are negligible."""

    def evaluate(self, l: int, r: ArrayLike) -> NDArray[np.float64]:
        """Values of the functions of one degree, shape (n_max, n_distances)."""


@dataclass(frozen=True)
class GTO:
    r"""Orthonormalized Gaussian-type orbitals.

    The primitives :math:`r^n \exp(-r^2 / 2\sigma_n^2)` with :math:`\sigma_n = \max(\sqrt n, 1)\, r_0 / n_{max}`,
    n = 0 .. n_max - 1, have their maxima evenly spread up to the radius :math:`r_0`. They are orthonormalized
    symmetrically (Loewdin), so that every function stays as close as possible to its primitive.

    Parameters
    ----------
    n_max : int
        Number of radial functions.
    radius : float
        Radius over which the maxima are spread, usually the cutoff, in the units of the positions.

    References
    ----------
    F. Musil et al., J. Chem. Phys. 154, 114109 (2021), https://doi.org/10.1063/5.0044689, appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.integrate import trapezoid
    >>> basis = GTO(n_max=4, radius=5.0)
    >>> r = np.linspace(0.0, basis.support, 20001)
    >>> functions = basis.evaluate(0, r)
    >>> overlap = trapezoid(functions[:, None] * functions * r**2, r)
    >>> bool(np.allclose(overlap, np.eye(4), atol=1e-6))
    True
    """

    n_max: int
    radius: float

    def __post_init__(self):
        _check_size(self)

    @property
    def _widths(self):
        return np.maximum(np.sqrt(np.arange(self.n_max)), 1.0) * self.radius / self.n_max

    @property
    def support(self) -> float:
        """Distance beyond which every function is zero to double precision."""
        return self._widths[-1] * (np.sqrt(self.n_max) + _TAIL_IN_WIDTHS)

    def _primitives(self, r):
        # r^n exp(-r^2 / 2 s^2) in units of its maximum, so that neither power nor exponential overflows
        n = np.arange(self.n_max)[:, None]
        x = np.asarray(r) / self._widths[:, None]
        peak = np.sqrt(np.maximum(n, 1))
        return (x / peak) ** n * np.exp((np.where(n > 0, n, 0) - x**2) / 2)

    @cached_property
    def _transform(self):
        # The polar factor of the weighted primitives is the Loewdin basis; from the singular values of the functions
        # themselves it keeps the digits that the square root of their overlap matrix would lose.
        r, w = gauss_legendre_panels(np.linspace(0.0, self.support, 8 * self.n_max + 9))
        weighted = self._primitives(r) * np.sqrt(w) * r
        norms = np.linalg.norm(weighted, axis=1, keepdims=True)
        left, singular, _ = np.linalg.svd(weighted / norms, full_matrices=False)
        return (left / singular) @ left.T / norms.T

    def evaluate(self, l: int, r: ArrayLike) -> NDArray[np.float64]:
        """Values of the functions, the same for every l.

        Parameters
        ----------
        l : int
            Angular momentum (ignored: the functions do not depend on it).
        r : ndarray of shape (n_points,)
            Distances.

        Returns
        -------
        ndarray of shape (n_max, n_points)
        """
        return self._transform @ self._primitives(real_array(r, "r", finite=True))


@dataclass(frozen=True)
class LaplacianEigenstates:
    r"""Eigenfunctions of the Laplacian in a sphere, zero on its surface.

    .. math:: R_{nl}(r) = \frac{\sqrt{2 / r_0^3}}{|j_{l+1}(z_{nl})|}\, j_l(z_{nl}\, r / r_0), \quad r \le r_0,

    with :math:`z_{nl}` the n-th zero of the spherical Bessel function :math:`j_l`: the smoothest basis of its size.

    Parameters
    ----------
    n_max : int
        Number of radial functions for every l.
    radius : float
        Radius of the sphere, usually the cutoff, in the units of the positions.

    References
    ----------
    F. Bigi et al., J. Chem. Phys. 157, 234101 (2022), https://doi.org/10.1063/5.0124363.

    Examples
    --------
    >>> basis = LaplacianEigenstates(n_max=3, radius=5.0)
    >>> bool(abs(basis.evaluate(2, 5.0)).max() < 1e-12)
    True
    """

    n_max: int
    radius: float

    def __post_init__(self):
        _check_size(self)

    @property
    def support(self) -> float:
        """Distance beyond which every function is zero."""
        return self.radius

    def evaluate(self, l: int, r: ArrayLike) -> NDArray[np.float64]:
        """Values of the functions of one l.

        Parameters
        ----------
        l : int
            Angular momentum.
        r : ndarray of shape (n_points,)
            Distances.

        Returns
        -------
        ndarray of shape (n_max, n_points)
        """
        check_integer(l, "l", 0, _LARGEST_L)
        zeros = _bessel_zeros(int(l), int(self.n_max))[:, None]
        r = real_array(r, "r", finite=True)
        norm = np.sqrt(2.0 / self.radius**3) / np.abs(spherical_jn(l + 1, zeros))
        inside = r <= self.radius
        return np.where(inside, norm * spherical_jn(l, zeros * np.where(inside, r, 0.0) / self.radius), 0.0)


def _check_size(basis):
    check_integer(basis.n_max, "n_max", 1, _LARGEST_N)
    check_positive(basis.radius, "radius")


@lru_cache(maxsize=256)
def _bessel_zeros(l, count):
    """First positive zeros of the spherical Bessel function j_l."""
    # one chain of brackets serves all l of a basis
    return _zeros_of_chain(l, -(-(count + l) // _ZEROS_PER_CHAIN) * _ZEROS_PER_CHAIN)[:count]


@lru_cache(maxsize=256)
def _zeros_of_chain(l, total):
    """First total - l zeros of j_l, by bisection: they lie between neighboring zeros of j_{l-1}."""
    if l == 0:
        return np.pi * np.arange(1, total + 1)
    before = _zeros_of_chain(l - 1, total)
    low, high = before[:-1], before[1:]
    sign = np.sign(spherical_jn(l, low))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        left = np.sign(spherical_jn(l, middle)) == sign
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return (low + high) / 2
