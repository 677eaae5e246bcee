"""What a sparse model predicts: means and derivatives of the means by positions and strain, with error bars."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from eqkernels._ranges import structure_blocks
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.streamed_gradients import check_differentiable
from eqkernels.regression.atomic_parts import AtomicParts
from eqkernels.regression.covariance import copies, standard_deviations, to_cartesian
from eqkernels.regression.delta import scalar_baseline
from eqkernels.regression.kernel_ridge import aggregating_kernel
from eqkernels.regression.sparse.covariance import SparseCovariance
from eqkernels.regression.sparse.derivatives import factor_key, spread_of_derivatives
from eqkernels.regression.sparse.element_charges import (
    IRREP,
    add_element_charges,
    charges_of_elements,
    element_dipoles,
)
from eqkernels.regression.sparse.memory import LARGEST
from eqkernels.regression.sparse.model import SparseModel
from eqkernels.regression.sparse.source import lazy_sequence
from eqkernels.regression.uncertainty import UncertainTensorRegressor
from eqkernels.structures import atom_counts, cell_volumes
from eqkernels.structures.derivative_labels import VOIGT_WEIGHTS

# Structures read at once from a sequence that is not in memory.
_STRUCTURES_PER_BLOCK = 256


class SparsePredictor(AtomicParts, UncertainTensorRegressor):
    """Base class: predicts with what the fit of a subclass has learned."""

    def predict_derivatives(self, X, return_std=False, include_noise=True):
        """Differentiate the tensors of structures by the positions of their atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms
        return_std : bool, default=False
            Return the standard deviation of each of them too: what the labels leave open about the model, and the noise
            of derivatives, ``noise_``, if the model was fitted to any. Without, it is too small, by what the sparse
            environments cannot describe.
        include_noise : bool, default=True
            Whether the error bars are those of a label, or of the underlying function without the noise of labels.

        Returns
        -------
        y : list of ndarray of shape (n_atoms, 3, ..., 3)
            For each structure ``[a, i, ..., j]``, the derivative of component i ... by coordinate j of atom a: of
            dipoles, atomic polar tensors or Born effective charges ``[a, i, j]``; of energies ``[a, j]``, minus the
            forces. In the units of y over those of the positions. Their sum over the atoms is zero.
        std : as y
            With ``return_std``.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If the targets are those of atoms.
        """
        mean = super().predict_derivatives(X)
        return (mean, self._std_by_positions(X, include_noise)) if return_std else mean

    def predict_forces(self, X, return_std=False, include_noise=True):
        """Predict forces with a model of energies: minus the derivatives by positions.

        Parameters
        ----------
        X : sequence of ase.Atoms
        return_std, include_noise : bool, default=False, True
            Error bars, as of :meth:`predict_derivatives`.

        Returns
        -------
        y : list of ndarray of shape (n_atoms, 3)
            In the units of y over those of the positions.
        std : as y
            With ``return_std``.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If the target is not an energy: a scalar of structures.
        """
        mean = super().predict_forces(X)
        return (mean, self._std_by_positions(X, include_noise)) if return_std else mean

    def predict_stress(self, X, return_std=False, include_noise=True):
        """Predict stress with a model of energies: derivatives by strain over the volume, as in ASE.

        Parameters
        ----------
        X : sequence of ase.Atoms
            With cells of three vectors.
        return_std, include_noise : bool, default=False, True
            Error bars, as of :meth:`predict_derivatives`.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, 3)
            In the units of y over the cube of those of the positions; positive where the cell wants to shrink.
        std : as y
            With ``return_std``.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If the target is not a scalar of structures, or a structure has no cell of three vectors.
        """
        mean = super().predict_stress(X)
        return (mean, self._std_of_stress(X, include_noise)) if return_std else mean

    def _std_by_positions(self, X, include_noise):
        frames, tensor = self._frames(X), self._tensor()
        kind = "forces" if tensor.rank == 0 else "derivatives"
        covariances = [part for part in self._covariances_of(kind, frames, include_noise)]
        joined = {irrep: np.concatenate([part[irrep] for part in covariances]) for irrep in covariances[0]}
        std = standard_deviations(tensor, to_cartesian(tensor, self._joined(joined)))
        std = np.moveaxis(std.reshape(-1, 3, *tensor.shape), 1, -1)
        return np.split(std, np.cumsum(atom_counts(frames))[:-1])

    def _std_of_stress(self, X, include_noise):
        frames = self._frames(X)
        parts = [part["0e"] for part in self._covariances_of("stress", frames, include_noise)]
        std = np.sqrt(np.concatenate(parts).reshape(-1, 6)) * self.recalibration_["0e"]
        return voigt_6_to_full_3x3_stress(std / VOIGT_WEIGHTS)

    def _covariances_of(self, kind, frames, include_noise):
        """Covariances of derivatives by irrep, block by block, one for each atom or structure and direction."""
        check_differentiable(self.descriptor_, forward=True)
        descriptor: Any = self.descriptor_
        model, spreads = self._model(), {irrep: self._covariance(irrep) for irrep in self.coef_}
        memory = 0.2 * model.bytes_of_block()
        for block in self._blocks_of_frames(frames):
            features, out = descriptor.transform(block), {}
            self._known_centers(features)  # is checked
            for irrep, spread in spreads.items():
                noise = self.noise_.get(factor_key(irrep, kind), 0.0) if include_noise else 0.0
                volumes = cell_volumes(block) if kind == "stress" else None
                of_parts = spread_of_derivatives(
                    descriptor, block, features, model.kernel, spread, kind, noise, volumes, memory
                )
                _, multiplicity = self.coef_[irrep].shape
                out[irrep] = copies(np.concatenate(list(of_parts)), np.eye(multiplicity))
            yield out

    # -- what the base class asks for ----------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

    def _kernel(self):
        chosen = vars(self).get("kernel_")
        return aggregating_kernel(self) if chosen is None else next(iter(chosen.values()))

    def _offset_kernel(self):
        return self._kernel()

    def _kernel_terms(self, irrep):
        return _terms(self._model(), irrep, self.coef_[irrep])

    def _aggregate(self):
        return getattr(self._kernel(), "aggregate", "sum")

    def _readable_again(self, X):
        return X if lazy_sequence(X) and len(X) else super()._readable_again(X)

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
            part = self._read_frames(part, start)
            for first, stop in structure_blocks(np.concatenate([[0], np.cumsum(atom_counts(part))]), limit):
                yield part[first:stop]

    def _tensors_of(self, rows, blocks):
        charges = self._element_charges()
        if charges is not None:
            dipoles = element_dipoles(rows, self.species_) @ charges
            blocks = {**blocks, IRREP: blocks[IRREP] + dipoles[:, :, None]}
        return super()._tensors_of(rows, blocks)

    def _vjp_of_part(self, descriptor, frames, features, cotangents):
        derivatives, charges = super()._vjp_of_part(descriptor, frames, features, cotangents), self._element_charges()
        if charges is None:
            return derivatives
        return add_element_charges(derivatives, features, self.species_, charges, cotangents[IRREP][:, :, 0])

    def _charges_of(self, features):
        charges, known = self._element_charges(), self._kernel().uses_positions
        of_kernel = super()._charges_of(features) if known else 0.0
        return of_kernel if charges is None else of_kernel + charges_of_elements(features, self.species_, charges)

    def _has_charges(self):
        return super()._has_charges() or self._element_charges() is not None

    def _predict_irreps(self, features):
        return predict_irreps(self._model(), self._sums, self.coef_, self.cancellation_, features)

    def _slices_of_vjp(self, rows, irrep):
        return self._slices(rows)

    def _irrep_vjp(self, irrep, rows, cotangents):
        terms = partial(_terms, self._model(), irrep, self.coef_[irrep])
        return self._sums.vjp(irrep, rows, cotangents, self.cancellation_[irrep], terms)

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
        values: list[Any] = [*(one[irrep] for one in learned), self._totals_of(irrep)[1] > 0]
        return SparseCovariance(model.kernel, points, irrep, model.size(irrep), pivots, *values)

    def _totals_of(self, irrep):
        """Totals of the labels of an irrep; models that earlier versions saved have those of all irreps in one."""
        return self.label_totals_.get(irrep, 0.0) if isinstance(self.label_totals_, dict) else self.label_totals_

    def _slices(self, features):
        return self._model().slices(len(features))

    def _model(self):
        multiplicities = {str(irrep): multiplicity for multiplicity, irrep in self._tensor().irreps}
        points = EquivariantFeatures.of_checked(**self.points_)
        return SparseModel(
            self._kernel(), points, self.species_, scalar_baseline(self.baseline), self.pivots_, multiplicities,
            self.environment_size_, self._bytes(), self._element_charges() is not None,
        )  # fmt: skip

    def _element_charges(self):
        """Charges of the elements; None where there are none, and of models of earlier versions."""
        return vars(self).get("element_charges_")

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
