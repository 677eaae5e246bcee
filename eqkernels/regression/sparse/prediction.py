"""What a sparse model predicts: tensors with error bars, and their derivatives by positions and strain.

Predictions are sums of kernels, so that their derivatives are a vector-Jacobian product of the kernel
(:mod:`eqkernels.kernels.cotangents`) followed by that of the descriptor
(:mod:`eqkernels.descriptors.density.gradients`).
"""

from __future__ import annotations

import numpy as np

from eqkernels._fitted import check_fitted
from eqkernels._numeric import as_floats
from eqkernels._ranges import structure_blocks
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.density.gradients import Derivatives
from eqkernels.descriptors.scalar_gradients import check_differentiable, features_vjp, scalars_only
from eqkernels.kernels import CovariantKernel
from eqkernels.regression.cancellation import contract, contract_vjp
from eqkernels.regression.covariance import copies
from eqkernels.regression.sparse.covariance import SparseCovariance
from eqkernels.regression.sparse.fold import FoldJob, points_in_use
from eqkernels.regression.sparse.memory import LARGEST
from eqkernels.regression.sparse.source import lazy_sequence
from eqkernels.regression.uncertainty import UncertainTensorRegressor
from eqkernels.structures import StructureBatch, as_list, atom_counts, cell_volumes
from eqkernels.structures.derivative_labels import check_volumes

_STRUCTURES_PER_BLOCK = 256


class SparsePredictor(UncertainTensorRegressor):
    """Base class: predictions from what :class:`SparseTensorGPR` has learned, in blocks of bounded memory."""

    _defaults = {**UncertainTensorRegressor._defaults, "kernel": CovariantKernel}

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

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
        check_differentiable(self.descriptor_, forward=False)
        n_atoms = atom_counts(X)
        given = self._checked_cotangents(cotangents, n_atoms)
        descriptor = scalars_only(self.descriptor_) if set(self.coef_) == {"0e"} else self.descriptor_
        parts, ends = [], np.concatenate([[0], np.cumsum(n_atoms if self.per_atom_ else np.ones(len(X), dtype=int))])
        done = 0
        for frames in self._blocks_of_frames(X):
            rows = slice(ends[done], ends[done + len(frames)])
            features, done = descriptor.transform(frames), done + len(frames)
            blocks = self._by_features(features, self._tensor().to_irreps(given[rows]))
            parts.append(features_vjp(descriptor, frames, blocks))
        return Derivatives(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _checked_cotangents(self, cotangents, n_atoms):
        shape = self._tensor().shape
        if self.per_atom_:
            given = [as_floats(one, f"cotangents[{k}]") for k, one in enumerate(cotangents)]
            bad = [k for k, (one, n) in enumerate(zip(given, n_atoms, strict=False)) if one.shape != (n, *shape)]
            if bad or len(given) != len(n_atoms):
                where = f"cotangents[{bad[0]}] of shape {given[bad[0]].shape}" if bad else f"{len(given)} cotangents"
                raise ValueError(f"cotangents must have the shapes of the predictions: got {where}")
            return np.concatenate(given)
        given = as_floats(cotangents, "cotangents")
        if given.shape != (len(n_atoms), *shape):
            raise ValueError(f"cotangents have shape {given.shape}, the predictions {(len(n_atoms), *shape)}")
        return given

    def predict_forces(self, X):
        """Predict forces with a model of energies: minus the derivatives by positions.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        list of ndarray of shape (n_atoms, 3)
            In the units of y over those of the positions.
        """
        X = self._checked_frames(X)
        self._check_scalar("predicted")
        positions, _ = self.vjp(X, self._ones(X))
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
            raise ValueError("the model was fitted to labels of atoms: forces and stress are those of an energy")
        return np.ones(len(X))

    def _check_scalar(self, what):
        if [str(irrep) for _, irrep in self._tensor().irreps] != ["0e"]:
            raise ValueError(f"forces and stress are {what} for scalar targets only, this one is {self.target_!r}")

    def _by_features(self, features, cotangents):
        """Differentiate the sum of cotangents (by irrep) times predictions by the features."""
        rows, known = self._rows_to_predict(features)
        points = EquivariantFeatures.of_checked(**self.points_)
        if self.per_atom_:
            first_atom = np.cumsum(features.n_atoms) - features.n_atoms
            atoms = (first_atom[features.structures] + features.atoms)[known]
            cotangents = {irrep: block[atoms] for irrep, block in cotangents.items()}
        out = {key: np.zeros(block.shape) for key, block in features.blocks.items() if key in points.blocks}
        for irrep, coef in self.coef_.items():
            coef = coef.reshape(len(points), -1, coef.shape[1])
            for one in self._slices(rows):
                cotangent, rounding = cotangents[irrep][one], self.cancellation_[irrep]
                parts = contract_vjp(self._kernel(), rows[one], points, irrep, cotangent, coef, rounding)
                start, stop = rows.offsets[[one.start, min(one.stop, len(rows))]]
                place = np.flatnonzero(known)[start:stop]
                for key, array in parts.items():
                    out[key][place] += array
        return out

    # -- tensors ----------------------------------------------------------------------------------------------------

    def _posterior(self, rows, joint, include_noise):
        means, covariances = self._predict_irreps(rows), {}
        for irrep, mean in means.items():
            spread = self._covariance(irrep)
            slices = [slice(None)] if joint else [slice(0), *self._slices(rows)]
            blocks = np.concatenate([spread(rows[one], joint, include_noise) for one in slices])
            covariances[irrep] = copies(blocks, np.eye(mean.shape[2]))
        return means, covariances

    def _covariance(self, irrep):
        names = ("pivots", "cholesky", "damped", "noise", "signal_variance", "unexplained")
        learned = {name: getattr(self, f"{name}_")[irrep] for name in names}
        points, learned["pivots"] = self._points_in_use(irrep)
        return SparseCovariance(self._kernel(), points, irrep, self._job().size(irrep), **learned)

    def _points_in_use(self, irrep):
        return points_in_use(
            EquivariantFeatures.of_checked(**self.points_), self.pivots_[irrep], 2 * int(irrep[:-1]) + 1
        )

    def _predict_irreps(self, features):
        predictions = {}
        for irrep, coef in self.coef_.items():
            d = 2 * int(irrep[:-1]) + 1
            points, pivots = self._points_in_use(irrep)
            of_points = np.zeros((len(points) * d, coef.shape[1]))
            of_points[pivots] = coef[self.pivots_[irrep]]
            coef = of_points.reshape(len(points), d, -1)
            parts = [np.zeros((0, d, coef.shape[2]))]
            for rows in self._slices(features):
                parts.append(contract(self._kernel(), features[rows], points, irrep, coef, self.cancellation_[irrep]))
            predictions[irrep] = np.concatenate(parts)
        return predictions

    # -- what all methods need -----------------------------------------------------------------------------------------

    def _kernel(self):
        return self._object("kernel")

    def _aggregate(self):
        return getattr(self._kernel(), "aggregate", "sum")

    def _checked_input(self, X):
        return X if lazy_sequence(X) and len(X) else super()._checked_input(X)

    def _read(self, frames, origin):
        """Part of a sequence that may make its structures when they are asked for."""
        if self._takes_batches:
            return StructureBatch.from_frames(frames, origin)
        return as_list(frames, origin)

    def _job(self):
        blocks = {str(irrep): multiplicity for multiplicity, irrep in self._tensor().irreps}
        return FoldJob(self.descriptor_, self._kernel(), self.points_, self.species_, self.baseline,
                       self.pivots_, blocks, self.environment_size_, self._bytes())  # fmt: skip

    def _bytes(self):
        return min(self.memory * 2.0**30, LARGEST)

    # -- blocks of bounded memory -----------------------------------------------------------------------------------

    def _slices(self, features):
        size = self._job().labels_per_block()
        return [slice(start, start + size) for start in range(0, len(features), size)]

    def _blocks_of_features(self, X):
        if isinstance(X, EquivariantFeatures):
            yield from super()._blocks_of_features(X)
            return
        for part in self._blocks_of_frames(X):
            yield from super()._blocks_of_features(part)

    def _blocks_of_frames(self, X):
        limit = self._job().centers_per_block()
        for start in range(0, len(X), _STRUCTURES_PER_BLOCK):
            part = self._read(X[start : start + _STRUCTURES_PER_BLOCK], start)
            for first, stop in structure_blocks(np.concatenate([[0], np.cumsum(atom_counts(part))]), limit):
                yield part[first:stop]
