"""Irreps of the blocks: as stated, or those of the targets."""

import numpy as np
import pytest

from eqkernels import LambdaSOAP
from eqkernels.so3 import Irreps


@pytest.mark.parametrize(
    ("irreps", "chosen"), [("2e+0e", "0e+2e"), ("1o+1e+1o", "1e+1o"), (Irreps("0e"), "0e"), ("auto", "0e+1o+2e")]
)
def test_stated_irreps_are_sorted_and_made_once(molecules, irreps, chosen):
    assert LambdaSOAP(3.0, n_max=2, l_max=2, irreps=irreps).fit(molecules).irreps_ == chosen


def test_targets_decide(molecules):
    dipoles = np.random.default_rng(0).normal(size=(len(molecules), 3))
    assert LambdaSOAP(3.0, n_max=1, l_max=1).fit(molecules, dipoles).irreps_ == "0e+1o"


@pytest.mark.parametrize(("irreps", "message"), [("", "names no irrep"), ("7o", "lambda must not exceed 6")])
def test_refused(molecules, irreps, message):
    with pytest.raises(ValueError, match=message):
        LambdaSOAP(3.0, n_max=1, l_max=1, irreps=irreps).fit(molecules)


def test_a_block_that_is_not_made(molecules):
    with pytest.raises(ValueError, match="irrep='2e' must be one of the blocks 0e"):
        LambdaSOAP(3.0, n_max=1, l_max=1, irreps="0e").fit(molecules).feature_labels("2e")
