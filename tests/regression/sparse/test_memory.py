"""A sparse fit keeps to the memory that it is given, or says before the work that it cannot."""

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from eqkernels import LambdaSOAP, SparseTensorGPR

CODE = """
import sys
import numpy as np
from ase import Atoms
from eqkernels import LambdaSOAP, SparseTensorGPR
def peak():
    return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0] / 2**20
random, frames = np.random.default_rng(0), []
grid = np.stack(np.meshgrid(*[[0, 1.5, 3.0]] * 3), axis=-1).reshape(-1, 3)[:12]
for k in range(40):
    numbers = random.permutation([1, 6, 7, 8, 9, 15, 16, 17, 1, 1, 6, 8])
    frames.append(Atoms(numbers=numbers, positions=grid + 0.1 * random.normal(size=grid.shape)))
y = random.normal(size=(40, 3))
features = LambdaSOAP(cutoff=4.0, n_max=6, l_max=4, irreps="0e+1o+2e")
def fit(n, memory):
    SparseTensorGPR(60, descriptor=features, memory=memory, noise=1e-2).fit(frames[:n], y[:n])
fit(6, 0.01)
before = peak()
fit(40, float(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
def test_peak_memory():
    # the features of all environments take 0.4 GiB, those of the sparse points 0.05 GiB
    run = subprocess.run([sys.executable, "-c", CODE, "0.2"], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 0.2 + 0.05


def molecules(n_atoms):
    random = np.random.default_rng(0)
    positions = 1.5 * np.arange(n_atoms)[:, None] * [1.0, 0, 0] + 0.1 * random.normal(size=(2, n_atoms, 3))
    return [Atoms(numbers=np.resize([1, 6, 7, 8, 9, 15, 16, 17], n_atoms), positions=one) for one in positions]


def test_what_cannot_fit_is_refused_before_the_work():
    features = LambdaSOAP(n_max=6, l_max=4, irreps="0e+0o", max_pseudoscalars=None)
    with pytest.raises(
        MemoryError, match=r"0o: 415,904 features x 960 atoms of the largest structure = 3\.2 GB.*n_max"
    ):
        SparseTensorGPR(10, descriptor=features).fit(molecules(960), [1.0, 2.0])
    features = LambdaSOAP(n_max=6, l_max=4, irreps="0e+1o")
    with pytest.raises(MemoryError, match=r"1o: .* of 3 components x 400 sparse points = .*n_points, or memory="):
        SparseTensorGPR(400, descriptor=features, memory=0.1).fit(molecules(200), np.eye(3)[:2])


def test_more_memory_than_there_is_numbers():
    frames = molecules(8)
    model = SparseTensorGPR(8, noise=1e-3, descriptor=LambdaSOAP(n_max=2, l_max=1), random_state=0)
    usual, most = (model.set_params(memory=one).fit(frames, [1.0, 2.0]).predict(frames) for one in (1.0, 1e308))
    np.testing.assert_array_equal(most, usual)
