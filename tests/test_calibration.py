import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from eqkernels.calibration import (
    calibration_curve,
    miscalibration_area,
    negative_log_likelihood,
    propagate,
    sharpness,
)
from eqkernels.so3 import CartesianTensor
from eqkernels.testing import random_rotation

FUNCTIONS = [calibration_curve, miscalibration_area, negative_log_likelihood]


def drawn(formula, n, seed=0, factor=1.0):
    """Tensors, predictions and covariances of which the first are drawn (times a factor)."""
    random = np.random.default_rng(seed)
    tensor = CartesianTensor(formula)
    roots = random.normal(size=(n, tensor.dim, tensor.dim))
    pred = random.normal(size=(n, tensor.dim))
    true = pred + factor * np.einsum("nab,nb->na", roots, random.normal(size=(n, tensor.dim)))
    cov = tensor.change_of_basis.T @ (roots @ roots.swapaxes(1, 2)) @ tensor.change_of_basis
    cov = cov.reshape(n, *tensor.shape, *tensor.shape)
    return tensor.inverse_transform(true), tensor.inverse_transform(pred), cov


@pytest.mark.parametrize("formula", ["i", "ij=ji", "ij", "ijk=jik=ikj"])
def test_right_error_bars_are_calibrated(formula):
    true, pred, cov = drawn(formula, 3000)
    expected, observed = calibration_curve(true, pred, cov)
    np.testing.assert_allclose(observed, expected, atol=0.03)
    assert miscalibration_area(true, pred, cov) < 0.015
    assert miscalibration_area(*drawn(formula, 3000, factor=3.0)) > 0.2
    assert miscalibration_area(*drawn(formula, 3000, factor=0.1)) > 0.3
    size = 3 ** (true.ndim - 1)
    std = np.sqrt(np.einsum("nxx->nx", cov.reshape(-1, size, size))).reshape(true.shape)
    np.testing.assert_allclose(*calibration_curve(true, pred, std, [0.68, 0.95]), atol=0.02)


def test_standard_deviations_are_intervals_of_a_normal_distribution():
    true, pred, _ = drawn("i", 50)
    std = np.random.default_rng(1).uniform(0.5, 3, size=true.shape)
    for level in (0.2, 0.68, 0.9):
        inside = np.abs(true - pred) <= norm.interval(level)[1] * std
        np.testing.assert_allclose(calibration_curve(true, pred, std, [level])[1], inside.mean())
    expected = -np.mean(norm.logpdf(true, pred, std))
    np.testing.assert_allclose(negative_log_likelihood(true, pred, std), expected)
    np.testing.assert_allclose(sharpness(std), np.sqrt(np.mean(std**2)))


def test_likelihood_is_that_of_the_independent_components():
    true, pred, cov = drawn("ij=ji", 20)
    basis = CartesianTensor("ij=ji").change_of_basis
    expected = 0.0
    for a, b, c in zip(true, pred, cov, strict=True):
        inner = basis @ c.reshape(9, 9) @ basis.T
        expected -= multivariate_normal.logpdf(basis @ (a - b).ravel(), cov=(inner + inner.T) / 2)
    np.testing.assert_allclose(negative_log_likelihood(true, pred, cov), expected / 120, rtol=1e-8)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_depends_on_the_frame(function):
    true, pred, cov = drawn("ij=ji", 40)
    r = random_rotation(0)
    turned = [np.einsum("ai,bj,nij->nab", r, r, one) for one in (true, pred)]
    cov_turned = np.einsum("ai,bj,ck,dl,nijkl->nabcd", r, r, r, r, cov, optimize=True)
    np.testing.assert_allclose(function(*turned, cov_turned), function(true, pred, cov), rtol=1e-9)


def test_labels_of_atoms_and_zero_variance():
    true, pred, cov = drawn("i", 7)
    std = np.sqrt(np.einsum("nxx->nx", cov))
    lists = [[one[:3], one[3:]] for one in (true, pred, std)]
    for function in FUNCTIONS:
        np.testing.assert_allclose(function(*lists), function(true, pred, std))
    gaps = [true[:3].copy(), true[3:]]
    gaps[0][1] = np.nan
    kept = [0, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(
        negative_log_likelihood(gaps, *lists[1:]), negative_log_likelihood(true[kept], pred[kept], std[kept])
    )
    zero = np.zeros_like(cov)
    assert negative_log_likelihood(true, pred, zero) == np.inf
    assert negative_log_likelihood(true, pred, 0 * std) == np.inf
    assert calibration_curve(true, pred, zero, [0.9])[1] == 0
    assert calibration_curve(true, true, zero, [0.9])[1] == 1


def test_derived_scalars():
    true, pred, cov = drawn("ij=ji", 6)
    mean, std = propagate("mean", pred, cov)
    trace = np.einsum("niijj->n", cov)
    np.testing.assert_allclose(mean, np.einsum("nii->n", pred) / 3)
    np.testing.assert_allclose(std, np.sqrt(trace) / 3, rtol=1e-9)
    small = 1e-4 * cov
    axis = np.diag([1.0, 1.0, 4.0])[None] * np.ones((6, 1, 1))
    mean, std = propagate("anisotropy", axis, small)
    np.testing.assert_allclose(mean, 3.0)
    gradient = np.diag([-0.5, -0.5, 1.0])
    np.testing.assert_allclose(std, np.sqrt(np.einsum("ij,nijkl,kl->n", gradient, small, gradient)), rtol=1e-3)
    random = np.random.default_rng(0)
    for y in (np.array([3.0, 0.0, 0.0]), np.zeros(3), np.array([0.05, 0.02, 0.0])):
        spread = 0.01 * np.diag([1.0, 2.0, 0.5])
        samples = np.linalg.norm(random.multivariate_normal(y, spread, size=200000), axis=1)
        mean, std = propagate("norm", y[None], spread[None], n_samples=20000)
        np.testing.assert_allclose(mean, samples.mean(), rtol=0.02)
        np.testing.assert_allclose(std, samples.std(), rtol=0.05)
    call = propagate(lambda y: y[:, 0] ** 2, y[None], 1e-8 * spread[None])
    np.testing.assert_allclose(call[1], 2 * y[0] * np.sqrt(1e-8 * spread[0, 0]), rtol=1e-3)
    assert propagate("norm", np.zeros((1, 3)), np.zeros((1, 3, 3)))[1] == 0


def changed(array, value, index=(2,)):
    array = array.copy()
    array[index] = value
    return array


def spread(cov):
    return np.sqrt(np.einsum("nijij->nij", cov))


def by_structure(*arrays, kind=list):
    """The arrays as tensors of the atoms of two structures of 3 and 2 atoms."""
    lists = [[one[:3], one[3:]] for one in arrays]
    if kind is list:
        return lists
    objects = [np.empty(2, dtype=object) for _ in arrays]
    for array, parts in zip(objects, lists, strict=True):
        array[:] = parts
    return objects


@pytest.mark.parametrize("function", FUNCTIONS)
def test_object_arrays_are_tensors_of_atoms_and_those_without_prediction_are_left_out(function):
    true, pred, cov = drawn("ij=ji", 5)
    pred[1] = np.nan
    kept = [0, 2, 3, 4]
    for error_bars in (cov, spread(cov)):
        error_bars[1] = np.nan
        expected = function(true[kept], pred[kept], error_bars[kept])
        for kind in (list, object):
            np.testing.assert_allclose(function(*by_structure(true, pred, error_bars, kind=kind)), expected)
    assert sharpness(by_structure(spread(cov))[0]) == pytest.approx(np.sqrt(np.mean(spread(cov)[kept] ** 2)))


class Quantity:
    """As of a library of units: it has the values, and can be read as an array."""

    unit = "D"

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, p, c: (t, p[:3], c), "y_true has shape .* they must be equal"),
        (lambda t, p, c: (t, p, c[:, 0, 0, 0]), "uncertainty has shape .*, expected .* for covariances"),
        (lambda t, p, c: (t, p, -spread(c)), "uncertainty of structure 0 is negative"),
        (lambda t, p, c: (t, p, changed(spread(c), -1e-3)), "uncertainty of structure 2 is negative"),
        (lambda t, p, c: (t, p, changed(spread(c), np.nan)), "uncertainty of structure 2 is NaN or infinite"),
        (lambda t, p, c: (t, p, changed(spread(c), np.inf)), "uncertainty of structure 2 is NaN or infinite"),
        (lambda t, p, c: (t, p, changed(c, np.nan)), "uncertainty of structure 2 is NaN or infinite"),
        (lambda t, p, c: (t, p, changed(c, -c[2])), "uncertainty of structure 2 has a negative eigenvalue"),
        (lambda t, p, c: (t, p, changed(c, 9.0, (2, 0, 1, 0, 0))), "uncertainty of structure 2 is not symmetric"),
        (lambda t, p, c: (changed(t, np.nan), p, c), "y_true of structure 2 is NaN or infinite"),
        (lambda t, p, c: (t, changed(p, np.nan), c), "y_pred of structure 2 is NaN or infinite"),
        (lambda t, p, c: (t.reshape(5, 9), p.reshape(5, 9), spread(c).reshape(5, 9)), "expected that of a tensor"),
        (lambda t, p, c: (t * 1j, p, c), "y_true is complex"),
        (lambda t, p, c: (np.ma.masked_greater(t, 0), p, c), r"y_true of structure \d is NaN or infinite"),
        (lambda t, p, c: (*by_structure(t, p), c), "y_pred has one array for each structure, uncertainty has not"),
        (lambda t, p, c: (t, *by_structure(p, c)), "different numbers of structures or of atoms"),
        (
            lambda t, p, c: by_structure(t, p, changed(spread(c), -1.0, (4,))),
            "uncertainty of structure 1, atom 1 is negative",
        ),
        (
            lambda t, p, c: by_structure(changed(t, np.nan, (3, 0, 0)), p, c),
            "y_true of structure 1, atom 0 is NaN or infinite",
        ),
        (lambda t, p, c: by_structure(t, np.full_like(p, np.nan), np.full_like(c, np.nan)), "no labelled atom has a"),
        (lambda t, p, c: by_structure(np.full_like(t, np.nan), p, c), "every label is NaN"),
    ],
)
def test_error_bars_that_are_none_are_refused(call, message):
    arguments = call(*drawn("ij=ji", 5))
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match=message):
            function(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t, p, c: calibration_curve(t, p, c, [0.0]), "levels between 0 and 1"),
        (lambda t, p, c: calibration_curve(t, p, c, 2.5), "levels between 0 and 1"),
        (lambda t, p, c: calibration_curve(t, p, c, True), "levels between 0 and 1"),
        (lambda t, p, c: calibration_curve(t, p, c, [np.nan]), "levels between 0 and 1"),
        (lambda t, p, c: sharpness(-spread(c)), "std must be finite numbers, zero or positive"),
        (lambda t, p, c: sharpness(changed(spread(c), np.nan)), "std must be finite numbers"),
        (lambda t, p, c: sharpness([]), "std must be finite numbers, zero or positive, at least one"),
        (lambda t, p, c: propagate("norm", p, c[:, 0]), "covariance has shape"),
        (lambda t, p, c: propagate("modulus", p, c), "must be a callable or one of"),
        (lambda t, p, c: propagate("mean", p[:, 0], c[:, 0, :, 0]), "is defined for tensors of rank 2"),
        (
            lambda t, p, c: propagate("norm", p, changed(c, -c[2])),
            "covariance of structure 2 has a negative eigenvalue",
        ),
        (lambda t, p, c: propagate("norm", p, changed(c, np.nan)), "covariance of structure 2 is NaN"),
        (lambda t, p, c: propagate("norm", changed(p, np.nan), c), "y_pred of structure 2 is NaN"),
        (lambda t, p, c: propagate("norm", *by_structure(p, c)), "give np.concatenate of it"),
        (lambda t, p, c: propagate("norm", p, c, n_samples=0), "n_samples=0 must be an integer"),
        (lambda t, p, c: propagate(np.sum, p, c), r"function made \(\) of tensors \(5, 3, 3\)"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call(*drawn("ij=ji", 5))


def test_units_and_words_are_refused():
    true, pred, cov = drawn("i", 3)
    for wrong, message in (
        (Quantity(true), "y_true carries units"),
        (["a", "b", "c"], "y_true.* is not numeric but text"),
    ):
        with pytest.raises(TypeError, match=message):
            calibration_curve(wrong, pred, cov)
