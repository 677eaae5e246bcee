"""Smeared power laws, their transforms, and tables of both, against quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf, eval_legendre, spherical_jn

from eqkernels.radial import GTO, LaplacianEigenstates
from eqkernels.radial.power_laws import (
    PotentialTable,
    TransformTable,
    power_at_zero,
    radial_transforms,
    smeared_power,
    spherical_bessels,
    transformed_power,
)

EXPONENTS = range(1, 7)


def test_field_of_a_gaussian_charge():
    r = np.array([1e-6, 0.3, 2.0, 40.0])
    np.testing.assert_allclose(smeared_power(r, 1, 0.7), erf(r / 0.7 / np.sqrt(2)) / r, rtol=1e-9)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_fields_are_powers_far_away_and_smooth_at_zero(exponent):
    np.testing.assert_allclose(
        smeared_power([9.0, 50.0], exponent, 0.5), np.array([9.0, 50.0]) ** -exponent, rtol=1e-13
    )
    near = smeared_power(np.sqrt(2e-4) * 0.5 * np.array([0.999999, 1.000001]), exponent, 0.5)
    np.testing.assert_allclose(near[0], near[1], rtol=1e-9)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_transforms_have_the_overlaps_of_the_fields(exponent):
    """Overlap with a Gaussian, in space and of the transforms."""
    sigma = 0.8
    space = quad(
        lambda r: 4 * np.pi * r**2 * smeared_power(r, exponent, sigma) * np.exp(-(r**2) / 2), 0, 20, epsabs=1e-12
    )[0]

    def integrand(k):
        return 4 * np.pi * k**2 * transformed_power(k, exponent, sigma)[0] * np.exp(-(k**2) / 2) / (2 * np.pi) ** 1.5

    np.testing.assert_allclose(quad(integrand, 1e-12, 12, epsabs=1e-12)[0], space, rtol=1e-9)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_slopes_and_limits_of_the_transforms(exponent):
    k, step = np.array([0.2, 1.0, 4.0]), 1e-4
    values = [transformed_power(k + n * step, exponent, 0.8)[0] for n in (-2, -1, 1, 2)]
    slopes = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    np.testing.assert_allclose(transformed_power(k, exponent, 0.8)[1], slopes, rtol=1e-7)
    if exponent > 3:
        np.testing.assert_allclose(transformed_power(1e-7, exponent, 0.8)[0], power_at_zero(exponent, 0.8), rtol=1e-5)
    else:
        assert power_at_zero(exponent, 0.8) == 0


def test_bessel_functions():
    x = np.concatenate([np.linspace(0, 12, 50), [100.0, 1e4]])
    for l, values in enumerate(spherical_bessels(8, x)):
        np.testing.assert_allclose(values, spherical_jn(l, x), atol=1e-13)


@pytest.mark.parametrize("basis", [GTO(3, 3.0), LaplacianEigenstates(3, 3.0)], ids=["gto", "laplacian"])
def test_transforms_of_radial_functions(basis):
    k = np.array([0.0, 0.7, 5.0])
    values = radial_transforms(basis, 2, k)
    for l in range(3):
        for row, wave in enumerate(k):
            expected = [
                quad(lambda r, n=n, l=l, wave=wave: basis.evaluate(l, r)[n, 0] * spherical_jn(l, wave * r) * r**2,
                     0, min(basis.support, 20.0), limit=200, epsabs=1e-12)[0]
                for n in range(3)
            ]  # fmt: skip
            np.testing.assert_allclose(values[row, l], expected, atol=1e-9)
    table = TransformTable(basis, 2, 0.8, 1, 1e-8)
    waves = np.linspace(0.01, table.cutoff * 0.999, 37)
    np.testing.assert_allclose(table(waves), table.exact(waves), atol=1e-10)


@pytest.mark.parametrize(("basis", "exponent"), [(GTO(2, 2.0), 1), (GTO(2, 2.0), 3), (LaplacianEigenstates(2, 2.0), 6)])
def test_coefficients_of_a_field_against_quadrature_over_space(basis, exponent):
    sigma = 0.6
    table = PotentialTable(basis, 2, sigma, exponent, 4, 1e-9)
    angles, weights = np.polynomial.legendre.leggauss(60)
    ends = np.linspace(0, min(basis.support, 16.0), 60)
    nodes, of_nodes = np.polynomial.legendre.leggauss(12)
    r = (ends[:-1, None] + np.diff(ends)[:, None] / 2 * (1 + nodes)).ravel()
    w = (np.diff(ends)[:, None] / 2 * of_nodes).ravel()
    for distance in (0.0, 0.9, 4.0, table.split * 0.99, table.split * 1.01, table.cutoff * 0.9):
        field = smeared_power(
            np.sqrt(np.maximum(r[:, None] ** 2 + distance**2 - 2 * r[:, None] * distance * angles, 0)), exponent, sigma
        )
        for l in range(3):
            by_degree = 2 * np.pi * field @ (weights * eval_legendre(l, angles))
            expected = basis.evaluate(l, r) @ (w * r**2 * by_degree)
            scale = np.abs(table([0.0])).max()
            np.testing.assert_allclose(table([distance])[0].reshape(3, 2)[l], expected, atol=1e-8 * scale)
    np.testing.assert_allclose(table.center, table([0.0])[0, :2], atol=1e-9)


def test_a_table_that_reaches_farther_has_the_same_values():
    short, long = (PotentialTable(GTO(2, 2.0), 1, 0.6, 1, reach, 1e-8) for reach in (2, 8))
    d = np.linspace(0.01, short.cutoff * 0.999, 97)
    np.testing.assert_allclose(short(d), long(d), rtol=0, atol=1e-14)
