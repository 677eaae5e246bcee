r"""Derivatives of committees by positions and strain: means over the members, and for forces their spread.

The error bar of a component of a force is the standard deviation of the members times the factor that was found for the
energies, :math:`f\, [\frac{1}{M - 1} \sum_m (F_m - \bar F)^2]^{1/2}`: members that disagree about an energy do so
about its slope (F. Musil et al., J. Chem. Theory Comput. 15, 906 (2019), https://doi.org/10.1021/acs.jctc.8b00959).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from eqkernels._fitted import check_fitted, last_step
from eqkernels.descriptors import Derivatives, EquivariantFeatures
from eqkernels.regression.position_derivatives import PositionDerivatives
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import atom_counts


class CommitteeDerivatives(PositionDerivatives):
    """Committees with ``estimators_`` and ``descriptor_``, the one that all members share, or None."""

    estimators_: list[Any]
    descriptor_: Any
    per_atom_: bool
    recalibration_: dict[str, float]
    _tensor: Callable[[], CartesianTensor]
    _read: Callable

    def vjp(self, X, cotangents):
        """Vector-Jacobian product of the mean: derivatives of sum(cotangents * predict(X)) by positions and strain.

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : array-like, or list of array-like
            Of the shape of ``predict(X)``.

        Returns
        -------
        Derivatives
        """
        frames = self._frames(X)
        parts = [member.vjp(frames, cotangents) for member in self._members()]
        whole, n = Derivatives.summed(parts), len(parts)
        by_inputs = {name: values / n for name, values in whole.inputs.items()}
        return Derivatives(whole.positions / n, whole.strain / n, by_inputs)

    def predict_forces(self, X, return_std=False):
        """Predict forces with a model of energies: minus the derivatives by positions.

        Parameters
        ----------
        X : sequence of ase.Atoms
        return_std : bool, default=False
            Return their standard deviations too, from the spread of the members.

        Returns
        -------
        list of ndarray of shape (n_atoms, 3)
        std : list of ndarray of shape (n_atoms, 3)
            With ``return_std``.
        """
        if not return_std:
            return super().predict_forces(X)
        frames = self._frames(X)
        forces = np.array([np.concatenate(member.predict_forces(frames)) for member in self._members()])
        std = self.recalibration_["0e"] * forces.std(axis=0, ddof=1)
        ends = np.cumsum(atom_counts(frames))[:-1]
        return np.split(forces.mean(axis=0), ends), np.split(std, ends)

    def _members(self):
        """Members with the descriptors before them."""
        return [_bound(member, self.descriptor_) for member in self.estimators_]

    def _frames(self, X):
        check_fitted(self)
        if getattr(self, "baseline_model_", None) is not None:
            raise TypeError(
                "a committee that learned what a model leaves has no derivatives: add those of the baseline to those "
                "of a committee of the rest, or take SparseTensorGPR"
            )
        if isinstance(X, EquivariantFeatures):
            raise TypeError("derivatives by positions need frames, not features")
        return self._read(X)

    def _differentiated(self):
        if self.per_atom_:
            raise ValueError(
                "derivatives are those of tensors of structures: the targets of this committee are per atom"
            )
        return self._tensor()


def check_lengths(labels, n):
    """Refuse labels of derivatives that are not as many as the structures, of which members then get parts."""
    for name, one in labels.items():
        if not hasattr(one, "__len__") or len(one) != n:
            count = len(one) if hasattr(one, "__len__") else "no"
            raise ValueError(f"{name} has {count} entries for {n} structures: give one for each, or None or NaN")


def _bound(member, descriptor):
    final = last_step(member)
    if not hasattr(final, "vjp"):
        raise TypeError(f"{type(final).__name__}, of which the committee is made, has no derivatives by positions")
    if final is not member:
        descriptor = member[:-1]
    if descriptor is None or getattr(final, "descriptor_", None) is not None:
        return final
    bound = copy.copy(final)
    bound.descriptor_ = descriptor
    return bound
