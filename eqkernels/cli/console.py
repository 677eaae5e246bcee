"""What the commands print: tables on standard output, progress and remarks on standard error."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eqkernels._progress import LineHandler, Meter, clear, logger

_PIPED = None if sys.stdout.isatty() else 160  # columns, where there is no terminal that says
OUT = Console(highlight=False, soft_wrap=True, width=_PIPED)
LOG = Console(stderr=True, highlight=False, soft_wrap=True)


class Problem(Exception):
    """What a user can mend: printed as a line, without a traceback."""


def check_output(path: Path | None) -> None:
    """Refuse, before the work, a file that cannot be written."""
    if path is not None and path.is_dir():
        raise Problem(f"{path} is a directory: name a file")
    if path is not None and not path.parent.is_dir():
        raise Problem(f"there is no directory {path.parent}: make it first, mkdir -p {path.parent}")


def say(text: str) -> None:
    """Print a remark on what is being done."""
    clear()
    LOG.print(text, markup=False)


def show(text: Any) -> None:
    """Print a result."""
    clear()
    OUT.print(str(text), markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; numbers stand right."""
    rows = [[_text(cell) for cell in row] for row in rows]
    grid = Table(title=title, title_justify="left", title_style="bold", header_style="", box=None, pad_edge=False)
    for k, column in enumerate(columns):
        numbers = all(_is_number(row[k]) for row in rows if row[k])
        grid.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    OUT.print(grid)


@contextmanager
def remarks_shown() -> Iterator[None]:
    """Print what the library logs, and warnings as lines, each once: not again with other numbers."""
    seen: set[str] = set()

    def line(message, category, filename, lineno, file=None, line=None):
        text = str(message)
        kind = re.sub(r"\d+", "", text)
        if kind not in seen:
            seen.add(kind)
            say(f"warning: {text}")

    handler, level, shown = LineHandler(), logger.level, warnings.showwarning
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    warnings.showwarning = line
    try:
        yield
    finally:
        warnings.showwarning = shown
        logger.setLevel(level)
        logger.removeHandler(handler)
        clear()


def counted(things: Iterable[Any], work: str, total: int | None = None) -> Iterator[Any]:
    """Yield things, and say how many of them were used up."""
    meter = Meter("eqkernels", total, work, 0)
    for done, one in enumerate(things, 1):
        yield one
        meter.reach(done)


def _text(cell):
    return f"{cell:.4g}" if isinstance(cell, float) else "" if cell is None else str(cell)


def _is_number(text):
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True
