r"""Smeared power laws, and the radial side of their expansion around a center.

The field at distance r of an atom that is smeared out over a width :math:`\sigma` is

.. math::
    V_p(r) = \frac{\gamma(p/2,\, r^2 / 2\sigma^2)}{\Gamma(p/2)\, r^p} , \qquad
    \hat V_p(k) = \frac{\pi^{3/2}\, 2^{3-p}}{\Gamma(p/2)}\,
    \frac{\Gamma\big(\tfrac{3-p}{2},\, \tfrac12 \sigma^2 k^2\big)}{k^{3-p}} ,

which becomes :math:`1 / r^p` at large r; p = 1 is the Coulomb potential of a Gaussian charge (Huguenin-Dumittan, Loche,
Ni, Ceriotti, J. Phys. Chem. Lett. 14, 9612 (2023)). With the transforms of the radial functions

.. math:: \tilde R_{nl}(k) = \int_0^\infty R_{nl}(r)\, j_l(kr)\, r^2 dr ,

its expansion coefficients around a center at distance d are :math:`W_{nl}(d)\, Y_{lm}(\hat{\mathbf d})` with

.. math:: W_{nl}(d) = \frac{2}{\pi} \int_0^\infty \hat V_p(k)\, \tilde R_{nl}(k)\, j_l(kd)\, k^2 dk .
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc, exp1, gamma, gammainc

from eqkernels.radial.basis import RadialBasis, gauss_legendre_panels
from eqkernels.radial.table import RadialTable, padded

# 1 / r, the field of a charge, to 1 / r^6, that of dispersion.
LARGEST_EXPONENT = 6
# exp(-8.6^2 / 2) = 9e-17: wave vectors beyond that many inverse widths do not count.
_LARGEST_WAVE = 8.6
# Where the transforms have fallen to this part of their maximum, integrals over them end.
_NEGLIGIBLE = 1e-18
# Panels of 16 points over two wave lengths integrate oscillations to rounding.
_PANELS_PER_WAVE = 0.5
# Integrands with logarithms or odd powers at k = 0 are smooth on panels that halve so many times.
_HALVINGS = 24
# Beyond 1.5 times the radial functions and 6 widths, fields are smooth enough for 48 angles.
_FAR, _FAR_WIDTHS, _ANGLES = 1.5, 6.0, 48
# exp(-45) is below rounding: the field is that of a point.
_POINT_LIKE = 45.0
_DISTANCES_AT_ONCE = 128
# Bessel functions: below that argument by a series of three terms, else from orders so far above the highest.
_TINY, _ORDERS_ABOVE = 0.02, 30
# Parts of the accuracy: what tables of transforms, which are divided by k^2, may lose.
_FINER, _ROUNDING = 1e-3, 1e-13
# Panels of 16 points are so many times as long as the narrowest radial function is wide.
_WIDTHS_PER_PANEL = 2.0


def smeared_power(r: ArrayLike, exponent: int, sigma: float) -> NDArray[np.float64]:
    """Field V_p of an atom at some distances."""
    x = np.asarray(r, dtype=float) ** 2 / (2 * sigma**2)
    a, near = exponent / 2, x < 1e-4
    safe = np.where(near, 1.0, x)
    ratio = np.where(safe > _POINT_LIKE, 1.0, gammainc(a, np.minimum(safe, _POINT_LIKE + 1))) / safe**a
    series = (1 / a - x / (a + 1) + x**2 / (2 * (a + 2)) - x**3 / (6 * (a + 3))) / gamma(a)
    return np.where(near, series, ratio) / (2 * sigma**2) ** a


def transformed_power(k: ArrayLike, exponent: int, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fourier transform of V_p at wave numbers k > 0, and its derivative by k."""
    k = np.asarray(k, dtype=float)
    a, x = (3 - exponent) / 2, (sigma * k) ** 2 / 2
    factor = np.pi**1.5 * 2.0 ** (3 - exponent) / gamma(exponent / 2)
    values = factor * k ** (-2 * a) * _upper_gamma(a, x)
    slopes = -2 * a * values / k - factor * k ** (1 - 2 * a) * sigma**2 * x ** (a - 1) * np.exp(-x)
    return values, slopes


def power_at_zero(exponent: int, sigma: float) -> float:
    """Integral of V_p over space where it is finite (p > 3), 0 elsewhere: that of a neutralizing background."""
    if exponent <= 3:
        return 0.0
    a = (3 - exponent) / 2
    return np.pi**1.5 * 2.0 ** (3 - exponent) / gamma(exponent / 2) * (sigma**2 / 2) ** a / -a


def _upper_gamma(a, x):
    """Incomplete gamma function of half an integer a <= 1, by the recurrence from 1, 1/2 or 0."""
    start = 1.0 if a == 1 else a % 1
    value = {1.0: np.exp(-x), 0.5: np.sqrt(np.pi) * erfc(np.sqrt(x)), 0.0: exp1(x)}[start]
    while start > a:
        start -= 1
        value = (value - x**start * np.exp(-x)) / start
    return value


def spherical_bessels(l_max: int, x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield j_l(x) for l = 0 .. l_max: by the recurrence upwards where that is stable, else downwards."""
    small = x < l_max + 1
    safe, few = np.where(small, 1.0, x), _downwards(l_max, x[small])
    before, value = np.cos(safe) / safe, np.sin(safe) / safe
    for l in range(l_max + 1):
        if l > 0:
            before, value = value, (2 * l - 1) / safe * value - before
        out = value.copy()
        out[small] = few[l]
        yield out


def _downwards(l_max, x):
    """Values of j_l at x < l_max + 1, by Miller's method; by the series where that would overflow."""
    tiny = x < _TINY
    safe = np.where(tiny, 1.0, x)
    above, value, values = np.zeros_like(x), np.full_like(x, 1e-280), []
    for l in range(l_max + _ORDERS_ABOVE, 0, -1):
        above, value = value, (2 * l + 1) / safe * value - above
        if l <= l_max + 2:
            values.append(value)
    values = values[::-1]
    first, second = np.sin(safe) / safe, np.sin(safe) / safe**2 - np.cos(safe) / safe
    large = np.abs(values[0]) > np.abs(values[1])
    scale = np.where(large, first, second) / np.where(large, values[0], values[1])
    result, power = [], np.ones_like(x)
    for l in range(l_max + 1):
        series = power * (1 - x**2 / (2 * (2 * l + 3)) + x**4 / (8 * (2 * l + 3) * (2 * l + 5)))
        result.append(np.where(tiny, series, values[l] * scale))
        power = power * x / (2 * l + 3)
    return result


def radial_transforms(basis: RadialBasis, l_max: int, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transform the radial functions, at some wave numbers, shape (n_k, l_max + 1, n_max)."""
    out = np.empty((len(k), l_max + 1, basis.n_max))
    waves = basis.support * np.max(k, initial=0.0) / (2 * np.pi)
    n_panels = int(
        np.ceil(max(basis.support * basis.n_max / basis.radius / _WIDTHS_PER_PANEL, _PANELS_PER_WAVE * waves))
    )
    r, weights = gauss_legendre_panels(np.linspace(0.0, basis.support, n_panels + 1))
    functions = [(basis.evaluate(l, r) * weights * r**2).T for l in range(l_max + 1)]
    for start in range(0, len(k), _DISTANCES_AT_ONCE):
        part = slice(start, start + _DISTANCES_AT_ONCE)
        for l, bessel in enumerate(spherical_bessels(l_max, k[part, None] * r)):
            out[part, l] = bessel @ functions[l]
    return out


def largest_wave(basis: RadialBasis, l_max: int, sigma: float, exponent: int, part: float) -> float:
    """Wave number beyond which the field, projected on the basis, is less than a part of its maximum."""
    k = np.linspace(0.0, _LARGEST_WAVE / sigma, 601)[1:]
    sizes = np.abs(radial_transforms(basis, l_max, k)).max(axis=(1, 2))
    sizes *= k**2 * transformed_power(k, exponent, sigma)[0]
    return float(k[min(np.flatnonzero(sizes > part * sizes.max())[-1] + 1, len(k) - 1)])


class TransformTable(RadialTable):
    """Transforms of radial functions as piecewise polynomials of the wave number, as loops take them.

    Parameters
    ----------
    basis : GTO or LaplacianEigenstates
    l_max : int
    sigma : float
        Width of the smeared atoms.
    exponent : int
    accuracy : float

    Attributes
    ----------
    cutoff : float
        Wave number beyond which the projected field is a tenth of the accuracy of its maximum.
    """

    def __init__(self, basis: RadialBasis, l_max: int, sigma: float, exponent: int, accuracy: float):
        self.basis, self.l_max = basis, l_max
        self.exponent, self.width = exponent, sigma
        self.split = self.cutoff = largest_wave(basis, l_max, sigma, exponent, accuracy / 10)
        self.cutoff_width = 0.0
        self.at_zero = radial_transforms(basis, 0, np.zeros(1))[0, 0]
        self._fit_all(max(accuracy * _FINER, _ROUNDING), 2 / basis.radius)

    def exact(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Transform without the table, shape (n_k, (l_max + 1) * n_max)."""
        k = np.asarray(distances, dtype=float)
        return radial_transforms(self.basis, self.l_max, k).reshape(len(k), -1)

    def _fit_all(self, accuracy, smooth):
        self.sigma = smooth  # the length that the search for the intervals begins with
        largest = np.abs(self.exact(np.linspace(0.0, self.split, 200))).max(axis=0)
        self._largest = np.where(largest > 0, largest, 1.0)
        coefficients, self.error = self._fit(0.0, self.split, accuracy)
        self.n_inner = len(coefficients)
        self.coefficients = padded(coefficients)
        self._typed = {"d": self.coefficients}


class PotentialTable(TransformTable):
    """Expansion coefficients W_nl(d) of the field of an atom as piecewise polynomials of the distance.

    Up to ``split`` they are made of the transforms, beyond by quadrature over space. There the intervals have one
    length, so that a table that reaches farther has the same values.

    Parameters
    ----------
    basis : GTO or LaplacianEigenstates
    l_max : int
    sigma : float
        Width of the smeared atoms.
    exponent : int
    reach : int
        The table ends at ``reach`` times ``split``.
    accuracy : float
    """

    def __init__(self, basis: RadialBasis, l_max: int, sigma: float, exponent: int, reach: int, accuracy: float):
        self.basis, self.l_max = basis, l_max
        self.exponent, self.width = exponent, sigma
        self.split = first_reach(basis, sigma)
        self._nodes, self._weights = self._wave_quadrature()
        self.center = self.exact([0.0])[0, : basis.n_max]
        self._fit_all(accuracy, sigma)
        self.sigma = self.split
        self.cutoff, self.cutoff_width = self.split * reach, self.split * (reach - 1)
        if reach > 1:
            outer, error = self._fit(self.split, 2 * self.split, accuracy)
            length = self.split / len(outer)
            starts = 2 * self.split + length * np.arange(len(outer) * (reach - 2))
            parts = [self._interpolated(starts[k : k + 64], length)[0] for k in range(0, len(starts), 64)]
            self.coefficients = padded(np.concatenate([self.coefficients[:, :, : self._largest.size], outer, *parts]))
            self.error, self._typed = max(self.error, error), {"d": self.coefficients}

    def exact(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Coefficients without the table, shape (n_distances, (l_max + 1) * n_max)."""
        distances = np.asarray(distances, dtype=float)
        out = np.empty((len(distances), self.l_max + 1, self.basis.n_max))
        near = distances <= self.split
        for rows, values in ((near, self._by_waves), (~near, self._by_angles)):
            at = np.flatnonzero(rows)
            for start in range(0, len(at), _DISTANCES_AT_ONCE):
                part = at[start : start + _DISTANCES_AT_ONCE]
                out[part] = values(distances[part])
        return out.reshape(len(distances), -1)

    def _wave_quadrature(self):
        """Wave numbers, and the transforms there times all that does not depend on the distance."""
        end = largest_wave(self.basis, self.l_max, self.width, self.exponent, _NEGLIGIBLE)
        n_panels = int(np.ceil(max(4, _PANELS_PER_WAVE * end * self.split / (2 * np.pi))))
        edges = np.linspace(0.0, end, n_panels + 1)
        graded = edges[1] * 0.5 ** np.arange(_HALVINGS, 0, -1)
        k, weights = gauss_legendre_panels(np.concatenate([[0.0], graded, edges[1:]]))
        weights = weights * 2 / np.pi * k**2 * transformed_power(k, self.exponent, self.width)[0]
        transforms = radial_transforms(self.basis, self.l_max, k) * weights[:, None, None]
        return k, np.ascontiguousarray(transforms.transpose(1, 0, 2))

    def _by_waves(self, d):
        bessels = spherical_bessels(self.l_max, d[:, None] * self._nodes)
        return np.stack([one @ weights for one, weights in zip(bessels, self._weights, strict=True)], axis=1)

    def _by_angles(self, d):
        n_panels = int(np.ceil(self.basis.support * self.basis.n_max / self.basis.radius / _WIDTHS_PER_PANEL))
        r, weights = gauss_legendre_panels(np.linspace(0.0, self.basis.support, n_panels + 1))
        cosines, of_angles = np.polynomial.legendre.leggauss(_ANGLES)
        legendre = np.polynomial.legendre.legvander(cosines, self.l_max) * of_angles[:, None] * 2 * np.pi
        out = np.empty((len(d), self.l_max + 1, self.basis.n_max))
        functions = [(self.basis.evaluate(l, r) * weights * r**2).T for l in range(self.l_max + 1)]
        for row, distance in enumerate(d):
            between = np.sqrt(r[:, None] ** 2 + distance**2 - 2 * r[:, None] * distance * cosines)
            by_degree = smeared_power(between, self.exponent, self.width) @ legendre
            for l in range(self.l_max + 1):
                out[row, l] = by_degree[:, l] @ functions[l]
        return out


def first_reach(basis: RadialBasis, sigma: float) -> float:
    """Distance beyond which the radial functions do not overlap with a smeared atom."""
    return max(_FAR * basis.support, basis.support + _FAR_WIDTHS * sigma)
