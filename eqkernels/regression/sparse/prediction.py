"""What a sparse model predicts: means, error bars, and derivatives of the means by positions and strain.

Derivatives by positions are the vector-Jacobian product of the kernels (:mod:`eqkernels.kernels.vjp`) followed by that
of the descriptor (:mod:`eqkernels.descriptors.density.gradients`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from eqkernels._fitted import check_fitted
from eqkernels._numeric import as_floats
from eqkernels._ranges import structure_blocks
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.density.gradients import Derivatives
from eqkernels.descriptors.scalar_gradients import check_differentiable, features_vjp, scalars_only
from eqkernels.regression.covariance import copies
from eqkernels.regression.kernel_ridge import aggregating_kernel
from eqkernels.regression.sparse.covariance import SparseCovariance
from eqkernels.regression.sparse.memory import LARGEST
from eqkernels.regression.sparse.model import SparseModel
from eqkernels.regression.sparse.source import lazy_sequence
from eqkernels.regression.uncertainty import UncertainTensorRegressor
from eqkernels.structures import StructureBatch, as_list, atom_counts, cell_volumes
from eqkernels.structures.derivative_labels import check_volumes

# Structures read at once from a sequence that is not in memory.
_STRUCTURES_PER_BLOCK = 256


class SparsePredictor(UncertainTensorRegressor):
    """Base class: predicts with what the fit of a subclass has learned."""

    def vjp(self, X, cotangents):
        """Vector-Jacobian product: derivatives of sum(cotangents * predict(X)) by positions and strain.

        The derivatives of a dipole along x, for instance, are those for cotangents (1, 0, 0).

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : array-like, or list of array-like
            Of the shape of ``predict(X)``.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If cotangents have another shape than the predictions.
        """
        X = self._checked_frames(X)
        descriptor: Any = self.descriptor_
        check_differentiable(descriptor, forward=False)
        n_atoms = atom_counts(X)
        cotangents = checked_cotangents(cotangents, n_atoms, self._tensor().shape, self.per_atom_)
        if set(self.coef_) == {"0e"}:
            descriptor = scalars_only(descriptor)
        ends = np.concatenate([[0], np.cumsum(n_atoms if self.per_atom_ else np.ones(len(X), dtype=int))])
        parts, start = [], 0
        for frames in self._blocks_of_frames(X):
            stop = start + len(frames)
            blocks = self._tensor().to_irreps(cotangents[ends[start] : ends[stop]])
            features, start = descriptor.transform(frames), stop
            parts.append(features_vjp(descriptor, frames, self._features_vjp(features, blocks)))
        return Derivatives.joined(parts)

    def _features_vjp(self, features, cotangents):
        """Differentiate sum(cotangents * predictions) by the features, irrep by irrep."""
        model = self._model()
        rows, known = self._rows_to_predict(features)
        if self.per_atom_:
            first_atom = np.cumsum(features.n_atoms) - features.n_atoms
            atoms = (first_atom[features.structures] + features.atoms)[known]
            cotangents = {irrep: block[atoms] for irrep, block in cotangents.items()}
        out = {key: np.zeros(block.shape) for key, block in features.blocks.items() if key in model.points.blocks}
        add_features_vjp(
            out, model, self._sums, self.coef_, self.cancellation_, rows, np.flatnonzero(known), cotangents
        )
        return out

    def predict_forces(self, X):
        """Predict forces with a model of energies: minus the derivatives by positions.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        list of ndarray of shape (n_atoms, 3)
            In the units of y over those of the positions.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If the target is not an energy: a scalar of structures.
        """
        X = self._checked_frames(X)
        self._check_scalar("predicted")
        positions = self.vjp(X, self._ones(X)).positions
        return np.split(-positions, np.cumsum(atom_counts(X))[:-1])

    def predict_stress(self, X):
        """Predict stress with a model of energies: derivatives by strain over the volume, as in ASE.

        Parameters
        ----------
        X : sequence of ase.Atoms
            With cells of three vectors.

        Returns
        -------
        ndarray of shape (n_structures, 3, 3)
            In the units of y over the cube of those of the positions; positive where the cell wants to shrink.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If the target is not a scalar of structures, or a structure has no cell of three vectors.
        """
        X = self._checked_frames(X)
        volumes = cell_volumes(X)
        self._check_scalar("predicted")
        check_volumes(volumes, np.arange(len(volumes)))
        strain = self.vjp(X, self._ones(X)).strain
        return 0.5 * (strain + strain.transpose(0, 2, 1)) / volumes[:, None, None]

    def _checked_frames(self, X):
        check_fitted(self)
        X = self._checked_input(X)
        if isinstance(X, EquivariantFeatures) or self.descriptor_ is None:
            raise TypeError("derivatives by positions need frames, both at fit and here, not features")
        return X

    def _ones(self, X):
        if self.per_atom_:
            raise ValueError("the model was fitted to per-atom targets: forces and stress are those of an energy")
        return np.ones(len(X))

    def _check_scalar(self, what):
        if [str(irrep) for _, irrep in self._tensor().irreps] != ["0e"]:
            raise ValueError(f"forces and stress are {what} for scalar targets only, this one is {self.target_!r}")

    # -- what the base class asks for ----------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

    def _kernel(self):
        return aggregating_kernel(self)

    def _aggregate(self):
        return getattr(self._kernel(), "aggregate", "sum")

    def _checked_input(self, X):
        return X if lazy_sequence(X) and len(X) else super()._checked_input(X)

    def _blocks_of_features(self, X):
        parts = [X] if isinstance(X, EquivariantFeatures) else self._blocks_of_frames(X)
        for part in parts:
            yield from super()._blocks_of_features(part)

    def _blocks_of_frames(self, X):
        """Frames in blocks of bounded memory, of a sequence that may make them when they are asked for."""
        limit = self._model().centers_per_block()
        for start in range(0, len(X), _STRUCTURES_PER_BLOCK):
            part = X[start : start + _STRUCTURES_PER_BLOCK]
            part = StructureBatch.from_frames(part, start) if self._takes_batches else as_list(part, start)
            for first, stop in structure_blocks(np.concatenate([[0], np.cumsum(atom_counts(part))]), limit):
                yield part[first:stop]

    def _predict_irreps(self, features):
        return predict_irreps(self._model(), self._sums, self.coef_, self.cancellation_, features)

    def _posterior(self, rows, joint, include_noise):
        means, covariances = self._predict_irreps(rows), {}
        for irrep, mean in means.items():
            spread = self._covariance(irrep)
            slices = [slice(None)] if joint else [slice(0), *self._slices(rows)]
            blocks = np.concatenate([spread(rows[part], joint, include_noise) for part in slices])
            covariances[irrep] = copies(blocks, np.eye(mean.shape[2]))
        return means, covariances

    def _covariance(self, irrep):
        model = self._model()
        points, pivots = model.points_in_use(irrep)
        learned = (self.cholesky_, self.damped_, self.noise_, self.signal_variance_, self.unexplained_)
        return SparseCovariance(
            model.kernel, points, irrep, model.size(irrep), pivots, *(values[irrep] for values in learned)
        )

    def _slices(self, features):
        return self._model().slices(len(features))

    def _model(self):
        multiplicities = {str(irrep): multiplicity for multiplicity, irrep in self._tensor().irreps}
        points = EquivariantFeatures.of_checked(**self.points_)
        return SparseModel(self._kernel(), points, self.species_, self.baseline, self.pivots_, multiplicities,
                           self.environment_size_, self._bytes())  # fmt: skip

    def _bytes(self):
        return min(self.memory * 2.0**30, LARGEST)


def predict_irreps(model, sums, coef, cancellation, features):
    """Irreducible components without the baseline.

    Parameters
    ----------
    model : SparseModel
    sums : KernelSums
    coef : dict of str to ndarray of shape (n_points (2 lambda + 1), multiplicity)
    cancellation : dict of str to float
    features : EquivariantFeatures

    Returns
    -------
    dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
    """
    predictions = {}
    for irrep, every in coef.items():
        parts = [np.zeros((0, model.dim(irrep), every.shape[1]))]
        for rows in model.slices(len(features)):
            parts.append(sums(irrep, features[rows], cancellation[irrep], partial(_terms, model, irrep, every)))
        predictions[irrep] = np.concatenate(parts)
    return predictions


def _terms(model, irrep, coef):
    """Kernel, sparse points and coefficients of an irrep."""
    points, pivots = model.points_in_use(irrep)
    used = np.zeros((len(points) * model.dim(irrep), coef.shape[1]))
    used[pivots] = coef[model.pivots[irrep]]
    return model.kernel, points, used.reshape(len(points), model.dim(irrep), -1)


def add_features_vjp(out, model, sums, coef, cancellation, rows, centers, cotangents):
    """Add the derivatives of sum(cotangents * predictions) by the features.

    Parameters
    ----------
    out : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
    model, sums, coef, cancellation
        As for :func:`predict_irreps`.
    rows : EquivariantFeatures
        With one structure for each prediction.
    centers : ndarray of int
        The centers of ``out`` that the centers of ``rows`` are, in ascending order.
    cotangents : dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
    """
    for irrep, every in coef.items():
        for part in model.slices(len(rows)):
            terms = partial(_terms, model, irrep, every)
            gradients = sums.vjp(irrep, rows[part], cotangents[irrep][part], cancellation[irrep], terms)
            start, stop = rows.offsets[[part.start, min(part.stop, len(rows))]]
            for key, array in gradients.items():
                chosen = centers[start:stop]
                together = len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1  # a slice makes no copies
                out[key][slice(chosen[0], chosen[-1] + 1) if together else chosen] += array


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
        values = as_floats(cotangents, "cotangents")
        if values.shape != (len(n_atoms), *shape):
            raise ValueError(f"cotangents have shape {values.shape}, the predictions {(len(n_atoms), *shape)}")
        return values
    arrays = [as_floats(array, f"cotangents[{k}]") for k, array in enumerate(cotangents)]
    bad = [k for k, (array, n) in enumerate(zip(arrays, n_atoms, strict=False)) if array.shape != (n, *shape)]
    if bad or len(arrays) != len(n_atoms):
        where = f"cotangents[{bad[0]}] of shape {arrays[bad[0]].shape}" if bad else f"{len(arrays)} cotangents"
        raise ValueError(f"cotangents must have the shapes of the predictions: got {where}")
    return np.concatenate(arrays)
