"""
Tetris shapes
=============

Learn the eight Tetris shapes from one orientation of each, and recognise them in any other.

Two of the shapes are mirror images of each other: invariants that do not change sign under a reflection cannot tell
them apart, pseudoscalars (0o) can. A network learns both kinds of features, and a nearest-neighbor classifier of
scikit-learn reads them. Takes a few seconds after the first run, which compiles, and writes tetris.png.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from sklearn.neighbors import KNeighborsClassifier

from eqkernels import CartesianTensor, EquivariantNetwork
from eqkernels.testing import random_rotation, transformed

SHAPES = {
    "chiral left": [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)],
    "chiral right": [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)],
    "square": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)],
    "line": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)],
    "corner": [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)],
    "L": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)],
    "T": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)],
    "zigzag": [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)],
}


def labels():
    """Give every achiral shape a scalar of its own, and the chiral pair a pseudoscalar, +1 and -1."""
    handedness = np.array([1.0, -1.0, 0, 0, 0, 0, 0, 0])
    # an antisymmetric tensor of rank 3 is a pseudoscalar times the Levi-Civita symbol
    levi_civita = CartesianTensor("ijk=-jik=-ikj").to_cartesian({"0o": np.ones((1, 1))})
    targets = {"handedness": handedness[:, None, None, None] * levi_civita}
    for k in range(2, 8):
        targets[list(SHAPES)[k]] = np.eye(8)[k]
    return targets


def descriptors(network, frames):
    """Sum what a rotation does not change over the atoms of each shape."""
    features = network.transform(frames)
    blocks = [features.blocks[key].reshape(len(frames), 4, -1).sum(axis=1) for key in ("0e", "0o")]
    return np.concatenate(blocks, axis=1)


def draw(axes, positions, title):
    for x, y, z in positions - positions.mean(axis=0):
        axes.scatter(x, y, z, s=260, color="tab:blue", edgecolor="black", depthshade=False)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), zlim=(-1.5, 1.5), xticks=[], yticks=[], zticks=[])
    axes.set_title(title, fontsize=9)
    axes.set_box_aspect((1, 1, 1))


start = time.perf_counter()
frames = [Atoms("H4", positions=np.array(positions, dtype=float)) for positions in SHAPES.values()]
names = np.array(list(SHAPES))
network = EquivariantNetwork(cutoff=2.5, channels=8, l_max=2, max_iter=50, random_state=0).fit(frames, labels())
classifier = KNeighborsClassifier(n_neighbors=1).fit(descriptors(network, frames), names)

random = np.random.RandomState(1)
correct = np.zeros(8, dtype=int)
for _ in range(100):
    turned = [transformed(atoms, random_rotation(random)) for atoms in frames]
    predicted = classifier.predict(descriptors(network, turned))
    correct += predicted == names
print(f"trained in {time.perf_counter() - start:.1f} s on one orientation of each shape")
for name, count in zip(names, correct, strict=True):
    print(f"{name:>13}: recognised in {count} of 100 random orientations")
mirrored = classifier.predict(descriptors(network, [transformed(atoms, -np.eye(3)) for atoms in frames[:2]]))
print(f"mirror images of '{names[0]}' and '{names[1]}' are recognised as '{mirrored[0]}' and '{mirrored[1]}'")

figure = plt.figure(figsize=(12, 3.6))
for k in range(8):
    draw(figure.add_subplot(2, 8, k + 1, projection="3d"), frames[k].positions, names[k])
    draw(figure.add_subplot(2, 8, k + 9, projection="3d"), turned[k].positions, f"is: {predicted[k]}")
figure.suptitle("Learned from the orientations above, recognised in those below")
figure.tight_layout()
figure.savefig("tetris.png", dpi=120)
