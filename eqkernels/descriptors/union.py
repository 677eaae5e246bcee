"""Several descriptors side by side."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from ase import Atoms
from sklearn.base import clone
from sklearn.utils.metaestimators import _BaseComposition

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import check_parameters
from eqkernels.descriptors.features import EquivariantFeatures
from eqkernels.structures import FramesTransformer, StructureBatch, read_frames, takes_batches
from eqkernels.structures.transformer import declared_inputs


class NamedDescriptors:
    """A list of (name, descriptor)."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if not isinstance(value, list | tuple) or len(value) == 0:
            return "must be a list of at least one (name, transformer)"
        for pair in value:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                return f"contains {pair!r}, which is not a pair (name, transformer)"
            if not hasattr(pair[1], "fit") or not hasattr(pair[1], "transform"):
                return f"contains {pair[1]!r}, expected a descriptor such as LambdaSOAP()"
        return None


class EquivariantUnion(FramesTransformer, _BaseComposition, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Join the blocks of several descriptors, e.g. of two cutoffs.

    Blocks of the same irrep are joined along the features; the centers must be the same. The parts keep their names, so
    that :class:`~eqkernels.kernels.Restricted` kernels can pick them.

    Parameters
    ----------
    transformers : list of (str, transformer)
        Names and descriptors. Their parameters are reached as ``name__parameter``.

    Attributes
    ----------
    transformers_ : list of (str, transformer)
        The fitted descriptors.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels.descriptors import LambdaSOAP
    >>> short, long = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2), LambdaSOAP(cutoff=6.0, n_max=2, l_max=2)
    >>> EquivariantUnion([("short", short), ("long", long)]).fit_transform([molecule("NH3")])
    EquivariantFeatures(1 structures, 4 centers, blocks: 0e (4, 1, 60), 1o (4, 3, 64), 2e (4, 5, 72))
    """

    _constraints = {"transformers": NamedDescriptors()}  # noqa: RUF012

    def __init__(self, transformers: list[tuple[str, Any]]):
        self.transformers = transformers

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the union and, with deep, of its descriptors."""
        return self._get_params("transformers", deep=deep)

    def set_params(self, **params: Any) -> EquivariantUnion:
        """Set parameters of the union or, as ``name__parameter``, of its descriptors."""
        self._set_params("transformers", **params)
        return self

    @whole_or_nothing
    def fit(self, X: Iterable[Atoms] | StructureBatch, y: Any = None) -> EquivariantUnion:
        """Fit every descriptor.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like, default=None
            Passed on to the descriptors.

        Returns
        -------
        self
        """
        check_parameters(self)
        self._validate_names([name for name, _ in self.transformers])
        self.__dict__.pop("transformers_", None)
        X = self._read_once(X)
        self.transformers_ = [(name, clone(transformer).fit(X, y)) for name, transformer in self.transformers]
        return self

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

    @property
    def _takes_batches(self) -> bool:
        transformers = getattr(self, "transformers_", self.transformers)
        return all(takes_batches(transformer) for _, transformer in transformers)

    @property
    def _declared_inputs(self):
        """Inputs of all descriptors; None where some are not known, or of two kinds."""
        found: dict[str, str] = {}
        for _, transformer in getattr(self, "transformers_", self.transformers):
            inputs = declared_inputs(transformer)
            if inputs is None or any(found.get(name, kind) != kind for name, kind in inputs.items()):
                return None
            found |= inputs
        return found

    def _read_once(self, X):
        return read_frames(self, X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def _named(name, features):
    if not isinstance(features, EquivariantFeatures):
        raise TypeError(
            f"transformer {name!r} makes {type(features).__name__}, not EquivariantFeatures: use LambdaSOAP, whose "
            "block 0e has the features of SOAP"
        )
    features.parts = {name: {key: (0, block.shape[2]) for key, block in features.blocks.items()}}
    return features
