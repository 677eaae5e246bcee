"""Loop that sums kernels between environments into kernels between structures."""

from eqkernels._compile import njit


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def add_to_structures(products, weights, rows, columns, mirror, out, moduli):
    """Add weights[i, j] products[i, :, j, :] to out[rows[i], columns[j]].

    products (n_i, d, n_j, d); weights (n_i, n_j); rows, columns: structure of each environment;
    out (n_structures, m_structures, d, d); moduli (n_structures, m_structures) sums the moduli of all terms.
    With mirror, the transposed blocks are added across the diagonal too.
    """
    n_i, d, n_j, _ = products.shape
    for i in range(n_i):
        for mu in range(d):
            for j in range(n_j):
                target = out[rows[i], columns[j], mu]
                modulus = 0.0
                for nu in range(d):
                    value = weights[i, j] * products[i, mu, j, nu]
                    modulus += abs(value)
                    target[nu] += value
                    if mirror:
                        out[columns[j], rows[i], nu, mu] += value
                moduli[rows[i], columns[j]] += modulus
                if mirror:
                    moduli[columns[j], rows[i]] += modulus
