"""Frames to flat arrays and neighbor pairs, and the checks of what users pass in."""

from eqkernels.structures.batch import StructureBatch
from eqkernels.structures.derivative_labels import DerivativeLabels, read_forces, read_stress
from eqkernels.structures.labels import Labels, read_labels
from eqkernels.structures.neighbors import NeighborPairs

__all__ = [
    "DerivativeLabels",
    "Labels",
    "NeighborPairs",
    "StructureBatch",
    "read_forces",
    "read_labels",
    "read_stress",
]
