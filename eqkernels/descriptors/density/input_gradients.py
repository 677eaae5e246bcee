r"""Derivatives of features by the inputs of atoms and structures.

Channels of inputs are linear in them, and a change of an input of an atom changes the center that it is, and those
that it is a neighbor of. That of a structure is the sum over its atoms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eqkernels.structures.inputs import cartesian_derivatives

# Bytes of derivatives of features that are made at once.
_BYTES_AT_ONCE = 2**25


def input_gradients(expansion, batch, blocks, features):
    """Forward derivatives by inputs.

    Parameters
    ----------
    expansion : DensityExpansion
    batch : StructureBatch
    blocks : list of DensityBlock
    features : dict of str to FeatureBlock

    Returns
    -------
    dict of str to tuple
        By the name of the input: the arguments of :class:`~eqkernels.descriptors.density.gradients.GradientPart`.
    """
    inputs = expansion.inputs
    if inputs is None:
        return {}
    width = sum(np.prod(kind.shape) for kind in features.values())
    changes_width = (expansion.l_max + 1) ** 2 * expansion.n_channels
    found: dict[str, list] = {name: [] for name in inputs.kinds}
    for block in blocks:
        mean = 1.0 + (len(block.pairs.neighbors) / len(block.channels) if inputs.from_neighbors else 0.0)
        size = max(1, int(_BYTES_AT_ONCE / (8 * inputs.dim * mean * (width + changes_width))))
        for a in range(0, len(block.centers), size):
            b = min(a + size, len(block.centers))
            _add(expansion, batch, block, a, b, features, found)
    columns = {key: np.arange(kind.shape[1]) for key, kind in features.items()}
    return {name: _joined(parts, batch, features, inputs.kinds[name], columns) for name, parts in found.items()}


def _add(expansion, batch, block, a, b, features, found):
    """Add the derivatives of some centers: (centers, atoms, blocks) for each input."""
    owners, atoms, changes = expansion.input_changes(block, a, b)
    density = expansion.expand(block, a, b)
    filled = {key: np.zeros((*changes.shape[:2], *kind.shape)) for key, kind in features.items()}
    for key, array in filled.items():
        features[key].fill_derivatives(density, owners, changes, 0, array)
    itself = atoms == block.centers[a + owners]
    centers, atoms = block.first_row + a + owners, batch.offsets[block.start] + atoms
    inputs = expansion.inputs
    for name, kind in inputs.kinds.items():
        moved = np.ones(len(atoms), bool) if inputs.per_atom[name] and inputs.from_neighbors else itself
        matrix, part = inputs.scales[name] * kind.matrix, inputs.parts[name]
        by_input = {key: np.einsum("edmf,dx->exmf", array[moved, part], matrix) for key, array in filled.items()}
        found[name].append((centers[moved], atoms[moved], by_input))


def _joined(parts, batch, features, kind, columns):
    """Centers, structures, atoms, columns and blocks."""
    none = np.zeros(0, dtype=np.int64)
    centers, atoms = (np.concatenate([none, *(part[k] for part in parts)]) for k in range(2))
    blocks = {}
    for key, one in features.items():
        empty = np.zeros((0, kind.matrix.shape[1], *one.shape))
        blocks[key] = np.concatenate([empty, *(part[2][key] for part in parts)])
    return centers, batch.structure_of_atom[atoms], batch.atom_in_structure[atoms], columns, blocks


class InputDerivatives:
    """Derivatives of one number by all inputs of a batch, summed block by block.

    Parameters
    ----------
    expansion : DensityExpansion
    batch : StructureBatch
    """

    def __init__(self, expansion, batch):
        self.expansion, self.batch = expansion, batch
        self.values: Any = None if expansion.inputs is None else np.zeros((batch.n_atoms, expansion.inputs.dim))

    def of_block(self, block):
        """Room for the derivatives by the inputs of the centers and of the neighbors of the pairs of a block."""
        if self.values is None:
            return None
        shape = len(block.centers), self.expansion.inputs.dim
        return np.zeros(shape), np.zeros((len(block.pairs.neighbors), len(self.expansion.weights)))

    def add(self, block, of_block):
        """Add what a block has filled in."""
        if of_block is None:
            return
        own, by_pairs = of_block
        first = self.batch.offsets[block.start]
        self.values[first + block.centers] += own
        for column, weight in enumerate(self.expansion.weights):
            np.add.at(self.values[:, weight], first + block.pairs.neighbors, by_pairs[:, column])

    def cartesian(self):
        """By the tensors of each input, dict of str to ndarray."""
        if self.values is None:
            return {}
        inputs = self.expansion.inputs
        return {
            name: inputs.scales[name]
            * cartesian_derivatives(self.values[:, inputs.parts[name]], kind, inputs.per_atom[name], self.batch.offsets)
            for name, kind in inputs.kinds.items()
        }
