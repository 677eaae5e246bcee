r"""Couplings of overlaps of two densities, as powers of a function of rotations.

Overlaps :math:`S^l_{mn} = \sum_q c^i_{qlm} c^j_{qln}` of the densities of two environments are the coefficients of the
overlap as a function of a rotation of one of them,

.. math:: k(\hat R) = \sum_l \sum_{mn} D^l_{mn}(\hat R)\, S^l_{mn} .

Products of Wigner D matrices are coupled by Clebsch-Gordan coefficients, so that the coefficients of its powers,

.. math:: K^{(\nu) \lambda}_{\mu\mu'} = (2 \lambda + 1) \int D^\lambda_{\mu\mu'}(\hat R)\, k(\hat R)^\nu\, d\hat R ,

obey :math:`K^{(\nu+1) L}_{MM'} = \sum_{l_1 l_2} \sum_{m_1 m_2 n_1 n_2} \langle l_1 m_1 l_2 m_2 | LM \rangle
\langle l_1 n_1 l_2 n_2 | LM' \rangle K^{(\nu) l_1}_{m_1 n_1} S^{l_2}_{m_2 n_2}` with all :math:`l_1` up to
:math:`\nu l_{max}`: none is left out. The integral over all proper and improper rotations, which leaves terms of one
parity, is a sum over a product quadrature in Euler angles (uniform, Gauss-Legendre, uniform) that is exact for the
degree :math:`\nu l_{max} + \lambda`. An inversion changes the sign of the terms of odd l, half turns about z before and
after the rotation those of odd m and n: with these apart, matrices for a fourth of the rotations are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eqkernels._types import Floats, Ints
from eqkernels.kernels._rotation_loops import parity_powers, parity_slopes
from eqkernels.so3 import wigner_d

# Bytes of the arrays of the pairs that are treated at once: they stay in the cache.
_BYTES_PER_STEP = 2**21


@dataclass(frozen=True)
class RotationGrid:
    """Values of Wigner D matrices on a fourth of the rotations of a quadrature.

    Attributes
    ----------
    order : ndarray of int, shape (n_coefficients,)
        Positions among the overlaps, by l, m, n, in the order of the matrices.
    matrices : list of eight ndarray of shape (n, n_rotations)
        Those of even, then of odd l, with even m and n, even m and odd n, odd m and even n, odd m and n.
    places : list of four ndarray of int
        Positions of the components of the irrep, by m and n, of even m and n, ... as above.
    projections : list of four ndarray of shape (n_rotations, n)
        Matrices of the irrep, with the weights of the quadrature.
    mean : ndarray of shape (n_rotations,)
        The weights.
    """

    order: Ints
    matrices: list[Floats]
    places: list[Ints]
    projections: list[Floats]
    mean: Floats

    def steps(self, overlaps: Floats) -> Iterator[tuple[slice, Floats, Floats]]:
        """Take some pairs at a time: the parts of their functions on the rotations, and room for those of powers.

        Parameters
        ----------
        overlaps : ndarray of shape (n_pairs, n_coefficients)

        Yields
        ------
        rows : slice
        parts : ndarray of shape (8, n, n_rotations)
        powers : ndarray of shape (5, n, n_rotations)
            The same memory in all steps, as of the parts.
        """
        size = min(len(overlaps), max(1, _BYTES_PER_STEP // (8 * 13 * len(self.mean))))
        buffer = np.empty((13, size, len(self.mean)))
        for begin in range(0, len(overlaps), max(1, size)):
            some = overlaps[begin : begin + size][:, self.order]
            parts, start = buffer[:, : len(some)], 0
            for part, matrix in zip(parts, self.matrices, strict=False):
                np.matmul(some[:, start : start + len(matrix)], matrix, out=part)
                start += len(matrix)
            yield slice(begin, begin + len(some)), parts[:8], parts[8:]


@lru_cache(maxsize=16)
def rotation_grid(l_max: int, degree: int, lam: int) -> RotationGrid:
    """Quadrature that is exact for products of D matrices up to a degree.

    Parameters
    ----------
    l_max : int
        Of the densities.
    degree : int
        Largest sum of degrees in a product.
    lam : int
        Degree of the irrep to project on.

    Returns
    -------
    RotationGrid
    """
    cosines, of_cosines = np.polynomial.legendre.leggauss((degree + 2) // 2)
    size = 2 * (degree // 2 + 1)  # even, and larger than the degree
    angles = 2 * np.pi * np.arange(size // 2) / size  # the others are half turns away
    about_z, about_y = _rotations(2, angles), _rotations(1, np.arccos(cosines))

    def matrices(l):
        z, y = wigner_d(l, about_z), wigner_d(l, about_y)
        return np.einsum("amx,bxy,cyn->mnabc", z, y, z, optimize=True).reshape((2 * l + 1) ** 2, -1)

    mean = np.repeat(np.tile(of_cosines / 2, len(angles)), len(angles)) / size**2
    kinds = np.concatenate([4 * (l % 2) + _kinds(l) for l in range(l_max + 1)])
    values = np.concatenate([matrices(l) for l in range(l_max + 1)])
    chosen = [np.flatnonzero(kinds == kind) for kind in range(8)]
    places = [np.flatnonzero(_kinds(lam) == kind) for kind in range(4)]
    projection = (2 * lam + 1) * mean * matrices(lam)
    projections = [np.ascontiguousarray(projection[one].T) for one in places]
    return RotationGrid(np.concatenate(chosen), [values[one] for one in chosen], places, projections, mean)


def _kinds(l):
    """Whether m and n of each component are odd, as 2 for m and 1 for n."""
    odd = np.abs(np.arange(-l, l + 1)) % 2
    return (2 * odd[:, None] + odd).ravel()


def _rotations(axis, angles):
    """Rotation matrices about a Cartesian axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    out = np.zeros((len(angles), 3, 3))
    out[:, axis, axis] = 1
    out[:, first, first] = out[:, second, second] = np.cos(angles)
    out[:, second, first] = np.sin(angles)
    out[:, first, second] = -np.sin(angles)
    return out


def coupled(grid: RotationGrid, order: int, parity: int, overlaps: Floats) -> tuple[Floats, Floats]:
    """Couplings of overlaps to the irrep of a grid, and to scalars.

    Parameters
    ----------
    grid : RotationGrid
    order : int
        Factors nu.
    parity : {1, -1}
        Of the irrep under inversion.
    overlaps : ndarray of shape (n_pairs, n_coefficients)
        By l, m, n.

    Returns
    -------
    products : ndarray of shape (n_pairs, (2 lambda + 1)^2)
    scalars : ndarray of shape (n_pairs,)
    """
    products, scalars = np.empty((len(overlaps), sum(map(len, grid.places)))), np.empty(len(overlaps))
    work = np.empty((4, 4, len(grid.mean)))
    for rows, parts, powers in grid.steps(overlaps):
        parity_powers(parts, order, float(parity), work, powers)
        for part, places, projection in zip(powers, grid.places, grid.projections, strict=False):
            products[rows, places] = part @ projection
        scalars[rows] = powers[4] @ grid.mean
    return products, scalars


def coupled_vjp(
    grid: RotationGrid, order: int, parity: int, overlaps: Floats, of_products: Floats, of_scalars: Floats
) -> Floats:
    """Differentiate sum(of_products * products + of_scalars * scalars) of :func:`coupled` by the overlaps.

    Parameters
    ----------
    grid, order, parity, overlaps
        As of :func:`coupled`.
    of_products : ndarray of shape (n_pairs, (2 lambda + 1)^2)
    of_scalars : ndarray of shape (n_pairs,)

    Returns
    -------
    ndarray of shape (n_pairs, n_coefficients)
    """
    out, work = np.empty(overlaps.shape), np.empty((4, 4, len(grid.mean)))
    for rows, parts, cotangents in grid.steps(overlaps):
        for part, places, projection in zip(cotangents, grid.places, grid.projections, strict=False):
            part[:] = of_products[rows][:, places] @ projection.T
        cotangents[4] = of_scalars[rows, None] * grid.mean
        parity_slopes(parts, order, float(parity), cotangents, work)
        slopes = np.concatenate([part @ matrix.T for part, matrix in zip(parts, grid.matrices, strict=True)], axis=1)
        out[rows, grid.order] = slopes
    return out
