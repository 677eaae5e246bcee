"""Loops that couple features of one order with density coefficients, with contiguous channels innermost."""

import numpy as np

from eqkernels._compile import njit

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def couple(left, right, m1, m2, mu, values, rows, weights, position, out):
    """Write out[i, mu, position + ...] = weight sum_{m1 m2} C[m1, m2, mu] left[i, m1, k] right[i, m2, q].

    left (n_centers, 2 l1 + 1, n_left), right (n_centers, 2 l2 + 1, n_channels); m1, m2, mu, values the nonzero
    Clebsch-Gordan coefficients. Every row (k, begin, end) of rows stands for the products of the left feature k with
    the channels q = begin .. end - 1, which follow each other in out (n_centers, 2 lambda + 1, n_products);
    weights (n_rows, 2): that of the first product of the row and that of the others.
    """
    n_components, n_right = out.shape[1], right.shape[1]
    coupled = np.empty((n_components, n_right))
    for i in range(left.shape[0]):
        start = position
        for r in range(rows.shape[0]):
            k, begin, width = rows[r, 0], rows[r, 1], rows[r, 2] - rows[r, 1]
            coupled[:] = 0.0
            for entry in range(len(values)):
                coupled[mu[entry], m2[entry]] += weights[r, 1] * values[entry] * left[i, m1[entry], k]
            for component in range(n_components):
                target = out[i, component, start : start + width]
                target[:] = 0.0
                for m in range(n_right):
                    value, source = coupled[component, m], right[i, m, begin : begin + width]
                    for q in range(width):
                        target[q] += value * source[q]
                target[0] *= weights[r, 0] / weights[r, 1]
            start += width


@njit(**_options)
def contract_couple(left, right, m1, m2, mu, values, rows, weights, position, cotangent, left_changes, right_changes):
    """Add the derivatives of sum(cotangent * out) of :func:`couple` by left and right to the two arrays of changes."""
    n_components, n_right = cotangent.shape[1], right.shape[1]
    coupled, by_coupled = np.empty((n_components, n_right)), np.empty((n_components, n_right))
    room = np.empty(right.shape[2])
    for i in range(left.shape[0]):
        start = position
        for r in range(rows.shape[0]):
            k, begin, width = rows[r, 0], rows[r, 1], rows[r, 2] - rows[r, 1]
            coupled[:] = 0.0
            for entry in range(len(values)):
                coupled[mu[entry], m2[entry]] += weights[r, 1] * values[entry] * left[i, m1[entry], k]
            for component in range(n_components):
                weighted = room[:width]
                weighted[:] = cotangent[i, component, start : start + width]
                weighted[0] *= weights[r, 0] / weights[r, 1]
                for m in range(n_right):
                    value, total = coupled[component, m], 0.0
                    source, target = right[i, m, begin : begin + width], right_changes[i, m, begin : begin + width]
                    for q in range(width):
                        total += weighted[q] * source[q]
                        target[q] += value * weighted[q]
                    by_coupled[component, m] = total
            for entry in range(len(values)):
                change = weights[r, 1] * values[entry] * by_coupled[mu[entry], m2[entry]]
                left_changes[i, m1[entry], k] += change
            start += width
