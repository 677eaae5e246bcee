"""Loops that sum derivatives of features into those of kernels."""

from eqkernels._compile import njit


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def add_slopes(gradients, products, features, centers, targets, points, own, out):
    """Add points[i, m] (dp_i . p_m) + own[i, m] (dp_i . p_i) to out[target, :, m], i the center of each entry.

    gradients (n, k, n_columns) are dp_i; products (n, k, n_points) are dp_i . p_m; features (n_centers, n_columns);
    centers, targets (n,); points, own (n_centers, n_points); out (n_targets, k, n_points).
    """
    n, k, n_columns = gradients.shape
    for e in range(n):
        i = centers[e]
        for x in range(k):
            along = 0.0
            for f in range(n_columns):
                along += gradients[e, x, f] * features[i, f]
            target = out[targets[e], x]
            for m in range(target.shape[0]):
                target[m] += points[i, m] * products[e, x, m] + own[i, m] * along


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def add_scalar_slopes(products, along, centers, targets, points, own, out):
    """Add points[i, :, m] products[e, x, m] + own[i, :, m] along[e, x] to out[target, x, :, m], i the center of e.

    products (n, k, n_points); along (n, k); centers, targets (n,); points, own (n_centers, d, n_points, d); out
    (n_targets, k, d, n_points, d).
    """
    n, k, n_points = products.shape
    d = points.shape[1]
    for e in range(n):
        i = centers[e]
        for x in range(k):
            target, factor = out[targets[e], x], along[e, x]
            for mu in range(d):
                for m in range(n_points):
                    product = products[e, x, m]
                    for nu in range(d):
                        target[mu, m, nu] += points[i, mu, m, nu] * product + own[i, mu, m, nu] * factor


@njit(nogil=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"})
def add_block_slopes(products, centers, targets, points, out):
    """Add points[i, m] products[e, x, :, m] to out[target, x, :, m], i the center of e.

    products (n, k, d, n_points, d); centers, targets (n,); points (n_centers, n_points); out
    (n_targets, k, d, n_points, d).
    """
    n, k, d, n_points, _ = products.shape
    for e in range(n):
        i = centers[e]
        for x in range(k):
            target = out[targets[e], x]
            for mu in range(d):
                for m in range(n_points):
                    for nu in range(d):
                        target[mu, m, nu] += points[i, m] * products[e, x, mu, m, nu]
