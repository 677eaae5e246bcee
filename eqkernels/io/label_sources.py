"""Where labels are taken from: frames with what they carry, or frames and a separate file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqkernels.io.found_targets import (
    FoundTarget,
    Summary,
    entry,
    find_targets,
    sorted_targets,
)
from eqkernels.io.frame_files import FrameFile
from eqkernels.io.label_tables import read_table
from eqkernels.structures.batch import atom_counts


class LabelSource:
    """Frames of files, and everything that may be a label.

    Parameters
    ----------
    files : list of FrameFile
    labels : str or Path, default=None
        A separate file with the labels.

    Attributes
    ----------
    frames : list of ase.Atoms
    n_atoms : ndarray of int, shape (n_structures,)
    found : list of FoundTarget
        What the frames carry, or with `labels` what that file has.
    """

    def __init__(self, files: list[FrameFile], labels: Any = None):
        self.files = files
        self.frames = [atoms for one in files for atoms in one.frames]
        self.n_atoms = atom_counts(self.frames)
        self._table: dict[str, list[Any]] = {}
        self._units: dict[str, str] = {}
        if labels is None:
            self.name = files[0].path + (f" and {len(files) - 1} more" if len(files) > 1 else "")
            self.found = find_targets(self.frames)
        else:
            self.name = str(labels)
            self._table, self._units = read_table(labels, self.n_atoms)
            self.found = self._in_table()

    def _in_table(self):
        summaries = []
        for key, column in self._table.items():
            summary = Summary("labels", key)
            for value, n in zip(column, self.n_atoms, strict=True):
                summary.add(value, int(n))
            summaries.append(summary)
        return sorted_targets(summaries, len(self.frames))

    def values(self, found: FoundTarget) -> list[Any]:
        """Entries of the structures, None where they are missing."""
        if found.where == "labels":
            return self._table[found.key]
        return [entry(atoms, found.where, found.key) for atoms in self.frames]

    def unit(self, found: FoundTarget) -> str | None:
        """Return the unit that the file states or prescribes, None if it does not."""
        if found.where == "labels":
            return self._units.get(found.key)
        units = {one.units.get((found.where, found.key)) for one in self.files}
        stated: dict[str, int] = {}
        for k, atoms in enumerate(self.frames):
            for key in (f"{found.key}_unit", f"{found.key}_units"):
                if key in atoms.info:
                    stated.setdefault(str(atoms.info[key]), k)
        if len(stated) > 1:
            (one, k), (other, l), *_ = stated.items()
            raise ValueError(
                f"the unit of {found.key!r} is {one!r} in {self.structure(k)} and {other!r} in {self.structure(l)}: "
                "convert them to one unit"
            )
        return next(iter(stated), units.pop() if len(units) == 1 else None)

    def structure(self, k: int) -> str:
        """Name a structure in a message."""
        if self._table:
            return f"structure {k} of {self.name}"
        for one in self.files:
            if k < len(one.frames):
                break
            k -= len(one.frames)
        return f"structure {k} of {one.path}"

    def groups(self, groups: str | None) -> NDArray[Any] | None:
        """Say what belongs together in cross-validation, as :func:`read` documents it."""
        if groups == "file" or (groups is None and len(self.files) > 1):
            return np.repeat([one.path for one in self.files], [len(one.frames) for one in self.files])
        if groups is None:
            return None
        if not isinstance(groups, str):
            raise TypeError(f"groups={groups!r} must be 'composition', 'file', a key of atoms.info, or None")
        if groups == "composition":
            return np.array([atoms.get_chemical_formula() for atoms in self.frames])
        values = self._table.get(groups) or [atoms.info.get(groups) for atoms in self.frames]
        missing = [k for k, one in enumerate(values) if one is None]
        if len(missing) == len(values):
            keys = list(dict.fromkeys([*self._table, *(key for atoms in self.frames for key in atoms.info)]))
            raise ValueError(f"groups={groups!r}: no structure has this key; there are {', '.join(map(str, keys))}")
        if missing:
            raise ValueError(
                f"groups={groups!r}: {self.structure(missing[0])} has no such key, every structure needs a group"
            )
        if any(np.ndim(one) for one in values):
            raise ValueError(f"groups={groups!r} holds arrays: a group is a text or a number")
        return np.array([str(one) for one in values] if any(isinstance(one, str) for one in values) else values)
