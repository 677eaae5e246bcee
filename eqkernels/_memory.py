"""Freed arrays are kept for the next ones, for the first touch of new memory can cost more than the arithmetic.

The C library of Linux returns large freed arrays to the system. How large, it learns from the program: an array of up
to 32 MiB that was mapped on its own and is freed raises the limit to its size, and twice as much free memory is kept
(M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in mallopt(3)).
"""

import mmap
from functools import lru_cache

import numpy as np

# A little less than the largest array that it learns from.
_LEARNED_FROM = 2**25 - 2**16
# Memory that was freed before, by a compiler for instance, may have room for some arrays: these are not mapped.
_MOST_ARRAYS = 32
# A mapped array begins behind this many bytes of its first page.
_HEADER = 16


@lru_cache(maxsize=1)
def keep_freed_memory():
    """Free an array of 32 MiB that was mapped on its own, which is never touched; once in a process."""
    arrays = []
    while len(arrays) < _MOST_ARRAYS:
        arrays.append(np.empty(_LEARNED_FROM, dtype=np.uint8))
        if arrays[-1].__array_interface__["data"][0] % mmap.PAGESIZE == _HEADER:
            return
