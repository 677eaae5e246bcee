"""The same fold over parts of a data set, by threads, processes or a cluster.

Part k becomes a small result (the map), results are merged pairwise in a fixed binary tree (the reduction), so that the
outcome does not depend on who did the work, nor on the order in which it was done.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

# Parts handed to a cluster ahead of their turn, for each of its threads; this bounds the data in flight.
_PARTS_AHEAD = 2
# How often the same result may get lost with its worker before we give up.
_MAX_LOSSES = 5
# Seconds that the scheduler is given to notice that a worker is gone.
_PAUSE = 0.5


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
    tree = _Tree(job.merge)
    # BLAS with one thread gives the same bits whatever n_jobs; the outer limit holds while several threads set theirs
    with threadpool_limits(1):
        for k, result in enumerate(Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(tasks)):
            tree.add(result)
            if progress is not None:
                progress(k + 1)
        return tree.root()


def _single_threaded(function, *arguments):
    with threadpool_limits(1):
        return function(*arguments)


def _merge(job, left, right):
    return _single_threaded(job.merge, left, right)


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


def map_reduce_on_cluster(client, job, part, n_parts, progress=None):
    """Fold all parts and merge the results on the workers of a ``dask.distributed`` cluster.

    Every part is sent to a worker once, a few ahead; results stay and are merged on the workers; only the last one
    comes back. What gets lost with a worker is computed again from its parts, which ``part`` is then asked for again.

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
    RuntimeError
        If workers are lost again and again.
    """
    return _ClusterTree(client, job, part, progress).result(n_parts)


class _ClusterTree:
    """Results on the workers by their spans (first part, last part + 1), and how to make those again that get lost."""

    def __init__(self, client, job, part, progress):
        self.client, self.job, self.part, self.progress = client, job, part, progress
        self.shared = self._send(job, broadcast=True)
        self.futures = {}
        self.children = {}
        self.finished = set()
        self.ahead = threading.BoundedSemaphore(_PARTS_AHEAD * max(1, sum(client.nthreads().values())))

    def result(self, n_parts):
        tree = _Tree(self._join)
        for k in range(n_parts):
            self._ensure((k, k + 1))
            tree.add((k, k + 1))
        root = tree.root()
        for _ in range(_MAX_LOSSES):
            try:
                self._ensure(root)
                return self.futures[root].result()
            except CancelledError:
                if self.shared.status != "finished":
                    self.shared = self._send(self.job, broadcast=True)
        raise RuntimeError(
            f"results were lost with their workers {_MAX_LOSSES} times: look into the logs of the workers, which may "
            "have been killed for their memory"
        )

    def _send(self, data, **options):
        for attempt in range(_MAX_LOSSES):
            try:
                return self.client.scatter(data, hash=False, **options)
            except OSError:  # the worker that it was meant for is gone
                if attempt == _MAX_LOSSES - 1:
                    raise
                time.sleep(_PAUSE)
        return None

    def _join(self, left, right):
        span = left[0], right[1]
        self.children[span] = left, right
        self._ensure(span)
        return span

    def _ensure(self, span):
        """Have the result of a span there or on its way."""
        future = self.futures.get(span)
        if future is not None and future.status in ("pending", "finished"):
            return
        if future is not None and future.status == "error":
            future.result()
        self.futures[span] = self._merged(span) if span in self.children else self._folded(span)

    def _merged(self, span):
        parts = self.children[span]
        for part in parts:
            self._ensure(part)
        left, right = (self.futures[part] for part in parts)
        future = self.client.submit(_merge, self.shared, left, right, pure=False)

        def done(future):
            if future.status == "finished":  # else they may serve to make it again
                for part in parts:
                    self.futures.pop(part, None)

        future.add_done_callback(done)
        return future

    def _folded(self, span):
        self.ahead.acquire()
        data = [self._send(self.part(span[0]))]
        future = self.client.submit(_single_threaded, self.shared, data[0], pure=False)

        def done(future):
            data.clear()  # from now on nobody but us has the part
            self.ahead.release()
            if future.status == "finished" and span not in self.finished:
                self.finished.add(span)
                if self.progress is not None:
                    self.progress(len(self.finished))

        future.add_done_callback(done)
        return future
