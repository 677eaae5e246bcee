"""What transformers of frames share: fit and transform together read the frames once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ase import Atoms
from sklearn.base import TransformerMixin

from eqkernels.structures.batch import StructureBatch, as_list


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
