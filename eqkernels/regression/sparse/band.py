r"""A triangular least-squares problem in band form, so that it is solved for many dampings.

Orthogonal transformations of rows and columns take R to an upper band matrix :math:`B = P^T R\, Q`, by blocks of rows
and of columns in turn (B. Grosser, B. Lang, Parallel Comput. 25, 969 (1999)). :math:`[R; \sqrt\gamma\, 1]` and
:math:`[B; \sqrt\gamma\, 1]` have the same singular values and residuals, and the second is a triangle after a number
of operations that is linear in its size. Nothing is squared: the error of B is a rounding error of R.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.linalg.blas import dgemm

from eqkernels.regression.sparse._band_loops import damp_band

# Diagonals right of the main diagonal: the matrix products of the reduction gain from more, dampings from fewer.
_WIDTH = 64
# Columns that are updated together, which bounds the temporary array.
_CHUNK = 256


class BandProblem:
    """Least squares on a square matrix, for any damping.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        In Fortran order; overwritten.
    right : ndarray of shape (n, n_right)
        Right-hand sides; overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> matrix, right = rng.normal(size=(9, 9)), rng.normal(size=(9, 1))
    >>> log_determinant, _ = BandProblem(np.asfortranarray(matrix), right).damped(0.1)
    >>> bool(np.isclose(2 * log_determinant, np.linalg.slogdet(matrix.T @ matrix + 0.01 * np.eye(9))[1]))
    True
    """

    def __init__(self, matrix, right):
        self.band = np.zeros((len(matrix), _WIDTH + 1 + right.shape[1]))
        data = matrix.reshape(-1, order="F")
        for start in range(0, len(matrix), _WIDTH):
            for row, values in enumerate(_reduce(data, len(matrix) - start, right[start:])):
                inside = values[row : row + _WIDTH + 1]
                self.band[start + row, : len(inside)] = inside
        self.band[:, _WIDTH + 1 :] = right

    def damped(self, damping):
        """Solve with the rows damping * 1 under the matrix.

        Parameters
        ----------
        damping : float

        Returns
        -------
        log_determinant : float
            Of the triangular factor.
        squares : float
            Sum of the squares of all residuals.
        """
        return damp_band(self.band, _WIDTH, float(damping), np.empty_like(self.band))


def _reduce(data, m, right):
    """Make the first rows of the band from the square matrix (m, m) at the beginning of ``data``.

    Its other rows and columns, which these transformations change, are moved to the beginning.
    """
    matrix = data[: m * m].reshape(m, m, order="F")
    v, t, upper = _reflectors(matrix[:, :_WIDTH])
    right -= v @ (t.T @ (v.T @ right))
    if m <= _WIDTH:
        return upper
    rest = matrix[:, _WIDTH:]
    above, below = rest[:_WIDTH], rest[_WIDTH:]
    w = t.T @ (v.T @ rest)
    u, s, lower = _reflectors((above - v[:_WIDTH] @ w).T)
    # (1 - v t^T v^T) rest (1 - u s u^T) = rest - v w - x u^T
    x = (below @ u - v[_WIDTH:] @ (w @ u)) @ s
    left, both = np.asfortranarray(np.hstack([v[_WIDTH:], x])), np.asfortranarray(np.vstack([w, u.T]))
    new = data[: below.size].reshape(below.shape, order="F")
    for start in range(0, len(below), _CHUNK):  # they are written where all columns have been read
        columns = slice(start, start + _CHUNK)
        part = np.asfortranarray(below[:, columns])
        new[:, columns] = dgemm(-1.0, left, both[:, columns], 1.0, part, overwrite_c=1)
    return np.hstack([upper, lower.T])


def _reflectors(panel):
    """Householder vectors V, T of :math:`Q = 1 - V T V^T`, and R of panel = QR."""
    (vectors, tau), upper = qr(panel, mode="raw", check_finite=False)
    k = len(tau)
    v = np.tril(vectors[:, :k], -1)
    np.fill_diagonal(v, 1.0)
    # T^-1 + T^-T = V^T V (C. Puglisi, SIAM J. Sci. Stat. Comput. 13, 723 (1992))
    inverse = np.triu(v.T @ v, 1)
    np.fill_diagonal(inverse, 1.0 / np.where(tau == 0.0, np.finfo(float).tiny, tau))
    return np.asfortranarray(v), solve_triangular(inverse, np.eye(k), check_finite=False), upper[:k]
