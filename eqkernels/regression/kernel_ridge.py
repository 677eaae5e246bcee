r"""Kernel ridge regression of tensors with covariant kernels (SA-GPR without error bars).

For each irrep of the target the dual coefficients solve

.. math:: (K^\lambda + \alpha_\lambda W^{-1})\, w = y^\lambda ,

where K is the (n (2 lambda + 1)) x (n (2 lambda + 1)) matrix of kernels between structures and W the sample weights.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from eqkernels._parameters import Choice, Verbosity
from eqkernels._warnings import warn
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.kernels import CovariantKernel, TensorKernel
from eqkernels.kernels.precomputed import Precomputed, read_kernel
from eqkernels.kernels.wigner_kernel import couples_densities
from eqkernels.regression.atomic_parts import AtomicParts
from eqkernels.regression.base import TensorRegressor
from eqkernels.regression.cancellation import (
    NEGLIGIBLE,
    KernelSums,
    cancellation,
    cancellation_of_duals,
    size_of_blocks,
    size_of_terms,
    warn_of_nothing,
)
from eqkernels.regression.cholesky_search import LARGE, choose_by_cholesky
from eqkernels.regression.cost import announced
from eqkernels.regression.criteria import Spectrum
from eqkernels.regression.regularization import Alpha, start_search
from eqkernels.regression.relation import left_out_squares, warn_if_unrelated
from eqkernels.regression.weights import choose_weights, open_weights

# Operations of a Cholesky factorization, for each cube of the size.
_CHOLESKY = 1 / 3
# Coefficients may cancel so far by default: with more, where labels disagree, predictions would keep rounding errors.
_MOST_CANCELLATION = 1e-5


class TensorKernelRidge(AtomicParts, TensorRegressor):
    """Kernel ridge regression of Cartesian tensors of any rank, exactly equivariant.

    Parameters
    ----------
    alpha : "auto", float, dict of str to float or array-like of shape (n_alphas,), default="auto"
        Regularization: larger trusts the data less. Compare it with the kernel of an environment with itself, which is
        1 for scalars.

        - ``"auto"``: for each irrep of the target that with the smallest leave-one-out error, of the decades from the
          rounding of its kernel (or from where the coefficients do not cancel too far for predictions that are free of
          rounding) to a hundred times the mean eigenvalue of its kernel; a structure with more than half of the squared
          error does not decide;
        - an array: the same among these candidates, of which all must be positive;
        - a number for all irreps, or a dict, e.g. ``{"0e": 1e-8, "2e": 1e-6}``, which take a fraction of the time.
    kernel : TensorKernel or "precomputed", default=None
        Covariant kernel; None: ``CovariantKernel()``. With ``"precomputed"``, X is a :class:`KernelBlocks`
        or, for a target of one irrep, an array (n, m, 2 lambda + 1, 2 lambda + 1): one kernel serves all alphas.
    aggregate : {"sum", "mean"}, default=None
        Sum over environments, for properties that grow with the structure, or mean, for those that do not; None: what
        the kernel says, which is the sum if it does not say otherwise.
    descriptor : transformer, default=None
        What turns frames into equivariant features when X is a list of frames; None: ``LambdaSOAP()``.
    target : str or CartesianTensor, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``, see :class:`CartesianTensor` for
        the names; None: found from y.
    baseline : {"composition", "mean", None}, model or function of frames, default="composition"
        What is fitted to the scalar (0e) part first: contributions of the elements (a constant where X is an array,
        which does not tell the elements), a constant, or nothing. Contributions of rare elements are drawn towards that
        of the average atom, as far as the errors on structures left out become smaller. They grow with the structure
        where the kernel does; for labels that do not, take ``aggregate="mean"``.

        A model (anything with ``predict(frames)``) or a function of frames that returns arrays like y: what it says is
        subtracted from y first and added to predictions (delta learning), derivatives too if it has
        ``predict_forces``, ``predict_stress`` or ``predict_derivatives``; contributions of the elements are fitted to
        the rest. A model that is not fitted is cloned and fitted to y; one that is fitted stays as it is, in clones
        too. X is frames then, and the descriptor that of this model. See :doc:`delta learning </recipes/delta>`.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.
    verbose : int, default=0
        If positive, the cost of a fit is printed on standard error before it begins, and how far it has come.

    Attributes
    ----------
    alpha_ : dict of str to float
        Regularization of each irrep.
    best_score_ : float
        Negative leave-one-out RMSE (Frobenius norm, in the units of y) at these values, if they were chosen.
    cv_results_ : dict of str to ndarray of shape (n_alphas,)
        Leave-one-out RMSE per component of each irrep, for each of ``cv_results_["alpha"]``; NaN where it was not tried
        for this irrep. Only if alpha was chosen.
    loo_rmse_, spread_ : dict of str to float
        Leave-one-out RMSE per component of each irrep at the chosen alpha, and the root mean square of its labels after
        the baseline, the error of a model that knows nothing else. Only if alpha was chosen.
    dual_coef_ : dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
        Dual coefficients of each irrep.
    cancellation_ : dict of str to float
        Rounding that kernels in working precision would leave in a prediction, as a part of the spread of the labels.
        Above 5e-10, which takes a small ``alpha`` and structures that resemble each other, predictions with
        :class:`CovariantKernel` are made in higher precision, at up to three times the cost.
    kernel_ : dict of str to TensorKernel
        Kernel of each irrep, if it had weights left open (``ChargeKernel(weight="auto")``), with those chosen.
    X_fit_ : dict
        Features of the training structures, or the densities they are made of, as arrays; None if precomputed.
    species_ : ndarray of int
        Species of the centers.
    target_, axial_ : str
        Formula of the target and its axial indices.
    per_atom_ : bool
        Whether the labels were those of atoms.
    baseline_ : ndarray of shape (n_columns, n_scalars) or None
        Contribution of each element of ``species_``, or the constant.
    baseline_model_ : object or None
        What is subtracted first and added to predictions, if ``baseline`` is a model: fitted.
    descriptor_ : transformer or None
        The fitted descriptor, if X was a list of frames.
    n_structures_fit_, n_environments_fit_ : int
        Size of the training set; for per-atom targets the environments are those of labelled atoms.
    fit_cost_ : dict of str to float
        ``"seconds"`` of the fit, and ``"memory"``, the bytes that the process had used at most when it ended.

    Notes
    -----
    One eigendecomposition of the kernel serves all candidates of alpha, and all structures that are left out (all
    per-atom targets of a structure together), see :mod:`eqkernels.regression.regularization`. The baseline is fitted
    anew without each of them; a baseline that is a model is not, and makes these errors too small where it was fitted
    to the same labels. With more than 2400 components ``alpha="auto"`` compares a few candidates by Cholesky
    factorizations and by a part of the structures, left out one by one, in at most twice the time of a stated alpha,
    see :mod:`eqkernels.regression.cholesky_search`.

    See Also
    --------
    TensorGPR : The same mean with error bars and hyperparameters chosen.
    SparseTensorGPR : For more structures, forces and stress.
    TensorRidge : Linear in the features.
    CovariantKernel : The kernel.

    References
    ----------
    A. Grisafi, D. M. Wilkins, G. Csanyi, M. Ceriotti, Phys. Rev. Lett. 120, 036002 (2018),
    https://doi.org/10.1103/PhysRevLett.120.036002.

    Examples
    --------
    The dipole of water from two orientations of it, predicted in a third:

    >>> import numpy as np
    >>> from ase.build import molecule
    >>> from sklearn.pipeline import make_pipeline
    >>> from eqkernels.descriptors import LambdaSOAP
    >>> frames = [molecule("H2O") for _ in range(3)]
    >>> frames[1].rotate(90, "x"); frames[2].rotate(40, "y")
    >>> dipoles = [[0.0, 0.0, -1.85], [0.0, 1.85, 0.0]]
    >>> model = make_pipeline(LambdaSOAP(cutoff=4.0), TensorKernelRidge(alpha=1e-9)).fit(frames[:2], dipoles)
    >>> np.abs(model.predict(frames[2:])).round(3)
    array([[1.189, 0.   , 1.417]])
    """

    _defaults = {**TensorRegressor._defaults, "kernel": CovariantKernel}
    _constraints = {
        **TensorRegressor._constraints,
        "alpha": Alpha(),
        "aggregate": Choice(None, "sum", "mean"),
        "verbose": Verbosity(),
    }

    def __init__(
        self,
        alpha="auto",
        *,
        kernel=None,
        aggregate=None,
        descriptor=None,
        target=None,
        baseline="composition",
        per_atom=None,
        verbose=0,
    ):
        self.alpha = alpha
        self.kernel = kernel
        self.aggregate = aggregate
        self.descriptor = descriptor
        self.target = target
        self.baseline = baseline
        self.per_atom = per_atom
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._precomputed
        return tags

    @property
    def _precomputed(self):
        return isinstance(self.kernel, str) and self.kernel == "precomputed"

    def _kernel(self):
        return Precomputed(self.aggregate or "sum") if self._precomputed else aggregating_kernel(self)

    def _offset_kernel(self):
        return self._kernel()

    def _aggregate(self):
        return getattr(self._kernel(), "aggregate", "sum")

    def _check_parameters(self):
        super()._check_parameters()
        self._kernel()  # is checked

    def _checked_input(self, X):
        return read_kernel(X, self.target) if self._precomputed else super()._checked_input(X)

    def _atom_counts(self, X):
        """Count atoms; a precomputed kernel knows none, so that its labels can only be those of structures."""
        return np.zeros(len(X), dtype=int) if self._precomputed else super()._atom_counts(X)

    def _features_to_fit(self, X, y):
        if self._precomputed and X.shape[0] != X.shape[1]:
            raise ValueError(f"the precomputed kernel to fit must be square, got shape {X.shape}")
        return super()._features_to_fit(X, y)

    def _known_centers(self, features):
        return None if self._precomputed else super()._known_centers(features)

    def _baseline_design(self, features):
        if len(self.species_) == 0:  # an array without a composition: a constant
            return np.ones((len(features), 1))
        return super()._baseline_design(features)

    # -- one irrep at a time ----------------------------------------------------------------------------------------

    def _fit_irreps(self, features, blocks, weight):
        self.X_fit_ = None if self._precomputed else self._own(features).stored(self._kernel().uses_positions)
        self._sums = KernelSums()
        search = start_search(self, features, weight)
        self.dual_coef_, self.cancellation_, squares = {}, {}, {}
        self.__dict__.pop("kernel_", None)
        self.__dict__.update(self._chosen_kernels(features, blocks, weight))
        invariants = 0.0 if search is None else self._size_of_invariants(features)
        flops, n_matrices = (_CHOLESKY, 3) if search is None else (5 * _CHOLESKY, 5)
        with announced(self, features, blocks, flops, n_kernels=1, n_matrices=n_matrices):
            for irrep, values in blocks.items():
                kernel = self._kernel_of(irrep)(features, irrep=irrep)
                size = self._size(kernel, features, irrep)
                if search is None:
                    alpha = self.alpha_[irrep]
                else:
                    most = NEGLIGIBLE if couples_densities(self._kernel()) else _MOST_CANCELLATION
                    alpha = _chosen_alpha(search, irrep, kernel, size, invariants, values, most)
                self.dual_coef_[irrep] = solve_dual(kernel, values, alpha, weight) if size else np.zeros(values.shape)
                self.cancellation_[irrep] = cancellation_of_duals(self.dual_coef_[irrep], size, values)
                if search is None and self.target is None:
                    squares[irrep] = left_out_squares(kernel, values, alpha)
        self.__dict__.update({} if search is None else search.results())
        warn_if_unrelated(self, len(self.n_atoms_fit_), squares if search is None else search.squares)

    def _chosen_kernels(self, features, blocks, weight):
        """Attribute with the kernels whose weights were left open, and are chosen; nothing where none were."""
        if self._precomputed or not open_weights(self._kernel()):
            return {}
        kept = np.arange(len(features)) if weight is None else np.flatnonzero(weight > 0)
        known = features[kept]
        kernels = {
            irrep: choose_weights(self._kernel(), known, irrep, values[kept]) for irrep, values in blocks.items()
        }
        return {"kernel_": kernels}

    def _kernel_of(self, irrep):
        return vars(self).get("kernel_", {}).get(irrep) or self._kernel()

    def _kernel_terms(self, irrep):
        return self._terms(irrep)

    def _size(self, kernel, features, irrep):
        """Size of the kernels, 0 where they vanish by symmetry."""
        terms = 0.0 if self._precomputed else size_of_terms(self._kernel_of(irrep), features, irrep)
        size = size_of_blocks(kernel, terms)
        if size == 0:
            warn_of_nothing(irrep)
        return size

    def _size_of_invariants(self, features):
        """Size of what invariant features contribute to a structure; 0 where it is not known."""
        known = not self._precomputed and "0e" in features.blocks
        return np.sqrt(size_of_terms(self._kernel(), features, "0e")) if known else 0.0

    def _predict_irreps(self, features):
        def summed(irrep):
            rounding = 0.0 if self.X_fit_ is None else self.cancellation_[irrep]  # matrices have no further digits
            return self._sums(irrep, features, rounding, partial(self._terms, irrep))

        return {irrep: summed(irrep) for irrep in self.dual_coef_}

    def _irrep_vjp(self, irrep, rows, cotangents):
        return self._sums.vjp(irrep, rows, cotangents, self.cancellation_[irrep], partial(self._terms, irrep))

    def _terms(self, irrep):
        stored: Any = self.X_fit_
        known = None if stored is None else EquivariantFeatures.of_checked(**stored)
        return self._kernel_of(irrep), known, self.dual_coef_[irrep]


def aggregating_kernel(model):
    """Kernel of a model, whose ``aggregate`` may be stated there or here.

    Raises
    ------
    TypeError
        If it is no kernel.
    ValueError
        If it aggregates in another way than the model.
    """
    if model.kernel is None and model.aggregate is not None:
        return CovariantKernel(aggregate=model.aggregate)
    kernel = model._object("kernel")
    if not isinstance(kernel, TensorKernel):
        raise TypeError(f"kernel={kernel!r} must be a kernel such as CovariantKernel(zeta=2)")
    stated = getattr(kernel, "aggregate", None)
    if model.aggregate is not None and stated != model.aggregate:
        raise ValueError(f"aggregate={model.aggregate!r}, but kernel={kernel!r} has {stated!r}: state it once")
    return kernel


def _chosen_alpha(search, irrep, kernel, size, invariants, values, most):
    """Alpha of an irrep, with which rounding of kernels of this size, and of features as of invariants, is harmless."""
    of_kept = values[search.kept]
    spread = np.linalg.norm(np.std(of_kept, axis=0))

    def is_stable(dual, weights):
        of_features = cancellation(weights, invariants, spread)
        return of_features <= NEGLIGIBLE and cancellation(dual, size, spread) <= most

    if len(of_kept) < len(values):
        kernel = kernel[np.ix_(search.kept, search.kept)]
    n_groups = len(np.unique(search.model.groups_[search.kept]))
    if search.candidates is None and n_groups > 1 and len(of_kept) * values.shape[1] >= LARGE:
        return choose_by_cholesky(search, irrep, kernel, values, is_stable)
    spectrum = Spectrum(kernel, of_kept, search.weight)

    def is_stable_at(alpha):
        return is_stable(spectrum.inverse(alpha)[:, None] * spectrum.values, spectrum.coefficients(alpha))

    return search.choose(irrep, spectrum, values, is_stable_at)


def solve_dual(kernel, values, alpha, weight=None):
    """Dual coefficients of one irrep.

    Parameters
    ----------
    kernel : ndarray of shape (n, n, d, d)
    values : ndarray of shape (n, d, multiplicity)
    alpha : float
    weight : ndarray of shape (n,), default=None

    Returns
    -------
    ndarray of shape (n, d, multiplicity)
    """
    n, _, d, _ = kernel.shape
    matrix = kernel.transpose(0, 2, 1, 3).reshape(n * d, n * d)
    root = np.ones(n * d) if weight is None else np.repeat(np.sqrt(weight), d)
    if weight is not None:
        matrix = root[:, None] * matrix * root
    elif np.shares_memory(matrix, kernel):
        matrix = matrix.copy()
    matrix[np.diag_indices(n * d)] += alpha
    right = root[:, None] * values.reshape(n * d, -1)
    try:
        solution = cho_solve(cho_factor(matrix, lower=True, overwrite_a=False), right)
    except LinAlgError:
        warn(
            f"the kernel matrix is singular to rounding at alpha={alpha:g}: the shortest solution is used; a larger "
            "alpha is safer"
        )
        solution = _shortest_solution(matrix, right)
    return (root[:, None] * solution).reshape(values.shape)


def _shortest_solution(matrix, right):
    eigenvalues, vectors = eigh(matrix)
    kept = eigenvalues > len(matrix) * np.finfo(float).eps * eigenvalues[-1]
    vectors = vectors[:, kept]
    return vectors @ ((vectors.T @ right) / eigenvalues[kept, None])
