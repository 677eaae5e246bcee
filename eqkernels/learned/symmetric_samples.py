"""What samples of symmetric structures count in training, by the features of a network with random weights.

Equivalent atoms have the same features up to a rotation, and components that symmetry forbids have none, whatever the
weights (:mod:`eqkernels.regression.independence` says why a likelihood must know). Random weights serve, since no
symmetry but that of the structure makes features of them equal, or zero.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqkernels.learned.tape import Tape, Variable
from eqkernels.regression.independence import allowed_parts, shares_of
from eqkernels.so3 import Irrep


def with_counts(model, weights, targets, parts):
    """Targets with the counts of their samples, the shares of equivalent atoms in their weights, and allowed values.

    Parameters
    ----------
    model : Model
        With scales.
    weights : dict of str to ndarray
        Random ones.
    targets : list of Target
    parts : iterable of (Graph, list of Target, ndarray)
        Structures in their order, and the structure of each atom.

    Returns
    -------
    list of Target
    """
    constants, found = {name: Variable(array, wanted=False) for name, array in weights.items()}, []
    for graph, of_part, structures in parts:
        blocks = model.features(Tape(recording=False), constants, graph)
        found.append([_samples(model, blocks, target, graph, structures) for target in of_part])
    return [_joined(target, list(pieces)) for target, pieces in zip(targets, zip(*found, strict=True), strict=True)]


def _samples(model, blocks, target, graph, structures):
    """Shares, allowed values and counts of the samples of a part."""
    n, d, _ = target.values.shape
    features = model.aggregate(Tape(recording=False), blocks[target.irrep], target, graph).value
    # scaled features of a sample have about unit norm
    values, counts = allowed_parts(features @ features.transpose(0, 2, 1), 1.0 / d, target.values)
    shares = np.ones(n)
    if target.per_atom and n:
        known = blocks.get(Irrep(0, 1), blocks[target.irrep])
        invariants = np.linalg.norm(model.aggregate(Tape(recording=False), known, target, graph).value, axis=1)
        atoms = np.flatnonzero(target.segments >= 0)
        atoms = atoms[np.argsort(target.segments[atoms])]
        species = graph.species_of_atom[graph.rank][atoms]
        shares = shares_of(invariants, species, structures[atoms])
    return shares, values, shares * counts / d


def _joined(target, pieces):
    shares, values, counts = (np.concatenate(one) for one in zip(*pieces, strict=True))
    if np.all(counts == 1.0):
        return target
    weights = target.sample_weights * np.sqrt(shares)
    return replace(target, values=values, sample_weights=weights, counts=counts)
