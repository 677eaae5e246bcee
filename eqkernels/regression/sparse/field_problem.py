r"""Least squares of an energy in powers of a field, for any scale of the field.

A scale w multiplies the kernels of the power n by :math:`w^{2 n}`, and so the columns of their block; the triangular
factors of the labels stay triangular, so that no scale needs the labels again.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

from eqkernels.regression.sparse.solutions import OtherRows, solve_irrep
from eqkernels.regression.sparse.triangular import TriangularFactor


class FieldProblem:
    """Least squares of all orders of the field at once, for any scale of the field.

    Parameters
    ----------
    lower : list of ndarray of shape (rank, rank)
        Cholesky factors of the kernels among the sparse environments, of each block of columns.
    orders : list of int
        Power of the field of each block.
    factors : dict of str to TriangularFactor
        Of the labels of each kind, the energies first.
    counts : dict of str to int
        Number of rows of each kind.
    noises : dict of str to (float or "auto")
    first : SparseTensorGPR
        Model of the energy without field, which knows the ridge of the baseline.
    """

    def __init__(self, lower, orders, factors, counts, noises, first):
        self.lower, self.orders, self.factors, self.counts, self.noises = lower, orders, factors, counts, noises
        self.ridge = first.baseline_ridge_
        self.first = first

    def solve(self, scale):
        """Solution with a scale of the field, and the coefficients of each block, (rank, 1)."""
        weights = [scale**order for order in self.orders]
        lower = block_diag(*(w * one for w, one in zip(weights, self.lower, strict=True)))
        squares = np.concatenate([np.full(len(one), w**2) for w, one in zip(weights, self.lower, strict=True)])
        factors = {kind: _scaled(factor, squares) for kind, factor in self.factors.items()}
        others = {
            kind: OtherRows(factor, self.counts[kind], float(self.counts[kind]), 0.0, self.noises[kind])
            for kind, factor in factors.items()
            if kind != "energies"
        }
        n = self.counts["energies"]
        solved = solve_irrep(lower, factors["energies"], n, float(n), 1, self.noises["energies"], others, self.ridge)
        coef = squares[:, None] * solved.coef
        return solved, np.split(coef, np.cumsum([len(one) for one in self.lower])[:-1])

    def reduced(self, n):
        """Problem with the first n columns of each block."""
        first = np.cumsum([0, *(len(one) for one in self.lower)])
        leading = [np.arange(a, min(a + n, b)) for a, b in zip(first, first[1:], strict=False)]
        size = next(iter(self.factors.values())).size
        kept = np.concatenate([*leading, np.arange(first[-1], size)])
        factors = {
            kind: TriangularFactor.of_upper(np.linalg.qr(factor.dense()[:, kept], mode="r"))
            for kind, factor in self.factors.items()
        }
        lower = [one[:n, :n] for one in self.lower]
        return FieldProblem(lower, self.orders, factors, self.counts, self.noises, self.first)


def _scaled(factor, weights):
    """Factor with the first columns multiplied by weights."""
    out, every = factor.copy(), np.ones(factor.size)
    every[: len(weights)] = weights
    for start, stop in factor.tiles():
        out.set_rows(start, factor.rows(start, stop) * every[start:])
    return out
