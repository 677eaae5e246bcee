"""Derivatives of some blocks of features, within a memory budget: what forces and other derivatives are learned from.

Those of all centers at once (:mod:`eqkernels.descriptors.density.gradients`) do not fit into memory for more than a few
structures, so that they are made for so many centers at a time as do, used, and dropped.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from eqkernels.descriptors.base import BlockTransformer
from eqkernels.descriptors.density.gradients import feature_gradients
from eqkernels.descriptors.joined import JoinedDescriptors, reductions
from eqkernels.descriptors.joined import features_vjp as features_vjp
from eqkernels.descriptors.lambda_soap import LambdaSOAP
from eqkernels.structures.derivative_labels import to_voigt


@dataclass(frozen=True)
class StreamedGradients:
    """Derivatives of some features of some centers.

    Attributes
    ----------
    kind : {"forces", "stress"}
        By the position of an atom (k = 3), or by the strain of a structure (k = 6, see :func:`to_voigt`).
    centers : ndarray of int, shape (n,)
        Row of the features.
    targets : ndarray of int, shape (n,)
        The atom, counted over all atoms of the frames, or the structure.
    block : str
        The irrep of the features.
    columns : ndarray of int, shape (n_columns,)
        The features.
    values : ndarray of shape (n, k, 2 lambda + 1, n_columns)
    """

    kind: str
    centers: np.ndarray
    targets: np.ndarray
    block: str
    columns: np.ndarray
    values: np.ndarray


def scalars_only(descriptor):
    """Copy of a fitted descriptor that makes no other block than 0e, if it can.

    Parameters
    ----------
    descriptor : transformer

    Returns
    -------
    transformer
    """
    reduced = copy.copy(descriptor)
    if isinstance(descriptor, JoinedDescriptors):
        reduced.transformers_ = [(name, scalars_only(member)) for name, member in descriptor.transformers_]
    elif isinstance(descriptor, LambdaSOAP):
        reduced.irreps_ = "0e"
    return reduced


def check_differentiable(descriptor, forward):
    """Refuse descriptors without derivatives.

    Parameters
    ----------
    descriptor : transformer
    forward : bool
        Whether all of them are needed, not only their contraction with a cotangent.
    """
    if isinstance(descriptor, JoinedDescriptors):
        for _, member in descriptor.transformers_:
            check_differentiable(member, forward)
    elif hasattr(descriptor, "steps") and not forward:
        check_differentiable(descriptor.steps[0][1], forward)
        for reduction in reductions(descriptor):
            check_differentiable(reduction, forward)
    elif not (isinstance(descriptor, BlockTransformer) if forward else hasattr(descriptor, "vjp")):
        what = "be fitted to forces, stress or other derivatives" if forward else "predict derivatives"
        raise TypeError(
            f"{type(descriptor).__name__} has no derivatives of single features by positions, so that a model cannot "
            f"{what} with it: use LambdaSOAP, or an EquivariantUnion of them"
        )


def members(descriptor):
    """Members of joined descriptors, fitted if these are; of another descriptor itself."""
    if not isinstance(descriptor, JoinedDescriptors):
        return [descriptor]
    if hasattr(descriptor, "transformers_"):
        return [member for _, member in descriptor.transformers_]
    if hasattr(descriptor, "transformers"):
        return [member for _, member in descriptor.transformers]
    return [descriptor.descriptor]  # stated once for all scales


def iter_gradients(descriptor, frames, memory, width=0, strain=False, irrep="0e", more=()):
    """Differentiate the features of an irrep and the invariant ones of all centers, some centers at a time.

    Parameters
    ----------
    descriptor : BlockTransformer, or EquivariantUnion of them
        Fitted.
    frames : list of ase.Atoms
    memory : float
        Bytes that the derivatives of one step may take (at least one center is taken).
    width : int, default=0
        How many numbers the caller makes of each derivative, which count too.
    strain : bool, default=False
        Whether to make those of scalars by the strain too.
    irrep : str, default="0e"
    more : tuple of str, default=()
        Other irreps whose features are differentiated too.

    Yields
    ------
    StreamedGradients
    """
    first = dict.fromkeys((irrep, "0e", *more), 0)
    for member in members(descriptor):
        if isinstance(member, JoinedDescriptors):
            raise TypeError("a union of unions has no derivatives of single features: join all descriptors in one")
        blocks = {key: block for key, block in member._blocks().items() if key in first}
        if blocks:
            yield from _of_one(member, blocks, frames, memory, width, strain, first)
        for key, block in blocks.items():
            first[key] += block.shape[1]


def _of_one(descriptor, blocks, frames, memory, width, strain, first_columns):
    batch, is_center, expansion = descriptor._read(frames)
    sizes = sum(np.prod(block.shape) for block in blocks.values()) + width
    # each center is moved by its neighbors and by itself, and by the 9 components of a strain
    moves = expansion.n_moves(batch)[is_center] + 1 + 3 * strain
    centers = np.flatnonzero(is_center)
    start = 0
    for stop in _stops(24.0 * sizes * moves, memory):
        picked = centers[start:stop]
        structures = batch.structure_of_atom[picked[[0, -1]]]
        part, shift = batch.select(structures[0], structures[1] + 1), batch.offsets[structures[0]]
        mask = np.zeros(part.n_atoms, dtype=bool)
        mask[picked - shift] = True
        gradients = feature_gradients(expansion, part, mask, blocks, descriptor.n_jobs, strain)
        for entries in gradients.parts:
            atoms = shift + part.offsets[entries.structures] + entries.atoms
            for key, values in entries.blocks.items():
                columns = entries.columns[key] + first_columns[key]
                yield StreamedGradients("forces", start + entries.centers, atoms, key, columns, values)
        if strain:
            columns = first_columns["0e"] + np.arange(gradients.n_features["0e"])
            values = np.moveaxis(to_voigt(np.moveaxis(gradients.strain["0e"], (1, 2), (3, 4))), 3, 1)
            rows, of_center = np.arange(start, stop), batch.structure_of_atom[picked]
            yield StreamedGradients("stress", rows, of_center, "0e", columns, np.ascontiguousarray(values))
        start = stop


def _stops(sizes, memory):
    """List the ends of ranges whose sizes sum up to no more than the memory, or that have one member."""
    ends, start, stops = np.cumsum(sizes), 0, []
    while start < len(ends):
        done = ends[start - 1] if start else 0.0
        start = max(start + 1, int(np.searchsorted(ends, done + memory, side="right")))
        stops.append(start)
    return stops
