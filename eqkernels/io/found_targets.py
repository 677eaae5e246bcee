"""Which labels frames carry: keys, shapes, and what they may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.outputs import all_outputs
from ase.stress import voigt_6_to_full_3x3_stress

from eqkernels._numeric import is_missing
from eqkernels.io.usual_keys import belongs_to_atoms, quantity_of, rank_of
from eqkernels.structures.batch import each_frame
from eqkernels.structures.readings import Reading, possible_readings

# Arrays of ase.Atoms that are part of the structure or input of a calculation.
_STRUCTURE = {"numbers", "positions"}
_INPUTS = {"tags", "masses", "momenta", "velocities", "initial_magmoms", "initial_charges", "move_mask"}
# ASE documents the order xx, yy, zz, yz, xz, xy for them.
_VOIGT_RESULTS = {"stress", "stresses"}
_ERROR_BAR = "_std"
#: Kinds of dtypes of labels.
NUMBERS = {"i", "u", "f"}
_RANKS = ("scalar", "vector", "tensor of rank 2", "tensor of rank 3", "tensor of rank 4", "tensor of rank 5",
          "tensor of rank 6")  # fmt: skip
_NO_TARGETS = {
    "integers": "integers, no label", "text": "text, no label", "flags": "true or false, no label",
    "input": "part of the structure or of the input of a calculation, no label",
    "error bar": "error bars of the key without _std", "numbers": "numbers, but no Cartesian tensor",
    "mixed": "of several kinds or shapes", "other": "neither numbers nor text",
}  # fmt: skip


@dataclass(frozen=True)
class FoundTarget:
    """What frames hold under a key.

    Attributes
    ----------
    key : str
    where : str
        ``"info"`` or ``"arrays"`` of the ``ase.Atoms``, ``"calculator"`` for the results of its calculator,
        ``"labels"`` for a separate file.
    shape : tuple of int or None
        Of the numbers of a structure, or of an atom if ``per_atom``; None if it differs.
    per_atom : bool or None
        Whether each atom has one; None if the shapes allow both.
    n_present, n_structures : int
        How many structures have it, of how many.
    guesses : tuple of str
        Properties that the key means and the shape allows, each usable as a target.
    kind : str
        ``"tensor"`` for what is a label or looks like one, ``"scalar"`` for numbers of unknown meaning; the others
        are no labels: ``"integers"``, ``"text"``, ``"flags"``, ``"input"``, ``"error bar"``, ``"numbers"``,
        ``"mixed"``, ``"other"``.
    readings : tuple of Reading
        All that the shapes allow.
    """

    key: str
    where: str
    shape: tuple[int, ...] | None
    per_atom: bool | None
    n_present: int
    n_structures: int
    guesses: tuple[str, ...] = ()
    kind: str = "tensor"
    readings: tuple[Reading, ...] = field(default=(), repr=False)

    @property
    def of_atoms(self) -> bool | None:
        """Whether the place where it stands is one for atoms; None if that holds both."""
        return stands_for_atoms(self.where, self.key)

    @property
    def is_target(self) -> bool:
        """Whether it is a label or looks like one; numbers of unknown meaning must be asked for by their key."""
        return self.kind == "tensor"

    def __str__(self):
        shape = "several shapes" if self.shape is None else f"shape {self.shape}"
        of = " of each atom" if self.per_atom else ""
        return (
            f"{self.key} ({self.where}, {shape}{of}, in {self.n_present} of {self.n_structures} structures): "
            f"{self._meaning()}"
        )

    def _meaning(self):
        if self.guesses:
            return " or ".join(self.guesses)
        if self.kind in _NO_TARGETS:
            return _NO_TARGETS[self.kind]
        return " or ".join(f"{_RANKS[one.rank]} of each {'atom' if one.per_atom else 'structure'}"
                           for one in self.readings)  # fmt: skip


def find_targets(frames: Iterable[Atoms]) -> list[FoundTarget]:
    """List what frames carry beside the structure: labels first, then what are none.

    Parameters
    ----------
    frames : iterable of ase.Atoms
        They are read once, in one pass.

    Returns
    -------
    list of FoundTarget
        In the order in which the keys appear, labels first. ``str`` of each is a line to read.

    See Also
    --------
    read : Read frames and one of their labels from files.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> water.info.update(alpha=[9.6, 0, 0, 0, 9.9, 0, 0, 0, 9.5], name="water")
    >>> for one in find_targets([water]):
    ...     print(one)
    alpha (info, shape (9,), in 1 of 1 structures): polarizability
    name (info, shape (), in 1 of 1 structures): text, no label
    """
    found: dict[tuple[str, str], Summary] = {}
    n = 0
    for n, atoms in enumerate(each_frame(frames), start=1):  # noqa: B007
        for where, key, value in entries(atoms):
            found.setdefault((where, key), Summary(where, key)).add(value, len(atoms))
    return sorted_targets(found.values(), n)


def sorted_targets(summaries, n_structures):
    """List what was found, labels first."""
    found = [one.target(n_structures) for one in summaries if one.n_present]
    keys = {one.key for one in found}
    found = [one if not _is_error_bar(one.key, keys) else _as_error_bar(one) for one in found]
    order = ("tensor", "scalar")
    return sorted(found, key=lambda one: order.index(one.kind) if one.kind in order else len(order))


def entries(atoms: Atoms) -> Iterator[tuple[str, str, Any]]:
    """All that an ase.Atoms holds beside the structure, as (where, key, value)."""
    for key, value in atoms.info.items():
        yield "info", str(key), value
    for key, value in atoms.arrays.items():
        if key not in _STRUCTURE:
            yield "arrays", key, value
    for key, value in (getattr(atoms.calc, "results", None) or {}).items():
        yield "calculator", str(key), from_voigt(key, value)


def entry(atoms: Atoms, where: str, key: str) -> Any:
    """One of the :func:`entries`; None if it is missing."""
    if where == "calculator":
        return from_voigt(key, (getattr(atoms.calc, "results", None) or {}).get(key))
    if where == "arrays":
        return atoms.arrays.get(key)
    return atoms.info[key] if key in atoms.info else next((v for k, v in atoms.info.items() if str(k) == key), None)


def from_voigt(key, value):
    """Matrices of the results of ASE that are in its Voigt notation."""
    if key in _VOIGT_RESULTS and np.shape(value)[-1:] == (6,):
        flat = np.asarray(value)
        return voigt_6_to_full_3x3_stress(flat) if flat.ndim == 1 else np.array([from_voigt(key, one) for one in flat])
    return value


def stands_for_atoms(where, key):
    """Whether a key in a place holds something of atoms; None if it can be both."""
    if where == "arrays":
        return True
    if where == "calculator" and key in all_outputs:
        return "natoms" in getattr(all_outputs[key], "shapespec", ())
    return None


def is_absent(value):
    """Whether a structure has no label: None, or NaN instead of it."""
    return is_missing(value) or (isinstance(value, float | np.floating) and value != value)


def kind_and_shape(value):
    """Kind of numpy's dtype, ``O`` for what is neither numbers nor text, and shape."""
    if isinstance(value, str | bytes):
        return "U", ()
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and array.size and all(isinstance(one, float | None) for one in array.flat):
            array = array.astype(float)
    except (TypeError, ValueError):  # ragged
        return "O", ()
    return array.dtype.kind, array.shape


class Summary:
    """What was seen under one key so far."""

    def __init__(self, where, key):
        self.where, self.key = where, key
        self.n_present = 0
        self.kinds: set[str] = set()
        self.shapes: set[tuple[tuple[int, ...], int]] = set()

    def add(self, value, n_atoms):
        """Count a value of a structure of so many atoms."""
        if is_absent(value):
            return
        kind, shape = kind_and_shape(value)
        self.n_present += 1
        self.kinds.add(kind)
        self.shapes.add((shape, n_atoms))

    def target(self, n_structures):
        """Say what it is, of so many structures."""
        readings = (
            possible_readings(self.shapes, None, stands_for_atoms(self.where, self.key))
            if self.kinds <= NUMBERS
            else []
        )
        quantity = quantity_of(self.key)
        meant = [one for one in readings if quantity is not None and _fits(quantity, one)]
        kind = self._kind(readings, meant)
        of_atoms = {one.per_atom for one in meant or readings}
        per_atom = of_atoms.pop() if len(of_atoms) == 1 else (True if self.where == "arrays" else None)
        shapes = {shape[1:] if per_atom else shape for shape, _ in self.shapes}
        shape = shapes.pop() if len(shapes) == 1 else None
        guesses = (str(quantity),) if kind == "tensor" and meant else ()
        return FoundTarget(self.key, self.where, shape, per_atom, self.n_present, n_structures, guesses, kind,
                           tuple(meant or readings))  # fmt: skip

    def _kind(self, readings, meant):
        if self.where == "arrays" and self.key in _INPUTS:
            return "input"
        if self.kinds <= {"U", "S"}:
            return "text"
        if self.kinds <= {"b"}:
            return "flags"
        if not self.kinds <= NUMBERS:
            return "other" if len(self.kinds) == 1 else "mixed"
        if meant:
            return "tensor"
        if self.kinds <= {"i", "u"}:
            return "integers"
        if not readings:
            return "numbers" if len({len(shape) for shape, _ in self.shapes}) == 1 and self._one_size() else "mixed"
        return "scalar" if all(one.rank == 0 for one in readings) else "tensor"

    def _one_size(self):
        trailing = {shape[1:] if shape[:1] == (n,) else shape for shape, n in self.shapes}
        return len(trailing) == 1 or len({shape for shape, _ in self.shapes}) == 1


def _fits(quantity, reading):
    return reading.rank == rank_of(quantity) and belongs_to_atoms(quantity) in (None, reading.per_atom)


def _is_error_bar(key, keys):
    return key.endswith(_ERROR_BAR) and key.removesuffix(_ERROR_BAR) in keys


def _as_error_bar(one):
    return FoundTarget(one.key, one.where, one.shape, one.per_atom, one.n_present, one.n_structures, (), "error bar",
                       one.readings)  # fmt: skip
