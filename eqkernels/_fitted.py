"""Estimators that predict with the parameters they were fitted with, and fits that succeed whole or change nothing.

A fit records the parameters it was made with. Parameters that are changed afterwards would be mixed with what was
learned under the old ones: predictions are refused until the next fit, or until the old values are back. It records
what it took, too.
"""

from __future__ import annotations

import functools
import inspect
import time

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from eqkernels._memory import peak_memory

# How the work is done, or what is refused, not what comes out.
_FREE = {"n_jobs", "verbose", "memory", "random_state", "handle_unknown"}
# Estimators of which a fit makes its own copies, so that later changes do not reach them.
_CLONED = {"descriptor", "estimator", "transformers"}
_RECORD = "_parameters_at_fit"


def whole_or_nothing(method):
    """Decorate a method that fits: if it raises, the estimator is what it was before."""

    @functools.wraps(method)
    def fit(self, *args, **kwargs):
        before, start = dict(vars(self)), time.perf_counter()
        if method.__name__ == "fit":  # what it calls of its own must not look at an earlier fit
            vars(self).pop(_RECORD, None)
        try:
            result = method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        setattr(self, _RECORD, {name: _kept(value) for name, value in _parameters(self).items()})
        self.fit_cost_ = {"seconds": time.perf_counter() - start, "memory": peak_memory()}
        return result

    return fit


def check_fitted(estimator):
    """Refuse to predict before a fit, or with parameters other than those of the fit.

    Parameters
    ----------
    estimator : estimator

    Raises
    ------
    NotFittedError
        The message names the parameter.
    """
    check_is_fitted(estimator)
    record = vars(estimator).get(_RECORD)
    if record is not None:
        _refuse_changes(estimator, record, _CLONED, NotFittedError, "fit again")


def check_unchanged(estimator, free=()):
    """Refuse to go on with a fit whose parameters are not those it was begun with.

    Parameters
    ----------
    estimator : estimator
    free : collection of str, default=()
        Parameters that may differ from one part of the data to the next.

    Raises
    ------
    ValueError
        The message names the parameter.
    """
    _refuse_changes(estimator, vars(estimator)[_RECORD], free, ValueError, "set it back, or start anew with fit")


def _refuse_changes(estimator, record, free, error, remedy):
    for name, kept in record.items():
        value = getattr(estimator, name)
        if value is not kept and name not in free and not _same(value, kept):
            change = _change(name, value, kept)
            raise error(f"{type(estimator).__name__}: the parameter {change} after the fit: {remedy}")


@functools.cache
def _names(cls):
    return tuple(name for name in cls._get_param_names() if name not in _FREE)


def _parameters(estimator):
    cls = estimator.__class__
    if hasattr(cls, "_get_param_names"):
        return {name: getattr(estimator, name) for name in _names(cls)}
    return {name: value for name, value in estimator.get_params(deep=False).items() if name not in _FREE}


def _is_estimator(value):
    return hasattr(value, "get_params") and not isinstance(value, type)


def _kept(value):
    """Make a copy that later changes of the value do not reach: of estimators their class and parameters."""
    if _is_estimator(value):
        return {"class": type(value).__qualname__, **{name: _kept(one) for name, one in _parameters(value).items()}}
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _kept(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(one) for one in value]
    return value


def _same(value, kept):
    if value is kept:
        return True
    if _is_estimator(value):
        if not isinstance(kept, dict) or kept.get("class") != type(value).__qualname__:
            return False
        return all(_same(one, _of_fit(value, kept, name)) for name, one in _parameters(value).items())
    if isinstance(value, dict):
        if not isinstance(kept, dict) or set(value) != set(kept):
            return False
        return all(_same(one, kept[key]) for key, one in value.items())
    if isinstance(value, list | tuple):
        if not isinstance(kept, list) or len(value) != len(kept):
            return False
        return all(_same(one, other) for one, other in zip(value, kept, strict=True))
    try:
        return bool(np.all(value == kept)) and np.shape(value) == np.shape(kept)
    except (TypeError, ValueError):
        return False


def _of_fit(value, kept, name):
    """Look up a parameter of the fit; one that the version of the fit did not have had the default of its class."""
    return kept[name] if name in kept else getattr(type(value), name, getattr(value, name))


def _change(name, value, kept):
    """Say which parameter changed, within composed ones the innermost."""
    if _is_estimator(value) and isinstance(kept, dict) and kept.get("class") == type(value).__qualname__:
        for inner, one in _parameters(value).items():
            was_inner = _of_fit(value, kept, inner)
            if not _same(one, was_inner):
                return _change(f"{name}__{inner}", one, was_inner)
    if isinstance(value, list | tuple) and isinstance(kept, list) and len(value) == len(kept):
        for part, old in zip(value, kept, strict=True):
            if not isinstance(part, list | tuple) or len(part) != 2 or _same(part, old):
                continue
            if part[0] == old[0] and _is_estimator(part[1]):  # a name and an estimator
                return _change(part[0], part[1], old[1])
    was = kept["class"] + "(...)" if isinstance(kept, dict) and "class" in kept else repr(kept)
    return f"{name} was changed from {was:.60} to {value!r:.60}"


def last_step(model):
    """Last step of a pipeline, or the model itself."""
    return model[-1] if hasattr(model, "steps") else model


def gives_std(model, method="predict"):
    """Whether a method of a model, or of the last step of a pipeline, returns standard deviations when asked.

    Parameters
    ----------
    model : estimator
    method : str, default="predict"

    Returns
    -------
    bool
    """
    final = last_step(model)
    found = getattr(final, method, None)
    if found is None or "return_std" not in inspect.signature(found).parameters:
        return False
    return bool(getattr(final, "error_bars", True))  # of networks, a parameter
