"""Pictures of results, in the manner of scikit-learn's displays; they need the extra "plot" (matplotlib).

:func:`to_chemiscope`, for the interactive viewer of that name, needs the extra "chemiscope".
"""

from eqkernels.plotting.calibration import CalibrationDisplay
from eqkernels.plotting.chemiscope import to_chemiscope
from eqkernels.plotting.kernel_map import KernelMapDisplay
from eqkernels.plotting.learning_curve import LearningCurveDisplay
from eqkernels.plotting.parity import ParityDisplay
from eqkernels.plotting.residual import ResidualDisplay
from eqkernels.plotting.spectral import SpectrumDisplay
from eqkernels.plotting.tensors import TensorDisplay

__all__ = [
    "CalibrationDisplay",
    "KernelMapDisplay",
    "LearningCurveDisplay",
    "ParityDisplay",
    "ResidualDisplay",
    "SpectrumDisplay",
    "TensorDisplay",
    "to_chemiscope",
]
