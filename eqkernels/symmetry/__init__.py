"""Symmetry of structures, and what it says about their tensors."""

from eqkernels.symmetry.point_groups import Operation, PointGroup
from eqkernels.symmetry.space_groups import SpaceGroup, point_group, site_group, space_group

__all__ = ["Operation", "PointGroup", "SpaceGroup", "point_group", "site_group", "space_group"]
