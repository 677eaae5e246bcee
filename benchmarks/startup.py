"""What a fresh process costs: the import, and the first fit with a cold and with a warm numba cache.

    python benchmarks/startup.py

CPU seconds of whole processes, the median of several.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

BASE = "import sklearn.base, ase, numba"
IMPORT = "import eqkernels"
FIRST_FIT = """
from ase.build import molecule
from sklearn.pipeline import make_pipeline
from eqkernels import LambdaSOAP, TensorKernelRidge
frames = [molecule("H2O"), molecule("NH3")]
make_pipeline(LambdaSOAP(), TensorKernelRidge()).fit(frames, [[0, 0, 1.0], [0, 0, 2.0]]).predict(frames)
"""


def seconds(code, cache, repeats):
    """Median of CPU and wall seconds of ``python -c code``."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "OPENBLAS_NUM_THREADS": "1"}
    cpu, wall = [], []
    for _ in range(repeats):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        after = os.times()
        wall.append(time.perf_counter() - start)
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(cpu), statistics.median(wall)


def main():
    with tempfile.TemporaryDirectory() as cache:
        cold = seconds(FIRST_FIT, cache, 1)
        warm = seconds(FIRST_FIT, cache, 5)
        base, ours = seconds(BASE, cache, 7), seconds(IMPORT, cache, 7)
    rows = {BASE: base, IMPORT: ours, "first fit, cold cache": cold, "first fit, warm cache": warm}
    for name, (cpu, wall) in rows.items():
        print(f"{name:34s} {cpu:6.2f} s CPU {wall:6.2f} s wall")


if __name__ == "__main__":
    main()
