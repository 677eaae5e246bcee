"""Loops of the pseudoscalar products of three density coefficients, with contiguous channels innermost."""

import numpy as np
from numba import njit

_options: dict = {"cache": True, "nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


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
