"""Symmetry-adapted machine learning of tensors, in scikit-learn.

The pieces, in the order in which data flow through them: frames (``ase.Atoms``) become features with a
:class:`LambdaSOAP`, features become predictions with a :class:`TensorKernelRidge` or :class:`TensorRidge`, for large
data with a :class:`SparseTensorGPR`.
"""

from typing import TYPE_CHECKING

from eqkernels._version import __version__ as __version__
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
from eqkernels.io import load_model, save_model
from eqkernels.kernels import CovariantKernel, select_sparse_points
from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.recommendation import recommend
from eqkernels.regression import (
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    rank_candidates,
)
from eqkernels.regression.summary import summary
from eqkernels.so3 import CartesianTensor, Irreps

if TYPE_CHECKING:
    from eqkernels.calculator import TensorCalculator

__all__ = [
    "SOAP",
    "Bispectrum",
    "CartesianTensor",
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
    "load_model",
    "rank_candidates",
    "recommend",
    "save_model",
    "select_sparse_points",
    "summary",
]


def __getattr__(name):
    if name == "TensorCalculator":  # ase's calculators take a tenth of a second to import: only for those who use them
        from eqkernels.calculator import TensorCalculator

        return TensorCalculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
