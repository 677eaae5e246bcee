"""The same fold over parts of a data set, by threads, processes or a cluster.

Part k becomes a small result (the map), results are merged pairwise in a fixed binary tree (the reduction), so that the
outcome does not depend on who did the work, nor on the order in which it was done.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

# Groups of parts on a cluster, each at least one part for each of its threads: while one is awaited, the next is there.
_GROUPS_AHEAD = 2


def map_reduce(job, part, n_parts, n_jobs=None, progress=None):
    """Fold all parts and merge the results, through joblib.

    Parameters
    ----------
    job : object
        ``job(part)`` is the result of a part, ``job.merge(left, right)`` that of two results, which it does not change.
        For another backend than threads it must be possible to pickle it.
    part : callable
        The part of an index, made in this process.
    n_parts : int
    n_jobs : int, optional
        As in joblib, whose ``parallel_config`` chooses the backend; threads without it.
    progress : callable, optional
        Called with the number of parts that are done.

    Returns
    -------
    object
        The result of all parts.
    """
    tasks = (delayed(_single_threaded)(job, part(k)) for k in range(n_parts))
    # BLAS with one thread gives the same bits whatever n_jobs; the outer limit holds while several threads set theirs
    with threadpool_limits(1):
        results = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(tasks)
        return _merged(job, zip(range(1, n_parts + 1), results, strict=True), progress)


def map_reduce_on_cluster(client, job, part, n_parts, progress=None):
    """Fold all parts and merge the results on the workers of a ``dask.distributed`` cluster.

    Parts are submitted in groups of as many as the cluster has threads, rounded up to a power of two. Those of a group
    are folded and merged by its workers, and the result comes back; this process merges these. Tasks hold their parts,
    so that Dask repeats those whose results are lost with a worker. Once a group is done, its parts are forgotten:
    neither this process nor the scheduler holds the data of more than two groups.

    Parameters
    ----------
    client : distributed.Client
    job, part, n_parts, progress
        As for :func:`map_reduce`.

    Returns
    -------
    object
        The result of all parts.

    Raises
    ------
    distributed.KilledWorker
        If the same task is lost with its worker again and again.
    """
    import dask

    with threadpool_limits(1), dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"}):
        return _merged(job, _results_of_groups(client, job, part, n_parts), progress)


def _results_of_groups(client, job, part, n_parts):
    """Yield the number of parts that are done and the result of those that are new."""
    size = 2 ** (max(1, sum(client.nthreads().values())) - 1).bit_length()
    shared = client.submit(_identity, job, pure=False)
    groups: deque = deque()
    for start in range(0, n_parts, size):
        stop = min(start + size, n_parts)
        tree = _Tree(partial(client.submit, _merge, shared, pure=False))
        for k in range(start, stop):
            tree.add(client.submit(_single_threaded, shared, part(k), pure=False))
        groups.append((stop, tree.root()))
        if len(groups) == _GROUPS_AHEAD:
            done, future = groups.popleft()
            yield done, future.result()
    for done, future in groups:
        yield done, future.result()


def _merged(job, results, progress):
    tree = _Tree(job.merge)
    for done, result in results:
        tree.add(result)
        if progress is not None:
            progress(done)
    return tree.root()


def _single_threaded(function, *arguments):
    with threadpool_limits(1):
        return function(*arguments)


def _merge(job, left, right):
    return _single_threaded(job.merge, left, right)


def _identity(job):
    return job


class _Tree:
    """Binary counter of results: equal numbers of parts are merged as soon as they meet."""

    def __init__(self, merge):
        self.merge = merge
        self.stack = []

    def add(self, result):
        count = 1
        while self.stack and self.stack[-1][0] == count:
            result = self.merge(self.stack.pop()[1], result)
            count *= 2
        self.stack.append((count, result))

    def root(self):
        result = self.stack.pop()[1]
        while self.stack:
            result = self.merge(self.stack.pop()[1], result)
        return result
