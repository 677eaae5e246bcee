"""Derivatives by positions and strain of any model that has them, pipelines and searches included.

A regressor with ``descriptor=`` has the same as methods. In ``make_pipeline(LambdaSOAP(), TensorKernelRidge())`` the
regressor has seen no positions; the functions here put both together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels.descriptors import Derivatives
from eqkernels.regression.pipelines import differentiable as differentiable

__all__ = ["predict_derivatives", "predict_forces", "predict_stress", "vjp"]


def predict_derivatives(model: Any, frames: Sequence[Atoms], **options: Any) -> list[NDArray[np.float64]]:
    """Differentiate the tensors of structures by the positions of their atoms.

    Parameters
    ----------
    model : estimator, or pipeline or search of one
        Fitted to frames and tensors of structures: ``TensorRidge``, ``TensorKernelRidge``, ``TensorGPR``,
        ``SparseTensorGPR`` or ``EquivariantNetworkRegressor``.
    frames : sequence of ase.Atoms
    **options
        Of the method of the same name: ``return_std=True`` of ``SparseTensorGPR``.

    Returns
    -------
    list of ndarray of shape (n_atoms, 3, ..., 3)
        For each structure ``[a, i, ..., j]``, the derivative of component i ... by coordinate j of atom a.

    Raises
    ------
    TypeError
        If the model has no derivatives; the message says why.

    See Also
    --------
    SparseTensorGPR.predict_derivatives : With error bars.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from eqkernels import LambdaSOAP, TensorRidge
    >>> from eqkernels.datasets import load_water_clusters
    >>> frames, dipoles = load_water_clusters(return_X_y=True, target="dipole")
    >>> model = make_pipeline(LambdaSOAP(n_max=3, l_max=2), TensorRidge(alpha=1e-6)).fit(frames[:50], dipoles[:50])
    >>> charges = predict_derivatives(model, frames[50:51])[0]
    >>> charges.shape == (len(frames[50]), 3, 3), bool(abs(charges.sum(axis=0)).max() < 1e-10)
    (True, True)
    """
    return differentiable(model, "predict_derivatives").predict_derivatives(frames, **options)


def predict_forces(model: Any, frames: Sequence[Atoms], **options: Any) -> list[NDArray[np.float64]]:
    """Predict forces with a model of energies.

    Parameters
    ----------
    model, frames, **options
        As for :func:`predict_derivatives`.

    Returns
    -------
    list of ndarray of shape (n_atoms, 3)
    """
    return differentiable(model, "predict_forces").predict_forces(frames, **options)


def predict_stress(model: Any, frames: Sequence[Atoms], **options: Any) -> NDArray[np.float64]:
    """Predict stress with a model of energies, with the sign of ASE.

    Parameters
    ----------
    model, frames, **options
        As for :func:`predict_derivatives`.

    Returns
    -------
    ndarray of shape (n_structures, 3, 3)
    """
    return differentiable(model, "predict_stress").predict_stress(frames, **options)


def vjp(model: Any, frames: Sequence[Atoms], cotangents: Any) -> Derivatives:
    """Vector-Jacobian product: derivatives of sum(cotangents * model.predict(frames)) by positions and strain.

    Parameters
    ----------
    model, frames
        As for :func:`predict_derivatives`; also models of tensors of atoms.
    cotangents : array-like, or list of array-like
        Of the shape of ``model.predict(frames)``.

    Returns
    -------
    Derivatives
    """
    return differentiable(model, "vjp").vjp(frames, cotangents)


def has_derivatives(model: Any) -> bool:
    """Whether a model can be differentiated by the positions."""
    try:
        differentiable(model)
    except TypeError:
        return False
    return True


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
    model = differentiable(model)
    descriptor: Any = getattr(model, "descriptor_", None)
    of_frames = getattr(model, "baseline_model_", None) is not None  # which does not predict from features
    if not hasattr(model, "_vjp_of_part") or descriptor is None or of_frames:
        prediction = np.asarray(model.predict([atoms]))
        return prediction, model.vjp([atoms], cotangents) if prediction.shape == cotangents.shape else None
    frames = model._frames([atoms])
    features = descriptor.transform(frames)
    if hasattr(model, "_energies_and_vjp") and cotangents.ndim == 1:
        both = model._energies_and_vjp(descriptor, frames, features, cotangents)
        if both is not None:
            return both
    prediction = np.asarray(model.predict(features))
    if prediction.shape != cotangents.shape:
        return prediction, None
    return prediction, model._vjp_of_part(descriptor, frames, features, model._tensor().to_irreps(cotangents))


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
    derivatives = vjp(model, [atoms] * size, np.eye(size).reshape(size, *shape))
    return np.moveaxis(np.asarray(derivatives.positions).reshape(*shape, len(atoms), 3), len(shape), 0)


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
