"""Warnings that point at the line of the user, whatever the depth at which they arise."""

from __future__ import annotations

import sys
import warnings

# Packages between the user's line and ours: pipelines, cross-validation and workers call estimators.
_INNER = ("eqkernels", "sklearn", "joblib", "importlib")


def warn(message, category=UserWarning):
    """Warn with the file and line of the nearest caller outside of this package, scikit-learn and joblib.

    Parameters
    ----------
    message : str
    category : Warning, default=UserWarning
    """
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
