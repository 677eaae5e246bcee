"""Loop of the radial table: Horner's rule with the channels innermost."""

from numba import njit


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def evaluate_table(distances, split, cutoff, n_inner, coefficients, out):
    """Write the tabulated functions at every distance into out (n_distances, n_functions)."""
    n_intervals, n_powers, n_functions = coefficients.shape
    n_outer = n_intervals - n_inner
    for p in range(distances.shape[0]):
        d = distances[p]
        if d < split or n_outer == 0:
            x = d / split * n_inner
            k = min(int(x), n_inner - 1)
            t = 2 * (x - k) - 1
        else:
            x = (d - split) / (cutoff - split) * n_outer
            k = min(int(x), n_outer - 1)
            t = 2 * (x - k) - 1
            k += n_inner
        row = out[p]
        top = coefficients[k, n_powers - 1]
        for c in range(n_functions):
            row[c] = top[c]
        for power in range(n_powers - 2, -1, -1):
            table = coefficients[k, power]
            for c in range(n_functions):
                row[c] = row[c] * t + table[c]
