"""Regressors of tensors with scikit-learn's interface."""

from eqkernels.regression.kernel_ridge import TensorKernelRidge
from eqkernels.regression.ridge import TensorRidge
from eqkernels.regression.sparse_gpr import SparseTensorGPR

__all__ = ["SparseTensorGPR", "TensorKernelRidge", "TensorRidge"]
