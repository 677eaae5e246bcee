"""Loops of sums over wave vectors: which ones there are, and the phases of atoms."""

import numpy as np

from eqkernels._compile import njit

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def half_space(reciprocal, cutoff, bounds, indices):
    """Write the integers (n, 3) of wave vectors n @ reciprocal shorter than a cutoff, one of k and -k, without 0.

    bounds (3): largest integers; indices: written as far as it reaches. Return how many there are.
    """
    found = 0
    for n0 in range(bounds[0] + 1):
        for n1 in range(-bounds[1] if n0 > 0 else 0, bounds[1] + 1):
            for n2 in range(-bounds[2] if n0 > 0 or n1 > 0 else 1, bounds[2] + 1):
                square = 0.0
                for x in range(3):
                    k = n0 * reciprocal[0, x] + n1 * reciprocal[1, x] + n2 * reciprocal[2, x]
                    square += k * k
                if square < cutoff * cutoff:
                    if found < len(indices):
                        indices[found, 0], indices[found, 1], indices[found, 2] = n0, n1, n2
                    found += 1
    return found


@njit(**_options)
def phases(fractions, indices, bounds, cosines, sines):
    """Write cos and sin (n_atoms, n_k) of 2 pi n . s for fractional coordinates s (n_atoms, 3) and integers (n_k, 3).

    They are products of the phases along the three directions.
    """
    width = 2 * np.max(bounds) + 1
    real, imaginary = np.empty((3, width)), np.empty((3, width))
    for i in range(len(fractions)):
        for x in range(3):
            for n in range(-bounds[x], bounds[x] + 1):
                angle = 2 * np.pi * n * fractions[i, x]
                real[x, n + bounds[x]], imaginary[x, n + bounds[x]] = np.cos(angle), np.sin(angle)
        for k in range(len(indices)):
            a, b, c = indices[k, 0] + bounds[0], indices[k, 1] + bounds[1], indices[k, 2] + bounds[2]
            re = real[0, a] * real[1, b] - imaginary[0, a] * imaginary[1, b]
            im = real[0, a] * imaginary[1, b] + imaginary[0, a] * real[1, b]
            cosines[i, k] = re * real[2, c] - im * imaginary[2, c]
            sines[i, k] = re * imaginary[2, c] + im * real[2, c]


@njit(**_options)
def structure_pairs(centers, starts, stops, positions, neighbors, vectors, distances, offsets):
    """Write the pairs of some centers with all other atoms starts[c] .. stops[c] - 1 of their structures.

    offsets (n_atoms + 1): pairs of each atom, of which those of other atoms than the centers are none.
    """
    found, done = 0, 0
    for c, i in enumerate(centers):
        offsets[done : i + 1] = found
        for j in range(starts[c], stops[c]):
            if j != i:
                square = 0.0
                for x in range(3):
                    vectors[found, x] = positions[j, x] - positions[i, x]
                    square += vectors[found, x] * vectors[found, x]
                neighbors[found], distances[found] = j, np.sqrt(square)
                found += 1
        done = i + 1
    offsets[done:] = found


@njit(**_options)
def relative_phases(cosines, sines, sums, real, imaginary):
    """Write cosines and sines (n_atoms, n_k) of k . (r_i - r_j), summed over j: sums (2, n_k) are those of j."""
    for i in range(len(cosines)):
        for k in range(cosines.shape[1]):
            real[i, k] = cosines[i, k] * sums[0, k] + sines[i, k] * sums[1, k]
            imaginary[i, k] = sines[i, k] * sums[0, k] - cosines[i, k] * sums[1, k]


@njit(**_options)
def contract_phases(cosines, sines, real, imaginary, by_real, by_imaginary, of_centers, of_others):
    """Add the derivatives of sum(by_real * real + by_imaginary * imaginary) by the phases of centers and others.

    All (n_atoms, n_k); of_others (2, n_k) is to be multiplied with the cosines and sines of atoms j, the second one
    subtracted.
    """
    for i in range(len(cosines)):
        for k in range(cosines.shape[1]):
            a, b = by_real[i, k], by_imaginary[i, k]
            of_centers[i, k] += b * real[i, k] - a * imaginary[i, k]
            of_others[0, k] += a * sines[i, k] - b * cosines[i, k]
            of_others[1, k] += a * cosines[i, k] + b * sines[i, k]
