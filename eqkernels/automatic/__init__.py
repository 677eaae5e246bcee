"""The most accurate model for the data at hand, found within a stated time."""

from eqkernels.automatic.estimator import AutoTensorRegressor

__all__ = ["AutoTensorRegressor"]
