import numpy as np
import pytest

from eqkernels.so3 import haeberlen, quadrupolar_coupling, span_skew
from eqkernels.testing import random_rotation


def turned(values):
    rotations = np.array([random_rotation(k) for k in range(len(values))])
    return np.einsum("nij,nj,nkj->nik", rotations, values, rotations)


def test_haeberlen_inverts_its_definition():
    random = np.random.default_rng(0)
    iso, delta, eta = 100 * random.normal(size=50), 50 * random.normal(size=50), random.uniform(size=50)
    # xx, yy, zz of the definition
    values = np.stack([iso - delta * (1 + eta) / 2, iso - delta * (1 - eta) / 2, iso + delta], axis=1)
    tensors = turned(values) + np.cross(np.eye(3), random.normal(size=(50, 1, 3)))  # with an antisymmetric part
    found = haeberlen(tensors)
    np.testing.assert_allclose(found.iso, iso, rtol=1e-10)
    np.testing.assert_allclose(found.reduced_anisotropy, delta, rtol=1e-10)
    np.testing.assert_allclose(found.anisotropy, values[:, 2] - values[:, :2].mean(1), rtol=1e-10)
    np.testing.assert_allclose(found.asymmetry, eta, atol=1e-10)


def test_shielding_as_published():
    """A carbon atom, printed by Dalton: M. Jaszunski, folk.uio.no/michalj/node49.html (1998)."""
    tensor = np.array([[92.57339868, 9.80120030, 0.0], [-4.03684899, -73.19735078, 0.0], [0.0, 0.0, 106.95399445]])
    found = haeberlen(tensor)
    np.testing.assert_allclose(found[:2], [42.1100, -173.0362], atol=1e-4)
    np.testing.assert_allclose(found.asymmetry, 0.1242, atol=1e-4)


def test_span_and_skew():
    random = np.random.default_rng(1)
    values = np.sort(random.normal(size=(20, 3)), axis=1)
    found = span_skew(turned(values))
    np.testing.assert_allclose(found.span, values[:, 2] - values[:, 0])
    # Mason (1993): shifts 11 > 22 > 33
    d33, d22, d11 = (10 - values[:, ::-1]).T
    np.testing.assert_allclose(found.skew, 3 * (d22 - (d11 + d22 + d33) / 3) / (d11 - d33), atol=1e-10)
    shifts = span_skew(10 * np.eye(3) - turned(values), "shift")
    np.testing.assert_allclose(shifts.iso, 10 - found.iso)
    np.testing.assert_allclose(shifts[1:], found[1:], atol=1e-10)


def test_gradient_of_point_charges():
    """Charges q at distances d on two axes: V_ij = sum q (3 n_i n_j - delta_ij) / d^3."""
    charges, distances = np.array([1.0, -0.4]), np.array([2.0, 3.0])
    directions = random_rotation(3)[:2]
    outer = 3 * directions[:, :, None] * directions[:, None, :] - np.eye(3)
    a, b = charges / distances**3
    found = quadrupolar_coupling((np.array([a, b])[:, None, None] * outer).sum(0), 0.02044)
    principal = np.array([2 * a - b, 2 * b - a, -a - b])
    zz = principal[np.abs(principal).argmax()]
    xx, yy = sorted(np.delete(principal, np.abs(principal).argmax()), key=abs)
    # 234.9647 MHz per barn and atomic unit: P. Pyykko, Mol. Phys. 116, 1328 (2018)
    np.testing.assert_allclose(found.coupling, 234.9647 * 0.02044 * zz, rtol=1e-6)
    np.testing.assert_allclose(found.asymmetry, (xx - yy) / zz)


def test_units_and_moments_of_nuclei():
    gradients = turned(np.array([[1.0, 2.0, -3.0], [0.5, -0.2, -0.3]]))
    moments = np.array([-0.02558, 0.00286])  # 17O, 2H
    found = quadrupolar_coupling(gradients, moments)
    assert found.coupling[0] > 0 > quadrupolar_coupling(-gradients, moments).coupling[0]
    other = quadrupolar_coupling(gradients * 97.17362, moments, "V/A^2")
    np.testing.assert_allclose(other.coupling, found.coupling, rtol=1e-6)
    np.testing.assert_allclose(other.asymmetry, found.asymmetry)
    traced = quadrupolar_coupling(gradients + 5 * np.eye(3), moments)
    np.testing.assert_allclose(traced.coupling, found.coupling)


def test_isotropic_tensors_have_no_asymmetry():
    tensors = turned(np.full((5, 3), 100.0))
    assert (haeberlen(tensors).asymmetry == 0).all()
    assert (span_skew(tensors).skew == 0).all()
    assert (quadrupolar_coupling(np.zeros((2, 3, 3)), 1.0).asymmetry == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: haeberlen(np.zeros((2, 3))), r"expected \(..., 3, 3\)"),
        (lambda: haeberlen(np.full((3, 3), np.nan)), "NaN"),
        (lambda: span_skew(np.eye(3), "shifts"), "'shielding' or 'shift'"),
        (lambda: quadrupolar_coupling(np.eye(3), 1.0, "au"), "must be one of 'a.u.'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
