"""Labels of one irrep predicted by a linear model that did not see the structure they belong to, in closed form.

With rows Phi_B of structure B, A = Phi^T Phi + alpha over the structures that are kept, and residuals r of the fit to
all of them, the residuals of the fit without B are (1 - Phi_B A^-1 Phi_B^T)^-1 r_B.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

# Candidates for alpha, relative to the mean square of a row.
_GRID = 10.0 ** np.arange(-9.0, 1.0)
# Structures are weighted anew so many times, by 1 / error down to an error of this many medians.
_REWEIGHTED, _LARGEST = 3, 1e3
# Directions of a design that are rounding.
_ROUNDING = 1e-13


class LeftOut:
    """Leave-one-structure-out predictions of a ridge model.

    Parameters
    ----------
    design : ndarray of shape (n_rows, d, n_features)
        d = 2 l + 1.
    structures : ndarray of int, shape (n_rows,)
        Ascending.
    """

    def __init__(self, design: NDArray[np.float64], structures: NDArray[np.int64]):
        self.design, self.structures = _thin(design), structures
        self.size = float(np.sum(self.design**2)) / max(self.design.shape[0] * self.design.shape[1], 1)

    def choose(self, values: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
        """Alpha with the least median of left-out errors, which a few wrong labels do not change; of atoms, the mean.

        Parameters
        ----------
        values : ndarray of shape (n_rows, d, multiplicity)
        kept : ndarray of bool, shape (n_rows,)

        Returns
        -------
        float
        """
        rows, y = self.design[kept], values[kept]
        if not len(rows) or self.size == 0:
            return 1.0
        flat = rows.reshape(-1, rows.shape[2])
        eigenvalues, vectors = np.linalg.eigh(flat.T @ flat)
        part = rows @ vectors
        moments = np.tensordot(part, y, axes=([0, 1], [0, 1]))
        blocks = _blocks(self.structures[kept])
        errors = []
        for alpha in _GRID * self.size:
            inverse = 1.0 / (np.maximum(eigenvalues, 0.0) + alpha)
            residuals = y - part @ (inverse[:, None] * moments)
            left_out = _left_out(part, part * inverse, residuals, blocks)
            squares = [np.mean(left_out[block] ** 2) for block in blocks]
            # of atoms, the mean: structures of a rare kind have most of the error
            errors.append(float(np.median(squares) if len(blocks) == len(rows) else np.mean(squares)))
        return float(_GRID[int(np.argmin(errors))] * self.size)

    def predict(self, values: NDArray[np.float64], kept: NDArray[np.bool_], alpha: float) -> NDArray[np.float64]:
        """Predict each row from the kept structures but its own; labels of structures by least absolute deviations.

        Wrong labels make the predictions of structures like theirs wrong, which hides them. Structures are weighted by
        the inverse of their left-out error, a few times over.

        Parameters
        ----------
        values : ndarray of shape (n_rows, d, multiplicity)
        kept : ndarray of bool, shape (n_rows,)
        alpha : float

        Returns
        -------
        ndarray of the shape of values
        """
        if not kept.any() or self.size == 0:
            return np.zeros_like(values)
        blocks = _blocks(self.structures[kept])
        weights = np.ones(int(kept.sum()))
        # of atoms, kinds of structures that are rare and have large errors would be given up
        for _ in range(_REWEIGHTED if len(blocks) == len(weights) else 0):
            predicted = self._weighted(values, kept, alpha, weights, blocks)
            squares = np.mean((values[kept] - predicted[kept]) ** 2, axis=(1, 2))
            errors = np.sqrt([np.mean(squares[block]) for block in blocks])
            relative = errors / max(float(np.median(errors)), 1e-300)
            weights = np.repeat(1.0 / np.clip(relative, 1.0, _LARGEST), [one.stop - one.start for one in blocks])
        return self._weighted(values, kept, alpha, weights, blocks)

    def _weighted(self, values, kept, alpha, weights, blocks):
        root = np.sqrt(weights)[:, None, None]
        rows, y = root * self.design[kept], root * values[kept]
        flat = rows.reshape(-1, rows.shape[2])
        factor = cho_factor(flat.T @ flat + alpha * np.eye(flat.shape[1]))
        coefficients = cho_solve(factor, np.tensordot(rows, y, axes=([0, 1], [0, 1])))
        predicted = self.design @ coefficients
        solved = cho_solve(factor, flat.T).T.reshape(rows.shape)
        residuals = y - root * predicted[kept]
        predicted[kept] = values[kept] - _left_out(rows, solved, residuals, blocks) / root
        return predicted


def _thin(design):
    """Design with the same scalar products, and no more columns than rows."""
    n, d, n_features = design.shape
    if n_features <= n * d or not n:
        return design
    rows = design.reshape(n * d, n_features)
    return design_of_kernel((rows @ rows.T).reshape(n, d, n, d).transpose(0, 2, 1, 3))


def design_of_kernel(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features whose scalar products are a kernel.

    Parameters
    ----------
    kernel : ndarray of shape (n, n, d, d)

    Returns
    -------
    ndarray of shape (n, d, n_features)
        At most n d features.
    """
    n, _, d, _ = kernel.shape
    values, vectors = np.linalg.eigh(kernel.transpose(0, 2, 1, 3).reshape(n * d, n * d))
    present = values > _ROUNDING * values[-1]
    return (vectors[:, present] * np.sqrt(values[present])).reshape(n, d, -1)


def _blocks(structures):
    """Rows of each structure, of structures with as many rows together where there is one a structure."""
    starts = np.flatnonzero(np.diff(structures, prepend=-1))
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(structures)], strict=True)]


def _left_out(rows, solved, residuals, blocks):
    """Residuals of fits without each block, of those of the fit to all."""
    n, d, n_features = rows.shape
    if len(blocks) == n:
        hat = np.matmul(rows, solved.transpose(0, 2, 1))
        return np.linalg.solve(np.eye(d) - hat, residuals)
    result = np.empty_like(residuals)
    for block in blocks:
        left, right = rows[block].reshape(-1, n_features), solved[block].reshape(-1, n_features)
        flat = residuals[block].reshape(len(left), -1)
        result[block] = np.linalg.solve(np.eye(len(left)) - left @ right.T, flat).reshape(residuals[block].shape)
    return result
