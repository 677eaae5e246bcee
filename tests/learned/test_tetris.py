"""The eight Tetris shapes, each learned from one orientation and recognised in any; the chiral pair needs 0o."""

import numpy as np
import pytest
from ase import Atoms

from eqkernels import CartesianTensor, TensorRidge
from eqkernels.learned import EquivariantNetwork
from eqkernels.testing import random_rotation, transformed

SHAPES = [
    [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)],
    [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)],
    [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)],
    [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)],
    [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)],
    [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)],
    [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)],
    [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)],
]


@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_eight_of_eight_from_one_orientation(architecture):
    frames = [Atoms("H4", positions=np.array(shape, dtype=float)) for shape in SHAPES]
    kind = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    hand = np.array([1.0, -1.0, 0, 0, 0, 0, 0, 0])
    levi_civita = CartesianTensor("ijk=-jik=-ikj").to_cartesian({"0o": np.ones((1, 1))})
    labels = {f"kind {k}": (kind == k).astype(float) for k in range(7)}
    labels["hand"] = hand[:, None, None, None] * levi_civita
    options = {"cutoff": 2.5, "channels": 8, "max_iter": 50, "architecture": architecture, "random_state": 0}
    network = EquivariantNetwork(**options).fit(frames, labels)

    def readout(name):
        return TensorRidge(alpha=1e-8, normalize=False).fit(network.transform(frames), labels[name])

    readouts = {name: readout(name) for name in labels}
    random = np.random.RandomState(0)
    for _ in range(5):
        features = network.transform([transformed(atoms, random_rotation(random)) for atoms in frames])
        scores = np.stack([readouts[f"kind {k}"].predict(features) for k in range(7)], axis=1)
        assert np.array_equal(scores.argmax(axis=1), kind)
        assert np.allclose(readouts["hand"].predict(features), labels["hand"], atol=0.1)
    mirrored = network.transform([transformed(atoms, -np.eye(3)) for atoms in frames])
    assert np.allclose(readouts["hand"].predict(mirrored), -labels["hand"], atol=0.1)
