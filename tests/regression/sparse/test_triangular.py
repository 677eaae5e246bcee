import numpy as np
import pytest

from eqkernels.regression.sparse.triangular import TriangularFactor


@pytest.mark.parametrize("size", [1, 5, 128, 300, 1100])
def test_factor_is_that_of_all_rows(size):
    random = np.random.default_rng(size)
    a = random.normal(size=(2 * size + 7, size)) * np.logspace(0, -6, size)
    parts = [TriangularFactor(size), TriangularFactor(size)]
    edges = [0, 3, size + 4, 2 * size + 4, len(a)]
    for k in range(4):
        parts[k // 2].fold(a[edges[k] : edges[k + 1]].copy())
    second = parts[1].data.copy()
    r = parts[0].merge(parts[1]).dense()
    np.testing.assert_array_equal(parts[1].data, second)
    expected = np.linalg.qr(a, mode="r")
    signs = np.sign(np.diagonal(expected) * np.diagonal(r))
    scale = np.abs(expected).max(axis=0)  # each column has its own rounding
    np.testing.assert_allclose(signs[:, None] * r / scale, expected / scale, atol=1e-12)
    np.testing.assert_array_equal(np.tril(r, -1), 0.0)
    np.testing.assert_array_equal(TriangularFactor.of_upper(r).dense(), r)
    for n in (size // 2, size):
        np.testing.assert_array_equal(parts[0].leading(n), r[:n, :n])
    assert parts[0].copy().data is not parts[0].data


def test_rows_that_begin_later():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(400, 300)), random.normal(size=(50, 300))
    b[:, :256] = 0.0
    whole = TriangularFactor(300).fold(a.copy()).fold(b.copy())
    short = TriangularFactor(300).fold(a.copy()).fold(b[:, 256:].copy(), first=256)
    np.testing.assert_allclose(short.dense(), whole.dense(), atol=1e-13)


def test_nothing_is_squared():
    """A column that differs from another one by 1e-11 keeps its difference; in A^T A it is lost."""
    a = np.random.default_rng(1).normal(size=(60, 2))
    a[:, 1] = a[:, 0] + 1e-11 * a[:, 1]
    r = TriangularFactor(2).fold(a[:20].copy()).fold(a[20:].copy()).dense()
    assert abs(r[1, 1] / np.linalg.qr(a, mode="r")[1, 1]) == pytest.approx(1.0, rel=1e-4)
