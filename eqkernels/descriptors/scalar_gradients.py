"""Derivatives of the invariant features alone, within a memory budget: what forces and stress are learned from.

Those of all centers at once (:mod:`eqkernels.descriptors.density.gradients`) do not fit into memory for more than a few
structures, so that they are made for so many centers at a time as do, used, and dropped.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from eqkernels.descriptors.base import BlockTransformer
from eqkernels.descriptors.density.gradients import Derivatives, feature_gradients
from eqkernels.descriptors.lambda_soap import LambdaSOAP
from eqkernels.descriptors.union import EquivariantUnion
from eqkernels.structures import find_neighbors
from eqkernels.structures.derivative_labels import to_voigt


@dataclass(frozen=True)
class ScalarGradients:
    """Derivatives of some features of some centers.

    Attributes
    ----------
    kind : {"forces", "stress"}
        By the position of an atom (k = 3), or by the strain of a structure (k = 6, see :func:`to_voigt`).
    centers : ndarray of int, shape (n,)
        Row of the features.
    targets : ndarray of int, shape (n,)
        The atom, counted over all atoms of the frames, or the structure.
    columns : ndarray of int, shape (n_columns,)
        The features.
    values : ndarray of shape (n, k, n_columns)
    """

    kind: str
    centers: np.ndarray
    targets: np.ndarray
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
    if isinstance(descriptor, EquivariantUnion):
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
    if isinstance(descriptor, EquivariantUnion):
        for _, member in descriptor.transformers_:
            check_differentiable(member, forward)
    elif not (isinstance(descriptor, BlockTransformer) if forward else hasattr(descriptor, "vjp")):
        what = "be fitted to forces or stress" if forward else "predict derivatives"
        raise TypeError(
            f"{type(descriptor).__name__} has no derivatives of single features by positions, so that a model cannot "
            f"{what} with it: use LambdaSOAP, or an EquivariantUnion of them"
        )


def iter_scalar_gradients(descriptor, frames, memory, width=0, strain=False):
    """Differentiate the invariant features of all centers, some centers at a time.

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
        Whether to make those by the strain too.

    Yields
    ------
    ScalarGradients
    """
    if not isinstance(descriptor, EquivariantUnion):
        yield from _of_one(scalars_only(descriptor), frames, memory, width, strain, 0)
        return
    first = 0
    for _, member in scalars_only(descriptor).transformers_:
        yield from _of_one(member, frames, memory, width, strain, first)
        first += member._block_shapes()["0e"][1]


def _of_one(descriptor, frames, memory, width, strain, first_column):
    batch, is_center, expansion = descriptor._read(frames)
    blocks = descriptor._blocks()
    sizes = sum(np.prod(block.shape) for block in blocks.values()) + width
    # each center is moved by its neighbors and by itself, and by the 9 components of a strain
    moves = np.diff(find_neighbors(batch, expansion.table.cutoff).offsets)[is_center] + 1 + 3 * strain
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
            columns, values = entries.columns["0e"] + first_column, entries.blocks["0e"][:, :, 0]
            atoms = shift + part.offsets[entries.structures] + entries.atoms
            yield ScalarGradients("forces", start + entries.centers, atoms, columns, values)
        if strain:
            columns = first_column + np.arange(gradients.n_features["0e"])
            values = np.moveaxis(to_voigt(np.moveaxis(gradients.strain["0e"][:, :, :, 0], 3, 1)), 1, 2)
            of_center = batch.structure_of_atom[picked]
            yield ScalarGradients("stress", np.arange(start, stop), of_center, columns, np.ascontiguousarray(values))
        start = stop


def _stops(sizes, memory):
    """List the ends of ranges whose sizes sum up to no more than the memory, or that have one member."""
    ends, start, stops = np.cumsum(sizes), 0, []
    while start < len(ends):
        done = ends[start - 1] if start else 0.0
        start = max(start + 1, int(np.searchsorted(ends, done + memory, side="right")))
        stops.append(start)
    return stops


def features_vjp(descriptor, frames, cotangents):
    """Vector-Jacobian product of a descriptor or of a union of them.

    Parameters
    ----------
    descriptor : transformer with ``vjp``, or EquivariantUnion of them
    frames : list of ase.Atoms
    cotangents : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)

    Returns
    -------
    Derivatives
    """
    if not isinstance(descriptor, EquivariantUnion):
        return descriptor.vjp(frames, cotangents)
    sums, first = [], dict.fromkeys(cotangents, 0)
    for _, member in descriptor.transformers_:
        part = {}
        for key, block in member.transform(frames[:1]).blocks.items():
            if key in cotangents:
                columns = slice(first[key], first[key] + block.shape[2])
                part[key] = np.ascontiguousarray(cotangents[key][:, :, columns])
                first[key] = columns.stop
        if part:
            sums.append(features_vjp(member, frames, part))
    return Derivatives.summed(sums)
