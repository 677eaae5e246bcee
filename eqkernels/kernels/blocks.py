"""Precomputed kernel matrices of several irreps, sliced by scikit-learn like one square matrix."""

from __future__ import annotations

import numpy as np


class KernelBlocks:
    """Kernel matrices by irrep.

    Parameters
    ----------
    blocks : dict of str to ndarray of shape (n, m, 2 lambda + 1, 2 lambda + 1)
    composition : dict of str to ndarray of shape (n,), default=None
        Number of atoms of each element (its atomic number as the key) in the n structures, for a baseline.

    Examples
    --------
    >>> import numpy as np
    >>> kernel = KernelBlocks({"0e": np.ones((4, 4, 1, 1))})
    >>> kernel[np.ix_([0, 1, 2], [0, 1])].shape
    (3, 2)
    """

    def __init__(self, blocks, composition=None):
        self.blocks = dict(blocks)
        self.composition = dict(composition or {})
        shapes = {block.shape[:2] for block in self.blocks.values()}
        if len(shapes) != 1:
            raise ValueError(f"the blocks must all be between the same structures, got shapes {sorted(shapes)}")
        (self.shape,) = shapes
        for key, block in self.blocks.items():
            d = 2 * int(key[:-1]) + 1
            if block.shape[2:] != (d, d):
                raise ValueError(f"block {key!r} has shape {block.shape}, expected (n, m, {d}, {d})")

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        """Rows by an index, a slice or a mask; rows and columns by ``numpy.ix_``."""
        rows = key[0] if isinstance(key, tuple) else key
        rows = np.asarray(rows).ravel() if isinstance(rows, np.ndarray) else rows
        blocks = {name: block[key] for name, block in self.blocks.items()}
        return KernelBlocks(blocks, {name: counts[rows] for name, counts in self.composition.items()})

    def __array__(self, dtype=None, copy=None):
        raise TypeError("KernelBlocks hold one matrix for each irrep: take one of them, e.g. kernel.blocks['1o']")
