"""Loops that gather derivatives by pairs into those by atoms and by strain."""

from eqkernels._compile import njit

_options: dict = {"nogil": True, "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}}


@njit(**_options)
def subtract_changes(owners, first, changes, out):
    """Subtract changes (n_items, 3, n_lm, n_max) from channels ``first`` .. of out (n_owners, 3, n_lm, n_channels)."""
    for e, owner in enumerate(owners):
        for x in range(3):
            for lm in range(changes.shape[2]):
                for n in range(changes.shape[3]):
                    out[owner, x, lm, first + n] -= changes[e, x, lm, n]


@njit(**_options)
def sum_strains(firsts, vectors, gradient, n_max, out):
    """Add gradient_x vector_y of some pairs to out (9, n_lm, n_channels), gradient (n_pairs, 3, n_lm, n_max)."""
    for p in range(len(firsts)):
        for x in range(3):
            for y in range(3):
                for lm in range(gradient.shape[2]):
                    row, change = out[3 * x + y, lm], gradient[p, x, lm]
                    for n in range(n_max):
                        row[firsts[p] + n] += vectors[p, y] * change[n]


@njit(**_options)
def sum_pairs(offsets, neighbors, vectors, by_vectors, structures, positions, strain):
    """Add derivatives by the vectors of pairs to those by positions (n_atoms, 3) and strain (n_structures, 3, 3)."""
    for i in range(len(offsets) - 1):
        for p in range(offsets[i], offsets[i + 1]):
            for x in range(3):
                positions[neighbors[p], x] += by_vectors[p, x]
                positions[i, x] -= by_vectors[p, x]
                for y in range(3):
                    strain[structures[i], x, y] += by_vectors[p, x] * vectors[p, y]
