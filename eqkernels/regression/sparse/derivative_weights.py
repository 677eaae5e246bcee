r"""Weights of charges in a kernel, chosen by labels that are derivatives, where tensors are few or none.

The rows D of the kernels of derivatives with the sparse environments, and the kernels :math:`K_{MM}` among these, are
linear in each weight w. With the features :math:`\Phi(w) = D(w)\, K_{MM}(w)^{-1/2}` the labels are

.. math:: y \sim \mathcal N(0, s\, (\Phi \Phi^T + \gamma)) ,

and w is the one of the largest likelihood over the signal variance s and decades of the noise :math:`\gamma`, as of the
model itself (:mod:`eqkernels.regression.sparse.solve`), for the labels of some structures and some of the points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from eqkernels._types import Floats
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import TensorKernel
from eqkernels.kernels.environments import evenly
from eqkernels.regression.sparse.derivatives import atoms_of_centers, kernel_derivatives, offset_slopes
from eqkernels.regression.sparse.element_charges import IRREP, element_slopes
from eqkernels.regression.sparse.model import some_points
from eqkernels.regression.weights import NOISES, WEIGHTS, open_weights
from eqkernels.structures import DerivativeLabels

#: structures with tensors from which on these choose the weights
FEWEST_TENSORS = 20
# Structures and points by which weights are chosen.
_STRUCTURES, _POINTS = 20, 60
# Directions of the points below this part of the largest eigenvalue are linear combinations of others.
_RANK = 1e-12


def choose_by_derivatives(
    kernel: TensorKernel, descriptor: Any, data: Any, points: EquivariantFeatures, memory: float, species: Any = None
) -> TensorKernel:
    """Copy of a kernel with its open weights chosen by derivatives, and fixed.

    Parameters
    ----------
    kernel : TensorKernel
    descriptor : transformer
        Fitted.
    data : TrainingData
        With ``derivatives``.
    points : EquivariantFeatures
        Sparse environments, each a structure of its own.
    memory : float
        Bytes for the derivatives of features.
    species : ndarray of int, default=None
        Elements with charges of their own, which are fitted first.

    Returns
    -------
    TensorKernel
    """
    names, (frames, labels) = open_weights(kernel), _some_labels(data)
    multiplicities = {irrep: block.shape[2] for irrep, block in data.blocks.items()}
    sizes = {irrep: np.nanmean(labels.of_irrep(irrep, multiplicities) ** 2) for irrep in multiplicities}
    irrep = max(sizes, key=sizes.__getitem__)
    features = descriptor.transform(frames)
    offset = offset_slopes(kernel, features, irrep)
    values = labels.of_irrep(irrep, multiplicities)
    values = values if offset is None else values - offset[labels.owners][..., None]
    flat = values.reshape(-1, values.shape[3]).copy()
    known = np.isfinite(flat).all(axis=1)
    if species is not None and irrep == IRREP:
        of_atoms = np.zeros((features.n_atoms.sum(), 3, 3, len(species)))
        of_atoms[atoms_of_centers(features)] = element_slopes(features, species)
        design = of_atoms[labels.owners].reshape(len(flat), -1)[known]
        flat[known] -= design @ np.linalg.lstsq(design, flat[known], rcond=None)[0]
    points = some_points(points, evenly(len(points), _POINTS), irrep, kernel.more_irreps)

    def rows_of(one):
        part = frames, features, one, points, {"derivatives": labels}, memory, irrep
        rows = kernel_derivatives(descriptor, *part)["derivatives"]
        own = one(points, irrep=irrep).transpose(0, 2, 1, 3)
        size = own.shape[0] * own.shape[1]
        return rows.reshape(-1, size), own.reshape(size, size)

    rest, parts = _terms(kernel, names, rows_of)
    likelihood = _Likelihood(rest, parts, flat, known)
    return clone(kernel).set_params(**likelihood.best(), **{f"{name}_bounds": "fixed" for name in names})


def _some_labels(data):
    """Frames of some structures with derivatives, and their labels."""
    source, labels = data.source, data.derivatives["derivatives"]
    starts = source.ends - source.n_atoms
    structures = np.unique(np.searchsorted(source.ends, labels.owners, side="right"))
    some = structures[evenly(len(structures), _STRUCTURES)]
    values, owners, first = [], [], 0
    for k in some:
        part = labels.between(starts[k], source.ends[k])
        values.append(part.values)
        owners.append(first + part.owners)
        first += source.n_atoms[k]
    return source[some], DerivativeLabels(np.concatenate(values), np.concatenate(owners))


def _terms(kernel, names, rows_of):
    """Rows and kernels of the points without the open weights, and those that each weight multiplies."""
    fixed = {f"{name}_bounds": "fixed" for name in names}
    one = rows_of(clone(kernel).set_params(**dict.fromkeys(names, 1.0), **fixed))
    parts = {}
    for name in names:
        two = rows_of(clone(kernel).set_params(**{**dict.fromkeys(names, 1.0), name: 2.0}, **fixed))
        parts[name] = [b - a for a, b in zip(one, two, strict=True)]
    rest = [array - sum(part[k] for part in parts.values()) for k, array in enumerate(one)]
    return rest, parts


class _Likelihood:
    """Likelihood of the labels as a function of the weights.

    Parameters
    ----------
    rest : pair of arrays
        Rows (n, m) and kernels among the points (m, m) without the open weights.
    parts : dict of str to such pairs
    values : ndarray of shape (n, n_copies)
    known : ndarray of bool, shape (n,)
        Which of the labels are known.
    """

    def __init__(self, rest, parts, values, known):
        self.names, (self.n, self.copies) = list(parts), (int(known.sum()), values.shape[1])
        arrays = [rest[0][known], *(part[0][known] for part in parts.values()), values[known]]
        # no more rows than columns: the likelihood depends on scalar products alone
        upper = np.linalg.qr(np.concatenate(arrays, axis=1), mode="r") if known.any() else np.zeros((0, 0))
        ends = np.cumsum([array.shape[1] for array in arrays])
        *rows, self.values = (part for part in np.split(upper, ends[:-1], axis=1))
        self.rest = rows[0], rest[1]
        self.parts = {name: (row, parts[name][1]) for name, row in zip(self.names, rows[1:], strict=True)}

    def best(self) -> dict[str, float]:
        """Weights of the largest likelihood, one after the other."""
        size = np.sum(_features(*self.rest) ** 2)
        weights = dict.fromkeys(self.names, 1.0)
        if size > 0 and self.n:
            traces = {name: np.sum(_features(*part) ** 2) for name, part in self.parts.items()}
            units = {name: size / max(trace, np.finfo(float).tiny) for name, trace in traces.items()}
            weights = {name: WEIGHTS[0] * unit for name, unit in units.items()}
            for name, unit in units.items():
                found = {weight: self({**weights, name: weight}) for weight in WEIGHTS * unit}
                weights[name] = max(found, key=found.__getitem__)
        return {name: float(weight) for name, weight in weights.items()}

    def __call__(self, weights: dict[str, float]) -> float:
        """Logarithm of the likelihood at the best noise and signal variance, up to a constant."""
        rows, own = (
            array + sum(weights[name] * part[k] for name, part in self.parts.items())
            for k, array in enumerate(self.rest)
        )
        features = _features(rows, own)
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        along = np.sum((left.T @ self.values) ** 2, axis=1)
        beyond = max(np.sum(self.values**2) - np.sum(along), 0.0)
        return max(self._at(noise, singular**2, along, beyond) for noise in NOISES * np.sum(singular**2) / self.n)

    def _at(self, noise, eigenvalues, along, beyond):
        misfit = np.sum(along / (eigenvalues + noise)) + beyond / noise
        determinant = np.sum(np.log(eigenvalues + noise)) + (self.n - len(eigenvalues)) * np.log(noise)
        misfit = max(misfit / self.n / self.copies, np.finfo(float).tiny)
        return -0.5 * self.copies * (self.n * np.log(misfit) + determinant)


def _features(rows: Floats, own: Floats) -> Floats:
    """Rows times the inverse square root of the kernels among the points."""
    values, vectors = np.linalg.eigh(own)
    kept = values > _RANK * max(values[-1], np.finfo(float).tiny)
    return (rows @ vectors[:, kept]) / np.sqrt(values[kept])
