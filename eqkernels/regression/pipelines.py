"""A regressor with the descriptor that stands before it in a pipeline, as a model of frames with derivatives."""

from __future__ import annotations

import copy
from typing import Any

from eqkernels._fitted import last_step


def differentiable(model: Any, method: str = "vjp") -> Any:
    """Regressor with the descriptor that stands before it in a pipeline.

    Parameters
    ----------
    model : estimator, or pipeline or search of one
    method : str, default="vjp"
        That it must have.

    Returns
    -------
    estimator
        The model itself, or a copy of the last step that takes frames.
    """
    model = getattr(model, "best_estimator_", model)
    regressor = last_step(model)
    if not hasattr(regressor, method):
        raise TypeError(
            f"{type(regressor).__name__} has no derivatives by positions: take TensorRidge, TensorKernelRidge, "
            "TensorGPR, SparseTensorGPR or EquivariantNetworkRegressor"
        )
    if regressor is model or len(model.steps) == 1:
        return regressor
    if getattr(regressor, "descriptor_", None) is not None:
        raise TypeError(f"the steps before {type(regressor).__name__} must make features of frames, such as LambdaSOAP")
    bound = copy.copy(regressor)
    bound.descriptor_ = model.steps[0][1] if len(model.steps) == 2 else model[:-1]
    return bound
