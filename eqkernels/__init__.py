"""Symmetry-adapted machine learning of tensors, in scikit-learn.

The pieces, in the order in which data flow through them: frames (``ase.Atoms``) become features with a
:class:`LambdaSOAP`, features become predictions with a :class:`TensorKernelRidge` or :class:`TensorRidge`.
"""

from eqkernels.descriptors import SOAP, EquivariantFeatures, EquivariantUnion, LambdaSOAP, SphericalExpansion
from eqkernels.kernels import CovariantKernel
from eqkernels.learned import EquivariantNetwork, LearnedTensorRegressor
from eqkernels.regression import TensorKernelRidge, TensorRidge
from eqkernels.so3 import CartesianTensor, Irreps

__version__ = "0.1.0"

__all__ = [
    "SOAP",
    "CartesianTensor",
    "CovariantKernel",
    "EquivariantFeatures",
    "EquivariantNetwork",
    "EquivariantUnion",
    "Irreps",
    "LambdaSOAP",
    "LearnedTensorRegressor",
    "SphericalExpansion",
    "TensorKernelRidge",
    "TensorRidge",
]
