import numpy as np
import pytest

from eqkernels import LambdaSOAP, TensorGPR, TensorRidge
from eqkernels.plotting import CalibrationDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


def test_draws_the_curve(waters):
    frames, vector, *_ = waters
    features = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2).fit_transform(frames, vector)
    model = TensorGPR().fit(features[:30], vector[:30])
    first = CalibrationDisplay.from_estimator(model, features[30:], vector[30:], label="GP")
    mean, cov = model.predict(features[30:], return_cov=True)
    second = CalibrationDisplay.from_predictions(vector[30:], mean, cov, ax=first.ax_)
    assert second.figure_ is first.figure_
    assert len(first.ax_.lines) == 3
    x, y = first.line_.get_data()
    assert (np.diff(y) >= 0).all()
    assert x[0] == y[0] == 0
    assert first.line_.get_label().startswith("GP (area 0.")


def test_models_and_error_bars_that_cannot_be_drawn(waters):
    frames, vector, *_ = waters
    with pytest.raises(TypeError, match="TensorRidge predicts no standard deviations: use TensorGPR"):
        CalibrationDisplay.from_estimator(TensorRidge(), frames, vector)
    with pytest.raises(ValueError, match="uncertainty of structure 0 is negative"):
        CalibrationDisplay.from_predictions(vector, vector, -np.ones_like(vector))
