"""Memory that is used again costs no page faults."""

import mmap
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from eqkernels import _memory

CODE = """
import resource
import numpy as np
from ase.build import bulk
from eqkernels import SOAP
frames = [bulk("Cu", cubic=True) * (5, 5, 5)]
soap = SOAP(cutoff=4.0, n_max=10, l_max=6).fit(frames)
print(soap.transform(frames).nbytes)
def faults():
    others = [np.ones(250_000) for _ in range(8)]  # what else a program does
    del others
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    soap.transform(frames)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the C library of Linux")
def test_repeated_calls_touch_no_new_memory():
    # without settings of the C library, such as those that dask leaves to the processes that follow
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    n_bytes, faults = map(int, run.stdout.split())
    assert n_bytes > 1_500_000
    assert faults < 0.1 * n_bytes / 4096


def large(value, rows=5000):
    array = _memory.empty((rows, 1000), "float64")
    array[...] = value
    return array


needs_idle_memory = pytest.mark.skipif(not hasattr(mmap, "MADV_FREE"), reason="memory cannot be declared free here")


@needs_idle_memory
def test_large_arrays_take_the_place_of_earlier_ones():
    first = large(1.0)
    address, view = first.ctypes.data, first[3:, ::2]
    del first
    second = large(2.0)
    assert second.ctypes.data != address  # the view needs the memory yet
    np.testing.assert_array_equal(view, 1.0)
    del view
    third = _memory.zeros((4900, 1000))  # smaller, and used before
    assert third.ctypes.data == address
    np.testing.assert_array_equal(third, 0.0)
    np.testing.assert_array_equal(second, 2.0)
    assert third.flags.c_contiguous
    assert third.flags.writeable


@needs_idle_memory
def test_idle_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(_memory, "machine_memory", lambda: 8 * 100e6)
    arrays = [large(k, rows) for k, rows in enumerate((5000, 8000, 12000, 6000))]
    del arrays
    assert 0 < sum(map(len, _memory._idle)) <= 100e6
    before = sum(map(len, _memory._idle))
    kept = large(1.0, rows=13000)  # fits none: as much that is idle makes way
    assert sum(map(len, _memory._idle)) <= max(0, before - kept.nbytes)


def test_arrays_that_no_machine_has():
    with pytest.raises(MemoryError, match="Unable to allocate"):
        _memory.empty((10**7, 10**7), "float64")


def test_small_arrays_are_those_of_numpy():
    assert _memory.empty((10, 3), "float32").base is None
    np.testing.assert_array_equal(_memory.zeros((10, 3)), np.zeros((10, 3)))
