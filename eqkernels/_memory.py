"""Freed arrays are kept for the next ones, for the first touch of new memory can cost more than the arithmetic.

The C library of Linux returns large freed arrays to the system. How large, it learns from the program: an array of up
to 32 MiB that is freed raises the limit to its size, and twice as much free memory is kept (M_MMAP_THRESHOLD and
M_TRIM_THRESHOLD in mallopt(3)).
"""

from functools import lru_cache

import numpy as np

# A little less than the largest array that it learns from.
_LEARNED_FROM = 2**25 - 2**16


@lru_cache(maxsize=1)
def keep_freed_memory():
    """Free an array of 32 MiB, which is never touched; once in a process."""
    np.empty(_LEARNED_FROM, dtype=np.uint8)
