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
degree :math:`\nu l_{max} + \lambda`. With even and odd l apart, an inversion changes the sign of the odd ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from eqkernels._types import Floats
from eqkernels.kernels._wigner_loops import parity_powers
from eqkernels.so3 import wigner_d

# Bytes of a function on the rotations of the pairs that are treated at once: they stay in the cache.
_BYTES_PER_STEP = 2**20


@dataclass(frozen=True)
class RotationGrid:
    """Values of Wigner D matrices on the rotations of a quadrature.

    Attributes
    ----------
    parts : tuple of two ndarray of shape (n_coefficients, n_rotations)
        Those that multiply the overlaps of even and of odd l, as flat m, n, by ascending l.
    projection : ndarray of shape (n_rotations, (2 lambda + 1)^2)
        With the weights of the quadrature.
    mean : ndarray of shape (n_rotations,)
        The weights.
    """

    parts: tuple[Floats, Floats]
    projection: Floats
    mean: Floats

    @property
    def pairs_per_step(self) -> int:
        """Pairs of environments that are treated at once."""
        return max(1, _BYTES_PER_STEP // (8 * len(self.mean)))


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
    angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    about_z, about_y = _rotations(2, angles), _rotations(1, np.arccos(cosines))

    def matrices(l):
        z, y = wigner_d(l, about_z), wigner_d(l, about_y)
        product = np.einsum("amx,bxy,cyn->mnabc", z, y, z, optimize=True)
        return product.reshape((2 * l + 1) ** 2, -1)

    size = len(angles)
    mean = np.repeat(np.tile(of_cosines / 2, size), size) / size**2
    parts = tuple(
        np.concatenate([np.zeros((0, len(mean))), *(matrices(l) for l in range(first, l_max + 1, 2))])
        for first in (0, 1)
    )
    projection = np.ascontiguousarray(((2 * lam + 1) * mean * matrices(lam)).T)
    return RotationGrid(parts, projection, mean)  # type: ignore[arg-type]


def _rotations(axis, angles):
    """Rotation matrices about a Cartesian axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    out = np.zeros((len(angles), 3, 3))
    out[:, axis, axis] = 1
    out[:, first, first] = out[:, second, second] = np.cos(angles)
    out[:, second, first] = np.sin(angles)
    out[:, first, second] = -np.sin(angles)
    return out


def coupled(grid: RotationGrid, order: int, parity: int, overlaps: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Couplings of overlaps to the irrep of a grid, and to scalars.

    Parameters
    ----------
    grid : RotationGrid
    order : int
        Factors nu.
    parity : {1, -1}
        Of the irrep under inversion.
    overlaps : tuple of two ndarray of shape (n_pairs, n_coefficients)
        Of even and odd l.

    Returns
    -------
    products : ndarray of shape (n_pairs, (2 lambda + 1)^2)
    scalars : ndarray of shape (n_pairs,)
    """
    products, scalars = np.empty((len(overlaps[0]), grid.projection.shape[1])), np.empty(len(overlaps[0]))
    for start in range(0, len(scalars), grid.pairs_per_step):
        rows = slice(start, start + grid.pairs_per_step)
        even, odd = (part[rows] @ values for part, values in zip(overlaps, grid.parts, strict=True))
        parity_powers(even, odd, order)
        products[rows] = (even if parity == 1 else odd) @ grid.projection
        scalars[rows] = even @ grid.mean
    return products, scalars


def coupled_vjp(
    grid: RotationGrid,
    order: int,
    parity: int,
    overlaps: tuple[Floats, Floats],
    of_products: Floats,
    of_scalars: Floats,
) -> tuple[Floats, Floats]:
    """Differentiate sum(of_products * products + of_scalars * scalars) of :func:`coupled` by the overlaps.

    Parameters
    ----------
    grid, order, parity, overlaps
        As of :func:`coupled`.
    of_products : ndarray of shape (n_pairs, (2 lambda + 1)^2)
    of_scalars : ndarray of shape (n_pairs,)

    Returns
    -------
    tuple of two ndarray of shape (n_pairs, n_coefficients)
    """
    out = tuple(np.empty(part.shape) for part in overlaps)
    for start in range(0, len(of_scalars), grid.pairs_per_step):
        rows = slice(start, start + grid.pairs_per_step)
        even, odd = (part[rows] @ values for part, values in zip(overlaps, grid.parts, strict=True))
        if order == 1:
            even, odd = np.ones(even.shape), np.zeros(odd.shape)
        else:
            parity_powers(even, odd, order - 1)
        along = order * (of_products[rows] @ grid.projection.T)
        mean = order * of_scalars[rows, None] * grid.mean
        same, other = (even, odd) if parity == 1 else (odd, even)
        for part, values, slopes in zip(out, grid.parts, (along * same + mean * even, along * other + mean * odd),
                                        strict=True):  # fmt: skip
            part[rows] = slopes @ values.T
    return out  # type: ignore[return-value]
