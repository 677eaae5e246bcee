import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eqkernels.so3 import spherical_harmonics, wigner_d
from eqkernels.testing import random_rotation

ROTATIONS = [random_rotation(1), -random_rotation(2), np.eye(3), np.diag([1.0, 1.0, -1.0]), np.diag([1.0, -1.0, -1.0])]


@pytest.mark.parametrize("l", [0, 1, 2, 5, 12, 30])
def test_turns_harmonics(l):
    vectors = np.random.default_rng(0).normal(size=(10, 3))
    before = spherical_harmonics(vectors, l)[:, l**2 :]
    for rotation in ROTATIONS:
        after = spherical_harmonics(vectors @ rotation.T, l)[:, l**2 :]
        np.testing.assert_allclose(before @ wigner_d(l, rotation).T, after, atol=1e-11)


@pytest.mark.parametrize("irrep", ["0o", "1e", "2o", "3e", "30o"])
def test_homomorphism_and_orthogonality(irrep):
    for a in ROTATIONS:
        for b in ROTATIONS:
            da, db = wigner_d(irrep, a), wigner_d(irrep, b)
            np.testing.assert_allclose(da @ db, wigner_d(irrep, a @ b), atol=1e-11)
            np.testing.assert_allclose(da @ da.T, np.eye(len(da)), atol=1e-11)


def test_parity():
    for irrep, sign in (("0e", 1), ("0o", -1), ("1o", -1), ("1e", 1), ("2o", -1)):
        d = wigner_d(irrep, -np.eye(3))
        np.testing.assert_allclose(d, sign * np.eye(len(d)), atol=1e-13)


def test_batches_and_scipy_rotations():
    rotations = Rotation.random(6, random_state=0)
    batch = wigner_d(3, rotations.as_matrix().reshape(2, 3, 3, 3))
    np.testing.assert_allclose(batch.reshape(6, 7, 7), wigner_d("3o", rotations))
    np.testing.assert_allclose(batch[1, 0], wigner_d(3, rotations[3]))


def test_degree_from_numpy():
    np.testing.assert_array_equal(wigner_d(np.int64(3), -np.eye(3)), wigner_d("3o", -np.eye(3)))


def test_wrong_input():
    with pytest.raises(TypeError, match="l=True must be an integer"):
        wigner_d(True, np.eye(3))
    with pytest.raises(ValueError, match="l=-1 must not be negative"):
        wigner_d(-1, np.eye(3))
    with pytest.raises(ValueError, match="not orthogonal"):
        wigner_d(1, np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="not orthogonal: R R\\^T deviates from 1 by"):
        wigner_d(1, 1.1 * np.eye(3))
    with pytest.raises(ValueError, match="expected \\(..., 3, 3\\)"):
        wigner_d(1, np.eye(2))
