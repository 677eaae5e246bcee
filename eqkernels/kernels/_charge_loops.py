"""Loop that sums kernels between charges into kernels between the multipoles that they make."""

from eqkernels._compile import njit


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def add_multipoles(kernels, left, right, rows, columns, mirror, out, moduli):
    """Add left[i, mu] kernels[i, j] right[j, nu] to out[rows[i], columns[j], mu, nu].

    kernels (n_i, n_j); left (n_i, d), right (n_j, d): displacements; rows, columns: structure of each environment,
    ascending; out (n_structures, m_structures, d, d); moduli (n_structures, m_structures) sums bounds of all terms.
    With mirror, the transposed blocks are added across the diagonal too.
    """
    (n_i, n_j), d = kernels.shape, left.shape[1]
    for i in range(n_i):
        row, size = rows[i], 0.0
        for mu in range(d):
            size += abs(left[i, mu])
        start = 0
        while start < n_j:
            column, stop, modulus = columns[start], start, 0.0
            while stop < n_j and columns[stop] == column:
                stop += 1
            for nu in range(d):
                total = 0.0
                for j in range(start, stop):
                    term = kernels[i, j] * right[j, nu]
                    total += term
                    modulus += abs(term)
                for mu in range(d):
                    out[row, column, mu, nu] += left[i, mu] * total
                    if mirror:
                        out[column, row, nu, mu] += left[i, mu] * total
            moduli[row, column] += size * modulus
            if mirror:
                moduli[column, row] += size * modulus
            start = stop
