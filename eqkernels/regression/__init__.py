"""Regressors of tensors with scikit-learn's interface."""

from eqkernels.regression.kernel_ridge import TensorKernelRidge
from eqkernels.regression.ridge import TensorRidge

__all__ = ["TensorKernelRidge", "TensorRidge"]
