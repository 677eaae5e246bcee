"""Ranges of atoms: worked on at once, so that memory is bounded and threads share the work, or summed by structure."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import csr_array

from eqkernels._types import Floats, Ints


def over_ranges(n, size, work, n_jobs=None):
    """Call ``work(a, b)`` for ranges a .. b - 1 of n things, possibly from several threads."""
    ranges = [(start, min(start + size, n)) for start in range(0, n, size)]
    n_threads = min(len(ranges), 1 if n_jobs == 1 else effective_n_jobs(n_jobs))
    remaining = iter(ranges)

    def run():
        for a, b in remaining:  # each thread takes the next one when it is done
            work(a, b)

    if n_threads < 2:
        run()
        return
    # joblib says how many threads there may be; those of its own take ten milliseconds to start. The calling thread
    # works too, to avoid a wake-up delay.
    with ThreadPoolExecutor(n_threads - 1) as executor:
        others = [executor.submit(run) for _ in range(n_threads - 1)]
        run()
        for other in others:
            other.result()  # raises what it raised


def structure_blocks(offsets, size):
    """Ranges (start, stop) of whole structures with at most ``size`` atoms, or a single larger structure."""
    start, n_structures = 0, len(offsets) - 1
    while start < n_structures:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1)
        yield start, stop
        start = stop


def aggregate_rows(rows: Floats, offsets: Ints, aggregate: str | None) -> Floats:
    """Sum or average rows (n_centers, ...) over the centers of each structure; unchanged for None."""
    if aggregate is None:
        return rows
    # scipy adds whole rows, many times faster than numpy.add.reduceat
    ones = np.ones(len(rows), dtype=rows.dtype)
    membership = csr_array((ones, np.arange(len(rows)), offsets), shape=(len(offsets) - 1, len(rows)))
    sums = membership @ rows.reshape(len(rows), math.prod(rows.shape[1:]))
    sums = sums.reshape(len(offsets) - 1, *rows.shape[1:])
    if aggregate == "mean":
        sums /= np.maximum(np.diff(offsets), 1).reshape(-1, *[1] * (rows.ndim - 1))
    return sums
