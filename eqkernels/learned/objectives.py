r"""Losses of features whose readout is solved in closed form inside the loss (variable projection).

With the features P of n samples of d components and a Gaussian prior of unit variance on the weights w of the
readout, y = P w + noise of variance s. Both losses come from the QR factorization of P stacked on :math:`\sqrt s\, I`,
which never squares the condition number, and have exact gradients with respect to P and log s:

- the negative log marginal likelihood (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006),
  :math:`\tfrac12 [ r^T r / s + w^T w + \log |P^T P + s I| + (N - D) \log s ]` with the residual r = y - P w, N = n d;
- half the logarithm of the mean square of the leave-one-out errors, in which the d components of a sample are left out
  together, :math:`e_k = (I - H_{kk})^{-1} r_k`, :math:`H = P (P^T P + s I)^{-1} P^T`.

Variable projection: G. Golub, V. Pereyra, Inverse Problems 19, R1 (2003).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular


def _solve(design, values, noise):
    n_rows, n_columns = design.shape
    q, r = np.linalg.qr(np.vstack([design, np.sqrt(noise) * np.eye(n_columns)]))
    q = q[:n_rows]
    inverse = solve_triangular(r, np.eye(n_columns), check_finite=False)
    weights = inverse @ (q.T @ values)
    return q, r, inverse, weights, values - design @ weights


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
    return _solve(design, values, noise)[3]


def log_marginal_likelihood(features, values, log_noise):
    """Negative log marginal likelihood, divided by the number of values.

    Parameters
    ----------
    features : ndarray of shape (n, d, n_features)
    values : ndarray of shape (n, d, n_outputs)
    log_noise : float

    Returns
    -------
    loss : float
    to_features : ndarray of shape (n, d, n_features)
        Gradient with respect to the features.
    to_log_noise : float
    """
    n, d, n_columns = features.shape
    n_rows, n_outputs, noise = n * d, values.shape[2], np.exp(log_noise)
    q, r, inverse, weights, residual = _solve(features.reshape(n_rows, -1), values.reshape(n_rows, -1), noise)
    dual = residual / noise
    log_determinant = 2 * np.log(np.abs(np.diag(r))).sum() + (n_rows - n_columns) * log_noise
    loss = 0.5 * (np.sum(residual * dual) + np.sum(weights**2) + n_outputs * log_determinant)
    to_features = n_outputs * (q @ inverse.T) - dual @ weights.T
    to_log_noise = 0.5 * (n_outputs * (n_rows - n_columns + noise * np.sum(inverse**2)) - noise * np.sum(dual**2))
    total = values.size
    return loss / total, to_features.reshape(features.shape) / total, to_log_noise / total


def leave_one_out(features, values, log_noise):
    """Half the logarithm of the mean square of block leave-one-out errors; arguments and returns as above."""
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
    squares = np.sum(errors**2)
    return 0.5 * np.log(squares / values.size), to_features / squares, to_log_noise / squares


OBJECTIVES = {"lml": log_marginal_likelihood, "loo": leave_one_out}


def profile_likelihood(features, values):
    """Make the loss a function of the logarithm of the noise alone, at the cost of one factorization for all of them.

    Parameters
    ----------
    features, values
        As of :func:`log_marginal_likelihood`.

    Returns
    -------
    callable
    """
    _, squares, along, rest = _principal_axes(features, values)
    n_rows, n_outputs = len(rest), values.shape[2]
    missed = np.sum(rest**2)

    def loss(log_noise):
        total = squares + np.exp(log_noise)
        log_determinant = np.log(total).sum() + (n_rows - len(total)) * log_noise
        return (
            0.5
            * (np.sum(along**2 / total[:, None]) + missed / np.exp(log_noise) + n_outputs * log_determinant)
            / (values.size)
        )

    return loss


def profile_leave_one_out(features, values):
    """As :func:`profile_likelihood`, of :func:`leave_one_out`."""
    n, d, _ = features.shape
    axes, squares, along, rest = _principal_axes(features, values)
    blocks = axes.reshape(n, d, -1)

    def loss(log_noise):
        kept = np.exp(log_noise) / (squares + np.exp(log_noise))
        residual = axes @ (kept[:, None] * along) + rest
        own = np.eye(d) - (blocks * (1 - kept)) @ blocks.transpose(0, 2, 1)
        errors = np.linalg.solve(own, residual.reshape(n, d, -1))
        return 0.5 * np.log(np.sum(errors**2) / values.size)

    return loss


def _principal_axes(features, values):
    """Left singular vectors of the features, squares of singular values, the values along them and what is left."""
    n, d, n_columns = features.shape
    values = values.reshape(n * d, -1)
    # of the triangular factor, without the normal equations; a factorization of all rows at once is slower
    q, r = np.linalg.qr(features.reshape(n * d, n_columns))
    u, singular, _ = np.linalg.svd(r, full_matrices=False)
    axes = q @ u
    along = axes.T @ values
    return axes, singular**2, along, values - axes @ along


PROFILES = {"lml": profile_likelihood, "loo": profile_leave_one_out}
