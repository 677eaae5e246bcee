import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from eqkernels import (
    CovariantKernel,
    EquivariantNetworkRegressor,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)

KERNEL_MODELS = [TensorKernelRidge, TensorGPR, SparseTensorGPR]
SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 1}


@pytest.mark.parametrize("model", KERNEL_MODELS)
def test_parameters_of_defaults_can_be_set(model):
    changed = model().set_params(kernel__zeta=3, descriptor__cutoff=2.5)
    assert (type(changed.kernel), changed.kernel.zeta) == (CovariantKernel, 3)
    assert (type(changed.descriptor), changed.descriptor.cutoff) == (LambdaSOAP, 2.5)
    assert model().kernel is None
    assert (
        model().set_params(kernel=CovariantKernel(5, False), kernel__zeta=4).kernel.get_params()["normalize"] is False
    )
    assert model(kernel=CovariantKernel(5)).set_params(kernel=None, kernel__normalize=True).kernel.zeta == 2
    assert clone(changed).kernel.zeta == 3
    assert model().set_params().kernel is None
    with pytest.raises(ValueError, match="Invalid parameter 'xi' for estimator CovariantKernel"):
        model().set_params(kernel__xi=1)
    with pytest.raises(ValueError, match="target__zeta cannot be set while target=None, which has no parameters$"):
        model().set_params(target__zeta=1)


def test_of_other_models():
    assert TensorRidge().set_params(descriptor__cutoff=2.5).descriptor.cutoff == 2.5
    committee = TensorCommittee().set_params(estimator__kernel__zeta=1, estimator__alpha=0.1)
    assert (committee.estimator.kernel.zeta, committee.estimator.alpha) == (1, 0.1)
    for model in (TensorRidge(), EquivariantNetworkRegressor()):
        with pytest.raises(ValueError, match="Invalid parameter 'kernel'"):
            model.set_params(kernel__zeta=1)
    pipeline = make_pipeline(LambdaSOAP(), TensorKernelRidge()).set_params(tensorkernelridge__kernel__zeta=1)
    assert pipeline[-1].kernel.zeta == 1


def test_what_has_no_parameters_is_refused_in_words():
    message = (
        r"kernel__zeta cannot be set while kernel='precomputed', .* set kernel to an object .* CovariantKernel\(\)"
    )
    with pytest.raises(ValueError, match=message):
        TensorKernelRidge(kernel="precomputed").set_params(kernel__zeta=2)
    with pytest.raises(ValueError, match=message):
        TensorKernelRidge().set_params(kernel="precomputed", kernel__zeta=2)


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (TensorKernelRidge(descriptor=LambdaSOAP(**SMALL)), {"kernel__zeta": [1, 2]}),
        (TensorKernelRidge(), {"kernel__zeta": [2], "descriptor__l_max": [1], "descriptor__n_max": [1, 2]}),
        (SparseTensorGPR(10, descriptor=LambdaSOAP(**SMALL), random_state=0), {"kernel__zeta": [1, 2]}),
        (TensorCommittee(n_estimators=2, random_state=0), {"estimator__kernel__zeta": [1], "estimator__descriptor__n_max": [1]}),
    ],
)  # fmt: skip
def test_grid_search(waters, model, grid):
    frames, vector, *_ = waters
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(frames[:12], vector[:12])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
