r"""Groups of atoms as nodes of a graph, such as residues of a protein or molecules of a liquid.

Features of a group are the sum of those of its atoms, mixed; messages pass between the mean positions of groups, and
what comes out is shared among the atoms of the group, so that sums over atoms are sums over groups (S. Eismann et al.,
Proteins 89, 493 (2021), https://doi.org/10.1002/prot.26033, whose groups are residues),

.. math::
    H_G = \frac{1}{\sqrt{\bar n}} \sum_{i \in G} W h_i , \quad
    H_G \leftarrow \mathrm{layer}\big( H_G, \{ H_{G'}, \mathbf R_{G'} - \mathbf R_G \} \big) , \quad
    h_i \leftarrow h_i \oplus \tfrac{1}{|G|} H_G .

Mean positions of different groups may coincide, as of two rings around one axis: the harmonics of degree l between them
are those times :math:`(r^2 / (r^2 + a^2))^{l / 2}`, polynomials of the vector over powers of :math:`r^2 + a^2`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eqkernels.learned import _operation_loops as loops
from eqkernels.learned import operations as op
from eqkernels.learned.graph import Graph, edge_harmonics, make_graph, radial_basis, rows_of, undirected_pairs
from eqkernels.learned.input_features import signed
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep
from eqkernels.structures import find_neighbors
from eqkernels.structures.groups import find_groups

#: Cutoff between groups over that between atoms, unless stated.
CUTOFF_OF_GROUPS = 2.0
# The length a, and the length below which radial functions are taken at it, over the cutoff.
_SOFTENING = 0.05
_SHORTEST = 1e-6
# Names of the weights of layers between groups begin so.
_PREFIX = "groups_"


@dataclass
class Groups:
    """Groups of the atoms of a graph.

    Attributes
    ----------
    members : ndarray of int, shape (n_atoms,)
        Group of each atom of the batch.
    of_rows : ndarray of int, shape (n_atoms,)
        Group of each atom of the graph, which are sorted by species.
    sizes : ndarray of int, shape (n_groups,)
    structures : ndarray of int, shape (n_groups,)
    graph : Graph
        With groups in place of atoms, all of one species.
    """

    members: np.ndarray
    of_rows: np.ndarray
    sizes: np.ndarray
    structures: np.ndarray
    graph: Graph

    def add_derivatives(self, positions, strain):
        """Add the derivatives through the mean positions of groups to those by positions of the batch and strain."""
        by_edge, edges = self.graph.vectors.gradient, self.graph.vectors.value
        if by_edge is None:
            return
        by_group, (centers, neighbors, _) = np.zeros((len(self.sizes), 3)), self.graph.edges
        np.add.at(by_group, neighbors, by_edge)
        np.subtract.at(by_group, centers, by_edge)
        positions += (by_group / self.sizes[:, None])[self.members]
        np.add.at(strain, self.structures[centers], by_edge[:, :, None] * edges[:, None, :])


def make_pooled_graph(batch, *, n_radial, l_max, pooling, pooling_cutoff, tape=None, **options):
    """Graph of a batch with its groups, see :func:`make_graph`.

    Parameters
    ----------
    batch, n_radial, l_max, tape, **options
        As of :func:`make_graph`.
    pooling : str
        Groups, see :func:`eqkernels.structures.groups.find_groups`.
    pooling_cutoff : float
        Between mean positions.

    Returns
    -------
    Graph
    """
    graph = make_graph(batch, n_radial=n_radial, l_max=l_max, tape=tape, **options)
    found = find_groups(batch, pooling)
    of_groups = graph_of_groups(found.batch, pooling_cutoff, n_radial, l_max, tape)
    members = found.members
    graph.groups = Groups(members, members[graph.order], found.sizes, found.batch.structure_of_atom, of_groups)
    return graph


def graph_of_groups(batch, cutoff, n_radial, l_max, tape=None):
    """Graph of mean positions, which may coincide; arguments as of :func:`make_graph`."""
    pairs, n_groups = find_neighbors(batch, float(cutoff), closest=0.0), batch.n_atoms
    vectors = Variable(pairs.vectors, tape is not None)
    tape = Tape(recording=False) if tape is None else tape
    representatives, pair_of_edge = undirected_pairs(pairs.offsets, pairs.neighbors, pairs.vectors)
    of_pairs = _not_too_short(tape, rows_of(tape, vectors, representatives), _SHORTEST * cutoff)
    radial = radial_basis(tape, of_pairs, float(cutoff), n_radial)
    harmonics = edge_harmonics(tape, vectors, l_max, _SOFTENING * cutoff)
    places, edges = np.arange(n_groups), (pairs.centers, pairs.neighbors, pair_of_edge)
    rest = [slice(0, n_groups)], edges, harmonics, radial, vectors
    return Graph(places, places, np.zeros(n_groups, dtype=np.int64), *rest, cutoff=float(cutoff))


def _not_too_short(tape, vectors, shortest):
    """Vectors with a length of ``shortest`` at least: even functions of the length do not change to its square."""
    short = np.linalg.norm(vectors.value, axis=1) < shortest
    if not short.any():
        return vectors
    value = np.where(short[:, None], [[shortest, 0.0, 0.0]], vectors.value)
    return tape.record(value, [vectors], lambda gradient: (np.where(short[:, None], 0.0, gradient),))


def stack(tape, parts):
    """Components of several variables of the same rows and channels, one list after the other."""
    ends = np.cumsum([one.value.shape[1] for one in parts])[:-1]
    value = np.concatenate([one.value for one in parts], axis=1)
    return tape.record(value, parts, lambda gradient: np.split(gradient, ends, axis=1))


def share(tape, x, groups, sizes):
    """Features of groups (n_groups, components, channels), for each of their atoms over the number of these."""
    columns, weights = np.zeros(len(groups), dtype=np.int64), 1.0 / sizes[groups]
    value = np.zeros((len(groups), *x.value.shape[1:]))
    loops.spread_segments(np.ascontiguousarray(x.value), groups, columns, weights, value)

    def pullback(gradient):
        to_x = np.zeros(x.value.shape)
        loops.add_segments(np.ascontiguousarray(gradient), groups, columns, weights, to_x)
        return (to_x,)

    return tape.record(value, [x], pullback)


@dataclass(frozen=True)
class Hierarchy:
    """Features of atoms, and of the groups that they belong to, side by side.

    Parameters
    ----------
    atoms : MessagePassing or ClusterExpansion
        Its outputs are the irreps of the groups, too.
    groups : MessagePassing
        Between groups, of one species and started from these irreps.
    """

    atoms: Any
    groups: Any

    @property
    def n_species(self):
        """Number of species, or of channels of their embedding."""
        return self.atoms.n_species

    @property
    def embeds(self):
        """Whether graphs embed the species."""
        return self.atoms.embeds

    @property
    def outputs(self):
        """Irreps of the features."""
        return self.groups.outputs

    @property
    def time(self):
        """Sign of the outputs under time reversal."""
        return self.groups.time

    @cached_property
    def made(self):
        """Irreps that can be made, and in how many layers each of them is."""
        return self.atoms.made + self.groups.made

    @cached_property
    def shapes(self):
        """Shapes of the weights, by name."""
        s, c = self.atoms.n_species, self.atoms.channels
        pooled = {f"pool_{irrep}": (s, 1, c * self.atoms.made[irrep], c) for irrep in self.groups.start}
        between = {_PREFIX + name: shape for name, shape in self.groups.shapes.items() if name != "species"}
        return {**self.atoms.shapes, **pooled, **between}

    def initial_weights(self, random, graph):
        """Random weights with which features have about unit variance, sums over atoms and over groups too."""
        weights, groups = self.atoms.initial_weights(random, graph), graph.groups
        root = np.sqrt(max(groups.sizes.mean(), 1.0))
        for irrep in self.groups.start:
            shape = self.shapes[f"pool_{irrep}"]
            weights[f"pool_{irrep}"] = random.normal(size=shape) / (np.sqrt(shape[2]) * root)
        between = self.groups.initial_weights(random, groups.graph)
        n_neighbors = max(len(groups.graph.edges[0]) / groups.graph.n_atoms, 1.0)
        for name, array in between.items():
            if name.startswith("radial_second"):
                # the weights of attention add up to 1, others to the number of neighbors
                array *= n_neighbors ** (0.5 if self.groups.n_heads else -0.5)
        return weights | {_PREFIX + name: array for name, array in between.items() if name != "species"}

    def __call__(self, tape, weights, graph, scale, irreps):
        """Features of the atoms; arguments and returns as of :class:`MessagePassing`."""
        inside = self.groups.start
        places = {irrep: signed(irrep, self.time) for irrep in irreps}
        wanted = tuple(dict.fromkeys((*inside, *(one for one in places.values() if one in self.atoms.made))))
        of_atoms = self.atoms(tape, weights, graph, scale, wanted)
        x = self._pooled(tape, weights, graph, of_atoms)
        between = {name.removeprefix(_PREFIX): one for name, one in weights.items() if name.startswith(_PREFIX)}
        shown = tuple(irrep for irrep in irreps if places[irrep] in self.groups.made)
        of_groups = self.groups.propagate(tape, between, graph.groups.graph, 1.0, x, shown)
        found: dict[Irrep, Variable] = {}
        for irrep in irreps:
            parts = [of_atoms[places[irrep]]] if places[irrep] in of_atoms else []
            if irrep in of_groups:
                parts.append(share(tape, of_groups[irrep], graph.groups.of_rows, graph.groups.sizes))
            found[irrep] = op.join(tape, parts)
        return found

    def _pooled(self, tape, weights, graph, of_atoms):
        """Sum over the atoms of each group, all irreps one after the other."""
        parts = []
        for irrep in self.groups.start:
            matrices = weights[f"pool_{irrep}"]
            if graph.embedding is not None:
                matrices = op.of_species(tape, matrices, graph.embedding)
            parts.append(op.mix(tape, of_atoms[irrep], matrices, (irrep,), graph.species))
        groups, n_atoms = graph.groups, graph.n_atoms
        alike, ones = np.zeros(n_atoms, dtype=np.int64), np.ones(n_atoms)
        return op.segment_sum(tape, stack(tape, parts), groups.of_rows, alike, 1, ones, len(groups.sizes))
