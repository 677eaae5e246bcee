"""The formulas as printed, in loops and quadratures, to compare the fast code with."""

import numpy as np
from ase.neighborlist import neighbor_list

from eqkernels.descriptors.products.channels import pair_channels
from eqkernels.radial.table import cutoff_function, radial_scaling
from eqkernels.so3 import clebsch_gordan, spherical_harmonics


def sphere_quadrature(degree):
    """Directions and weights that integrate polynomials of the given degree over the sphere."""
    z, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    rho = np.sqrt(1 - z**2)[:, None]
    points = np.stack([rho * np.cos(angles), rho * np.sin(angles), z[:, None] + 0 * angles], axis=-1)
    return points.reshape(-1, 3), np.repeat(weights, len(angles)) * 2 * np.pi / len(angles)


def neighbors_of(atoms, center, cutoff):
    """Vectors and atomic numbers of the neighbors of one atom, from ASE."""
    i, j, vectors = neighbor_list("ijD", atoms, cutoff)
    return vectors[i == center], atoms.numbers[j[i == center]]


def density_coefficients(atoms, center, species, basis, l_max, sigma, cutoff, width, center_weight, scaling):
    """c[lm, a, n] by brute force: the density, Gaussian by Gaussian, on a three-dimensional grid of points."""
    vectors, numbers = neighbors_of(atoms, center, cutoff)
    distances = np.linalg.norm(vectors, axis=1)
    weights = cutoff_function(distances, cutoff, width) * radial_scaling(distances, *scaling)
    vectors = np.vstack([vectors, np.zeros(3)])
    numbers, weights = np.append(numbers, atoms.numbers[center]), np.append(weights, center_weight)

    nodes, radial_weights = np.polynomial.legendre.leggauss(120)
    end = min(basis.support, cutoff + 9 * sigma)
    r, radial_weights = (nodes + 1) / 2 * end, radial_weights / 2 * end
    directions, angular_weights = sphere_quadrature(90)
    points = r[:, None, None] * directions
    harmonics = spherical_harmonics(directions, l_max) * angular_weights[:, None]
    out = np.zeros(((l_max + 1) ** 2, len(species), basis.n_max))
    for column, number in enumerate(species):
        density = np.zeros(points.shape[:2])
        for vector, weight in zip(vectors[numbers == number], weights[numbers == number], strict=True):
            squares = ((points - vector) ** 2).sum(axis=-1)
            density += weight * np.exp(-squares / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** 1.5
        shells = density @ harmonics  # (r, lm)
        for l in range(l_max + 1):
            functions = basis.evaluate(l, r) * r**2 * radial_weights
            out[l * l : (l + 1) ** 2, column] = shells[:, l * l : (l + 1) ** 2].T @ functions.T
    return out


def lambda_soap(density, l_max, lam, parity):
    """One block of one center from its coefficients (lm, q): sum_mm' <lm l'm'|lambda mu> c_qlm c_q'l'm'."""
    n_channels = density.shape[1]
    features = []
    for l1 in range(l_max + 1):
        for l2 in range(l1, l_max + 1):
            if not abs(l1 - l2) <= lam <= l1 + l2 or (-1) ** (l1 + l2) != parity:
                continue
            c1, c2 = density[l1**2 : (l1 + 1) ** 2], density[l2**2 : (l2 + 1) ** 2]
            products = np.einsum("abm,aq,bp->mqp", clebsch_gordan(l1, l2, lam), c1, c2)
            q1, q2 = pair_channels(n_channels, l1, l2, lam)
            weight = np.where((l1 == l2) & (q1 == q2), 1.0, np.sqrt(2.0))
            features.append(weight * products[:, q1, q2])
    return np.concatenate(features, axis=1)


def rotation_quadrature(n):
    """Rotation matrices and weights (sum 1) that integrate Wigner D matrices up to degree n - 1 over SO(3)."""
    from scipy.spatial.transform import Rotation

    z, weights = np.polynomial.legendre.leggauss(n // 2 + 1)
    angles = 2 * np.pi * np.arange(n) / n
    euler = np.array([(a, b, c) for a in angles for b in np.arccos(z) for c in angles])
    weights = np.tile(np.repeat(weights / 2, n), n) / n**2
    return Rotation.from_euler("ZYZ", euler).as_matrix(), weights
