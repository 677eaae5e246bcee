r"""What the data say about the hyperparameters of a Gaussian process of one irrep, with derivatives.

With :math:`C = s\, (K + \gamma W^{-1})`, the covariance of the labels y (s the signal variance, :math:`\gamma` the
noise in units of it, W the sample weights), the criteria are

- the log marginal likelihood :math:`-\frac12 y^T C^{-1} y - \frac12 \log |C| - \frac N2 \log 2 \pi` (C. E. Rasmussen,
  C. K. I. Williams, Gaussian Processes for Machine Learning, eq. 5.8);
- the leave-one-out density :math:`\sum_B \log p(y_B | y_{-B})`, B being all the components of a structure, whose
  predictions follow from one factorization: :math:`y_B - \mu_B = [C^{-1}]_{BB}^{-1} [C^{-1} y]_B` with the covariance
  :math:`[C^{-1}]_{BB}^{-1}` (ibid., eq. 5.10 to 5.13, there for single labels);
- the leave-one-out error, as :math:`-\frac N2 \log \sum_B \| y_B - \mu_B \|_W^2`, which does not depend on s.

All are evaluated in the eigenvectors of :math:`W^{1/2} K W^{1/2}`: one factorization serves every s and :math:`\gamma`.
N is the number of independent components (:mod:`eqkernels.regression.independence`): the others, eigenvectors of
:math:`\gamma` alone, are left out of the determinants.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from eqkernels.regression.independence import allowed_parts

CRITERIA = ("lml", "loo_density", "loo_error")
# Noises that are tried before the optimization: decades from rounding to "nothing but noise".
NOISES = 10.0 ** np.arange(-13, 4)
# Operations of an eigendecomposition, for each cube of the size, as many products of matrices take as long.
EIGENVECTORS = 12.0
# Least noise, in units of N eps times the largest eigenvalue. The same structure in another orientation or batch has a
# kernel that differs by rounding, which the inverse amplifies: predictions shall agree to 1e-8 of their spread.
LEAST_NOISE = 10
# Below this a kernel vanishes by symmetry and labels vanish: a number instead of zero keeps logarithms finite.
ZERO = 1e-100


class Spectrum:
    """Eigenvectors of a kernel matrix between structures and labels in their basis.

    Parameters
    ----------
    kernel : ndarray of shape (n, n, d, d)
    values : ndarray of shape (n, d, n_columns)
        Labels, or other columns for which dual coefficients are needed.
    weight : ndarray of shape (n,), default=None
        Positive sample weights.

    Notes
    -----
    A kernel is known to rounding, N eps times its largest eigenvalue: ten times this is the least noise in units of the
    signal variance, so that no noise, however small, makes the inverse meaningless. Larger noise is not touched.
    """

    def __init__(self, kernel, values, weight=None):
        n, _, d, _ = kernel.shape
        self.root = np.ones(n * d) if weight is None else np.repeat(np.sqrt(weight), d)
        matrix = self.root[:, None] * kernel.transpose(0, 2, 1, 3).reshape(n * d, n * d) * self.root
        eigenvalues, self.vectors = eigh(matrix, overwrite_a=True, check_finite=False)
        self.floor = LEAST_NOISE * len(matrix) * np.finfo(float).eps * max(eigenvalues[-1], ZERO)
        self.eigenvalues = np.maximum(eigenvalues, 0.0)
        self.values = self.vectors.T @ (self.root[:, None] * values.reshape(n * d, -1))

    def inverse(self, noise):
        """Eigenvalues of the inverse of the covariance, in units of the signal variance."""
        return 1.0 / (self.eigenvalues + max(noise, self.floor))

    def solve(self, noise, values=None):
        """Scaled solution s W^(-1/2) C^(-1) y, shape (n d, n_columns), of its labels or of others."""
        if values is not None:
            values = self.moments(self.root[:, None] * values.reshape(len(self.root), -1))
        return self.vectors @ (self.inverse(noise)[:, None] * (self.values if values is None else values))

    def coefficients(self, noise):
        """Weights of the features that the kernel stands for, in the basis of the eigenvectors."""
        return np.sqrt(self.eigenvalues)[:, None] * self.inverse(noise)[:, None] * self.values

    def moments(self, columns):
        """Scaled columns (n d, n_columns) in the basis of the eigenvectors."""
        return self.vectors.T @ columns

    def part(self, rows):
        """Eigenvectors at some rows."""
        return self.vectors[rows]

    def applied(self, part, _, moments, inverse):
        """Inverse of the covariance times columns, at some rows."""
        return part @ (inverse[:, None] * moments)

    def left_out(self, part, right, inverse):
        """Residuals of the groups left out, from the inverse times the labels."""
        return np.linalg.solve((part * inverse) @ part.transpose(0, 2, 1), right)

    def precision(self, rows, noise):
        """Diagonal blocks of the scaled inverse, for rows (n_blocks, size): (n_blocks, size, size)."""
        part = self.vectors[rows]
        return (part * self.inverse(noise)) @ part.transpose(0, 2, 1)


def block_rows(groups, d):
    """Rows of the matrix of each group of labels, groups of the same size together.

    Parameters
    ----------
    groups : ndarray of int, shape (n,)
        The structure of every label, ascending.
    d : int
        Components of a label.

    Returns
    -------
    list of ndarray of int, shape (n_groups, size)
    """
    _, starts, counts = np.unique(groups, return_index=True, return_counts=True)
    return [d * starts[counts == count][:, None] + np.arange(d * count) for count in np.unique(counts)]


class Evidence:
    """A criterion as a function of the logarithms of the hyperparameters of one irrep.

    Parameters
    ----------
    kernel : TensorKernel
    features : EquivariantFeatures
    irrep : str
    values : ndarray of shape (n, d, multiplicity)
        Labels; several copies of an irrep are independent samples.
    groups : ndarray of int, shape (n,)
        What is left out together.
    weight : ndarray of shape (n,), default=None
        Of the labels, times their shares.
    shares : ndarray of shape (n,), default=None
        Of each label among those that are equivalent to it; None: no two are.

    Attributes
    ----------
    independent : ndarray of shape (n d,)
        What each component counts as an observation.
    values : ndarray of shape (n, d, multiplicity)
        Labels without what symmetry forbids.
    """

    def __init__(self, kernel, features, irrep, values, groups, weight=None, shares=None):
        self.kernel = kernel
        self.features = features
        self.irrep = irrep
        self.weight = weight
        n, d, _ = values.shape
        self.rows = block_rows(groups, d)
        own, self.labels = kernel.diag(features, irrep), values
        self.values, counts = allowed_parts(own, np.mean(np.trace(own, axis1=1, axis2=2)) / d, values)
        shares = np.ones(n) if shares is None else shares
        self.independent = np.repeat(shares * counts / d, d)
        user = np.ones(n) if weight is None else weight / shares
        self._log_weights = 0.5 * self.independent @ np.log(np.repeat(user, d))
        self.shares = shares
        self._cache: dict = {}
        self._last = None

    @property
    def n_components(self):
        """Number of independent components of one copy."""
        return max(float(self.independent.sum()), 1.0)

    @property
    def n_independent(self):
        """Number of independent components of all copies."""
        return self.n_components * self.values.shape[2]

    def best_signal(self, spectrum, noise):
        """Signal variance that maximizes the likelihood."""
        return max(np.sum(spectrum.values**2 * spectrum.inverse(noise)[:, None]) / self.n_independent, ZERO)

    def constant(self, spectrum, signal, noise):
        """Part of the likelihood of one copy beside misfit and determinant: weights, and the unit of its variances."""
        surplus = len(self.independent) - self.n_components
        of_noise = 0.5 * surplus * np.log(max(noise, spectrum.floor))
        return self._log_weights - 0.5 * self.n_components * np.log(2 * np.pi * signal) + of_noise

    def spectrum(self, theta):
        """Spectrum and derivatives of the kernel at the logarithms of its free parameters; the last is kept."""
        if self._last is None or not np.array_equal(self._last[0], theta):
            matrix, slopes = self.kernel.clone_with_theta(theta).theta_gradient(self.features, self.irrep, self._cache)
            spectrum = Spectrum(matrix, self.values, self.weight)
            self._last = np.array(theta), spectrum, [slopes[name] for name in self.kernel.hyperparameters]
        return self._last[1:]

    def forget_matrices(self):
        """Free what was kept to evaluate other kernel parameters; the last spectrum stays."""
        self._cache = {}

    def __call__(self, criterion, parameters, gradient=False):
        """Value, and its derivatives.

        Parameters
        ----------
        criterion : {"lml", "loo_density", "loo_error"}
        parameters : ndarray of shape (2 + n_free,)
            Logarithms of signal variance, noise and the free parameters of the kernel.
        gradient : bool, default=False
            Without it the derivatives are None.

        Returns
        -------
        float, ndarray of shape (2 + n_free,) or None
        """
        signal, noise = np.exp(parameters[:2])
        spectrum, slopes = self.spectrum(parameters[2:])
        changes = _changes(spectrum, slopes, noise) if gradient else []
        function = _marginal if criterion == "lml" else _left_out
        value, derivatives = function(self, criterion, spectrum, signal, noise, changes)
        return value, np.array(derivatives) if gradient else None


def _changes(spectrum, slopes, noise):
    """Derive C / s: eigenvalues where it keeps its eigenvectors, by the noise, else a matrix and the inverse."""
    changes = [(np.full(len(spectrum.eigenvalues), 0.0 if noise < spectrum.floor else noise), None)]
    if slopes:
        inverse = (spectrum.vectors * spectrum.inverse(noise)) @ spectrum.vectors.T
        size = len(spectrum.root)
        for slope in slopes:
            matrix = slope.transpose(0, 2, 1, 3).reshape(size, size)
            changes.append((spectrum.root[:, None] * matrix * spectrum.root, inverse))
    return changes


def _marginal(problem, _, spectrum, signal, noise, changes):
    eigenvalues = spectrum.inverse(noise)
    copies, surplus = spectrum.values.shape[1], len(spectrum.values) - problem.n_components
    solution = eigenvalues[:, None] * spectrum.values
    misfit = np.sum(spectrum.values * solution) / signal
    constant = problem.constant(spectrum, signal, noise)
    value = -0.5 * misfit + copies * constant + 0.5 * copies * np.sum(np.log(eigenvalues))
    derivatives = [0.5 * (misfit - problem.n_independent)]
    for change, inverse in changes:
        if inverse is None:
            squares = np.sum(solution**2 * change[:, None])
            trace = eigenvalues @ change - surplus * (noise >= spectrum.floor)
        else:
            dual = spectrum.vectors @ solution
            squares, trace = np.sum(dual * (change @ dual)), np.sum(inverse * change)
        derivatives.append(0.5 * (squares / signal - copies * trace))
    return value, derivatives


def _left_out(problem, criterion, spectrum, signal, noise, changes):
    eigenvalues = spectrum.inverse(noise)
    copies, surplus = spectrum.values.shape[1], len(spectrum.values) - problem.n_components
    solution = spectrum.solve(noise)
    blocks = []
    for rows in problem.rows:
        precision = spectrum.precision(rows, noise)
        blocks.append((rows, precision, np.linalg.solve(precision, solution[rows])))
    if criterion == "loo_density":
        misfit = sum(np.sum(residual * solution[rows]) for rows, _, residual in blocks) / signal
        log_dets = sum(np.linalg.slogdet(precision)[1].sum() for _, precision, _ in blocks)
        value = copies * problem.constant(spectrum, signal, noise) + 0.5 * (copies * log_dets - misfit)
        derivatives = [0.5 * (misfit - problem.n_independent)]
    else:
        total = sum(np.sum(residual**2) for *_, residual in blocks)
        value, derivatives = -0.5 * problem.n_independent * np.log(max(total, np.finfo(float).tiny)), [0.0]
    for change, inverse in changes:
        slope, right, left = _inverse_change(spectrum, eigenvalues, solution, change, inverse)
        derivative = 0.0
        for rows, precision, residual in blocks:
            moved = -(right[rows] @ left[rows].transpose(0, 2, 1))
            if criterion == "loo_density":
                derivative += 0.5 * copies * np.sum(np.linalg.inv(precision) * moved)
                derivative += np.sum(residual * (0.5 * moved @ residual - slope[rows])) / signal
            else:
                change_of_residual = np.linalg.solve(precision, slope[rows] - moved @ residual)
                derivative -= problem.n_independent / total * np.sum(residual * change_of_residual)
        if criterion == "loo_density" and inverse is None and noise >= spectrum.floor:
            derivative += 0.5 * copies * surplus
        derivatives.append(derivative)
    return value, derivatives


def _inverse_change(spectrum, eigenvalues, solution, change, inverse):
    """Derive the solution, and the inverse as -right left^T."""
    if inverse is None:
        right = spectrum.vectors * (eigenvalues**2 * change)
        return -right @ spectrum.values, right, spectrum.vectors
    right = inverse @ change
    return -right @ solution, right, inverse
