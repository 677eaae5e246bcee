"""Loops of the products of density coefficients, with contiguous channels innermost."""

import numpy as np
from numba import njit

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def _write_triangle(square, first, out):
    """Write the elements (q, q' >= q + first) of a square to out, row by row; return how many they are."""
    n_channels = len(square)
    start = 0
    for q in range(n_channels):
        width = max(0, n_channels - q - first)
        row, source = out[start : start + width], square[q, q + first :]
        for k in range(width):
            row[k] = source[k]
        if first == 0:
            row[0] *= np.sqrt(0.5)  # the pair (q, q) stands once in the double sum, all others twice
        start += width
    return start


@njit(**_options)
def fill_equivariants(density, lam, degrees, starts, m1, m2, mu, values, out):
    """Write the lambda-SOAP block of every center.

    density (n_centers, (l_max + 1)^2, n_channels); degrees (n_pairs, 2) the coupled (l1, l2); starts (n_pairs + 1)
    delimits their Clebsch-Gordan entries m1, m2, mu, values (sorted by mu, weight included);
    out (n_centers, 2 lam + 1, n_features). The products over channels are matrix products, small but many.
    """
    n_channels = density.shape[2]
    room = np.empty((2 * int(np.sqrt(density.shape[1])), n_channels))
    square = np.empty((n_channels, n_channels))
    for i in range(density.shape[0]):
        position = 0
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            left = density[i, l1 * l1 : (l1 + 1) * (l1 + 1)]
            right = density[i, l2 * l2 : (l2 + 1) * (l2 + 1)]
            coupled = room[: 2 * l1 + 1]
            entry, end = starts[p], position
            for component in range(2 * lam + 1):
                coupled[:] = 0.0
                while entry < starts[p + 1] and mu[entry] == component:
                    value, source, target = values[entry], right[m2[entry]], coupled[m1[entry]]
                    for q in range(n_channels):
                        target[q] += value * source[q]
                    entry += 1
                if l1 < l2:
                    end = position + n_channels * n_channels
                    np.dot(left.T, coupled, out[i, component, position:end].reshape(n_channels, n_channels))
                else:
                    np.dot(left.T, coupled, square)
                    end = position + _write_triangle(square, lam % 2, out[i, component, position:])
            position = end


@njit(**_options)
def fill_pseudoscalars(density, degrees, starts, m1, m2, m3, values, out):
    """Write the pseudoscalar triple products of every center, out (n_centers, n_features); arguments as above."""
    n_channels = density.shape[2]
    work = np.empty(2 * int(np.sqrt(density.shape[1])))
    for i in range(density.shape[0]):
        position = 0
        for t in range(degrees.shape[0]):
            l1, l2, l3 = degrees[t, 0], degrees[t, 1], degrees[t, 2]
            c1, c2, c3 = density[i, l1 * l1 :], density[i, l2 * l2 :], density[i, l3 * l3 :]
            for q1 in range(n_channels):
                for q2 in range(q1 + 1 if l1 == l2 else 0, n_channels):
                    coupled = work[: 2 * l3 + 1]
                    coupled[:] = 0.0
                    for entry in range(starts[t], starts[t + 1]):
                        coupled[m3[entry]] += values[entry] * c1[m1[entry], q1] * c2[m2[entry], q2]
                    begin = q2 + 1 if l2 == l3 else 0
                    row = out[i, position : position + n_channels - begin]
                    row[:] = 0.0
                    for m in range(2 * l3 + 1):
                        source = c3[m, begin:]
                        for k in range(n_channels - begin):
                            row[k] += coupled[m] * source[k]
                    position += n_channels - begin
