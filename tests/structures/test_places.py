"""Moments of centers about their molecules, and their derivatives."""

import numpy as np
import pytest
from ase import Atoms

from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch
from eqkernels.structures import places as module
from eqkernels.structures.places import Places, moments, moments_vjp


def clusters(seed=0):
    random = np.random.default_rng(seed)
    frames = [Atoms(f"C{n}", positions=random.uniform(0, 2 + n / 3, size=(n, 3))) for n in (1, 5, 12)]
    return StructureBatch.from_frames(frames)


def whole(batch):
    return Places.of_batch(batch, np.arange(batch.n_atoms)).whole


def test_moments_are_those_of_tensors():
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    blocks = CartesianTensor("ij=ji").to_irreps(vectors[:, :, None] * vectors[:, None])
    assert np.allclose(moments(vectors, 2), blocks["2e"][:, :, 0], rtol=0, atol=1e-14)
    assert np.allclose(moments(vectors, 0), blocks["0e"][:, :, 0], rtol=0, atol=1e-14)
    assert np.allclose(moments(vectors, 1), CartesianTensor("i").to_irreps(vectors)["1o"][:, :, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_derivatives(degree):
    random, step = np.random.default_rng(1), 1e-5
    batch = clusters()
    known = whole(batch)
    cotangents = random.normal(size=known.displacements(2.0, degree).shape)
    found = known.displacements_vjp(2.0, degree, cotangents)
    direction = random.normal(size=found.shape)
    values = []
    for sign in (1, -1):
        moved = module.Whole(batch.positions + sign * step * direction, batch.offsets, known.charges)
        values.append(np.sum(cotangents * moved.displacements(2.0, degree)))
    expected = (values[0] - values[1]) / (2 * step)
    assert abs(np.sum(found * direction) - expected) < 1e-6 * np.abs(found).max() * len(found)
    vectors, fields = random.normal(size=(4, 3)), random.normal(size=(4, 2 * degree + 1))
    change = random.normal(size=(4, 3))
    expected = np.sum(fields * (moments(vectors + step * change, degree) - moments(vectors - step * change, degree)))
    assert abs(np.sum(change * moments_vjp(vectors, degree, fields)) - expected / (2 * step)) < 1e-8


def test_spread_keeps_the_sum_and_is_the_mean():
    batch = clusters()
    known, charges = whole(batch), np.random.default_rng(2).normal(size=(batch.n_atoms, 1))
    for reach in (1.0, 4.0, np.inf):
        spread = known.spread(charges, reach)
        for start, stop in zip(batch.offsets, batch.offsets[1:], strict=False):
            assert abs(np.sum(spread[start:stop]) - np.sum(charges[start:stop])) < 1e-11
            if reach == np.inf:
                assert np.ptp(spread[start:stop]) < 1e-3


def test_sparse_as_dense(monkeypatch):
    batch = clusters()
    dense = whole(batch).displacements(2.5, 1)
    monkeypatch.setattr(module, "_DENSE", 0)
    assert np.allclose(whole(batch).displacements(2.5, 1), dense, rtol=0, atol=1e-11)


def test_charges_of_frames():
    frames = [Atoms("H"), Atoms("H", info={"charge": 1}), Atoms("H")]
    frames[2].set_initial_charges([0.5])
    batch = StructureBatch.from_frames(frames)
    assert np.array_equal(batch.charges[:, 0], [0, 1, 0])
    assert np.isnan(batch.charges[:2, 1]).all()
    assert batch.charges[2, 1] == 0.5
    assert np.array_equal(batch[[1, 0]].charges[:, 0], [1, 0])
    assert np.array_equal(batch[1:].charges, batch.charges[1:], equal_nan=True)
    assert batch[1].info == {"charge": 1.0}
    assert batch[0].info == {}
    assert StructureBatch.from_frames(frames[:1]).charges is None
