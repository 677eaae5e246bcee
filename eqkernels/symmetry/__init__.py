"""What symmetry demands of labels and of models."""

from eqkernels.symmetry.equivariance_check import EquivarianceReport, check_equivariance
from eqkernels.symmetry.label_check import LabelFinding, LabelReport, check_labels

__all__ = ["EquivarianceReport", "LabelFinding", "LabelReport", "check_equivariance", "check_labels"]
