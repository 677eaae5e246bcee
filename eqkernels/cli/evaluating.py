"""``eqkernels evaluate``: what a saved model gets right on labelled structures, in a table, pictures and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqkernels.cli.console import Problem, check_output, say, show, table
from eqkernels.cli.labelled import name_of, read_labelled
from eqkernels.cli.learning import predicted
from eqkernels.io import load_header, load_model
from eqkernels.metrics import frobenius_rmse, irrep_rmse, isotropic_mean
from eqkernels.regression.fitted_targets import target_of
from eqkernels.so3 import CartesianTensor
from eqkernels.structures.paired import paired_rows
from eqkernels.validation import ErrorTail

_WORST = 5
_ONE_SIGMA = 0.683


@dataclass
class Evaluation:
    """Predictions of a model beside the labels.

    Attributes
    ----------
    header : dict
        Of the file of the model.
    data : Bunch
        Frames and labels.
    tensor : CartesianTensor
    y_pred, y_std : as data.y
        Predictions and error bars, None if the model has none.
    """

    header: dict[str, Any]
    data: Any
    tensor: CartesianTensor
    y_pred: Any
    y_std: Any

    def __post_init__(self):
        self.pairs = paired_rows(self.data.y, self.y_pred)

    def rows(self):
        """Rows of the table of irreps: name, RMSE, spread, R2."""
        true, pred = self.pairs.true, self.pairs.pred
        constant = np.broadcast_to(isotropic_mean(true), true.shape)
        errors, spreads = (irrep_rmse(true, other, target=self.tensor) for other in (pred, constant))
        both = [(key, errors[key], spreads[key]) for key in errors]
        both.append(("tensor", frobenius_rmse(true, pred), frobenius_rmse(true, constant)))
        return [(key, error, spread, 1 - (error / spread) ** 2 if spread > 0 else None) for key, error, spread in both]

    def tail(self):
        """How the errors are distributed over the structures."""
        return ErrorTail.of(self.pairs)

    def covered(self):
        """How many components lie within one standard deviation; None without error bars."""
        if self.y_std is None:
            return None
        std = paired_rows(self.data.y, self.y_std).pred
        return float(np.mean(np.abs(self.pairs.true - self.pairs.pred) <= std))

    def worst(self):
        """Structures of the largest errors: number, formula, norm of the error."""
        norms = np.linalg.norm((self.pairs.true - self.pairs.pred).reshape(len(self.pairs.true), -1), axis=1)
        largest = np.zeros(len(self.data.frames))
        np.maximum.at(largest, self.pairs.structures, norms)
        order = np.argsort(-largest)[:_WORST]
        return [(int(k), self.data.frames[k].get_chemical_formula(), float(largest[k])) for k in order]


def evaluate(
    model_path: Path,
    paths: list[Path],
    target: str | None,
    how_to_read: dict[str, Any],
    html: Path | None = None,
    plots: Path | None = None,
) -> None:
    """Print the errors of a model on files, and draw them."""
    check_output(html)
    evaluation = evaluated(model_path, paths, target, how_to_read)
    unit = f" in {evaluation.header['units']}" if evaluation.header.get("units") else ""
    title = f"{name_of(evaluation.data)}, {len(evaluation.data.frames)} structures{unit}"
    table(title, ("irrep", "RMSE", "spread", "R2"), evaluation.rows())
    show("RMSE and spread per component of each irrep; tensor: Frobenius norm")
    covered = evaluation.covered()
    if covered is not None:
        show(f"{covered:.0%} of the components lie within one standard deviation ({_ONE_SIGMA:.0%} expected)")
    expected = (evaluation.header.get("notes") or {}).get("expected_error")
    for line in evaluation.tail().lines():
        show(line)
    if expected:
        median = f", half of the structures below {expected['median']:.3g}" if "median" in expected else ""
        low, high = expected.get("interval") or (None, None)
        between = f", between {low:.3g} and {high:.3g}" if high else ""
        show(f"expected from training: {expected['rmse']:.4g} (Frobenius norm){between}{median}")
    table("largest errors", ("structure", "formula", "error"), evaluation.worst())
    if html is not None or plots is not None:
        from eqkernels.cli.report import draw, write_page

        figures = draw(evaluation)
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            for name, figure in figures.items():
                figure.savefig(plots / f"{name}.png", dpi=150)
            say(f"wrote {', '.join(str(plots / f'{name}.png') for name in figures)}")
        if html is not None:
            write_page(html, title, evaluation, figures)
            say(f"wrote {html}")


def evaluated(model_path: Path, paths: list[Path], target: str | None, how_to_read: dict[str, Any]) -> Evaluation:
    """Predictions of a saved model for labelled files; the label is that of the training unless stated."""
    model, header = load(model_path)
    notes = header.get("notes") or {}
    if target is None and how_to_read.get("key") is None:
        target, how_to_read = notes.get("target"), {**how_to_read, "key": notes.get("key")}
    data = read_labelled(paths, target, **how_to_read)
    tensor = target_of(model)
    y_pred, y_std = predicted(model, data.frames)
    return Evaluation(header, data, tensor, y_pred, y_std)


def load(path: Path) -> tuple[Any, dict[str, Any]]:
    """Load a saved model and its header."""
    if not path.exists():
        raise Problem(f"there is no file {path}: eqkernels train ... -o {path} makes a model")
    return load_model(path), load_header(path)
