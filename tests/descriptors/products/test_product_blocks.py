"""Each irrep and compression has its kind of block."""

import numpy as np
import pytest

from eqkernels.descriptors.products.pairs import InvariantBlock, PairBlock
from eqkernels.descriptors.products.product_blocks import product_block
from eqkernels.descriptors.products.summed_species import SummedSpeciesBlock
from eqkernels.descriptors.products.triples import TripleBlock
from eqkernels.so3 import Irrep


@pytest.mark.parametrize(
    ("irrep", "compression", "kind"),
    [
        ("0e", None, InvariantBlock),
        ("2e", None, PairBlock),
        ("0o", None, TripleBlock),
        ("0e", "mu1nu1", SummedSpeciesBlock),
        ("0e", "mu2", InvariantBlock),
    ],
)
def test_kind(irrep, compression, kind):
    block = product_block(Irrep.parse(irrep), 2, (1, 8), 2, 2, compression)
    assert type(block) is kind
    assert block.shape == (Irrep.parse(irrep).dim, len(block.labels()))


def test_invariants_are_those_of_the_general_loops():
    numbers = Irrep(0, 1), 3, (1, 8), 3, 3
    density = np.random.default_rng(0).normal(size=(4, 16, 6))
    density[1, :, :3] = 0.0  # no atom of the first species
    outs = []
    for kind in (InvariantBlock, PairBlock):
        block = kind(*numbers)
        outs.append(np.full((4, *block.shape), np.nan))
        block.fill(density, outs[-1])
    np.testing.assert_allclose(*outs, atol=1e-13)
