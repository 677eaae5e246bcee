"""Regressors of tensors with scikit-learn's interface."""

from eqkernels.regression.gpr import TensorGPR
from eqkernels.regression.kernel_ridge import TensorKernelRidge
from eqkernels.regression.kernel_ridge_cv import TensorKernelRidgeCV
from eqkernels.regression.ridge import TensorRidge

__all__ = ["TensorGPR", "TensorKernelRidge", "TensorKernelRidgeCV", "TensorRidge"]
