import numpy as np
import pytest

from eqkernels.so3 import clebsch_gordan, clebsch_gordan_sparse, real_to_complex, spherical_harmonics, wigner_d
from eqkernels.testing import random_rotation
from tests.naive import sphere_quadrature

TRIPLES = [(l1, l2, l3) for l1 in range(5) for l2 in range(5) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
TRIPLES += [(12, 10, 7), (12, 12, 0), (9, 12, 12)]


@pytest.mark.parametrize("degrees", TRIPLES, ids=str)
def test_couples_what_turns_to_what_turns(degrees):
    rotation = random_rotation(sum(degrees))
    d1, d2, d3 = (wigner_d(l, rotation) for l in degrees)
    coefficients = clebsch_gordan(*degrees)
    turned = np.einsum("abc,ax,by->xyc", coefficients, d1, d2, optimize=True)
    np.testing.assert_allclose(turned, coefficients @ d3.T, atol=1e-12)


@pytest.mark.parametrize("degrees", [(2, 3), (6, 6), (12, 5)], ids=str)
def test_orthonormal_both_ways(degrees):
    l1, l2 = degrees
    together = [clebsch_gordan(l1, l2, l3).reshape(-1, 2 * l3 + 1) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
    matrix = np.concatenate(together, axis=1)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-13)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(len(matrix)), atol=1e-13)


def test_exchange_of_the_factors():
    for l1, l2, l3 in TRIPLES:
        exchanged = (-1) ** (l1 + l2 + l3) * clebsch_gordan(l2, l1, l3).transpose(1, 0, 2)
        np.testing.assert_allclose(clebsch_gordan(l1, l2, l3), exchanged, atol=1e-14)


@pytest.mark.parametrize("degrees", [(1, 1, 2), (2, 2, 2), (3, 2, 3), (4, 4, 6)], ids=str)
def test_integrals_of_three_harmonics_are_proportional(degrees):
    l1, l2, l3 = degrees
    directions, weights = sphere_quadrature(sum(degrees))
    y = spherical_harmonics(directions, max(degrees))
    y1, y2, y3 = (y[:, l**2 : (l + 1) ** 2] for l in degrees)
    gaunt = np.einsum("p,pa,pb,pc->abc", weights, y1, y2, y3)
    coefficients = clebsch_gordan(*degrees)
    ratio = np.sum(gaunt * coefficients) / np.sum(coefficients**2)
    np.testing.assert_allclose(gaunt, ratio * coefficients, atol=1e-13)
    assert abs(ratio) > 0.01


def test_signs_of_the_simplest():
    for l in range(6):
        np.testing.assert_allclose(clebsch_gordan(l, l, 0)[:, :, 0], np.eye(2 * l + 1) / np.sqrt(2 * l + 1), atol=1e-15)


def test_two_vectors_couple_to_their_cross_product():
    order = [1, 2, 0]  # (x, y, z) to (y, z, x)
    levi_civita = np.array([[np.cross(a, b) for b in np.eye(3)] for a in np.eye(3)])
    np.testing.assert_allclose(
        clebsch_gordan(1, 1, 1), levi_civita[np.ix_(order, order, order)] / np.sqrt(2), atol=1e-15
    )


@pytest.mark.parametrize("degrees", TRIPLES, ids=str)
def test_signs_of_condon_and_shortley(degrees):
    """Back in the complex basis <l1 l1 l2 l3-l1|l3 l3> is positive, which fixes the sign of all coefficients."""
    l1, l2, l3 = degrees
    u1, u2, u3 = (real_to_complex(l) for l in degrees)
    back = np.einsum("abc,xa,yb,zc->xyz", clebsch_gordan(*degrees), u1.conj(), u2.conj(), u3, optimize=True)
    back *= 1j ** ((l1 + l2 - l3) % 4)
    np.testing.assert_allclose(back.imag, 0, atol=1e-14)
    assert back[2 * l1, l2 + l3 - l1, 2 * l3].real > 1e-8
    for m1, m2, m3 in np.argwhere(np.abs(back) > 1e-13):
        assert (m1 - l1) + (m2 - l2) == m3 - l3


def test_degrees_must_be_integers_even_when_cached():
    clebsch_gordan(1, 1, 1)
    with pytest.raises(TypeError, match="l1=1.0 must be an integer"):
        clebsch_gordan(1.0, 1, 1)


def test_sparse_form():
    m1, m2, m3, values = clebsch_gordan_sparse(3, 2, 4)
    dense = np.zeros((7, 5, 9))
    dense[m1, m2, m3] = values
    np.testing.assert_array_equal(dense, clebsch_gordan(3, 2, 4))
    assert np.all(np.diff((m3 * 7 + m1) * 5 + m2) > 0)
    assert [array.dtype for array in (m1, m2, m3, values)] == [np.int64] * 3 + [np.float64]
    assert all(array.flags.c_contiguous and not array.flags.writeable for array in (m1, m2, m3, values))
    assert len(values) < 0.3 * dense.size


def test_triangle():
    with pytest.raises(ValueError, match=r"l3=5 must lie between \|l1 - l2\|=1 and l1 \+ l2=3"):
        clebsch_gordan(1, 2, 5)
    with pytest.raises(ValueError, match="read-only"):
        clebsch_gordan(1, 1, 1)[0] = 1.0
