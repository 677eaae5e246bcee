"""Loops of attention: scores of edges, their softmax over the neighbors of an atom, and messages times the result.

Features are (rows, components, channels); ``groups``, ``first``, ``second``, ``third`` and ``values`` are those of
:class:`eqkernels.learned.coupling.Coupling`; ``heads`` is the head of each channel.
"""

import numpy as np

from eqkernels._compile import njit

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}


@njit(nogil=True, fastmath=_FAST)
def add_scores(
    queries, features, harmonics, radial, centers, neighbors, pairs, heads, groups, first, second, values, out
):
    """Scalar product of the query of the center and the key of the edge, added to out[edge, head].

    The key is a message (features of the neighbor times harmonics, weighted by radial functions) that is not summed.
    Rows of ``groups`` are (first entry, end, path, third): entries of one path that end in one component.
    """
    n_channels = features.shape[2]
    coefficients, key, total = np.empty(values.shape[0]), np.empty(n_channels), np.empty(n_channels)
    for e in range(centers.shape[0]):
        i, j, pair = centers[e], neighbors[e], pairs[e]
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        total[:] = 0.0
        for g in range(groups.shape[0]):
            path, o = groups[g, 2], groups[g, 3]
            key[:] = 0.0
            for k in range(groups[g, 0], groups[g, 1]):
                factor, a = coefficients[k], first[k]
                for c in range(n_channels):
                    key[c] += factor * features[j, a, c]
            for c in range(n_channels):
                total[c] += key[c] * radial[pair, path, c] * queries[i, o, c]
        for c in range(n_channels):
            out[e, heads[c]] += total[c]


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
    n_channels = features.shape[2]
    coefficients, key = np.empty(values.shape[0]), np.empty(n_channels)
    for e in range(centers.shape[0]):
        i, j, pair = centers[e], neighbors[e], pairs[e]
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        for g in range(groups.shape[0]):
            path, o = groups[g, 2], groups[g, 3]
            key[:] = 0.0
            for k in range(groups[g, 0], groups[g, 1]):
                factor, a = coefficients[k], first[k]
                for c in range(n_channels):
                    key[c] += factor * features[j, a, c]
            for c in range(n_channels):
                slope = gradient[e, heads[c]] * key[c]
                to_queries[i, o, c] += slope * radial[pair, path, c]
                to_radial[pair, path, c] += slope * queries[i, o, c]


@njit(nogil=True, fastmath=_FAST)
def add_score_feature_gradients(
    queries, harmonics, radial, centers, neighbors, pairs, heads, groups, third, second, values, gradient, to_features
):
    """Gradient of :func:`add_scores` by the features; rows of ``groups`` are (first entry, end, path, first)."""
    n_channels = queries.shape[2]
    coefficients, sums = np.empty(values.shape[0]), np.empty(n_channels)
    for e in range(centers.shape[0]):
        i, j, pair = centers[e], neighbors[e], pairs[e]
        for k in range(values.shape[0]):
            coefficients[k] = values[k] * harmonics[e, second[k]]
        for g in range(groups.shape[0]):
            path, a = groups[g, 2], groups[g, 3]
            sums[:] = 0.0
            for k in range(groups[g, 0], groups[g, 1]):
                factor, o = coefficients[k], third[k]
                for c in range(n_channels):
                    sums[c] += factor * queries[i, o, c]
            for c in range(n_channels):
                to_features[j, a, c] += gradient[e, heads[c]] * radial[pair, path, c] * sums[c]


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
    for e in range(pairs.shape[0]):
        for p in range(radial.shape[1]):
            for c in range(radial.shape[2]):
                out[e, p, c] = radial[pairs[e], p, c] * attention[e, heads[c]]


@njit(nogil=True, fastmath=_FAST)
def add_weighted_gradients(radial, attention, pairs, heads, gradient, to_radial, to_attention):
    """Gradients of :func:`fill_weighted`."""
    for e in range(pairs.shape[0]):
        for p in range(radial.shape[1]):
            for c in range(radial.shape[2]):
                g, h = gradient[e, p, c], heads[c]
                to_radial[pairs[e], p, c] += g * attention[e, h]
                to_attention[e, h] += g * radial[pairs[e], p, c]
