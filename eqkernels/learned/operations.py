r"""Equivariant operations with their pullbacks, for :class:`eqkernels.learned.tape.Tape`.

Features are arrays (rows, components, channels): a row is an atom, the components are those of a list of irreps one
after the other, every irrep with the same number of channels. What commutes with rotations is allowed (Thomas et al.,
arXiv:1802.08219): to mix channels of one irrep, to multiply by scalars, and to couple irreps,

.. math::
    y^{o M c} = \sum_{(a, b) \to o} w_{a b o}^c \sum_{m m'} \langle a m\, b m' | o M \rangle\, x^{a m c}\, z^{b m' c} ,

whose pullback to each of its three factors is the same contraction with the other two and the gradient of y.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eqkernels.learned import _operation_loops as loops
from eqkernels.learned.coupling import Coupling, irrep_of_component, position
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]

# SiLU of a standard normal number has the second moment 1 / 1.6765**2.
_SILU_SCALE = 1.6765

# -- linear ------------------------------------------------------------------------------------------------------------


def mix(tape: Tape, x: Variable, weights: Variable, irreps: tuple[Irrep, ...], species) -> Variable:
    """Mix the channels of each irrep, with matrices of each central species.

    Parameters
    ----------
    tape : Tape
    x : Variable of shape (n, components, channels)
    weights : Variable of shape (n_species, n_irreps, channels, new_channels)
    irreps : tuple of Irrep
    species : list of slice
        Rows of each species; together they are all rows.

    Returns
    -------
    Variable of shape (n, components, new_channels)
    """
    mixing = _mixing(irreps, irreps)
    value = np.empty((*x.value.shape[:2], weights.value.shape[3]))
    return tape.record(*_mixed(x, weights, species, mixing, value, adds=False))


def mix_onto(tape, base, outputs, x, weights, irreps, species):
    """Mixed channels of x, see :func:`mix`, added to the irreps (``outputs`` of the base) that both have.

    The base is changed in place: no other operation may need its value.
    """
    value, inputs, pullback = _mixed(x, weights, species, _mixing(irreps, outputs), base.value, adds=True)
    return tape.record(value, [base, *inputs], lambda gradient: (gradient, *pullback(gradient)))


@lru_cache(maxsize=1024)
def _mixing(irreps, outputs):
    """Components of the irreps that are in both lists: places in each of them, and the number of the irrep."""
    shared = [irrep for irrep in irreps if irrep in outputs]
    places, targets = (
        [np.arange(part.start, part.stop) for part in (position(one, irrep) for irrep in shared)]
        for one in (irreps, outputs)
    )
    numbers = np.repeat([irreps.index(irrep) for irrep in shared], [irrep.dim for irrep in shared])
    return np.concatenate(places), np.concatenate(targets), numbers


def _mixed(x, weights, species, mixing, out, adds):
    ends, (places, targets, numbers) = np.array([0, *(rows.stop for rows in species)]), mixing
    features, matrices = np.ascontiguousarray(x.value), np.ascontiguousarray(weights.value)
    loops.mix_rows(features, matrices, ends, *mixing, adds, out)

    def pullback(gradient):
        gradient, to_x, to_weights = np.ascontiguousarray(gradient), None, np.zeros(matrices.shape)
        loops.add_mixing_gradients(features, gradient, ends, *mixing, to_weights)
        if x.wanted:
            to_x = np.empty(features.shape) if len(places) == features.shape[1] else np.zeros(features.shape)
            transposed = np.ascontiguousarray(matrices.swapaxes(2, 3))
            loops.mix_rows(gradient, transposed, ends, targets, places, numbers, False, to_x)
        return to_x, to_weights

    return out, [x, weights], pullback


def dense(tape, x, weights, scale=1.0):
    """Matrix product of (n, k) and (k, m), times a number."""
    scaled = scale * weights.value

    def pullback(gradient):
        return gradient @ scaled.T if x.wanted else None, scale * (x.value.T @ gradient)

    return tape.record(x.value @ scaled, [x, weights], pullback)


def embed(tape, weights, species, n_rows):
    """Scalar features (n, 1, channels) of atoms, one row of the weights (n_species, channels) for each species."""
    value = np.empty((n_rows, 1, weights.value.shape[1]))
    for k, rows in enumerate(species):
        value[rows, 0] = weights.value[k]

    def pullback(gradient):
        return (np.stack([gradient[rows, 0].sum(axis=0) for rows in species]),)

    return tape.record(value, [weights], pullback)


def of_species(tape, weights, vectors):
    """Weights (n_species, ...) of species from those (n_channels, ...) of the channels of their embedding.

    Parameters
    ----------
    tape : Tape
    weights : Variable of shape (n_channels, ...)
    vectors : ndarray of shape (n_species, n_channels)

    Returns
    -------
    Variable of shape (n_species, ...)
    """
    shape = weights.value.shape
    value = (vectors @ weights.value.reshape(shape[0], -1)).reshape(-1, *shape[1:])

    def pullback(gradient):
        return ((vectors.T @ gradient.reshape(len(vectors), -1)).reshape(shape),)

    return tape.record(value, [weights], pullback)


def times_vectors(tape, x, vectors):
    """Features (n, components, channels) times vectors (n, k) of their rows: (n, components, channels * k)."""
    n, dim, channels = x.value.shape
    value = np.einsum("idc,ik->idck", x.value, vectors).reshape(n, dim, -1)

    def pullback(gradient):
        return (np.einsum("idck,ik->idc", gradient.reshape(n, dim, channels, -1), vectors),)

    return tape.record(value, [x], pullback)


def embed_density(tape, x, vectors):
    """Density (n, components, n_species * n_radial) with the species embedded: (n, components, k * n_radial)."""
    n, dim, _ = x.value.shape
    parts = x.value.reshape(n * dim, len(vectors), -1)

    def pullback(gradient):
        return ((vectors @ gradient.reshape(n * dim, vectors.shape[1], -1)).reshape(x.value.shape),)

    return tape.record((vectors.T @ parts).reshape(n, dim, -1), [x], pullback)


def add_irreps(tape, x, y, irreps, others):
    """X with y added to the irreps (``others`` of y) that both have; x is changed in place."""
    value, pairs = x.value, [(position(irreps, one), position(others, one)) for one in others if one in irreps]
    for ours, theirs in pairs:
        value[:, ours] += y.value[:, theirs]

    def pullback(gradient):
        to_y = np.zeros_like(y.value)
        for ours, theirs in pairs:
            to_y[:, theirs] = gradient[:, ours]
        return gradient, to_y

    return tape.record(value, [x, y], pullback)


def scale(tape, x, factors):
    """Product with constants that broadcast to the shape of x."""
    return tape.record(x.value * factors, [x], lambda gradient: (gradient * factors,))


def take(tape, x, part):
    """Components of a slice."""

    def pullback(gradient):
        to_x = np.zeros_like(x.value)
        to_x[:, part] = gradient
        return (to_x,)

    return tape.record(np.ascontiguousarray(x.value[:, part]), [x], pullback)


def join(tape, parts):
    """Channels of several variables side by side."""
    ends = np.cumsum([one.value.shape[-1] for one in parts])[:-1]

    def pullback(gradient):
        return np.split(gradient, ends, axis=-1)

    return tape.record(np.concatenate([one.value for one in parts], axis=-1), parts, pullback)


def reshape(tape, x, shape):
    """Bring the same numbers into another shape."""
    return tape.record(x.value.reshape(shape), [x], lambda gradient: (gradient.reshape(x.value.shape),))


def segment_sum(tape, x, segments, species_of_row, n_species, weights, n_segments):
    """Weighted sum of the rows of each segment, every species in channels of its own.

    Parameters
    ----------
    tape : Tape
    x : Variable of shape (n, components, channels)
    segments : ndarray of int, shape (n,)
        Segment that a row is added to; -1: none.
    species_of_row : ndarray of int, shape (n,)
    n_species, n_segments : int
    weights : ndarray of shape (n,)

    Returns
    -------
    Variable of shape (n_segments, components, n_species * channels)
    """
    _, dim, channels = x.value.shape
    columns = species_of_row * channels
    value = np.zeros((n_segments, dim, n_species * channels))
    loops.add_segments(np.ascontiguousarray(x.value), segments, columns, weights, value)

    def pullback(gradient):
        to_x = np.zeros(x.value.shape)
        loops.spread_segments(np.ascontiguousarray(gradient), segments, columns, weights, to_x)
        return (to_x,)

    return tape.record(value, [x], pullback)


# -- products ----------------------------------------------------------------------------------------------------------


def product(tape: Tape, x: Variable, y: Variable, weights: Variable, table: Coupling) -> Variable:
    """Clebsch-Gordan product, channel by channel, with a weight for each path and channel.

    Parameters
    ----------
    tape : Tape
    x, y : Variable of shape (n, components, channels)
    weights : Variable of shape (n_paths, channels)
    table : Coupling

    Returns
    -------
    Variable of shape (n, components of the product, channels)
    """
    factors = [np.ascontiguousarray(one.value) for one in (x, y, weights)]
    value = np.zeros((len(x.value), table.dim, x.value.shape[2]))
    loops.add_products(*factors, *table.by_third, value)  # type: ignore[call-arg]

    def pullback(gradient):
        gradient, (left, right, paths) = np.ascontiguousarray(gradient), factors
        to_left, to_right, to_paths = (np.zeros(one.shape) for one in factors)
        loops.add_product_gradients(left, right, paths, *table.by_first, gradient, True, to_left, to_paths)
        loops.add_product_gradients(right, left, paths, *table.by_second, gradient, False, to_right, to_paths)
        return to_left, to_right, to_paths

    return tape.record(value, [x, y, weights], pullback)


def convolve(tape: Tape, x: Variable, harmonics: Variable, radial: Variable, edges: Edges, table: Coupling) -> Variable:
    """Sum over neighbors j of an atom of features of j, coupled to the harmonics of the edge.

    Parameters
    ----------
    tape : Tape
    x : Variable of shape (n, components, channels)
    harmonics : Variable of shape (n_edges, (l_max + 1)**2)
    radial : Variable of shape (n_pairs, n_paths, channels)
        Weights of the paths, functions of the distance.
    edges : tuple of ndarray of int, shape (n_edges,)
        Centers, neighbors, and rows of ``radial``, which both directions of an edge share.
    table : Coupling

    Returns
    -------
    Variable of shape (n, components of the product, channels)
    """
    features, weights = np.ascontiguousarray(x.value), np.ascontiguousarray(radial.value)
    arguments = (features, harmonics.value, weights, *edges)
    value = np.zeros((len(x.value), table.dim, x.value.shape[2]))
    loops.add_messages(*arguments, *table.by_third, value)  # type: ignore[call-arg]

    def pullback(gradient):
        gradient = np.ascontiguousarray(gradient)
        to_x, to_radial, to_harmonics = np.zeros(features.shape), np.zeros(weights.shape), None
        loops.add_message_gradients(*arguments, *table.by_first, gradient, to_x, to_radial)
        if harmonics.wanted:
            to_harmonics = np.zeros(harmonics.value.shape)
            loops.add_harmonic_gradients(features, weights, *edges, *table.entries, gradient, to_harmonics)
        return to_x, to_harmonics, to_radial

    return tape.record(value, [x, harmonics, radial], pullback)


def density(tape, harmonics, radial, centers, pairs, columns, n_rows, n_channels):
    """Density coefficients (n, (l_max + 1)**2, n_channels): harmonics times radial functions, summed over neighbors."""
    value = np.zeros((n_rows, harmonics.value.shape[1], n_channels))
    loops.add_density(harmonics.value, radial.value, centers, pairs, columns, value)

    def pullback(gradient):
        gradients = np.zeros(harmonics.value.shape), np.zeros(radial.value.shape)
        arguments = (harmonics.value, radial.value, centers, pairs, columns, np.ascontiguousarray(gradient))
        loops.add_density_gradients(*arguments, *gradients)
        return gradients

    return tape.record(value, [harmonics, radial], pullback)


# -- nonlinear ---------------------------------------------------------------------------------------------------------


def _sigmoid(x):
    # numpy's tanh is vectorized, unlike scipy's expit, and never overflows, unlike exp
    out = 0.5 * x
    np.tanh(out, out=out)
    out *= 0.5
    out += 0.5
    return out


def silu(tape, x):
    """``x sigmoid(x)``, scaled so that normal numbers keep their variance."""
    sigmoid = _sigmoid(x.value)

    def pullback(gradient):
        return (gradient * _SILU_SCALE * sigmoid * (1 + x.value * (1 - sigmoid)),)

    value = x.value * sigmoid
    value *= _SILU_SCALE
    return tape.record(value, [x], pullback)


def gate(tape, x, gates, irreps):
    """SiLU of the scalars; all other irreps times the sigmoid of a scalar of their own (Weiler et al. 2018).

    Parameters
    ----------
    tape : Tape
    x : Variable of shape (n, components, channels)
        Its first irrep is 0e.
    gates : Variable of shape (n, n_irreps, channels)
        Scalars; those of the first irrep are not used.
    irreps : tuple of Irrep

    Returns
    -------
    Variable of shape (n, components, channels)
    """
    components = irrep_of_component(irreps)
    scalars = x.value[:, 0]
    arguments = gates.value.copy()
    arguments[:, 0] = scalars
    sigmoid = _sigmoid(arguments)
    factors = 2 * sigmoid
    factors[:, 0] *= _SILU_SCALE / 2
    features, value = np.ascontiguousarray(x.value), np.empty(x.value.shape)
    loops.multiply_irreps(features, factors, components, value)

    def pullback(gradient):
        to_x, to_gates = np.empty(features.shape), np.zeros(factors.shape)
        constants = (features, factors, components, np.ascontiguousarray(gradient))
        loops.multiply_irreps_gradients(*constants, to_x, to_gates)
        to_x[:, 0] *= 1 + scalars * (1 - sigmoid[:, 0])
        to_gates *= factors * (1 - sigmoid)
        to_gates[:, 0] = 0.0
        return to_x, to_gates

    return tape.record(value, [x, gates], pullback)
