"""What a sparse model predicts: sums of kernels, and their derivatives by the features.

Followed by the vector-Jacobian product of the descriptor (:mod:`eqkernels.descriptors.density.gradients`), that of the
kernel (:mod:`eqkernels.kernels.vjp`) gives derivatives by positions and strain.
"""

from __future__ import annotations

import numpy as np

from eqkernels._numeric import as_floats
from eqkernels.regression.cancellation import contract, contract_vjp


def predict_irreps(model, coef, cancellation, features):
    """Irreducible components without the baseline.

    Parameters
    ----------
    model : SparseModel
    coef : dict of str to ndarray of shape (n_points (2 lambda + 1), multiplicity)
    cancellation : dict of str to float
    features : EquivariantFeatures

    Returns
    -------
    dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
    """
    predictions = {}
    for irrep, every in coef.items():
        d = 2 * int(irrep[:-1]) + 1
        points, pivots = model.points_in_use(irrep)
        used = np.zeros((len(points) * d, every.shape[1]))
        used[pivots] = every[model.pivots[irrep]]
        used = used.reshape(len(points), d, -1)
        parts = [np.zeros((0, d, used.shape[2]))]
        for rows in model.slices(len(features)):
            parts.append(contract(model.kernel, features[rows], points, irrep, used, cancellation[irrep]))
        predictions[irrep] = np.concatenate(parts)
    return predictions


def add_features_vjp(out, model, coef, cancellation, rows, centers, cotangents):
    """Add the derivatives of sum(cotangents * predictions) by the features.

    Parameters
    ----------
    out : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
    model, coef, cancellation
        As for :func:`predict_irreps`.
    rows : EquivariantFeatures
        With one structure for each prediction.
    centers : ndarray of int
        The centers of ``out`` that the centers of ``rows`` are.
    cotangents : dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
    """
    for irrep, every in coef.items():
        every = every.reshape(len(model.points), -1, every.shape[1])
        for part in model.slices(len(rows)):
            cotangent, rounding = cotangents[irrep][part], cancellation[irrep]
            gradients = contract_vjp(model.kernel, rows[part], model.points, irrep, cotangent, every, rounding)
            start, stop = rows.offsets[[part.start, min(part.stop, len(rows))]]
            for key, array in gradients.items():
                out[key][centers[start:stop]] += array


def checked_cotangents(cotangents, n_atoms, shape, per_atom):
    """Cotangents as one array, whose rows are those of structures or of all their atoms.

    Parameters
    ----------
    cotangents : array-like, or list of array-like
    n_atoms : ndarray of int, shape (n_structures,)
    shape : tuple of int
        Of a tensor.
    per_atom : bool

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If they do not have the shape of the predictions.
    """
    if not per_atom:
        given = as_floats(cotangents, "cotangents")
        if given.shape != (len(n_atoms), *shape):
            raise ValueError(f"cotangents have shape {given.shape}, the predictions {(len(n_atoms), *shape)}")
        return given
    given = [as_floats(one, f"cotangents[{k}]") for k, one in enumerate(cotangents)]
    bad = [k for k, (one, n) in enumerate(zip(given, n_atoms, strict=False)) if one.shape != (n, *shape)]
    if bad or len(given) != len(n_atoms):
        where = f"cotangents[{bad[0]}] of shape {given[bad[0]].shape}" if bad else f"{len(given)} cotangents"
        raise ValueError(f"cotangents must have the shapes of the predictions: got {where}")
    return np.concatenate(given)
