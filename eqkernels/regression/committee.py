r"""Error bars for any regressor: a committee of models on random subsets, its spread scaled to the errors it makes.

F. Musil, M. J. Willatt, M. A. Langovoy, M. Ceriotti, J. Chem. Theory Comput. 15, 906 (2019),
https://doi.org/10.1021/acs.jctc.8b00959. The members see subsets drawn without replacement; the scale of the variance
maximizes the likelihood of the errors on structures that a part of the members did not see,

.. math:: f_\lambda^2 = \frac1n \sum_i \frac{\| y_i^\lambda - \bar y_i^\lambda \|^2}{\mathrm{tr}\, C_i^\lambda} ,

for each irrep, so that error bars rotate with their structures. Members may agree and be wrong, as those that learned
nothing do: their mean variance is first raised to a thousandth of that of the errors, or a few of them would decide f.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils import check_random_state

from eqkernels._defaults import NestedDefaults
from eqkernels._fitted import check_fitted, last_step, whole_or_nothing
from eqkernels._parameters import Integer, Jobs, check_parameters, is_integer, is_number
from eqkernels._progress import Meter
from eqkernels.descriptors import EquivariantFeatures
from eqkernels.metrics import tensor_r2
from eqkernels.regression.base import TensorRegressor, _check_weight
from eqkernels.regression.committee_derivatives import CommitteeDerivatives, check_lengths
from eqkernels.regression.covariance import (
    raised,
    scale_of_irreps,
    scaled,
    standard_deviations,
    to_cartesian,
    to_components,
)
from eqkernels.regression.delta import Baseline, DeltaLearning, is_model
from eqkernels.regression.fitted_targets import declare_target
from eqkernels.regression.kernel_ridge import TensorKernelRidge
from eqkernels.regression.summary import Summarized
from eqkernels.regression.uncertainty import Recalibrated
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import StructureBatch, atom_counts, by_structure, read_frames, read_labels

# A structure enters the calibration if at least this many members did not see it.
_FEWEST_MEMBERS = 2
# Members that agree better than to this part of the variance of their errors say nothing about these.
_FLOOR = 1e-3


class Share:
    """A fraction, above 0 and at most 1.0, or a number of structures."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        fraction = is_number(value) and not is_integer(value) and 0 < value <= 1
        if fraction or (is_integer(value) and value > 0):
            return None
        number = "a number of structures, a positive integer"
        return f"must be a fraction of the structures, above 0 and at most 1.0, or {number}"


class TensorCommittee(
    DeltaLearning, CommitteeDerivatives, Summarized, NestedDefaults, Recalibrated, RegressorMixin, BaseEstimator
):
    """Committee of regressors on random subsets, with calibrated error bars.

    Parameters
    ----------
    estimator : estimator, default=None
        Any regressor of tensors, or a pipeline that ends in one; None: ``TensorKernelRidge()``. In a pipeline the
        descriptor is computed by every member: ``make_pipeline(LambdaSOAP(), TensorCommittee())`` computes it once.
        With ``alpha="auto"`` each member chooses its own regularization, from the structures that it sees.
    n_estimators : int, default=16
        Members.
    max_samples : float or int, default=0.5
        Structures that each member sees: a fraction, or a number.
    random_state : int, RandomState or None, default=None
        For the subsets.
    n_jobs : int, default=None
        Members fitted at once, with joblib's meaning.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: as the estimator says.

    Attributes
    ----------
    estimators_ : list of estimators
        The members.
    recalibration_ : dict of str to float
        Factor of the standard deviations of each irrep.
    floor_ : dict of str to float
        Variance of a component of each irrep to which the spread of the members is raised before it is scaled.
    target_, axial_, per_atom_
        As in :class:`TensorKernelRidge`.

    See Also
    --------
    TensorGPR : Error bars in closed form, of one model.
    SparseTensorGPR : The same for large data.

    Examples
    --------
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> model = TensorCommittee(n_estimators=4, random_state=0).fit(data.frames[:60], data.dipole[:60])
    >>> mean, std = model.predict(data.frames[60:62], return_std=True)
    >>> mean.shape, std.shape
    ((2, 3), (2, 3))
    """

    _defaults = {"estimator": TensorKernelRidge}

    _constraints = {"n_estimators": Integer(2), "max_samples": Share(), "n_jobs": Jobs()}

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_estimators: int = 16,
        max_samples: float = 0.5,
        random_state: Any = None,
        n_jobs: int | None = None,
        per_atom: bool | None = None,
    ):
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.max_samples = max_samples
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.per_atom = per_atom

    @whole_or_nothing
    def fit(self, X, y, sample_weight=None, *, forces=None, stress=None, derivatives=None):
        """Fit the members, and the scale of their spread to the structures that they left out.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        sample_weight : array-like of shape (n_structures,), default=None
            Passed on to the members.
        forces, stress, derivatives : sequence, default=None
            For members that learn from them, as for :meth:`SparseTensorGPR.fit`; X are then frames, and all structures
            have a y.

        Returns
        -------
        self
        """
        self._check_parameters()
        others = {"forces": forces, "stress": stress, "derivatives": derivatives}
        others = {name: one for name, one in others.items() if one is not None}
        if others and is_model(self.baseline):
            raise ValueError(
                "committees learn forces, stress and derivatives without a model as baseline: subtract those of the "
                "model, and its predictions, from the labels, and fit with baseline='composition'"
            )
        X, frames = self._with_frames(X)
        X, y = self._inputs(X, y, frames, sample_weight, shares=not others)
        check_lengths(others, len(X))
        if len(X) < 2:
            raise ValueError("a committee needs structures to leave out, got n_samples=1: give at least two")
        weight = _check_weight(sample_weight, len(X))
        subsets = self._subsets(X, y, weight)
        members = [self._member() for _ in subsets]
        fits = Parallel(n_jobs=self.n_jobs, return_as="generator")(
            delayed(_fit)(
                member,
                _picked(X, subset),
                _picked(y, subset),
                None if weight is None else weight[subset],
                {name: [one[k] for k in subset] for name, one in others.items()},
            )  # fmt: skip
            for member, subset in zip(members, subsets, strict=True)
        )
        meter, self.estimators_ = Meter(type(self).__name__, len(members), f"{len(members)} members", 0), []
        for member in fits:
            self.estimators_.append(member)
            meter.advance(1)
        self._scale_to_left_out(X, y, subsets, weight)
        self.n_structures_fit_ = len(X)
        return self

    def predict(self, X, return_std=False, return_cov=False):
        """Mean of the members, with error bars if wanted.

        Parameters
        ----------
        X : sequence of ase.Atoms, or EquivariantFeatures
        return_std, return_cov : bool, default=False
            Return standard deviations of the Cartesian components, or the covariance of each tensor, too.

        Returns
        -------
        y : ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
            For per-atom targets an array (n_atoms, 3, ..., 3) for each structure.
        std or cov : as y, or with the indices of the tensor twice
        """
        if return_std and return_cov:
            raise ValueError("at most one of return_std and return_cov can be requested")
        check_fitted(self)
        X, frames = self._with_frames(X)
        mean, cov, lengths = self._statistics(self._predictions(X))
        if return_std:
            cov = standard_deviations(self._tensor(), cov)
        parts = [mean, cov] if return_std or return_cov else [mean]
        if self.per_atom_:
            parts = [by_structure(part, lengths) for part in parts]
        parts[0] = self._plus_baseline(frames, parts[0])
        return tuple(parts) if len(parts) > 1 else parts[0]

    def score(self, X, y, sample_weight=None):
        """R2 with the squares of all components summed, see :func:`eqkernels.metrics.tensor_r2`."""
        return tensor_r2(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    # -- members ----------------------------------------------------------------------------------------------------

    def _check_parameters(self):
        check_parameters(self)
        base = self._base()
        if isinstance(base, type) or not all(hasattr(base, name) for name in ("fit", "predict", "get_params")):
            raise TypeError(f"estimator={base!r:.60} must be a regressor, such as TensorKernelRidge(), or a pipeline")
        problem = Baseline().problem(self.baseline)
        if problem is not None:
            raise ValueError(f"TensorCommittee: baseline={self.baseline!r} of the estimator {problem}")
        if getattr(last_step(self._base()), "kernel", None) == "precomputed":
            raise TypeError("a committee cannot use kernel='precomputed': give its estimator a kernel")

    def _base(self):
        return self._object("estimator")

    def _member(self):
        member = clone(self._base())
        final = last_step(member)
        if "target" in final.get_params():  # that of all labels, not of a subset
            final.set_params(target=self._tensor())
        if is_model(self.baseline):
            final.set_params(baseline="composition")
        return declare_target(member, self._tensor(), self.per_atom_)

    @property
    def baseline(self) -> Any:
        """That of the estimator: the committee learns what a model leaves, members have that of the scalar part."""
        final = last_step(self._base())
        return final.baseline if isinstance(final, DeltaLearning) else None

    def _offset_kernel(self):
        return getattr(last_step(self._base()), "_offset_kernel", lambda: None)()

    def _inputs(self, X, y, frames, weight, shares):
        """Structures that can be indexed, with descriptors computed once where the members would compute the same."""
        if isinstance(y, dict):
            raise TypeError("y is a dict: a committee has one property, fit one for each of them")
        base = clone(self._base())
        final = last_step(base)
        X = base._checked_input(X) if isinstance(base, TensorRegressor) else self._read(X)
        per_atom = getattr(final, "per_atom", None) if self.per_atom is None else self.per_atom
        labels = read_labels(y, atom_counts(X), getattr(final, "target", None), per_atom)
        self.target_, self.axial_, self.per_atom_ = labels.tensor.formula, labels.tensor.axial, labels.per_atom
        self._fit_baseline_model(frames, labels, weight)
        y, self.descriptor_ = self._minus_baseline(frames, labels).given(), None
        # not learned ones, and not where derivatives of the features are needed
        if shares and isinstance(base, TensorRegressor) and "descriptor" in base.get_params(deep=False):
            base.target_, base.axial_, base.per_atom_ = self.target_, self.axial_, self.per_atom_
            X = base._features_to_fit(X, y)
            self.descriptor_ = base.descriptor_
        return X, y

    def _read(self, X):
        """Structures that can be indexed and read again, once for all members."""
        if isinstance(X, EquivariantFeatures):
            return X
        return read_frames(self._base(), X)

    def _predictions(self, X):
        X = self._read(X)
        if self.descriptor_ is not None and not isinstance(X, EquivariantFeatures):
            X = self.descriptor_.transform(X)
        return [member.predict(X) for member in self.estimators_]

    def _tensor(self):
        return CartesianTensor(self.target_, self.axial_)

    def _subsets(self, X, y, weight):
        n, size = len(X), self.max_samples
        size = min(int(size) if is_integer(size) else max(round(size * n), 1), n)
        needed = _species(X)
        if self.per_atom_:
            needed = np.hstack([needed, _labelled_species(X, y)])
        if weight is not None:
            needed = np.column_stack([needed, weight > 0])
        random = check_random_state(self.random_state)
        return [_with_all(random.permutation(n)[:size], needed, random) for _ in range(self.n_estimators)]

    # -- spread -----------------------------------------------------------------------------------------------------

    def _statistics(self, predictions):
        """Mean and scaled covariance of rows, and the number of rows of each structure (of per-atom targets)."""
        lengths = [len(one) for one in predictions[0]] if self.per_atom_ else []
        rows = np.array([np.concatenate(one) if self.per_atom_ else one for one in predictions])
        mean = rows.mean(axis=0)
        return mean, self._covariance(rows - mean), lengths

    def _covariance(self, deviations):
        tensor, size = self._tensor(), 3 ** self._tensor().rank
        flat = deviations.reshape(*deviations.shape[:2], size)
        cov = np.einsum("knx,kny->nxy", flat, flat) / (len(flat) - 1)
        components = raised(tensor, to_components(tensor, cov.reshape(-1, *2 * tensor.shape)), self.floor_)
        return to_cartesian(tensor, scaled(tensor, components, self.recalibration_))

    def _deviations(self, X):
        """Scaled deviations of members, (n_rows, dim, n_members), variances that lack to the floor, structures."""
        predictions = self._predictions(X)
        lengths = [len(one) if self.per_atom_ else 1 for one in predictions[0]]
        rows = np.array([np.concatenate(one) if self.per_atom_ else one for one in predictions])
        tensor = self._tensor()
        components = tensor.transform(rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
        known = np.isfinite(components).all(axis=(0, 2))
        components = components[:, known].transpose(1, 2, 0)
        lacking = np.zeros(components.shape[:2])
        for (_, irrep), part in zip(tensor.irreps, tensor.irreps.slices(), strict=True):
            variance = np.mean(np.sum(components[:, part] ** 2, axis=2), axis=1)
            factor = self.recalibration_[str(irrep)]
            lacking[:, part] = (factor**2 * np.maximum(self.floor_[str(irrep)] - variance, 0.0))[:, None]
            components[:, part] *= factor
        return components, lacking, np.repeat(np.arange(len(lengths)), lengths)[known]

    def _scale_to_left_out(self, X, y, subsets, weight):
        """Errors on each structure of those members that did not see it, relative to their spread."""
        predictions: list[list] = [[] for _ in range(len(X))]
        for member, subset in zip(self.estimators_, subsets, strict=True):
            others = np.setdiff1d(np.arange(len(X)), subset)
            others = others if weight is None else others[weight[others] > 0]
            if len(others):
                for k, one in zip(others, member.predict(_picked(X, others)), strict=True):
                    predictions[k].append(one)
        parts, deviations = [], []
        for k, members in enumerate(predictions):
            if len(members) >= _FEWEST_MEMBERS:
                rows = np.array(members) if self.per_atom_ else np.array(members)[:, None]
                residual = (y[k] if self.per_atom_ else y[k][None]) - rows.mean(axis=0)
                labelled = np.isfinite(residual.reshape(len(residual), -1)).all(axis=1)
                parts.append(residual[labelled])
                deviations.append((rows - rows.mean(axis=0))[:, labelled])
        if not sum(map(len, parts)):
            raise ValueError(
                f"no structure with labels and weight was left out by {_FEWEST_MEMBERS} members: lower max_samples="
                f"{self.max_samples!r}, use more members than n_estimators={self.n_estimators}, or more structures "
                f"than {len(X)}"
            )
        residuals = np.concatenate(parts)
        self._reset_recalibration()
        self.floor_ = {
            irrep: _FLOOR * float(np.mean(block**2)) for irrep, block in self._tensor().to_irreps(residuals).items()
        }
        covariances = np.concatenate([self._covariance(part) for part in deviations])
        self.recalibration_ = scale_of_irreps(self._tensor(), residuals, covariances)


def _fit(member, X, y, weight, others):
    extra, prefix = dict(others), f"{member.steps[-1][0]}__" if hasattr(member, "steps") else ""
    if weight is not None:
        extra["sample_weight"] = weight
    return member.fit(X, y, **{prefix + name: value for name, value in extra.items()})


def _picked(values, rows):
    return [values[k] for k in rows] if isinstance(values, list) else values[rows]


def _species(X):
    """Which species each structure has, (n, n_species)."""
    if isinstance(X, EquivariantFeatures):
        return X.composition(np.unique(X.species).tolist()) > 0
    counts = atom_counts(X)
    numbers = X.numbers if isinstance(X, StructureBatch) else np.concatenate([atoms.numbers for atoms in X])
    species, column = np.unique(numbers, return_inverse=True)
    has = np.zeros((len(counts), len(species)), dtype=bool)
    has[np.repeat(np.arange(len(counts)), counts), column] = True
    return has


def _labelled_species(X, y):
    """Which species of labelled atoms each structure has, (n, n_labelled_species)."""
    labelled = [np.isfinite(one.reshape(len(one), -1)).all(axis=1) for one in y]
    if isinstance(X, EquivariantFeatures):
        ends = np.cumsum(X.n_atoms)
        kept = np.concatenate(labelled)[(ends - X.n_atoms)[X.structures] + X.atoms]
        structures, numbers = X.structures[kept], X.species[kept]
    else:
        structures = np.repeat(np.arange(len(X)), [one.sum() for one in labelled])
        numbers = np.concatenate([atoms.numbers[one] for atoms, one in zip(X, labelled, strict=True)])
    species, columns = np.unique(numbers, return_inverse=True)
    has = np.zeros((len(X), len(species)), dtype=bool)
    has[structures, columns] = True
    return has


def _with_all(subset, needed, random):
    """Add structures to a subset until some have what is needed, each species above all, to predict the others.

    Parameters
    ----------
    subset : ndarray of int
    needed : ndarray of bool, shape (n_structures, n_properties)
        Which structures have each property; some do.
    random : RandomState

    Returns
    -------
    ndarray of int
        Ascending.
    """
    for column in range(needed.shape[1]):
        if not needed[subset, column].any():
            subset = np.append(subset, random.choice(np.flatnonzero(needed[:, column])))
    return np.sort(subset)
