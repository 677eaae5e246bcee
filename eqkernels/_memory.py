"""Freed arrays are kept for the next ones, for the first touch of new memory can cost more than the arithmetic.

The C library of Linux returns large freed arrays to the system. How large, it learns from the program: an array of up
to 32 MiB that is freed raises the limit to its size, and twice as much free memory is kept (M_MMAP_THRESHOLD and
M_TRIM_THRESHOLD in mallopt(3)). Larger arrays are mapped here. While none of them uses it, such memory is declared
free to the system, which takes it when it needs it (MADV_FREE in madvise(2)), and else finds it in place.
"""

import contextlib
import math
import mmap
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

# A little less than the largest array that the C library learns from.
_LEARNED_FROM = 2**25 - 2**16
# Idle memory is at most this part of the machine's.
_IDLE_PART = 1 / 8
# Sizes are rounded up to steps of a power of two over this: arrays of nearly the same size use the same memory.
_STEPS = 8

_idle: list[mmap.mmap] = []


@lru_cache(maxsize=1)
def keep_freed_memory():
    """Free an array of 32 MiB, which is never touched; once in a process."""
    np.empty(_LEARNED_FROM, dtype=np.uint8)


def machine_memory():
    """Bytes of memory of the machine or of the container, infinity where neither tells."""
    try:
        return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _container_memory())
    except (AttributeError, ValueError, OSError):
        return _container_memory()


@lru_cache(maxsize=1)
def _container_memory():
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # the second and the first version of cgroups
        with contextlib.suppress(OSError, ValueError):  # a file that says "max" sets no limit
            return float(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
    return np.inf


def empty(shape, dtype):
    """Make an array as numpy.empty does, where it is large in memory that an earlier one left."""
    return _array(shape, np.dtype(dtype))[0]


def zeros(shape, dtype=np.float64):
    """Make an array as numpy.zeros does, where it is large in memory that an earlier one left."""
    array, is_zero = _array(shape, np.dtype(dtype))
    if not is_zero:
        array[...] = 0
    return array


def _array(shape, dtype):
    """Make a new array, and say whether it is known to be zero."""
    size = dtype.itemsize * math.prod(map(int, shape))
    if size <= _LEARNED_FROM or not hasattr(mmap, "MADV_FREE") or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(shape, dtype), False
    region = _idle_region(size)
    if region is not None:
        return np.asarray(_Lease(region, shape, dtype)), False
    try:
        return np.asarray(_Lease(_new_region(size), shape, dtype)), True
    except OSError:
        return np.empty(shape, dtype), False  # says how much memory it could not get


class _Lease:
    """What an array stands on; when the array and its views are gone, the memory is idle."""

    def __init__(self, region, shape, dtype):
        self._region = region
        address = np.frombuffer(region, dtype=np.uint8).__array_interface__["data"][0]
        self.__array_interface__ = {
            "version": 3, "shape": tuple(map(int, shape)), "typestr": dtype.str, "data": (address, False)
        }  # fmt: skip

    def __del__(self):
        try:
            self._region.madvise(mmap.MADV_FREE)
        except OSError:  # an old system: the memory is returned at once
            return
        _idle.append(self._region)
        _return_idle(_IDLE_PART * machine_memory())


def _idle_region(size):
    """Take the smallest idle memory that is large enough, or None."""
    for region in sorted(list(_idle), key=len):
        with contextlib.suppress(ValueError):  # another thread was faster
            if len(region) >= size:
                _idle.remove(region)
                return region
    return None


def _new_region(size):
    """Map new memory, in the place of as much that is idle: idle memory adds nothing to the peak of a program."""
    step = 2 ** (size.bit_length() - 1) // _STEPS
    region = mmap.mmap(-1, -(-size // step) * step, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region.madvise(mmap.MADV_HUGEPAGE)
    _return_idle(_idle_bytes() - len(region))
    return region


def _idle_bytes():
    return sum(map(len, list(_idle)))


def _return_idle(most):
    """Return idle memory to the system, the oldest first, until no more than ``most`` bytes are idle."""
    while _idle and _idle_bytes() > most:
        with contextlib.suppress(IndexError):  # another thread was faster
            _idle.pop(0)
