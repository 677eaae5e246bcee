import os
import signal
import time

import joblib
import numpy as np
import pytest

from eqkernels.regression.sparse.map_reduce import map_reduce, map_reduce_on_cluster


class Brackets:
    def __call__(self, part):
        return f"({part})"

    def merge(self, left, right):
        return f"[{left}{right}]"


class SlowSum:
    def __call__(self, part):
        time.sleep(0.05)
        return part.sum(keepdims=True)

    def merge(self, left, right):
        return left + right


class Broken(Brackets):
    def __call__(self, part):
        raise ZeroDivisionError(f"part {part}")


def test_tree_does_not_depend_on_who_does_the_work():
    expected = "[[[(0)(1)][(2)(3)]][[(4)(5)](6)]]"
    seen = []
    assert map_reduce(Brackets(), lambda k: k, 7, progress=seen.append) == expected
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    for backend in ("threading", "loky"):
        with joblib.parallel_config(backend):
            assert map_reduce(Brackets(), lambda k: k, 7, n_jobs=2) == expected


def test_cluster_builds_the_same_tree(cluster):
    assert map_reduce_on_cluster(cluster, Brackets(), str, 7) == "[[[(0)(1)][(2)(3)]][[(4)(5)](6)]]"
    with pytest.raises(ZeroDivisionError):
        map_reduce_on_cluster(cluster, Broken(), str, 3)


def test_what_a_worker_had_is_made_again(cluster):
    asked = []

    def part(k):
        if k == 8 and asked.count(8) == 0:
            os.kill(next(iter(cluster.run(os.getpid).values())), signal.SIGKILL)
        asked.append(k)
        return np.full(10, float(k))

    assert map_reduce_on_cluster(cluster, SlowSum(), part, 12)[0] == 10 * sum(range(12))
    assert sorted(set(asked)) == list(range(12))
