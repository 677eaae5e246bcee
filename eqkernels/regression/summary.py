"""What a fitted model is and how well it does, from what it knows since its fit: nothing is computed for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from eqkernels.regression.baseline_values import named
from eqkernels.regression.delta import is_fitted_within
from eqkernels.so3 import CartesianTensor
from eqkernels.so3.cartesian import PSEUDO

# Columns of the table, and the fitted attributes from which they come.
_COLUMNS = {
    "alpha": "alpha_",
    "noise": "noise_",
    "signal variance": "signal_variance_",
    "zeta": "kernel_",
    "leave-one-out RMSE": "loo_rmse_",
    "spread": "spread_",
}


@dataclass(frozen=True, repr=False)
class Summary:
    """Facts about a model, and a table with a row for each irrep; both as text (``print``) and in a notebook.

    Attributes
    ----------
    title : str
    facts : dict of str to str
    columns : list of str
        Of the table.
    rows : dict of str to list of str
        Of the table, by irrep.
    """

    title: str
    facts: dict[str, str]
    columns: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, self.facts))
        lines = [self.title, *(f"  {name:{width}}  {fact}" for name, fact in self.facts.items())]
        if self.columns:
            table = [["irrep", *self.columns], *([irrep, *cells] for irrep, cells in self.rows.items())]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += ["", *("  " + "  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(fact)}</td></tr>" for name, fact in self.facts.items())
        parts = [f"<b>{escape(self.title)}</b><table>{facts}</table>"]
        if self.columns:
            head = "".join(f"<th>{escape(name)}</th>" for name in ("irrep", *self.columns))
            body = "".join(
                f"<tr><th>{escape(irrep)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
                for irrep, cells in self.rows.items()
            )
            parts.append(f"<table><tr>{head}</tr>{body}</table>")
        return f'<div class="eqkernels-summary">{"".join(parts)}</div>'


class Summarized:
    """Models that tell about themselves, in notebooks beside what scikit-learn shows of them."""

    def summary(self) -> Summary:
        """Say what the fitted model is: target, training set, chosen parameters, errors, time and memory.

        Returns
        -------
        Summary
            Text when printed, a table in a notebook. See :func:`eqkernels.summary`, also for pipelines.
        """
        return summary(self)

    @property
    def _repr_html_(self):
        of_sklearn = super()._repr_html_  # type: ignore[misc]  # an AttributeError, if it is set to show text
        return lambda: of_sklearn() + self._html_of_summary()

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] += self._html_of_summary()
        return bundle

    def _html_of_summary(self):
        try:
            return summary(self)._repr_html_()
        except NotFittedError:
            return ""


def summary(model: Any) -> Summary:
    """Say what a fitted model is: target, training set, chosen parameters, errors, time and memory.

    Parameters
    ----------
    model : estimator
        Regressor of this library, or a pipeline with one, or a search over them; fitted.

    Returns
    -------
    Summary
        Text when printed, a table in a notebook. What a model does not have or know is left out. The leave-one-out RMSE
        (per component of each irrep, as :func:`eqkernels.metrics.irrep_rmse`, in the unit of y) is known where it chose
        hyperparameters; beside it stands the spread, the RMSE of predicting nothing but the baseline.

    Raises
    ------
    NotFittedError

    Examples
    --------
    >>> from eqkernels import TensorRidge
    >>> from eqkernels.datasets import load_small_organics
    >>> data = load_small_organics()
    >>> print(TensorRidge().fit(data.frames[:60], data.dipole[:60]).summary())  # doctest: +ELLIPSIS
    TensorRidge on LambdaSOAP
      target        i, of structures
      irreps        1o
      training set  60 structures, ... environments
      species       H C N O
      descriptor    LambdaSOAP(irreps='1x1o+1x0e', per_atom=False)
      seconds       ... for the fit
      memory        ... MiB at most in this process, until the end of the fit
    <BLANKLINE>
      irrep  alpha  leave-one-out RMSE  spread
      1o     1e-07  0.0446              0.393
    """
    model = getattr(model, "best_estimator_", model)
    check_is_fitted(model)
    steps = _steps(model)
    final, facts = steps[-1], known_facts(model)
    rows = {
        "target": _target(facts),
        "irreps": _listed(facts["irreps"]),
        "training set": _training_set(final),
        "species": " ".join(facts["species"] or ()),
        "descriptor": ", ".join(map(_short, _descriptors(steps))),
        "kernel": _short(final._kernel()) if hasattr(final, "_kernel") and not isinstance(final.kernel, str) else "",
        "baseline": _baseline(final),
        "sparse points": _points(final),
        "members": f"{len(final.estimators_)} {_title(final.estimators_[0])}" if hasattr(final, "estimators_") else "",
        "training": _training(final),
        "seconds": _seconds(steps),
        "memory": _memory(steps),
    }
    columns, table = _table(final)
    return Summary(facts["model"], {name: fact for name, fact in rows.items() if fact}, columns, table)


def known_facts(model: Any) -> dict[str, Any]:
    """Collect what is known of a fitted model or pipeline, None where it does not apply.

    Returns
    -------
    dict
        With the keys ``"model"``, ``"target"``, ``"axial"``, ``"per_atom"``, ``"irreps"`` and ``"species"``; of several
        properties some are dicts by property.
    """
    steps = _steps(model)
    final = steps[-1]
    properties = getattr(final, "readouts_", {"y": final})
    facts: dict[str, Any] = {
        name: {key: of_one(one) for key, one in properties.items()} for name, of_one in _OF_TARGETS.items()
    }
    if not getattr(final, "several_", False):
        facts = {name: values["y"] for name, values in facts.items()}
    return {"model": _title(model), **facts, "species": _species(steps)}


def _irreps(model):
    """Irreps of the target, as labels of blocks are written."""
    if not hasattr(model, "target_"):
        return None
    irreps = CartesianTensor(model.target_, model.axial_).irreps
    return "+".join(str(irrep) if count == 1 else f"{count}x{irrep}" for count, irrep in irreps)


_OF_TARGETS = {
    "target": lambda model: getattr(model, "target_", None),
    "axial": lambda model: getattr(model, "axial_", None),
    "per_atom": lambda model: getattr(model, "per_atom_", None),
    "irreps": _irreps,
}


def _steps(model):
    return [step for _, step in model.steps if hasattr(step, "get_params")] if hasattr(model, "steps") else [model]


def _descriptors(steps):
    fitted = getattr(steps[-1], "descriptor_", None)
    return [*steps[:-1], *([] if fitted is None else [fitted])]


def _title(model):
    steps = _steps(model)
    return " on ".join(type(step).__name__ for step in (steps[-1], *reversed(_descriptors(steps))))


def _short(estimator):
    return " ".join(repr(estimator).split())


def _species(steps):
    members = [_steps(one)[-1] for one in getattr(steps[-1], "estimators_", ())[:1]]
    for step in (steps[-1], *reversed(_descriptors(steps)), *members):
        for name in ("species_", "center_species_"):
            if hasattr(step, name):
                return [chemical_symbols[number] for number in getattr(step, name)]
    return None


def _target(facts):
    targets = facts["target"]
    if targets is None:
        return ""
    if not isinstance(targets, dict):
        return _one_target(targets, facts["axial"], facts["per_atom"])
    return "; ".join(
        f"{name}: {_one_target(target, facts['axial'][name], facts['per_atom'][name])}"
        for name, target in targets.items()
    )


def _one_target(formula, axial, per_atom):
    return f"{formula or 'scalar'}{_axial(axial)}, of {'atoms' if per_atom else 'structures'}"


def _listed(values):
    return "; ".join(f"{name}: {value}" for name, value in values.items()) if isinstance(values, dict) else values or ""


def _training_set(model):
    counts = {"structures": "n_structures_fit_", "environments": "n_environments_fit_"}
    return ", ".join(f"{getattr(model, name):,} {what}" for what, name in counts.items() if getattr(model, name, 0))


def _baseline(model):
    """Baseline of the scalar part, and before it a model: fitted to all labels, as leave-one-out errors have it."""
    if getattr(model, "baseline_model_", None) is None:
        return str(model.baseline) if getattr(model, "baseline_", None) is not None else ""
    name = _short(model.baseline) if hasattr(model.baseline, "get_params") else named(model.baseline)
    fitted = ", fitted to all labels, also for leave-one-out errors" if is_fitted_within(model) else ""
    return f"{name}{fitted}; then composition"


def _points(model):
    if not hasattr(model, "points_"):
        return ""
    species, counts = np.unique(model.points_["species"], return_counts=True)
    return ", ".join(f"{chemical_symbols[z]} {count}" for z, count in zip(species, counts, strict=True))


def _training(model):
    if not hasattr(model, "readouts_"):
        return ""
    return f"{model.descriptor_.n_iter_} iterations, loss {model.descriptor_.loss_:.5g}"


def _seconds(steps):
    costs = [step.fit_cost_["seconds"] for step in steps if hasattr(step, "fit_cost_")]
    return f"{sum(costs):.3g} for the fit" if costs else ""


def _memory(steps):
    peak = max((step.fit_cost_["memory"] for step in steps if hasattr(step, "fit_cost_")), default=0)
    return f"{peak / 2**20:.0f} MiB at most in this process, until the end of the fit" if peak else ""


def _table(model):
    """Columns that a model has, and their values by irrep, of several properties by property and irrep."""
    found = {name: getattr(model, attribute) for name, attribute in _COLUMNS.items() if hasattr(model, attribute)}
    if hasattr(model, "readouts_"):
        several = model.several_
        found["noise"] = {
            key if several else key.rpartition(":")[2]: value for key, value in model.descriptor_.noise_.items()
        }
    if "zeta" in found:
        found["zeta"] = {irrep: getattr(kernel, "zeta", None) for irrep, kernel in found["zeta"].items()}
        if None in found["zeta"].values():
            del found["zeta"]
    irreps = list(dict.fromkeys(irrep for values in found.values() for irrep in values))
    return list(found), {irrep: list(_cells(found, irrep)) for irrep in irreps}


def _cells(found: dict[str, dict[str, float]], irrep: str) -> Iterator[str]:
    for values in found.values():
        yield f"{values[irrep]:.3g}" if irrep in values else ""


def _axial(axial):
    return " (pseudotensor)" if axial == PSEUDO else f" (axial: {axial})" if axial else ""
