"""Loop that sums derivatives of features into those of kernels."""

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
