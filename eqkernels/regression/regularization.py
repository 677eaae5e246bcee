r"""Regularization of ridge models, chosen for each irrep by leave-one-structure-out in closed form.

With rows X (features, scaled by the roots of the weights) or their kernel :math:`K = X X^T`, and the labels y, a group
B of rows that is left out has the residual

.. math:: r_B = \bigl[(K + \alpha)^{-1}\bigr]_{BB}^{-1} \bigl[(K + \alpha)^{-1} y\bigr]_B
              = \bigl(1 - X_B (X^T X + \alpha)^{-1} X_B^T\bigr)^{-1} \bigl(y_B - X_B w\bigr) ,

so that one eigendecomposition, of :math:`K` or of :math:`X^T X`, whichever is smaller, serves all groups and all
:math:`\alpha`. The residual is linear in y: a baseline that is fitted without B is subtracted from all rows.
A structure with more than half of the squared error does not decide (:func:`without_outliers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh

from eqkernels._parameters import is_number
from eqkernels._warnings import warn
from eqkernels.regression.criteria import LEAST_NOISE, ZERO, Spectrum
from eqkernels.regression.leave_one_out import LeftOutLabels, left_out_squares_of_groups, without_outliers

# How many decades above the mean eigenvalue of the kernel the largest alpha lies.
_DECADES_ABOVE = 2
# Part of the mean eigenvalue that is taken where there is a single structure, which leaves no choice.
_WITHOUT_CHOICE = 1e-6


class Alpha:
    """What ``alpha`` may be: "auto", a number, one for each irrep, or candidates."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if isinstance(value, str):
            return None if value == "auto" else "must be 'auto' or a finite number, zero or positive"
        if isinstance(value, dict):
            good = all(is_number(one) and one >= 0 for one in value.values())
            return None if good else "must have a finite number, zero or positive, for each irrep"
        if np.ndim(value) == 0:
            good = is_number(value) and value >= 0
            return None if good else "must be a finite number, zero or positive, or 'auto'"
        candidates = np.ravel(np.asarray(value, dtype=object))
        good = len(candidates) > 0 and all(is_number(one) and one > 0 for one in candidates)
        return None if good else "must be positive, finite numbers, at least one"


def start_search(model: Any, features: Any, weight: np.ndarray | None) -> Search | None:
    """Search for the regularization of a model; None, and ``alpha_`` is set, if it is stated.

    Parameters
    ----------
    model : TensorRegressor
        With ``alpha``; the baseline is fitted.
    features : EquivariantFeatures or KernelBlocks
        One row for each label.
    weight : ndarray of shape (n,) or None
    """
    for name in ("best_score_", "cv_results_", "loo_rmse_", "spread_"):
        vars(model).pop(name, None)
    if isinstance(model.alpha, dict) or (np.ndim(model.alpha) == 0 and not isinstance(model.alpha, str)):
        model.alpha_ = {irrep: float(alpha) for irrep, alpha in model._alphas().items()}
        return None
    return Search(model, features, weight)


class Search:
    """Choice of the regularization, irrep by irrep.

    Candidates are those of ``model.alpha``, or with ``"auto"`` the decades from rounding to a hundred times the mean
    eigenvalue of the kernel.

    Attributes
    ----------
    kept : ndarray of int
        Labels of positive weight.
    weight : ndarray of shape (n_kept,) or None
    squares : dict of str to (float, float)
        Mean square of the leave-one-out errors at the chosen value, and of the labels.
    """

    def __init__(self, model: Any, features: Any, weight: np.ndarray | None):
        self.model, self.features = model, features
        self.kept = np.arange(len(features)) if weight is None else np.flatnonzero(weight > 0)
        self.weight = None if weight is None else weight[self.kept]
        alpha = model.alpha
        self.candidates = None if isinstance(alpha, str) else np.sort(np.asarray(alpha, dtype=float).ravel())
        self.squares: dict[str, tuple[float, float]] = {}
        self._alpha: dict[str, float] = {}
        self._errors: dict[str, dict[float, float]] = {}
        self._score = 0.0

    def choose(self, irrep: str, spectrum: Any, values: np.ndarray, is_stable: Callable[[float], bool]) -> float:
        """Choose for one irrep.

        Parameters
        ----------
        irrep : str
        spectrum : Spectrum or LinearSpectrum
            Of the labels that are kept.
        values : ndarray of shape (n, d, multiplicity)
            All labels minus the baseline.
        is_stable : callable
            Whether predictions at an alpha are free of rounding; others are not tried by ``"auto"``.

        Returns
        -------
        float
            Not below the rounding of the kernel.
        """
        labels = self.labels(irrep, values)
        alphas = self.candidates
        if alphas is None:
            alphas = self.auto_candidates(spectrum, labels, is_stable)
        squares = left_out_squares_of_groups(spectrum, labels, alphas)
        errors = np.sqrt(squares.sum(axis=1) / (labels.multiplicity * np.sum(spectrum.root**2)))
        errors_of, floor = dict(zip(alphas.tolist(), errors.tolist(), strict=True)), spectrum.floor
        self.note(irrep, errors_of, labels.values, floor, without_outliers(squares))
        return self._alpha[irrep]

    def labels(self, irrep: str, values: np.ndarray, rows: np.ndarray | None = None) -> LeftOutLabels:
        """Labels that are kept, or some of these, out of all values."""
        kept, weight = self.kept, self.weight
        if rows is not None:
            kept, weight = kept[rows], None if weight is None else weight[rows]
        return LeftOutLabels.of_model(self.model, self.features, irrep, values, weight, kept)

    def note(
        self,
        irrep: str,
        errors: dict[float, float],
        values: np.ndarray,
        floor: float = 0.0,
        decisive: np.ndarray | None = None,
    ) -> None:
        """Take the best alpha, not below a floor, and keep what was tried.

        Parameters
        ----------
        irrep : str
        errors : dict of float to float
            Leave-one-out RMSE per component, by alpha in ascending order.
        values : ndarray of shape (n, d, multiplicity)
            Labels that are kept.
        floor : float, default=0.0
        decisive : ndarray of shape (n_alphas,), default=None
            Errors of the structures that decide; None: all do.
        """
        alphas, of_alphas = np.array(list(errors)), np.array(list(errors.values()))
        decisive = of_alphas if decisive is None else decisive
        # of equal errors (an exact fit, labels that are zero) the larger alpha is the safer
        best = len(errors) - 1 - int(np.argmin(decisive[::-1]))
        self._warn_at_ends(irrep, alphas, decisive, best, floor)
        self._errors[irrep] = errors
        self._score += of_alphas[best] ** 2 * values[0].size
        self.squares[irrep] = float(of_alphas[best] ** 2), float(np.mean(values**2))
        self._alpha[irrep] = float(max(alphas[best], floor))

    def results(self) -> dict[str, Any]:
        """Fitted attributes: ``alpha_``, ``best_score_``, ``cv_results_``, ``loo_rmse_`` and ``spread_``."""
        tried = sorted({alpha for errors in self._errors.values() for alpha in errors})
        errors_of = {
            irrep: np.array([errors.get(alpha, np.nan) for alpha in tried]) for irrep, errors in self._errors.items()
        }
        score = -float(np.sqrt(self._score))
        results = {"alpha_": self._alpha, "best_score_": score, "cv_results_": {"alpha": np.array(tried)} | errors_of}
        return results | attributes_of(self.squares)

    def auto_candidates(self, spectrum: Any, labels: LeftOutLabels, is_stable: Callable[[float], bool]) -> np.ndarray:
        """Decades to try, ascending."""
        mean = max(np.sum(spectrum.eigenvalues) / len(spectrum.root), spectrum.floor)
        low, high = np.ceil(np.log10(spectrum.floor)), np.ceil(np.log10(mean)) + _DECADES_ABOVE
        if labels.n_groups == 1:
            low = high = max(low, np.ceil(np.log10(_WITHOUT_CHOICE * mean)))
        # the same bits as written numbers
        alphas = np.array([float(f"1e{int(one)}") for one in np.arange(low, high + 1)])
        stable = np.array([is_stable(alpha) for alpha in alphas])
        return alphas[stable] if stable.any() else alphas[-1:]

    def _warn_at_ends(self, irrep, alphas, errors, best, floor):
        if len(alphas) == 1:
            return
        if best == len(alphas) - 1 and errors[best] < errors[best - 1]:
            advice = "nothing is learned from these features" if self.candidates is None else "try larger ones"
            warn(f"the best alpha of {irrep} is the largest of those tried, {alphas[best]:g}: {advice}")
        if best == 0 and errors[0] < errors[1] and self.candidates is not None and alphas[0] > floor:
            warn(
                f"the best alpha of {irrep} is the smallest of those tried, {alphas[0]:g}: try smaller ones, down to "
                f"{floor:.1g}, the rounding of the kernel, or alpha='auto'"
            )


def attributes_of(squares: dict[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Fitted attributes ``loo_rmse_`` and ``spread_``, from mean squares of errors and of labels by irrep."""
    roots = {irrep: np.sqrt(pair).tolist() for irrep, pair in squares.items()}
    names = ("loo_rmse_", "spread_")
    return {name: {irrep: pair[k] for irrep, pair in roots.items()} for k, name in enumerate(names)}


class LinearSpectrum:
    """Eigenvectors of the Gram matrix of features: what :class:`Spectrum` is, where features are fewer than labels.

    All is in units of alpha: ``applied`` and ``left_out`` belong to alpha times the inverse of the kernel.

    Parameters
    ----------
    design : ndarray of shape (n, d, n_features)
    values : ndarray of shape (n, d, multiplicity)
    weight : ndarray of shape (n,), default=None
    """

    def __init__(self, design, values, weight=None):
        n, d, n_features = design.shape
        self.root = np.ones(n * d) if weight is None else np.repeat(np.sqrt(weight), d)
        self.design = design.reshape(n * d, n_features)
        if weight is not None:
            self.design = self.root[:, None] * self.design
        eigenvalues, self.vectors = eigh(self.design.T @ self.design, overwrite_a=True, check_finite=False)
        self.floor = LEAST_NOISE * n_features * np.finfo(float).eps * max(eigenvalues[-1], ZERO)
        self.eigenvalues = np.maximum(eigenvalues, 0.0)
        self.values = self.moments(self.root[:, None] * values.reshape(n * d, -1))

    def inverse(self, alpha):
        """Eigenvalues of the inverse of the Gram matrix with alpha."""
        return 1.0 / (self.eigenvalues + max(alpha, self.floor))

    def coefficients(self, alpha):
        """Weights of the features, in the basis of the eigenvectors."""
        return self.inverse(alpha)[:, None] * self.values

    def moments(self, columns):
        """Products of the features with columns (n d, n_columns)."""
        return self.vectors.T @ (self.design.T @ columns)

    def part(self, rows):
        """Features of some rows."""
        return self.design[rows] @ self.vectors

    def applied(self, part, columns, moments, inverse):
        """Residuals of columns, of the fit to all."""
        return columns - part @ (inverse[:, None] * moments)

    def left_out(self, part, right, inverse):
        """Residuals of groups by the fit without them, from those of the fit to all."""
        size, width = part.shape[1:]
        transposed = part.transpose(0, 2, 1)
        if size <= width:
            return np.linalg.solve(np.eye(size) - (part * inverse) @ transposed, right)
        return right + part @ np.linalg.solve(np.diag(1.0 / inverse) - transposed @ part, transposed @ right)


def linear_spectrum(design: np.ndarray, values: np.ndarray, weight: np.ndarray | None) -> Spectrum | LinearSpectrum:
    """Spectrum of the smaller problem, of labels or of features (n, d, n_features)."""
    n, d, n_features = design.shape
    if n_features < n * d:
        return LinearSpectrum(design, values, weight)
    rows = design.reshape(n * d, n_features)
    return Spectrum((rows @ rows.T).reshape(n, d, n, d).transpose(0, 2, 1, 3), values, weight)
