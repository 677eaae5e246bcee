r"""The most accurate model that is found within a stated time, with an honest error.

Three steps, of which the last gets about half of the time:

1. descriptor and kernel with the smallest leave-one-out error (:mod:`eqkernels.automatic.kernel_search`);
2. a Gaussian process with them and a network are fitted to four fifths of the data. Their errors on the rest give their
   weights :math:`w_k` in the mean :math:`\sum_k w_k \hat y_k` (:mod:`eqkernels.automatic.stacking`), and the error to
   expect;
3. the models that have a weight are fitted to everything.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._parameters import Choice, Jobs, Number, Verbosity, check_parameters
from eqkernels.automatic.facts import choose_aggregate, read_facts
from eqkernels.automatic.kernel_search import edges
from eqkernels.automatic.labelled_structures import Labelled
from eqkernels.automatic.search import Search
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.descriptors.input_parameters import InputKinds
from eqkernels.metrics import tensor_r2
from eqkernels.regression.base import _check_weight as check_weight
from eqkernels.regression.delta import Baseline, DeltaLearning, scalar_baseline
from eqkernels.regression.summary import Summarized
from eqkernels.structures import as_list, read_labels
from eqkernels.structures.inputs import input_kinds, with_inputs
from eqkernels.validation import ErrorTail, ExpectedError


class AutoTensorRegressor(DeltaLearning, Summarized, RegressorMixin, BaseEstimator):
    """Regression of Cartesian tensors by the best model that is found in a stated time.

    Descriptors, kernels, Gaussian processes and networks are compared on structures that they did not see. The model is
    the best of them, or a weighted mean where that errs less.

    Parameters
    ----------
    time_budget : float, default=120.0
        CPU seconds (of all threads) for the search and the final fit together. More is better for networks. Compilation
        in a new installation is counted too; a step that has begun is ended.
    target : str or CartesianTensor, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``; None: found from y.
    aggregate : {"sum", "mean"}, default=None
        Whether the target is a sum over atoms or their mean; None: what the target says, or how labels grow with the
        structures.
    baseline : {"composition", "mean", None}, model or function of frames, default="composition"
        What is subtracted from the labels of all models, as in :class:`TensorKernelRidge`. A model that is not fitted
        is fitted to all labels first, also to those that are held back then.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.
    random_state : int, RandomState or None, default=None
        For the structures that are held back, sparse points and networks.
    n_jobs : int, default=None
        Threads, with joblib's meaning.
    verbose : int, default=0
        If positive, each step is printed on standard error.
    inputs : dict of str to str, default=None
        Inputs beyond the geometry of all models, as of :class:`LambdaSOAP`; their weight is compared, too.

    Attributes
    ----------
    estimators_ : list of estimators
        Fitted to everything: a Gaussian process, which makes the error bars too, and a network if it has a weight.
    weights_ : dict of str to float
        Weights of ``"kernel"`` and ``"network"`` in the mean, in the order of the models.
    cv_results_ : dict of str to ndarray
        What was tried: ``"model"``, ``"n_structures"`` it was fitted to, ``"rmse"`` (Frobenius norm, in the units of
        y), ``"seconds"`` of CPU time, ``"how"`` structures were left out.
    expected_error_ : dict
        Fields of :class:`eqkernels.validation.ExpectedError`: the error on new structures like these.
    error_bar_scale_ : float
        Factor of the Gaussian process's error bars, from the errors on structures that were held back.
    notes_ : list of str
        What was chosen and why, and which parameters stand at the edge of what was tried.
    target_, axial_ : str
        Formula of the target and its axial indices.
    per_atom_ : bool

    See Also
    --------
    eqkernels.recommend : A model by rules, which takes no time.
    TensorVotingRegressor : The mean of models of your own.

    Notes
    -----
    What is found depends on the speed of the machine, since the time is limited. The error to expect is measured on
    structures that were held back from all fits of the second step; a small optimism remains of the choice of the
    kernel, which all structures took part in.

    References
    ----------
    K. Jamieson, A. Talwalkar, AISTATS 51, 240 (2016), for successive halving; L. Breiman, Machine Learning 24, 49
    (1996), https://doi.org/10.1007/BF00117832, for weights from structures that were left out.

    Examples
    --------
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> model = AutoTensorRegressor(time_budget=5, target="dipole", random_state=0)
    >>> model = model.fit(data.frames[:50], data.dipole[:50])
    >>> mean, std = model.predict(data.frames[50:], return_std=True)
    >>> mean.shape == std.shape == data.dipole[50:].shape
    True
    >>> model.expected_error_["rmse"] < 0.2 * model.expected_error_["spread"]
    True
    """

    _constraints = {  # noqa: RUF012
        "time_budget": Number(above=0),
        "aggregate": Choice("sum", "mean", None),
        "baseline": Baseline(),
        "n_jobs": Jobs(),
        "verbose": Verbosity(),
        "inputs": InputKinds(),
    }

    def __init__(
        self,
        time_budget: float = 120.0,
        *,
        target: Any = None,
        aggregate: str | None = None,
        baseline: Any = "composition",
        per_atom: bool | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        inputs: dict[str, str] | None = None,
    ):
        self.time_budget = time_budget
        self.target = target
        self.aggregate = aggregate
        self.baseline = baseline
        self.per_atom = per_atom
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.inputs = inputs

    @whole_or_nothing
    def fit(self, X, y, sample_weight=None, groups=None):
        """Search, and fit what was found.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
            Rows of NaN mark atoms without a label.
        sample_weight : array-like of shape (n_structures,), default=None
            For the fits; errors are those of all structures alike.
        groups : array-like of shape (n_structures,), default=None
            Structures that are held back together, such as those of a trajectory, so that the expected error is that of
            structures from other trajectories.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If frames or labels are unusable, as in ``fit`` of all models; with fewer than five structures, or than two
            groups.
        """
        begin = time.process_time()
        check_parameters(self)
        if isinstance(X, EquivariantFeatures):
            raise TypeError("X has to be structures (a list of ase.Atoms), whose descriptor is chosen; got features")
        frames = as_list(X)
        with_inputs(frames, input_kinds(self.inputs or {}))  # refuses what cannot be read before time is spent
        weight = check_weight(sample_weight, len(frames))
        facts = read_facts(frames, y, self.target, self.per_atom)
        aggregate, why = (self.aggregate, []) if self.aggregate else choose_aggregate(facts, self.target)
        options = {"target": facts.tensor, "per_atom": facts.per_atom, "aggregate": aggregate,
                   "baseline": scalar_baseline(self.baseline)}  # fmt: skip
        self.target_, self.axial_ = facts.tensor.formula, facts.tensor.axial
        self.per_atom_ = facts.per_atom
        labels = read_labels(y, facts.n_atoms, facts.tensor, facts.per_atom)
        self._fit_baseline_model(frames, labels, weight)
        labels = self._minus_baseline(frames, labels)
        random = check_random_state(self.random_state)
        search = Search(
            Labelled(frames, labels.given(), weight), facts, options, groups, int(random.randint(2**31)), begin,
            float(self.time_budget), self.n_jobs, bool(self.verbose), self.inputs,
        )  # fmt: skip
        found = search.run()
        self.estimators_, self.weights_ = list(found.models.values()), found.weights
        self.error_bar_scale_, self.expected_error_ = found.error_bar_scale, asdict(found.error)
        self.cv_results_ = {name: np.array([one[name] for one in search.tried]) for name in search.tried[0]}
        self.notes_ = [*found.notes, *edges(search.setting), *why]
        self.n_structures_fit_ = len(frames)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Tensors of structures or of their atoms.

        Parameters
        ----------
        X : sequence of ase.Atoms
        return_std : bool, default=False
            Error bars too: those of the Gaussian process, scaled to the errors on structures that were held back.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, arrays (n_atoms, 3, ..., 3)
        std : as y
        """
        check_fitted(self)
        frames, std, parts = as_list(X), np.zeros(0), []
        for model, (name, weight) in zip(self.estimators_, self.weights_.items(), strict=True):
            if name == "kernel" and return_std:
                values, std = model.predict(frames, return_std=True)
            elif weight > 0:
                values = model.predict(frames)
            if weight > 0:
                parts.append(weight * values)
        values = self._plus_baseline(frames, sum(parts))
        return (values, self.error_bar_scale_ * std) if return_std else values

    def score(self, X, y, sample_weight=None):
        """R2 with the squares of all components summed, see :func:`eqkernels.metrics.tensor_r2`."""
        return tensor_r2(y, self.predict(X), sample_weight)

    def report(self) -> str:
        """Say what was tried, what was chosen and what error to expect.

        Returns
        -------
        str
        """
        check_fitted(self)
        tried = self.cv_results_
        lines = [f"{'RMSE':>10} {'structures':>10} {'seconds':>8}  left out, model"]
        for k in np.lexsort((tried["rmse"], -tried["n_structures"])):
            numbers = f"{tried['rmse'][k]:10.4g} {tried['n_structures'][k]:10d} {tried['seconds'][k]:8.1f}"
            lines.append(f"{numbers}  {tried['how'][k]}: {tried['model'][k]}")
        shares = ", ".join(f"{weight:.2f} of the {name}" for name, weight in self.weights_.items())
        lines += ["", f"prediction: {shares}", *(f"- {note}" for note in self.notes_), ""]
        return "\n".join([*lines, str(self.expected_error())])

    def expected_error(self) -> ExpectedError:
        """Error to expect on new structures, with the fields of ``expected_error_``."""
        check_fitted(self)
        known = self.expected_error_
        return ExpectedError(**{**known, "tail": ErrorTail(**known["tail"])})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags
