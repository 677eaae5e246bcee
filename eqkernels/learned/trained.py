"""A trained network as arrays and numbers, and what it does with structures: their features, and derivatives of these.

It is made from a fitted :class:`EquivariantNetwork` where it is needed and stores nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from eqkernels.descriptors import Derivatives, EquivariantFeatures
from eqkernels.learned.architectures import make_architecture
from eqkernels.learned.derivatives import vector_jacobian_product
from eqkernels.learned.graph import make_graph
from eqkernels.learned.input_features import GraphInputs
from eqkernels.learned.pooling import CUTOFF_OF_GROUPS, make_pooled_graph
from eqkernels.learned.tape import Tape, Variable
from eqkernels.learned.training import Model, split_by_size
from eqkernels.so3 import Irrep
from eqkernels.structures import StructureBatch, symbols
from eqkernels.structures.elements import HEAVIEST, embedding
from eqkernels.structures.places import Places

# Edges that go through the network together.
_EDGES_PER_BLOCK = 2**13


class Known(NamedTuple):
    """The atoms of a batch that a network knows.

    Attributes
    ----------
    batch : StructureBatch
        All atoms.
    known : StructureBatch
        The same structures without the others; some may have no atoms.
    atoms : ndarray of int or slice
        Place in the batch of each known atom.
    """

    batch: StructureBatch
    known: StructureBatch
    atoms: np.ndarray | slice

    @classmethod
    def of(cls, batch, known):
        """Leave out those atoms of a batch that are not known."""
        if known.all():
            return cls(batch, batch, slice(None))
        atoms = np.flatnonzero(known)
        counts = np.bincount(batch.structure_of_atom[atoms], minlength=batch.n_structures)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        kept = batch.positions[atoms], batch.numbers[atoms], batch.cells, batch.pbc, offsets, batch.origin
        rest = {"inputs": batch._inputs_of(atoms), "groups": batch.groups_of(atoms)}
        return cls(batch, StructureBatch(*kept, **rest), atoms)

    def features(self, blocks):
        """Features with a row for each known atom."""
        whole, atoms = self.batch, self.atoms
        rows = whole.numbers[atoms], whole.structure_of_atom[atoms], whole.atom_in_structure[atoms]
        places = Places.of_batch(whole, np.arange(whole.n_atoms)[atoms])
        return EquivariantFeatures.of_checked(blocks, *rows, np.diff(whole.offsets), positions=places)


def known_atoms(batch, species, remedy):
    """Which atoms have a species that was seen at fit.

    Parameters
    ----------
    batch : StructureBatch
    species : ndarray of int
        Atomic numbers, ascending.
    remedy : str or None
        What to do about an atom of another species, which is then refused; None: nothing is.

    Returns
    -------
    ndarray of bool, shape (n_atoms,)

    Raises
    ------
    ValueError
        That names the species and the first structure that contains it.
    """
    places = np.searchsorted(species, batch.numbers)
    known = species.take(places, mode="clip") == batch.numbers
    unknown = np.flatnonzero(~known)
    if len(unknown) and remedy is not None:
        names = symbols(np.unique(batch.numbers[unknown]))
        where = batch.where(unknown[0])
        seen = symbols(species)
        raise ValueError(f"species {names} (first in {where}) was not seen at fit, which saw {seen}: {remedy}")
    return known


@dataclass(frozen=True)
class TrainedNetwork:
    """Architecture, weights and scales of a fitted network.

    Parameters
    ----------
    model : Model
    weights : dict of str to ndarray
    species : ndarray of int
    make_graph : callable
        ``make_graph(batch, tape=tape)`` makes the graph.
    handle_unknown : {"error", "ignore", "embed"}
    n_jobs : int or None
    read_batch : callable
        ``read_batch(X)`` reads frames with all that the network needs of them.
    """

    model: Model
    weights: dict[str, np.ndarray]
    species: np.ndarray
    make_graph: Callable
    handle_unknown: str
    n_jobs: int | None
    read_batch: Callable[..., StructureBatch]

    @classmethod
    def of(cls, network):
        """Take what it is made of from a fitted EquivariantNetwork."""
        species, n_channels = network.species_, getattr(network, "species_channels_", 0)
        architecture = make_architecture(network, len(species), network.irreps_, n_channels)
        model = Model(architecture, float(network.neighbor_scale_), network.scales_)
        known = species
        if network.handle_unknown == "embed":
            if not n_channels:
                raise ValueError("handle_unknown='embed' was set after fit, which made no embedding: fit again")
            known = np.arange(1, HEAVIEST + 1)
        graphs = graph_maker(network, species, n_channels, known)
        return cls(model, network.weights_, known, graphs, network.handle_unknown, network.n_jobs, network._batch)

    def read(self, X):
        """Structures, and which of their atoms have a known species; others are refused unless they are ignored."""
        batch = self.read_batch(X)
        remedy = (
            "fit on structures that contain it, set handle_unknown='ignore' to leave such atoms out, or fit with "
            "handle_unknown='embed' to take them for what is like them"
        )
        return Known.of(batch, known_atoms(batch, self.species, None if self.handle_unknown == "ignore" else remedy))

    def features(self, read):
        """Make the EquivariantFeatures of all known atoms."""

        def of_part(part, _):
            graph = self.make_graph(part)
            blocks = self.model.features(Tape(recording=False), self.constants(), graph)
            return {str(irrep): block.value[graph.rank] for irrep, block in blocks.items()}

        parts = self.over_parts(read.known, of_part)
        return read.features({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})

    def vjp(self, read, vectors):
        """Differentiate sum(vectors * features).

        Parameters
        ----------
        read : Known
        vectors : dict of str to array-like of shape (n_known_atoms, 2 l + 1, n_features)

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by their inputs, zero for unknown ones.
        """
        batch, arrays = read.known, {key: np.asarray(array, dtype=float) for key, array in vectors.items()}
        scales = self.model.scales
        shapes = {key: (batch.n_atoms, Irrep.parse(key).dim, scales[key].shape[1]) for key in scales}
        for key, array in arrays.items():
            if array.shape != shapes.get(key):
                raise ValueError(f"cotangents[{key!r}] has shape {array.shape}, the features have {shapes}")

        def of_part(part, atoms):
            of_atoms = {key: array[atoms] for key, array in arrays.items()}
            return vector_jacobian_product(self.model, self.constants(), self.make_graph, part, of_atoms)

        parts, by_inputs = zip(*self.over_parts(batch, of_part), strict=True)
        by_known, strain = Derivatives.joined(list(parts))
        positions = np.zeros((read.batch.n_atoms, 3))
        positions[read.atoms] = by_known
        inputs = self.make_graph.keywords["inputs"]  # type: ignore[attr-defined]
        if inputs is None:
            return Derivatives(positions, strain)
        of_atoms = np.zeros((read.batch.n_atoms, *by_inputs[0].shape[1:]))
        of_atoms[read.atoms] = np.concatenate(by_inputs)
        return Derivatives(positions, strain, inputs.derivatives(of_atoms, read.batch.offsets))

    def constants(self):
        """Weights as constants of a tape."""
        return {name: Variable(array, wanted=False) for name, array in self.weights.items()}

    def over_parts(self, batch, function):
        """Results of function(part of the batch, its atoms) for parts of bounded size."""
        limit = _EDGES_PER_BLOCK * self.model.neighbor_scale**2  # atoms that have about so many edges
        if batch.n_atoms < limit:
            return [function(batch, slice(None))]
        blocks = split_by_size(np.arange(batch.n_structures), np.diff(batch.offsets), limit)
        ranges = [(block[0], block[-1] + 1) for block in blocks]
        return Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(function)(batch.select(start, stop), slice(batch.offsets[start], batch.offsets[stop]))
            for start, stop in ranges
        )


def graph_maker(parameters, species, n_channels=0, known=None):
    """Make a function of a batch, and of a tape, that makes its graph with the parameters of a network.

    Parameters
    ----------
    parameters : EquivariantNetwork
    species : ndarray of int
        Those that were seen at fit.
    n_channels : int, default=0
        Of their embedding, 0 without.
    known : ndarray of int, default=None
        Species of the graphs; None: those that were seen.

    Returns
    -------
    callable
    """
    known = species if known is None else known
    vectors = embedding(species, n_channels, known) if n_channels else None
    numbers = {"n_radial": int(parameters.n_radial), "l_max": int(parameters.l_max)}
    rest = {"cutoff": float(parameters.cutoff), "embedding": vectors, "inputs": GraphInputs.of(parameters)}
    make: Callable = make_graph
    if parameters.pooling is not None:
        of_groups = parameters.pooling_cutoff
        of_groups = CUTOFF_OF_GROUPS * rest["cutoff"] if of_groups is None else float(of_groups)
        make = partial(make_pooled_graph, pooling=parameters.pooling, pooling_cutoff=of_groups)
    return partial(make, species=known, **rest, **numbers)
