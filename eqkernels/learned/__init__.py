"""Features whose weights are learned from labels, by differentiating through a closed-form readout."""

from eqkernels.learned.network import EquivariantNetwork
from eqkernels.learned.regressor import LearnedTensorRegressor

__all__ = ["EquivariantNetwork", "LearnedTensorRegressor"]
