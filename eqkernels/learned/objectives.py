r"""Losses of features whose readout is solved in closed form inside the loss (variable projection).

With the features P of n samples of d components and a Gaussian prior of unit variance on the weights w of the
readout, y = P w + noise of variance s. Both losses come from the QR factorization of P stacked on :math:`\sqrt s\, I`,
which never squares the condition number, and have exact gradients with respect to P and log s:

- the negative log marginal likelihood (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006),
  :math:`\tfrac12 [ r^T r / s + w^T w + \log |P^T P + s I| + (N - D) \log s ]` with the residual r = y - P w, N = n d;
- half the logarithm of the mean square of the leave-one-out errors, in which the d components of a sample are left out
  together, :math:`e_k = (I - H_{kk})^{-1} r_k`, :math:`H = P (P^T P + s I)^{-1} P^T`.

N is the number of independent values: of equivalent atoms together one, and none for components that symmetry forbids
(:mod:`eqkernels.regression.independence`).

Groups of samples that share no weights, as atoms of different species, are problems of their own: their likelihoods add
up, and so do the squares of their errors. Both losses depend on P through :math:`P P^T` alone: where P has many more
columns than rows, the triangular factor of its transpose replaces it, and the cost is linear in the number of columns.

Variable projection: G. Golub, V. Pereyra, Inverse Problems 19, R1 (2003).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

# With more columns for each row than this, it is cheaper to factorize the transpose first.
_WIDE = 2.0
# All samples in one group.
_WHOLE = (slice(None),)


def ridge_weights(design, values, noise):
    """Weights of the readout.

    Parameters
    ----------
    design : ndarray of shape (n_rows, n_columns)
    values : ndarray of shape (n_rows, n_outputs)
    noise : float
        Variance of the noise over that of the weights, positive.

    Returns
    -------
    ndarray of shape (n_columns, n_outputs)
    """
    narrow, basis = _narrowed(design)
    n_columns = narrow.shape[1]
    prior = np.sqrt(noise) * np.eye(n_columns), np.zeros((n_columns, values.shape[1]))
    r = np.asarray(np.linalg.qr(np.block([[narrow, values], [*prior]]), mode="r"))[:n_columns]
    weights = solve_triangular(r[:, :n_columns], r[:, n_columns:], check_finite=False)
    return weights if basis is None else basis @ weights


def log_marginal_likelihood(features, values, log_noise, groups=_WHOLE, counts=None):
    """Negative log marginal likelihood, divided by the number of values.

    Parameters
    ----------
    features : ndarray of shape (n, d, n_features)
    values : ndarray of shape (n, d, n_outputs)
    log_noise : float
    groups : sequence of (ndarray of int or slice), default=(slice(None),)
        Samples of each group; every group has weights of its own.
    counts : ndarray of shape (n,), default=None
        What each sample counts as an observation; None: 1.

    Returns
    -------
    loss : float
    to_features : ndarray of shape (n, d, n_features)
        Gradient with respect to the features.
    to_log_noise : float
    """
    total, to_features, to_log_noise = _summed(_likelihood, features, values, log_noise, groups, counts)
    return total / values.size, to_features / values.size, to_log_noise / values.size


def leave_one_out(features, values, log_noise, groups=_WHOLE, counts=None):
    """Half the logarithm of the mean square of block leave-one-out errors; arguments and returns as above."""
    half, to_features, to_log_noise = _summed(_left_out, features, values, log_noise, groups, counts)
    squares = 2 * half
    return 0.5 * np.log(squares / values.size), to_features / squares, to_log_noise / squares


def _summed(term, features, values, log_noise, groups, counts):
    """Sum of the terms of all groups, with its slopes."""
    total, to_features, to_log_noise = 0.0, np.empty(features.shape), 0.0
    for rows in groups:
        n, d, n_columns = features[rows].shape
        design, basis = _narrowed(features[rows].reshape(n * d, n_columns))
        n_independent = n * d if counts is None else d * counts[rows].sum()
        value, slopes, slope = term(design.reshape(n, d, -1), values[rows], log_noise, n_independent)
        to_features[rows] = (slopes if basis is None else slopes @ basis.T).reshape(n, d, n_columns)
        total, to_log_noise = total + value, to_log_noise + slope
    return total, to_features, to_log_noise


def _narrowed(design):
    """Coordinates of the rows in an orthonormal basis of their span, and the basis; rows and None if that is slower.

    Weights, and gradients with respect to the coordinates, are expressed in the same basis.
    """
    if design.shape[1] <= _WIDE * len(design):
        return design, None
    basis, r = np.linalg.qr(design.T)
    return np.ascontiguousarray(r.T), basis


def _solve(design, values, noise):
    n_rows, n_columns = design.shape
    q, r = np.linalg.qr(np.vstack([design, np.sqrt(noise) * np.eye(n_columns)]))
    q = q[:n_rows]
    inverse = solve_triangular(r, np.eye(n_columns), check_finite=False)
    weights = inverse @ (q.T @ values)
    return q, r, inverse, weights, values - design @ weights


def _likelihood(features, values, log_noise, n_independent):
    n, d, n_columns = features.shape
    n_rows, n_outputs, noise = n * d, values.shape[2], np.exp(log_noise)
    q, r, inverse, weights, residual = _solve(features.reshape(n_rows, -1), values.reshape(n_rows, -1), noise)
    dual = residual / noise
    log_determinant = 2 * np.log(np.abs(np.diag(r))).sum() + (n_independent - n_columns) * log_noise
    total = 0.5 * (np.sum(residual * dual) + np.sum(weights**2) + n_outputs * log_determinant)
    to_features = n_outputs * (q @ inverse.T) - dual @ weights.T
    to_log_noise = 0.5 * (
        n_outputs * (n_independent - n_columns + noise * np.sum(inverse**2)) - noise * np.sum(dual**2)
    )
    return total, to_features.reshape(features.shape), to_log_noise


def _left_out(features, values, log_noise, _):
    """Half the sum of the squares of leave-one-out errors."""
    n, d, n_columns = features.shape
    n_rows, noise = n * d, np.exp(log_noise)
    design = features.reshape(n_rows, n_columns)
    q, _, inverse, weights, residual = _solve(design, values.reshape(n_rows, -1), noise)
    blocks = q.reshape(n, d, n_columns)
    # of the symmetric matrices I - H_kk
    inverses = np.linalg.inv(np.eye(d) - blocks @ blocks.transpose(0, 2, 1))
    errors = inverses @ residual.reshape(n, d, -1)
    g = inverses @ errors
    outer = g @ errors.transpose(0, 2, 1)
    outer = (outer + outer.transpose(0, 2, 1)) / 2
    g = g.reshape(n_rows, -1)
    u = -inverse @ (inverse.T @ (design.T @ g))
    solved = (q @ inverse.T).reshape(n, d, n_columns)
    weighted = outer @ solved
    middle = solved.reshape(n_rows, -1).T @ weighted.reshape(n_rows, -1)
    to_design = residual @ u.T - (g + design @ u) @ weights.T - 2 * design @ middle
    to_features = to_design.reshape(features.shape) + 2 * weighted
    to_log_noise = -noise * (np.sum(u * weights) + np.trace(middle))
    return 0.5 * np.sum(errors**2), to_features, to_log_noise


OBJECTIVES = {"lml": log_marginal_likelihood, "loo": leave_one_out}


def profile_likelihood(features, values, groups=_WHOLE, counts=None):
    """Make the loss a function of the logarithm of the noise alone, at the cost of one factorization for all of them.

    Parameters
    ----------
    features, values, groups, counts
        As of :func:`log_marginal_likelihood`.

    Returns
    -------
    callable
    """
    parts = [_spectrum(features[rows], values[rows]) for rows in groups]
    squares, along = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    missed = sum(part[2] for part in parts)
    (n, d, _), n_outputs = features.shape, values.shape[2]
    n_independent = n * d if counts is None else d * counts.sum()

    def loss(log_noise):
        total = squares + np.exp(log_noise)
        log_determinant = np.log(total).sum() + (n_independent - len(total)) * log_noise
        fit = np.sum(along**2 / total[:, None]) + missed / np.exp(log_noise)
        return 0.5 * (fit + n_outputs * log_determinant) / values.size

    return loss


def _spectrum(features, values):
    """Squares of singular values of the features, the values along their axes, and the squares of what is left."""
    n_rows = features.shape[0] * features.shape[1]
    design, _ = _narrowed(features.reshape(n_rows, -1))
    n_columns = design.shape[1]
    # of the triangular factor, without the normal equations; a factorization of all rows at once is slower
    r = np.asarray(np.linalg.qr(np.hstack([design, values.reshape(n_rows, -1)]), mode="r"))
    u, singular, _ = np.linalg.svd(r[:n_columns, :n_columns], full_matrices=False)
    return singular**2, u.T @ r[:n_columns, n_columns:], np.sum(r[n_columns:, n_columns:] ** 2)


def profile_leave_one_out(features, values, groups=_WHOLE, counts=None):
    """As :func:`profile_likelihood`, of :func:`leave_one_out`."""
    parts = [_left_out_by_noise(features[rows], values[rows]) for rows in groups]
    return lambda log_noise: 0.5 * np.log(sum(squares(np.exp(log_noise)) for squares in parts) / values.size)


def _left_out_by_noise(features, values):
    """Sum of the squares of leave-one-out errors as a function of the noise."""
    n, d, n_columns = features.shape
    design, values = _narrowed(features.reshape(n * d, n_columns))[0], values.reshape(n * d, -1)
    q, r = np.linalg.qr(design)
    u, singular, _ = np.linalg.svd(r, full_matrices=False)
    axes, squares = q @ u, singular**2
    along, blocks = axes.T @ values, axes.reshape(n, d, -1)
    rest = values - axes @ along

    def total(noise):
        kept = noise / (squares + noise)
        residual = axes @ (kept[:, None] * along) + rest
        own = np.eye(d) - (blocks * (1 - kept)) @ blocks.transpose(0, 2, 1)
        return np.sum(np.linalg.solve(own, residual.reshape(n, d, -1)) ** 2)

    return total


PROFILES = {"lml": profile_likelihood, "loo": profile_leave_one_out}
