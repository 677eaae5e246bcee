r"""Attention: messages weighted by how well the key of an edge matches the query of its center.

The query of an atom are its features, mixed; the key of an edge is a message, made as those that are summed but with
radial functions of its own. Their scalar products over all irreps are invariant (F. B. Fuchs et al.,
SE(3)-Transformers, NeurIPS 2020), and with the cutoff function u of the radial basis their softmax

.. math::
    \alpha_{ij} = \frac{u(r_{ij}) \exp s_{ij}}{1 + \sum_k u(r_{ik}) \exp s_{ik}} , \quad
    s_{ij} = b \tanh\Big( \frac{1}{b \sqrt d}\, \mathbf q_i \cdot \mathbf k_{ij} \Big) ,

is a function of the positions with two continuous derivatives: an atom that enters has no weight yet, and the 1, the
weight of having no neighbor, keeps the others from sharing what an atom that leaves had. The bound b keeps exponentials
from growing beyond the distances of the training set; keys start small, weights nearly equal. Channels are split into
heads, each with weights of its own. The cluster expansion has a density of each head, its neighbors weighted by their
species and distance.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eqkernels.learned import _attention_loops as loops
from eqkernels.learned import operations as op
from eqkernels.learned.coupling import coupling, natural
from eqkernels.so3 import Irrep

#: Keys start so much smaller than messages. Polarizabilities of small molecules, learned from 100 structures in 60
#: steps, have 2.5 times smaller errors than with logits that start at 0.3 and have no bound.
KEYS_START = 0.01
# The bound b: neighbors differ by a factor of exp(6) at most.
_BOUND = 3.0
#: Heads where attention is asked for without their number; fewer where there are fewer channels.
HEADS = 4


def number_of_heads(attention, channels):
    """Heads of the parameter ``attention``; 0: there is none.

    Parameters
    ----------
    attention : bool or int
    channels : int

    Returns
    -------
    int
    """
    if isinstance(attention, bool | np.bool_):
        return min(HEADS, channels) if attention else 0
    if attention > channels:
        raise ValueError(f"attention={attention} heads need as many channels at least, channels={channels}")
    return int(attention)


@lru_cache(maxsize=64)
def head_of_channel(n_heads, channels):
    """Head that each channel belongs to, in blocks of about equal size."""
    return np.arange(channels) * n_heads // channels


def envelope(tape, vectors, cutoff):
    """Cutoff function u of the lengths of edges: shape (n_edges,)."""
    r = np.linalg.norm(vectors.value, axis=1)
    x = r / cutoff
    value = np.maximum(1 - 21 * x**5 + 35 * x**6 - 15 * x**7, 0.0)

    def pullback(gradient):
        # r^4 of the slope takes the 1 / r of the direction, so that edges without length have none
        slopes = (-105 + 210 * x - 105 * x**2) * x**3 / cutoff**2
        return ((gradient * slopes)[:, None] * vectors.value,)

    return tape.record(value, [vectors], pullback)


def scores(tape, queries, x, harmonics, radial, edges, table, n_heads):
    """Scalar products of the queries of centers and the keys of edges.

    Parameters
    ----------
    tape : Tape
    queries : Variable of shape (n, components of the keys, channels)
    x : Variable of shape (n, components, channels)
    harmonics : Variable of shape (n_edges, (l_max + 1)**2)
    radial : Variable of shape (n_pairs, n_paths, channels)
    edges : tuple of ndarray of int, shape (n_edges,)
        Centers, neighbors, and rows of ``radial``.
    table : Coupling
        Of x and the harmonics to the keys.
    n_heads : int

    Returns
    -------
    Variable of shape (n_edges, n_heads)
    """
    asked, features, weights = (np.ascontiguousarray(one.value) for one in (queries, x, radial))
    heads = head_of_channel(n_heads, features.shape[2])
    value = np.zeros((len(edges[0]), n_heads))
    loops.add_scores(asked, features, harmonics.value, weights, *edges, heads, *table.by_third, value)

    def pullback(gradient):
        gradient, to_x, to_harmonics = np.ascontiguousarray(gradient), None, None
        to_queries, to_radial = np.zeros(asked.shape), np.zeros(weights.shape)
        rest = (weights, *edges, heads)
        arguments = (asked, features, harmonics.value, *rest, *table.by_third, gradient)
        loops.add_score_gradients(*arguments, to_queries, to_radial)
        if x.wanted:
            to_x = np.zeros(features.shape)
            loops.add_score_feature_gradients(asked, harmonics.value, *rest, *table.by_first, gradient, to_x)
        if harmonics.wanted:
            to_harmonics = np.zeros(harmonics.value.shape)
            loops.add_score_harmonic_gradients(asked, features, *rest, *table.entries, gradient, to_harmonics)
        return to_queries, to_x, to_harmonics, to_radial

    return tape.record(value, [queries, x, harmonics, radial], pullback)


def softmax(tape, logits, cutoffs, centers, n_atoms):
    """Weights of the edges of each atom, see the module.

    Parameters
    ----------
    tape : Tape
    logits : Variable of shape (n_edges, n_heads)
        Before they are bounded.
    cutoffs : Variable of shape (n_edges,)
        Cutoff function of the length of each edge.
    centers : ndarray of int, shape (n_edges,)
    n_atoms : int

    Returns
    -------
    Variable of shape (n_edges, n_heads)
    """
    ratios, shape = np.empty(logits.value.shape), (n_atoms, logits.value.shape[1])
    bounded = np.tanh(logits.value / _BOUND)
    loops.fill_softmax(_BOUND * bounded, cutoffs.value, centers, np.zeros(shape), np.zeros(shape), ratios)

    def pullback(gradient):
        to_logits, to_cutoffs = np.empty(ratios.shape), np.zeros(len(ratios))
        arguments = (ratios, cutoffs.value, centers, np.ascontiguousarray(gradient))
        loops.add_softmax_gradients(*arguments, np.zeros(shape), to_logits, to_cutoffs)
        return to_logits * (1 - bounded**2), to_cutoffs

    return tape.record(cutoffs.value[:, None] * ratios, [logits, cutoffs], pullback)


def weigh(tape, radial, attention, pairs):
    """Radial functions of pairs (n_pairs, n_paths, channels) times the attention of edges: (n_edges, ...)."""
    functions = np.ascontiguousarray(radial.value)
    heads = head_of_channel(attention.value.shape[1], functions.shape[2])
    value = np.empty((len(pairs), *functions.shape[1:]))
    loops.fill_weighted(functions, attention.value, pairs, heads, value)

    def pullback(gradient):
        to_radial, to_attention = np.zeros(functions.shape), np.zeros(attention.value.shape)
        arguments = (functions, attention.value, pairs, heads, np.ascontiguousarray(gradient))
        loops.add_weighted_gradients(*arguments, to_radial, to_attention)
        return to_radial, to_attention

    return tape.record(value, [radial, attention], pullback)


def attend(tape, graph, x, hidden, radial, weights, irreps, table, n_heads):
    """Weigh the radial functions of a convolution.

    Parameters
    ----------
    tape : Tape
    graph : Graph
    x : Variable of shape (n_atoms, components of the irreps, channels)
    hidden : Variable of shape (n_pairs, n_hidden)
        Hidden units of the radial functions.
    radial : Variable of shape (n_pairs, n_paths, channels)
        Radial functions of the messages.
    weights : tuple of Variable
        Of the queries (n_species, n_irreps, channels, channels) and of the radial functions of the keys
        (n_hidden, n_paths of the keys * channels).
    irreps : tuple of Irrep
    table : Coupling
        Of x and the harmonics to keys of the same irreps.
    n_heads : int

    Returns
    -------
    radial : Variable of shape (n_edges, n_paths, channels)
    edges : tuple of ndarray
        Those of the graph, whose rows of ``radial`` are these.
    """
    n_atoms, dim, channels = x.value.shape
    queries = op.mix(tape, x, weights[0], irreps, graph.species)
    of_keys = op.dense(tape, hidden, weights[1], np.sqrt(n_heads / (dim * channels)))
    of_keys = op.reshape(tape, of_keys, (len(hidden.value), table.n_paths, channels))
    logits = scores(tape, queries, x, graph.harmonics, of_keys, graph.edges, table, n_heads)
    attention = softmax(tape, logits, graph.envelope(tape), graph.edges[0], n_atoms)
    n_edges = len(graph.edges[0])
    return weigh(tape, radial, attention, graph.edges[2]), (*graph.edges[:2], np.arange(n_edges))


def shapes_of_density(n_species, channels, n_radial, n_hidden):
    """Shapes of the weights of :func:`attended_density`, by name."""
    return {
        "species": (n_species, channels),
        "queries": (n_species, 1, channels, channels),
        "radial": (n_radial, n_hidden),
        "keys": (n_hidden, channels),
    }


def attended_density(tape, graph, weights, n_heads):
    """Density coefficients with neighbors weighted by attention.

    Parameters
    ----------
    tape : Tape
    graph : Graph
    weights : dict of str to Variable
        With those of :func:`shapes_of_density`.
    n_heads : int

    Returns
    -------
    Variable of shape (n_atoms, (l_max + 1)**2, n_species * n_heads * n_radial)
        By species (or channel of their embedding), head and radial function.
    """
    irreps, (n_pairs, n_radial) = (Irrep(0, 1),), graph.radial.value.shape
    x = op.embed(tape, weights["species"], graph.species, graph.n_atoms)
    hidden = op.silu(tape, op.dense(tape, graph.radial, weights["radial"]))
    functions = op.reshape(tape, op.join(tape, [graph.radial] * n_heads), (n_pairs, 1, n_heads * n_radial))
    of_attention, n_harmonics = (weights["queries"], weights["keys"]), graph.harmonics.value.shape[1]
    l_max = round(np.sqrt(n_harmonics)) - 1
    table = coupling(irreps, natural(l_max), irreps)
    radial, edges = attend(tape, graph, x, hidden, functions, of_attention, irreps, table, n_heads)
    radial = op.reshape(tape, radial, (len(edges[0]), n_heads * n_radial))
    columns, size = graph.species_of_atom[edges[1]] * n_heads * n_radial, len(graph.species) * n_heads * n_radial
    density = op.density(tape, graph.harmonics, radial, edges[0], edges[2], columns, graph.n_atoms, size)
    return density if graph.embedding is None else op.embed_density(tape, density, graph.embedding)
