"""Compilation of the loops: numba's, with a cache that may fail.

Compiled loops are kept on disk for the next process. Where that cannot be (nothing is writable, the disk is full, a
file is damaged), they are compiled anew: results are the same, and a warning says so once in a process.
"""

import contextlib
import os

import numba
from numba.core.caching import FunctionCache

from eqkernels._warnings import warn

_warned: set[int] = set()  # processes: a forked one warns by itself


def njit(**options):
    """Compile a function as ``numba.njit(cache=True, **options)`` does, and without a cache where there can be none.

    Parameters
    ----------
    **options
        Those of :func:`numba.njit`.

    Returns
    -------
    callable
        Decorator of a function.
    """

    def decorate(function):
        compiled = numba.njit(**options)(function)
        if compiled is function:  # NUMBA_DISABLE_JIT
            return function
        try:
            compiled._cache = _Cache(function)
        except (RuntimeError, OSError) as error:  # no place is writable
            _warn(error)
        return compiled

    return decorate


class _Cache(FunctionCache):
    """The cache of a function, of which no failure reaches the user."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except OSError as error:
            _warn(error)
        except Exception:  # a damaged file raises anything; an empty index makes way for a new one
            with contextlib.suppress(OSError):
                self.flush()
        return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self.disable()
            _warn(error)


def _warn(error):
    if os.getpid() in _warned:
        return
    _warned.add(os.getpid())
    warn(
        f"compiled loops cannot be kept for later processes, each of which will compile them again ({error}): set the "
        "environment variable NUMBA_CACHE_DIR to a directory that can be written and has some 20 MB of room",
        RuntimeWarning,
    )
