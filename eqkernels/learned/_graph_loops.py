"""Loops over the edges of a graph."""

import numpy as np

from eqkernels._compile import njit

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
# Square of the length of the sum of opposite edges: more than rounding, less than between any two atoms.
_OPPOSITE = 1e-12


@njit(nogil=True, fastmath=_FAST)
def join_directions(offsets, neighbors, vectors, pair_of_edge, representatives):
    """Give an edge i -> j and the opposite one j -> i the same number; return how many pairs there are.

    pair_of_edge comes filled with -1. An edge whose other direction is missing, which rounding may have left beyond
    the cutoff, is a pair of its own.
    """
    n_pairs = 0
    for i in range(len(offsets) - 1):
        for e in range(offsets[i], offsets[i + 1]):
            if pair_of_edge[e] >= 0:
                continue
            pair_of_edge[e], representatives[n_pairs], j = n_pairs, e, neighbors[e]
            for f in range(offsets[j], offsets[j + 1]):
                if neighbors[f] == i and pair_of_edge[f] < 0:
                    x, y, z = (
                        vectors[e, 0] + vectors[f, 0],
                        vectors[e, 1] + vectors[f, 1],
                        vectors[e, 2] + vectors[f, 2],
                    )
                    if x * x + y * y + z * z < _OPPOSITE:
                        pair_of_edge[f] = n_pairs
                        break
            n_pairs += 1
    return n_pairs


@njit(nogil=True, fastmath=_FAST)
def fill_radial_basis(vectors, cutoff, scale, out):
    """Write sin(n pi r / cutoff) / r u(r / cutoff) times the scale to out[:, n - 1], r being the lengths of vectors.

    The sines follow from those of n - 1 and n - 2: sin((n + 1) t) = 2 cos(t) sin(n t) - sin((n - 1) t).
    """
    for p in range(vectors.shape[0]):
        r = np.sqrt(vectors[p, 0] ** 2 + vectors[p, 1] ** 2 + vectors[p, 2] ** 2)
        x = r / cutoff
        x5 = x * x * x * x * x
        weight = scale / r * (1.0 - x5 * (21.0 - x * (35.0 - 15.0 * x)))
        before, sine, twice = 0.0, np.sin(np.pi * x), 2.0 * np.cos(np.pi * x)
        for n in range(out.shape[1]):
            out[p, n] = weight * sine
            before, sine = sine, twice * sine - before
