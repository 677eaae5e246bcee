"""Modules import from their own level of the package or from a lower one, and nowhere in a circle."""

import ast
import graphlib
from pathlib import Path

import eqkernels

ROOT = Path(eqkernels.__file__).parent
# From the lowest to the highest. Private modules at the top of the package are below all folders.
LEVELS = [
    "_private",
    "so3",
    "radial",
    "structures",
    "symmetry",
    "metrics",
    "calibration",
    "descriptors.products",
    "descriptors.density",
    "descriptors",
    "kernels",
    "regression",
    "regression.sparse",
    "regression.ranking",
    "learned",
    "symmetry.label_hypotheses",
    "symmetry.label_predictions",
    "symmetry.label_check",
    "io",
    "derivatives",
    "calculator",
    "spectra",
    "response",
    "datasets",
    "symmetry.model_values",
    "plotting",
    "symmetry.equivariance_check",
    "testing",
    "error_distribution",
    "validation",
    "inspection",
    "automatic",
    "recommendation",
    "cli",
    "eqkernels",
]


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in ROOT.rglob("*.py")}


def imports(name):
    """Modules that a module imports, wherever the statement stands; not what only type checkers import."""
    tree = ast.parse(PATHS[name].read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in PATHS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "eqkernels":
            for alias in node.names:
                yield defining_module(node.module, alias.name)


def defining_module(module, name):
    """Module where a name is defined that a package passes on."""
    if f"{module}.{name}" in PATHS:
        return f"{module}.{name}"
    if PATHS[module].name == "__init__.py":
        for node in ast.walk(ast.parse(PATHS[module].read_text())):
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                return defining_module(node.module, name)
    return module


GRAPH = {name: set(imports(name)) - {name} for name in PATHS if PATHS[name].name != "__init__.py"}


def level(name):
    inside = name.removeprefix("eqkernels").removeprefix(".")
    if not inside or inside == "__main__":
        return LEVELS.index("eqkernels")
    if inside.startswith("_"):
        return LEVELS.index("_private")
    return max((k for k, one in enumerate(LEVELS) if f"{inside}.".startswith(f"{one}.")), key=lambda k: len(LEVELS[k]))


def test_no_circle():
    list(graphlib.TopologicalSorter(GRAPH).static_order())  # raises a CycleError that shows the circle


def test_no_arrow_runs_up():
    up = [f"{name} -> {other}" for name, others in GRAPH.items() for other in others if level(other) > level(name)]
    assert not up, "\n".join(up)


def test_no_two_modules_of_one_name():
    """Of a name alone, a reader knows which module is meant; but for what each level has of its own."""
    shared = {"base", "derivatives", "_derivative_loops", "memory", "covariance", "calibration", "gpr", "gradients"}
    names = [name.rsplit(".", 1)[-1] for name in GRAPH]
    assert {name for name in names if names.count(name) > 1} <= shared
