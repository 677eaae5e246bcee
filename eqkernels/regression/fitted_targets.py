"""What a fitted model predicts: the tensor, of structures or of atoms; and how it is declared before the fit."""

from __future__ import annotations

from typing import Any

from eqkernels._fitted import last_step
from eqkernels._warnings import warn
from eqkernels.so3 import CartesianTensor, Irreps
from eqkernels.so3.inference import SYMMETRY_TOLERANCE, infer_formula

# Labels whose symmetry is broken only by rounding are projected without a word.
_ROUNDING = 1e-12


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


def declare_target(transformer, tensor, per_atom):
    """Say to a descriptor, and to all its parts that would find it from labels, what the target is.

    Parameters
    ----------
    transformer : estimator
    tensor : CartesianTensor
    per_atom : bool

    Returns
    -------
    transformer
    """
    wanted = {"irreps": str(tensor.irreps + Irreps("0e")), "target": tensor, "per_atom": per_atom}
    open_ = {}
    for path, value in transformer.get_params().items():
        name = path.rpartition("__")[2]
        if name in wanted and (value is None or (name == "irreps" and isinstance(value, str) and value == "auto")):
            open_[path] = wanted[name]
    return transformer.set_params(**open_)


def projected(tensor, values, name="y"):
    """Labels with the symmetry of the target; a warning says how large the part is that is removed.

    Parameters
    ----------
    tensor : CartesianTensor
    values : ndarray of shape (n, 3, ..., 3)
    name : str, default="y"
        What they are called in messages.

    Returns
    -------
    ndarray of shape (n, 3, ..., 3)

    Raises
    ------
    ValueError
        If the symmetry is broken by more than a little.
    """
    broken = tensor.asymmetry(values)
    if broken > SYMMETRY_TOLERANCE:
        raise ValueError(
            f"{name} breaks the declared symmetry {tensor.formula!r}: {broken:.1%} of its norm lies outside. State "
            f"the symmetry that it has (inferred: target={infer_formula(values)!r}), or project it yourself with "
            f"CartesianTensor({tensor.formula!r}).project({name})"
        )
    if broken > _ROUNDING:
        warn(
            f"{name} is symmetric under {tensor.formula!r} only to {broken:.1e} of its norm; the asymmetric part is "
            "discarded. Set target= to keep it"
        )
    return tensor.project(values)
