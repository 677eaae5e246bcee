"""What the documentation shows runs: docstrings, and the code in the README and in the pages of docs/."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import ase.io
import pytest
import yaml

import eqkernels
from eqkernels.cli.app import app
from eqkernels.cli.learning import build
from eqkernels.datasets import load_water_clusters

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


def test_readme(capsys, tmp_path, monkeypatch):
    blocks = blocks_of(ROOT / "README.md")
    assert len(blocks) == 2
    exec(compile(blocks[0], "README.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[0]) > 0.99
    write_training_set(tmp_path, monkeypatch)
    exec(compile(blocks[1], "README.md", "exec"), {})
    assert (tmp_path / "model.eqk").exists()


def write_training_set(folder, monkeypatch):
    """Write the file train.xyz that examples read."""
    data = load_water_clusters()
    for atoms, alpha in zip(data.frames[:40], data.polarizability, strict=False):
        atoms.info = {"polarizability": alpha}
    ase.io.write(folder / "train.xyz", data.frames[:40])
    monkeypatch.chdir(folder)


def test_page_about_the_command_line():
    text = (ROOT / "docs" / "command_line.md").read_text()
    (settings,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    settings = yaml.safe_load(settings)
    assert build(settings.pop("model"), {}, settings).descriptor.n_max == 8
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {line.split()[1] for line in re.findall(r"^eqkernels .*", text, re.MULTILINE)} == commands


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
    write_training_set(tmp_path, monkeypatch)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace = {}
    for block in blocks_of(ROOT / page):
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize(
    "name", ["", ".calibration", ".datasets", ".io", ".kernels", ".metrics", ".plotting", ".so3", ".testing"]
)
def test_reference_has_all_public_names(name):
    words = set(re.findall(r"\w+", (ROOT / "docs" / "api.md").read_text()))
    missing = set(importlib.import_module("eqkernels" + name).__all__) - words
    assert not missing, f"add to docs/api.md: {missing}"


def test_public_names_have_docstrings():
    for name in eqkernels.__all__:
        assert getattr(eqkernels, name).__doc__, name
