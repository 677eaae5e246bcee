import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from numba import njit

from eqkernels import _vectors as vectors

# Called from compiled code here, and from Python in a process of its own, where they are numpy operations.
PROGRAM = """
import numpy as np
from eqkernels._vectors import *


def everything(a, b, out, count):
    x, y, z = memory(a), memory(b), memory(out)
    width = lanes(x)
    u, v = load(x, 1), load_first(y, 3, count)
    store(z, 0, add_product(u, element(y, 2), v))
    store_first(z, width, fused(u, v, scaled(element(x, 5), u)), count)
    store_between(z, 2 * width, times(u, divided(u, filled(y, 3.0))), -1, count)
    store_between(z, 3 * width, zero(x), 1, 2)
    bits = lanes_below(u, 0.1, count)
    if bits != 0:
        out[-3], out[-2] = bits, lowest(bits)
    keep(a)
    out[-1] = dot(u, v) + width


def arrays(dtype):
    random = np.random.default_rng(0)
    return random.normal(size=40).astype(dtype), random.normal(size=40).astype(dtype), np.full(80, 7, dtype)
"""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_plain_operations_do_the_same(dtype):
    scope = {}
    exec(compile(PROGRAM, "vectors", "exec"), scope)
    compiled, (a, b, out) = njit(scope["everything"]), scope["arrays"](dtype)
    script = PROGRAM + textwrap.dedent(f"""
        for count in (-3, 0, 1, 5, 8, 20):
            a, b, out = arrays("{dtype}")
            everything(a, b, out, count)
            print(*(repr(float(one)) for one in out))
    """)
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    plain = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("\n")
    tolerance = 1e-14 if dtype == "float64" else 1e-5
    for line, count in zip(plain, (-3, 0, 1, 5, 8, 20), strict=False):
        a, b, out = scope["arrays"](dtype)
        compiled(a, b, out, count)
        np.testing.assert_allclose(out, np.array(line.split(), dtype=float), atol=tolerance)


def test_vectors_are_of_64_bytes():
    @njit
    def count(array):
        return vectors.lanes(vectors.memory(array))

    assert count(np.zeros(1)) == 8
    assert count(np.zeros(1, np.float32)) == 16
