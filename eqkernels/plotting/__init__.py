"""Pictures of results, in the manner of scikit-learn's displays; they need the extra "plot" (matplotlib)."""

from eqkernels.plotting.calibration import CalibrationDisplay
from eqkernels.plotting.kernel_map import KernelMapDisplay
from eqkernels.plotting.learning_curve import LearningCurveDisplay
from eqkernels.plotting.parity import ParityDisplay
from eqkernels.plotting.residual import ResidualDisplay
from eqkernels.plotting.tensors import TensorDisplay

__all__ = [
    "CalibrationDisplay",
    "KernelMapDisplay",
    "LearningCurveDisplay",
    "ParityDisplay",
    "ResidualDisplay",
    "TensorDisplay",
]
