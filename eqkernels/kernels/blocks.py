"""Precomputed kernel matrices of several irreps, sliced by scikit-learn like one square matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqkernels.so3 import Irrep


class KernelBlocks:
    """Kernel matrices by irrep.

    Parameters
    ----------
    blocks : dict of str to ndarray of shape (n, m, 2 lambda + 1, 2 lambda + 1)
    counts : dict of str to ndarray of shape (n,), default=None
        Number of atoms of each element (its atomic number as the key) in the n structures, for a baseline.

    Examples
    --------
    >>> import numpy as np
    >>> kernel = KernelBlocks({"0e": np.ones((4, 4, 1, 1))})
    >>> kernel[np.ix_([0, 1, 2], [0, 1])].shape
    (3, 2)
    """

    def __init__(self, blocks: dict[str, NDArray[np.float64]], counts: dict[str, NDArray[np.float64]] | None = None):
        for name, given in (("blocks", blocks), ("counts", {} if counts is None else counts)):
            if not isinstance(given, dict) or not all(isinstance(one, np.ndarray) for one in given.values()):
                raise TypeError(f"{name} must be a dict of arrays, got {given!r:.60}")
        self.blocks = dict(blocks)
        self.counts = dict(counts or {})
        shapes = {block.shape[:2] for block in self.blocks.values()}
        if len(shapes) != 1:
            raise ValueError(f"the blocks must all be between the same structures, got shapes {sorted(shapes)}")
        (self.shape,) = shapes
        for key, block in self.blocks.items():
            d = Irrep.parse(key).dim
            if block.shape[2:] != (d, d):
                raise ValueError(f"block {key!r} has shape {block.shape}, expected (n, m, {d}, {d})")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> KernelBlocks:
        """Rows by an index, a slice or a mask; rows and columns by ``numpy.ix_``."""
        rows = key[0] if isinstance(key, tuple) else key
        rows = np.asarray(rows).ravel() if isinstance(rows, np.ndarray) else rows
        blocks = {name: block[key] for name, block in self.blocks.items()}
        return KernelBlocks(blocks, {name: one[rows] for name, one in self.counts.items()})

    @property
    def species(self) -> NDArray[np.int64]:
        """Atomic numbers of the elements that were counted."""
        return np.array([int(key) for key in self.counts], dtype=int)

    def composition(self, species: Iterable[int]) -> NDArray[np.float64]:
        """Look up the atoms of each of the species, (n, n_species); 0 for those that were not counted."""
        counts = [self.counts.get(str(number), np.zeros(len(self))) for number in species]
        return np.stack(counts, axis=1) if counts else np.zeros((len(self), 0))

    def __array__(self, dtype=None, copy=None):
        raise TypeError("KernelBlocks hold one matrix for each irrep: take one of them, e.g. kernel.blocks['1o']")
