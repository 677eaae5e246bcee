"""Kernel ridge regression that chooses its regularization by leave-one-out, in closed form."""

from __future__ import annotations

from numbers import Real

import numpy as np

from eqkernels._warnings import warn
from eqkernels.regression.baseline import left_out_baselines
from eqkernels.regression.cancellation import cancellation_of_duals, size_of_blocks
from eqkernels.regression.cost import announced
from eqkernels.regression.criteria import EIGENVECTORS, Spectrum, block_rows
from eqkernels.regression.kernel_ridge import TensorKernelRidge
from eqkernels.regression.leave_one_out import left_out
from eqkernels.regression.relation import warn_if_unrelated

# How many decades above the mean eigenvalue of the kernel the largest alpha lies.
_DECADES_ABOVE = 2
# Coefficients may cancel so far by default: with more, where labels disagree, predictions would keep rounding errors.
_MOST_CANCELLATION = 1e-5


class TensorKernelRidgeCV(TensorKernelRidge):
    """Kernel ridge regression with the regularization of each irrep chosen by leave-one-out over structures.

    One eigendecomposition of the kernel serves all alphas, and all structures that are left out (for labels of atoms:
    all labelled atoms of the structure together). The baseline is fitted anew without each of them.

    Parameters
    ----------
    alphas : sequence of float, default=None
        Positive values to try; None: for each irrep the decades from the rounding of its kernel (or from where the
        coefficients do not cancel too far for predictions that are free of rounding) to a hundred times the
        mean eigenvalue of its kernel.
    kernel, features, target, baseline, per_atom, verbose
        As in :class:`TensorKernelRidge`.

    Attributes
    ----------
    alpha_ : dict of str to float
        The best value for each irrep.
    best_score_ : float
        Negative leave-one-out RMSE (Frobenius norm, in the units of y) at these values.
    cv_results_ : dict of str to ndarray of shape (n_alphas,)
        Leave-one-out RMSE per component of each irrep, for each of ``cv_results_["alpha"]``; NaN where it was not tried
        for this irrep.
    dual_coef_, X_fit_, species_, target_, axial_, per_atom_, baseline_, descriptor_
        As in :class:`TensorKernelRidge`.

    Examples
    --------
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> model = TensorKernelRidgeCV(alphas=[1e-8, 1e-4, 1.0]).fit(data.frames[:40], data.dipole[:40])
    >>> sorted(model.alpha_)
    ['1o']
    >>> bool(model.alpha_["1o"] < 1.0)
    True
    """

    def __init__(
        self, alphas=None, kernel=None, descriptor=None, target=None, baseline="composition", per_atom=None, verbose=0
    ):
        self.alphas = alphas
        self.kernel = kernel
        self.descriptor = descriptor
        self.target = target
        self.baseline = baseline
        self.per_atom = per_atom
        self.verbose = verbose

    def _check_parameters(self):
        super()._check_parameters()
        if self.alphas is None:
            return
        alphas = np.ravel(np.asarray(self.alphas, dtype=object))
        good = [isinstance(one, Real) and not isinstance(one, bool) and 0 < one < np.inf for one in alphas]
        if not len(good) or not all(good):
            raise ValueError(f"alphas={self.alphas!r} must be positive, finite numbers, at least one")

    def _fit_irreps(self, features, blocks, weight):
        with announced(self, features, blocks, EIGENVECTORS, n_kernels=1, n_matrices=5):
            self._fit_all(features, blocks, weight)

    def _fit_all(self, features, blocks, weight):
        self.X_fit_ = None if self._precomputed else self._own(features).stored()
        kept = np.arange(len(features)) if weight is None else np.flatnonzero(weight > 0)
        weight = None if weight is None else weight[kept]
        self.dual_coef_, self.cancellation_, self.alpha_, errors_of = {}, {}, {}, {}
        squares, of_irreps = 0.0, {}
        for irrep, values in blocks.items():
            kernel = self._matrix(features, irrep) if self._precomputed else self._kernel()(features, irrep=irrep)
            spectrum = Spectrum(kernel[np.ix_(kept, kept)], values[kept], weight)
            alphas = self._alphas_of(spectrum, size_of_blocks(kernel), values[kept])
            errors = self._errors(spectrum, features, irrep, values, kept, weight, alphas)
            # of equal errors (an exact fit, labels that are zero) the larger alpha is the safer
            best = len(errors) - 1 - int(np.argmin(errors[::-1]))
            self.alpha_[irrep] = float(alphas[best])
            errors_of[irrep] = dict(zip(alphas.tolist(), errors.tolist(), strict=True))
            squares += errors[best] ** 2 * values[0].size
            of_irreps[irrep] = errors[best] ** 2, np.mean(values[kept] ** 2)
            dual = np.zeros(values.shape)
            dual[kept] = (spectrum.root[:, None] * spectrum.solve(1.0, alphas[best])).reshape(values[kept].shape)
            self.dual_coef_[irrep] = dual
            self.cancellation_[irrep] = cancellation_of_duals(dual, size_of_blocks(kernel), values)
            self._warn_at_ends(irrep, alphas, errors, best, spectrum.floor)
        self.best_score_ = -float(np.sqrt(squares))
        warn_if_unrelated(self, len(self.n_atoms_fit_), of_irreps)
        tried = sorted({alpha for errors in errors_of.values() for alpha in errors})
        self.cv_results_ = {"alpha": np.array(tried)} | {
            irrep: np.array([errors.get(alpha, np.nan) for alpha in tried]) for irrep, errors in errors_of.items()
        }

    def _alphas_of(self, spectrum, size, values):
        """Values to try, ascending; decades from rounding to a hundred times the mean eigenvalue, if none are given."""
        if self.alphas is not None:
            return np.sort(np.asarray(self.alphas, dtype=float).ravel())
        mean = max(np.mean(spectrum.eigenvalues), spectrum.floor)
        exponents = np.arange(np.ceil(np.log10(spectrum.floor)), np.ceil(np.log10(mean)) + _DECADES_ABOVE + 1)
        alphas = np.array([float(f"1e{int(one)}") for one in exponents])  # the same bits as written numbers
        duals = (spectrum.inverse(1.0, alpha)[:, None] * spectrum.values for alpha in alphas)
        fine = [cancellation_of_duals(dual, size, values) <= _MOST_CANCELLATION for dual in duals]
        return alphas[fine] if any(fine) else alphas[-1:]

    def _warn_at_ends(self, irrep, alphas, errors, best, floor):
        if len(alphas) == 1:
            return
        if best == len(alphas) - 1 and errors[best] < errors[best - 1]:
            advice = "try larger ones" if self.alphas is not None else "nothing is learned from these features"
            warn(f"the best alpha of {irrep} is the largest of those tried, {alphas[best]:g}: {advice}")
        if best == 0 and errors[0] < errors[1] and self.alphas is not None and alphas[0] > floor:
            warn(
                f"the best alpha of {irrep} is the smallest of those tried, {alphas[0]:g}: try smaller ones, down to "
                f"{floor:.1g}, the rounding of the kernel, or alphas=None"
            )

    def _errors(self, spectrum, features, irrep, values, kept, weight, alphas):
        """Leave-one-out RMSE per component for each alpha."""
        d = values.shape[1]
        groups = self.groups_[kept]
        rows, labels, design, baselines = block_rows(groups, d), values[kept].reshape(len(kept) * d, -1), None, None
        if irrep == "0e" and self.baseline_ is not None:
            design = self._baseline_design(features)[kept]
            labels = labels + design @ self.baseline_
            baselines = left_out_baselines(design, labels, groups, weight)
        errors = []
        for alpha in alphas:
            factor = spectrum.root[:, None] * spectrum.vectors * np.sqrt(spectrum.inverse(1.0, alpha))
            residuals, _ = left_out(factor, labels, rows, design, baselines)
            errors.append(np.sqrt(np.average(np.mean(residuals**2, axis=1), weights=spectrum.root**2)))
        return np.array(errors)
