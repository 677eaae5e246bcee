r"""Charges and tensors of the atoms of which a fitted model of dipoles or quadrupoles makes its predictions.

With a kernel such as ``CovariantKernel() + ChargeKernel()`` a predicted dipole is

.. math:: \boldsymbol\mu = \sum_i q_i\, \mathbf r_i + \sum_i \boldsymbol\mu_i , \quad \sum_i q_i = Q .

Only the sum is learned: charges and dipoles of the atoms are those that describe it best, not observables.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from eqkernels._fitted import check_fitted
from eqkernels.descriptors.streamed_gradients import features_vjp
from eqkernels.structures import by_structure


class AtomicParts:
    """Models whose kernels know what each atom contributes; they have ``_kernel_terms(irrep)``."""

    def predict_charges(self: Any, X):
        """Partial charges of the atoms, which sum up to the total charge of each structure.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
            Molecules; their total charge is ``atoms.info["charge"]``, or 0.

        Returns
        -------
        ndarray of object, shape (n_structures,)
            For each structure an array (n_atoms,), in the unit of the dipole over that of the positions; NaN for atoms
            that are not centers of the descriptor.

        Raises
        ------
        ValueError
            If the kernel of the model has no charges.
        """
        return self._of_atoms(X, charges=True)

    def predict_atomic_tensors(self: Any, X):
        """Tensors of the atoms that the prediction sums up besides their charges: dipoles of a model of dipoles.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures

        Returns
        -------
        ndarray of object, shape (n_structures,)
            For each structure an array (n_atoms, 3, ..., 3), without the baseline; NaN for atoms that are not centers.
        """
        return self._of_atoms(X, charges=False)

    def _energies_and_vjp(self: Any, descriptor, frames, features, cotangents):
        """Predictions of scalars and their vector-Jacobian product at once; None where that takes two steps."""
        irreps = [str(irrep) for _, irrep in self._tensor().irreps]
        if self.per_atom_ or irreps != ["0e"] or self._kernel().uses_positions:
            return None
        self._known_centers(features)  # are checked
        terms = partial(self._kernel_terms, "0e")
        both = self._sums.scalars_and_vjp(features, cotangents[:, None, None], self.cancellation_["0e"], terms)
        if both is None:
            return None
        by_features = {"0e": both[1]}
        return self._tensors_of(features, {"0e": both[0]}), features_vjp(descriptor, frames, by_features)

    def _of_atoms(self: Any, X, charges):
        check_fitted(self)
        if self.per_atom_:
            raise ValueError("the model was fitted to per-atom targets: predict gives them")
        if charges and not self._has_charges():
            raise ValueError("the kernel of the model has no charges: fit it with CovariantKernel() + ChargeKernel()")
        X, parts = self._checked_input(X), []
        for features in self._blocks_of_features(X):
            self._known_centers(features)  # are checked
            of_centers = self._charges_of(features) if charges else self._tensors_of_atoms(features)
            first_atom = np.cumsum(features.n_atoms) - features.n_atoms
            atoms = np.full((features.n_atoms.sum(), *of_centers.shape[1:]), np.nan)
            atoms[first_atom[features.structures] + features.atoms] = of_centers
            parts.append(by_structure(atoms, features.n_atoms))
        return np.concatenate(parts)

    def _has_charges(self: Any):
        return self._kernel().uses_positions

    def _charges_of(self: Any, features):
        """Charges that each irrep needs; for a quadrupole those of its traceless part, with which its trace agrees."""
        irreps = [str(irrep) for _, irrep in self._tensor().irreps]
        irrep = next((one for one in ("1o", "2e", "0e") if one in irreps), irreps[0])
        kernel, training_set, coef = self._kernel_terms(irrep)
        whole = features.places.whole
        charges = kernel.atomic_parts(features, training_set, irrep, coef)[0][:, 0]
        charges = charges + (whole.total_charges() / np.maximum(np.diff(whole.offsets), 1))[whole.structures]
        return charges[features.places.rows]

    def _tensors_of_atoms(self: Any, features):
        blocks = {}
        for irrep in (str(one) for _, one in self._tensor().irreps):
            kernel, training_set, coef = self._kernel_terms(irrep)
            blocks[irrep] = kernel.atomic_parts(features, training_set, irrep, coef)[1]
        return self._tensor().to_cartesian(blocks)
