"""Loops that damp an upper band matrix."""

import numpy as np

from eqkernels._compile import njit


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def damp_band(band, width, damping, carried):
    """Log determinant of the triangular factor of [B; damping 1], and sum of squares of the residuals.

    Row j of band (n, width + 1 + n_right) has columns j to j + width of B, then those of the right-hand sides. carried,
    of the same shape, is overwritten: the triangle of at most width rows that the rows damping 1 become.
    """
    n, size = band.shape
    carried[:] = 0.0
    pivot, rest, log_determinant, squares = np.empty(size), np.empty(size), 0.0, 0.0
    for j in range(n):
        pivot[:], rest[:], own = band[j], 0.0, carried[j]
        rest[0] = damping
        _rotate(own, rest)
        _rotate(pivot, own)
        log_determinant += np.log(np.abs(pivot[0]))
        for i in range(1, min(width, n - 1 - j) + 1):
            row = carried[j + i]
            first = np.sqrt(row[0] ** 2 + own[i] ** 2)
            second = np.sqrt(first**2 + rest[i] ** 2)
            if second == 0.0:
                continue
            c, s = (row[0] / first, own[i] / first) if first > 0.0 else (1.0, 0.0)
            d, t = first / second, rest[i] / second
            row[0] = second
            _rotate_two(row[1 : width + 1 - i], own[i + 1 : width + 1], rest[i + 1 : width + 1], c, s, d, t)
            _rotate_two(row[width + 1 :], own[width + 1 :], rest[width + 1 :], c, s, d, t)
        for k in range(width + 1, size):
            squares += own[k] ** 2 + rest[k] ** 2
    return log_determinant, squares


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def _rotate(top, bottom):
    """Rotate two rows so that the lower begins with zero."""
    length = np.sqrt(top[0] ** 2 + bottom[0] ** 2)
    if length > 0.0:
        c, s = top[0] / length, bottom[0] / length
        for k in range(len(top)):
            x, y = top[k], bottom[k]
            top[k], bottom[k] = c * x + s * y, c * y - s * x


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def _rotate_two(top, middle, bottom, c, s, d, t):
    """Rotate the middle row with the top row by (c, s), then the bottom row with the top row by (d, t)."""
    for k in range(len(top)):
        x, y, z = top[k], middle[k], bottom[k]
        u = c * x + s * y
        middle[k] = c * y - s * x
        top[k] = d * u + t * z
        bottom[k] = d * z - t * u
