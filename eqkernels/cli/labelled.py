"""Frames and labels of the files of a command, with remarks on what was found and left out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from eqkernels.cli.console import Problem, say
from eqkernels.io import read
from eqkernels.so3 import cartesian_tensor
from eqkernels.so3.properties import find_property
from eqkernels.structures import is_by_structure


def read_labelled(paths: list[Any], target: str | None, **how: Any) -> Bunch:
    """Read frames that have a label.

    Parameters
    ----------
    paths : list of Path
    target : str or None
        Name of a property, index symmetry, or key in the files.
    **how
        ``key``, ``per_atom``, ``index``, ``labels`` and ``groups`` of :func:`eqkernels.io.read`.

    Returns
    -------
    Bunch
        As :func:`eqkernels.io.read` returns it.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise Problem(f"there is no file {missing[0]}")
    if target is not None and how.get("key") is None and not is_target(target):
        target, how = None, {**how, "key": target}
    try:
        data = read(list(paths) if len(paths) > 1 else paths[0], target, **how)
    except ValueError as error:
        raise Problem(_in_words_of_the_command_line(str(error))) from error
    kept = np.flatnonzero([_has_label(one) for one in data.y])
    if len(kept) == 0:
        raise Problem(f"no structure has a label under {data.key!r}")
    if len(kept) < len(data.y):
        say(f"{len(data.y) - len(kept)} of {len(data.y)} structures have no label {data.key!r} and are left out")
        data.frames, data.y = [data.frames[k] for k in kept], data.y[kept]
        data.groups = None if data.groups is None else data.groups[kept]
    unit = f" [{data.units}]" if data.units else ""
    say(f"{len(data.frames)} structures with {name_of(data)}{unit} from {data.key!r}")
    return data


def name_of(data: Bunch) -> str:
    """Name of the target of data, as it is printed."""
    of = " of each atom" if is_by_structure(data.y) else ""
    return f"{data.target if isinstance(data.target, str) else data.key}{of}"


def is_target(text: str) -> bool:
    """Whether it is the name of a property or an index symmetry; else it is a key."""
    if find_property(text) is not None:
        return True
    try:
        cartesian_tensor(text)
    except ValueError:
        return False
    return True


def _in_words_of_the_command_line(text):
    """Say options instead of arguments."""
    text = text.replace("per_atom=True", "--per-atom").replace("per_atom=False", "--no-per-atom")
    return re.sub(r"\b(key|target|labels|groups)=", r"--\1 ", text)


def _has_label(one):
    return one is not None and bool(np.isfinite(np.asarray(one, dtype=float)).reshape(-1).any())
