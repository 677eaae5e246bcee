import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")

from eqkernels import LambdaSOAP, TensorKernelRidge, TensorRidge  # noqa: E402
from eqkernels.plotting import ResidualDisplay  # noqa: E402
from eqkernels.plotting.similarity import nearest_distances  # noqa: E402


def points(display):
    return np.asarray(display.points_.get_offsets())


def test_points_of_structures(waters):
    frames, _, matrix, _ = waters
    model = TensorKernelRidge(descriptor=LambdaSOAP(cutoff=3.0, n_max=2, l_max=2)).fit(frames[:25], matrix[:25])
    display = ResidualDisplay.from_estimator(model, frames[25:], matrix[25:], frames[:25], unit="a.u.")
    features = model.descriptor_.transform(frames)
    errors = [np.sqrt(np.sum(one**2)) for one in model.predict(frames[25:]) - matrix[25:]]
    np.testing.assert_allclose(points(display)[:, 0], nearest_distances(features[25:], features[:25]), atol=1e-7)
    np.testing.assert_allclose(points(display)[:, 1], errors)
    assert display.trend_ is None
    assert display.ax_.get_yscale() == "log"
    assert display.ax_.get_xlabel() == "distance to the nearest training structure"
    assert display.ax_.get_ylabel() == "norm of the error (a.u.)"


def test_points_of_environments_are_those_with_a_label(waters):
    frames = waters[0]
    y = [atoms.positions - atoms.get_center_of_mass() for atoms in frames]
    y = [np.where(atoms.numbers[:, None] == 1, one, np.nan) for atoms, one in zip(frames, y, strict=True)]
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, center_species=[1])
    model = TensorRidge(per_atom=True, descriptor=descriptor).fit(frames[:25], y[:25])
    display = ResidualDisplay.from_estimator(model, frames[25:], y[25:], frames[:25])
    features = model.descriptor_.transform(frames)
    nearest = nearest_distances(features[25:].split_centers(), features[:25].split_centers())
    np.testing.assert_allclose(points(display)[:, 0], nearest, atol=1e-7)
    errors = np.concatenate(list(model.predict(frames[25:]))) - np.concatenate(y[25:])
    np.testing.assert_allclose(points(display)[:, 1], np.linalg.norm(errors[np.isfinite(errors[:, 0])], axis=1))
    assert display.ax_.get_xlabel() == "distance to the nearest training environment"


def test_line_is_the_rmse_of_bins():
    random = np.random.default_rng(0)
    true, pred, distances = random.normal(size=(60, 3)), random.normal(size=(60, 3)), random.permutation(60) / 60
    display = ResidualDisplay.from_predictions(true, pred, distances)
    x, y = display.trend_.get_data()
    for k in range(3):
        inside = (distances >= k / 3 - 1e-9) & (distances < (k + 1) / 3 - 1e-9)
        assert x[k] == pytest.approx(distances[inside].mean())
        assert y[k] == pytest.approx(np.sqrt(np.mean(np.sum((true - pred)[inside] ** 2, axis=1))))


def test_one_structure_and_perfect_predictions():
    for y in (np.ones((1, 3)), np.ones((4, 3))):
        assert len(points(ResidualDisplay.from_predictions(y, y, np.zeros(len(y))))) == len(y)


def test_what_cannot_be_drawn():
    y = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"distances has shape \(3,\), expected \(4,\)"):
        ResidualDisplay.from_predictions(y, y, np.ones(3))
    with pytest.raises(ValueError, match="the distance of structure 1 is NaN"):
        ResidualDisplay.from_predictions(y, y, [0, np.nan, 0, 0])
