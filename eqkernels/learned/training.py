r"""Training: the loss as a function of one flat vector of weights.

The vector holds all weights of the network and, for each irrep of each target, the logarithm of its noise. The loss is
the mean over the targets of an objective of :mod:`eqkernels.learned.objectives`, plus the weight decay
:math:`\tfrac12 \gamma |\theta - \theta_0|^2`, a pull to the random weights that training starts from (to zero it
would be a pull to features that vanish).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from eqkernels._ranges import over_ranges
from eqkernels.learned import operations as op
from eqkernels.learned.architectures import Architecture
from eqkernels.learned.objectives import OBJECTIVES, PROFILES
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep
from eqkernels.structures import StructureBatch

# Noise variance in units of the variance of the labels: exp(-20) = (4.5e-5)^2 is below what labels are worth.
LOG_NOISE_BOUNDS = (-20.0, 2.0)
_LOG_NOISE_START = -6.0
# The constant feature over the root mean square norm of the other invariants.
_CONSTANT = 10.0
# Mean square of features that (nearly) vanish by symmetry, where initial ones are about 1. They are not scaled to unit
# norm, which would magnify their rounding, 1e-16, beyond the 1e-10 to which features rotate.
_VANISHING = 1e-10


class Packing:
    """Names and shapes of arrays that are laid out in one vector."""

    def __init__(self, arrays):
        self.shapes = {name: np.shape(array) for name, array in arrays.items()}
        ends = np.cumsum([0, *(math.prod(shape) for shape in self.shapes.values())]).tolist()
        self.slices = [slice(start, end) for start, end in pairwise(ends)]
        self.size = ends[-1]

    def pack(self, arrays):
        """Vector of a dict of arrays."""
        return np.concatenate([np.ravel(arrays[name]) for name in self.shapes])

    def unpack(self, vector):
        """Make a dict of arrays, views of a vector."""
        parts = zip(self.shapes.items(), self.slices, strict=True)
        return {name: vector[part].reshape(shape) for (name, shape), part in parts}


@dataclass
class Model:
    """What makes features of weights and a graph: architecture, scale of sums over neighbors, scales of features."""

    architecture: Architecture
    neighbor_scale: float
    scales: dict[str, np.ndarray]

    def features(self, tape, weights, graph):
        """Scaled features of atoms by irrep; the last scalar is the constant 1, scaled."""
        blocks, kinds = self.unscaled(tape, weights, graph, self.architecture.outputs), self.kinds(graph)
        return {
            irrep: op.scale(tape, block, self.scales[str(irrep)][kinds][:, None]) for irrep, block in blocks.items()
        }

    def unscaled(self, tape, weights, graph, irreps):
        """Features of some irreps before they are scaled."""
        blocks = self.architecture(tape, weights, graph, self.neighbor_scale, irreps)
        for irrep in blocks:
            if str(irrep) == "0e":
                constant = Variable(np.ones((graph.n_atoms, 1, 1)), wanted=False)
                blocks[irrep] = op.join(tape, [blocks[irrep], constant])
            if graph.embedding is not None:
                blocks[irrep] = op.times_vectors(tape, blocks[irrep], graph.embedding[graph.species_of_atom])
        return blocks

    @property
    def n_kinds(self):
        """Number of kinds of atoms that have scales and a readout of their own: all species, or one with embedding."""
        return 1 if self.architecture.embeds else self.architecture.n_species

    def kinds(self, graph):
        """Kind of each atom."""
        return np.zeros_like(graph.species_of_atom) if self.architecture.embeds else graph.species_of_atom

    def aggregate(self, tape, block, target, graph):
        """Features of samples: (n_samples, 2 l + 1, n_features); of structures, columns of each species in turn."""
        order, n_species, species = graph.order, self.n_kinds, self.kinds(graph)
        if target.per_atom:  # all features of a sample are those of one species
            n_species, species = 1, np.zeros_like(species)
        return op.segment_sum(
            tape, block, target.segments[order], species, n_species, target.row_weights[order], len(target.values)
        )

    def set_scales(self, weights, graph, targets):
        """Scale the features so that each aggregate over a sample has about unit norm, with the given weights."""
        self.scales = {}
        constants = {name: Variable(array, wanted=False) for name, array in weights.items()}
        blocks = self.unscaled(Tape(recording=False), constants, graph, self.architecture.outputs)
        n_species = self.n_kinds
        for irrep, block in blocks.items():
            matching = [target for target in targets if target.irrep == irrep]
            if matching and not matching[0].per_atom:
                sums = self.aggregate(Tape(recording=False), block, matching[0], graph).value
                squares = np.mean(sums**2, axis=(0, 1)).reshape(n_species, -1)
            else:
                samples = matching[0].segments[graph.order] >= 0 if matching else np.ones(graph.n_atoms, dtype=bool)
                totals = np.zeros((n_species, block.value.shape[2]))
                np.add.at(totals, self.kinds(graph)[samples], np.mean(block.value[samples] ** 2, axis=1))
                squares = totals / max(samples.sum(), 1)
            level = squares.mean() if squares.mean() > _VANISHING else 1.0
            self.scales[str(irrep)] = 1.0 / np.sqrt((squares + 0.1 * level) * squares.size)

    def enlarge_constant(self, weights, graph):
        """Make the constant feature much larger than the invariants beside it, with the given weights.

        A kernel that divides features by their norm then leaves their size, which was learned with the readout.
        """
        if "0e" in self.scales:
            constants = {name: Variable(array, wanted=False) for name, array in weights.items()}
            n_constants = self.architecture.n_species if self.architecture.embeds else 1
            scalars = self.features(Tape(recording=False), constants, graph)[Irrep(0, 1)].value
            invariants = scalars[:, 0, :-n_constants]
            size = np.sqrt(np.mean(np.sum(invariants**2, axis=1)))
            if size > 0:
                scalars = self.scales["0e"].copy()
                scalars[:, -n_constants:] = _CONSTANT * size
                self.scales = {**self.scales, "0e": scalars}


@dataclass
class _Pass:
    """What one pass of a part through the network writes to."""

    tape: Tape
    weights: dict[str, Variable]


class Loss:
    """The loss of one set of structures, callable on the flat vector: returns its value and gradient.

    Parameters
    ----------
    model : Model
    packing : Packing
    parts : list of (Graph, list of Target)
        The structures. The network goes through them part by part, in threads, and the gradients of the parts are added
        in their order, so that the number of threads changes no bit.
    objective : {"lml", "loo"}
    weight_decay : float
    start : ndarray
        Vector that the decay pulls to.
    keeps : bool, default=True
        Whether the intermediate results of all parts are kept. Else they are computed again for the gradient, so that
        those of one part for each thread are in memory.
    n_jobs : int, default=None
    """

    def __init__(self, model, packing, parts, objective, weight_decay, start, keeps=True, n_jobs=None):
        self.model, self.packing, self.parts = model, packing, parts
        self.keeps, self.n_jobs = keeps, n_jobs
        self.objective, self.profile = OBJECTIVES[objective], PROFILES[objective]
        self.weight_decay, self.start = weight_decay, start
        of_targets = list(zip(*(targets for _, targets in parts), strict=True))
        # a target whose labels are all zero (or the same), or of no weight, has nothing to teach
        self.work = sum(len(graph.edges[0]) + graph.n_atoms for graph, _ in parts)
        self.active = [
            k for k, pieces in enumerate(of_targets) if any(one.values[one.sample_weights > 0].any() for one in pieces)
        ]
        self.irreps = tuple(dict.fromkeys(of_targets[k][0].irrep for k in self.active))
        self.roots, self.values, self.ends, self.groups, self.counts = {}, {}, {}, {}, {}
        for k in self.active:
            self.roots[k] = np.concatenate([one.sample_weights for one in of_targets[k]])[:, None, None]
            self.values[k] = self.roots[k] * np.concatenate([one.values for one in of_targets[k]])
            self.counts[k] = _counts(of_targets[k])
            self.ends[k] = np.cumsum([len(one.values) for one in of_targets[k]])[:-1]
            graphs = None if model.architecture.embeds else [graph for graph, _ in parts]
            self.groups[k] = _groups(graphs, of_targets[k])

    def __call__(self, vector):
        """Value and gradient."""
        size = self.packing.size
        passes = [_Pass(Tape(self.keeps), self._weights(vector)) for _ in self.parts]
        sums = self._over_parts(lambda k: self._sums(passes[k].tape, passes[k].weights, self.parts[k]))
        gradient = np.zeros_like(vector)
        total, to_sums = self._objectives(sums, vector, gradient)

        def backward(k):
            of_part = passes[k] if self.keeps else _Pass(Tape(), passes[k].weights)
            outputs = sums[k] if self.keeps else self._sums(of_part.tape, of_part.weights, self.parts[k])
            for one, slopes in zip(outputs, to_sums, strict=True):
                one.accumulate(slopes[k])
            of_part.tape.backward()

        self._over_parts(backward)
        for name, array in self.packing.unpack(gradient[:size]).items():
            for of_part in passes:
                if of_part.weights[name].gradient is not None:
                    array += of_part.weights[name].gradient
        away = vector[:size] - self.start[:size]
        gradient[:size] += self.weight_decay * away
        return total + 0.5 * self.weight_decay * away @ away, gradient

    def _over_parts(self, function):
        """Results of function(k) for all parts, by threads."""
        out: list[Any] = [None] * len(self.parts)

        def work(start, stop):
            for k in range(start, stop):
                out[k] = function(k)

        over_ranges(len(self.parts), 1, work, self.n_jobs)
        return out

    def objective_value(self, vector):
        """Value without weight decay and gradient."""
        sums = self._values(self._weights(vector))
        return self._objectives(sums, vector, np.zeros_like(vector))[0]

    def with_best_noises(self, vector):
        """Vector with the noises that suit its features on these structures best: batches of them know less."""
        sums, vector = self._values(self._weights(vector)), vector.copy()
        for k, pieces in zip(self.active, zip(*sums, strict=True), strict=True):
            features, place = self.roots[k] * np.concatenate([one.value for one in pieces]), self.packing.size + k

            value = self.profile(features, self.values[k], self.groups[k], self.counts[k])
            found = minimize_scalar(value, bounds=LOG_NOISE_BOUNDS, method="bounded", options={"xatol": 0.05})
            if found.fun < value(vector[place]):
                vector[place] = found.x
        return vector

    def _values(self, weights):
        """Compute the sums of all parts, without what their gradients need."""
        return self._over_parts(lambda k: self._sums(Tape(recording=False), weights, self.parts[k]))

    def _weights(self, vector):
        return {name: Variable(array) for name, array in self.packing.unpack(vector[: self.packing.size]).items()}

    def _sums(self, tape, weights, part):
        """Scaled features of the samples of each active target."""
        graph, targets = part
        blocks, sums = self.model.unscaled(tape, weights, graph, self.irreps), []
        for target in (targets[k] for k in self.active):
            block, scales = blocks[target.irrep], self.model.scales[str(target.irrep)]
            if target.per_atom:
                block = op.scale(tape, block, scales[self.model.kinds(graph)][:, None])
            features = self.model.aggregate(tape, block, target, graph)
            if not target.per_atom:
                # a readout of scaled sums is that of scaled features, with fewer numbers to scale
                features = op.scale(tape, features, scales.reshape(-1))
            sums.append(features)
        return sums

    def _objectives(self, sums, vector, gradient):
        """Sum of the objectives, and their slopes by the sums: of each target, a list with those of each part."""
        total, to_sums, size = 0.0, [], self.packing.size
        for k, pieces in zip(self.active, zip(*sums, strict=True), strict=True):
            root, features = self.roots[k], np.concatenate([one.value for one in pieces])
            problem = root * features, self.values[k], vector[size + k], self.groups[k], self.counts[k]
            value, slopes, gradient[size + k] = self.objective(*problem)
            total += value
            to_sums.append(np.split(root * slopes, self.ends[k]))
        return total, to_sums


def _counts(targets):
    """Join the counts of the samples of all parts of a target; None where all are 1."""
    return None if targets[0].counts is None else np.concatenate([one.counts for one in targets])


def _groups(graphs, targets):
    """Split the samples of a target into those that share weights: atoms of each species, or all samples."""
    if graphs is None or not targets[0].per_atom:
        return [slice(None)]
    species_of_samples = []
    for graph, target in zip(graphs, targets, strict=True):
        samples = target.segments[graph.order]
        species = np.empty(len(target.values), dtype=np.int64)
        species[samples[samples >= 0]] = graph.species_of_atom[samples >= 0]
        species_of_samples.append(species)
    together = np.concatenate(species_of_samples)
    return [np.flatnonzero(together == one) for one in np.unique(together)]


@dataclass
class TrainingSet:
    """Structures and labels, handed out as graphs of bounded size: ``work`` is that of each structure."""

    batch: StructureBatch
    targets: list
    make_graph: Callable
    work: np.ndarray
    work_per_part: float

    def parts(self, picked):
        """Graphs and targets of some structures, in their order."""
        sizes = self.work[picked]
        some = split_by_size(picked, sizes, self.work_per_part) if sizes.sum() > self.work_per_part else [picked]
        return [self._part(structures) for structures in some]

    def _part(self, picked):
        whole, starts = self.batch, self.batch.offsets[picked]
        sizes = self.batch.offsets[picked + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        atoms = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        arrays = whole.positions[atoms], whole.numbers[atoms], whole.cells[picked], whole.pbc[picked]
        rest = {"inputs": whole._inputs_of(atoms), "groups": whole.groups_of(atoms)}
        part = StructureBatch(*arrays, offsets, **rest)
        return self.make_graph(part), [target.pick(atoms) for target in self.targets]


def count_held(n_structures, fraction):
    """Count the structures that early stopping holds back."""
    n_held = int(np.ceil(fraction * n_structures))
    if n_held < 2 or n_structures - n_held < 1:
        raise ValueError(
            f"early_stopping would hold {n_held} of {n_structures} structures back, at least 2 are needed: "
            "increase validation_fraction or set early_stopping=False"
        )
    return n_held


def split_by_size(rows, sizes, limit):
    """Split rows into consecutive parts whose sizes add up to about a limit."""
    return np.split(rows, np.flatnonzero(np.diff(np.cumsum(sizes) // limit)) + 1)


def initial_vector(packing, weights, names, noise):
    """Flat vector to start from: weights, and the logarithm of the noise of each target, where it is known."""
    logarithms = [np.log(noise[name]) if name in noise else _LOG_NOISE_START for name in names]
    return np.concatenate([packing.pack(weights), np.clip(logarithms, *LOG_NOISE_BOUNDS)])
