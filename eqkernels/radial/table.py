r"""Piecewise polynomials that replace the radial integrals in the loops.

Tabulated is the whole radial weight of a neighbor at distance d,

.. math:: W_{nl}(d) = f_{cut}(d)\, u(d)\, I_{nl}(d) ,

with the shifted-cosine cutoff :math:`f_{cut}`, the radial scaling u (Willatt et al., Phys. Chem. Chem. Phys. 20, 29661
(2018), eq. 11) and the exact integral I. Every interval holds the polynomial of degree 7 that has the values and slopes
of W at both ends and its values at four points between them, so that the table and its derivative are
continuous. A knot sits where the cutoff function begins to fall, for its curvature jumps there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import check_positive
from eqkernels.radial.basis import RadialBasis
from eqkernels.radial.integrals import RadialIntegrals

DEGREE = 7
# Loops take the functions in vectors of 64 bytes.
_VECTOR_BYTES = 64
# Inner points of an interval, which make the largest error (that of (1 - t^2)^2 (t^2 - a^2) (t^2 - b^2)) small.
_INNER_POINTS = np.array([-0.627, -0.219, 0.219, 0.627])
# Where the error is looked for inside each interval: where that polynomial is large.
_PROBES = np.array([-0.9, -0.5, 0.0, 0.5, 0.9])
# Points of the interpolation that the slopes are taken from: as exact as rounding permits.
_FINE_POINTS = np.cos(np.pi * (np.arange(16) + 0.5) / 16)
# Smooth functions need a few dozen intervals. So many at most, and so many coefficients in all (128 MB).
_MAX_INTERVALS, _MAX_COEFFICIENTS = 4096, 2**24
# How many intervals are needed is found on so many of them, the first ones and some throughout: where the Gaussian is
# narrow, the functions change fastest close to the center.
_FIRST_INTERVALS, _OTHER_INTERVALS = 4, 12
# Intervals whose exact values are held at once.
_INTERVALS_PER_PART = 256
# Parts of the cutoff. Distances are rounded to some 1e-14: across a narrower shell that would show in the features.
_SMALLEST_CUTOFF_WIDTH = 1e-3
# More positions than this along the cutoff are not resolved by any data, and a Gaussian this wide is flat.
_SMALLEST_SIGMA, _LARGEST_SIGMA = 1e-3, 10.0


def cutoff_function(distances, cutoff, width):
    """Shifted cosine: 1 up to ``cutoff - width``, then half a cosine down to 0 at ``cutoff``."""
    distances = np.asarray(distances, dtype=float)
    phase = np.clip((distances - cutoff + width) / width, 0.0, 1.0)
    return 0.5 * (1 + np.cos(np.pi * phase))


def radial_scaling(distances, rate, scale, exponent):
    """Weight rate / (rate + (d / scale)^exponent) of neighbors at distance d; 1 everywhere when scale is None."""
    distances = np.asarray(distances, dtype=float)
    if scale is None:
        return np.ones_like(distances)
    with np.errstate(over="ignore"):  # of powers: the weight is zero there
        return rate / (rate + (distances / scale) ** exponent)


def length_problems(cutoff, cutoff_width, sigma):
    """Yield what is wrong with three positive lengths, taken together."""
    if cutoff_width > cutoff:
        yield f"cutoff_width={cutoff_width!r} must not exceed cutoff={cutoff!r}"
    if cutoff_width < _SMALLEST_CUTOFF_WIDTH * cutoff:
        yield (
            f"cutoff_width={cutoff_width!r} must be at least {_SMALLEST_CUTOFF_WIDTH * cutoff:g} (0.001 of it): "
            "with a sharper edge rounding decides which atoms of a shell at the cutoff count, and equal atoms get "
            f"unequal features; write cutoff_width={0.1 * cutoff:.2g}, say"
        )
    units = "both are in the units of the positions, which for ase.Atoms are Angstrom"
    if sigma < _SMALLEST_SIGMA * cutoff:
        yield (
            f"sigma={sigma!r} resolves {cutoff / sigma:.2g} positions within cutoff={cutoff!r}, at most "
            f"{1 / _SMALLEST_SIGMA:g} are possible: {units}; usual are sigma=0.3 and cutoff=5.0"
        )
    if sigma > _LARGEST_SIGMA * cutoff:
        yield (
            f"sigma={sigma!r} is {sigma / cutoff:.2g} times cutoff={cutoff!r}, so that nothing within it is resolved: "
            f"{units}; usual are sigma=0.3 and cutoff=5.0"
        )


class RadialTable:
    """Radial weights of neighbors as piecewise polynomials.

    Parameters
    ----------
    basis : GTO or LaplacianEigenstates
        Radial basis.
    l_max : int
        Highest angular momentum.
    sigma : float
        Width of the atomic Gaussians.
    cutoff : float
        Distance at which neighbors stop to count.
    cutoff_width : float, default=0.5
        Width of the shell in which the cutoff function falls from 1 to 0, at least 0.001 of the cutoff.
    scaling : tuple of (rate, scale, exponent), default=(1.0, None, 4.0)
        Radial scaling; none when ``scale`` is None.
    accuracy : float, default=1e-9
        Bound on the error of every W_nl(d), relative to the largest value that the function takes.

    Attributes
    ----------
    coefficients : ndarray of shape (n_intervals, 8, n_columns)
        Polynomial coefficients, ascending powers of the position in the interval, which runs from -1 to 1, of the
        (l_max + 1) * n_max functions and of as many zeros as make the columns a multiple of 8.
    n_inner : int
        Number of intervals between 0 and ``split``, where the cutoff function begins to fall; the others follow.
    center : ndarray of shape (n_max,)
        I_n0(0): the radial weight of the central atom itself.
    error : float
        Largest relative error that was measured.

    Raises
    ------
    ValueError
        If the lengths do not go together, or if that accuracy would take too large a table; the message says which
        parameter to change.

    Examples
    --------
    >>> import numpy as np
    >>> from eqkernels.radial import GTO
    >>> table = RadialTable(GTO(4, 5.0), l_max=3, sigma=0.4, cutoff=5.0)
    >>> d = np.linspace(0.5, 4.9, 7)
    >>> bool(np.abs(table(d) - table.exact(d)).max() < 1e-9 * np.abs(table(d)).max())
    True
    """

    def __init__(
        self,
        basis: RadialBasis,
        l_max: int,
        sigma: float,
        cutoff: float,
        cutoff_width: float = 0.5,
        scaling: tuple[float, float | None, float] = (1.0, None, 4.0),
        accuracy: float = 1e-9,
    ):
        for name, value in (
            ("sigma", sigma), ("cutoff", cutoff), ("accuracy", accuracy), ("cutoff_width", cutoff_width or 1.0)
        ):  # fmt: skip
            check_positive(value, name)
        if not isinstance(scaling, tuple) or len(scaling) != 3:
            raise TypeError(f"scaling={scaling!r} must be a tuple (rate, scale, exponent)")
        self.basis, self.l_max, self.sigma = basis, l_max, sigma
        self.cutoff, self.cutoff_width, self.scaling = float(cutoff), min(cutoff_width, cutoff), scaling
        problems = list(length_problems(self.cutoff, self.cutoff_width, sigma))
        if problems:
            raise ValueError("; ".join(problems))
        self._integrals = RadialIntegrals(basis, l_max, sigma, self.cutoff)
        self.center = self._integrals([0.0])[0, 0]
        self.split = self.cutoff - self.cutoff_width
        largest = np.abs(self.exact(np.linspace(0.0, self.cutoff, 400, endpoint=False))).max(axis=0)
        self._largest = np.where(largest > 0, largest, 1.0)
        parts = [self._fit(a, b, accuracy) for a, b in ((0.0, self.split), (self.split, self.cutoff)) if b > a]
        # with a single part (cutoff width the whole cutoff) the other one has no intervals
        self.n_inner = len(parts[0][0]) if self.split > 0 else 0
        self.coefficients = padded(np.concatenate([part[0] for part in parts]))
        self._typed = {"d": self.coefficients}
        self.error = max(part[1] for part in parts)

    def exact(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Radial weights without the table, shape (n_distances, (l_max + 1) * n_max)."""
        weight = cutoff_function(distances, self.cutoff, self.cutoff_width)
        weight = weight * radial_scaling(distances, *self.scaling)
        integrals = self._integrals(distances)
        return weight[:, None] * integrals.reshape(len(integrals), -1)

    def __call__(self, distances: ArrayLike) -> NDArray[np.float64]:
        """Radial weights from the table, shape (n_distances, (l_max + 1) * n_max); distances below the cutoff."""
        distances = np.asarray(distances, dtype=float)
        n_outer = len(self.coefficients) - self.n_inner
        inner = (distances < self.split) | (n_outer == 0)
        x = np.where(inner, distances / max(self.split, self.cutoff * 1e-300) * self.n_inner,
                     (distances - self.split) / max(self.cutoff_width, 1e-300) * n_outer)  # fmt: skip
        interval = np.minimum(x.astype(int), np.where(inner, self.n_inner, n_outer) - 1)
        position = (2 * (x - interval) - 1)[:, None]
        table = self.coefficients[interval + np.where(inner, 0, self.n_inner), :, : self._largest.size]
        value = table[:, -1]
        for power in range(DEGREE - 1, -1, -1):
            value = value * position + table[:, power]
        return value

    def loop_arguments(self, dtype: str = "d") -> tuple[Any, ...]:
        """Return what loops need to evaluate the table, its coefficients as type "d" (double) or "f" (single)."""
        if dtype not in self._typed:
            self._typed[dtype] = padded(self.coefficients[:, :, : self._largest.size].astype(dtype))
        return self.split, self.cutoff, self.n_inner, self._typed[dtype]

    def _fit(self, start, end, accuracy):
        """Coefficients and their error, on as many equal intervals as the accuracy needs."""
        smooth = max(self.sigma, self.basis.radius / (4 * self.basis.n_max))
        n_intervals = max(1, int(np.ceil((end - start) / smooth)))
        most = min(_MAX_INTERVALS, _MAX_COEFFICIENTS // ((DEGREE + 1) * self._largest.size))
        error, worst = np.inf, start
        while n_intervals < most:
            edges, length = np.linspace(start, end, n_intervals + 1), (end - start) / n_intervals
            others = np.linspace(0, n_intervals - 1, min(_OTHER_INTERVALS, n_intervals)).astype(int)
            watched = min(int((worst - start) / length), n_intervals - 1)
            some = [*range(min(_FIRST_INTERVALS, n_intervals)), *others, watched]
            error = self._interpolated(edges[some], length)[1].max()
            if error <= accuracy / 2:
                parts = [
                    self._interpolated(edges[k : min(k + _INTERVALS_PER_PART, n_intervals)], length)
                    for k in range(0, n_intervals, _INTERVALS_PER_PART)
                ]
                errors = np.concatenate([part[1] for part in parts])
                error, worst = errors.max(), edges[errors.argmax()] + length / 2
            if error <= accuracy / 2:
                return np.concatenate([part[0] for part in parts]), error
            # the error falls with the eighth power of the length
            n_intervals = int(np.ceil(n_intervals * min(max(1.1, (2 * error / accuracy) ** 0.125), 2.0)))
        raise ValueError(
            f"the radial integrals could not be tabulated to accuracy={accuracy:g} between {start:g} and {end:g} "
            f"({most} intervals are too few; an error of {error:.1e} was reached): use a larger accuracy, a wider "
            f"sigma (now {self.sigma:g}, for a cutoff of {self.cutoff:g}; both in the units of the positions), smaller "
            "n_max or l_max, or a smaller exponent of the radial scaling"
        )

    def _interpolated(self, starts, length):
        """Coefficients of the intervals that begin at some distances, and their errors."""
        at = starts[:, None] + length / 2 * (1 + np.concatenate([_FINE_POINTS, _PROBES]))
        values = self.exact(at.ravel()).reshape(*at.shape, -1)
        coefficients = _interpolation() @ values[:, : len(_FINE_POINTS)]
        probed = np.vander(_PROBES, DEGREE + 1, increasing=True) @ coefficients
        return coefficients, (np.abs(probed - values[:, len(_FINE_POINTS) :]) / self._largest).max(axis=(1, 2))


def padded(coefficients):
    """Coefficients with as many zeros behind them as fill whole vectors."""
    n_zeros = -coefficients.shape[2] % (_VECTOR_BYTES // coefficients.itemsize)
    return np.pad(coefficients, ((0, 0), (0, 0), (0, n_zeros)))


@lru_cache(maxsize=1)
def _interpolation():
    """Matrix from the values at the fine points to the coefficients of the polynomial of degree 7."""
    n_fine = len(_FINE_POINTS)
    fine = np.linalg.inv(np.polynomial.chebyshev.chebvander(_FINE_POINTS, n_fine - 1))
    at = np.concatenate([[-1.0, 1.0], _INNER_POINTS])
    values = np.polynomial.chebyshev.chebvander(at, n_fine - 1) @ fine
    slopes = np.array(
        [np.polynomial.chebyshev.chebval([-1.0, 1.0], np.polynomial.chebyshev.chebder(c)) for c in fine.T]
    )
    powers = np.arange(DEGREE + 1)
    ends = np.array([-1.0, 1.0])[:, None]
    conditions = np.concatenate(
        [np.vander(at, DEGREE + 1, increasing=True), powers * ends ** np.maximum(powers - 1, 0)]
    )
    return np.linalg.solve(conditions, np.concatenate([values, slopes.T]))
