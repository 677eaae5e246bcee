"""What a fitted model predicts: the tensor, of structures or of atoms; of pipelines, searches and networks too."""

from __future__ import annotations

from typing import Any

from eqkernels._fitted import last_step
from eqkernels.so3 import CartesianTensor


def final_estimator(estimator: Any) -> Any:
    """Model itself, of a pipeline the last step, of a search that of the best."""
    return last_step(getattr(estimator, "best_estimator_", estimator))


def is_per_atom(estimator: Any) -> bool:
    """Whether a fitted model predicts a tensor for each atom."""
    return bool(getattr(_read_labels_of(estimator), "per_atom_", False))


def target_of(estimator: Any) -> CartesianTensor:
    """Tensor that a fitted model predicts.

    Raises
    ------
    TypeError
        If the model does not say it.
    """
    labels = _read_labels_of(estimator)
    if not hasattr(labels, "target_"):
        raise TypeError(f"{type(labels).__name__} does not say which tensor it predicts: pass the predictions of one")
    return CartesianTensor(labels.target_, labels.axial_)


def _read_labels_of(estimator):
    """Find what has ``target_``, ``axial_`` and ``per_atom_``: the model, or the readout of its only property."""
    final = final_estimator(estimator)
    return getattr(final, "readouts_", {}).get("y", final)
