"""Loop of the vector-Jacobian product of lambda-SOAP: from cotangents of the features to those of the density."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def contract_equivariants(density, group, lam, degrees, rows, sources, values, cotangent, out):
    """Add to out the derivative of sum(cotangent * features) by the density.

    With p[mu; q, q'] = sum_m1 c[m1, q] K[m1, mu, q'] and K[m1, mu] = sum_m2 C[mu, m1, m2] c[m2], the derivatives by c
    and K are matrix products with the cotangent g[q, mu, q']. Only channels that occur take part, for no other atom is
    there to be moved. cotangent (n_centers, 2 lam + 1, n_features); out like the density; all else as in
    fill_equivariants.
    """
    n_centers, n_lm, n_channels = density.shape
    n_mu, first = 2 * lam + 1, lam % 2
    here, coefficients = np.empty(n_channels, np.int64), np.empty(n_lm * n_channels)
    derivative = np.empty((n_lm, n_channels))
    coupled_room, given_room = np.empty(n_lm * n_mu * n_channels), np.empty(n_channels * n_mu * n_channels)
    turned_room, result_room = np.empty(n_channels * n_mu * n_channels), np.empty(n_lm * n_mu * n_channels)
    for i in range(n_centers):
        n = 0
        for begin in range(0, n_channels, group):
            if np.any(density[i, :, begin : begin + group] != 0.0):
                for q in range(begin, min(begin + group, n_channels)):
                    here[n] = q
                    n += 1
        c = coefficients[: n_lm * n].reshape(n_lm, n)
        for lm in range(n_lm):
            for a in range(n):
                c[lm, a] = density[i, lm, here[a]]
        derivative[:] = 0.0
        column = 0
        for p in range(degrees.shape[0]):
            l1, l2 = degrees[p, 0], degrees[p, 1]
            n_terms, first1, first2 = 2 * l1 + 1, l1 * l1, l2 * l2
            coupled = coupled_room[: n_terms * n_mu * n].reshape(n_terms, n_mu, n)
            given = given_room[: n * n_mu * n].reshape(n, n_mu, n)
            turned = turned_room[: n_mu * n * n].reshape(n_mu, n, n)
            for mu in range(n_mu):
                for m in range(n_terms):
                    at = rows[p] + mu * n_terms + m
                    one, other = c[first2 + sources[at, 0]], c[first2 + sources[at, 1]]
                    for a in range(n):
                        coupled[m, mu, a] = values[at, 0] * one[a] + values[at, 1] * other[a]
                source = cotangent[i, mu, column:]
                for a in range(n):
                    q = here[a]
                    if l1 < l2:
                        start, begin = q * n_channels, 0
                    else:
                        start, begin = q * (n_channels - first) - q * (q - 1) // 2 - q - first, min(a + first, n)
                    for b in range(begin):
                        given[a, mu, b] = 0.0
                        turned[mu, b, a] = 0.0
                    for b in range(begin, n):
                        value = source[start + here[b]]
                        given[a, mu, b] = value
                        turned[mu, b, a] = value
                    if l1 == l2 and first == 0:  # the weight of the diagonal
                        given[a, mu, a] *= np.sqrt(0.5)
                        turned[mu, a, a] *= np.sqrt(0.5)
            result = result_room[: n_terms * n].reshape(n_terms, n)
            np.dot(coupled.reshape(n_terms, n_mu * n), turned.reshape(n_mu * n, n), result)
            derivative[first1 : first1 + n_terms, :n] += result
            result = result_room[: n_terms * n_mu * n].reshape(n_terms, n_mu * n)
            np.dot(c[first1 : first1 + n_terms], given.reshape(n, n_mu * n), result)
            for mu in range(n_mu):
                for m in range(n_terms):
                    at = rows[p] + mu * n_terms + m
                    for a in range(n):
                        derivative[first2 + sources[at, 0], a] += values[at, 0] * result[m, mu * n + a]
                        derivative[first2 + sources[at, 1], a] += values[at, 1] * result[m, mu * n + a]
            column += n_channels * n_channels if l1 < l2 else n_channels * (n_channels + 1 - 2 * first) // 2
        for lm in range(n_lm):
            for a in range(n):
                out[i, lm, here[a]] += derivative[lm, a]
