r"""Exact radial integrals of a Gaussian that stands at distance d from the center.

The expansion coefficients of the normalized Gaussian :math:`g_\sigma(\mathbf r - \mathbf d)` in
:math:`R_{nl}(r) Y_{lm}(\hat{\mathbf r})` are :math:`I_{nl}(d)\, Y_{lm}(\hat{\mathbf d})` with

.. math::
    I_{nl}(d) = \frac{4\pi}{(2\pi\sigma^2)^{3/2}} \int_0^\infty R_{nl}(r)\, e^{-(r - d)^2 / 2\sigma^2}
    \left[ e^{-x} i_l(x) \right] r^2 dr , \qquad x = r d / \sigma^2 ,

where :math:`i_l` is the modified spherical Bessel function of the first kind (Bartok et al., Phys. Rev. B 87, 184115
(2013), eq. 30). The integrand is smooth on the scale of sigma, so that Gauss-Legendre panels of
that width give it to rounding; nothing is assumed of the basis.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import check_integer, check_positive
from eqkernels.radial.basis import RadialBasis, gauss_legendre_panels

# exp(-9.5^2 / 2) = 3e-20: the Gaussian is followed this many widths beyond the farthest distance.
_TAIL_IN_SIGMAS = 9.5
# Distances handled at once: at most so many, over so many sigmas. This bounds work arrays of (nodes x distances).
_BLOCK, _BLOCK_IN_SIGMAS = 256, 20.0


class RadialIntegrals:
    """Integrals I_nl(d), exact to rounding, for distances up to a reach.

    Parameters
    ----------
    basis : GTO or LaplacianEigenstates
        Any object with ``n_max``, ``radius``, ``support`` and ``evaluate(l, r)``.
    l_max : int
        Highest angular momentum.
    sigma : float
        Width of the Gaussian, in the units of the positions.
    reach : float
        Largest distance that will be asked for.

    Examples
    --------
    A narrow Gaussian samples the radial function at its own position:

    >>> from eqkernels.radial import GTO
    >>> basis = GTO(n_max=2, radius=3.0)
    >>> integrals = RadialIntegrals(basis, l_max=0, sigma=0.01, reach=3.0)
    >>> value = basis.evaluate(0, 1.5)[0, 0]
    >>> bool(abs(integrals([1.5])[0, 0, 0] - value) < 1e-3 * abs(value))
    True
    """

    def __init__(self, basis: RadialBasis, l_max: int, sigma: float, reach: float):
        for name in ("n_max", "radius", "support", "evaluate"):
            if not hasattr(basis, name):
                raise TypeError(f"basis={basis!r} has no {name}: give a GTO or LaplacianEigenstates")
        check_integer(l_max, "l_max", 0, 100)
        check_positive(sigma, "sigma")
        check_positive(reach, "reach")
        self.l_max, self.n_max, self.sigma = l_max, basis.n_max, sigma
        end = min(basis.support, reach + _TAIL_IN_SIGMAS * sigma)
        n_panels = int(np.ceil(end / min(sigma, basis.radius / basis.n_max)))
        self._nodes, weights = gauss_legendre_panels(np.linspace(0.0, end, n_panels + 1))
        weights = weights * self._nodes**2 * 4 * np.pi / (2 * np.pi * sigma**2) ** 1.5
        self._functions = [basis.evaluate(l, self._nodes) * weights for l in range(l_max + 1)]

    def __call__(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Integrals at an array of distances, shape (n_distances, l_max + 1, n_max)."""
        distances = np.asarray(distances, dtype=float)
        out = np.empty((len(distances), self.l_max + 1, self.n_max))
        order = np.argsort(distances, kind="stable")
        ascending, tail, start = distances[order], _TAIL_IN_SIGMAS * self.sigma, 0
        while start < len(distances):
            stop = np.searchsorted(ascending, ascending[start] + _BLOCK_IN_SIGMAS * self.sigma, side="right")
            rows, d = order[start : min(stop, start + _BLOCK)], ascending[start : min(stop, start + _BLOCK)]
            near = slice(*np.searchsorted(self._nodes, (d[0] - tail, d[-1] + tail)))
            r = self._nodes[near, None]
            gaussian = np.exp(-((r - d) ** 2) / (2 * self.sigma**2))
            for l, bessel in enumerate(scaled_spherical_in(self.l_max, r * d / self.sigma**2)):
                out[rows, l] = (self._functions[l][:, near] @ (gaussian * bessel)).T
            start += len(rows)
        return out


def scaled_spherical_in(l_max, x):
    r"""Yield :math:`e^{-x} i_l(x)` for l = 0 .. l_max, at arguments x >= 0 of any size.

    The recurrence :math:`i_{l-1} - i_{l+1} = (2l + 1)\, i_l / x` is run upwards where x is large, since the rounding of
    its start grows only by :math:`\exp(l^2 / 2x)`, and downwards in the ratios of neighboring orders elsewhere,
    where those never underflow and forget their start, the bound of Amos (Math. Comp. 28, 239 (1974)).
    """
    x = np.asarray(x, dtype=float)
    large = x > l_max * (l_max + 1) / 2 + 10
    divisor = np.where(x > 0, x, 1.0)
    ratios = np.ones(l_max) if large.all() else _ratios_downwards(l_max, np.where(large, 1.0, x))
    before = np.where(x < 1e-8, 1.0 - x, -np.expm1(-2 * x) / (2 * divisor))
    yield before
    value = before
    for l in range(1, l_max + 1):
        # i_{-1} of the recurrence is cosh(x) / x
        lower = 0.5 * (1 + np.exp(-2 * x)) / divisor if l == 1 else before
        upwards = lower - (2 * l - 1) / divisor * value
        before, value = value, np.where(large, upwards, value * ratios[l - 1])
        yield value


def _ratios_downwards(l_max, x):
    # 3 l_max + 24 orders above l_max suffice for the start to be forgotten up to the x where `large` begins
    top = 4 * l_max + 24
    ratio = x / (top + np.sqrt((top + 1) ** 2 + x**2))
    ratios = []
    for l in range(top - 1, 0, -1):
        ratio = x / (2 * l + 1 + x * ratio)
        if l <= l_max:
            ratios.append(ratio)
    return ratios[::-1]
