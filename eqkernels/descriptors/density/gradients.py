r"""Derivatives of features by the positions of atoms and by the strain of the cell.

A center i moves its features through the vectors to its neighbors:
:math:`\partial \mathbf p_i / \partial \mathbf r_j` is the sum of
:math:`\partial \mathbf p_i / \partial \mathbf r_{ij}` over the images of j, and if i itself is moved, minus the sum
over all others. A strain :math:`\epsilon` takes each vector to
:math:`(1 + \epsilon)\, \mathbf r_{ij}`, so that

.. math:: \frac{\partial \mathbf p_i}{\partial \epsilon_{xy}} =
          \sum_j \frac{\partial \mathbf p_i}{\partial r_{ij,x}}\, r_{ij,y} .

Two ways to have them: all of them, as :class:`FeatureGradients` (forward), or contracted with one cotangent per
feature, :math:`\sum_{if} g_{if}\, \partial p_{if}`, as :class:`Derivatives` (vector-Jacobian product), which never
stores a derivative of a feature and costs a small multiple of the features themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from eqkernels._ranges import over_ranges
from eqkernels.descriptors.density.input_gradients import InputDerivatives, input_gradients

# Bytes of derivatives of the density that are made and used up at once.
_CHANGES_PER_RANGE = 2**22


class FeatureBlock(Protocol):
    """Features of one irrep as a function of the density of their center.

    Densities are arrays (n_centers, (l_max + 1)^2, n_channels), blocks (n_centers, 2 lambda + 1, n_features), all
    C-contiguous.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(2 lambda + 1, n_features)."""

    def labels(self) -> np.ndarray:
        """List what each feature is made of, a structured array (n_features,)."""

    def fill(self, density: np.ndarray, out: np.ndarray) -> None:
        """Write the features into ``out``, of the type of the density."""

    def changing(self, first: int, width: int) -> np.ndarray:
        """Features that change with the channels ``first`` .. ``first + width - 1``, ascending."""

    def fill_derivatives(
        self, density: np.ndarray, owners: np.ndarray, changes: np.ndarray, first: int, out: np.ndarray
    ) -> None:
        """Write the derivatives that belong to changes (n_items, n_directions, (l_max + 1)^2, width) of the density.

        Item e changes the channels ``first`` .. ``first + width - 1`` of the center ``owners[e]`` (ascending); ``out``
        (n_items, n_directions, 2 lambda + 1, n_changing), zero before, takes the features that :meth:`changing` names.
        """

    def contract(self, density: np.ndarray, cotangent: np.ndarray, out: np.ndarray) -> None:
        """Add to ``out`` the derivative of sum(cotangent * features) by the density."""


class _Pair(NamedTuple):
    """What derivatives are unpacked to."""

    positions: np.ndarray
    strain: np.ndarray


class Derivatives(_Pair):
    """Derivatives of one number, such as an energy: the pair (positions, strain), and beside it those by inputs.

    Attributes
    ----------
    positions : ndarray of shape (n_atoms, 3)
        By the positions of all atoms, structure after structure: minus the forces of an energy.
    strain : ndarray of shape (n_structures, 3, 3)
        By the strain of each structure: the stress of an energy times the volume of its cell.
    inputs : dict of str to ndarray of shape (n_structures, ...) or (n_atoms, ...)
        By the inputs of the descriptor, of structures or of atoms: by an electric field, minus the dipole of an energy.
    """

    inputs: dict[str, np.ndarray]

    def __new__(cls, positions, strain, inputs=None):
        """Make the pair, and keep the inputs beside it."""
        self = super().__new__(cls, positions, strain)
        self.inputs = inputs or {}
        return self

    @classmethod
    def joined(cls, parts: Sequence[Derivatives]) -> Derivatives:
        """Join derivatives of several lists of structures, one after the other."""
        inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
        positions, strain = (np.concatenate([part[k] for part in parts]) for k in range(2))
        return cls(positions, strain, inputs)

    @classmethod
    def summed(cls, terms: Sequence[Derivatives]) -> Derivatives:
        """Sum derivatives, of which terms may have other inputs than others."""
        inputs: dict[str, np.ndarray] = {}
        for term in terms:
            for name, values in term.inputs.items():
                inputs[name] = inputs[name] + values if name in inputs else values
        positions, strain = terms[0].positions, terms[0].strain
        for term in terms[1:]:
            positions, strain = positions + term.positions, strain + term.strain
        return cls(positions, strain, inputs)


@dataclass(frozen=True)
class GradientPart:
    """Derivatives by the positions of atoms that change the same features.

    Attributes
    ----------
    centers : ndarray of int, shape (n_entries,)
        Row of the features, ascending.
    structures, atoms : ndarray of int, shape (n_entries,)
        The atom that moves: its structure and its index in it.
    columns : dict of str to ndarray of int
        By irrep, the features that change.
    blocks : dict of str to ndarray of shape (n_entries, 3, 2 lambda + 1, n_columns)
        By irrep, their derivatives by the position (x, y, z) of the atom.
    """

    centers: np.ndarray
    structures: np.ndarray
    atoms: np.ndarray
    columns: dict[str, np.ndarray]
    blocks: dict[str, np.ndarray]


@dataclass(frozen=True)
class FeatureGradients:
    """Derivatives of features, only those that are not zero.

    Attributes
    ----------
    parts : list of GradientPart
        One for each species of neighbors, which changes only features that contain this species, and a last one for
        the centers that are moved themselves.
    n_features : dict of str to int
        Number of features of each block.
    strain : dict of str to ndarray of shape (n_centers, 3, 3, 2 lambda + 1, n_features)
        Derivatives by the strain; empty unless asked for.
    inputs : dict of str to GradientPart
        Derivatives by the inputs of the descriptor, along the second axis of their blocks the numbers of a tensor, row
        by row. An input of the structure counts as that of the center itself.
    """

    parts: list[GradientPart]
    n_features: dict[str, int]
    strain: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, GradientPart] = field(default_factory=dict)

    @property
    def centers(self) -> np.ndarray:
        """Row of the features of every entry of the dense blocks, ascending."""
        return self._joined("centers")[self._order]

    @property
    def structures(self) -> np.ndarray:
        """Structure of the atom that moves in every entry of the dense blocks."""
        return self._joined("structures")[self._order]

    @property
    def atoms(self) -> np.ndarray:
        """Index of this atom in its structure, ascending for each center."""
        return self._joined("atoms")[self._order]

    @property
    def blocks(self) -> dict[str, np.ndarray]:
        """Dense derivatives by irrep, made anew, of shape (n_entries, 3, 2 lambda + 1, n_features)."""
        place, dense = np.argsort(self._order), {}
        for key, n_features in self.n_features.items():
            start, shape = 0, self.parts[0].blocks[key].shape[1:3]
            dense[key] = np.zeros((len(place), *shape, n_features))
            for part in self.parts:
                rows = place[start : start + len(part.centers)]
                dense[key][rows[:, None], :, :, part.columns[key]] = np.moveaxis(part.blocks[key], 3, 1)
                start += len(rows)
        return dense

    @property
    def _order(self):
        return np.lexsort((self._joined("atoms"), self._joined("centers")))

    def _joined(self, name):
        return np.concatenate([getattr(part, name) for part in self.parts])


def feature_gradients(expansion, batch, is_center, features, n_jobs, strain):
    """Forward derivatives of all features.

    Parameters
    ----------
    expansion : DensityExpansion
    batch : StructureBatch
    is_center : ndarray of bool, shape (n_atoms,)
    features : dict of str to FeatureBlock
    n_jobs : int or None
    strain : bool
        Whether to make the derivatives by the strain too.

    Returns
    -------
    FeatureGradients
    """
    blocks = list(expansion.blocks(batch, is_center))
    entries = [expansion.moves(block) for block in blocks]
    n_centers = int(is_center.sum())
    parts = [
        _empty_part(sum(len(of_block[s].owners) for of_block in entries), expansion.changed(s), features)
        for s in range(len(expansion.species))
    ]
    parts.append(_empty_part(n_centers, expansion.changed(None), features))
    strains = {key: np.zeros((n_centers, 9, *kind.shape)) for key, kind in features.items()} if strain else {}
    starts = np.zeros(len(parts), dtype=np.int64)
    for block, of_block in zip(blocks, entries, strict=True):
        owners = [*((moves.owners, moves.moved) for moves in of_block), (np.arange(len(block.centers)), block.centers)]
        out = []
        for k, (part, (centers, atoms)) in enumerate(zip(parts, owners, strict=True)):
            rows = slice(starts[k], starts[k] + len(centers))
            part.centers[rows], part.atoms[rows] = block.first_row + centers, batch.offsets[block.start] + atoms
            out.append({key: array[rows] for key, array in part.blocks.items()})
            starts[k] = rows.stop
        _fill_moves(expansion, block, of_block, features, out, n_jobs)
        rows = slice(block.first_row, block.first_row + len(block.centers))
        _fill_strains(expansion, block, features, {key: array[rows] for key, array in strains.items()}, n_jobs)
    for part in parts:
        part.structures[:] = batch.structure_of_atom[part.atoms]
        part.atoms[:] = batch.atom_in_structure[part.atoms]
    strains = {key: array.reshape(n_centers, 3, 3, *array.shape[2:]) for key, array in strains.items()}
    by_inputs = {
        name: GradientPart(*part) for name, part in input_gradients(expansion, batch, blocks, features).items()
    }
    return FeatureGradients(parts, {key: kind.shape[1] for key, kind in features.items()}, strains, by_inputs)


def _empty_part(n, channels, features):
    columns = {key: kind.changing(*channels) for key, kind in features.items()}
    blocks = {key: np.zeros((n, 3, kind.shape[0], len(columns[key]))) for key, kind in features.items()}
    centers, structures, atoms = np.empty((3, n), dtype=np.int64)
    return GradientPart(centers, structures, atoms, columns, blocks)


def _fill_moves(expansion, block, entries, features, out, n_jobs):
    n_lm = (expansion.l_max + 1) ** 2
    mean = max(1.0, sum(len(moves.owners) for moves in entries) / max(1, len(block.centers)))
    size = max(1, int(_CHANGES_PER_RANGE / (24 * n_lm * (mean * expansion.n_max + expansion.n_channels))))

    def work(a, b):
        density = expansion.expand(block, a, b)
        opposite = np.zeros((b - a, 3, n_lm, expansion.n_channels))
        for s, moves in enumerate(entries):
            own = slice(moves.offsets[a], moves.offsets[b])
            owners = moves.owners[own] - a
            changes, first = expansion.channel_changes(block, moves, s, a, b), expansion.changed(s)[0]
            expansion.subtract(owners, first, changes, opposite)
            for key, array in out[s].items():
                features[key].fill_derivatives(density, owners, changes, first, array[own])
        for key, array in out[-1].items():
            features[key].fill_derivatives(density, np.arange(b - a), opposite, expansion.changed(None)[0], array[a:b])

    over_ranges(len(block.centers), size, work, n_jobs)


def _fill_strains(expansion, block, features, out, n_jobs):
    size = max(1, _CHANGES_PER_RANGE // (72 * (expansion.l_max + 1) ** 2 * expansion.n_channels))

    def work(a, b):
        density = expansion.expand(block, a, b)
        changes = expansion.strain_changes(block, a, b)
        for key, array in out.items():
            features[key].fill_derivatives(density, np.arange(b - a), changes, expansion.changed(None)[0], array[a:b])

    if out:
        over_ranges(len(block.centers), size, work, n_jobs)


def vector_jacobian_product(expansion, batch, is_center, contract, n_jobs):
    """Differentiate sum(cotangent * features).

    Parameters
    ----------
    expansion : DensityExpansion
    batch : StructureBatch
    is_center : ndarray of bool, shape (n_atoms,)
    contract : callable
        ``contract(rows, density, out)`` adds to ``out`` the derivative by the density of the centers ``rows``.
    n_jobs : int or None

    Returns
    -------
    Derivatives
    """
    positions, strain = np.zeros((batch.n_atoms, 3)), np.zeros((batch.n_structures, 3, 3))
    size = max(1, _CHANGES_PER_RANGE // (32 * (expansion.l_max + 1) ** 2 * expansion.n_channels))
    by_inputs = InputDerivatives(expansion, batch)
    for block in expansion.blocks(batch, is_center):
        collector, of_block = expansion.collector(block), by_inputs.of_block(block)

        def work(a, b, block=block, collector=collector, of_block=of_block):
            density = expansion.expand(block, a, b)
            cotangent = np.zeros_like(density)
            contract(slice(block.first_row + a, block.first_row + b), density, cotangent)
            collector.contract(a, b, cotangent)
            if of_block is not None:
                expansion.contract_inputs(block, a, b, cotangent, *of_block)

        over_ranges(len(block.centers), size, work, n_jobs)
        atoms = slice(batch.offsets[block.start], batch.offsets[block.stop])
        collector.add_to(positions[atoms], strain[block.start : block.stop])
        by_inputs.add(block, of_block)
    return Derivatives(positions, strain, by_inputs.cartesian())
