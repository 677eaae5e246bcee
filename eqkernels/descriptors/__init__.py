"""Descriptors of atomic environments as scikit-learn transformers on lists of ase.Atoms."""

from eqkernels.descriptors.bispectrum import Bispectrum
from eqkernels.descriptors.density.gradients import Derivatives, FeatureGradients
from eqkernels.descriptors.expansion import SphericalExpansion
from eqkernels.descriptors.external import FunctionFeatures
from eqkernels.descriptors.features import EquivariantFeatures
from eqkernels.descriptors.lambda_soap import LambdaSOAP
from eqkernels.descriptors.mace_features import MACEFeatures
from eqkernels.descriptors.multi_scale import MultiScale
from eqkernels.descriptors.nbody import NBodyFeatures
from eqkernels.descriptors.selection import EquivariantPCA, FeatureSelection
from eqkernels.descriptors.soap import SOAP
from eqkernels.descriptors.union import EquivariantUnion

__all__ = [
    "SOAP",
    "Bispectrum",
    "Derivatives",
    "EquivariantFeatures",
    "EquivariantPCA",
    "EquivariantUnion",
    "FeatureGradients",
    "FeatureSelection",
    "FunctionFeatures",
    "LambdaSOAP",
    "MACEFeatures",
    "MultiScale",
    "NBodyFeatures",
    "SphericalExpansion",
]
