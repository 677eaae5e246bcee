"""Kernels that were computed before."""

import numpy as np
import pytest

from eqkernels.kernels import KernelBlocks
from eqkernels.kernels.precomputed import Precomputed, read_kernel


def test_sums_are_those_of_the_matrix():
    rng = np.random.default_rng(0)
    blocks = KernelBlocks({"0e": rng.normal(size=(4, 3, 1, 1)), "1o": rng.normal(size=(4, 3, 3, 3))})
    coef = rng.normal(size=(3, 3, 2))
    sums = Precomputed().contraction(None, "1o", coef)
    expected = [[sum(blocks.blocks["1o"][n, m] @ coef[m] for m in range(3))] for n in range(4)]
    np.testing.assert_allclose(sums(blocks), np.concatenate(expected), atol=1e-14)
    with pytest.raises(ValueError, match="has 3 columns, the model was fitted on 2 structures"):
        Precomputed().contraction(None, "1o", coef[:2])(blocks)


@pytest.mark.parametrize(
    ("shape", "target", "irrep"), [((2, 2, 1, 1), None, "0e"), ((2, 2, 3, 3), None, "1o"), ((2, 2, 5, 5), None, "2e")]
)
def test_an_array_has_the_irrep_of_its_degree(shape, target, irrep):
    assert list(read_kernel(np.zeros(shape), target).blocks) == [irrep]


def test_an_array_has_the_irrep_of_the_target():
    assert list(read_kernel(np.zeros((2, 2, 3, 3)), "magnetic_moment").blocks) == ["1e"]


@pytest.mark.parametrize(
    ("X", "target", "message"),
    [
        (np.zeros((2, 2)), None, r"has shape \(n, m, 2 lambda \+ 1, 2 lambda \+ 1\), got \(2, 2\)"),
        (np.zeros((2, 2, 2, 2)), None, "has shape"),
        (np.zeros((2, 2, 3, 3)), "polarizability", "cannot serve the irreps 0e, 2e"),
        (np.full((2, 2, 3, 3), np.nan), None, "kernel of 1o between structures 0 and 0 is not finite"),
    ],
)
def test_messages(X, target, message):
    with pytest.raises(ValueError, match=message):
        read_kernel(X, target)
