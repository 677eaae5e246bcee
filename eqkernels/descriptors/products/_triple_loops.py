"""Loops of the pseudoscalar products of three density coefficients, with contiguous channels innermost.

The product is linear in each factor: derivatives put a change in the place of one factor at a time.
"""

import numpy as np

from eqkernels._compile import njit

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def add_pseudoscalars(first, second, third, degrees, starts, m1, m2, m3, values, out):
    """Add the triple products of three densities (n_centers, (l_max + 1)^2, n_channels) to out (n_centers, n_features).

    degrees (n_triples, 3): the coupled l; starts (n_triples + 1) delimits their entries m1, m2, m3, values.
    """
    n_channels = first.shape[2]
    work = np.empty(2 * int(np.sqrt(first.shape[1])))
    for i in range(first.shape[0]):
        position = 0
        for t in range(degrees.shape[0]):
            l1, l2, l3 = degrees[t, 0], degrees[t, 1], degrees[t, 2]
            c1, c2, c3 = first[i, l1 * l1 :], second[i, l2 * l2 :], third[i, l3 * l3 :]
            for q1 in range(n_channels):
                for q2 in range(q1 + 1 if l1 == l2 else 0, n_channels):
                    coupled = work[: 2 * l3 + 1]
                    coupled[:] = 0.0
                    for entry in range(starts[t], starts[t + 1]):
                        coupled[m3[entry]] += values[entry] * c1[m1[entry], q1] * c2[m2[entry], q2]
                    begin = q2 + 1 if l2 == l3 else 0
                    row = out[i, position : position + n_channels - begin]
                    for m in range(2 * l3 + 1):
                        source = c3[m, begin:]
                        for k in range(n_channels - begin):
                            row[k] += coupled[m] * source[k]
                    position += n_channels - begin


@njit(**_options)
def contract_pseudoscalars(density, degrees, starts, m1, m2, m3, values, cotangent, out):
    """Add to out the derivative of sum(cotangent * triple products) by the density."""
    n_channels = density.shape[2]
    summed = np.empty(2 * int(np.sqrt(density.shape[1])))
    for i in range(density.shape[0]):
        position = 0
        for t in range(degrees.shape[0]):
            l1, l2, l3 = degrees[t, 0], degrees[t, 1], degrees[t, 2]
            c1, c2, c3 = density[i, l1 * l1 :], density[i, l2 * l2 :], density[i, l3 * l3 :]
            d1, d2, d3 = out[i, l1 * l1 :], out[i, l2 * l2 :], out[i, l3 * l3 :]
            for q1 in range(n_channels):
                for q2 in range(q1 + 1 if l1 == l2 else 0, n_channels):
                    begin = q2 + 1 if l2 == l3 else 0
                    cotangents = cotangent[i, position : position + n_channels - begin]
                    for m in range(2 * l3 + 1):
                        total = 0.0
                        for k in range(n_channels - begin):
                            total += cotangents[k] * c3[m, begin + k]
                        summed[m] = total
                    for entry in range(starts[t], starts[t + 1]):
                        a, b, c = m1[entry], m2[entry], m3[entry]
                        d1[a, q1] += values[entry] * c2[b, q2] * summed[c]
                        d2[b, q2] += values[entry] * c1[a, q1] * summed[c]
                        factor = values[entry] * c1[a, q1] * c2[b, q2]
                        for k in range(n_channels - begin):
                            d3[c, begin + k] += factor * cotangents[k]
                    position += n_channels - begin
