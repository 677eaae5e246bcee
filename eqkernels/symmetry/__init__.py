"""Symmetry of structures, and what it demands of their tensors, of labels and of models."""

from eqkernels.symmetry.allowed import AllowedComponents, allowed_components, symmetrize
from eqkernels.symmetry.equivariance_check import EquivarianceReport, check_equivariance
from eqkernels.symmetry.explanations import Explanation, explain_zero
from eqkernels.symmetry.label_check import LabelFinding, LabelReport, check_labels
from eqkernels.symmetry.order_parameters import OrderParameter, OrderParameters, order_parameters
from eqkernels.symmetry.point_groups import Operation, PointGroup
from eqkernels.symmetry.space_groups import SpaceGroup, point_group, site_group, space_group
from eqkernels.symmetry.vector_kinds import VECTOR_KINDS, VectorKind, measured_kind, vector_kinds

__all__ = [
    "VECTOR_KINDS",
    "AllowedComponents",
    "EquivarianceReport",
    "Explanation",
    "LabelFinding",
    "LabelReport",
    "Operation",
    "OrderParameter",
    "OrderParameters",
    "PointGroup",
    "SpaceGroup",
    "VectorKind",
    "allowed_components",
    "check_equivariance",
    "check_labels",
    "explain_zero",
    "measured_kind",
    "order_parameters",
    "point_group",
    "site_group",
    "space_group",
    "symmetrize",
    "vector_kinds",
]
