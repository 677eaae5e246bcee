"""The readout that was trained with a network on labels with derivatives, in place of one solved on values alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqkernels._numeric import is_missing
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.learned.network import EquivariantNetwork
from eqkernels.learned.readout import Readout
from eqkernels.so3 import cartesian_tensor


def known_values(y: Any) -> np.ndarray:
    """Structures that have a value, neither NaN nor None; without y there are none."""
    if y is None:
        return np.zeros(0, dtype=int)
    known = [not is_missing(one) and not np.isnan(np.asarray(one, dtype=float)).all() for one in y]
    return np.flatnonzero(known)


def adopt(
    readout: Readout, network: EquivariantNetwork, features: EquivariantFeatures, y: Any, sample_weight: Any = None
) -> Readout:
    """Make a readout of the weights and the baseline that were trained.

    Parameters
    ----------
    readout : Readout
        Not fitted; changed in place. With error bars, what these are made of is solved on the values.
    network : EquivariantNetwork
        Fitted with derivatives.
    features : EquivariantFeatures
        Of the structures that it was fitted to.
    y : array-like or None
        Their values, NaN or None where they are not known.
    sample_weight : array-like of shape (n_structures,), default=None

    Returns
    -------
    Readout
    """
    known = known_values(y)
    if readout.error_bars:
        if len(known) < 2:
            raise ValueError("error_bars=True: error bars are those of y, which fewer than two structures have")
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        readout.fit(features[known], [y[k] for k in known], weight)
    tensor = cartesian_tensor(readout.target)
    readout.target_, readout.axial_, readout.per_atom_ = tensor.formula, tensor.axial, False
    readout.species_, readout.baseline_ = network.species_.copy(), network.baseline_
    readout.coef_ = {key: array.copy() for key, array in network.readout_.items()}
    readout.groups_, readout.atoms_fit_ = np.arange(len(features)), None
    readout.n_atoms_fit_ = features.n_atoms
    readout.n_structures_fit_, readout.n_environments_fit_ = len(features), len(features.species)
    readout._reset_recalibration()
    return readout
