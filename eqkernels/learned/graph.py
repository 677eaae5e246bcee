r"""Structures as graphs: edges, their harmonics and radial basis, as constants or as functions of the positions.

The radial basis is that of spherical Bessel functions with a smooth cutoff (Gasteiger et al., arXiv:2003.03123),

.. math:: b_n(r) = \sqrt{2 / r_c}\, \frac{\sin(n \pi r / r_c)}{r}\, u(r / r_c), \quad
    u(x) = 1 - 21 x^5 + 35 x^6 - 15 x^7 .
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from eqkernels.learned import attention, operations
from eqkernels.learned._graph_loops import fill_radial_basis, join_directions
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import clebsch_gordan, spherical_harmonics
from eqkernels.structures import find_neighbors

# The basis functions have about this mean square over the distances of a liquid or molecule with cutoffs of 4 to 6.
_RADIAL_SCALE = 1.5


@dataclass
class Graph:
    """Atoms and edges of a batch of structures, the atoms sorted by species.

    Attributes
    ----------
    order : ndarray of int, shape (n_atoms,)
        Place in the batch of each atom of the graph.
    rank : ndarray of int, shape (n_atoms,)
        Place in the graph of each atom of the batch.
    species_of_atom : ndarray of int, shape (n_atoms,)
        Position of the species of each atom of the graph in the list of all species.
    species : list of slice
        Atoms of each species.
    edges : tuple of ndarray of int, shape (n_edges,)
        Centers, neighbors, and pairs: both directions of an edge are one pair.
    harmonics : Variable of shape (n_edges, (l_max + 1)**2)
        Scaled to squares that sum to 2 l + 1 for each l.
    radial : Variable of shape (n_pairs, n_radial)
    vectors : Variable of shape (n_edges, 3)
        From center to neighbor.
    embedding : ndarray of shape (n_species, n_channels), or None
        Vectors of the species, of which weights follow; None: each species has its own.
    cutoff : float
    groups : Groups or None
        Groups of atoms, of hierarchical pooling.
    inputs : Variable of shape (n_atoms, components, n_copies), or None
        Inputs beyond the geometry, see :mod:`eqkernels.learned.input_features`.
    """

    order: np.ndarray
    rank: np.ndarray
    species_of_atom: np.ndarray
    species: list
    edges: tuple
    harmonics: Variable
    radial: Variable
    vectors: Variable
    embedding: np.ndarray | None = None
    cutoff: float = np.inf
    groups: Any = None
    inputs: Variable | None = None
    _density: Variable | None = field(default=None, init=False)
    _envelope: Variable | None = field(default=None, init=False)

    @property
    def n_atoms(self):
        """Number of atoms."""
        return len(self.species_of_atom)

    def displaced(self, displacements):
        """Make a graph of the same edges, displaced (n_edges, 3), as constants."""
        tape, vectors = Tape(recording=False), Variable(self.vectors.value + displacements, wanted=False)
        pairs, representatives = self.edges[2], np.empty(len(self.radial.value), dtype=np.int64)
        representatives[pairs[::-1]] = np.arange(len(pairs))[::-1]
        l_max = math.isqrt(self.harmonics.value.shape[1]) - 1
        radial = radial_basis(tape, rows_of(tape, vectors, representatives), self.cutoff, self.radial.value.shape[1])
        inputs = None if self.inputs is None else Variable(self.inputs.value, wanted=False)
        harmonics = edge_harmonics(tape, vectors, l_max)
        return replace(self, vectors=vectors, harmonics=harmonics, radial=radial, inputs=inputs)

    def density(self, tape):
        """Density coefficients by species of the neighbor and radial function, computed once where it is constant."""
        if not self.harmonics.wanted and self._density is not None:
            return self._density
        n_radial = self.radial.value.shape[1]
        columns = self.species_of_atom[self.edges[1]] * n_radial
        size = len(self.species) * n_radial
        arguments = (self.harmonics, self.radial, self.edges[0], self.edges[2], columns, self.n_atoms, size)
        self._density = operations.density(tape, *arguments)
        if self.embedding is not None:
            self._density = operations.embed_density(tape, self._density, self.embedding)
        return self._density

    def envelope(self, tape):
        """Cutoff function of the lengths of the edges, computed once where it is constant."""
        if self._envelope is None or self.vectors.wanted:
            self._envelope = attention.envelope(tape, self.vectors, self.cutoff)
        return self._envelope


def make_graph(batch, species, cutoff, n_radial, l_max, tape=None, embedding=None, inputs=None):
    """Graph of a batch; with a tape, harmonics and radial functions are differentiable by the vectors of the edges.

    Parameters
    ----------
    batch : StructureBatch
    species : ndarray of int
        Atomic numbers, ascending.
    cutoff : float
    n_radial, l_max : int
    tape : Tape, default=None
    embedding : ndarray of shape (n_species, n_channels), default=None
    inputs : GraphInputs, default=None

    Returns
    -------
    Graph
    """
    pairs = find_neighbors(batch, float(cutoff))
    order = np.argsort(np.searchsorted(species, batch.numbers), kind="stable")
    rank = np.argsort(order, kind="stable")
    species_of_atom = np.searchsorted(species, batch.numbers[order])
    ends = np.searchsorted(species_of_atom, np.arange(len(species) + 1))
    rows = [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]
    vectors = Variable(pairs.vectors, tape is not None)
    values = None if inputs is None else inputs.features(batch, order, tape is not None)
    tape = Tape(recording=False) if tape is None else tape
    representatives, pair_of_edge = undirected_pairs(pairs.offsets, pairs.neighbors, pairs.vectors)
    radial = radial_basis(tape, rows_of(tape, vectors, representatives), float(cutoff), n_radial)
    harmonics = edge_harmonics(tape, vectors, l_max)
    edges = (rank[pairs.centers], rank[pairs.neighbors], pair_of_edge)
    found = order, rank, species_of_atom, rows, edges, harmonics, radial, vectors, embedding, float(cutoff)
    return Graph(*found, inputs=values)


def undirected_pairs(offsets, neighbors, vectors):
    """Join both directions of every edge to a pair.

    Parameters
    ----------
    offsets, neighbors, vectors : ndarray
        As of :class:`NeighborPairs`.

    Returns
    -------
    representatives : ndarray of int, shape (n_pairs,)
        One edge of each pair.
    pair_of_edge : ndarray of int, shape (n_edges,)
    """
    pair_of_edge, representatives = np.full(len(neighbors), -1), np.empty(len(neighbors), dtype=np.int64)
    n_pairs = join_directions(offsets, neighbors, vectors, pair_of_edge, representatives)
    return representatives[:n_pairs], pair_of_edge


def rows_of(tape, x, rows):
    """Take some rows, each at most once."""

    def pullback(gradient):
        to_x = np.zeros_like(x.value)
        to_x[rows] = gradient
        return (to_x,)

    return tape.record(x.value[rows], [x], pullback)


def edge_harmonics(tape, vectors, l_max, softening=0.0):
    r"""Harmonics of the directions of edges; with a softening a, times :math:`(r^2 / (r^2 + a^2))^{l / 2}`.

    Their slopes follow from those of the solid harmonics,

    .. math:: \partial_k (r^l Y_{lm}) = \sqrt{l (2 l + 1)}\, r^{l - 1} \sum_{m'} \langle l{-}1\, m'\, 1 k | l m \rangle
        Y_{l-1, m'} .
    """
    value = spherical_harmonics(vectors.value, l_max)
    value *= np.sqrt(4 * np.pi)
    if softening:
        degrees = np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)
        lengths = np.linalg.norm(vectors.value, axis=1, keepdims=True)
        value *= (lengths / np.hypot(lengths, softening)) ** degrees

    def pullback(gradient):
        r = np.hypot(np.linalg.norm(vectors.value, axis=1, keepdims=True), softening)
        unit = vectors.value / r
        out = np.zeros_like(unit)
        for l in range(1, l_max + 1):
            part, lower = slice(l * l, (l + 1) ** 2), slice((l - 1) ** 2, l * l)
            factors = (gradient[:, part], value[:, lower], _solid_slopes(l))
            out += np.einsum("em,en,mnk->ek", *factors, optimize=True)
            out -= l * unit * np.sum(gradient[:, part] * value[:, part], axis=1, keepdims=True)
        return (out / r,)

    return tape.record(value, [vectors], pullback)


@lru_cache(maxsize=32)
def _solid_slopes(l):
    """Slope (x, y, z) of r^l Y_lm as a combination of r^(l-1) Y_(l-1)m': array (2 l + 1, 2 l - 1, 3)."""
    return np.sqrt(l * (2 * l + 1)) * clebsch_gordan(l - 1, 1, l)[:, [2, 0, 1]].transpose(2, 0, 1)


def radial_basis(tape, vectors, cutoff, n_radial):
    """Bessel functions of the lengths of edges, with their cutoff."""
    value, scale = np.empty((len(vectors.value), n_radial)), _RADIAL_SCALE * np.sqrt(2 / cutoff)
    fill_radial_basis(vectors.value, cutoff, scale, value)

    def pullback(gradient):
        r = np.linalg.norm(vectors.value, axis=1)[:, None]
        x, frequencies = r / cutoff, np.arange(1, n_radial + 1) * np.pi / cutoff
        weight = scale * (1 - 21 * x**5 + 35 * x**6 - 15 * x**7)
        waves = np.sin(frequencies * r) / r
        slopes = weight * (frequencies * np.cos(frequencies * r) - waves) / r
        slopes += waves * scale * (-105 * x**4 + 210 * x**5 - 105 * x**6) / cutoff
        return (np.sum(gradient * slopes, axis=1, keepdims=True) * vectors.value / r,)

    return tape.record(value, [vectors], pullback)
