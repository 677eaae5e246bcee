"""How far long work is: reported every few seconds to those who asked, of whom the work itself knows nothing."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar

# Seconds between two lines.
_PAUSE = 2.0
_current: ContextVar[tuple] = ContextVar("progress", default=())


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


class Lines:
    """Receiver that writes a line with the time left on standard error every two seconds.

    Parameters
    ----------
    name : str
        What the lines begin with.
    total : float
        All of the work.
    work : str, default="the kernels"
        What it is that so many percent are done of.
    """

    def __init__(self, name: str, total: float, work: str = "the kernels"):
        self.name, self.total, self.work, self.done = name, total, work, 0.0
        self.start = self.last = time.monotonic()

    def advance(self, amount):
        """Add an amount."""
        self.reach(self.done + amount)

    def reach(self, done: float, note: str = "") -> None:
        """Set the amount that is done; a note stands at the end of the line."""
        self.done = done
        now = time.monotonic()
        if not done or now - self.last < _PAUSE:
            return
        self.last = now
        part = min(self.done / self.total, 1.0)
        left = (now - self.start) * (1.0 - part) / part
        print(f"{self.name}: {part:.0%} of {self.work}, {duration(left)} left{note}", file=sys.stderr, flush=True)


def duration(seconds):
    """Duration in words."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2g} s"
