import numpy as np
import pytest
import scipy.special
from scipy.special import eval_legendre

from eqkernels.so3 import real_to_complex, spherical_harmonics
from tests.naive import sphere_quadrature

L_MAX = 30


def complex_harmonic(l, m, theta, phi):
    """Harmonic by scipy, which has renamed its function and exchanged the angles."""
    if hasattr(scipy.special, "sph_harm_y"):
        return scipy.special.sph_harm_y(l, m, theta, phi)
    return scipy.special.sph_harm(m, l, phi, theta)


def test_equal_scipy_after_the_change_to_complex():
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    theta = np.arccos(vectors[:, 2] / np.linalg.norm(vectors, axis=1))
    phi = np.arctan2(vectors[:, 1], vectors[:, 0])
    ours = spherical_harmonics(vectors, L_MAX)
    for l in range(L_MAX + 1):
        expected = np.array([complex_harmonic(l, m, theta, phi) for m in range(-l, l + 1)]).T
        np.testing.assert_allclose(ours[:, l**2 : (l + 1) ** 2] @ real_to_complex(l).T, expected, atol=1e-12)


def test_first_degrees_as_printed():
    x, y, z = 2 / 7, 3 / 7, 6 / 7
    values = spherical_harmonics([2.0, 3.0, 6.0], 2)
    np.testing.assert_allclose(values[1:4], np.sqrt(3 / (4 * np.pi)) * np.array([y, z, x]))
    d = np.sqrt(15 / (4 * np.pi)) * np.array([x * y, y * z, (3 * z**2 - 1) / np.sqrt(12), x * z, (x**2 - y**2) / 2])
    np.testing.assert_allclose(values[4:], d)


def test_orthonormal():
    directions, weights = sphere_quadrature(2 * L_MAX)
    values = spherical_harmonics(directions, L_MAX)
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.eye((L_MAX + 1) ** 2), atol=1e-12)


@pytest.mark.parametrize("length", [1e-200, 1e-6, 1e6, 1e200])
def test_length_does_not_matter(length):
    vectors = np.random.default_rng(1).normal(size=(40, 3))
    expected = spherical_harmonics(vectors, L_MAX)
    np.testing.assert_allclose(spherical_harmonics(length * vectors, L_MAX), expected, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_poles(sign):
    values = spherical_harmonics([0.0, 0.0, 2.0 * sign], L_MAX)
    for l in range(L_MAX + 1):
        expected = np.zeros(2 * l + 1)
        expected[l] = sign**l * np.sqrt((2 * l + 1) / (4 * np.pi))
        np.testing.assert_allclose(values[l**2 : (l + 1) ** 2], expected, atol=1e-13)
    near = spherical_harmonics([1e-9, -1e-9, 2.0 * sign], L_MAX)
    np.testing.assert_allclose(near, values, atol=1e-6)


def test_addition_theorem():
    a, b = np.random.default_rng(3).normal(size=(2, 50, 3))
    cosines = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    products = spherical_harmonics(a, L_MAX) * spherical_harmonics(b, L_MAX)
    for l in range(L_MAX + 1):
        expected = (2 * l + 1) / (4 * np.pi) * eval_legendre(l, cosines)
        np.testing.assert_allclose(products[:, l**2 : (l + 1) ** 2].sum(axis=1), expected, atol=1e-12)


@pytest.mark.parametrize("length", [0.0, 1e-310])  # the reciprocal of the second overflows
def test_zero_vector_has_no_direction(length):
    values = spherical_harmonics(np.full((2, 3), length), 3)
    np.testing.assert_allclose(values[:, 0], 1 / np.sqrt(4 * np.pi))
    assert np.abs(values[:, 1:]).max() == 0


def test_shapes_and_out():
    vectors = np.random.default_rng(2).normal(size=(70, 2, 3))
    out = np.empty((70, 2, 16))
    assert spherical_harmonics(vectors, 3, out=out) is out
    np.testing.assert_array_equal(out[5, 1], spherical_harmonics(vectors[5, 1], 3))
    assert spherical_harmonics(np.zeros((0, 3)), 2).shape == (0, 9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((4, 2)), 2), ValueError, r"shape \(4, 2\), the last axis must be 3"),
        (([np.nan, 0, 0], 2), ValueError, "NaN"),
        (([1.0, 0, 0], -1), ValueError, "must not be negative"),
        (([1.0, 0, 0], 2.0), TypeError, "must be an integer"),
    ],
)
def test_wrong_input(arguments, error, message):
    with pytest.raises(error, match=message):
        spherical_harmonics(*arguments)
    with pytest.raises(ValueError, match="out must be"):
        spherical_harmonics([1.0, 0, 0], 2, out=np.empty(4))
