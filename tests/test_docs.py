"""What the documentation shows runs: docstrings, and the code in the README and in the pages of docs/."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import eqkernels

ROOT = Path(__file__).parent.parent
MODULES = [
    module.name
    for module in pkgutil.walk_packages(eqkernels.__path__, "eqkernels.")
    if not module.name.endswith("_loops")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert result.failed == 0


def test_readme(capsys):
    blocks = blocks_of(ROOT / "README.md")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[0]) > 0.99


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


GENERATED = ("_build", "gallery", "generated")
PAGES = [
    page.relative_to(ROOT).as_posix()
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if not set(GENERATED) & set(page.parts) and blocks_of(page)
]


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path, monkeypatch):
    """Its blocks run one after the other in one namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {}
    for block in blocks_of(ROOT / page):
        exec(compile(block, page, "exec"), namespace)


def test_public_names_have_docstrings():
    for name in eqkernels.__all__:
        assert getattr(eqkernels, name).__doc__, name
