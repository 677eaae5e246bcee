"""Loops over rotations: powers of overlaps of two densities, of which one is rotated or rotated and inverted.

Rotations come in fours, R and those that half turns about z before it, after it, or both make of it. Parts of a
function with even or odd m and n keep or change their signs with them: signed sums of the parts are the values on the
four rotations, and signed sums of the values are the parts.
"""

from eqkernels._compile import njit

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def _signed(a, b, c, d):
    """Signed sums of the parts of even m and n, odd n, odd m, odd m and n, or of the values on four rotations."""
    return a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d


@njit(**_options)
def _values(parts, i, proper, improper):
    """Values of pair i on four rotations, (4, n), and on these with the inversion, of parts (8, n_pairs, n)."""
    for g in range(parts.shape[2]):
        a, b, c, d = _signed(parts[0, i, g], parts[1, i, g], parts[2, i, g], parts[3, i, g])
        p, q, r, s = _signed(parts[4, i, g], parts[5, i, g], parts[6, i, g], parts[7, i, g])
        proper[0, g], proper[1, g], proper[2, g], proper[3, g] = a + p, b + q, c + r, d + s
        improper[0, g], improper[1, g], improper[2, g], improper[3, g] = a - p, b - q, c - r, d - s


@njit(**_options)
def _power(values, order, out):
    """Write the power of values (4, n) into out."""
    for s in range(4):
        for g in range(values.shape[1]):
            out[s, g] = values[s, g] if order > 0 else 1.0
        for _ in range(order - 1):
            for g in range(values.shape[1]):
                out[s, g] *= values[s, g]


@njit(**_options)
def parity_powers(parts, order, parity, work, out):
    """Write the parts of one parity of a power, and the sum of the even one over four rotations.

    parts (8, n_pairs, n): of even l, then of odd l, with even m and n, odd n, odd m, odd m and n; work (4, 4, n);
    out (5, n_pairs, n): the parts by m and n of (f(R) + parity f(-R)) / 2, and the sum for parity 1.
    """
    proper, improper, first, second = work[0], work[1], work[2], work[3]
    for i in range(parts.shape[1]):
        _values(parts, i, proper, improper)
        _power(proper, order, first)
        _power(improper, order, second)
        for g in range(parts.shape[2]):
            a, b, c, d = _signed(first[0, g], first[1, g], first[2, g], first[3, g])
            p, q, r, s = _signed(second[0, g], second[1, g], second[2, g], second[3, g])
            out[0, i, g], out[1, i, g] = 0.5 * (a + parity * p), 0.5 * (b + parity * q)
            out[2, i, g], out[3, i, g] = 0.5 * (c + parity * r), 0.5 * (d + parity * s)
            out[4, i, g] = 0.5 * (a + p)


@njit(**_options)
def parity_slopes(parts, order, parity, cotangents, work):
    """Overwrite parts (8, n_pairs, n) by the derivatives of sum(cotangents * out) of parity_powers by them.

    cotangents (5, n_pairs, n); work (4, 4, n).
    """
    proper, improper, first, second = work[0], work[1], work[2], work[3]
    for i in range(parts.shape[1]):
        _values(parts, i, proper, improper)
        _power(proper, order - 1, first)
        _power(improper, order - 1, second)
        for g in range(parts.shape[2]):
            along = _signed(cotangents[0, i, g], cotangents[1, i, g], cotangents[2, i, g], cotangents[3, i, g])
            for s in range(4):
                first[s, g] *= 0.5 * order * (along[s] + cotangents[4, i, g])
                second[s, g] *= 0.5 * order * (parity * along[s] + cotangents[4, i, g])
            a, b, c, d = _signed(first[0, g], first[1, g], first[2, g], first[3, g])
            p, q, r, s = _signed(second[0, g], second[1, g], second[2, g], second[3, g])
            parts[0, i, g], parts[1, i, g], parts[2, i, g], parts[3, i, g] = a + p, b + q, c + r, d + s
            parts[4, i, g], parts[5, i, g], parts[6, i, g], parts[7, i, g] = a - p, b - q, c - r, d - s
