r"""Clebsch-Gordan coefficients for real spherical harmonics.

The complex coefficients are summed in exact integers (Racah's formula in binomials; Varshalovich et al., Quantum Theory
of Angular Momentum, 1988, section 8.2) and changed to the real basis with the unitary matrices U of
:func:`real_to_complex`,

.. math::
    C_{m_1 m_2 m_3} = i^{\,l_3 - l_1 - l_2} \sum_{M_1 M_2 M_3} U^{l_1}_{M_1 m_1} U^{l_2}_{M_2 m_2}
    \langle l_1 M_1\, l_2 M_2 | l_3 M_3 \rangle\, \overline{U^{l_3}_{M_3 m_3}} .

The phase, that of harmonics :math:`i^l Y_{lm}`, makes them all real, :math:`C(l, l, 0) = +\delta / \sqrt{2l + 1}`, and
the coupling of two vectors to a vector :math:`+1/\sqrt 2` times their cross product. In e3nn's component order they are
``sqrt(2 l3 + 1) e3nn.o3.wigner_3j(l1, l2, l3)``, sign included.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np

from eqkernels.so3.spherical_harmonics import check_degree


# typed: 1.0 == 1 would otherwise find the entry of 1 and escape the check
@lru_cache(maxsize=4096, typed=True)
def clebsch_gordan(l1, l2, l3):
    """Real Clebsch-Gordan coefficients.

    Parameters
    ----------
    l1, l2, l3 : int
        Degrees of the two factors and of their product.

    Returns
    -------
    ndarray of shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), read-only
        Normalized to ``sum_{m1 m2} C[m1, m2, m3] C[m1, m2, n3] = delta(m3, n3)``.

    Raises
    ------
    ValueError
        If the degrees violate the triangle inequality, or one is negative.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, -1.0])
    >>> order = [1, 2, 0]  # (x, y, z) to (y, z, x)
    >>> coupled = np.einsum("a,b,abc->c", a[order], b[order], clebsch_gordan(1, 1, 1))
    >>> bool(np.allclose(coupled, np.cross(a, b)[order] / np.sqrt(2)))
    True
    """
    l1, l2, l3 = (check_degree(l, name) for l, name in ((l1, "l1"), (l2, "l2"), (l3, "l3")))
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"l3={l3} must lie between |l1 - l2|={abs(l1 - l2)} and l1 + l2={l1 + l2}")
    turned = np.einsum("abc,ax->xbc", _complex_coefficients(l1, l2, l3), real_to_complex(l1))
    turned = np.einsum("xbc,by->xyc", turned, real_to_complex(l2))
    turned = np.einsum("xyc,cz->xyz", turned, real_to_complex(l3).conj())
    coefficients = np.ascontiguousarray((1j ** ((l3 - l1 - l2) % 4) * turned).real)
    coefficients[np.abs(coefficients) < 1e-15] = 0.0
    coefficients.setflags(write=False)
    return coefficients


@lru_cache(maxsize=4096, typed=True)
def clebsch_gordan_sparse(l1, l2, l3):
    """Nonzero coefficients of :func:`clebsch_gordan` as lists, for loops.

    Parameters
    ----------
    l1, l2, l3 : int
        Degrees.

    Returns
    -------
    m1, m2, m3 : ndarray of int64, read-only
        Positions along the three axes, sorted by m3, then m1, then m2.
    values : ndarray of float64, read-only

    Examples
    --------
    >>> m1, m2, m3, values = clebsch_gordan_sparse(1, 1, 0)
    >>> m1.tolist(), m2.tolist(), values.round(4).tolist()
    ([0, 1, 2], [0, 1, 2], [0.5774, 0.5774, 0.5774])
    """
    dense = clebsch_gordan(l1, l2, l3)
    # nonzero returns the columns of one array, which loops would walk through with a stride
    m3, m1, m2 = (np.ascontiguousarray(m, dtype=np.int64) for m in np.nonzero(dense.transpose(2, 0, 1)))
    values = dense[m1, m2, m3]
    for array in (m1, m2, m3, values):
        array.setflags(write=False)
    return m1, m2, m3, values


@lru_cache(maxsize=256, typed=True)
def real_to_complex(l):
    """Unitary matrix U with Y_complex = U @ Y_real.

    Parameters
    ----------
    l : int
        Degree.

    Returns
    -------
    ndarray of complex, shape (2 l + 1, 2 l + 1), read-only
        Rows M = -l .. l of the standard harmonics (with the Condon-Shortley phase, as ``scipy.special.sph_harm_y``),
        columns m = -l .. l of the real ones.

    Examples
    --------
    >>> m_plus_one = real_to_complex(1)[2]  # -(x + iy) / sqrt 2, of y, z, x
    >>> m_plus_one.real.round(3) + 0.0, m_plus_one.imag.round(3) + 0.0
    (array([ 0.   ,  0.   , -0.707]), array([-0.707,  0.   ,  0.   ]))
    """
    l = check_degree(l)
    matrix = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    matrix[l, l] = 1.0
    for m in range(1, l + 1):
        sign = (-1) ** m
        matrix[l + m, l + m], matrix[l + m, l - m] = sign / np.sqrt(2), sign * 1j / np.sqrt(2)
        matrix[l - m, l + m], matrix[l - m, l - m] = 1 / np.sqrt(2), -1j / np.sqrt(2)
    matrix.setflags(write=False)
    return matrix


def _complex_coefficients(l1, l2, l3):
    coefficients = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    a, b, c = l1 + l2 - l3, l1 - l2 + l3, -l1 + l2 + l3
    top = comb(2 * l1, a) * comb(2 * l2, a)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            m3 = m1 + m2
            terms = range(max(0, l1 - m1 - b, l2 + m2 - c), min(a, l1 - m1, l2 + m2) + 1)
            total = sum((-1) ** k * comb(a, k) * comb(b, l1 - m1 - k) * comb(c, l2 + m2 - k) for k in terms)
            bottom = comb(l1 + l2 + l3 + 1, a) * comb(2 * l1, l1 - m1) * comb(2 * l2, l2 - m2) * comb(2 * l3, l3 - m3)
            # squared as a ratio of integers, rounded once
            coefficients[l1 + m1, l2 + m2, l3 + m3] = np.sign(total) * np.sqrt(total**2 * top / bottom)
    return coefficients
