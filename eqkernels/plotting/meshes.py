r"""Meshes of tensors, atoms and bonds in three dimensions.

Each is a grid of points (p, q, 3) whose neighbors span the faces, and comes with a value at each point, of which the
sign is the color. A rotation of the tensor rotates the surface:

- surfaces of harmonics, :math:`\mathbf r(\mathbf n) = |f(\mathbf n)|\, \mathbf n` with
  :math:`f(\mathbf n) = \sum_{lm} c_{lm} Y_{lm}(\mathbf n)`, see T. E. Smidt, Trends Chem. 3, 82 (2021), figure 2;
- longitudinal surfaces, the same with :math:`f(\mathbf n) = T_{ij\ldots k} n_i n_j \ldots n_k`;
- ellipsoids, whose semiaxes point along the eigenvectors of a symmetric matrix and are as long as the moduli of its
  eigenvalues; the value at a point is :math:`\mathbf u^T A\, \mathbf u`, with u the point of the unit sphere that the
  ellipsoid is made of;
- arrows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eqkernels._types import Floats
from eqkernels.so3 import Irrep, spherical_harmonics

# Radius of the stem of an arrow and of its head, and length of the head, relative to the length of the arrow; at most
# so thick, in Angstrom.
_STEM, _HEAD, _HEAD_LENGTH, _THICKEST = 0.035, 0.09, 0.25, 0.09


def unit_directions(n_polar: int = 36) -> Floats:
    """Grid of directions over the sphere, of shape (n_polar + 1, 2 n_polar + 1, 3), its poles along z."""
    polar = np.linspace(0, np.pi, n_polar + 1)[:, None]
    azimuth = np.linspace(0, 2 * np.pi, 2 * n_polar + 1)
    z = np.broadcast_to(np.cos(polar), (len(polar), len(azimuth)))
    return np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), z], axis=-1)


def harmonics_signal(blocks: Mapping[str, Any], directions: Floats) -> Floats:
    """Sum of spherical harmonics in each direction.

    Parameters
    ----------
    blocks : dict of str to array-like of shape (2 l + 1,)
        Coefficients by irrep; the parity makes no difference.
    directions : ndarray of shape (..., 3)
        Unit vectors.

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> (harmonics_signal({"1o": [0.0, 1.0, 0.0]}, np.eye(3)) * np.sqrt(4 * np.pi / 3)).round(12)
    array([0., 0., 1.])
    """
    degrees = {key: Irrep.parse(key).l for key in blocks}
    coefficients = np.zeros((max(degrees.values()) + 1) ** 2)
    for key, l in degrees.items():
        coefficients[l**2 : (l + 1) ** 2] += blocks[key]
    return spherical_harmonics(directions, max(degrees.values())) @ coefficients


def longitudinal_signal(tensor: Floats, directions: Floats) -> Floats:
    """Component of a tensor (3, ..., 3) that has all indices along each of the directions (..., 3)."""
    values = np.broadcast_to(tensor, (*directions.shape[:-1], *tensor.shape))
    flat, vectors = values.reshape(-1, *tensor.shape), directions.reshape(-1, 3)
    for _ in range(tensor.ndim):
        flat = np.einsum("ni...,ni->n...", flat, vectors)
    return flat.reshape(directions.shape[:-1])


def ellipsoid_axes(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues of a symmetric matrix, and a right-handed frame of its eigenvectors in columns."""
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors * np.sign(np.linalg.det(vectors))


def ellipsoid(matrix: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Points of an ellipsoid and the values at them, for the points ``directions`` of the unit sphere."""
    values, vectors = ellipsoid_axes(matrix)
    return (directions * np.abs(values)) @ vectors.T, directions**2 @ values


def arrow(vector: Floats, n_azimuth: int = 24) -> Floats:
    """Points of an arrow from the origin to the end of a vector."""
    length = float(np.linalg.norm(vector))
    stem, head, head_length = arrow_sizes(length)
    heights = np.array([0.0, 0.0, length - head_length, length - head_length, length])
    return revolved(vector, heights, np.array([0.0, stem, stem, head, 0.0]), n_azimuth)


def arrow_sizes(length: float) -> tuple[float, float, float]:
    """Radius of the stem of an arrow and of its head, and length of the head."""
    size = min(length, _THICKEST / _STEM)
    return _STEM * size, _HEAD * size, _HEAD_LENGTH * size


def revolved(axis: Floats, heights: Floats, radii: Floats, n_azimuth: int = 24) -> Floats:
    """Points of a body of revolution around an axis through the origin, shape (n_heights, n_azimuth + 1, 3)."""
    axis = axis / np.linalg.norm(axis)
    first = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    first /= np.linalg.norm(first)
    angles = np.linspace(0, 2 * np.pi, n_azimuth + 1)[:, None]
    circle = np.cos(angles) * first + np.sin(angles) * np.cross(axis, first)
    return heights[:, None, None] * axis + radii[:, None, None] * circle


def faces(points: Floats, values: Floats | None = None) -> tuple[Floats, Floats]:
    """Quadrilaterals (n_faces, 4, 3) between neighbors of a grid, and the mean of the values at their corners."""
    values = np.ones(points.shape[:-1]) if values is None else values
    corners = [(slice(None, -1), slice(None, -1)), (slice(1, None), slice(None, -1)),
               (slice(1, None), slice(1, None)), (slice(None, -1), slice(1, None))]  # fmt: skip
    quadrilaterals = np.stack([points[corner] for corner in corners], axis=2).reshape(-1, 4, 3)
    return quadrilaterals, np.mean([values[corner] for corner in corners], axis=0).ravel()
