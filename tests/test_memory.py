"""Memory that is used again costs no page faults."""

import os
import platform
import subprocess
import sys

import pytest

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
