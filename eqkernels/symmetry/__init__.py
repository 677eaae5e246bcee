"""What symmetry demands of labels and of models."""

from eqkernels.symmetry.label_check import LabelFinding, LabelReport, check_labels

__all__ = ["LabelFinding", "LabelReport", "check_labels"]
