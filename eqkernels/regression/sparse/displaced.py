"""Copies of structures with displaced atoms and changed inputs, whose environments are further sparse points.

A fit to N structures of n atoms has 3 N n forces, three for each environment: with these environments alone as sparse
points a model has fewer parameters than labels. In the exact Gaussian process the derivatives of the kernels by
positions are basis functions as well; kernels with displaced environments are differences of which they are limits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqkernels.descriptors.streamed_inputs import declared_inputs
from eqkernels.structures import StructureBatch

#: Copies of each candidate structure.
N_COPIES = 2


class DisplacedSource:
    """Structures of which the atoms are displaced, and the inputs changed, whenever they are read.

    Positions change by Gaussian random numbers, and the irreducible components of inputs by such of the root mean
    square of the input over the structures that are read together.

    Parameters
    ----------
    source : Source
        Of frames.
    descriptor : transformer
        Of whose inputs there are.
    displacement : float
        Standard deviation in each direction, in the unit of the positions.
    random : RandomState
    """

    def __init__(self, source, descriptor, displacement, random):
        self.source, self.displacement, self.random = source, displacement, random
        self.kinds = declared_inputs(descriptor)
        self.n_atoms, self.ends = source.n_atoms, source.ends

    def __getitem__(self, picked):
        """Displaced copies of some structures."""
        part = self.source[picked]
        if isinstance(part, StructureBatch):
            positions = part.positions + self._moves(part.n_atoms)
            return replace(part, positions=positions, inputs=self._changed(part))
        copies = [atoms.copy() for atoms in part]
        for atoms in copies:
            atoms.positions += self._moves(len(atoms))
        for name, kind in self.kinds.items():
            self._change(copies, name, kind)
        return copies

    def _moves(self, n_atoms):
        return self.displacement * self.random.normal(size=(n_atoms, 3))

    def _changed(self, batch):
        """Change the inputs of a batch: those of a structure by the same for all of its atoms."""
        changed = dict(batch.inputs)
        for name, kind in self.kinds.items():
            found = batch.inputs[name]
            rows = found.values if found.per_atom else found.values[batch.offsets[:-1]]
            moves = self._input_moves(rows @ kind.matrix, kind)
            if not found.per_atom:
                moves = moves[batch.structure_of_atom]
            changed[name] = replace(found, values=found.values + moves)
        return changed

    def _input_moves(self, tensors, kind):
        """Draw changes of the irreducible components of tensors."""
        return np.sqrt(np.mean(tensors**2)) * self.random.normal(size=(len(tensors), kind.dim))

    def _change(self, copies, name, kind):
        places = [atoms.arrays if name in atoms.arrays else atoms.info for atoms in copies]
        values = [np.array(place[name], dtype=float) for place in places]
        size = np.sqrt(np.mean(np.concatenate([one.ravel() for one in values]) ** 2))
        for place, one in zip(places, values, strict=True):
            rows = one.reshape(-1, kind.matrix.shape[1])
            moves = size * self.random.normal(size=(len(rows), kind.dim)) @ kind.matrix
            place[name] = (rows + moves).reshape(one.shape)
