"""Fitted models in files that other versions of Python, numpy and scikit-learn read, without running what is in them.

A file is a zip archive of ``header.json``, which says what the model is, and of what skops makes of the model:
``schema.json``, its structure, and an ``.npy`` for each array. ``unzip -p FILE header.json`` shows the header.

Loading checks the whole file first, see :mod:`eqkernels.io.archive`, then that nothing is in it but arrays, numbers,
strings and the classes of this library, see :mod:`eqkernels.io.stored_types`; only then skops puts them together. A
release after which models store something else, that older releases would misread, raises ``FORMAT``.
"""

from __future__ import annotations

import io
import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any
from zipfile import ZipFile

import joblib
import numpy as np
import scipy
import sklearn
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from eqkernels._version import __version__
from eqkernels.io.archive import HEADER, SCHEMA, checked_archive, write_archive
from eqkernels.io.stored_types import TRUSTED, check_schema, portable_schema
from eqkernels.regression.baseline_values import named
from eqkernels.regression.calculator_baseline import CalculatorBaseline
from eqkernels.regression.summary import known_facts, summary

#: version of the format, of which files tell and up to which they are read
FORMAT = 1


def save_model(
    model: Any, path: str | os.PathLike[str], *, units: str | None = None, notes: dict[str, Any] | None = None
) -> None:
    """Save a fitted model to a file for others, or for later versions.

    Predictions of the loaded model are the same to the last bit in the same environment, and to rounding in others.

    Parameters
    ----------
    model : estimator
        Regressor or transformer of this library, or a pipeline of them, fitted.
    path : path-like
        Any name. A file that is there is replaced, once the new one is complete.
    units : str, default=None
        Unit of the target, for those who read the header, e.g. ``"Debye"``; it changes no number.
    notes : dict, default=None
        What else the header shall say, of what JSON has: where the data are from, errors on a test set.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If something in the model cannot be stored, such as a function or a class of your own; the message says where.
    ImportError
        If skops is not installed.

    See Also
    --------
    load_model : Load it again.

    Examples
    --------
    >>> import tempfile, os
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> from eqkernels import TensorRidge
    >>> frames = [molecule(name) for name in ("H2O", "NH3", "HF")]
    >>> model = TensorRidge(alpha=1e-8).fit(frames, [[0, 0, -1.85], [0, 0, -1.47], [0, 0, 1.82]])
    >>> path = os.path.join(tempfile.mkdtemp(), "dipoles.eqk")
    >>> save_model(model, path, units="Debye")
    >>> bool(np.all(load_model(path).predict(frames) == model.predict(frames)))
    True
    >>> header = load_header(path)
    >>> header["target"], header["irreps"], header["species"], header["units"]
    ('i', '1o', ['H', 'N', 'O', 'F'], 'Debye')
    """
    if units is not None and not isinstance(units, str):
        raise TypeError(f"units={units!r} must be a string, such as 'Debye'")
    try:
        json.dumps(notes, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"notes={notes!r:.80} must be made of what JSON has: {error}") from None
    dump = _skops().dump
    check_is_fitted(model)
    if hasattr(model, "best_estimator_"):
        raise TypeError(f"a {type(model).__name__} is not stored: save its best_estimator_")
    _refuse_programs(model)
    header = {**_header(model, units), "notes": notes}
    with TemporaryFile(dir=os.path.dirname(os.path.realpath(path))) as dumped:
        try:
            dump(model, dumped)
        except Exception as error:  # of objects that it does not know, skops raises anything
            raise TypeError(f"the model cannot be saved: {error}; joblib.dump may, for your own use") from error
        with ZipFile(dumped) as source:
            schema, arrays = portable_schema(json.loads(source.read(SCHEMA)))
            write_archive(path, _members(header, schema, arrays, source))


def load_model(path: str | os.PathLike[str]) -> Any:
    """Load a model that :func:`save_model` saved. No code in the file is run.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    estimator

    Raises
    ------
    ValueError
        If the file is something else (a pickle, an archive of numpy, ...), truncated, damaged, of a later version, or
        has in it what no model has; the message says which.
    ImportError
        If skops is not installed.

    See Also
    --------
    load_header : What the model is, without loading it.
    """
    load = _skops().load
    with _checked(path) as (archive, _):
        check_schema(json.loads(archive.read(SCHEMA)))
        archive.fp.seek(0)
        with warnings.catch_warnings():
            # of a pipeline, which has parameters alone
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            return load(archive.fp, trusted=TRUSTED)


def load_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Say what a saved model is, without loading it; skops is not needed.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict
        ``"format"``, versions of what wrote it in ``"versions"``, ``"model"``, ``"target"``, ``"axial"``,
        ``"per_atom"``, ``"irreps"``, ``"units"``, ``"species"``, ``"notes"`` and ``"summary"``, a list of lines; None
        is what the model does not have.

    Raises
    ------
    ValueError
        As :func:`load_model`.
    """
    with _checked(path) as (_, header):
        return header


def _refuse_programs(model):
    """Refuse models with a baseline that is a function or a calculator, wherever it stands."""
    baseline = getattr(model, "baseline_model_", None)
    if baseline is not None and (isinstance(baseline, CalculatorBaseline) or not hasattr(baseline, "get_params")):
        raise TypeError(
            f"baseline={named(baseline)} of the model cannot be saved, for it is a program, not numbers: fit a model "
            "with another baseline to y minus what it says, save that, and add what it says to predictions; or keep "
            "all for your own use, with joblib.dump"
        )
    for part in [baseline, *getattr(model, "estimators_", []), *(step for _, step in getattr(model, "steps", []))]:
        if part is not None:
            _refuse_programs(part)


def _skops():
    try:
        import skops.io
    except ImportError as error:
        raise ImportError("saved models need skops: python -m pip install 'eqkernels[skops]'") from error
    return skops.io


def _header(model, units):
    versions = {"eqkernels": __version__, "python": platform.python_version()}
    versions |= {module.__name__: module.__version__ for module in (np, scipy, sklearn, joblib)}
    facts = known_facts(model)
    return {
        "format": FORMAT,
        "versions": versions,
        **facts,
        "units": units,
        "summary": str(summary(model)).splitlines(),
    }


def _members(header, schema, arrays, source):
    for name, content, style in ((HEADER, header, {"indent": 1}), (SCHEMA, schema, {"separators": (",", ":")})):
        text = json.dumps(content, **style).encode()
        yield name, len(text), io.BytesIO(text)
    for name, original in arrays.items():
        with source.open(original) as content:
            yield name, source.getinfo(original).file_size, content


@contextmanager
def _checked(path: str | os.PathLike[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a file, checked, with its header; whatever is wrong is a ValueError that names the file."""
    try:
        with checked_archive(path) as archive:
            header = json.loads(archive.read(HEADER))
            _check_format(header)
            yield archive, header
    except OSError:
        raise
    except Exception as error:  # of a file that was made to harm, any part of the reading may raise anything
        reason = str(error) if isinstance(error, ValueError) else f"it is damaged ({type(error).__name__}: {error})"
        raise ValueError(f"{os.fspath(path)} cannot be loaded: {reason}") from error


def _check_format(header):
    number = header.get("format") if isinstance(header, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError("its header has no number of a format")
    if number > FORMAT:
        writer = (header.get("versions") or {}).get("eqkernels", "a later version")
        raise ValueError(
            f"it was saved by eqkernels {writer} in format {number}; this is eqkernels {__version__}, which reads "
            f"up to format {FORMAT}: update eqkernels"
        )
