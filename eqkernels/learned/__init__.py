"""Features whose weights are learned from labels, by differentiating through a closed-form readout."""

from eqkernels.learned.network import EquivariantNetwork
from eqkernels.learned.readout import Readout
from eqkernels.learned.regressor import EquivariantNetworkRegressor

__all__ = ["EquivariantNetwork", "EquivariantNetworkRegressor", "Readout"]
