"""Loops of attention: scores of edges, their softmax over the neighbors of an atom, and messages times the result.

Features are (rows, components, channels); ``groups``, ``first``, ``second``, ``third`` and ``values`` are those of
:class:`eqkernels.learned.coupling.Coupling`; ``heads`` is the head of each channel.
"""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    element,
    fused,
    keep,
    lanes,
    load_first,
    memory,
    store_first,
    times,
    zero,
)

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}


@njit(nogil=True, fastmath=_FAST)
def add_scores(
    queries, features, harmonics, radial, centers, neighbors, pairs, heads, groups, first, second, values, out
):
    """Scalar product of the query of the center and the key of the edge, added to out[edge, head].

    The key is a message (features of the neighbor times harmonics, weighted by radial functions) that is not summed.
    Rows of ``groups`` are (first entry, end, path, third): entries of one path that end in one component.
    """
    n_in, n_channels = features.shape[1:]
    n_keys, n_paths = queries.shape[1], radial.shape[1]
    coefficients, starts, jumps = np.empty(values.shape[0]), first * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    sums = np.empty(n_channels)
    x, r, q, factors, totals = memory(features), memory(radial), memory(queries), memory(coefficients), memory(sums)
    for e in range(centers.shape[0]):
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        for c in range(0, n_channels, lanes(x)):
            source, weight = neighbors[e] * n_in * n_channels + c, pairs[e] * n_paths * n_channels + c
            asked, count, total = centers[e] * n_keys * n_channels + c, n_channels - c, zero(x)
            for g in range(jumps.shape[0]):
                key = zero(x)
                for k in range(jumps[g, 0], jumps[g, 1]):
                    key = add_product(key, element(factors, k), load_first(x, source + starts[k], count))
                weighted = times(key, load_first(r, weight + jumps[g, 2], count))
                total = fused(weighted, load_first(q, asked + jumps[g, 3], count), total)
            store_first(totals, c, total, count)
        for c in range(n_channels):
            out[e, heads[c]] += sums[c]
    keep(coefficients)
    keep(sums)


@njit(nogil=True, fastmath=_FAST)
def add_score_gradients(
    queries,
    features,
    harmonics,
    radial,
    centers,
    neighbors,
    pairs,
    heads,
    groups,
    first,
    second,
    values,
    gradient,
    to_queries,
    to_radial,
):
    """Gradients of :func:`add_scores` by the queries and the radial functions."""
    n_in, n_channels = features.shape[1:]
    n_keys, n_paths = queries.shape[1], radial.shape[1]
    coefficients, starts, jumps = np.empty(values.shape[0]), first * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    slopes = np.empty(n_channels)
    x, r, q, factors, of_heads = memory(features), memory(radial), memory(queries), memory(coefficients), memory(slopes)
    to_q, to_r = memory(to_queries), memory(to_radial)
    for e in range(centers.shape[0]):
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        for c in range(n_channels):
            slopes[c] = gradient[e, heads[c]]
        for c in range(0, n_channels, lanes(x)):
            source, weight = neighbors[e] * n_in * n_channels + c, pairs[e] * n_paths * n_channels + c
            asked, count = centers[e] * n_keys * n_channels + c, n_channels - c
            slope = load_first(of_heads, c, count)
            for g in range(jumps.shape[0]):
                key = zero(x)
                for k in range(jumps[g, 0], jumps[g, 1]):
                    key = add_product(key, element(factors, k), load_first(x, source + starts[k], count))
                key, at, path = times(key, slope), asked + jumps[g, 3], weight + jumps[g, 2]
                store_first(to_q, at, fused(key, load_first(r, path, count), load_first(to_q, at, count)), count)
                store_first(to_r, path, fused(key, load_first(q, at, count), load_first(to_r, path, count)), count)
    keep(coefficients)
    keep(slopes)


@njit(nogil=True, fastmath=_FAST)
def add_score_feature_gradients(
    queries, harmonics, radial, centers, neighbors, pairs, heads, groups, third, second, values, gradient, to_features
):
    """Gradient of :func:`add_scores` by the features; rows of ``groups`` are (first entry, end, path, first)."""
    n_keys, n_channels = queries.shape[1:]
    n_in, n_paths = to_features.shape[1], radial.shape[1]
    coefficients, ends, jumps = np.empty(values.shape[0]), third * n_channels, groups.copy()
    jumps[:, 2:] *= n_channels
    slopes = np.empty(n_channels)
    r, q, factors, of_heads = memory(radial), memory(queries), memory(coefficients), memory(slopes)
    to_x = memory(to_features)
    for e in range(centers.shape[0]):
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        for c in range(n_channels):
            slopes[c] = gradient[e, heads[c]]
        for c in range(0, n_channels, lanes(q)):
            target, weight = neighbors[e] * n_in * n_channels + c, pairs[e] * n_paths * n_channels + c
            asked, count = centers[e] * n_keys * n_channels + c, n_channels - c
            slope = load_first(of_heads, c, count)
            for g in range(jumps.shape[0]):
                sums = zero(q)
                for k in range(jumps[g, 0], jumps[g, 1]):
                    sums = add_product(sums, element(factors, k), load_first(q, asked + ends[k], count))
                at, weighted = target + jumps[g, 3], times(slope, load_first(r, weight + jumps[g, 2], count))
                store_first(to_x, at, fused(sums, weighted, load_first(to_x, at, count)), count)
    keep(coefficients)
    keep(slopes)


@njit(nogil=True, fastmath=_FAST)
def add_score_harmonic_gradients(
    queries,
    features,
    radial,
    centers,
    neighbors,
    pairs,
    heads,
    first,
    second,
    third,
    path,
    values,
    gradient,
    to_harmonics,
):
    """Gradient of :func:`add_scores` by the harmonics, for derivatives by positions."""
    for e in range(centers.shape[0]):
        i, j, pair = centers[e], neighbors[e], pairs[e]
        for k in range(values.shape[0]):
            a, o, p, total = first[k], third[k], path[k], 0.0
            for c in range(features.shape[2]):
                total += gradient[e, heads[c]] * queries[i, o, c] * radial[pair, p, c] * features[j, a, c]
            to_harmonics[e, second[k]] += values[k] * total


@njit(nogil=True, fastmath=_FAST)
def fill_softmax(scores, envelope, centers, largest, sums, out):
    """Write exp(score) / (1 + the sum over edges of the center of envelope * exp(score)) to out[edge, head].

    largest and sums (n_atoms, n_heads) come filled with zeros; exponents are taken relative to the largest of 0 and the
    scores, so that none overflows.
    """
    n_edges, n_heads = scores.shape
    for e in range(n_edges):
        for h in range(n_heads):
            largest[centers[e], h] = max(largest[centers[e], h], scores[e, h])
    for i in range(largest.shape[0]):
        for h in range(n_heads):
            sums[i, h] = np.exp(-largest[i, h])
    for e in range(n_edges):
        for h in range(n_heads):
            out[e, h] = np.exp(scores[e, h] - largest[centers[e], h])
            sums[centers[e], h] += envelope[e] * out[e, h]
    for e in range(n_edges):
        for h in range(n_heads):
            out[e, h] /= sums[centers[e], h]


@njit(nogil=True, fastmath=_FAST)
def add_softmax_gradients(ratios, envelope, centers, gradient, means, to_scores, to_envelope):
    """Gradients of envelope * ratios, the ratios being those of :func:`fill_softmax`.

    means (n_atoms, n_heads) comes filled with zeros.
    """
    for e in range(ratios.shape[0]):
        for h in range(ratios.shape[1]):
            means[centers[e], h] += envelope[e] * ratios[e, h] * gradient[e, h]
    for e in range(ratios.shape[0]):
        for h in range(ratios.shape[1]):
            slope = ratios[e, h] * (gradient[e, h] - means[centers[e], h])
            to_scores[e, h] = envelope[e] * slope
            to_envelope[e] += slope


@njit(nogil=True, fastmath=_FAST)
def fill_weighted(radial, attention, pairs, heads, out):
    """Write radial functions of the pair times the attention of the edge, head by head, to out[edge]."""
    factors = np.empty(radial.shape[2])
    for e in range(pairs.shape[0]):
        for c in range(radial.shape[2]):
            factors[c] = attention[e, heads[c]]
        for p in range(radial.shape[1]):
            for c in range(radial.shape[2]):
                out[e, p, c] = radial[pairs[e], p, c] * factors[c]


@njit(nogil=True, fastmath=_FAST)
def add_weighted_gradients(radial, attention, pairs, heads, gradient, to_radial, to_attention):
    """Gradients of :func:`fill_weighted`."""
    factors, sums = np.empty(radial.shape[2]), np.empty(radial.shape[2])
    for e in range(pairs.shape[0]):
        for c in range(radial.shape[2]):
            factors[c], sums[c] = attention[e, heads[c]], 0.0
        for p in range(radial.shape[1]):
            for c in range(radial.shape[2]):
                g = gradient[e, p, c]
                to_radial[pairs[e], p, c] += g * factors[c]
                sums[c] += g * radial[pairs[e], p, c]
        for c in range(radial.shape[2]):
            to_attention[e, heads[c]] += sums[c]
