"""Loop that contracts overlaps of densities to scalar products of lambda-SOAP vectors."""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    element,
    fused,
    keep,
    lanes,
    load,
    load_first,
    memory,
    scaled,
    store,
    zero,
)

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def _gather(overlaps, n_l, i, n_rows, j, n_columns, gathered):
    """Copy the overlaps of a row with a vector of columns: gathered (l, m, n) is contiguous, with columns innermost."""
    width, start, at = lanes(gathered), 0, 0
    for l in range(n_l):
        d = 2 * l + 1
        for m in range(d):
            for n in range(d):
                place = start + ((m * n_rows + i) * d + n) * n_columns + j
                store(gathered, at, load_first(overlaps, place, n_columns - j))
                at += width
        start += d * d * n_rows * n_columns


@njit(**_options)
def _add_pair(gathered, l1, l2, row, nu, n_mu, sources, values, half, totals):
    """Add the terms of one pair of degrees with one nu to totals (n_mu), through half[m2, n1]."""
    width, d1, d2 = lanes(gathered), 2 * l1 + 1, 2 * l2 + 1
    first, second = width * (l1 * (4 * l1 * l1 - 1) // 3), width * (l2 * (4 * l2 * l2 - 1) // 3)
    # couplings carry the factor sqrt 2 for the two orders of l1 and l2: a pair of equal degrees has only one
    weight = 0.5 if l1 == l2 else 1.0
    for n in range(d1):
        b = row + nu * d1 + n
        one, other = second + sources[b, 0] * width, second + sources[b, 1] * width
        for s in range(d2):
            step = s * d2 * width
            total = scaled(weight * values[b, 0], load(gathered, one + step))
            store(half, (s * d1 + n) * width, add_product(total, weight * values[b, 1], load(gathered, other + step)))
    for mu in range(n_mu):
        total = load(totals, mu * width)
        for m in range(d1):
            a = row + mu * d1 + m
            one, other = sources[a, 0] * d1 * width, sources[a, 1] * d1 * width
            for k in range(0, d1 * width, width):
                term = scaled(values[a, 0], load(half, one + k))
                if values[a, 1] != 0.0:
                    term = add_product(term, values[a, 1], load(half, other + k))
                total = fused(load(gathered, first + m * d1 * width + k), term, total)
        store(totals, mu * width, total)


@njit(**_options)
def contract_overlaps(overlaps, n_l, degrees, rows, sources, values, out):
    """Write scalar products of lambda-SOAP vectors into out (n_rows, 2 lambda + 1, n_columns, 2 lambda + 1).

    overlaps: flat, for each l < n_l an array (m, row, n, column); degrees .. values: see pair_couplings.
    """
    n_rows, n_mu, n_columns, _ = out.shape
    source = memory(overlaps)
    width = lanes(source)
    gathered, half = np.empty(n_l * (4 * n_l * n_l - 1) // 3 * width), np.empty((2 * n_l - 1) ** 2 * width)
    totals = np.empty(n_mu * width)
    for i in range(n_rows):
        for j in range(0, n_columns, width):
            _gather(source, n_l, i, n_rows, j, n_columns, memory(gathered))
            for nu in range(n_mu):
                for mu in range(n_mu):
                    store(memory(totals), mu * width, zero(source))
                for p in range(degrees.shape[0]):
                    _add_pair(memory(gathered), degrees[p, 0], degrees[p, 1], rows[p], nu, n_mu, sources, values,
                              memory(half), memory(totals))  # fmt: skip
                for mu in range(n_mu):
                    for k in range(min(width, n_columns - j)):
                        out[i, mu, j + k, nu] = element(memory(totals), mu * width + k)
    keep(gathered)
    keep(half)
    keep(totals)
