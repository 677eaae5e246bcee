import numpy as np
import pytest

from eqkernels.plotting.meshes import (
    arrow,
    ellipsoid,
    ellipsoid_axes,
    faces,
    harmonics_signal,
    longitudinal_signal,
    unit_directions,
)
from eqkernels.so3 import CartesianTensor, wigner_d
from eqkernels.testing import random_rotation

RANDOM = np.random.default_rng(0)


def surface(values, directions):
    return np.abs(values)[..., None] * directions


@pytest.mark.parametrize("irreps", [["0e"], ["1o"], ["2e"], ["3o"], ["4e"], ["6e"], ["0e", "2e"], ["1o", "2e", "3o"]])
@pytest.mark.parametrize("parity", [1, -1])
def test_surface_of_rotated_harmonics_is_the_rotated_surface(irreps, parity):
    rotation, directions = parity * random_rotation(1), unit_directions(12)
    blocks = {key: RANDOM.normal(size=2 * int(key[0]) + 1) for key in irreps}
    turned = {key: wigner_d(key, rotation) @ one for key, one in blocks.items()}
    before, after = harmonics_signal(blocks, directions), harmonics_signal(turned, directions @ rotation.T)
    np.testing.assert_allclose(after, before, atol=1e-10)
    expected = surface(before, directions) @ rotation.T
    np.testing.assert_allclose(surface(after, directions @ rotation.T), expected, atol=1e-10)


def test_harmonics_of_a_vector_point_along_it():
    vector, directions = RANDOM.normal(size=3), unit_directions(8)
    block = CartesianTensor("i").to_irreps(vector)["1o"][:, 0]
    expected = np.sqrt(3 / (4 * np.pi)) * directions @ vector
    np.testing.assert_allclose(harmonics_signal({"1o": block}, directions), expected, atol=1e-12)


def test_harmonics_of_a_matrix_are_those_of_its_parts():
    matrix, directions = RANDOM.normal(size=(3, 3)), unit_directions(8)
    matrix += matrix.T
    blocks = {key: one[:, 0] for key, one in CartesianTensor("ij=ji").to_irreps(matrix).items()}
    trace = np.trace(matrix)
    traceless = np.einsum("pqi,ij,pqj->pq", directions, matrix - trace / 3 * np.eye(3), directions)
    # the traceless part n^T A n is orthonormal components times sqrt(8 pi / 15) Y_2m
    expected = trace / np.sqrt(3) / np.sqrt(4 * np.pi) + traceless / np.sqrt(8 * np.pi / 15)
    np.testing.assert_allclose(harmonics_signal(blocks, directions), expected, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
def test_longitudinal_component(rank):
    tensor, directions, rotation = RANDOM.normal(size=(3,) * rank), unit_directions(6), random_rotation(2)
    values = longitudinal_signal(tensor, directions)
    for p, q in ((0, 0), (2, 5), (6, 12)):
        naive = tensor
        for _ in range(rank):
            naive = sum(directions[p, q, i] * naive[i] for i in range(3))
        assert values[p, q] == pytest.approx(naive)
    for _ in range(rank):  # each index in turn
        tensor = np.moveaxis(np.tensordot(tensor, rotation, axes=(0, 1)), -1, -1)
    np.testing.assert_allclose(longitudinal_signal(tensor, directions @ rotation.T), values, atol=1e-10)


def test_axes_of_the_ellipsoid_are_eigenvectors():
    matrix, directions = RANDOM.normal(size=(3, 3)), unit_directions(8)
    matrix += matrix.T
    values, vectors = ellipsoid_axes(matrix)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-12)
    assert np.linalg.det(vectors) == pytest.approx(1)
    points, signs = ellipsoid(matrix, directions)
    inside = vectors @ np.diag(1 / values**2) @ vectors.T
    np.testing.assert_allclose(np.einsum("pqi,ij,pqj->pq", points, inside, points), 1, atol=1e-10)
    for k in range(3):  # the end of each axis
        end, value = ellipsoid(matrix, np.eye(3)[[k]])
        np.testing.assert_allclose(end[0], abs(values[k]) * vectors[:, k], atol=1e-12)
        assert value[0] == pytest.approx(values[k])
    assert (signs < 0).any() == (values < 0).any()


def test_ellipsoid_of_a_rotated_matrix_is_the_rotated_ellipsoid():
    rotation, directions = random_rotation(3), unit_directions(8)
    matrix = np.diag([3.0, -2.0, 0.5])
    turned = rotation @ matrix @ rotation.T
    points, values = ellipsoid(turned, directions)
    _, vectors = np.linalg.eigh(turned)
    back = points @ rotation  # must lie on the ellipsoid of the matrix itself
    np.testing.assert_allclose(np.sum((back / np.diag(matrix)) ** 2, axis=-1), 1, atol=1e-10)
    sphere = back / np.abs(np.diag(matrix))
    np.testing.assert_allclose(values, np.sum(sphere**2 * np.diag(matrix), axis=-1), atol=1e-10)


@pytest.mark.parametrize("vector", [[0, 0, 2.0], [0, -1e-3, 0], [3.0, 4.0, 12.0]])
def test_arrow_ends_at_the_vector(vector):
    points = arrow(np.array(vector))
    length = np.linalg.norm(vector)
    np.testing.assert_allclose(points[-1], np.tile(vector, (points.shape[1], 1)), atol=1e-12)
    np.testing.assert_allclose(points[0], 0, atol=1e-12)
    along = points @ vector / length
    across = np.linalg.norm(points - along[..., None] * np.array(vector) / length, axis=-1)
    assert across.max() <= 0.091 * length
    assert along.min() > -1e-12
    assert along.max() < length + 1e-12


def test_faces_close_the_surface():
    points = unit_directions(40)
    quadrilaterals, values = faces(points, points[..., 2])
    assert len(quadrilaterals) == 40 * 80
    normals = np.cross(quadrilaterals[:, 2] - quadrilaterals[:, 0], quadrilaterals[:, 3] - quadrilaterals[:, 1]) / 2
    assert np.linalg.norm(normals, axis=1).sum() == pytest.approx(4 * np.pi, rel=2e-3)
    assert (np.sum(normals * quadrilaterals.mean(axis=1), axis=1) > 0).all()  # outwards
    np.testing.assert_allclose(values, quadrilaterals[:, :, 2].mean(axis=1))
