"""Symmetry-adapted machine learning of tensors, in scikit-learn.

The pieces, in the order in which data flow through them: frames (``ase.Atoms``) become features with a
:class:`LambdaSOAP`, features become predictions with a :class:`TensorKernelRidge` or :class:`TensorRidge`, for large
data with a :class:`SparseTensorGPR`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from eqkernels._version import __version__ as __version__
from eqkernels.automatic import AutoTensorRegressor
from eqkernels.descriptors import (
    SOAP,
    Bispectrum,
    EquivariantFeatures,
    EquivariantPCA,
    EquivariantUnion,
    FeatureSelection,
    LambdaSOAP,
    NBodyFeatures,
    SphericalExpansion,
)
from eqkernels.kernels import ChargeKernel, CovariantKernel, select_sparse_points
from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.recommendation import recommend
from eqkernels.regression import (
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    TensorVotingRegressor,
    rank_candidates,
)
from eqkernels.regression.summary import summary
from eqkernels.so3 import CartesianTensor, Irreps

if TYPE_CHECKING:
    from eqkernels.calculator import TensorCalculator
    from eqkernels.io import load_model, save_model

__all__ = [
    "AutoTensorRegressor",
    "SOAP",
    "Bispectrum",
    "CartesianTensor",
    "ChargeKernel",
    "CovariantKernel",
    "EquivariantFeatures",
    "EquivariantNetwork",
    "EquivariantPCA",
    "EquivariantUnion",
    "FeatureSelection",
    "Irreps",
    "LambdaSOAP",
    "EquivariantNetworkRegressor",
    "NBodyFeatures",
    "SparseTensorGPR",
    "SphericalExpansion",
    "TensorCalculator",
    "TensorCommittee",
    "TensorGPR",
    "TensorKernelRidge",
    "TensorRidge",
    "TensorVotingRegressor",
    "load_model",
    "rank_candidates",
    "recommend",
    "save_model",
    "select_sparse_points",
    "summary",
]


# What takes time to import, such as ase's calculators and files: only for those who use it.
_LATER = {"TensorCalculator": "eqkernels.calculator", "load_model": "eqkernels.io", "save_model": "eqkernels.io"}


def __getattr__(name):
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
