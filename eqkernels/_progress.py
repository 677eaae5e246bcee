"""How far long work is: lines in the log ``eqkernels``, or a bar on a terminal, of whom the work itself knows nothing.

What takes less than two seconds is silent. Whoever asks, with ``verbose=1`` or by the level INFO of the logger
``eqkernels``, gets lines with the time left; on a terminal, one bar that is drawn again and again.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from eqkernels._compile import listeners

logger = logging.getLogger("eqkernels")
# Seconds before the first line and between two lines; after _EVEN seconds the pauses grow with the time that is over.
_PAUSE = 2.0
_EVEN = 20.0
# Seconds between two pictures of a bar, and its length.
_REFRESH = 0.2
_LENGTH = 24
_ERASE = "\x1b[K\r"
_current: ContextVar[tuple] = ContextVar("progress", default=())
_asked: set[bool] = set()


def advance(amount):
    """Report work that is done, in any unit."""
    for one in _current.get():
        one.advance(amount)


@contextmanager
def reported_to(receiver):
    """Send what is reported within to a receiver with a method ``advance``."""
    token = _current.set((*_current.get(), receiver))
    try:
        yield receiver
    finally:
        _current.reset(token)


class Count:
    """Receiver that adds up."""

    def __init__(self):
        self.total = 0

    def advance(self, amount):
        """Add an amount."""
        self.total += amount


class Meter:
    """Receiver that says how much is done and how much time is left, if the work lasts longer than two seconds.

    Parameters
    ----------
    name : str
        What the lines begin with.
    total : float or None
        All of the work; None: not known, lines say what is done.
    work : str, default="the kernels"
        What it is that so many percent are done of.
    verbose : int, default=1
        Whether to write on standard error, beside the log.
    """

    def __init__(self, name: str, total: float | None, work: str = "the kernels", verbose: int = 1):
        self.name, self.total, self.work, self.verbose, self.done = name, total, work, verbose, 0.0
        ask(verbose)
        self.start = self.last_line = self.last_bar = time.monotonic()
        self.was_shown = False

    def advance(self, amount):
        """Add an amount."""
        self.reach(self.done + amount)

    def reach(self, done: float, note: str = "") -> None:
        """Set the amount that is done; a note stands at the end of the line."""
        self.done = done
        now = time.monotonic()
        elapsed = now - self.start
        if not done or elapsed < _PAUSE or not (self.verbose or logger.isEnabledFor(logging.INFO)):
            return
        line = now - self.last_line >= _PAUSE * max(1.0, elapsed / _EVEN)
        drawn = now - self.last_bar >= _REFRESH and _has_bar(self.verbose)
        if line or drawn:
            part, text = self._state(elapsed, note)
            if drawn:
                self.last_bar, self.was_shown = now, True
                _draw(self.name, part, text)
            if line:
                self.last_line, self.was_shown = now, True
                say(f"{self.name}: {text}", self.verbose, is_progress=True)
        if self.was_shown and self.total is not None and done >= self.total:
            clear()

    def _state(self, elapsed, note):
        if self.total is None:
            return None, f"{self.work}: {self.done:.0f}, {duration(elapsed)} so far{note}"
        part = min(self.done / self.total, 1.0)
        return part, f"{part:.0%} of {self.work}, {duration(elapsed * (1.0 - part) / part)} left{note}"


def say(text: str, verbose: int = 0, level: int = logging.INFO, is_progress: bool = False) -> None:
    """Write a line to the log ``eqkernels``, and if it is asked for, on standard error, but not twice there.

    Parameters
    ----------
    text : str
    verbose : int, default=0
    level : int, default=logging.INFO
    is_progress : bool, default=False
        Whether a bar says the same.
    """
    logger.log(level, "%s", text, extra={"is_progress": is_progress})
    if verbose and not (is_progress and _has_bar(verbose)) and not _is_written_by_logger(level):
        clear()
        print(text, file=sys.stderr, flush=True)


def ask(verbose) -> None:
    """Note that somebody wants to see what happens."""
    if verbose:
        _asked.add(True)


def say_compiling() -> None:
    """Say that loops are being compiled, once in a process."""
    _say_compiling(bool(_asked))


@cache
def _say_compiling(verbose):
    say("eqkernels: compiling loops, once for this installation; first calls take up to a minute", verbose)


listeners.append(say_compiling)


def clear() -> None:
    """Erase the bar, if there may be one, before something else is written."""
    if sys.stderr.isatty():
        sys.stderr.write(_ERASE)


class LineHandler(logging.StreamHandler):
    """Handler that writes the lines of the log on standard error; on a terminal a bar stands for those of progress."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(message)s"))

    @property
    def stream(self):
        """Standard error of now, not that of the beginning."""
        return sys.stderr

    def emit(self, record):
        """Write a line."""
        if not (getattr(record, "is_progress", False) and _has_bar(1)):
            clear()
            super().emit(record)


def duration(seconds):
    """Duration in words."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10.0 else f"{seconds:.2g} s"


def _draw(name, part, text):
    filled = round(_LENGTH * (part or 0.0))
    bar = "" if part is None else f"[{'=' * filled}{' ' * (_LENGTH - filled)}] "
    line = f"{name}: {bar}{text}"[: shutil.get_terminal_size().columns - 1]
    sys.stderr.write(f"{line}{_ERASE}")
    sys.stderr.flush()


def _has_bar(verbose):
    """Whether a bar is drawn: on a terminal to which no log is written, or that of the command line."""
    if not sys.stderr.isatty():
        return False
    if any(isinstance(one, LineHandler) for one in logger.handlers):
        return True
    return bool(verbose) and not _is_written_by_logger(logging.INFO)


def _is_written_by_logger(level):
    """Whether what is logged appears on standard error anyway."""
    one: logging.Logger | None = logger
    if not logger.isEnabledFor(level):
        return False
    while one is not None:
        if any(isinstance(each, logging.StreamHandler) and each.stream in (sys.stderr, sys.__stderr__)
               and level >= each.level for each in one.handlers):  # fmt: skip
            return True
        one = one.parent if one.propagate else None
    return False
