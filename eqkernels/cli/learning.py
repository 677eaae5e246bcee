"""``eqkernels train``: from labelled structures to a saved model and the error to expect of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

from eqkernels._fitted import gives_std
from eqkernels.automatic import AutoTensorRegressor
from eqkernels.cli.console import Problem, check_output, say, show
from eqkernels.cli.labelled import name_of, read_labelled
from eqkernels.descriptors import LambdaSOAP, MultiScale, NBodyFeatures, SphericalExpansion
from eqkernels.io import save_model
from eqkernels.io.frame_files import FrameFile
from eqkernels.io.label_reader import labels_of
from eqkernels.io.label_sources import LabelSource
from eqkernels.kernels import CovariantKernel, WignerKernel
from eqkernels.learned import EquivariantNetworkRegressor
from eqkernels.recommendation import recommend
from eqkernels.regression import (
    SparseTensorGPR,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    TholePolarizability,
)
from eqkernels.so3 import cartesian_tensor
from eqkernels.validation import ExpectedError, expected_error

#: Models by the names that the command line and its configuration files use.
MODELS: dict[str, Any] = {
    "gpr": TensorGPR,
    "sparse": SparseTensorGPR,
    "kernel-ridge": TensorKernelRidge,
    "ridge": TensorRidge,
    "network": EquivariantNetworkRegressor,
    "committee": TensorCommittee,
    "search": AutoTensorRegressor,
}
_DESCRIPTORS = {one.__name__: one for one in (LambdaSOAP, MultiScale, NBodyFeatures, SphericalExpansion)}
_BASELINES = {"TholePolarizability": TholePolarizability}
_KERNELS = {one.__name__: one for one in (CovariantKernel, WignerKernel)}


def train(
    paths: list[Path],
    output: Path,
    target: str | None,
    how_to_read: dict[str, Any],
    model: str = "auto",
    forces: bool | None = None,
    minutes: float | None = None,
    settings: dict[str, Any] | None = None,
    n_jobs: int | None = None,
    seed: int = 0,
    error: bool = True,
) -> None:
    """Fit a model to files, print the error to expect, and save it."""
    check_output(output)
    data = read_labelled(paths, target, **how_to_read)
    labels_of_forces = _forces(data, forces)
    start = time.perf_counter()
    estimator = _estimator(data, model, labels_of_forces is not None, minutes, settings or {}, n_jobs, seed)
    if minutes is not None and not any(name.endswith("time_budget") for name in estimator.get_params()):
        say(f"--minutes {minutes:g} has no effect: {type(estimator).__name__} takes the time that it needs")
    say(f"fitting {type(estimator).__name__} ...")
    searches = isinstance(estimator, AutoTensorRegressor)
    extra = {} if labels_of_forces is None else {"forces": labels_of_forces}
    extra |= {"groups": data.groups} if searches else {}
    estimator.fit(data.frames, data.y, **extra)
    say(f"fitted in {time.perf_counter() - start:.0f} s")
    for note in estimator.notes_ if searches else []:
        say(f"- {note}")
    notes: dict[str, Any] = {"target": data.target if isinstance(data.target, str) else None, "key": data.key,
                             "files": [str(path) for path in paths]}  # fmt: skip
    save_model(estimator, output, units=data.units, notes=notes)
    say(f"wrote {output}")
    if error:
        if searches:
            expected = estimator.expected_error()
        else:
            say("estimating the error on new structures ...")
            expected = expected_error(estimator, data.frames, data.y, groups=data.groups, forces=labels_of_forces)
        show_expected(expected, data)
        notes["expected_error"] = {"rmse": expected.rmse, "irreps": expected.irreps, "curve": expected.curve,
                                   "interval": expected.interval}  # fmt: skip
        if expected.tail is not None:
            notes["expected_error"] |= {"median": expected.tail.median, "without_outliers": expected.tail.without}
        save_model(estimator, output, units=data.units, notes=notes)
    say(f"next: eqkernels evaluate {output} TEST.xyz, or eqkernels predict {output} NEW.xyz -o PREDICTED.xyz")


def show_expected(expected: ExpectedError, data: Any) -> None:
    """Print the error to expect."""
    unit = f", in {data.units}" if data.units else ""
    show(f"expected error on new structures, {name_of(data)}{unit}")
    show(expected)


def _forces(data, wanted):
    """Return the forces of energies, if the frames have them and they are not refused."""
    if wanted is False or data.target != "energy":
        if wanted:
            raise Problem(f"forces are derivatives of energies, the target is {name_of(data)}")
        return None
    source = LabelSource([FrameFile(str(data.path[0]), data.frames, {})])
    there = [one for one in source.found if "forces" in one.guesses]
    if not there:
        if wanted:
            raise Problem("the files have no forces")
        return None
    if len({one.key for one in there}) > 1:
        raise Problem(f"the files have several forces, {', '.join(one.key for one in there)}: keep one of them")
    forces, _, _ = labels_of(source, there[0], "forces", cartesian_tensor("forces"))
    say(f"forces found under {there[0].key!r}: the model learns from them too (--no-forces leaves them out)")
    return list(forces)


def _estimator(data, model, forces, minutes, settings, n_jobs, seed):
    per_atom = True if data.per_atom else None
    if minutes is not None and not minutes > 0:
        raise Problem(f"minutes={minutes} must be a positive number")
    if model == "auto" and minutes is not None and not settings and not forces:
        model = "search"
    if model == "auto" and not settings:
        advice = recommend(data.frames, data.y, target=data.target, per_atom=per_atom, forces=forces, minutes=minutes,
                           n_jobs=n_jobs, random_state=seed)  # fmt: skip
        for reason in advice.reasons:
            say(f"- {reason}")
        return advice.model
    kind = "sparse" if model == "auto" and forces else "gpr" if model == "auto" else model
    parameters = {"target": data.target, "per_atom": per_atom, "random_state": seed, "n_jobs": n_jobs}
    if minutes is not None:
        parameters["time_budget"] = 60 * minutes
    return build(kind, parameters, settings)


def build(kind: str, parameters: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Make a model of a name, with parameters where it has them, and with the settings of a configuration file.

    Parameters
    ----------
    kind : str
        A key of ``MODELS``.
    parameters : dict
        Those that the model does not have are left out.
    settings : dict
        Parameters of the model, and under ``descriptor``, ``kernel`` and ``baseline`` those of its parts, of which
        ``name`` is the class.

    Returns
    -------
    estimator
    """
    if kind not in MODELS:
        raise Problem(f"there is no model {kind!r}: take auto, {', '.join(MODELS)}")
    model = MODELS[kind]()
    known = set(model.get_params())
    model.set_params(**{name: value for name, value in parameters.items() if name in known})
    for name, value in settings.items():
        if name not in known:
            raise Problem(f"{MODELS[kind].__name__} has no parameter {name!r}: it has {', '.join(sorted(_own(model)))}")
        if name == "descriptor" and isinstance(value, dict):
            value = _part(value, _DESCRIPTORS)
        elif name == "kernel" and isinstance(value, dict):
            value = _part(value, _KERNELS)
        elif name == "baseline" and isinstance(value, dict):
            value = _part(value, _BASELINES)
        model.set_params(**{name: value})
    return model


def _part(settings, classes):
    settings = dict(settings)
    name = settings.pop("name", next(iter(classes)))
    if name not in classes:
        raise Problem(f"there is no {name!r} here: take {', '.join(classes)}")
    part = classes[name]()
    unknown = set(settings) - set(part.get_params())
    if unknown:
        raise Problem(f"{name} has no parameter {sorted(unknown)[0]!r}: it has {', '.join(sorted(_own(part)))}")
    return part.set_params(**settings)


def _own(estimator: BaseEstimator):
    return [name for name in estimator.get_params(deep=False)]


def predicted(model: Any, frames: Any) -> tuple[Any, Any]:
    """Predictions, and error bars or None."""
    if gives_std(model):
        return model.predict(frames, return_std=True)
    return model.predict(frames), None
