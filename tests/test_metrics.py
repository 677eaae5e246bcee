import numpy as np
import pytest

from eqkernels.metrics import frobenius_mae, frobenius_rmse, irrep_rmse, neg_irrep_rmse, tensor_r2
from eqkernels.testing import random_rotation


@pytest.fixture
def tensors():
    random = np.random.default_rng(0)
    true = random.normal(size=(20, 3, 3)) + 2 * np.eye(3)
    return true, true + 0.1 * random.normal(size=(20, 3, 3))


def turned(values, seed):
    """Every tensor in a laboratory frame of its own."""
    rotations = [random_rotation(seed + k) for k in range(len(values))]
    return np.array([r @ t @ r.T for r, t in zip(rotations, values, strict=True)])


@pytest.mark.parametrize("metric", [frobenius_rmse, frobenius_mae, tensor_r2])
def test_do_not_depend_on_the_frames(tensors, metric):
    true, pred = tensors
    assert metric(turned(true, 5), turned(pred, 5)) == pytest.approx(metric(true, pred), rel=1e-10)


def test_irreps_split_the_squared_error(tensors):
    true, pred = tensors
    errors = irrep_rmse(true, pred)
    assert list(errors) == ["0e", "1e", "2e"]
    total = sum((2 * int(key[0]) + 1) * error**2 for key, error in errors.items())
    assert total == pytest.approx(frobenius_rmse(true, pred) ** 2)
    assert irrep_rmse(turned(true, 1), turned(pred, 1)) == pytest.approx(errors)


def test_r2_of_simple_models(tensors):
    true, _ = tensors
    mean_trace = np.trace(true, axis1=1, axis2=2).mean() / 3
    assert tensor_r2(true, np.broadcast_to(mean_trace * np.eye(3), true.shape)) == pytest.approx(0.0, abs=1e-12)
    assert tensor_r2(true, true) == 1.0
    assert np.isnan(tensor_r2(np.ones(4), np.zeros(4)))
    scalars, guess = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.5, 3.0])
    from sklearn.metrics import r2_score

    assert tensor_r2(scalars, guess) == pytest.approx(r2_score(scalars, guess))


def test_weights_and_gaps():
    true = [np.ones((2, 3)), np.full((1, 3), np.nan), np.zeros((1, 3))]
    pred = [np.ones((2, 3)), np.zeros((1, 3)), np.array([[3.0, 0.0, 4.0]])]
    assert frobenius_mae(true, pred) == pytest.approx(5 / 3)
    assert frobenius_mae(true, pred, sample_weight=[1, 1, 2]) == pytest.approx(10 / 4)
    with pytest.raises(ValueError, match="different numbers"):
        frobenius_mae(true, pred[:2])


def test_wrong_shapes(tensors):
    true, pred = tensors
    with pytest.raises(ValueError, match=r"y_true has shape \(20, 3, 3\), y_pred \(10, 3, 3\)"):
        frobenius_rmse(true, pred[:10])

    class Fixed:
        def predict(self, X):
            return pred

    with pytest.raises(ValueError, match="irrep '4e' does not occur in y, which has 0e, 1e, 2e"):
        neg_irrep_rmse("4e")(Fixed(), None, true)


@pytest.mark.parametrize("metric", [frobenius_rmse, frobenius_mae, tensor_r2, irrep_rmse])
def test_labels_and_weights_that_are_unusable_are_named(tensors, metric):
    true, pred = tensors
    gap = true.copy()
    gap[7, 1] = np.nan
    weight = np.ones(20)
    for arguments, message in (
        (([], []), "no tensors in y_true"),
        ((gap, pred), "y_true of structure 7 is NaN"),
        ((true, gap), "y_pred of structure 7 is NaN"),
        (([true[:12], gap[12:]], [gap[:12], pred[12:]]), "y_pred of structure 0, atom 7 is NaN"),
        ((true.reshape(20, 9), pred.reshape(20, 9)), r"trailing shape \(9,\), expected that of a tensor"),
        ((1j * true, pred), "y_true is complex"),
        ((true, [one[0] for one in pred]), "tensors of structures or of 3 atoms each"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(*arguments)
    for wrong in (-weight, np.nan * weight, 0 * weight, weight[:5], 1.0):
        with pytest.raises(ValueError, match="sample_weight"):
            metric(true, pred, sample_weight=wrong)
    expected = metric(true, pred, sample_weight=np.arange(20.0))
    assert metric(true, pred, sample_weight=1e300 * np.arange(20.0)) == pytest.approx(expected)
    with pytest.raises(TypeError, match="is not numeric but text"):
        metric(["a"] * 20, pred)


def test_object_arrays_are_tensors_of_atoms(tensors):
    true, pred = tensors
    of_atoms = [np.empty(2, dtype=object) for _ in tensors]
    for array, values in zip(of_atoms, (true, pred), strict=True):
        array[:] = [values[:12], values[12:]]
    for metric in (frobenius_rmse, frobenius_mae, tensor_r2):
        assert metric(*of_atoms) == pytest.approx(metric(true, pred))


def test_target_of_another_rank(tensors):
    with pytest.raises(ValueError, match="target 'i' has rank 1, y_true and y_pred have 2"):
        irrep_rmse(*tensors, target="i")
    with pytest.raises(ValueError, match="irrep"):
        neg_irrep_rmse("polarizability")
