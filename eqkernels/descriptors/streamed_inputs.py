"""Derivatives of some blocks of features by inputs, within a memory budget: what responses are learned from."""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors.density.input_gradients import input_gradients
from eqkernels.descriptors.streamed_gradients import StreamedGradients, members
from eqkernels.structures.inputs import InputKind, input_kinds


def declared_inputs(descriptor) -> dict[str, InputKind]:
    """Find the inputs of a descriptor or of the members of a union, fitted or not.

    Parameters
    ----------
    descriptor : transformer

    Returns
    -------
    dict of str to InputKind
    """
    found: dict[str, InputKind] = {}
    for member in members(descriptor):
        found |= input_kinds(getattr(member, "inputs", None) or {})
    return found


def iter_input_gradients(descriptor, frames, memory, width=0, irrep="0e"):
    """Differentiate the features of an irrep and the invariant ones of all centers by inputs, some centers at a time.

    Parameters
    ----------
    descriptor : BlockTransformer, or EquivariantUnion of them
        Fitted.
    frames : list of ase.Atoms
    memory : float
        Bytes that the derivatives of one step may take (at least one structure is taken).
    width : int, default=0
        How many numbers the caller makes of each derivative, which count too.
    irrep : str, default="0e"

    Yields
    ------
    StreamedGradients
        Of which ``kind`` is the name of an input, and the second axis of ``values`` its irreducible components.
    """
    first = dict.fromkeys((irrep, "0e"), 0)
    for member in members(descriptor):
        blocks = {key: block for key, block in member._blocks().items() if key in first}
        if blocks and getattr(member, "inputs", None):
            yield from _of_one(member, blocks, frames, memory, width, first)
        for key, block in blocks.items():
            first[key] += block.shape[1]


def _of_one(descriptor, blocks, frames, memory, width, first_columns):
    batch, is_center, expansion = descriptor._read(frames)
    kinds = expansion.inputs.kinds
    numbers = sum(np.prod(block.shape) for block in blocks.values()) + width
    row = 0
    for start, stop in _structures_at_once(batch, is_center, expansion, 8.0 * numbers, memory):
        part = batch.select(start, stop)
        mask = is_center[batch.offsets[start] : batch.offsets[stop]]
        found = input_gradients(expansion, part, list(expansion.blocks(part, mask)), blocks)
        for name, (centers, structures, atoms, columns, values) in found.items():
            targets = start + structures
            if expansion.inputs.per_atom[name]:
                targets = batch.offsets[start] + part.offsets[structures] + atoms
            for key, array in values.items():
                by_components = np.einsum("exmf,dx->edmf", array, kinds[name].matrix)
                ids = columns[key] + first_columns[key]
                yield StreamedGradients(name, row + centers, targets, key, ids, by_components)
        row += int(mask.sum())


def _structures_at_once(batch, is_center, expansion, bytes_of_one, memory):
    """Ranges of structures whose derivatives take no more than the memory, or that are single."""
    inputs = expansion.inputs
    moves = expansion.n_moves(batch) + 1 if inputs.from_neighbors else np.ones(batch.n_atoms)
    sizes = 2.0 * bytes_of_one * inputs.dim * np.add.reduceat(moves * is_center, batch.offsets[:-1])
    start, used = 0, 0.0
    for k, size in enumerate(sizes):
        if k > start and used + size > memory:
            yield start, k
            start, used = k, 0.0
        used += size
    if start < len(sizes):
        yield start, len(sizes)
