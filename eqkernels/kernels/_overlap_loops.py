"""Loop that contracts overlaps of densities to scalar products of lambda-SOAP vectors."""

from numba import njit


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def contract_overlaps(overlaps, starts, degrees, rows, sources, values, out):
    """Add to out (n, n', 2 lambda + 1, 2 lambda + 1) the products of overlaps (n, n', sum over l of (2 l + 1)^2).

    starts (l_max + 1): where the overlaps of l begin; degrees .. values: see pair_couplings, whose coefficients carry
    the factor sqrt 2 for the two orders of l and l', which must be taken back where these are equal.
    """
    n_mu = out.shape[2]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for p in range(degrees.shape[0]):
                l1, l2 = degrees[p, 0], degrees[p, 1]
                d1, d2, weight = 2 * l1 + 1, 2 * l2 + 1, 0.5 if l1 == l2 else 1.0
                for mu in range(n_mu):
                    for nu in range(n_mu):
                        total = 0.0
                        for m in range(d1):
                            a = rows[p] + mu * d1 + m
                            for n in range(d1):
                                b = rows[p] + nu * d1 + n
                                first = 0.0
                                for s in range(2):
                                    at = starts[l2] + sources[a, s] * d2
                                    for t in range(2):
                                        first += values[a, s] * values[b, t] * overlaps[i, j, at + sources[b, t]]
                                total += overlaps[i, j, starts[l1] + m * d1 + n] * first
                        out[i, j, mu, nu] += weight * total
