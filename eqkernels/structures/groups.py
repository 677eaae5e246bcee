r"""Groups of atoms, such as residues or molecules: which there are, and their mean positions.

Groups are read from an array of the atoms, or found as what covalent bonds connect, pairs closer than 1.25 times the
sum of their covalent radii (in Angstrom). The position of a group is the mean

.. math:: \mathbf R_G = \frac{1}{|G|} \sum_{i \in G} (\mathbf r_i + \mathbf n_i \mathbf A) ,

over those periodic images of its atoms that belong together: they are connected by pairs within the group, of the
shortest reach at which all of it is connected. A group that is connected with an image of itself, as a chain without
end, has no position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from eqkernels.structures._groups_loops import connect
from eqkernels.structures.batch import StructureBatch, as_list, structure_number
from eqkernels.structures.neighbors import find_neighbors

#: The name that stands for what bonds connect.
MOLECULES = "molecules"
# Bonded atoms are closer than the sum of their covalent radii times this; hydrogen bonds are 1.6 times as long.
_BOND = 1.25
# The reach at which periodic groups are connected grows by this, from that of bonds.
_GROWTH = 1.3


@dataclass(frozen=True)
class GroupPositions:
    """Groups of the atoms of a batch, structure by structure.

    Attributes
    ----------
    members : ndarray of int, shape (n_atoms,)
        Group of each atom.
    sizes : ndarray of int, shape (n_groups,)
    batch : StructureBatch
        The mean positions in place of atoms.
    """

    members: NDArray[np.int64]
    sizes: NDArray[np.int64]
    batch: StructureBatch


def with_groups(
    frames: Iterable[Atoms] | StructureBatch, name: str | None, batch: StructureBatch | None = None
) -> StructureBatch:
    """Read frames with the groups of their atoms.

    Parameters
    ----------
    frames : sequence of ase.Atoms, or StructureBatch
        A batch must have been made by this function.
    name : str or None
        Array of the atoms with integers or strings; None and "molecules": nothing is read.
    batch : StructureBatch, default=None
        The frames as they were read already, with more of them.

    Returns
    -------
    StructureBatch

    Raises
    ------
    ValueError
        If the array is missing or cannot be read; the message names the structure.
    """
    if isinstance(frames, StructureBatch):
        if name not in (None, MOLECULES) and frames.groups is None:
            raise ValueError(
                f"the batch has no array {name!r}: a StructureBatch holds the geometry alone, give the frames "
                "themselves"
            )
        return frames
    if name in (None, MOLECULES):
        return StructureBatch.from_frames(frames) if batch is None else batch
    frames = as_list(frames)
    batch = StructureBatch.from_frames(frames) if batch is None else batch
    labels = [_labels(atoms, name, structure_number(batch.origin, k)) for k, atoms in enumerate(frames)]
    return replace(batch, groups=np.concatenate(labels))


def _labels(atoms, name, structure):
    """Read the labels of a structure as numbers, in their order."""
    if name not in atoms.arrays:
        raise ValueError(
            f"structure {structure} has no array {name!r} (it has {', '.join(sorted(atoms.arrays))}): set "
            f"atoms.arrays[{name!r}] to the group of each atom, or pooling={MOLECULES!r}"
        )
    values = np.asarray(atoms.arrays[name])
    if values.ndim != 1 or values.dtype.kind not in "iubUS":
        raise ValueError(
            f"atoms.arrays[{name!r}] of structure {structure} has shape {values.shape} and type {values.dtype}: groups "
            "are one integer or string for each atom"
        )
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)


def find_groups(batch: StructureBatch, name: str) -> GroupPositions:
    """Find groups and their positions.

    Parameters
    ----------
    batch : StructureBatch
        With groups, unless these are molecules.
    name : str
        As of :func:`with_groups`.

    Returns
    -------
    GroupPositions

    Raises
    ------
    ValueError
        If a group goes on through a periodic boundary without end; the message names the structure and an atom.
    """
    if name == MOLECULES:
        members, lifts = _connected(batch, np.arange(batch.n_atoms), batch.structure_of_atom)
    else:
        if batch.groups is None:
            raise ValueError(f"the groups {name!r} of the batch were not read: see with_groups")
        members, lifts = _of_labels(batch)
    sizes = np.bincount(members)
    structures = np.empty(len(sizes), dtype=np.int64)
    structures[members] = batch.structure_of_atom
    positions = batch.positions + np.einsum("ax,axy->ay", lifts, batch.cells[batch.structure_of_atom])
    means = np.stack([np.bincount(members, positions[:, x]) for x in range(3)], axis=1) / sizes[:, None]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(structures, minlength=batch.n_structures))])
    rest = batch.cells, batch.pbc, offsets, batch.origin
    return GroupPositions(members, sizes, StructureBatch(means, np.ones(len(sizes), dtype=np.int64), *rest))


def _of_labels(batch):
    """Make groups of labels, and find the images of their atoms that belong together."""
    size = int(batch.groups.max(initial=0)) + 1
    labels = batch.structure_of_atom * size + batch.groups
    members = np.unique(labels, return_inverse=True)[1].reshape(-1)
    lifts, several = np.zeros((batch.n_atoms, 3)), np.bincount(members)[members] > 1
    left, reach = np.flatnonzero(several & batch.pbc.any(axis=1)[batch.structure_of_atom]), 1.0
    while len(left):
        part, lifts[left] = _connected(batch, left, members[left], reach)
        n_parts = np.bincount(np.unique(np.stack([members[left], part]), axis=1)[0])
        left, reach = left[n_parts[members[left]] > 1], reach * _GROWTH
    return members, lifts


def _connected(batch, atoms, groups, reach=1.0):
    """Find connected parts of the groups of some atoms, and the images of the atoms that belong together."""
    counts = np.bincount(batch.structure_of_atom[atoms], minlength=batch.n_structures)
    arrays = batch.positions[atoms], batch.numbers[atoms], batch.cells, batch.pbc
    chosen = StructureBatch(*arrays, np.concatenate([[0], np.cumsum(counts)]))
    part, lifts = np.full(len(atoms), -1), np.zeros((len(atoms), 3), dtype=np.int64)
    connect(*_pairs(chosen, reach), groups, part, lifts)
    endless = np.flatnonzero(part < -1)
    if len(endless):
        raise ValueError(
            f"{batch.where(atoms[endless[0]])}: its group goes on through the periodic boundary without end (a chain, "
            "a layer, a crystal), and has no mean position: pool over smaller groups, or set pooling=None"
        )
    return part, lifts


def _pairs(batch, reach):
    """Pairs of atoms closer than their bond length times a reach: offsets, neighbors and the images of these."""
    radii = _BOND * reach * covalent_radii[batch.numbers]
    pairs = find_neighbors(batch, 2.0 * radii.max(initial=0.1))
    centers = pairs.centers
    close = pairs.distances < radii[centers] + radii[pairs.neighbors]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(centers[close], minlength=batch.n_atoms))])
    return offsets, pairs.neighbors[close], pairs.shifts[close]
