"""Loops work where their compilation cannot be kept."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import pytest
from numba.core import caching

import eqkernels
from eqkernels import _compile

LOOP = "from eqkernels._compile import njit\n\n@njit(nogil=True)\ndef double(x):\n    return 2 * x\n"

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty directory for the cache, in a process that was told nothing yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_compile, "_warned", set())
    (tmp_path / "loop.py").write_text(LOOP)
    return tmp_path / "cache"


def load(cache):
    """The loop, as a new process would find it."""
    spec = importlib.util.spec_from_file_location("loop", cache.parent / "loop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.double


def hits(cache):
    loop = load(cache)
    assert loop(2.0) == 4.0
    return sum(loop.stats.cache_hits.values())


def no_room(self, *arguments):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (caching.CacheImpl, "_locator_classes", []),
        (caching.IndexDataCacheFile, "save", no_room),
        (caching.IndexDataCacheFile, "_save_data", no_room),
        (caching.IndexDataCacheFile, "load", no_room),
        (caching._CacheLocator, "ensure_cache_path", no_room),
    ],
    ids=["nowhere", "full", "full after the index", "unreadable", "no directory"],
)
def test_a_cache_that_fails_is_told_once(cache, monkeypatch, where, name, value):
    monkeypatch.setattr(where, name, value)
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR") as told:
        assert [hits(cache), hits(cache)] == [0, 0]
    assert len(told) == 1


@pytest.mark.parametrize("damage", [lambda old: old[: len(old) // 2], lambda old: bytes(len(old)), lambda old: b""])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_files_are_replaced(cache, damage, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [hits(cache), hits(cache)] == [0, 1]
        for path in cache.rglob(f"*.{kind}"):
            path.write_bytes(damage(path.read_bytes()))
        assert [hits(cache), hits(cache)] == [0, 1]


def test_an_edit_of_another_file_is_seen(tmp_path):
    """A function and a constant from other files, compiled into the loop: numba itself would run the old code."""
    package = tmp_path / "eqkernels"
    shutil.copytree(
        Path(eqkernels.__file__).parent, package, ignore=lambda folder, names: [n for n in names if n == "__pycache__"]
    )
    (package / "_number.py").write_text("NUMBER = 2.0\n")
    (package / "_inner.py").write_text(
        "from eqkernels._compile import njit\nfrom eqkernels._number import NUMBER\n\n"
        "@njit()\ndef inner(x):\n    return NUMBER * x\n"
    )
    (package / "_outer.py").write_text(
        "from eqkernels._compile import njit\nfrom eqkernels._inner import inner\n\n"
        "@njit()\ndef outer(x):\n    return inner(x) + 1.0\n"
    )
    code = (
        "import sys, types; package = types.ModuleType('eqkernels'); package.__path__ = ['eqkernels']\n"
        "sys.modules['eqkernels'] = package\n"
        "from eqkernels._outer import outer; print(outer(3.0), sum(outer.stats.cache_hits.values()))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert [run(), run()] == [["7.0", "0"], ["7.0", "1"]]
    (package / "_number.py").write_text("NUMBER = 5.0\n")
    assert [run(), run()] == [["16.0", "0"], ["16.0", "1"]]
    text = (package / "_inner.py").read_text()
    (package / "_inner.py").write_text(text.replace("NUMBER * x", "NUMBER + x"))
    assert run() == ["9.0", "0"]


def test_a_directory_deleted_meanwhile_is_made_again(cache):
    loop = load(cache)
    shutil.rmtree(cache)
    assert loop(2.0) == 4.0
    assert hits(cache) == 1


def test_the_package_works_where_nothing_is_writable():
    code = (
        "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
        "from eqkernels.so3 import spherical_harmonics; print(spherical_harmonics([0.0, 0.0, 2.0], 1)[2])"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx((3 / 4 / 3.141592653589793) ** 0.5)
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1


def test_all_loops_are_compiled_in_this_way():
    for path in Path(eqkernels.__file__).parent.rglob("*.py"):
        text = path.read_text().replace("from eqkernels._compile import njit", "")
        assert path.name == "_compile.py" or not re.search(r"import .*\bn?jit\b|numba\.n?jit", text), path
