"""Structures as a sequence that is read in parts, and the choice of those from which sparse points are taken."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eqkernels._ranges import structure_blocks
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels.sparse_points import room_of_species
from eqkernels.regression.base import checked_features
from eqkernels.structures import StructureBatch

# Structures whose species are read at once from a sequence that is not in memory.
_STRUCTURES_PER_SCAN = 1024
# Structures whose features are looked at together: few enough that points are chosen in a small memory.
_CANDIDATES_PER_BLOCK = 500


class Source:
    """Structures or features as a sequence that is read in parts.

    Parameters
    ----------
    X : EquivariantFeatures, or sequence of ase.Atoms
        A sequence that is no list, e.g. an ase Trajectory, is never in memory as a whole.
    read : callable, default=StructureBatch.from_frames
        ``read(frames, origin, quiet)`` reads a part of the frames.

    Attributes
    ----------
    n_atoms : ndarray of int, shape (n_structures,)
    numbers : ndarray of int, shape (n_atoms_in_all,)
        Atomic number of each atom; 0 for atoms that have no features.
    volumes : ndarray of shape (n_structures,), or None
        Of the cells of frames, 0 for those without.
    charges : ndarray of shape (n_structures,), or None
        Total charges of frames, 0 where they are not stated.
    periodic : ndarray of bool, shape (n_structures,), or None
        Which frames are periodic.
    """

    def __init__(self, X, read=StructureBatch.from_frames):
        self.X, self.read = X, read
        if isinstance(X, EquivariantFeatures):
            self.n_atoms, self.volumes, self.charges, self.periodic = X.n_atoms, None, None, None
            self.numbers = np.zeros(X.n_atoms.sum(), dtype=np.int64)
            self.numbers[(np.cumsum(X.n_atoms) - X.n_atoms)[X.structures] + X.atoms] = X.species
        else:
            size = _STRUCTURES_PER_SCAN if lazy_sequence(X) else max(len(X), 1)
            parts = [self._scan(start, size) for start in range(0, max(len(X), 1), size)]
            arrays = (np.concatenate(part) for part in zip(*parts, strict=True))
            self.n_atoms, self.numbers, self.volumes, self.charges, self.periodic = arrays
        self.ends = np.cumsum(self.n_atoms)

    def __len__(self):
        return len(self.n_atoms)

    def _scan(self, start, size):
        batch = StructureBatch.from_frames(self.X[start : start + size], start)
        charges = np.zeros(len(batch)) if batch.charges is None else np.nan_to_num(batch.charges[:, 0])
        volumes, periodic = np.abs(np.linalg.det(batch.cells)), batch.pbc.any(axis=1)
        return np.diff(batch.offsets), batch.numbers, volumes, charges, periodic

    def __getitem__(self, key):
        """Part of X for a slice or an array of indices."""
        if isinstance(self.X, EquivariantFeatures | StructureBatch):
            return self.X[key]
        origin = key.start if isinstance(key, slice) else key
        frames = self.X[key] if isinstance(key, slice) else [self.X[int(k)] for k in key]
        return self.read(frames, origin, True)


def choose_candidates(source, labelled, limit, random):
    """Choose random structures, with about ``limit`` labelled atoms and at least one atom of each labelled species.

    Parameters
    ----------
    source : Source
    labelled : ndarray of bool, shape (n_atoms_in_all,)
    limit : int
    random : RandomState

    Returns
    -------
    ndarray of int
        Structures, ascending.
    """
    structures = np.repeat(np.arange(len(source)), source.n_atoms)[labelled]
    numbers = source.numbers[labelled]
    counts = np.bincount(structures, minlength=len(source))
    order = random.permutation(np.flatnonzero(counts))
    picked = order[: int(np.searchsorted(np.cumsum(counts[order]), limit)) + 1]
    seen = numbers[np.isin(structures, picked)]
    species, first = np.unique(numbers, return_index=True)
    return np.union1d(picked, structures[first[~np.isin(species, seen)]])


def most_points_of_species(source, candidates, labelled, n_points, most, copies=1):
    """Most points of each species to be kept while they are chosen.

    Parameters
    ----------
    source : Source
    candidates : ndarray of int
    labelled : ndarray of bool, shape (n_atoms_in_all,)
    n_points : int or dict of int to int
    most : float
        How many points are not too many in all.
    copies : int, default=1
        How often each of the candidates is there.

    Returns
    -------
    dict of int to int, or None
    """
    structures = np.repeat(np.arange(len(source)), source.n_atoms)
    species, counts = np.unique(source.numbers[labelled & np.isin(structures, candidates)], return_counts=True)
    return room_of_species(n_points, dict(zip(species.tolist(), (copies * counts).tolist(), strict=True)), most)


def lazy_sequence(X):
    """Whether X is a sequence that makes its structures when they are asked for, such as an ase Trajectory."""
    in_memory = isinstance(X, StructureBatch | list | tuple | str | bytes | Mapping) or hasattr(X, "__array__")
    return not in_memory and hasattr(X, "__len__") and hasattr(X, "__getitem__")


def candidate_features(source, candidates, labelled, descriptor, irreps, limit):
    """Features of the labelled centers of some structures, block by block.

    Parameters
    ----------
    source : Source
    candidates : ndarray of int
    labelled : ndarray of bool, shape (n_atoms_in_all,)
    descriptor : transformer or None
        Fitted; None where the source holds features.
    irreps : set of str
        Blocks that are needed.
    limit : int
        How many atoms the structures of one block may have, but for a single larger one.

    Yields
    ------
    EquivariantFeatures
        Each center is a structure of its own.
    """
    for picked in _blocks_of_candidates(source, candidates, limit):
        features = source[picked]
        if descriptor is not None:
            features = checked_features(descriptor.transform(features), descriptor)
        features = _with_blocks(features, irreps)
        first_atom = (source.ends - source.n_atoms)[picked]
        yield features.split_centers(np.flatnonzero(labelled[first_atom[features.structures] + features.atoms]))


def _blocks_of_candidates(source, candidates, limit):
    for first in range(0, len(candidates), _CANDIDATES_PER_BLOCK):
        part = candidates[first : first + _CANDIDATES_PER_BLOCK]
        for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(source.n_atoms[part])]), limit):
            yield part[start:stop]


def _with_blocks(features, irreps):
    """Features with some of their blocks."""

    def needed(by_irrep):
        return {irrep: value for irrep, value in by_irrep.items() if irrep in irreps}

    parts = {name: needed(columns) for name, columns in features.parts.items()}
    rows = features.species, features.structures, features.atoms, features.n_atoms
    return EquivariantFeatures(needed(features.blocks), *rows, parts, needed(features.labels), features.places)
