"""Memory that this process may use, and a refusal of what needs more before the machine starts to swap."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

_CGROUPS = Path("/sys/fs/cgroup")


def memory_limit():
    """Bytes that this process may use: the smallest of the machine, its control groups and its own limit (ulimit -v).

    Returns
    -------
    float
        Infinity where nothing is known.
    """
    return min(_machine_memory(), _cgroup_limit(), _own_limit())


def check_memory(needed, what, remedy):
    """Raise a MemoryError if some bytes are more than this process may use."""
    limit = memory_limit()
    if needed > 0.9 * limit:
        raise MemoryError(
            f"{what} would take {needed / 2**30:.1f} GiB, this process may use {limit / 2**30:.1f} GiB: {remedy}"
        )


def peak_memory():
    """Bytes that this process has used at most so far; 0 where it is not known."""
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


@lru_cache(maxsize=1)
def _machine_memory():
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return np.inf


def _own_limit():
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return np.inf if limit == resource.RLIM_INFINITY else float(limit)
    return np.inf


@lru_cache(maxsize=1)
def _cgroup_limit():
    """Smallest limit of the control groups that hold this process, as containers and batch systems set them."""
    limits = [np.inf]
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory") and "memory" not in controllers.split(","):
                continue
            # the second version has one tree, the first one a tree for each controller
            root, name = (_CGROUPS, "memory.max") if not controllers else (_CGROUPS / "memory", "memory.limit_in_bytes")
            group = root / path.strip("/")
            for folder in (group, *group.parents):  # in a container, only the root may be seen
                with contextlib.suppress(OSError, ValueError):  # a file that says "max" sets no limit
                    limits.append(float((folder / name).read_text(encoding="ascii")))
                if folder == root:
                    break
    return min(limits)
