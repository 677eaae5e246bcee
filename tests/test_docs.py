"""What the documentation shows runs: docstrings, and the code in the README."""

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
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[0]) > 0.99


def test_page_about_labels(tmp_path, monkeypatch):
    """Its blocks run one after the other in one namespace."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "labels.md").read_text(), re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/labels.md", "exec"), namespace)


def test_public_names_have_docstrings():
    for name in eqkernels.__all__:
        assert getattr(eqkernels, name).__doc__, name
