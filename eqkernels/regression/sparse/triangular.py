r"""Triangular factors that grow by rows: least squares on more rows than fit into memory.

For a matrix A that comes in blocks of rows, the factor R of A = QR is all that least squares needs, and the factor of
[R; B] is that of A with the rows B appended (TSQR: J. Demmel, L. Grigori, M. Hoemmen, J. Langou, SIAM J. Sci. Comput.
34, A206 (2012)). Nothing is squared: the error of R is a rounding error of A, not of :math:`A^T A`.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dgemm
from scipy.linalg.lapack import dtpqrt

# Columns eliminated together: the rest of the work is matrix products with this inner dimension.
_PANEL = 128
# Columns of a panel eliminated without matrix products.
_LEAF = 16
# Rows that are read together, which bounds the temporary array; a multiple of _PANEL.
_TILE = 1024
# Rows of a triangle that are appended together: few, for columns left of the diagonal are zero. A multiple of _PANEL.
_APPENDED = 256


class TriangularFactor:
    """Upper triangular R with :math:`R^T R = A^T A` for all rows A folded in so far.

    Parameters
    ----------
    size : int
        Number of columns.
    data : ndarray, default=None
        Attribute ``data`` of another factor, which is then shared; None: no rows yet.

    Attributes
    ----------
    data : ndarray
        The panels of 128 rows of R from the diagonal on, one after the other: half the memory of a square matrix.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.random.default_rng(0).normal(size=(50, 3))
    >>> r = TriangularFactor(3).fold(a[:20].copy()).fold(a[20:].copy()).dense()
    >>> bool(np.allclose(r.T @ r, a.T @ a))
    True
    """

    def __init__(self, size, data=None):
        self.size = size
        total = sum(count * (size - start) for start, count in self._spans())
        self.data = np.zeros(total) if data is None else data

    @classmethod
    def of_upper(cls, matrix):
        """Copy the upper triangle of a square matrix."""
        factor = cls(len(matrix))
        for start, panel in factor._panels():
            panel[:] = np.triu(matrix[start : start + len(panel), start:])
        return factor

    def copy(self):
        """Independent factor with the same rows."""
        return TriangularFactor(self.size, self.data.copy())

    def fold(self, rows, first=0):
        """Append rows, which are overwritten.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, size - first)
            Columns from ``first`` on; those before are zero. In Fortran order no copy is made.
        first : int, default=0
            A multiple of 128.

        Returns
        -------
        self
        """
        if len(rows) == 0:
            return self
        rows = np.asfortranarray(rows)
        for start, panel in self._panels():
            if start >= first:
                block, count = rows[:, start - first :], len(panel)
                t = _eliminate(panel[:, :count], block[:, :count])
                _rotate(block[:, :count], t, panel[:, count:], block[:, count:])
        return self

    def merge(self, other):
        """Append the rows that another factor stands for, tile by tile."""
        return self.append(other.rows, self.size)

    def damp(self, value, n_columns):
        """Append the rows value * 1 of the first columns."""
        return self.append(lambda start, stop: value * np.eye(stop - start, self.size - start), n_columns)

    def append(self, rows, n_rows):
        """Append an upper triangle, of which ``rows(start, stop)`` makes rows from column ``start`` on."""
        for start in range(0, n_rows, _APPENDED):
            self.fold(rows(start, min(start + _APPENDED, n_rows)), start)
        return self

    def tiles(self):
        """Ranges of rows that start at a multiple of 128, in order."""
        return [(start, min(start + _TILE, self.size)) for start in range(0, self.size, _TILE)]

    def rows(self, start, stop):
        """Copy of some rows from column ``start`` on, (stop - start, size - start)."""
        out = np.zeros((stop - start, self.size - start))
        for begin, panel in self._panels():
            if start <= begin < stop:
                out[begin - start : begin - start + len(panel), begin - start :] = panel[: stop - begin]
        return out

    def set_rows(self, start, values):
        """Replace rows from ``start`` on by those of an upper triangular matrix, from its diagonal on."""
        stop = start + len(values)
        for begin, panel in self._panels():
            if start <= begin < stop:
                panel[: stop - begin] = np.triu(values[begin - start : begin - start + len(panel), begin - start :])

    def leading(self, n):
        """Copy of the first n rows and columns, (n, n), in Fortran order."""
        out = np.zeros((n, n), order="F")
        for start, panel in self._panels():
            out[start : start + len(panel), start:] = panel[: max(n - start, 0), : max(n - start, 0)]
        return out

    def dense(self):
        """Copy as a square matrix."""
        return self.rows(0, self.size)

    def _spans(self):
        return [(start, min(_PANEL, self.size - start)) for start in range(0, self.size, _PANEL)]

    def _panels(self):
        """First row of each panel and a view of it from the diagonal on."""
        begin = 0
        for start, count in self._spans():
            end = begin + count * (self.size - start)
            yield start, self.data[begin:end].reshape(count, self.size - start)
            begin = end


def _eliminate(triangle, block):
    """Householder vectors V that take [triangle; block] to [triangle; 0], and T of :math:`1 - [1; V] T [1; V]^T`.

    Recursively, so that nearly all work is matrix products (E. Elmroth, F. G. Gustavson, IBM J. Res. Dev. 44, 605
    (2000)). The triangle is replaced by the new one, the block by V.
    """
    n = len(triangle)
    if n <= _LEAF:
        triangle[:], block[:], t, _ = dtpqrt(0, n, triangle, block)
        return np.triu(t)
    half, t = n // 2, np.zeros((n, n))
    left, right = block[:, :half], block[:, half:]
    t[:half, :half] = _eliminate(triangle[:half, :half], left)
    _rotate(left, t[:half, :half], triangle[:half, half:], right)
    t[half:, half:] = _eliminate(triangle[half:, half:], right)
    t[:half, half:] = -t[:half, :half] @ (left.T @ right) @ t[half:, half:]
    return t


def _rotate(vectors, t, top, bottom):
    """Apply the reflections to other columns [top; bottom], in place; arrays of many rows are in Fortran order."""
    if top.shape[1]:
        update = t.T @ (top + vectors.T @ bottom)
        top -= update
        dgemm(-1.0, vectors, update.T, trans_b=1, beta=1.0, c=bottom, overwrite_c=1)
