r"""How far structures, or the environments of atoms, are from each other: what residuals are drawn against, and maps.

With an invariant kernel k, scaled to 1 on the diagonal, the distance in the space of its features is

.. math:: d(A, B) = \sqrt{2 - 2 k(A, B)} ,

between 0 and :math:`\sqrt 2`, at which two structures have nothing in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.decomposition import KernelPCA

from eqkernels._types import Floats, Ints
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import CovariantKernel, TensorKernel
from eqkernels.regression.fitted_targets import final_estimator


def features_of(estimator: Any, X: Iterable[Atoms] | EquivariantFeatures) -> EquivariantFeatures:
    """Features of structures as a fitted model sees them.

    Parameters
    ----------
    estimator : fitted estimator, or pipeline or search of one
    X : sequence of ase.Atoms, or EquivariantFeatures
        Features are returned as they are.

    Returns
    -------
    EquivariantFeatures

    Raises
    ------
    TypeError
        If the model has no descriptor that makes them.
    """
    if isinstance(X, EquivariantFeatures):
        return X
    estimator, final = getattr(estimator, "best_estimator_", estimator), final_estimator(estimator)
    features = estimator[:-1].transform(X) if len(getattr(estimator, "steps", ())) > 1 else X
    if getattr(final, "descriptor_", None) is not None and not isinstance(features, EquivariantFeatures):
        features = final.descriptor_.transform(features)
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(
            f"{type(final).__name__} has no descriptor that makes EquivariantFeatures: transform the structures with "
            "LambdaSOAP yourself and pass the features"
        )
    return features


def atoms_of_centers(features: EquivariantFeatures) -> Ints:
    """Index of each center among all atoms of all structures."""
    return (np.cumsum(features.n_atoms) - features.n_atoms)[features.structures] + features.atoms


def correlations(
    X: EquivariantFeatures, Y: EquivariantFeatures | None = None, kernel: TensorKernel | None = None
) -> Floats:
    """Invariant kernel between structures, scaled to 1 on the diagonal.

    Parameters
    ----------
    X, Y : EquivariantFeatures
        None for Y means X.
    kernel : kernel, default=None
        None: ``CovariantKernel(zeta=2, aggregate="mean")``.

    Returns
    -------
    ndarray of shape (n_structures_X, n_structures_Y)
    """
    kernel = CovariantKernel(aggregate="mean") if kernel is None else kernel
    left = kernel.diag(X, irrep="0e")[:, 0, 0]
    right = left if Y is None else kernel.diag(Y, irrep="0e")[:, 0, 0]
    scale = np.sqrt(left[:, None] * right)
    return kernel(X, Y, irrep="0e")[:, :, 0, 0] / np.where(scale > 0, scale, 1.0)


def nearest_distances(X: EquivariantFeatures, train: EquivariantFeatures, kernel: TensorKernel | None = None) -> Floats:
    """Distance of each structure to the nearest structure of a training set, see the formula of the module.

    Parameters
    ----------
    X, train : EquivariantFeatures
        Of one descriptor.
    kernel : kernel, default=None
        As for :func:`correlations`.

    Returns
    -------
    ndarray of shape (n_structures,)

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels import LambdaSOAP
    >>> frames = [molecule("H2O"), molecule("CH4"), molecule("SiH4")]
    >>> features = LambdaSOAP(cutoff=3.0, irreps="0e").fit_transform(frames)
    >>> nearest_distances(features, features[:2]).round(2)
    array([0.  , 0.  , 1.03])
    """
    return np.sqrt(np.maximum(2.0 - 2.0 * correlations(X, train, kernel).max(axis=1), 0.0))


def kernel_map(X: EquivariantFeatures, kernel: TensorKernel | None = None) -> tuple[Floats, Floats]:
    """Coordinates of structures on the first two components of kernel principal component analysis.

    Parameters
    ----------
    X : EquivariantFeatures
    kernel : kernel, default=None
        As for :func:`correlations`.

    Returns
    -------
    coordinates : ndarray of shape (n_structures, 2)
    shares : ndarray of shape (2,)
        Part of the variance that each component has.
    """
    matrix = correlations(X, None, kernel)
    coordinates, shares, n = np.zeros((len(X), 2)), np.zeros(2), min(2, len(X))
    variance = np.trace(matrix) - matrix.sum() / len(X)  # of the centered kernel
    if variance > 1e-12 * len(X):
        analysis = KernelPCA(n, kernel="precomputed", random_state=0)
        coordinates[:, :n] = analysis.fit_transform(matrix)
        shares[:n] = analysis.eigenvalues_ / variance
    return coordinates, shares
