"""What unions of descriptors share: features side by side, and derivatives of them, by those of each descriptor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
from ase import Atoms

from eqkernels._fitted import check_fitted
from eqkernels.descriptors.density.gradients import Derivatives, FeatureGradients, GradientPart
from eqkernels.descriptors.features import EquivariantFeatures
from eqkernels.structures import FramesTransformer, StructureBatch, read_frames, takes_batches
from eqkernels.structures.transformer import declared_inputs


class JoinedDescriptors(FramesTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class of several descriptors side by side; a fit makes ``transformers_``, a list of (name, transformer)."""

    transformers_: list[tuple[str, Any]]

    def transform(self, X: Iterable[Atoms] | StructureBatch) -> EquivariantFeatures:
        """Compute the features of all descriptors and join them.

        Parameters
        ----------
        X : sequence of ase.Atoms

        Returns
        -------
        EquivariantFeatures
        """
        check_fitted(self)
        X = self._read_once(X)
        return reduce(or_, (_named(name, transformer.transform(X)) for name, transformer in self.transformers_))

    def vjp(self, X: Iterable[Atoms] | StructureBatch, cotangents: Any) -> Derivatives:
        """Vector-Jacobian product: derivatives of sum(cotangents * features).

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : EquivariantFeatures, or dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
            A number for each feature of some or all blocks of ``transform(X)``.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.
        """
        check_fitted(self)
        X, arrays = self._read_once(X), getattr(cotangents, "blocks", cotangents)
        sums, ends = [], dict.fromkeys(arrays, 0)
        for member, columns in self._members(X):
            part = {key: np.ascontiguousarray(arrays[key][:, :, one]) for key, one in columns.items() if key in arrays}
            ends |= {key: columns[key].stop for key in part}
            if part:
                sums.append(features_vjp(member, X, part))
        wrong = [key for key, array in arrays.items() if np.ndim(array) != 3 or np.shape(array)[2] != ends[key]]
        if wrong:
            shape, known = np.shape(arrays[wrong[0]]), ends[wrong[0]]
            raise ValueError(f"cotangents[{wrong[0]!r}] has shape {shape}, the block has {known} features")
        return Derivatives.summed(sums)

    def gradients(self, X: Iterable[Atoms] | StructureBatch, strain: bool = False) -> FeatureGradients:
        """Differentiate the features of all centers by the positions of the atoms, and by the strain of the cell.

        Parameters
        ----------
        X : sequence of ase.Atoms
        strain : bool, default=False
            Whether to make the derivatives by the strain too.

        Returns
        -------
        FeatureGradients
            In one part, whose features all count as changing.
        """
        check_fitted(self)
        X = self._read_once(X)
        columns = [of_member for _, of_member in self._members(X)]
        return _joined_gradients([member.gradients(X, strain) for _, member in self.transformers_], columns)

    def _members(self, X) -> Iterator[tuple[Any, dict[str, slice]]]:
        """Each descriptor, and which columns of each block are its features."""
        first: dict[str, int] = {}
        for _, member in self.transformers_:
            columns = {}
            for key, block in member.transform(X[:1]).blocks.items():
                start = first.get(key, 0)
                columns[key] = slice(start, start + block.shape[2])
                first[key] = columns[key].stop
            yield member, columns

    def _unfitted(self) -> list[tuple[str, Any]]:
        """Descriptors before a fit, by their names."""
        raise NotImplementedError

    @property
    def _takes_batches(self) -> bool:
        transformers = getattr(self, "transformers_", None) or self._unfitted()
        return all(takes_batches(transformer) for _, transformer in transformers)

    @property
    def _declared_inputs(self) -> dict[str, str] | None:
        """Inputs of all descriptors; None where some are not known, or of two kinds."""
        found: dict[str, str] = {}
        for _, transformer in getattr(self, "transformers_", None) or self._unfitted():
            inputs = declared_inputs(transformer)
            if inputs is None or any(found.get(name, kind) != kind for name, kind in inputs.items()):
                return None
            found |= inputs
        return found

    def _read_once(self, X):
        return read_frames(self, X)


def _named(name, features):
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(
            f"transformer {name!r} makes {type(features).__name__}, not EquivariantFeatures: use LambdaSOAP, whose "
            "block 0e has the features of SOAP"
        )
    features.parts = {name: {key: (0, block.shape[2]) for key, block in features.blocks.items()}}
    return features


def _joined_gradients(members, columns):
    """Gradients of several descriptors with the columns of each, where any of them has an entry."""
    rows = [np.stack([one.centers, one.structures, one.atoms], axis=1) for one in members]
    every, place = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    places = np.split(place.reshape(-1), np.cumsum([len(one) for one in rows])[:-1])
    n_features: dict[str, int] = {}
    for of_member in columns:
        n_features |= {key: one.stop for key, one in of_member.items()}
    blocks: dict[str, np.ndarray] = {}
    strain: dict[str, np.ndarray] = {}
    for member, at, of_member in zip(members, places, columns, strict=True):
        for key, dense in member.blocks.items():
            whole = blocks.setdefault(key, np.zeros((len(every), *dense.shape[1:3], n_features[key])))
            whole[at, :, :, of_member[key]] = dense
        for key, values in member.strain.items():
            whole = strain.setdefault(key, np.zeros((*values.shape[:4], n_features[key])))
            whole[..., of_member[key]] = values
    centers, structures, atoms = every.T
    part = GradientPart(centers, structures, atoms, {key: np.arange(n) for key, n in n_features.items()}, blocks)
    return FeatureGradients([part], n_features, strain)


def reductions(pipeline):
    """List the steps of a pipeline after the descriptor."""
    return [step for _, step in pipeline.steps[1:] if step is not None and step != "passthrough"]


def features_vjp(descriptor, frames, cotangents):
    """Vector-Jacobian product of a descriptor or of a union of them.

    Parameters
    ----------
    descriptor : transformer with ``vjp``, EquivariantUnion of them, or pipeline of one of both and reductions
    frames : list of ase.Atoms
    cotangents : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)

    Returns
    -------
    Derivatives
    """
    if hasattr(descriptor, "steps"):
        for reduction in reversed(reductions(descriptor)):
            cotangents = reduction.vjp(cotangents)
        return features_vjp(descriptor.steps[0][1], frames, cotangents)
    return descriptor.vjp(frames, cotangents)
