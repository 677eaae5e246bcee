"""Compilation of the loops: numba's, with a cache that may fail, and that knows all files that are compiled together.

Compiled loops are kept on disk for the next process. Where that cannot be (nothing is writable, the disk is full, a
file is damaged), they are compiled anew: results are the same, and a warning says so once in a process.

numba takes what it kept for current as long as the file of the function is the same. But functions and constants from
other files are compiled into it. So the stamp of a function is a hash of its file and of all files of the package that
it imports, directly or not.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

from eqkernels._warnings import warn

_IMPORT = re.compile(rf"^\s*from ({__package__}[\w.]*) import", re.MULTILINE)
# Called where compiled code is not there yet; a list, so that this module imports nothing that is often edited.
listeners: list[Callable[[], None]] = []
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

    def __init__(self, function):
        super().__init__(function)
        # no public way: numba reads what was kept only if its stamp is that of this file
        self._cache_file._source_stamp = (self._cache_file._source_stamp, _stamp(function.__code__.co_filename))

    def load_overload(self, sig, target_context):
        found = None
        try:
            found = super().load_overload(sig, target_context)
        except OSError as error:
            _warn(error)
        except Exception:  # a damaged file raises anything; an empty index makes way for a new one
            with contextlib.suppress(OSError):
                self.flush()
        if found is None:
            for listener in listeners:
                listener()
        return found

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self.disable()
            _warn(error)


@lru_cache(maxsize=256)
def _stamp(file):
    """Hash of a source file and of all files of the package that it imports."""
    digest, pending, seen = hashlib.sha256(), [file], set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        with contextlib.suppress(OSError):
            text = Path(path).read_bytes()
            digest.update(hashlib.sha256(text).digest())
            pending += sorted(map(_file_of, set(_IMPORT.findall(text.decode(errors="replace")))))
    return digest.hexdigest()


def _file_of(module):
    """Path of a module of the package, which need not be imported yet."""
    path = Path(__file__).parent.joinpath(*module.split(".")[1:])
    return str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def _warn(error):
    if os.getpid() in _warned:
        return
    _warned.add(os.getpid())
    warn(
        f"compiled loops cannot be kept for later processes, each of which will compile them again ({error}): set the "
        "environment variable NUMBA_CACHE_DIR to a directory that can be written and has some 20 MB free",
        RuntimeWarning,
    )
