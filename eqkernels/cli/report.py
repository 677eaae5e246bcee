"""The page of ``eqkernels evaluate --html``: tables, pictures and the worst structures, in one file without links."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

_HERE = Path(__file__).parent


def draw(evaluation: Any) -> dict[str, Any]:
    """Figures of an evaluation by name: parity, and calibration where there are error bars.

    Returns
    -------
    dict of str to Figure
    """
    import matplotlib.pyplot as plt

    from eqkernels.plotting import CalibrationDisplay, ParityDisplay

    data, unit = evaluation.data, evaluation.header.get("units")
    parity = ParityDisplay.from_predictions(data.y, evaluation.y_pred, target=evaluation.tensor, unit=unit)
    figures: dict[str, Any] = {"parity": parity.figure_}
    if evaluation.y_std is not None:
        figures["calibration"] = CalibrationDisplay.from_predictions(
            data.y, evaluation.y_pred, evaluation.y_std
        ).figure_
    curve = ((evaluation.header.get("notes") or {}).get("expected_error") or {}).get("curve") or []
    if len(curve) > 1:
        figures["learning_curve"] = _draw_curve(curve, evaluation.rows()[-1], unit)
    for figure in figures.values():
        plt.close(figure)
    return figures


def _draw_curve(curve, row, unit):
    """Learning curve of the training, and the error on the structures of this evaluation."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    sizes, errors = np.array(curve).T
    axes.loglog(sizes[:-1], errors[:-1], "o-", color="C0", label="structures held back in training")
    axes.loglog(sizes[-2:], errors[-2:], "o--", color="C0", mfc="white", label="extrapolated")
    axes.loglog(sizes[-1], row[1], "D", color="C1", label="this evaluation")
    axes.axhline(row[2], color="0.6", lw=1, label="spread")
    axes.set(xlabel="training structures", ylabel="RMSE (Frobenius norm)" + (f" / {unit}" if unit else ""))
    axes.legend(fontsize=8)
    return figure


def write_page(path: Path, title: str, evaluation: Any, figures: dict[str, Any]) -> None:
    """Write the page."""
    header = evaluation.header
    rows = [(key, f"{error:.4g}", f"{spread:.4g}", "" if r2 is None else f"{r2:.4f}")
            for key, error, spread, r2 in evaluation.rows()]  # fmt: skip
    covered = evaluation.covered()
    page = Template((_HERE / "report.html").read_text()).substitute(
        title=html.escape(title),
        errors=_table(("irrep", "RMSE", "spread", "R2"), rows),
        coverage="" if covered is None else f"{covered:.0%} of the components lie within one standard deviation.",
        figures="\n".join(
            f'<img alt="{name.replace("_", " ")}" src="{_png(figure)}">' for name, figure in figures.items()
        ),
        worst=_table(("structure", "formula", "error"), [(k, name, f"{e:.4g}") for k, name, e in evaluation.worst()]),
        model=html.escape("\n".join(header["summary"])),
        structures=json.dumps([_structure(evaluation, *one) for one in evaluation.worst()]).replace("<", "\\u003c"),
    )
    path.write_text(page, encoding="utf-8")


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(columns, rows):
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _structure(evaluation, k, formula, error):
    """Atoms of a structure for the viewer: centered positions, radii, colors, bonds."""
    atoms = evaluation.data.frames[k]
    positions = atoms.positions - atoms.positions.mean(axis=0)
    radii = covalent_radii[atoms.numbers]
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    first, second = np.nonzero(np.triu(distances < 1.25 * (radii[:, None] + radii), 1))
    colors = ["#" + "".join(f"{int(255 * part):02x}" for part in jmol_colors[number]) for number in atoms.numbers]
    return {
        "name": f"structure {k}, {formula}, error {error:.3g}",
        "atoms": [[*(round(float(x), 3) for x in place), round(float(radius), 2), color]
                  for place, radius, color in zip(positions, radii, colors, strict=True)],
        "bonds": np.stack([first, second], axis=1).tolist(),
    }  # fmt: skip
