"""Files: frames with labels, predictions, fitted models."""

from eqkernels.io.found_targets import FoundTarget, find_targets
from eqkernels.io.frame_files import read_files
from eqkernels.io.label_reader import read
from eqkernels.io.prediction_writer import write
from eqkernels.io.saved import load_header, load_model, save_model

__all__ = ["FoundTarget", "find_targets", "load_header", "load_model", "read", "read_files", "save_model", "write"]
