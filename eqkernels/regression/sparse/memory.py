"""What a sparse fit will take, before it begins: features of the points and of one block of structures."""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.structures import StructureBatch

#: Bytes that ``memory`` stands for at most: more than any machine has, but still a number of elements.
LARGEST = 2.0**60
# Part of the memory for the features of one block; as much is taken by their copies.
_BLOCK = 0.2
# Part of the memory that the sparse points, or one structure, may take: they are copied on the way.
_PART = 0.5
# What is smaller than this is never refused: the program itself takes more.
_SMALL = 2.0**26


def environment_sizes(source, descriptor):
    """Bytes of one environment by irrep, and its shape (2 lambda + 1, n_features).

    Parameters
    ----------
    source : Source
    descriptor : transformer or None
        Fitted; None where the source holds features.

    Returns
    -------
    dict of str to tuple of int
    """
    features = source.X
    if descriptor is not None:  # those of a lone atom have the shape of all others
        features = descriptor.transform(_lone_atom(source[0:1]))
    if not isinstance(features, EquivariantFeatures):  # is refused where the candidates are made
        return {}
    return {irrep: block.shape[1:] for irrep, block in features.blocks.items()}


def _lone_atom(frames):
    """First atom of a structure, with its inputs, as a structure of its own."""
    if isinstance(frames, StructureBatch):
        rest = np.zeros((1, 3), dtype=bool), np.array([0, 1])
        inputs = frames._inputs_of(slice(0, 1))
        return StructureBatch(frames.positions[:1], frames.numbers[:1], frames.cells, *rest, inputs=inputs)
    lone = frames[0][:1]
    lone.pbc = False
    return [lone]


def check_fit(shapes, of_points, n_points, n_atoms, memory):
    """Refuse a fit whose sparse points or largest structure take more than the memory.

    Parameters
    ----------
    shapes : dict of str to tuple of int
        From :func:`environment_sizes`.
    of_points : dict of str to tuple of int
        Those that sparse points need.
    n_points : int
    n_atoms : int
        Of the largest structure.
    memory : float
        Bytes.

    Raises
    ------
    MemoryError
        With the largest block, and what would make it smaller.
    """
    largest = (n_points, "sparse points", of_points), (n_atoms, "atoms of the largest structure", shapes)
    for count, what, of_one in largest:
        needed = 8.0 * count * n_values(of_one)
        if needed > max(_PART * memory, _SMALL):
            irrep, (d, width) = max(of_one.items(), key=lambda item: np.prod(item[1]))
            components = f" of {d} components" if d > 1 else ""
            raise MemoryError(
                f"{irrep}: {width:,} features{components} x {count:,} {what} = {8e-9 * count * d * width:.1f} GB, with "
                f"all irreps {needed / 2**30:.3g} GiB, more than half of memory={memory / 2**30:g}: use a "
                "descriptor with fewer features (n_max=..., l_max=..., n_species_channels=...), a smaller n_points, or "
                f"memory={np.ceil(needed / _PART / 2**20) / 2**10:.3g}"
            )


def n_values(shapes):
    """Count the features of one environment, in all irreps and components."""
    return max(1, sum(d * width for d, width in shapes.values()))


def centers_of_block(environment_size, memory):
    """How many centers have their features in memory at once."""
    return max(1, int(_BLOCK * memory / (8 * environment_size)))
