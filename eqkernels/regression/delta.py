r"""Delta learning: a model of what another model, or a cheap method, leaves of the labels.

.. math:: y(A) = y_0(A) + \Delta(A)

The predictions :math:`y_0` of the baseline are subtracted from the labels before a fit and added to what is predicted,
so are its derivatives; error bars are those of :math:`\Delta` (R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von
Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015), https://doi.org/10.1021/acs.jctc.5b00099).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from eqkernels.regression.baseline import BASELINES
from eqkernels.regression.baseline_values import baseline_values, named
from eqkernels.regression.fitted_targets import declare_target, is_per_atom, projected, target_of
from eqkernels.structures import as_list, by_structure
from eqkernels.structures.labels import Labels

# Labels of which a baseline leaves less than this part of the largest are explained by it: the rest is rounding.
_ROUNDING = 1e-12


class Baseline:
    """Constraint of the parameter: the name of a baseline of the scalar part, a model, or a function of frames."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        if value is None or (isinstance(value, str) and value in BASELINES):
            return None
        if isinstance(value, type):
            return f"is a class: make an object, {value.__name__}(...)"
        if hasattr(value, "get_potential_energy") and not hasattr(value, "predict"):
            return "is an ASE calculator: wrap it, CalculatorBaseline(calculator, 'energy')"
        if not isinstance(value, str) and (hasattr(value, "predict") or callable(value)):
            return None
        return f"must be one of {BASELINES}, a model with predict(frames), or a function of frames"


def is_model(baseline: Any) -> bool:
    """Whether a baseline is a model or a function of frames, and not that of the scalar part by its name."""
    return baseline is not None and not isinstance(baseline, str)


def scalar_baseline(baseline: Any) -> str | None:
    """Baseline of the scalar part, which a model leaves to the composition."""
    return "composition" if is_model(baseline) else baseline


class DeltaLearning:
    """Models whose parameter ``baseline`` may be a model of frames.

    Attributes
    ----------
    baseline_model_ : object or None
        What is subtracted from the labels and added to predictions, if ``baseline`` was a model: fitted.
    """

    baseline: Any
    baseline_model_: Any = None

    def __sklearn_clone__(self: Any) -> Any:
        """Clone with the same baseline, if that is fitted or has nothing to fit."""
        baseline = getattr(self, "baseline", None)
        parameter = "baseline" in self._get_param_names()  # that of a committee is one of its members
        if not parameter or not is_model(baseline) or not _is_ready(baseline):
            return super().__sklearn_clone__()  # type: ignore[misc]
        bare = copy.copy(self)
        bare.baseline = None
        cloned = super(DeltaLearning, bare).__sklearn_clone__()  # type: ignore[misc]
        cloned.baseline = baseline
        return cloned

    def _with_frames(self: Any, X: Any) -> tuple[Any, Any]:
        """X, which can be read again, and the frames for the baseline, None if it needs none."""
        if not is_model(self.baseline):
            return X, None
        if hasattr(X, "blocks") or hasattr(X, "ndim") and getattr(X, "ndim", 1) > 1:
            raise TypeError(
                f"baseline={named(self.baseline)} predicts from frames, and X is {type(X).__name__}, which has none: "
                f"state the descriptor in the model, {type(self).__name__}(descriptor=LambdaSOAP(...), baseline=...), "
                "and pass frames, not features"
            )
        X = self._readable_again(X)
        return X, X

    def _readable_again(self, X):
        return X if hasattr(X, "offsets") else as_list(X)

    def _fit_baseline_model(self: Any, frames: Any, labels: Labels, weight: Any, known: Any = None) -> None:
        """Keep the baseline, or a clone of it that is fitted to the labels, those that are known."""
        if not is_model(self.baseline):
            self.__dict__.pop("baseline_model_", None)
            return
        self._refuse_charges(frames)
        self.baseline_model_ = fitted_baseline(self.baseline, frames, labels, weight, known)

    def _minus_baseline(self: Any, frames: Any, labels: Labels, known: Any = None) -> Labels:
        """Labels minus the predictions of the baseline, both with the symmetry of the target."""
        if self.baseline_model_ is None:
            return labels
        rest = values = projected(labels.tensor, labels.values)
        rows = np.arange(len(values)) if known is None else np.flatnonzero(known)  # with known, of structures
        some = frames if known is None else [frames[int(k)] for k in rows]
        if len(some):
            n_atoms = labels.n_atoms if known is None else labels.n_atoms[rows]
            found = baseline_values(self.baseline_model_, some, n_atoms, labels.tensor.shape, labels.atoms)
            rest = values.copy()
            rest[rows] -= projected(labels.tensor, found, f"what baseline={named(self.baseline)} predicts")
        rest[np.abs(rest) <= _ROUNDING * np.abs(values).max(initial=0.0)] = 0.0
        return replace(labels, values=rest)

    def _plus_baseline(self: Any, frames: Any, values: Any, n_axes: int = 0) -> Any:
        """Predictions, with so many axes behind those of the tensor, and those of the baseline."""
        if self.baseline_model_ is None or frames is None:
            return values
        self._refuse_charges(frames)
        per_atom = is_per_atom(self)
        n_atoms = [len(one) for one in values] if per_atom else np.zeros(len(values), dtype=int)
        shape, atoms = target_of(self).shape, slice(None) if per_atom else None
        found = baseline_values(self.baseline_model_, frames, n_atoms, shape, atoms, finite=not per_atom)
        found = found.reshape(*found.shape, *[1] * n_axes)
        return values + (by_structure(found, n_atoms) if per_atom else found)

    def _refuse_charges(self, frames):
        """Refuse charged molecules where the kernel makes the moment of their charge, which the baseline has too."""
        kernel = getattr(self, "_offset_kernel", lambda: None)()
        if kernel is None or not kernel.uses_positions:
            return
        charged = [k for k, atoms in enumerate(frames) if atoms.info.get("charge")]
        if charged:
            raise ValueError(
                f"structure {charged[0]} has a total charge: its moment would be counted twice, by kernel="
                f"{kernel!r:.60} and by baseline={named(self.baseline)}. Take CovariantKernel() alone, or no model as "
                "baseline"
            )


def fitted_baseline(baseline: Any, frames: Any, labels: Labels, weight: Any = None, known: Any = None) -> Any:
    """Baseline as it is to predict: what is fitted, or needs no fit, as it is; else a clone fitted to the labels.

    Parameters
    ----------
    baseline : object
    frames : sequence of ase.Atoms
    labels : Labels
    weight : array-like of shape (n_structures,), default=None
        Passed on where the baseline takes it.
    known : ndarray of bool, shape (n_structures,), default=None
        Which structures have a label; None: all.

    Returns
    -------
    object
    """
    if _is_ready(baseline):
        return copy.copy(baseline) if isinstance(baseline, BaseEstimator) else baseline
    rows = np.arange(len(labels.n_atoms)) if known is None else np.flatnonzero(known)
    if not len(rows):
        raise ValueError(
            f"baseline={named(baseline)} is not fitted, and there is no label y to fit it to: fit it first"
        )
    model = clone(baseline) if hasattr(baseline, "get_params") else copy.deepcopy(baseline)
    if hasattr(model, "get_params"):
        declare_target(model, labels.tensor, labels.per_atom)
    extra = {}
    if weight is not None and has_fit_parameter(model, "sample_weight"):
        extra["sample_weight"] = np.asarray(weight)[rows]
    return model.fit([frames[int(k)] for k in rows], labels.given()[rows], **extra)


def _is_ready(baseline):
    """Whether a baseline predicts as it is."""
    if not hasattr(baseline, "fit"):
        return True
    if not hasattr(baseline, "get_params"):
        return any(name.endswith("_") and not name.startswith("_") for name in vars(baseline))
    try:
        check_is_fitted(baseline)
    except NotFittedError:
        return False
    return True


def is_fitted_within(model: Any) -> bool:
    """Whether the baseline of a fitted model was fitted to the same labels."""
    return is_model(getattr(model, "baseline", None)) and not _is_ready(model.baseline)
