"""Loops over neighbor pairs whose Gaussians have weights: the components of an input of the neighbor."""

from eqkernels._compile import njit

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def add_weighted(rows, firsts, weights, harmonics, radial, n_max, out):
    """Add weights[p, d] Y_lm W_nl of every pair p to out[d, rows[p], lm, firsts[p] + n].

    rows, firsts (n_pairs); weights (n_pairs, n_weights); harmonics (n_pairs, (l_max + 1)^2); radial (n_pairs,
    (l_max + 1) n_max); out (n_weights, n_rows, (l_max + 1)^2, n_channels).
    """
    l_max = radial.shape[1] // n_max - 1
    for p in range(len(rows)):
        for d in range(weights.shape[1]):
            for l in range(l_max + 1):
                for lm in range(l * l, (l + 1) * (l + 1)):
                    factor, target = weights[p, d] * harmonics[p, lm], out[d, rows[p], lm]
                    for n in range(n_max):
                        target[firsts[p] + n] += factor * radial[p, l * n_max + n]


@njit(**_options)
def contract_weighted(rows, firsts, harmonics, radial, n_max, cotangent, out):
    """Write out[p, d], the derivative by weights[p, d] of sum(cotangent * out) of :func:`add_weighted`."""
    l_max = radial.shape[1] // n_max - 1
    for p in range(len(rows)):
        for d in range(out.shape[1]):
            total = 0.0
            for l in range(l_max + 1):
                for lm in range(l * l, (l + 1) * (l + 1)):
                    source, part = cotangent[d, rows[p], lm], 0.0
                    for n in range(n_max):
                        part += source[firsts[p] + n] * radial[p, l * n_max + n]
                    total += part * harmonics[p, lm]
            out[p, d] = total
