"""Frames to flat arrays and neighbor pairs, and the checks of what users pass in."""

from eqkernels.structures.batch import StructureBatch, as_list, atom_counts, cell_volumes, each_frame
from eqkernels.structures.derivative_labels import DerivativeLabels, read_derivatives, read_forces, read_stress
from eqkernels.structures.labels import Labels, by_structure, irreps_of_labels, is_by_structure, read_labels
from eqkernels.structures.neighbors import NeighborPairs, find_neighbors
from eqkernels.structures.species import symbols
from eqkernels.structures.sum_rules import check_sum_rules
from eqkernels.structures.transformer import FramesTransformer, read_frames, takes_batches

__all__ = [
    "DerivativeLabels",
    "FramesTransformer",
    "Labels",
    "NeighborPairs",
    "StructureBatch",
    "as_list",
    "atom_counts",
    "by_structure",
    "cell_volumes",
    "check_sum_rules",
    "each_frame",
    "find_neighbors",
    "irreps_of_labels",
    "is_by_structure",
    "read_derivatives",
    "read_forces",
    "read_frames",
    "read_labels",
    "read_stress",
    "symbols",
    "takes_batches",
]
