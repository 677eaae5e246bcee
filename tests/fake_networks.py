"""Equivariant features in e3nn's order of components, as other programs return them, and the outputs of MACE's calculator."""

from types import SimpleNamespace

import numpy as np


def harmonics(vectors):
    """Harmonics up to l = 2 as e3nn's ``component`` normalization orders them: 1; x, y, z; xz, xy, ..."""
    x, y, z = vectors.T
    second = [
        np.sqrt(3) * x * z,
        np.sqrt(3) * x * y,
        y**2 - (x**2 + z**2) / 2,
        np.sqrt(3) * y * z,
        np.sqrt(0.75) * (z**2 - x**2),
    ]
    return [np.ones((1, len(x))), np.array([x, y, z]), np.array(second)]


def hidden(atoms, channels):
    """Sums over neighbors, a list of arrays (n_atoms, channels, 2 l + 1)."""
    offsets = atoms.get_all_distances(mic=atoms.pbc.any(), vector=True)
    numbers, out = atoms.numbers, [np.zeros((len(atoms), channels, 2 * l + 1)) for l in range(3)]
    for i in range(len(atoms)):
        r = np.linalg.norm(offsets[i], axis=1)
        for l, values in enumerate(harmonics(offsets[i])):
            for k in range(channels):
                out[l][i, k] = values @ (np.exp(-r * (k + 1) / 2) * (1 + 0.3 * numbers) * (r > 0))
    return out


class FakeMACE:
    """The part of MACECalculator that is used: rows of two layers, the last with scalars."""

    def __init__(self, channels=4, n_models=1, hidden_irreps="{0}x0e+{0}x1o+{0}x2e", dtype="float32"):
        layers = [hidden_irreps.format(channels), f"{channels}x0e"]
        products = [SimpleNamespace(linear=SimpleNamespace(irreps_out=one)) for one in layers]
        self.channels, self.models = channels, [SimpleNamespace(products=products)] * n_models
        self.dtype = dtype

    def __eq__(self, other):
        return type(self) is type(other) and (self.channels, self.dtype) == (other.channels, other.dtype)

    __hash__ = None

    def get_descriptors(self, atoms=None, invariants_only=True, num_layers=-1):
        assert not invariants_only
        parts = hidden(atoms, self.channels)
        last = np.tanh(parts[0][:, :, 0] + np.sum(parts[1] ** 2, axis=2))
        return np.concatenate([*(one.reshape(len(atoms), -1) for one in parts), last], axis=1).astype(self.dtype)


def rows(frames):
    return [np.concatenate([one.reshape(len(atoms), -1) for one in hidden(atoms, 3)], axis=1) for atoms in frames]
