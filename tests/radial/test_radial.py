import time

import numpy as np
import pytest
from scipy.integrate import quad, trapezoid
from scipy.special import ive, spherical_jn

from eqkernels.radial import GTO, LaplacianEigenstates, RadialIntegrals, RadialTable
from eqkernels.radial.basis import _bessel_zeros
from eqkernels.radial.integrals import scaled_spherical_in
from eqkernels.radial.table import cutoff_function, radial_scaling

BASES = [GTO(8, 4.0), LaplacianEigenstates(8, 4.0)]


@pytest.mark.parametrize("basis", [*BASES, GTO(14, 6.0), LaplacianEigenstates(1, 2.0), GTO(1, 2.0)], ids=str)
@pytest.mark.parametrize("l", [0, 3, 9])
def test_orthonormal(basis, l):
    r = np.linspace(0, basis.support, 20001)
    functions = basis.evaluate(l, r)
    overlap = trapezoid(functions[:, None] * functions * r**2, r)
    np.testing.assert_allclose(overlap, np.eye(basis.n_max), atol=2e-5)


def test_gto_spans_the_primitives():
    basis = GTO(5, 4.0)
    r = np.linspace(0.01, 8, 200)
    functions = basis.evaluate(0, r)
    for n in range(5):
        primitive = r**n * np.exp(-(r**2) / (2 * (max(np.sqrt(n), 1) * 4.0 / 5) ** 2))
        residual = primitive - functions.T @ np.linalg.lstsq(functions.T, primitive, rcond=None)[0]
        assert np.abs(residual).max() < 1e-10 * primitive.max()


def test_laplacian_eigenstates_vanish_at_the_radius_and_have_n_nodes():
    basis = LaplacianEigenstates(4, 3.0)
    r = np.linspace(0.05, 2.999, 2000)
    for l in (0, 2, 5):
        functions = basis.evaluate(l, r)
        assert np.abs(basis.evaluate(l, np.array([3.0]))).max() < 1e-10
        nodes = (np.diff(np.sign(functions), axis=1) != 0).sum(axis=1)
        np.testing.assert_array_equal(nodes, np.arange(4))
        # eigenfunctions: the logarithmic scale of j_l fixes them up to sign
        assert np.allclose(functions[0] / spherical_jn(l, r * _first_zero(l) / 3.0), functions[0, 0] / spherical_jn(
            l, r[0] * _first_zero(l) / 3.0))  # fmt: skip


def _first_zero(l):
    from scipy.optimize import brentq

    return brentq(lambda x: spherical_jn(l, x), l + 1.5, l + 4.6)


@pytest.mark.parametrize("basis", BASES, ids=str)
@pytest.mark.parametrize(("l", "d"), [(0, 0.0), (0, 1.3), (2, 0.4), (6, 3.9)])
@pytest.mark.parametrize("sigma", [0.02, 0.3, 2.0])
def test_integrals_equal_adaptive_quadrature(basis, l, d, sigma):
    integrals = RadialIntegrals(basis, 6, sigma, 4.0)([3.8, d, 0.1])[1, l]

    def integrand(r, n):
        x = r * d / sigma**2
        bessel = np.sqrt(np.pi / (2 * x)) * ive(l + 0.5, x) if x > 0 else float(l == 0)
        gaussian = 4 * np.pi / (2 * np.pi * sigma**2) ** 1.5 * np.exp(-((r - d) ** 2) / (2 * sigma**2))
        return basis.evaluate(l, np.array([r]))[n, 0] * gaussian * bessel * r**2

    for n in (0, 4, 7):
        end = min(basis.support, d + 12 * sigma)
        start = max(0.0, d - 12 * sigma)
        expected, _ = quad(integrand, start, end, args=(n,), points=[d], epsabs=1e-13, epsrel=1e-13, limit=200)
        assert integrals[n] == pytest.approx(expected, abs=1e-11)


def test_bessel_functions_over_all_arguments():
    x = np.concatenate([[0.0], np.logspace(-8, 4, 120)])
    with np.errstate(divide="ignore", invalid="ignore"):
        for l, values in enumerate(scaled_spherical_in(30, x)):
            expected = np.sqrt(np.pi / (2 * x)) * ive(l + 0.5, x)
            expected[0] = float(l == 0)
            np.testing.assert_allclose(values, expected, rtol=3e-12, atol=1e-290)


@pytest.mark.parametrize("basis", BASES, ids=str)
@pytest.mark.parametrize("sigma", [0.02, 0.15, 0.5])
@pytest.mark.parametrize("width", [4e-3, 0.5, 4.0])
@pytest.mark.parametrize("scaling", [(1.0, None, 4.0), (0.5, 2.0, 6.0)])
def test_table_keeps_its_bound(basis, sigma, width, scaling):
    table = RadialTable(basis, 6, sigma, 4.0, width, scaling)
    d = np.random.default_rng(0).uniform(0, 4.0, size=1500)
    d = np.concatenate([d, 4.0 - width + np.array([-1e-9, 0.0, 1e-9]), [0.0, 3.999999999]])
    d = d[(d >= 0) & (d < 4.0)]
    exact = table.exact(d)
    assert np.all(np.abs(table(d) - exact) <= 1e-9 * np.abs(exact).max(axis=0))
    assert table.error <= 1e-9


def test_accuracy_is_a_choice():
    coarse = RadialTable(BASES[0], 6, 0.3, 4.0, accuracy=1e-4)
    fine = RadialTable(BASES[0], 6, 0.3, 4.0, accuracy=1e-12)
    assert len(coarse.coefficients) < len(fine.coefficients)
    assert fine.error < 1e-12
    with pytest.raises(ValueError, match="could not be tabulated to accuracy=1e-17"):
        RadialTable(BASES[0], 2, 0.3, 4.0, accuracy=1e-17)


def test_cutoff_and_scaling():
    np.testing.assert_allclose(cutoff_function([0.0, 3.5, 3.75, 4.0, 5.0], 4.0, 0.5), [1, 1, 0.5, 0, 0], atol=1e-15)
    np.testing.assert_allclose(radial_scaling([0.0, 2.0], 1.0, 1e-300, 1000.0), [1.0, 0.0])
    np.testing.assert_allclose(radial_scaling([0.0, 2.0], 1.0, 2.0, 5.0), [1.0, 0.5])
    np.testing.assert_allclose(radial_scaling([0.0, 2.0], 1.0, None, 5.0), 1.0)


def test_zeros_of_bessel_functions():
    for l, count in ((0, 3), (1, 1), (4, 8), (30, 30)):
        zeros = _bessel_zeros(l, count)
        assert len(zeros) == count
        # 200 points between zeros would show a zero that was left out
        x = np.linspace(l / 2 + 1e-3, zeros[-1] + 0.5, 200 * count)
        changes = x[1:][np.diff(np.sign(spherical_jn(l, x))) != 0]
        np.testing.assert_allclose(zeros, changes, atol=x[1] - x[0])
        assert np.abs(spherical_jn(l, zeros)).max() < 1e-14


def _tabulated(basis, sigma, cutoff):
    try:
        table = RadialTable(basis, 2, sigma, cutoff, 0.1 * cutoff)
    except ValueError as error:
        return "refused" if "units of the positions" in str(error) else "refused without the cause"
    d = np.array([0.0, 0.3, 0.95]) * cutoff
    return "tabulated" if np.abs(table(d) - table.exact(d)).max() <= 1e-9 * np.abs(table.exact(d)).max() else "wrong"


@pytest.mark.parametrize("basis", [GTO, LaplacianEigenstates])
def test_lengths_of_any_size_are_tabulated_or_refused_without_delay(basis):
    outcomes = set()
    for cutoff in (1e-3, 0.5, 5.0, 1e3, 1e6):
        for sigma in (1e-4, 1e-2, 0.3, 10.0, 1e3):
            started = time.process_time()
            outcomes.add(_tabulated(basis(3, cutoff), sigma, cutoff))
            assert time.process_time() - started < 10
    assert outcomes == {"tabulated", "refused"}


@pytest.mark.parametrize("scaling", [(1.0, 1.0, 1e5), (1e-300, 1.0, 4.0)])
def test_scaling_that_cannot_be_tabulated_is_refused_without_delay(scaling):
    started = time.process_time()
    with pytest.raises(ValueError, match="smaller exponent of the radial scaling"):
        RadialTable(BASES[0], 4, 0.3, 4.0, 0.5, scaling)
    assert time.process_time() - started < 10
