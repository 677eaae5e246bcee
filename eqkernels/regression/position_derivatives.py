r"""Derivatives of what a model predicts by the positions of atoms and the strain of the cell, of any model.

All follow from the vector-Jacobian product, the derivatives of :math:`\sum_n \mathbf g_n \cdot \mathbf y_n` by the
positions: forces and stress with g = 1, derivatives of a tensor with one g for each of its independent components,

.. math:: \frac{\partial T_{i \ldots}}{\partial r_{aj}} =
          \sum_c B^c_{i \ldots} \frac{\partial (B^c \cdot T)}{\partial r_{aj}} ,

the B an orthonormal basis of the tensors of its symmetry. A model of this library has it from that of its kernels, or
of its linear map, followed by that of the descriptor (:mod:`eqkernels.descriptors.density.gradients`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels._fitted import check_fitted
from eqkernels._numeric import as_floats
from eqkernels.descriptors import Derivatives, EquivariantFeatures
from eqkernels.descriptors.streamed_gradients import check_differentiable, features_vjp, scalars_only
from eqkernels.kernels import KernelBlocks
from eqkernels.regression.baseline_values import (
    baseline_derivatives,
    baseline_forces,
    baseline_stress,
    baseline_vjp,
)
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import atom_counts, cell_volumes
from eqkernels.structures.derivative_labels import check_volumes

# Structures whose features are in memory at once.
_STRUCTURES_PER_BLOCK = 256
# Structures whose kernels with the training set are in memory at once, each of all pairs of components.
_STRUCTURES_PER_SLICE = 32


class PositionDerivatives:
    """Models with ``vjp(X, cotangents)``, and ``_differentiated()``, the tensor that they predict, of structures."""

    baseline_model_: Any = None

    def predict_derivatives(self, X: Sequence[Atoms]) -> list[NDArray[np.float64]]:
        """Differentiate the tensors of structures by the positions of their atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        list of ndarray of shape (n_atoms, 3, ..., 3)
            For each structure ``[a, i, ..., j]``, the derivative of component i ... by coordinate j of atom a: of
            dipoles, atomic polar tensors or Born effective charges ``[a, i, j]``; of energies ``[a, j]``, minus the
            forces. In the units of y over those of the positions. Their sum over the atoms is zero.

        Raises
        ------
        TypeError
            If X are features, or the descriptor has no derivatives.
        ValueError
            If the targets are those of atoms.
        """
        X, known = self._with_frames(X)
        frames, tensor = self._frames(X), self._differentiated()
        n_atoms, basis = atom_counts(frames), basis_tensors(tensor)
        out = np.zeros((n_atoms.sum(), *tensor.shape, 3))
        cotangents = [np.broadcast_to(one, (len(frames), *tensor.shape)) for one in basis]
        for one, derivatives in zip(basis, self._vjps(frames, cotangents), strict=True):
            out += one[..., None] * derivatives.positions.reshape(len(out), *[1] * tensor.rank, 3)
        if known is not None:
            out += np.concatenate(baseline_derivatives(self.baseline_model_, known, tensor.shape))
        return np.split(out, np.cumsum(n_atoms)[:-1])

    def predict_forces(self, X: Sequence[Atoms]) -> list[NDArray[np.float64]]:
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
        X, known = self._with_frames(X)
        frames = self._frames(X)
        check_scalar(self._differentiated(), "predicted")
        forces = -next(iter(self._vjps(frames, [np.ones(len(frames))]))).positions
        if known is not None:
            forces += np.concatenate(baseline_forces(self.baseline_model_, known))
        return np.split(forces, np.cumsum(atom_counts(frames))[:-1])

    def predict_stress(self, X: Sequence[Atoms]) -> NDArray[np.float64]:
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
        X, known = self._with_frames(X)
        frames = self._frames(X)
        volumes = cell_volumes(frames)
        check_scalar(self._differentiated(), "predicted")
        check_volumes(volumes, np.arange(len(volumes)))
        strain = next(iter(self._vjps(frames, [np.ones(len(frames))]))).strain
        stress = 0.5 * (strain + strain.transpose(0, 2, 1)) / volumes[:, None, None]
        return stress if known is None else stress + baseline_stress(self.baseline_model_, known)

    def _with_frames(self, X: Any) -> tuple[Any, Any]:
        """X, which can be read again, and the frames for a baseline, None if it needs none."""
        return X, None

    def _frames(self, X: Any) -> Any:
        """Frames, read and checked."""
        raise NotImplementedError

    def _differentiated(self) -> CartesianTensor:
        """Tensor of structures that the model predicts; an error if it predicts others."""
        raise NotImplementedError

    def _vjps(self, frames: Any, cotangents: Sequence[NDArray[np.float64]]) -> Iterator[Derivatives]:
        """Vector-Jacobian products with each of several cotangents."""
        for one in cotangents:
            yield self.vjp(frames, one)  # type: ignore[attr-defined]


class FeatureDerivatives(PositionDerivatives):
    """The same for models of features that a descriptor makes; subclasses have ``_irrep_vjp``."""

    per_atom_: bool
    descriptor_: Any
    _tensor: Callable[[], CartesianTensor]
    _checked_input: Callable
    _rows_to_predict: Callable
    _offset_kernel: Callable

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
        X, known = self._with_frames(X)
        frames, shape = self._frames(X), self._tensor().shape
        checked = checked_cotangents(cotangents, atom_counts(frames), shape, self.per_atom_)
        own = next(self._vjps(frames, [checked]))
        if known is None:
            return own
        return Derivatives.summed([own, baseline_vjp(self.baseline_model_, known, cotangents, shape, self.per_atom_)])

    def _frames(self, X):
        check_fitted(self)
        X = self._checked_input(X)
        if isinstance(X, EquivariantFeatures | KernelBlocks) or self.descriptor_ is None:
            raise TypeError(
                "derivatives by positions need frames, both at fit and here, not features: of a model in a pipeline, "
                "pass the pipeline to eqkernels.derivatives.predict_derivatives and its likes"
            )
        check_differentiable(self.descriptor_, forward=False)
        return X

    def _differentiated(self):
        if self.per_atom_:
            raise ValueError(
                "the model was fitted to per-atom targets: forces, stress and derivatives are those of structures; "
                "take vjp, with cotangents of atoms"
            )
        return self._tensor()

    def _vjps(self, frames, cotangents):
        descriptor: Any = self.descriptor_
        if {str(irrep) for _, irrep in self._tensor().irreps} == {"0e"}:
            descriptor = scalars_only(descriptor)
        counts = atom_counts(frames) if self.per_atom_ else np.ones(len(frames), dtype=int)
        ends, start, parts = np.concatenate([[0], np.cumsum(counts)]), 0, []
        for part in self._blocks_of_frames(frames):
            stop, features = start + len(part), descriptor.transform(part)
            blocks = [self._tensor().to_irreps(one[ends[start] : ends[stop]]) for one in cotangents]
            parts.append([self._vjp_of_part(descriptor, part, features, one) for one in blocks])
            start = stop
        for of_blocks in zip(*parts, strict=True):
            yield Derivatives.joined(of_blocks)

    def _vjp_of_part(self, descriptor, frames, features, cotangents):
        by_features = self._features_vjp(features, cotangents)
        by_positions = by_features.pop("positions", None)
        derivatives = features_vjp(descriptor, frames, by_features)
        return derivatives if by_positions is None else _with_positions(derivatives, by_positions, features)

    def _blocks_of_frames(self, frames):
        for start in range(0, len(frames), _STRUCTURES_PER_BLOCK):
            yield frames[start : start + _STRUCTURES_PER_BLOCK]

    def _features_vjp(self, features, cotangents):
        """Differentiate sum(cotangents * predictions) by the features, irrep by irrep."""
        rows, known = self._rows_to_predict(features)
        if self.per_atom_:
            first_atom = np.cumsum(features.n_atoms) - features.n_atoms
            atoms = (first_atom[features.structures] + features.atoms)[known]
            cotangents = {irrep: block[atoms] for irrep, block in cotangents.items()}
        out: dict[str, np.ndarray] = {}
        kernel = self._offset_kernel()
        if kernel is not None and kernel.uses_positions:
            out["positions"] = sum(kernel.offset_vjp(features, *one) for one in cotangents.items())
        centers = np.flatnonzero(known)
        for irrep, block in cotangents.items():
            for part in self._slices_of_vjp(rows, irrep):
                self._add_vjp(out, features, irrep, rows[part], block[part], centers, rows.offsets, part)
        return out

    def _add_vjp(self, out, features, irrep, rows, cotangents, centers, offsets, part):
        start, stop = offsets[[part.start, min(part.stop, len(offsets) - 1)]]
        chosen = centers[start:stop]
        together = len(chosen) and chosen[-1] - chosen[0] == len(chosen) - 1  # a slice makes no copies
        for key, array in self._irrep_vjp(irrep, rows, cotangents).items():
            if key == "positions":  # of all centers
                out[key] = out[key] + array
                continue
            if key not in out:
                out[key] = np.zeros(features.block_shape(key))
            out[key][slice(chosen[0], chosen[-1] + 1) if together else chosen] += array

    def _slices_of_vjp(self, rows, irrep):
        """Ranges of predictions that are differentiated at once."""
        return [slice(start, start + _STRUCTURES_PER_SLICE) for start in range(0, len(rows), _STRUCTURES_PER_SLICE)]

    def _irrep_vjp(self, irrep, rows, cotangents):
        """Differentiate sum(cotangents * components of an irrep) by the features of the centers of ``rows``.

        Parameters
        ----------
        irrep : str
        rows : EquivariantFeatures
            With one structure for each prediction.
        cotangents : ndarray of shape (n, 2 lambda + 1, multiplicity)

        Returns
        -------
        dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        """
        raise NotImplementedError


def check_scalar(tensor: CartesianTensor, what: str) -> None:
    """Refuse forces and stress of other tensors than energies."""
    if [str(irrep) for _, irrep in tensor.irreps] != ["0e"]:
        raise ValueError(
            f"forces and stress are {what} for scalar targets only, this one is {tensor.formula!r}: of tensors, take "
            "derivatives"
        )


def basis_tensors(tensor: CartesianTensor) -> NDArray[np.float64]:
    """Orthonormal basis of the tensors of a symmetry.

    Parameters
    ----------
    tensor : CartesianTensor

    Returns
    -------
    ndarray of shape (n_components, 3, ..., 3)

    Examples
    --------
    >>> basis_tensors(CartesianTensor("ij=ji")).shape
    (6, 3, 3)
    """
    shapes = {str(irrep): (irrep.dim, multiplicity) for multiplicity, irrep in tensor.irreps}
    n, start = sum(d * multiplicity for d, multiplicity in shapes.values()), 0
    blocks = {}
    for key, (d, multiplicity) in shapes.items():
        width = d * multiplicity
        blocks[key] = np.eye(n)[:, start : start + width].reshape(n, d, multiplicity)
        start += width
    return tensor.to_cartesian(blocks)


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


def _with_positions(derivatives, by_positions, features):
    """Add to derivatives those by the positions of the centers (n_centers, 3) themselves."""
    positions, strain = derivatives.positions.copy(), derivatives.strain.copy()
    first_atom = np.cumsum(features.n_atoms) - features.n_atoms
    positions[first_atom[features.structures] + features.atoms] += by_positions
    moved = by_positions[:, :, None] * features.positions[:, None, :]
    np.add.at(strain, features.structures, moved)
    return Derivatives(positions, strain, derivatives.inputs)
