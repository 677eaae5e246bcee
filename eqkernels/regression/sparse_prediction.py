r"""What a sparse model predicts: tensors with error bars, and the derivatives of scalars.

A scalar :math:`y(A) = \sum_m k(A, m)\, c_m` has the derivatives :math:`\partial y / \partial \mathbf p_i = \sum_m c_m
(a_{im} \mathbf p_m + b_{im} \mathbf p_i)` by the features of its environments (:mod:`eqkernels.kernels.slopes`), and by
those, through the vector-Jacobian product of the descriptor, its derivatives by positions and strain.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.density import structure_blocks
from eqkernels.descriptors.gradients import Derivatives
from eqkernels.descriptors.scalar_gradients import check_differentiable, scalar_vjp, scalars_only
from eqkernels.kernels import CovariantKernel
from eqkernels.regression.covariance import copies
from eqkernels.regression.sparse_covariance import SparseCovariance
from eqkernels.regression.sparse_fold import FoldJob
from eqkernels.regression.sparse_source import lazy_sequence
from eqkernels.regression.uncertainty import UncertainTensorRegressor
from eqkernels.structures.derivative_labels import check_volumes

_STRUCTURES_PER_BLOCK = 256


class SparsePredictor(UncertainTensorRegressor):
    """Base class: predictions from what :class:`SparseTensorGPR` has learned, in blocks of bounded memory."""

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

    def vjp(self, X, cotangents):
        """Vector-Jacobian product: derivatives of sum(cotangents * predict(X)), for scalar targets.

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
            If the target is a tensor, or cotangents have another shape than the predictions.
        """
        X = self._checked_frames(X)
        self._check_scalar("predicted")
        check_differentiable(self.features_, forward=False)
        given = cotangents
        if self.per_atom_:
            given = np.concatenate([np.asarray(one, dtype=float).reshape(-1) for one in cotangents])
        given, parts, start = np.asarray(given, dtype=float), [], 0
        if not self.per_atom_ and given.shape != (len(X),):
            raise ValueError(f"cotangents have shape {given.shape}, the predictions ({len(X)},)")
        for frames in self._blocks_of_frames(X):
            features = scalars_only(self.features_).transform(frames)
            stop = start + (int(features.n_atoms.sum()) if self.per_atom_ else len(frames))
            if stop > len(given):
                break
            parts.append(scalar_vjp(self.features_, frames, self._by_features(features, given[start:stop])))
            start = stop
        if start != len(given) or not parts:
            raise ValueError(f"cotangents have {len(given)} values, X has not as many atoms: give one for each")
        return Derivatives(*(np.concatenate(part) for part in zip(*parts, strict=True)))

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
        positions, _ = self.vjp(X, self._ones(X))
        return np.split(-positions, np.cumsum([len(atoms) for atoms in X])[:-1])

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
        volumes = np.array([abs(np.linalg.det(atoms.cell.array)) for atoms in X])
        check_volumes(volumes, np.arange(len(volumes)))
        strain = self.vjp(X, self._ones(X)).strain
        return 0.5 * (strain + strain.transpose(0, 2, 1)) / volumes[:, None, None]

    def _checked_frames(self, X):
        check_is_fitted(self)
        X = self._checked_input(X)
        if isinstance(X, EquivariantFeatures) or self.features_ is None:
            raise TypeError("derivatives by positions need frames, both at fit and here, not features")
        return X

    def _ones(self, X):
        if self.per_atom_:
            raise ValueError("the model was fitted to labels of atoms: forces and stress are those of an energy")
        return np.ones(len(X))

    def _check_scalar(self, what):
        if [str(irrep) for _, irrep in self._tensor().irreps] != ["0e"]:
            raise ValueError(f"derivatives are {what} for scalar targets only, this one is {self.target_!r}")

    def _by_features(self, features, cotangents):
        """Differentiate the sum of cotangents times predictions by the invariant features, (n_centers, 1, n)."""
        rows, known = self._rows_to_predict(features)
        weight = cotangents[rows.structures]
        if self.per_atom_:
            first_atom = np.cumsum(features.n_atoms) - features.n_atoms
            weight = cotangents[(first_atom[features.structures] + features.atoms)[known]]
        points, coef = EquivariantFeatures(**self.points_), self.coef_["0e"][:, 0]
        own, theirs = (one.blocks["0e"][:, 0].astype(float, copy=False) for one in (rows, points))
        out, width = np.zeros((len(known), 1, own.shape[1])), own.shape[1]
        inner = np.zeros(own.shape)
        for one in self._kernel().slopes(rows, points):
            columns = slice(*(one.columns or (0, width)))
            inner[:, columns] += (one.points * coef) @ theirs[:, columns]
            inner[:, columns] += (one.own @ coef)[:, None] * own[:, columns]
        out[known, 0] = weight[:, None] * inner
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
        points = EquivariantFeatures(**self.points_)
        return SparseCovariance(self._kernel(), points, irrep, self._job().size(irrep), **learned)

    def _predict_irreps(self, features):
        points = EquivariantFeatures(**self.points_)
        n_points, predictions = len(points), {}
        for irrep, coef in self.coef_.items():
            d = 2 * int(irrep[:-1]) + 1
            coef = coef.reshape(n_points, d, -1)
            parts = [np.zeros((0, d, coef.shape[2]))]
            for rows in self._slices(features):
                kernel = self._kernel()(features[rows], points, irrep=irrep)
                parts.append(np.einsum("nmab,mbk->nak", kernel, coef, optimize=True))
            predictions[irrep] = np.concatenate(parts)
        return predictions

    # -- what all methods need -----------------------------------------------------------------------------------------

    def _kernel(self):
        return CovariantKernel() if self.kernel is None else self.kernel

    def _aggregate(self):
        return getattr(self._kernel(), "aggregate", "sum")

    def _checked_input(self, X):
        return X if lazy_sequence(X) else super()._checked_input(X)

    def _job(self):
        blocks = {str(irrep): multiplicity for multiplicity, irrep in self._tensor().irreps}
        return FoldJob(self.features_, self._kernel(), self.points_, self.species_, self.baseline,
                       self.pivots_, blocks, self.memory * 2**30)  # fmt: skip

    # -- blocks of bounded memory -----------------------------------------------------------------------------------

    def _slices(self, features):
        size = self._job().labels_per_block()
        return [slice(start, start + size) for start in range(0, len(features), size)]

    def _blocks_of_features(self, X):
        if not isinstance(X, EquivariantFeatures):
            for part in self._blocks_of_frames(X):
                yield from super()._blocks_of_features(part)
            return
        for start in range(0, len(X), _STRUCTURES_PER_BLOCK):
            yield X[start : start + _STRUCTURES_PER_BLOCK]

    def _blocks_of_frames(self, X):
        limit = self._job().centers_per_block()
        for start in range(0, len(X), _STRUCTURES_PER_BLOCK):
            part = list(X[start : start + _STRUCTURES_PER_BLOCK])
            for first, stop in structure_blocks(np.cumsum([0, *(len(atoms) for atoms in part)]), limit):
                yield part[first:stop]
