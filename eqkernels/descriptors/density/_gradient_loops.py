"""Loops of the derivatives of density coefficients by the vectors to neighbors: all of them, and a contraction."""

import numpy as np

from eqkernels._compile import njit
from eqkernels._vectors import (
    add_product,
    divided,
    dot,
    element,
    filled,
    fused,
    lanes,
    load,
    load_first,
    memory,
    scaled,
    store,
    store_first,
    times,
    zero,
)
from eqkernels.descriptors.density._pair_loops import BLOCK, harmonics_block, sort_pairs, table_interval, unit_vectors

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def gradients_block(x, y, z, r, l_max, legendre, cosine, sine, gradients):
    """Fill the gradients (3, (l_max + 1)^2, BLOCK) of Y_lm(v / |v|) with respect to v = r (x, y, z).

    With f = legendre(z) cosine(x, y) extended from the sphere into space, the gradient is the tangential part of that
    of f, over r. The derivative of legendre[l, m] is legendre[l, m + 1] but for the norm.
    """
    at_x, at_y, at_z, at_r = memory(x), memory(y), memory(z), memory(r)
    legendres, cosines, sines, out = memory(legendre), memory(cosine), memory(sine), memory(gradients)
    n_lm = (l_max + 1) * (l_max + 1)
    for k in range(0, BLOCK, lanes(at_x)):
        vx, vy, vz, nothing = load(at_x, k), load(at_y, k), load(at_z, k), zero(at_x)
        inverse = divided(filled(at_x, 1.0), load(at_r, k))
        for l in range(l_max + 1):
            for m in range(l + 1):
                row = l * (l + 1) // 2 + m
                p, slope = scaled(float(m), load(legendres, row * BLOCK + k)), nothing
                if m < l:
                    norm = np.sqrt((l - m) * (l + m + 1) * (0.5 if m == 0 else 1.0))
                    slope = scaled(norm, load(legendres, (row + 1) * BLOCK + k))
                lower = max(m - 1, 0) * BLOCK + k
                c, s = load(cosines, lower), load(sines, lower)
                for sign in range(1 if m == 0 else 2):
                    lm = l * l + l + (m if sign == 0 else -m)
                    if sign == 0:
                        gx, gy, gz = times(p, c), scaled(-1.0, times(p, s)), times(slope, load(cosines, m * BLOCK + k))
                    else:
                        gx, gy, gz = times(p, s), times(p, c), times(slope, load(sines, m * BLOCK + k))
                    radial = scaled(-1.0, fused(gx, vx, fused(gy, vy, times(gz, vz))))
                    store(out, lm * BLOCK + k, times(fused(radial, vx, gx), inverse))
                    store(out, (n_lm + lm) * BLOCK + k, times(fused(radial, vy, gy), inverse))
                    store(out, (2 * n_lm + lm) * BLOCK + k, times(fused(radial, vz, gz), inverse))


@njit(**_options)
def slopes_block(distances, size, split, cutoff, n_inner, coefficients, radial, slopes):
    """Fill radial and slopes (BLOCK, n_functions): the tabulated functions and their derivatives."""
    n_intervals, n_powers, n_functions = coefficients.shape
    table, out, derivative = memory(coefficients), memory(radial), memory(slopes)
    for k in range(size):
        interval, t, dt = table_interval(distances[k], split, cutoff, n_inner, n_intervals)
        start = interval * n_powers * n_functions
        for f in range(0, n_functions, lanes(table)):
            value, slope = load(table, start + (n_powers - 1) * n_functions + f), zero(table)
            for power in range(n_powers - 2, -1, -1):
                slope = add_product(value, t, slope)
                value = add_product(load(table, start + power * n_functions + f), t, value)
            store(out, k * n_functions + f, value)
            store(derivative, k * n_functions + f, scaled(dt, slope))


@njit(**_options)
def _add_gradient(harmonics, gradients, radial, slopes, stride, k, x, y, z, l_max, n_max, gradient, start):
    """Add the gradient of the coefficients of pair k of a block: d(Y W) = Y W' v / r + W dY, for three directions."""
    n_lm, width = (l_max + 1) * (l_max + 1), lanes(gradient)
    for l in range(l_max + 1):
        for n in range(0, n_max, width):
            count, source = n_max - n, k * stride + l * n_max + n
            weight, slope = load(radial, source), load(slopes, source)
            for lm in range(l * l, (l + 1) * (l + 1)):
                along, at = scaled(element(harmonics, lm * BLOCK + k), slope), start + lm * n_max + n
                total = add_product(load_first(gradient, at, count), x, along)
                store_first(gradient, at, add_product(total, element(gradients, lm * BLOCK + k), weight), count)
                at += n_lm * n_max
                total = add_product(load_first(gradient, at, count), y, along)
                change = element(gradients, (n_lm + lm) * BLOCK + k)
                store_first(gradient, at, add_product(total, change, weight), count)
                at += n_lm * n_max
                total = add_product(load_first(gradient, at, count), z, along)
                change = element(gradients, (2 * n_lm + lm) * BLOCK + k)
                store_first(gradient, at, add_product(total, change, weight), count)


@njit(**_options)
def expand_gradients(order, items, vectors, distances, l_max, n_max, prefactors, split, cutoff, n_inner, coefficients,
                     gradient):  # fmt: skip
    """Add to gradient[items[k]] the derivative of c[lm, n] by the position of the neighbor of pair order[k].

    gradient (n_items, 3, (l_max + 1)^2, n_max), contiguous; all else as in expand_density.
    """
    n_lm = (l_max + 1) * (l_max + 1)
    x, y, z, r = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    legendre = np.empty(((l_max + 1) * (l_max + 2) // 2, BLOCK))
    cosine, sine = np.empty((l_max + 1, BLOCK)), np.empty((l_max + 1, BLOCK))
    harmonics, by_vector = np.empty((n_lm, BLOCK)), np.empty((3, n_lm, BLOCK))
    radial, slopes = np.zeros((BLOCK + 1, coefficients.shape[2])), np.zeros((BLOCK + 1, coefficients.shape[2]))
    out = memory(gradient)
    for start in range(0, len(order), BLOCK):
        size = min(BLOCK, len(order) - start)
        unit_vectors(order, start, size, vectors, distances, x, y, z, r)
        harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics)
        gradients_block(x, y, z, r, l_max, legendre, cosine, sine, by_vector)
        slopes_block(r, size, split, cutoff, n_inner, coefficients, radial, slopes)
        for k in range(size):
            _add_gradient(memory(harmonics), memory(by_vector), memory(radial), memory(slopes), radial.shape[1], k,
                          x[k], y[k], z[k], l_max, n_max, out, items[start + k] * 3 * n_lm * n_max)  # fmt: skip


@njit(**_options)
def _contract_pair(harmonics, gradients, radial, slopes, stride, k, l_max, n_max, n_channels, cotangent, first):
    """Sum over lm, n of a cotangent times Y W', and times W dY for three directions, for pair k of a block."""
    n_lm, width = (l_max + 1) * (l_max + 1), lanes(cotangent)
    along, gx, gy, gz = zero(cotangent), zero(cotangent), zero(cotangent), zero(cotangent)
    for l in range(l_max + 1):
        for n in range(0, n_max, width):
            a, b, c, d = zero(cotangent), zero(cotangent), zero(cotangent), zero(cotangent)
            for lm in range(l * l, (l + 1) * (l + 1)):
                factor, at = load_first(cotangent, first + lm * n_channels + n, n_max - n), lm * BLOCK + k
                a = add_product(a, element(harmonics, at), factor)
                b = add_product(b, element(gradients, at), factor)
                c = add_product(c, element(gradients, n_lm * BLOCK + at), factor)
                d = add_product(d, element(gradients, 2 * n_lm * BLOCK + at), factor)
            weight = load(radial, k * stride + l * n_max + n)
            along = fused(a, load(slopes, k * stride + l * n_max + n), along)
            gx, gy, gz = fused(b, weight, gx), fused(c, weight, gy), fused(d, weight, gz)
    ones = filled(cotangent, 1.0)
    return dot(along, ones), dot(gx, ones), dot(gy, ones), dot(gz, ones)


@njit(**_options)
def contract_gradients(centers, offsets, neighbors, vectors, distances, channels, n_species, l_max, n_max, prefactors,
                       split, cutoff, n_inner, coefficients, cotangent, out):  # fmt: skip
    """Write, for every pair, the derivative by its vector of sum(cotangent * density) over the centers.

    cotangent (n_centers, (l_max + 1)^2, n_channels); out (n_pairs, 3), left as it is for pairs that do not count; all
    else as in expand_density.
    """
    order, rows, firsts, starts = sort_pairs(centers, offsets, neighbors, channels, n_max, n_species)
    n_channels, n_lm = n_species * n_max, (l_max + 1) * (l_max + 1)
    x, y, z, r = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    legendre = np.empty(((l_max + 1) * (l_max + 2) // 2, BLOCK))
    cosine, sine = np.empty((l_max + 1, BLOCK)), np.empty((l_max + 1, BLOCK))
    harmonics, by_vector = np.empty((n_lm, BLOCK)), np.empty((3, n_lm, BLOCK))
    radial, slopes = np.zeros((BLOCK + 1, coefficients.shape[2])), np.zeros((BLOCK + 1, coefficients.shape[2]))
    run, cotangents = 0, memory(cotangent)
    for start in range(0, len(order), BLOCK):
        size = min(BLOCK, len(order) - start)
        unit_vectors(order, start, size, vectors, distances, x, y, z, r)
        harmonics_block(x, y, z, l_max, prefactors, legendre, cosine, sine, harmonics)
        gradients_block(x, y, z, r, l_max, legendre, cosine, sine, by_vector)
        slopes_block(r, size, split, cutoff, n_inner, coefficients, radial, slopes)
        for k in range(size):
            while starts[run + 1] <= start + k:
                run += 1
            first = rows[run] * n_lm * n_channels + firsts[run]
            along, gx, gy, gz = _contract_pair(
                memory(harmonics), memory(by_vector), memory(radial), memory(slopes), radial.shape[1], k, l_max, n_max,
                n_channels, cotangents, first,
            )  # fmt: skip
            p = order[start + k]
            out[p, 0], out[p, 1], out[p, 2] = gx + along * x[k], gy + along * y[k], gz + along * z[k]
