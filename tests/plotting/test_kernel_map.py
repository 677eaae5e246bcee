import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")

from eqkernels import LambdaSOAP, TensorRidge  # noqa: E402
from eqkernels.plotting import KernelMapDisplay  # noqa: E402
from eqkernels.plotting.similarity import kernel_map  # noqa: E402


@pytest.fixture
def descriptor():
    return LambdaSOAP(cutoff=3.0, n_max=2, l_max=2)


def points(display):
    return np.asarray(display.points_.get_offsets())


def test_structures_colored_by_a_value(waters, descriptor):
    frames, vector, _, scalar = waters
    features = descriptor.fit_transform(frames, vector)
    display = KernelMapDisplay.from_features(features, scalar, label="size")
    coordinates, shares = kernel_map(features)
    np.testing.assert_array_equal(points(display), coordinates)
    np.testing.assert_array_equal(display.points_.get_array(), scalar)
    assert display.points_.colorbar.ax.get_ylabel() == "size"
    assert display.ax_.get_xlabel() == f"component 1 ({shares[0]:.0%} of the variance)"
    assert KernelMapDisplay.from_features(features[:1]).points_.get_array() is None


def test_structures_colored_by_their_error(waters, descriptor):
    frames, vector, *_ = waters
    model = TensorRidge(descriptor=descriptor).fit(frames[:20], vector[:20])
    display = KernelMapDisplay.from_estimator(model, frames[20:], vector[20:], unit="D")
    errors = np.linalg.norm(model.predict(frames[20:]) - vector[20:], axis=1)
    np.testing.assert_allclose(display.points_.get_array(), errors)
    assert display.points_.colorbar.ax.get_ylabel() == "norm of the error (D)"


def test_environments_without_label_are_gray(waters, descriptor):
    frames = waters[0]
    y = [atoms.positions - atoms.get_center_of_mass() for atoms in frames]
    model = TensorRidge(per_atom=True, descriptor=descriptor).fit(frames[:20], y[:20])
    y[20][1] = np.nan
    display = KernelMapDisplay.from_estimator(model, frames[20:], y[20:])
    errors = np.linalg.norm(np.concatenate(list(model.predict(frames[20:]))) - np.concatenate(y[20:]), axis=1)
    np.testing.assert_allclose(display.points_.get_array(), errors[np.isfinite(errors)])
    coordinates, _ = kernel_map(model.descriptor_.transform(frames[20:]).split_centers())
    np.testing.assert_allclose(points(display), np.delete(coordinates, 1, axis=0), atol=1e-12)
    gray = display.ax_.collections[0]
    np.testing.assert_allclose(gray.get_offsets(), coordinates[[1]], atol=1e-12)


def test_values_that_do_not_fit(waters, descriptor):
    frames, vector, _, scalar = waters
    features = descriptor.fit_transform(frames, vector)
    with pytest.raises(ValueError, match="a number for each structure with per_atom=False"):
        KernelMapDisplay.from_features(features, [np.ones(3)] * 40)
    with pytest.raises(ValueError, match="one array of numbers for each structure with per_atom=True"):
        KernelMapDisplay.from_features(features, scalar, per_atom=True)
    with pytest.raises(ValueError, match=r"values has shape \(39,\), expected \(40,\)"):
        KernelMapDisplay.from_features(features, scalar[1:])
    with pytest.raises(ValueError, match="different numbers of structures or of atoms"):
        KernelMapDisplay.from_features(features, [np.ones(2)] * 40, per_atom=True)
