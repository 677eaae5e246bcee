"""The memory that a process may use: of the machine, its control groups, its own limit."""

import subprocess
import sys

import numpy as np
import pytest

from eqkernels import _memory

CODE = """
from ase.build import bulk
from eqkernels import SOAP
SOAP(cutoff=4.0, n_max=4, l_max=2).fit_transform([bulk("Cu")])
from eqkernels._memory import check_memory
try:
    check_memory(4e9, "this", "less")
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no ulimit")
def test_the_limit_of_the_shell_counts():
    run = subprocess.run(
        ["bash", "-c", f"ulimit -v 4000000 && exec {sys.executable} -c '{CODE}'"], capture_output=True, text=True
    )
    assert run.stdout.strip() == "this would take 3.7 GiB, this process may use 3.8 GiB: less", run.stderr


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/slurm/job/step", {"slurm/job/memory.max": "5000", "slurm/memory.max": "max", "memory.max": "9000"}, 5000),
        ("0::/unseen/from/inside", {"memory.max": "7000"}, 7000),
        ("4:cpu,memory:/job\n3:cpu:/", {"memory/job/memory.limit_in_bytes": "300"}, 300),
        ("3:cpu:/", {"memory.max": "300"}, np.inf),
        ("0::/", {}, np.inf),
    ],
)
def test_control_groups(tmp_path, monkeypatch, groups, limits, expected):
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(_memory.Path, "read_text", _reading(groups))
    _memory._cgroup_limit.cache_clear()
    try:
        assert _memory._cgroup_limit() == expected
    finally:
        _memory._cgroup_limit.cache_clear()


def _reading(groups):
    """``Path.read_text`` that finds some control groups of this process."""
    original = _memory.Path.read_text

    def read_text(self, *args, **kwargs):
        return groups if str(self) == "/proc/self/cgroup" else original(self, *args, **kwargs)

    return read_text
