"""Structures with labels and weights, of which parts are taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Labelled:
    """Structures with labels.

    Attributes
    ----------
    frames : list of ase.Atoms
    y : ndarray
        Labels, an object array where they are those of atoms.
    weight : ndarray of shape (n_structures,), or None
    """

    frames: list[Any]
    y: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self):
        return len(self.frames)

    def pick(self, rows: Any) -> Labelled:
        """Pick some of the structures."""
        weight = None if self.weight is None else self.weight[rows]
        return Labelled([self.frames[k] for k in rows], self.y[rows], weight)

    def fit(self, model: Any) -> Any:
        """Fit a model to them."""
        return model.fit(self.frames, self.y, sample_weight=self.weight)
