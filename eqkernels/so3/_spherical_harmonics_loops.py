"""Loop of the spherical harmonics, over blocks of points so that the recurrences run in vector registers."""

import numpy as np

from eqkernels._compile import njit

# Points whose intermediate values stay in the first-level cache.
_BLOCK = 32
# Shorter vectors count as zero: the reciprocal of a subnormal number overflows.
_SHORTEST = 1e-300


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def fill_spherical_harmonics(vectors, l_max, prefactors, out):
    """Write Y_lm of the directions of vectors (n, 3) into out (n, (l_max + 1)^2).

    prefactors (3, l_max + 1, l_max + 1) hold P_m^m at [0, m, m] and the recurrence coefficients at [1, l, m] and
    [2, l, m].
    """
    n_points = vectors.shape[0]
    x, y, z = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    cosine, sine = np.empty(_BLOCK), np.empty(_BLOCK)
    before, value = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, n_points, _BLOCK):
        size = min(_BLOCK, n_points - start)
        for k in range(size):
            a, b, c = vectors[start + k, 0], vectors[start + k, 1], vectors[start + k, 2]
            # scaled first: the squares of very long and very short vectors would overflow or vanish
            largest = max(abs(a), abs(b), abs(c))
            scale = 1.0 / largest if largest > _SHORTEST else 0.0
            a, b, c = a * scale, b * scale, c * scale
            norm = np.sqrt(a * a + b * b + c * c)
            scale = 1.0 / norm if norm > 0 else 0.0
            x[k], y[k], z[k] = a * scale, b * scale, c * scale
            cosine[k], sine[k] = 1.0, 0.0
        for m in range(l_max + 1):
            if m > 0:
                for k in range(size):
                    turned = cosine[k] * x[k] - sine[k] * y[k]
                    sine[k] = cosine[k] * y[k] + sine[k] * x[k]
                    cosine[k] = turned
            for k in range(size):
                before[k] = 0.0
                value[k] = prefactors[0, m, m]
            for l in range(m, l_max + 1):
                if l > m:
                    p, q = prefactors[1, l, m], prefactors[2, l, m]
                    for k in range(size):
                        new = p * z[k] * value[k] - q * before[k]
                        before[k] = value[k]
                        value[k] = new
                plus, minus = l * l + l + m, l * l + l - m
                for k in range(size):
                    out[start + k, minus] = value[k] * sine[k]
                for k in range(size):
                    out[start + k, plus] = value[k] * cosine[k]
        for k in range(size):
            if x[k] == 0 and y[k] == 0 and z[k] == 0:
                out[start + k, 1:] = 0.0
