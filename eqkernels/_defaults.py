"""Parameters that are estimators themselves and None by default, whose own parameters can be set nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator


class NestedDefaults(BaseEstimator):
    """Base of estimators with such parameters.

    Attributes
    ----------
    _defaults : dict of str to callable
        For each parameter what makes the object that None stands for.
    """

    _defaults: dict[str, Callable[[], Any]] = {}

    def set_params(self, **params):
        """Set parameters, also those of objects that are None by default, such as ``kernel__zeta``.

        Parameters
        ----------
        **params : object

        Returns
        -------
        self
            In which the default object stands where a parameter of it was set.
        """
        missing = {}
        for name in dict.fromkeys(key.partition("__")[0] for key in params if "__" in key):
            if name not in self._get_param_names():
                continue  # super() says so
            value = params.get(name, getattr(self, name))
            if value is None and name in self._defaults:
                missing[name] = self._defaults[name]()
            elif not hasattr(value, "set_params"):
                inner = next(key for key in params if key.startswith(f"{name}__"))
                remedy = f": set {name} to an object that has, e.g. {self._defaults[name].__name__}()" \
                    if name in self._defaults else ""  # fmt: skip
                raise ValueError(f"{inner} cannot be set while {name}={value!r}, which has no parameters{remedy}")
        return super().set_params(**{**params, **missing})

    def _object(self, name):
        """Value of a parameter, or the object that None stands for."""
        value = getattr(self, name)
        return self._defaults[name]() if value is None else value
