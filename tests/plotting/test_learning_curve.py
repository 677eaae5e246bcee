import numpy as np
import pytest
from ase.build import molecule
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold

pytest.importorskip("matplotlib").use("Agg")

from eqkernels import LambdaSOAP, TensorKernelRidge  # noqa: E402
from eqkernels.metrics import frobenius_rmse, neg_irrep_rmse  # noqa: E402
from eqkernels.plotting import LearningCurveDisplay  # noqa: E402


class Recorder(RegressorMixin, BaseEstimator):
    """Predicts zero and keeps what it was fitted to."""

    seen: list = []

    def fit(self, X, y):
        self.seen.append([atoms.info["k"] for atoms in X])
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.full((len(X), 3), 5.0 / len(self.seen[-1]))


@pytest.fixture
def numbered():
    frames = [molecule("H2O") for _ in range(40)]
    for k, atoms in enumerate(frames):
        atoms.info["k"] = k
    Recorder.seen.clear()
    return frames, np.zeros((40, 3))


def drawn(display):
    return display.errorbar_.lines[0].get_data()


def test_draws_the_errors_of_models_fitted_by_hand(waters):
    frames, vector, *_ = waters
    model = TensorKernelRidge(alpha=1e-6, descriptor=LambdaSOAP(cutoff=3.0, n_max=3, l_max=2))
    train, test = np.arange(24), np.arange(24, 40)
    sizes = [6, 12, 24]
    display = LearningCurveDisplay.from_estimator(
        model, frames, vector, train_sizes=sizes, cv=[(train, test)], random_state=1, unit="D", label="water"
    )
    order = np.random.RandomState(1).permutation(train)
    errors = []
    for n in sizes:
        model.fit([frames[k] for k in order[:n]], vector[order[:n]])
        errors.append(frobenius_rmse(vector[test], model.predict(frames[24:])))
    np.testing.assert_allclose(drawn(display), (sizes, errors), rtol=1e-10)
    logs = np.stack([np.ones(3), -np.log(sizes)], axis=1)
    offset, exponent = np.linalg.lstsq(logs, np.log(errors), rcond=None)[0]
    assert display.exponent_ == pytest.approx(exponent)
    np.testing.assert_allclose(display.fit_.get_ydata(), np.exp(offset) * np.array(sizes) ** -exponent)
    assert f"{-exponent:.2f}" in display.errorbar_.get_label()
    assert display.ax_.get_ylabel() == "RMSE (D)"


def test_training_sets_are_nested_and_disjoint_from_the_test_set(numbered):
    display = LearningCurveDisplay.from_estimator(Recorder(), *numbered, random_state=0)
    assert list(display.train_sizes) == [2, 4, 8, 15, 30]
    assert display.errors.shape == (5, 3)
    for split in range(3):
        sets = [set(one) for one in Recorder.seen[5 * split : 5 * split + 5]]
        assert [len(one) for one in sets] == [2, 4, 8, 15, 30]
        assert all(small < large for small, large in zip(sets, sets[1:], strict=False))


@pytest.mark.parametrize("cv", [None, 4])
def test_groups_stay_together(numbered, cv):
    frames, y = numbered
    groups = np.arange(40) // 5
    LearningCurveDisplay.from_estimator(Recorder(), frames, y, groups=groups, cv=cv, train_sizes=[1.0], random_state=0)
    for seen in Recorder.seen:
        assert len(seen) % 5 == 0
        assert len(set(groups[seen])) == len(seen) // 5


def test_power_law_of_exact_data_and_spread_of_splits(numbered):
    sizes, factors = np.array([5, 10, 20]), np.array([0.8, 1.0, 1.2])
    display = LearningCurveDisplay(sizes, 3.0 * sizes[:, None] ** -0.5 * factors).plot()
    assert (display.amplitude_, display.exponent_) == pytest.approx((3.0, 0.5))
    segments = display.errorbar_.lines[2][0].get_segments()
    lengths = [segment[1, 1] - segment[0, 1] for segment in segments]
    np.testing.assert_allclose(lengths, 2 * 3.0 * sizes**-0.5 * np.std(factors))
    display = LearningCurveDisplay.from_estimator(
        Recorder(), *numbered, cv=KFold(4), train_sizes=[5, 10], ax=display.ax_
    )
    assert display.exponent_ == pytest.approx(1.0)  # the error of the recorder is 5 sqrt(3) / N
    assert display.amplitude_ == pytest.approx(5 * np.sqrt(3))


def test_a_single_size_and_perfect_predictions_have_no_law():
    for sizes, errors in (([5], [[1.0]]), ([5, 10], [[1.0], [0.0]])):
        display = LearningCurveDisplay(sizes, errors).plot()
        assert display.fit_ is None
        assert np.isnan(display.exponent_)


def test_scorer_of_an_irrep(waters):
    frames, _, matrix, _ = waters
    model = TensorKernelRidge(alpha=1e-6, descriptor=LambdaSOAP(cutoff=3.0, n_max=2, l_max=2))
    options = {"cv": [(np.arange(20), np.arange(20, 40))], "train_sizes": [20]}
    display = LearningCurveDisplay.from_estimator(model, frames, matrix, scoring=neg_irrep_rmse("2e"), **options)
    error = -neg_irrep_rmse("2e")(model.fit(frames[:20], matrix[:20]), frames[20:], matrix[20:])
    assert display.errors[0, 0] == pytest.approx(error, rel=1e-6)


def test_what_cannot_be_drawn(waters, numbered):
    frames, vector, *_ = waters
    for sizes in ([31], [0], [0.5, 1.5]):
        with pytest.raises(ValueError, match="train_sizes="):
            LearningCurveDisplay.from_estimator(Recorder(), *numbered, train_sizes=sizes)
    mixed = [*frames[:20], *(molecule("NH3") for _ in range(4))]
    with pytest.raises(ValueError, match="begin with 4 structures; if these lack a species, raise train_sizes"):
        LearningCurveDisplay.from_estimator(
            TensorKernelRidge(), mixed, vector[:24], train_sizes=[4], cv=[(np.arange(20), np.arange(20, 24))]
        )
