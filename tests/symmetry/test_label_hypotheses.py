import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eqkernels.symmetry.label_hypotheses import apply, fixed_hypotheses, rotated, scaled


def test_apply_turns_every_index():
    random = np.random.default_rng(0)
    matrix, tensors = Rotation.random(random_state=0).as_matrix(), random.normal(size=(2, 3, 3, 3))
    expected = np.einsum("ai,bj,ck,nijk->nabc", matrix, matrix, matrix, tensors)
    assert np.allclose(apply(matrix, tensors), expected)


def test_e3nn_order_is_undone():
    vectors = np.array([[1.0, 2.0, 3.0]])
    stored = vectors[:, [1, 2, 0]]
    (one,) = [one for one in fixed_hypotheses(1, False) if "e3nn" in one.text]
    assert np.array_equal(one.undo(stored), vectors)


def test_rotation_is_found():
    tensors = np.random.default_rng(0).normal(size=(4, 3, 3))
    turn = Rotation.from_rotvec([0.3, 1.2, -0.8]).as_matrix()
    found = rotated(apply(turn, tensors), lambda values: float(np.sum((values - tensors) ** 2)), False)
    assert np.allclose(found.undo(apply(turn, tensors)), tensors, atol=1e-4)


@pytest.mark.parametrize(("factor", "name"), [(27.2114, "hartree and eV"), (0.1481847, "a0^3 and Angstrom^3")])
def test_units_by_name(factor, name):
    tensors = np.random.default_rng(0).normal(size=(4, 3, 3))
    assert name in scaled(factor * tensors, tensors).text
    assert scaled(1.01 * tensors, tensors) is None
