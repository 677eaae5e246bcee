import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_strain, full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_strain

from eqkernels import CartesianTensor
from eqkernels.so3 import from_voigt, to_voigt
from eqkernels.so3.voigt import VOIGT_KINDS, VOIGT_ORDERS

FORMULAS = {
    "stress": "ij=ji",
    "strain": "ij=ji",
    "stiffness": "ijkl=jikl=klij",
    "compliance": "ijkl=jikl=klij",
    "piezoelectric_e": "ijk=ikj",
    "piezoelectric_d": "ijk=ikj",
}

# Alpha quartz, R. Bechmann, Phys. Rev. 110, 1060 (1958): stiffness in GPa, compliance in 1/TPa, e in C/m^2, d in pC/N.
QUARTZ_STIFFNESS = {11: 86.74, 12: 6.99, 13: 11.91, 33: 107.2, 44: 57.94, 14: -17.91}
QUARTZ_COMPLIANCE = {11: 12.77, 12: -1.79, 13: -1.22, 33: 9.60, 44: 20.04, 14: 4.50}
QUARTZ_E, QUARTZ_D = (0.171, -0.0406), (2.31, 0.727)


def random_tensors(kind, shape=(4,)):
    tensor = CartesianTensor(FORMULAS[kind])
    return tensor.project(np.random.default_rng(0).normal(size=(*shape, *tensor.shape)))


def trigonal(known, factor):
    """The matrix of the classes 32, 3m and -3m as printed by Nye; the factor is that of 56 over 14."""
    c = np.zeros((6, 6))
    c[0, 0] = c[1, 1] = known[11]
    c[0, 1] = known[12]
    c[0, 2] = c[1, 2] = known[13]
    c[2, 2], c[3, 3], c[4, 4] = known[33], known[44], known[44]
    c[0, 3], c[1, 3], c[4, 5] = known[14], -known[14], factor * known[14]
    c[5, 5] = (known[11] - known[12]) * (0.5 if factor == 1 else 2)
    return np.triu(c) + np.triu(c, 1).T


def quartz_piezoelectric(first, fourth, factor):
    return np.array(
        [[first, -first, 0, fourth, 0, 0], [0, 0, 0, 0, -fourth, -factor * first], [0, 0, 0, 0, 0, 0]], dtype=float
    )


@pytest.mark.parametrize("kind", VOIGT_KINDS)
@pytest.mark.parametrize("order", [*VOIGT_ORDERS, "zz yy xx xy yz zx"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_there_and_back(kind, order, shape):
    tensors = random_tensors(kind, shape)
    values = to_voigt(tensors, kind, order=order)
    np.testing.assert_allclose(from_voigt(values, kind, order=order), tensors, atol=1e-14)


def test_the_order_of_ase():
    tensors = random_tensors("stress")
    np.testing.assert_allclose(to_voigt(tensors), [full_3x3_to_voigt_6_stress(one) for one in tensors])
    strains = to_voigt(tensors, "strain")
    np.testing.assert_allclose(strains, [full_3x3_to_voigt_6_strain(np.eye(3) + one) for one in tensors])
    np.testing.assert_allclose(
        from_voigt(strains, "strain"), [voigt_6_to_full_3x3_strain(s) - np.eye(3) for s in strains]
    )


@pytest.mark.parametrize("order", VOIGT_ORDERS)
def test_contractions_are_those_of_the_tensors(order):
    """Energy density, Hooke's law both ways and the two piezoelectric effects."""
    strain, stress, c, s, d, e = (
        random_tensors(kind, ())
        for kind in ("strain", "stress", "stiffness", "compliance", "piezoelectric_d", "piezoelectric_e")
    )

    def six(tensor, kind):
        return to_voigt(tensor, kind, order=order)

    assert six(stress, "stress") @ six(strain, "strain") == pytest.approx((stress * strain).sum())
    np.testing.assert_allclose(
        six(c, "stiffness") @ six(strain, "strain"), six(np.einsum("ijkl,kl", c, strain), "stress")
    )
    np.testing.assert_allclose(
        six(s, "compliance") @ six(stress, "stress"), six(np.einsum("ijkl,kl", s, stress), "strain")
    )
    np.testing.assert_allclose(six(d, "piezoelectric_d") @ six(stress, "stress"), np.einsum("ijk,jk", d, stress))
    np.testing.assert_allclose(six(e, "piezoelectric_e") @ six(strain, "strain"), np.einsum("ijk,jk", e, strain))


def test_compliance_is_the_inverse_of_stiffness_as_a_tensor():
    stiffness = trigonal(QUARTZ_STIFFNESS, 1)
    c, s = from_voigt(stiffness, "stiffness"), from_voigt(np.linalg.inv(stiffness), "compliance")
    delta = np.eye(3)
    identity = 0.5 * (np.einsum("ik,jl->ijkl", delta, delta) + np.einsum("il,jk->ijkl", delta, delta))
    np.testing.assert_allclose(np.einsum("ijmn,mnkl", c, s), identity, atol=1e-14)


def test_quartz_as_published():
    """Compliance from stiffness, and d = e s, against the independent columns of Bechmann's table."""
    compliance = np.linalg.inv(trigonal(QUARTZ_STIFFNESS, 1)) * 1e3
    np.testing.assert_allclose(compliance, trigonal(QUARTZ_COMPLIANCE, 2), atol=0.03)
    s = from_voigt(trigonal(QUARTZ_COMPLIANCE, 2), "compliance")
    e = from_voigt(quartz_piezoelectric(*QUARTZ_E, 1), "piezoelectric_e")
    d = to_voigt(np.einsum("ilm,lmjk->ijk", e, s), "piezoelectric_d")
    np.testing.assert_allclose(d, quartz_piezoelectric(*QUARTZ_D, 2), atol=0.02)


def test_quartz_has_the_symmetry_of_its_class():
    """A tensor with a wrong factor is not invariant under the threefold axis."""
    c, s = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    for matrix, kind, letters in (
        (trigonal(QUARTZ_STIFFNESS, 1), "stiffness", "ijkl"),
        (trigonal(QUARTZ_COMPLIANCE, 2), "compliance", "ijkl"),
        (quartz_piezoelectric(*QUARTZ_E, 1), "piezoelectric_e", "ijk"),
        (quartz_piezoelectric(*QUARTZ_D, 2), "piezoelectric_d", "ijk"),
    ):
        tensor = from_voigt(matrix, kind)
        pairs = ",".join(f"{new}{old}" for new, old in zip("abcd", letters, strict=False))
        turned = np.einsum(f"{letters},{pairs}->{'abcd'[: len(letters)]}", tensor, *[turn] * len(letters))
        np.testing.assert_allclose(turned, tensor, atol=1e-12 * np.abs(tensor).max() + 1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_voigt(np.arange(18.0).reshape(2, 3, 3)), "2 of 2 tensors, the first at 0, are not symmetric"),
        (lambda: to_voigt(np.eye(3), "elastic"), "must be one of 'stress'"),
        (lambda: to_voigt(np.eye(3), order="xx yy zz"), "six pairs as in 'xx yy zz yz xz xy'"),
        (lambda: to_voigt(np.eye(3), "stiffness"), r"expected \(..., 3, 3, 3, 3\)"),
        (lambda: to_voigt(np.eye(4)), r"expected \(..., 3, 3\)"),
        (lambda: from_voigt(np.zeros((6, 3)), "piezoelectric_e"), r"expected \(..., 3, 6\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
