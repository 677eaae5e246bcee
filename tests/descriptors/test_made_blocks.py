"""Blocks that are made when they are asked for are those that are made at once."""

import numpy as np
import pytest

from eqkernels import LambdaSOAP
from eqkernels.descriptors.made_blocks import BlockMaker, MadeBlocks


@pytest.fixture
def pair(molecules):
    descriptor = LambdaSOAP(3.0, n_max=2, l_max=2, irreps="0e+1o").fit(molecules)
    made = descriptor.transform(molecules)
    at_once = {key: np.empty(made.block_shape(key)) for key in made.blocks}
    descriptor.transform(molecules, out=at_once)
    return made.blocks, at_once


@pytest.mark.parametrize("small", [True, False])
def test_made_on_access(pair, monkeypatch, small):
    monkeypatch.setattr("eqkernels.descriptors.made_blocks._SMALL", 2**18 if small else -1)
    made, at_once = pair
    assert isinstance(made, MadeBlocks)
    assert made.untouched
    assert not made.made
    for key, block in at_once.items():
        assert made.shape(key) == block.shape
        np.testing.assert_array_equal(made.rows(key, [3, 1]), block[[3, 1]])
        np.testing.assert_array_equal(made.pick(slice(2, 4)).block(key), block[2:4])
        assert (key in made.made) == small
        np.testing.assert_array_equal(made[key], block)
    assert not made.untouched


def test_changed_blocks_are_kept_by_their_owner(pair):
    made, at_once = pair
    other = made.copy()
    other["0e"][:] = 0.0
    np.testing.assert_array_equal(made["0e"], at_once["0e"])
    with pytest.raises(TypeError, match="cannot be deleted"):
        del made["0e"]


def test_makers_are_stored_as_their_arguments(pair):
    made, at_once = pair
    out = np.empty_like(at_once["1o"])
    BlockMaker(**made.maker.to_dict()).fill("1o", made.density, out)
    np.testing.assert_array_equal(out, at_once["1o"])
