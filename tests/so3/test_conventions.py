import numpy as np
import pytest

from eqkernels import CartesianTensor
from eqkernels.so3 import change_to_pyscf, from_spherical, spherical_harmonics, to_spherical
from eqkernels.so3.conventions import COMPONENT_CONVENTIONS
from tests.so3.test_spherical_harmonics import complex_harmonic

TARGETS = ["dipole", "polarizability", "shielding", "hyperpolarizability", "elastic", "optical_rotation"]


@pytest.mark.parametrize("convention", COMPONENT_CONVENTIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_there_and_back(convention, target):
    tensor = CartesianTensor(target)
    tensors = tensor.project(np.random.default_rng(0).normal(size=(2, 5, *tensor.shape)))
    parts = to_spherical(tensors, target, convention)
    np.testing.assert_allclose(sum((np.abs(part) ** 2).sum() for part in parts.values()), (tensors**2).sum())
    back = from_spherical(parts, target, convention)
    assert back.dtype == float
    np.testing.assert_allclose(back, tensors, atol=1e-13)


def test_pyscf_order_of_real_functions():
    """As printed by pyscf.gto.mole.spheric_labels: px py pz, dxy dyz dz^2 dxz dx2-y2, fy^3 fxyz fyz^2 fz^3 ..."""
    x, y, z = vector = np.array([2.0, 3.0, 6.0]) / 7
    p = np.sqrt(3 / np.pi) / 2 * np.array([x, y, z])
    d = np.array([x * y, y * z, (3 * z**2 - 1) / np.sqrt(12), x * z, (x**2 - y**2) / 2]) * np.sqrt(15 / np.pi) / 2
    f = [
        np.sqrt(35 / 8) * y * (3 * x**2 - y**2),
        np.sqrt(105) * x * y * z,
        np.sqrt(21 / 8) * y * (5 * z**2 - 1),
        np.sqrt(7) * z * (5 * z**2 - 3) / 2,
        np.sqrt(21 / 8) * x * (5 * z**2 - 1),
        np.sqrt(105) * z * (x**2 - y**2) / 2,
        np.sqrt(35 / 8) * x * (x**2 - 3 * y**2),
    ]
    theirs = np.concatenate([[0.5 / np.sqrt(np.pi)], p, d, np.array(f) / np.sqrt(4 * np.pi)])
    np.testing.assert_allclose(change_to_pyscf("0e+1o+2e+3o") @ spherical_harmonics(vector, 3), theirs, atol=1e-14)


def test_complex_components_of_a_matrix_as_printed():
    """Those of M. Mehring, Principles of High Resolution NMR in Solids (1983), appendix A, but the sign of T00."""
    t = np.random.default_rng(1).normal(size=(3, 3))
    t = t + t.T
    parts = to_spherical(t, "ij=ji", "complex")
    expected = [
        (t[0, 0] - t[1, 1]) / 2 - 1j * t[0, 1],
        t[0, 2] - 1j * t[1, 2],
        (3 * t[2, 2] - np.trace(t)) / np.sqrt(6),
        -(t[0, 2] + 1j * t[1, 2]),
        (t[0, 0] - t[1, 1]) / 2 + 1j * t[0, 1],
    ]
    np.testing.assert_allclose(parts["2e"][0], expected, atol=1e-14)
    np.testing.assert_allclose(parts["0e"][0, 0], np.trace(t) / np.sqrt(3), atol=1e-14)


@pytest.mark.parametrize("l", [1, 2, 3])
def test_complex_components_of_powers_of_a_vector(l):
    """The traceless part of r ... r is Y_lm(r) times a constant, with scipy's phase."""
    x, y, z = r = np.array([2.0, 3.0, 6.0]) / 7
    tensor = np.einsum(",".join("ijk"[:l]), *[r] * l)
    target = ["i", "ij=ji", "ijk=jik=ikj"][l - 1]
    irrep = f"{l}{'oe'[l % 2 == 0]}"
    ours = to_spherical(tensor, target, "complex")[irrep][0]
    theirs = np.array([complex_harmonic(l, m, np.arccos(z), np.arctan2(y, x)) for m in range(-l, l + 1)])
    np.testing.assert_allclose(ours / np.linalg.norm(ours), theirs / np.linalg.norm(theirs), atol=1e-14)


def test_e3nn_vectors_and_axial_indices():
    np.testing.assert_allclose(to_spherical([1.0, 2.0, 3.0], "dipole", "e3nn")["1o"], [[1, 2, 3]], atol=1e-14)
    assert set(to_spherical(np.eye(3), CartesianTensor("ij", axial="j"), "e3nn")) == {"0o", "1o", "2o"}


def test_complex_tensors_stay_complex():
    tensors = np.random.default_rng(2).normal(size=(2, 3, 3)) * np.array([1.0, 1j])[:, None, None]
    back = from_spherical(to_spherical(tensors, "ij", "complex"), "ij", "complex")
    np.testing.assert_allclose(back, tensors, atol=1e-14)


def test_unknown_convention():
    with pytest.raises(ValueError, match="convention='vasp' must be one of 'eqkernels'"):
        to_spherical(np.eye(3), "ij", "vasp")
