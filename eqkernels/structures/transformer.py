"""What transformers of frames share: fit and transform together read the frames once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ase import Atoms
from sklearn.base import TransformerMixin

from eqkernels.structures.batch import StructureBatch, as_list
from eqkernels.structures.inputs import input_kinds, with_inputs


class FramesTransformer(TransformerMixin, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class of transformers whose ``fit`` and ``transform`` take frames, or the batch that was read from them."""

    @property
    def _takes_batches(self) -> bool:
        return True

    def fit_transform(self, X: Iterable[Atoms] | StructureBatch, y: Any = None, **fit_params: Any) -> Any:
        """Fit, and transform the same structures, which are read once: X may be an iterator.

        Parameters
        ----------
        X : sequence or iterable of ase.Atoms
        y : array-like, default=None
            As for ``fit``.
        **fit_params
            Further arguments of ``fit``.

        Returns
        -------
        What ``transform`` returns
        """
        # a Series goes on to transform, for the index of a table that comes out
        if takes_batches(self) and not hasattr(X, "iloc"):
            X = StructureBatch.from_frames(X)
        elif not hasattr(X, "iloc"):
            X = as_list(X)
        return self.fit(X, y, **fit_params).transform(X)


def takes_batches(estimator: Any) -> bool:
    """Whether an estimator, or the first step of a pipeline, takes a StructureBatch in place of frames."""
    steps = getattr(estimator, "steps", None)
    return takes_batches(steps[0][1]) if steps else getattr(estimator, "_takes_batches", False)


def declared_inputs(estimator: Any) -> dict[str, str] | None:
    """Find the inputs beyond the geometry that an estimator or its descriptor declares; None: unknown."""
    steps = getattr(estimator, "steps", None)
    if steps:
        return declared_inputs(steps[0][1])
    if getattr(estimator, "descriptor", None) is not None:
        return declared_inputs(estimator.descriptor)
    return getattr(estimator, "_declared_inputs", {} if takes_batches(estimator) else None)


def read_frames(
    estimator: Any, X: Iterable[Atoms] | StructureBatch, origin: Any = 0, quiet: bool = False
) -> StructureBatch | list[Atoms]:
    """Read frames once for an estimator: a batch, with the inputs that it declares, or a list where these are unknown.

    Parameters
    ----------
    estimator : estimator, or None
        None: the geometry alone is read.
    X : sequence of ase.Atoms
    origin, quiet
        As of :meth:`StructureBatch.from_frames`.

    Returns
    -------
    StructureBatch or list of ase.Atoms
    """
    inputs = {} if estimator is None else declared_inputs(estimator)
    if isinstance(X, StructureBatch):
        return X
    return as_list(X, origin) if inputs is None else with_inputs(X, input_kinds(inputs), origin, quiet)
