r"""Real spherical harmonics.

Orthonormal, without the Condon-Shortley phase, ordered m = -l .. l:

.. math::
    Y_{l m} = \bar P_l^m(z)\, \mathrm{Re}\,(x + iy)^m , \quad
    Y_{l,-m} = \bar P_l^m(z)\, \mathrm{Im}\,(x + iy)^m , \quad m \ge 0,

where (x, y, z) is a unit vector and the normalized Legendre functions, divided by :math:`\sin^m\theta`, follow
from the stable recurrence upwards in l. No angle is ever computed, so that the poles are nothing special.
"""

from __future__ import annotations

from functools import lru_cache
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import real_array
from eqkernels.so3._spherical_harmonics_loops import fill_spherical_harmonics

# Far beyond what the tables of recurrence coefficients serve.
_DEGREE_LIMIT = 500


def spherical_harmonics(
    vectors: ArrayLike, l_max: int, *, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Real orthonormal spherical harmonics of the directions of vectors.

    Parameters
    ----------
    vectors : array-like of shape (..., 3)
        Vectors of any length. The zero vector (shorter than 1e-300) has no direction: its harmonics are 0 for l > 0.
    l_max : int
        Highest degree.
    out : ndarray of shape (..., (l_max + 1)**2), default=None
        C-contiguous float64 array to write to.

    Returns
    -------
    ndarray of shape (..., (l_max + 1)**2)
        Degree l stands at ``l**2 : (l + 1)**2``, m from -l to l; l = 1 is (y, z, x) times sqrt(3 / 4 pi).

    Raises
    ------
    ValueError
        If the last axis is not 3, a component is not finite, l_max is negative, or ``out`` does not fit.
    TypeError
        If l_max is not an integer.

    References
    ----------
    F. Bigi, G. Fraux, N. J. Browning, M. Ceriotti, J. Chem. Phys. 159, 064802 (2023), for the same conventions.

    Examples
    --------
    >>> spherical_harmonics([1.0, 2.0, 2.0], 1).round(4)
    array([0.2821, 0.3257, 0.3257, 0.1629])
    """
    vectors = real_array(vectors, "vectors")
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise ValueError(f"vectors have shape {vectors.shape}, the last axis must be 3 (x, y, z)")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors contain NaN or infinity")
    l_max = check_degree(l_max, "l_max")
    if l_max > _DEGREE_LIMIT:
        raise ValueError(f"l_max={l_max} must not exceed {_DEGREE_LIMIT}")
    shape = (*vectors.shape[:-1], (l_max + 1) ** 2)
    if out is None:
        out = np.empty(shape)
    elif not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a float64 array of shape {shape}, got {type(out).__name__}")
    elif out.shape != shape or out.dtype != np.float64 or not (out.flags.c_contiguous and out.flags.writeable):
        kind = "" if out.flags.writeable else "read-only "
        raise ValueError(
            f"out must be a writeable, C-contiguous float64 array of shape {shape}, got {kind}{out.dtype} {out.shape}"
        )
    flat = np.ascontiguousarray(vectors.reshape(-1, 3))
    fill_spherical_harmonics(flat, l_max, harmonics_prefactors(l_max), out.reshape(-1, shape[-1]))
    return out


@lru_cache(maxsize=64)
def harmonics_prefactors(l_max):
    """Start values and recurrence coefficients of the normalized Legendre functions, (3, l_max + 1, l_max + 1)."""
    table = np.zeros((3, l_max + 1, l_max + 1))
    for m in range(l_max + 1):
        ratios = [(2 * k + 1) / (2 * k) for k in range(1, m + 1)]
        table[0, m, m] = np.sqrt(np.prod(ratios) / (4 * np.pi) * (2 if m > 0 else 1))
        for l in range(m + 1, l_max + 1):
            table[1, l, m] = np.sqrt((4 * l**2 - 1) / (l**2 - m**2))
            if l > m + 1:
                table[2, l, m] = table[1, l, m] / table[1, l - 1, m]
    return table


def check_degree(l, name="l"):
    """Return the degree as an int, or say what is wrong with it."""
    if not isinstance(l, Integral) or isinstance(l, bool):
        raise TypeError(f"{name}={l!r} must be an integer")
    if l < 0:
        raise ValueError(f"{name}={l} must not be negative")
    return int(l)
