"""Loops of the products of density coefficients, with contiguous channels innermost."""

import numpy as np
from numba import njit

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def _channel_products(left, right, present, first, out):
    """Write sum_m left[m, q] right[m, q'] for all q' (first < 0) or for q' >= q + first; return how many there are.

    m runs over an odd number, four in one pass. Rows of channels q that are not present stay as they are: zero.
    """
    n_m, n_channels = left.shape
    start = 0
    for q in range(n_channels):
        begin = 0 if first < 0 else q + first
        width = n_channels - begin
        row = out[start : start + width]
        start += width
        if not present[q]:
            continue
        x0, r0 = left[0, q], right[0, begin:]
        if n_m == 1:
            for k in range(width):
                row[k] = x0 * r0[k]
            continue
        x1, r1 = left[1, q], right[1, begin:]
        x2, r2 = left[2, q], right[2, begin:]
        for k in range(width):
            row[k] = x0 * r0[k] + x1 * r1[k] + x2 * r2[k]
        m = 3
        while m + 4 <= n_m:
            x0, r0 = left[m, q], right[m, begin:]
            x1, r1 = left[m + 1, q], right[m + 1, begin:]
            x2, r2 = left[m + 2, q], right[m + 2, begin:]
            x3, r3 = left[m + 3, q], right[m + 3, begin:]
            for k in range(width):
                row[k] += x0 * r0[k] + x1 * r1[k] + x2 * r2[k] + x3 * r3[k]
            m += 4
        if m < n_m:
            x0, r0 = left[m, q], right[m, begin:]
            x1, r1 = left[m + 1, q], right[m + 1, begin:]
            for k in range(width):
                row[k] += x0 * r0[k] + x1 * r1[k]
    return start


@njit(**_options)
def fill_equivariants(density, lam, degrees, starts, m1, m2, mu, values, out):
    """Write the lambda-SOAP block of every center.

    density (n_centers, (l_max + 1)^2, n_channels); degrees (n_pairs, 2) the coupled (l1, l2); starts (n_pairs + 1)
    delimits their Clebsch-Gordan entries m1, m2, mu, values (sorted by mu, weight included);
    out (n_centers, 2 lam + 1, n_features), zeroed.
    """
    n_channels = density.shape[2]
    present = np.empty(n_channels, np.bool_)
    work = np.empty((2 * int(np.sqrt(density.shape[1])), n_channels))
    for i in range(density.shape[0]):
        # every neighbor, and the center itself, contributes to l = 0
        for q in range(n_channels):
            present[q] = density[i, 0, q] != 0.0
        position = 0
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            left = density[i, l1 * l1 : (l1 + 1) * (l1 + 1)]
            right = density[i, l2 * l2 : (l2 + 1) * (l2 + 1)]
            first = -1 if l1 < l2 else lam % 2
            entry, end = starts[p], position
            for component in range(2 * lam + 1):
                coupled = work[: 2 * l1 + 1]
                coupled[:] = 0.0
                while entry < starts[p + 1] and mu[entry] == component:
                    value, source, target = values[entry], right[m2[entry]], coupled[m1[entry]]
                    for q in range(n_channels):
                        target[q] += value * source[q]
                    entry += 1
                row = out[i, component, position:]
                end = position + _channel_products(left, coupled, present, first, row)
                if first == 0:
                    # pairs (q, q) stand once in the double sum, all others twice
                    diagonal = 0
                    for q in range(n_channels):
                        row[diagonal] *= np.sqrt(0.5)
                        diagonal += n_channels - q
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
