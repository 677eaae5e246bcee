"""Symmetry of structures, and what it says about their tensors."""

from eqkernels.symmetry.allowed import AllowedComponents, allowed_components, symmetrize
from eqkernels.symmetry.explanations import Explanation, explain_zero
from eqkernels.symmetry.point_groups import Operation, PointGroup
from eqkernels.symmetry.space_groups import SpaceGroup, point_group, site_group, space_group

__all__ = [
    "AllowedComponents",
    "Explanation",
    "Operation",
    "PointGroup",
    "SpaceGroup",
    "allowed_components",
    "explain_zero",
    "point_group",
    "site_group",
    "space_group",
    "symmetrize",
]
