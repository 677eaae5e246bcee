"""``eqkernels predict``: predictions and error bars of a saved model for new structures, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import tee
from operator import itemgetter
from pathlib import Path
from typing import Any

import ase.io

from eqkernels._fitted import gives_std
from eqkernels.cli.console import Problem, check_output, counted, say
from eqkernels.cli.evaluating import load
from eqkernels.cli.learning import predicted
from eqkernels.io import write
from eqkernels.regression.fitted_targets import is_per_atom

# Frames that are predicted at once.
_BLOCK = 256


def predict(model_path: Path, paths: list[Path], output: Path, key: str | None, index: str) -> None:
    """Write frames with predictions to an extended xyz file."""
    check_output(output)
    model, header = load(model_path)
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise Problem(f"there is no file {missing[0]}")
    notes = header.get("notes") or {}
    key = key or f"predicted_{notes.get('target') or notes.get('key') or 'tensor'}"
    frames, means, spreads = (map(itemgetter(k), part) for k, part in enumerate(tee(_rows(model, paths, index), 3)))
    shown = counted(frames, "structures predicted")
    write(
        output, shown, {key: means}, {key: spreads} if gives_std(model) else None,
        per_atom=is_per_atom(model),
    )  # fmt: skip
    also = f", error bars under {key + '_std'!r}" if gives_std(model) else ""
    say(f"wrote {output}: predictions under {key!r}{also}")


def _rows(model: Any, paths: list[Path], index: str) -> Iterator[tuple[Any, Any, Any]]:
    """Frames, predictions and error bars."""
    for block in _blocks(paths, index):
        mean, std = predicted(model, block)
        yield from zip(block, mean, [None] * len(block) if std is None else std, strict=True)


def _blocks(paths, index):
    block: list[Any] = []
    for path in paths:
        for atoms in ase.io.iread(path, index):
            block.append(atoms)
            if len(block) == _BLOCK:
                yield block
                block = []
    if block:
        yield block
