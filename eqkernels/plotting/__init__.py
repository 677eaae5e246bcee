"""Pictures of results, in the manner of scikit-learn's displays; they need the extra "plot" (matplotlib)."""

from eqkernels.plotting.calibration import CalibrationDisplay
from eqkernels.plotting.learning_curve import LearningCurveDisplay
from eqkernels.plotting.parity import ParityDisplay

__all__ = ["CalibrationDisplay", "LearningCurveDisplay", "ParityDisplay"]
