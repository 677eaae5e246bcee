r"""Gaussian process regression of tensors: kernel ridge regression with error bars and chosen hyperparameters.

Every irrep is a process of its own. Its labels y, divided by their root mean square, have the covariance

.. math:: C = s\, (K_\theta + \gamma\, W^{-1}) ,

with the signal variance s, the kernel between structures K and its free parameters, the noise :math:`\gamma` and
the sample weights W. A new structure A has the mean and the covariance

.. math:: \mu = s\, k(A)\, C^{-1} y , \qquad
          \Sigma = s\, k(A, A) - s^2\, k(A)\, C^{-1} k(A)^T + s\, \gamma\, \mathbb 1 ,

blocks of :math:`2 \lambda + 1` that rotate with A. See :mod:`eqkernels.regression.criteria` for what is maximized.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from eqkernels._fitted import check_fitted
from eqkernels._parameters import Choice, Flag, Integer, Verbosity
from eqkernels._warnings import warn
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import CovariantKernel, KernelBlocks
from eqkernels.kernels.bounds import check_bounds
from eqkernels.regression.atomic_parts import AtomicParts
from eqkernels.regression.base import TensorRegressor
from eqkernels.regression.cancellation import NOTHING, KernelSums, size_of_terms, warn_of_nothing
from eqkernels.regression.cost import announced
from eqkernels.regression.covariance import standard_deviations, to_cartesian
from eqkernels.regression.criteria import CRITERIA, EIGENVECTORS, Evidence
from eqkernels.regression.hyperparameters import free_parameters, maximize
from eqkernels.regression.independence import weigh_equivalents
from eqkernels.regression.kernel_ridge import aggregating_kernel
from eqkernels.regression.leave_one_out import LeftOutLabels
from eqkernels.regression.posterior import Posterior, factorize
from eqkernels.regression.regularization import attributes_of
from eqkernels.regression.relation import warn_if_unrelated
from eqkernels.regression.uncertainty import UncertainTensorRegressor
from eqkernels.regression.weights import choose_weights
from eqkernels.structures import by_structure

# Labels that the baseline leaves smaller than this, relative to all of the tensor, are rounding.
_NOTHING = 1e-12
# Matrices of the size of the kernel that are held at once: kernel, its copy, eigenvectors, factor.
_MATRICES = 4
# Steps that the optimizer takes where kernels have free factors, and the operations of each of their derivatives.
_STEPS, _FLOPS_OF_SLOPE = 25, 6


class TensorGPR(AtomicParts, UncertainTensorRegressor):
    """Gaussian process regression of Cartesian tensors, exactly equivariant in its mean and its covariance.

    Parameters
    ----------
    kernel : TensorKernel, default=None
        Covariant kernel; None: ``CovariantKernel()``. Its parameters with bounds are optimized, for each irrep apart:
        the weights in ``1.0 * k1 + 1.0 * k2``, and the integer of ``CovariantKernel(zeta_bounds=(1, 8))``, with each of
        which the others are optimized; the best is taken.
    aggregate : {"sum", "mean"}, default=None
        Sum over environments, for properties that grow with the structure, or mean, for those that do not; None: what
        the kernel says, which is the sum if it does not say otherwise.
    signal_variance : float, array-like of shape (n_irreps,) or dict of str to float, default=1.0
        Factor of the kernel, in units of the mean square of the labels. Without optimizer it is used as it is.
    noise : float, array-like of shape (n_irreps,) or dict of str to float, default=1e-6
        Variance of the noise of the labels in units of the signal variance, as ``noise`` of :class:`SparseTensorGPR`
        and ``alpha`` of :class:`TensorKernelRidge`: what is added to the diagonal of the kernel matrix.
    signal_variance_bounds, noise_bounds : pair of floats or "fixed", default=(1e-30, 1e30)
        Where the optimizer may look. The noise does not go below the rounding of the kernel.
    optimizer : "fmin_l_bfgs_b", callable or None, default="fmin_l_bfgs_b"
        None keeps the hyperparameters as they are. A callable has scikit-learn's signature ``optimizer(obj_func,
        initial_theta, bounds)`` and returns ``(theta, minimum)``; it is called for each irrep. The first start is the
        best of the decades of noise.
    n_restarts_optimizer : int, default=0
        Further starts, at random within the bounds.
    criterion : {"loo_error", "lml", "loo_density"}, default="loo_error"
        What is optimized: the leave-one-out error, which does not depend on the signal variance (this is then scaled so
        that the 75 % region covers 75 % of the left-out structures), the marginal likelihood, or the leave-one-out
        predictive density. The last two believe the model: structures that it fits exactly, such as the monomers among
        water clusters, drive the noise to zero for all, which can double the error.
    normalize_y : bool, default=True
        Divide the labels of each irrep by their root mean square before the fit (there is no mean to subtract: the
        baseline takes that of scalars). False: hyperparameters are in the squared units of y.
    features, target, baseline, per_atom
        As in :class:`TensorKernelRidge`. In leave-one-out predictions the baseline is fitted anew, too; in the
        criteria it is that of all structures.
    random_state : int, RandomState or None, default=None
        For the starts of the optimizer.
    verbose : int, default=0
        If positive, the cost of a fit is printed on standard error before it begins, and how far it has come.

    Attributes
    ----------
    kernel_ : dict of str to TensorKernel
        Kernel of each irrep with its optimized parameters.
    signal_variance_, noise_ : dict of str to float
        Optimized.
    theta_ : ndarray of shape (n_free,)
        Logarithms of all free hyperparameters but zeta, named in ``theta_names_`` (list of str).
    log_marginal_likelihood_value_ : float
        At ``theta_``, of the normalized labels; ``criterion_value_`` is that of the criterion.
    loo_rmse_, spread_ : dict of str to float
        As in :class:`TensorKernelRidge`, always, but with the baseline of all structures.
    y_scale_ : dict of str to float
        Root mean square of the labels of each irrep after the baseline.
    copy_covariance_ : dict of str to ndarray of shape (multiplicity, multiplicity)
        How the copies of an irrep vary together, with trace ``multiplicity``.
    recalibration_ : dict of str to float
        Factors of the standard deviations, 1 until ``recalibrate``.
    dual_coef_, X_fit_, species_, target_, axial_, per_atom_, baseline_, descriptor_
        As in :class:`TensorKernelRidge`.
    y_fit_, factor_ : dict of str to ndarray
        Normalized labels, and V with V V^T the inverse of their covariance.
    shares_ : ndarray of shape (n_labels,) or None
        Of per-atom targets, 1 / m for atoms of which m are equivalent by symmetry; None: no two are.

    Notes
    -----
    Time N^3 and memory N^2 with N = n (2 lambda + 1). With a kernel without free parameters one eigendecomposition
    an irrep serves the whole optimization, with a free zeta one for each of its integers; with free weights of kernels
    each step costs one more. Sample weights divide the noise; structures of weight zero are left out. Symmetry-
    equivalent atoms count as one observation together, and components that symmetry forbids as none
    (:mod:`eqkernels.regression.independence`).

    See Also
    --------
    TensorKernelRidge : Without error bars, in less time.
    SparseTensorGPR : For more structures, forces and stress.
    rank_candidates : Which structures would teach the model most.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006.
    A. P. Bartok, M. C. Payne, R. Kondor, G. Csanyi, Phys. Rev. Lett. 104, 136403 (2010),
    https://doi.org/10.1103/PhysRevLett.104.136403.

    Examples
    --------
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> model = TensorGPR().fit(data.frames[:60], data.dipole[:60])
    >>> mean, std = model.predict(data.frames[60:62], return_std=True)
    >>> mean.shape, std.shape, model.predict(data.frames[60:62], return_cov=True)[1].shape
    ((2, 3), (2, 3), (2, 3, 3))
    """

    shares_ = None
    _defaults = {**TensorRegressor._defaults, "kernel": CovariantKernel}
    _constraints = {
        **TensorRegressor._constraints,
        "aggregate": Choice(None, "sum", "mean"),
        "criterion": Choice(*CRITERIA),
        "n_restarts_optimizer": Integer(0, 10**6),
        "normalize_y": Flag(),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        kernel=None,
        *,
        aggregate=None,
        signal_variance=1.0,
        noise=1e-6,
        signal_variance_bounds=(1e-30, 1e30),
        noise_bounds=(1e-30, 1e30),
        optimizer="fmin_l_bfgs_b",
        n_restarts_optimizer=0,
        criterion="loo_error",
        normalize_y=True,
        descriptor=None,
        target=None,
        baseline="composition",
        random_state=None,
        per_atom=None,
        verbose=0,
    ):
        self.kernel = kernel
        self.aggregate = aggregate
        self.signal_variance = signal_variance
        self.noise = noise
        self.signal_variance_bounds = signal_variance_bounds
        self.noise_bounds = noise_bounds
        self.optimizer = optimizer
        self.n_restarts_optimizer = n_restarts_optimizer
        self.criterion = criterion
        self.normalize_y = normalize_y
        self.descriptor = descriptor
        self.target = target
        self.baseline = baseline
        self.random_state = random_state
        self.per_atom = per_atom
        self.verbose = verbose

    # -- fit --------------------------------------------------------------------------------------------------------

    def _check_parameters(self):
        super()._check_parameters()
        self._kernel()  # is checked
        if not callable(self.optimizer) and self.optimizer not in ("fmin_l_bfgs_b", None):
            raise ValueError(f"optimizer={self.optimizer!r} must be 'fmin_l_bfgs_b', a callable or None")
        for name in ("signal_variance_bounds", "noise_bounds"):
            if getattr(self, name) != "fixed":
                check_bounds(getattr(self, name), name)

    def _weight_of_atoms(self, features, weight):
        if isinstance(features, KernelBlocks):
            return weight
        weight, self.shares_ = weigh_equivalents(features, self.groups_, weight)
        return weight

    def _minus_baseline(self, frames, labels, known=None):
        rest = super()._minus_baseline(frames, labels, known)
        self.__dict__.pop("baseline_fit_", None)
        if self.baseline_model_ is not None:  # for predict_left_out, which sees no frames
            given = labels.given() - rest.given()
            self.baseline_fit_ = np.concatenate(given) if labels.per_atom else given
        return rest

    def _fit_irreps(self, features, blocks, weight):
        if weight is not None and not weight.all():
            kept = np.flatnonzero(weight)
            features, weight, self.groups_ = features[kept], weight[kept], self.groups_[kept]
            self.shares_ = None if self.shares_ is None else self.shares_[kept]
            self.atoms_fit_ = None if self.atoms_fit_ is None else self.atoms_fit_[kept]
            blocks = {irrep: values[kept] for irrep, values in blocks.items()}
        variants = self._kernel().variants() if self.optimizer is not None else [self._kernel()]
        n_free = len(self._kernel().hyperparameters) if self.optimizer is not None else 0
        flops = EIGENVECTORS if not n_free else _STEPS * (EIGENVECTORS + _FLOPS_OF_SLOPE * n_free)
        with announced(self, features, blocks, flops, len(variants), _MATRICES):
            self._fit_all(features, blocks, weight, variants)

    def _fit_all(self, features, blocks, weight, variants):
        self.X_fit_, self.sample_weight_ = self._own(features).stored(self._kernel().uses_positions), weight
        self._sums = KernelSums()
        self._reset_recalibration()
        self._normalize(features, blocks)
        random = check_random_state(self.random_state)
        start, parameters, values, problems = self._initial(), {}, {}, {}
        kernels = dict.fromkeys(start, self._kernel())
        for irrep in start:
            if self.y_scale_[irrep]:
                labels = self.y_fit_[irrep]
                trials = (
                    self._problem(choose_weights(kernel, features, irrep, labels), features, irrep)
                    for kernel in variants
                )
                problems[irrep], parameters[irrep], values[irrep] = maximize(self, trials, start[irrep], random)
                kernels[irrep] = problems[irrep].kernel
        spectra = {irrep: problem.spectrum(parameters[irrep][2:])[0] for irrep, problem in problems.items()}
        vanishing = [irrep for irrep in spectra if _vanishes(spectra[irrep], kernels[irrep], features, irrep)]
        free = [k for k in (0, 1) if self.optimizer is not None and k in free_parameters(self)[0]]
        for irrep in vanishing:  # all labels are noise
            warn_of_nothing(irrep)
            signal = start[irrep][0]
            parameters[irrep] = parameters[irrep].copy()
            parameters[irrep][free] = np.array([signal, -signal])[free]
        self._set_parameters(kernels, {**start, **parameters})
        self.criterion_value_ = float(sum(values.values()))
        self._factorize(spectra)
        for irrep in vanishing:
            self.dual_coef_[irrep][:] = self.cancellation_[irrep] = 0.0
        squares = {}
        for irrep, problem in problems.items():
            # the criterion is half the logarithm of the squared error for each component
            of_components = np.exp(-2 * problem("loo_error", parameters[irrep])[0] / problem.n_independent)
            size, shares = self.y_scale_[irrep] ** 2, problem.shares
            of_labels = np.average(np.mean(problem.values**2, axis=(1, 2)), weights=shares)
            squares[irrep] = size * of_components / problem.values[0].size / shares.sum(), size * of_labels
        self.__dict__.update(attributes_of(squares))
        warn_if_unrelated(self, len(self.n_atoms_fit_), squares)
        likelihoods = [problem("lml", parameters[irrep])[0] for irrep, problem in problems.items()]
        self.log_marginal_likelihood_value_ = float(sum(likelihoods))

    def _normalize(self, features, blocks):
        """Divide the labels by their size; an irrep of nothing but rounding has no size."""
        norm = np.sqrt(sum(np.mean(values**2) for values in blocks.values()))
        if self.baseline_ is not None:
            norm = np.hypot(norm, np.sqrt(np.mean((self._baseline_design(features) @ self.baseline_) ** 2)))
        self.y_scale_, self.y_fit_ = {}, {}
        for irrep, values in blocks.items():
            size = np.sqrt(np.mean(values**2))
            if size <= _NOTHING * norm:
                baseline = " beyond the baseline" if irrep == "0e" and self.baseline_ is not None else ""
                warn(
                    f"the labels have no part {irrep}{baseline}: it is predicted with zero variance, for there is "
                    "nothing to learn a variance from"
                )
                size, values = 0.0, np.zeros_like(values)
            self.y_scale_[irrep] = float(size) if self.normalize_y else float(size > 0)
            self.y_fit_[irrep] = values / (self.y_scale_[irrep] or 1.0)

    def _problem(self, kernel, features, irrep):
        data = self.y_fit_[irrep], self.groups_, self.sample_weight_, self.shares_
        return Evidence(kernel, features, irrep, *data)

    def _initial(self):
        """Logarithms of the given signal variance, noise and kernel parameters of each irrep."""
        signal, noise = (self._by_irrep(name, zero=False) for name in ("signal_variance", "noise"))
        theta = self._kernel().theta
        return {irrep: np.concatenate([np.log([signal[irrep], noise[irrep]]), theta]) for irrep in signal}

    def _set_parameters(self, kernels, parameters):
        self.kernel_, self.signal_variance_, self.noise_ = {}, {}, {}
        theta, self.theta_names_ = [], []
        for irrep, values in parameters.items():
            self.kernel_[irrep] = kernels[irrep].clone_with_theta(values[2:])
            self.signal_variance_[irrep], self.noise_[irrep] = np.exp(values[:2]).tolist()
            if self.y_scale_[irrep]:
                free, names = free_parameters(self)
                theta.append(values[free])
                self.theta_names_ += [f"{irrep}__{name}" for name in names]
        self.theta_ = np.concatenate([*theta, []])

    def _factorize(self, spectra):
        self.dual_coef_, self.cancellation_, self.factor_, self.copy_covariance_ = {}, {}, {}, {}
        for irrep, values in self.y_fit_.items():
            learned = factorize(
                spectra.get(irrep), values, self.signal_variance_[irrep], self.noise_[irrep], self.y_scale_[irrep]
            )
            self.dual_coef_[irrep], self.cancellation_[irrep], self.factor_[irrep], self.copy_covariance_[irrep] = (
                learned
            )

    # -- likelihood -------------------------------------------------------------------------------------------------

    def log_marginal_likelihood(self, theta=None, eval_gradient=False):
        """Log marginal likelihood of the normalized training labels.

        Parameters
        ----------
        theta : array-like of shape (n_free,), default=None
            Logarithms of the hyperparameters, in the order of ``theta_names_``; None: ``theta_``, whose value is known.
        eval_gradient : bool, default=False
            Return the derivatives too.

        Returns
        -------
        float, and with eval_gradient an ndarray of shape (n_free,)
        """
        return self._evaluate("lml", theta, eval_gradient)

    def leave_one_out_criterion(self, theta=None, eval_gradient=False, criterion="loo_density"):
        """Leave-one-out criterion (``"loo_density"`` or ``"loo_error"``); otherwise as log_marginal_likelihood."""
        if criterion not in CRITERIA[1:]:
            raise ValueError(f"criterion={criterion!r} must be one of {CRITERIA[1:]}")
        return self._evaluate(criterion, theta, eval_gradient)

    def _evaluate(self, criterion, theta, eval_gradient):
        check_fitted(self)
        if theta is None and not eval_gradient and criterion == "lml":
            return self.log_marginal_likelihood_value_
        theta = self.theta_ if theta is None else np.asarray(theta, dtype=float)
        if theta.shape != self.theta_.shape:
            raise ValueError(f"theta has shape {theta.shape}, expected {self.theta_.shape}: {self.theta_names_}")
        features = EquivariantFeatures.of_checked(**self.X_fit_)
        problems = {
            irrep: self._problem(self.kernel_[irrep], features, irrep) for irrep in self.y_fit_ if self.y_scale_[irrep]
        }
        free, _ = free_parameters(self)
        value, gradients = 0.0, [np.zeros(0)]
        for (irrep, problem), part in zip(problems.items(), np.split(theta, max(len(problems), 1)), strict=False):
            signal, noise = self.signal_variance_[irrep], self.noise_[irrep]
            full = np.concatenate([np.log([signal, noise]), self.kernel_[irrep].theta])
            full[free] = part
            one, gradient = problem(criterion, full, eval_gradient)
            value += one
            if eval_gradient:
                gradients.append(gradient[free])
        return (float(value), np.concatenate(gradients)) if eval_gradient else float(value)

    # -- prediction -------------------------------------------------------------------------------------------------

    def predict_left_out(self, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predict every training structure by the model fitted without it, at the same hyperparameters.

        All labelled atoms of a structure are left out together. The baseline is that of the others, but for one that
        is a model, which stays as it is. Nothing is fitted anew: all follows from the factorization of the whole.

        Parameters
        ----------
        return_std, return_cov : bool, default=False
            Error bars of the labels, as in ``predict``.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, arrays (n_atoms, 3, ..., 3)
            In the order of the training set; NaN for structures of weight zero and atoms without a label.
        std or cov : as y, or with the indices of the tensor twice
        """
        if return_std and return_cov:
            raise ValueError("at most one of return_std and return_cov can be requested")
        check_fitted(self)
        tensor, blocks, covariances = self._tensor(), {}, {}
        for irrep, posterior in self._posteriors().items():
            values = self.y_scale_[irrep] * self.y_fit_[irrep]
            labels = LeftOutLabels.of_model(self, posterior.training_set, irrep, values, self.sample_weight_)
            blocks[irrep], covariances[irrep] = posterior.left_out(labels)
        blocks = self._without_offset(EquivariantFeatures.of_checked(**self.X_fit_), blocks, -1)
        mean = self._of_training_set(tensor.to_cartesian(blocks))
        if self.baseline_model_ is not None:
            known = self.baseline_fit_
            mean = mean + (by_structure(known, self.n_atoms_fit_) if self.per_atom_ else known)
        if not return_std and not return_cov:
            return mean
        cov = to_cartesian(tensor, self._joined(covariances))
        return mean, self._of_training_set(standard_deviations(tensor, cov) if return_std else cov)

    def _of_training_set(self, values):
        n = self.n_atoms_fit_.sum() if self.per_atom_ else len(self.n_atoms_fit_)
        whole = np.full((n, *values.shape[1:]), np.nan)
        whole[self.atoms_fit_ if self.per_atom_ else self.groups_] = values
        return by_structure(whole, self.n_atoms_fit_) if self.per_atom_ else whole

    def _posteriors(self):
        """Gaussian process of each irrep."""
        training_set = EquivariantFeatures.of_checked(**self.X_fit_)
        learned: Any = (self.dual_coef_, self.cancellation_, self.factor_, self.signal_variance_, self.noise_,
                   self.y_scale_, self.copy_covariance_)  # fmt: skip
        return {
            irrep: Posterior(self._sums, kernel, training_set, irrep, *(values[irrep] for values in learned))
            for irrep, kernel in self.kernel_.items()
        }

    def _predict_irreps(self, features):
        return {irrep: posterior.mean(features) for irrep, posterior in self._posteriors().items()}

    def _irrep_vjp(self, irrep, rows, cotangents):
        return self._posteriors()[irrep].vjp(rows, cotangents)

    def _posterior(self, rows, joint, include_noise):
        both = {
            irrep: posterior.mean_and_covariance(rows, joint, include_noise)
            for irrep, posterior in self._posteriors().items()
        }
        return {irrep: mean for irrep, (mean, _) in both.items()}, {irrep: cov for irrep, (_, cov) in both.items()}

    # -- what the base class asks for -------------------------------------------------------------------------------

    def _kernel(self):
        return aggregating_kernel(self)

    def _offset_kernel(self):
        return self._kernel()

    def _kernel_terms(self, irrep):
        training_set = EquivariantFeatures.of_checked(**self.X_fit_)
        return self.kernel_[irrep], training_set, self.dual_coef_[irrep]

    def _aggregate(self):
        return getattr(self._kernel(), "aggregate", "sum")


def _vanishes(spectrum, kernel, features, irrep):
    """Whether the kernels are nothing but rounding of what cancels by symmetry in all structures."""
    return np.linalg.norm(spectrum.eigenvalues) <= NOTHING * len(features) * size_of_terms(kernel, features, irrep)
