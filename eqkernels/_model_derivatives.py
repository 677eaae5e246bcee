"""Values, derivatives and error bars of fitted models, for calculators and spectra, whatever the model.

All that these ask of a model beyond ``predict`` goes through here.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray


def model_vjp(model: Any, frames: list[Atoms], cotangents: Any) -> Any:
    """Differentiate sum(cotangents * model.predict(frames)) by positions and strain.

    Parameters
    ----------
    model : fitted estimator
    frames : list of ase.Atoms
    cotangents : ndarray, or list of them
        Of the shape of the predictions.

    Returns
    -------
    Derivatives
        ``positions`` of shape (n_atoms in all, 3) and ``strain`` of shape (n_structures, 3, 3).

    Raises
    ------
    TypeError
        If the model has no derivatives.
    """
    if not has_derivatives(model):
        raise TypeError(
            f"{type(model).__name__} has no derivatives by positions (no method vjp): take a SparseTensorGPR or an "
            "EquivariantNetworkRegressor"
        )
    return model.vjp(frames, cotangents)


def has_derivatives(model: Any) -> bool:
    """Whether a model can be differentiated by the positions."""
    return hasattr(model, "vjp")


def value_and_vjp(model: Any, atoms: Atoms, cotangents: NDArray[np.float64]) -> tuple[NDArray[Any], Any]:
    """Predict one structure, and differentiate sum(cotangents * prediction) by its positions and strain.

    Features are computed once for both where the model is made of a descriptor and of what stands on its features.

    Parameters
    ----------
    model : fitted estimator
    atoms : ase.Atoms
    cotangents : ndarray of shape (1, 3, ..., 3)

    Returns
    -------
    prediction : ndarray of shape (1, 3, ..., 3)
    derivatives : Derivatives or None
        None if the model predicts arrays of another shape than the cotangents.
    """
    descriptor: Any = getattr(model, "descriptor_", None)
    if not hasattr(model, "_features_vjp") or not hasattr(descriptor, "vjp"):
        prediction = np.asarray(model.predict([atoms]))
        return prediction, model_vjp(model, [atoms], cotangents) if prediction.shape == cotangents.shape else None
    batch = model._checked_input([atoms])
    features = descriptor.transform(batch)
    prediction = np.asarray(model.predict(features))
    if prediction.shape != cotangents.shape:
        return prediction, None
    by_features = model._features_vjp(features, model._tensor().to_irreps(cotangents))
    return prediction, descriptor.vjp(batch, by_features)


def jacobian(model: Any, atoms: Atoms, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Differentiate every component of the tensor of a structure by the positions.

    Parameters
    ----------
    model : fitted estimator
    atoms : ase.Atoms
    shape : tuple of int
        Of the tensor.

    Returns
    -------
    ndarray of shape (n_atoms, *shape, 3)
    """
    size = int(np.prod(shape))
    derivatives = model_vjp(model, [atoms] * size, np.eye(size).reshape(size, *shape))
    return np.moveaxis(np.asarray(derivatives.positions).reshape(*shape, len(atoms), 3), len(shape), 0)


def gives_std(model: Any, method: str = "predict") -> bool:
    """Whether a method of a model returns standard deviations when asked."""
    found = getattr(model, method, None)
    return found is not None and "return_std" in inspect.signature(found).parameters


class OneProperty:
    """A property of a model of several, as a model of its own."""

    def __init__(self, model: Any, name: str):
        self.model, self.name = model, name

    def predict(self, X: Any) -> Any:
        """Predict the property."""
        return self.model.predict(X)[self.name]

    def vjp(self, X: Any, cotangents: Any) -> Any:
        """Differentiate the property; arguments as of the model of several."""
        others = {
            name: [np.zeros(np.shape(one)) for one in values] if values.dtype == object else np.zeros(values.shape)
            for name, values in self.model.predict(X).items()
        }
        return self.model.vjp(X, others | {self.name: cotangents})
