"""What the commands print: tables on standard output, progress and remarks on standard error."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_PIPED = None if sys.stdout.isatty() else 160  # columns, where there is no terminal that says
OUT = Console(highlight=False, soft_wrap=True, width=_PIPED)
LOG = Console(stderr=True, highlight=False, soft_wrap=True)


class Problem(Exception):
    """What a user can mend: printed as a line, without a traceback."""


def say(text: str) -> None:
    """Print a remark on what is being done."""
    LOG.print(text, markup=False)


def show(text: Any) -> None:
    """Print a result."""
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


def show_warnings() -> None:
    """Print warnings and what the library logs as lines, each once: not again with other numbers."""
    seen: set[str] = set()

    def line(message, category, filename, lineno, file=None, line=None):
        text = str(message)
        kind = re.sub(r"\d+", "", text)
        if kind not in seen:
            seen.add(kind)
            say(f"warning: {text}")

    warnings.showwarning = line
    logger = logging.getLogger("eqkernels")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _text(cell):
    return f"{cell:.4g}" if isinstance(cell, float) else "" if cell is None else str(cell)


def _is_number(text):
    try:
        float(text.rstrip("%"))
    except ValueError:
        return False
    return True
