r"""The mean of different models, which errs less than each where their errors differ.

.. math:: \bar y = \sum_k w_k y_k / \sum_k w_k
"""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import RegressorMixin, clone
from sklearn.utils.metaestimators import _BaseComposition

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Jobs, check_parameters, is_number
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.metrics import tensor_r2
from eqkernels.regression.fitted_targets import declare_target
from eqkernels.structures import as_list, atom_counts, read_labels


class NamedModels:
    """A list of (name, model)."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if not isinstance(value, list | tuple) or len(value) == 0:
            return "must be a list of at least one (name, model)"
        for pair in value:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                return f"contains {pair!r}, which is not a pair (name, model)"
            if isinstance(pair[1], type) or not hasattr(pair[1], "fit") or not hasattr(pair[1], "predict"):
                return f"contains {pair[1]!r:.60}, expected a model such as TensorKernelRidge()"
        return None


class TensorVotingRegressor(RegressorMixin, _BaseComposition):
    """Mean of the predictions of different models, what scikit-learn's VotingRegressor is for scalars.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Names and regressors of tensors, or pipelines that end in one; each takes frames. Their parameters are reached
        as ``name__parameter``.
    weights : array-like of shape (n_estimators,), default=None
        Not negative; None: equal ones.
    target : str or CartesianTensor, default=None
        The property or its index symmetry, for all models; None: found from y.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.
    n_jobs : int, default=None
        Models fitted at once, with joblib's meaning.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted models.
    target_, axial_, per_atom_
        As in :class:`TensorKernelRidge`.

    See Also
    --------
    TensorCommittee : One model on different structures, with error bars.

    Examples
    --------
    >>> from eqkernels import TensorKernelRidge, TensorRidge
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> model = TensorVotingRegressor([("linear", TensorRidge()), ("kernel", TensorKernelRidge())])
    >>> model.fit(data.frames[:60], data.dipole[:60]).predict(data.frames[60:62]).shape
    (2, 3)
    """

    _constraints = {"estimators": NamedModels(), "n_jobs": Jobs()}  # noqa: RUF012

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        weights: Any = None,
        target: Any = None,
        per_atom: bool | None = None,
        n_jobs: int | None = None,
    ):
        self.estimators = estimators
        self.weights = weights
        self.target = target
        self.per_atom = per_atom
        self.n_jobs = n_jobs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of this model and, with deep, of its models."""
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> TensorVotingRegressor:
        """Set parameters of this model or, as ``name__parameter``, of its models."""
        self._set_params("estimators", **params)
        return self

    @whole_or_nothing
    def fit(self, X, y, sample_weight=None):
        """Fit all models.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        sample_weight : array-like of shape (n_structures,), default=None
            Passed on to the models, none of which may be a pipeline then.

        Returns
        -------
        self
        """
        check_parameters(self)
        self._validate_names([name for name, _ in self.estimators])
        self._checked_weights()
        X = X if isinstance(X, EquivariantFeatures) else as_list(X)
        labels = read_labels(y, atom_counts(X), self.target, self.per_atom)
        self.target_, self.axial_, self.per_atom_ = labels.tensor.formula, labels.tensor.axial, labels.per_atom
        extra = {} if sample_weight is None else {"sample_weight": sample_weight}
        models = [declare_target(clone(model), labels.tensor, labels.per_atom) for _, model in self.estimators]
        values = labels.given()
        self.estimators_ = Parallel(n_jobs=self.n_jobs)(delayed(model.fit)(X, values, **extra) for model in models)
        return self

    def predict(self, X):
        """Weighted mean of the predictions.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures

        Returns
        -------
        ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
            For per-atom targets an array (n_atoms, 3, ..., 3) for each structure.
        """
        check_fitted(self)
        X = X if isinstance(X, EquivariantFeatures) else as_list(X)
        weights = self._checked_weights()
        return sum(weight * model.predict(X) for weight, model in zip(weights, self.estimators_, strict=True))

    def score(self, X, y, sample_weight=None):
        """R2 with the squares of all components summed, see :func:`eqkernels.metrics.tensor_r2`."""
        return tensor_r2(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _checked_weights(self):
        """Weights whose sum is 1."""
        n = len(self.estimators)
        weights = np.ones(n) if self.weights is None else self.weights
        if len(weights) != n or not all(is_number(one) and one >= 0 for one in weights) or not np.any(weights):
            raise ValueError(f"weights={self.weights!r} must be {n} numbers, none of them negative and not all zero")
        return np.asarray(weights, dtype=float) / np.sum(weights)
