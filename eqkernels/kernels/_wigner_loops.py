"""Loops over rotations: powers of overlaps of two densities, of which one is rotated or rotated and inverted."""

from eqkernels._compile import njit


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def parity_powers(even, odd, order):
    """Overwrite the parts e, o of a function on rotations with those of its power.

    even, odd (n_pairs, n_rotations): the function is e + o for a rotation and e - o for its product with the inversion;
    on return ((e + o)^order +- (e - o)^order) / 2.
    """
    for i in range(even.shape[0]):
        first, second = even[i] + odd[i], even[i] - odd[i]
        proper, improper = first.copy(), second.copy()
        for _ in range(order - 1):
            for g in range(first.shape[0]):
                proper[g] *= first[g]
                improper[g] *= second[g]
        for g in range(first.shape[0]):
            even[i, g] = 0.5 * (proper[g] + improper[g])
            odd[i, g] = 0.5 * (proper[g] - improper[g])
