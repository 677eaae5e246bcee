"""Loop of the density expansion: every neighbor adds the outer product of its harmonics and radial weights."""

from numba import njit


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def accumulate_density(offsets, channels, harmonics, radial, n_max, out):
    """Add c[i, lm, channel + n] += Y_lm W_nl for the neighbors of every center.

    offsets (n_centers + 1) delimit the neighbors of each center; channels (n_pairs) is the first channel of each
    neighbor's species, negative where it does not count; harmonics (n_pairs, (l_max + 1)^2);
    radial (n_pairs, (l_max + 1) n_max); out (n_centers, (l_max + 1)^2, n_channels).
    """
    n_degrees = radial.shape[1] // n_max
    for i in range(out.shape[0]):
        for p in range(offsets[i], offsets[i + 1]):
            first = channels[p]
            if first < 0:
                continue
            for l in range(n_degrees):
                weights = radial[p, l * n_max : (l + 1) * n_max]
                for lm in range(l * l, (l + 1) * (l + 1)):
                    y = harmonics[p, lm]
                    row = out[i, lm, first : first + n_max]
                    for n in range(n_max):
                        row[n] += y * weights[n]
