from functools import partial

import numpy as np
import pytest

from eqkernels.so3 import (
    Irrep,
    Irreps,
    change_to_complex,
    change_to_e3nn,
    clebsch_gordan,
    spherical_harmonics,
    wigner_d,
)
from eqkernels.testing import random_rotation


def test_strings_round_trip():
    irreps = Irreps("2x1o+0e + 3x2e")
    assert str(irreps) == "2x1o+1x0e+3x2e"
    assert eval(repr(irreps)) == irreps  # noqa: S307
    assert hash(Irreps("1o")) == hash(Irreps([(1, "1o")]))
    assert Irreps(irreps) == irreps == [(2, "1o"), (1, Irrep(0, 1)), (3, (2, 1))]
    assert Irreps("").dim == 0
    assert Irreps("1o") != Irreps("1e")


def test_sizes():
    irreps = Irreps("2x1o+0e+3x2e")
    assert (irreps.dim, irreps.num_irreps, irreps.l_max, len(irreps)) == (22, 6, 2, 3)
    assert irreps.slices() == [slice(0, 6), slice(6, 7), slice(7, 22)]
    assert irreps.count("2e") == 3
    assert "1o" in irreps
    assert "1e" not in irreps


def test_sums_and_products():
    assert Irreps("1o") + Irreps("0e") == Irreps("1o+0e")
    assert 2 * Irreps("1o+0e") == Irreps("1o+0e+1o+0e")
    assert Irreps("1o").tensor_product("1o") == Irreps("0e+1e+2e")
    for a, b in (("2x1o+0e", "1e+3x2o"), ("4e", "2o")):
        assert Irreps(a).tensor_product(b).dim == Irreps(a).dim * Irreps(b).dim
    assert Irreps("1o+0e+1o").regroup() == Irreps("0e+2x1o")


def test_wigner_d_is_block_diagonal():
    rotation = -random_rotation(0)
    d = wigner_d("2x1o+1e", rotation)
    np.testing.assert_allclose(d[:3, :3], d[3:6, 3:6])
    np.testing.assert_allclose(d[6:, 6:], -d[:3, :3])
    np.testing.assert_allclose(d @ d.T, np.eye(9), atol=1e-13)


def test_change_to_e3nn_as_published():
    """The formulas of e3nn's spherical harmonics up to l = 2, its components normalized."""
    x, y, z = vector = np.array([2.0, 3.0, 6.0]) / 7
    ours = spherical_harmonics(vector, 2)
    matrix = change_to_e3nn(Irreps.spherical_harmonics(2))
    l1 = np.sqrt(3) * np.array([x, y, z])
    l2 = np.sqrt(15) * np.array([x * z, x * y, (y**2 - (x**2 + z**2) / 2) / np.sqrt(3), y * z, (z**2 - x**2) / 2])
    np.testing.assert_allclose(matrix @ ours * np.sqrt(4 * np.pi), np.concatenate([[1.0], l1, l2]), atol=1e-12)


def test_change_to_e3nn_in_the_library_itself():
    o3 = pytest.importorskip("e3nn.o3")
    torch = pytest.importorskip("torch")
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    irreps = Irreps.spherical_harmonics(6)
    theirs = o3.spherical_harmonics(list(range(7)), torch.tensor(vectors), True, "integral").numpy()
    np.testing.assert_allclose(spherical_harmonics(vectors, 6) @ change_to_e3nn(irreps).T, theirs, atol=1e-10)


def test_rotations_and_couplings_of_e3nn(request):
    o3 = pytest.importorskip("e3nn.o3")
    torch = pytest.importorskip("torch")
    request.addfinalizer(partial(torch.set_default_dtype, torch.get_default_dtype()))
    torch.set_default_dtype(torch.float64)  # or e3nn computes its D matrices in single precision
    rotation = -random_rotation(1)
    for l in range(7):
        for parity in "eo":
            change = change_to_e3nn(Irreps(f"{l}{parity}"))
            theirs = o3.Irrep(f"{l}{parity}").D_from_matrix(torch.tensor(rotation)).numpy()
            ours = change @ wigner_d(f"{l}{parity}", rotation) @ change.T
            np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for l1, l2, l3 in [(1, 1, 0), (1, 1, 1), (1, 1, 2), (2, 2, 3), (2, 3, 4), (6, 5, 4)]:
        changes = [change_to_e3nn(Irreps(f"{l}e")) for l in (l1, l2, l3)]
        theirs = np.sqrt(2 * l3 + 1) * o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy()
        ours = np.einsum("abc,xa,yb,zc->xyz", clebsch_gordan(l1, l2, l3), *changes)
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_multiplicity_from_numpy():
    irreps = Irreps([(np.int64(2), "1o")])
    assert repr(irreps) == 'Irreps("2x1o")'
    assert type(irreps[0][0]) is int


def test_change_to_complex_is_unitary():
    u = change_to_complex("3o+1e")
    np.testing.assert_allclose(u @ u.conj().T, np.eye(10), atol=1e-14)


@pytest.mark.parametrize(
    "bad", ["1", "o", "1x", "ax1o", "-1x2e", "1p", "1o,2e", [(-1, "1o")], [(True, "1o")], [(1, (1.5, 1))], "\u00b2x1o"]
)
def test_wrong_strings(bad):
    with pytest.raises(ValueError, match="irrep|multiplicity"):
        Irreps(bad)
