"""Files: frames with labels, predictions."""

from eqkernels.io.found_targets import FoundTarget, find_targets
from eqkernels.io.frame_files import read_files
from eqkernels.io.label_reader import read
from eqkernels.io.prediction_writer import write

__all__ = ["FoundTarget", "find_targets", "read", "read_files", "write"]
