"""Frames to flat arrays and neighbor pairs, and the checks of what users pass in."""

from eqkernels.structures.batch import StructureBatch
from eqkernels.structures.labels import Labels, read_labels
from eqkernels.structures.neighbors import NeighborPairs

__all__ = ["Labels", "NeighborPairs", "StructureBatch", "read_labels"]
