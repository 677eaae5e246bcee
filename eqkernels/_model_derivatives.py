"""Derivatives of what models predict, by positions and strain, for whoever needs no more than that.

All derivatives that calculators and spectra take of models go through these functions.
"""

from __future__ import annotations

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
    if not hasattr(model, "vjp"):
        raise TypeError(
            f"{type(model).__name__} has no derivatives by positions (no method vjp): take a SparseTensorGPR or an "
            "EquivariantNetworkRegressor"
        )
    return model.vjp(frames, cotangents)


def model_jacobian(model: Any, atoms: Atoms, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Differentiate every component of a tensor of a structure.

    Parameters
    ----------
    model : fitted estimator
    atoms : ase.Atoms
    shape : tuple of int
        Of the tensor.

    Returns
    -------
    positions : ndarray of shape (n_atoms, *shape, 3)
    strain : ndarray of shape (*shape, 3, 3)
    """
    size = int(np.prod(shape))
    unit = np.eye(size).reshape(size, *shape)
    derivatives = model_vjp(model, [atoms] * size, unit)
    positions = np.asarray(derivatives.positions).reshape(*shape, len(atoms), 3)
    return np.moveaxis(positions, len(shape), 0), np.asarray(derivatives.strain).reshape(*shape, 3, 3)
