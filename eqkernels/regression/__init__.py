"""Regressors of tensors with scikit-learn's interface."""

from eqkernels.regression.calculator_baseline import CalculatorBaseline
from eqkernels.regression.committee import TensorCommittee
from eqkernels.regression.gpr import TensorGPR
from eqkernels.regression.kernel_ridge import TensorKernelRidge
from eqkernels.regression.ranking import rank_candidates
from eqkernels.regression.ridge import TensorRidge
from eqkernels.regression.sparse.field import SparseFieldGPR
from eqkernels.regression.sparse.gpr import SparseTensorGPR
from eqkernels.regression.thole import TholePolarizability
from eqkernels.regression.voting import TensorVotingRegressor

__all__ = [
    "CalculatorBaseline",
    "SparseFieldGPR",
    "SparseTensorGPR",
    "TensorCommittee",
    "TensorGPR",
    "TensorKernelRidge",
    "TensorRidge",
    "TensorVotingRegressor",
    "TholePolarizability",
    "rank_candidates",
]
