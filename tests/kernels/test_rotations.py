import numpy as np
import pytest

from eqkernels.kernels.rotations import coupled, coupled_vjp, rotation_grid
from eqkernels.so3 import clebsch_gordan


def naive_couplings(overlaps, l_max, order):
    """Products of overlaps, flat by l, m, n, iterated with Clebsch-Gordan coefficients: matrices by (l, parity)."""
    first = {
        l: overlaps[l * (4 * l * l - 1) // 3 :][: (2 * l + 1) ** 2].reshape(2 * l + 1, -1) for l in range(l_max + 1)
    }
    total = {(l, (-1) ** l): matrix for l, matrix in first.items()}
    for _ in range(order - 1):
        new = {}
        for (l1, parity), matrix in total.items():
            for l2, other in first.items():
                for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                    c = clebsch_gordan(l1, l2, l3)
                    product = np.einsum("abM,cdN,ac,bd->MN", c, c, matrix, other)
                    key = l3, parity * (-1) ** l2
                    new[key] = new.get(key, 0.0) + product
        total = new
    return total


@pytest.mark.parametrize(("l_max", "order"), [(0, 3), (1, 1), (1, 4), (2, 2), (2, 3), (3, 2)])
def test_powers_are_iterated_couplings(l_max, order):
    overlaps = np.random.default_rng(order).normal(size=(3, (l_max + 1) * (2 * l_max + 1) * (2 * l_max + 3) // 3))
    expected = [naive_couplings(one, l_max, order) for one in overlaps]
    for lam in range(4):
        grid = rotation_grid(l_max, order * l_max + lam, lam)
        for parity in (1, -1):
            products, scalars = coupled(grid, order, parity, overlaps)
            none = np.zeros((2 * lam + 1, 2 * lam + 1))
            couplings = np.array([one.get((lam, parity), none).ravel() for one in expected])
            size = np.abs(overlaps).max() ** order
            np.testing.assert_allclose(products, couplings, rtol=0, atol=1e-12 * size)
            np.testing.assert_allclose(scalars, [one[0, 1][0, 0] for one in expected], rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize("parity", [1, -1])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_derivatives_are_differences(order, parity, monkeypatch):
    monkeypatch.setattr("eqkernels.kernels.rotations._BYTES_PER_STEP", 1)  # a pair at a time
    random, grid = np.random.default_rng(0), rotation_grid(2, 2 * order + 1, 1)
    overlaps, direction = random.normal(size=(2, 4, 35))
    of_products, of_scalars = random.normal(size=(4, 9)), random.normal(size=4)
    found = np.sum(coupled_vjp(grid, order, parity, overlaps, of_products, of_scalars) * direction)

    def total(step):
        products, scalars = coupled(grid, order, parity, overlaps + step * direction)
        return np.sum(of_products * products) + np.sum(of_scalars * scalars)

    step = 1e-3
    numeric = (8 * (total(step) - total(-step)) - total(2 * step) + total(-2 * step)) / (12 * step)
    assert found == pytest.approx(numeric, rel=1e-8, abs=1e-10)
