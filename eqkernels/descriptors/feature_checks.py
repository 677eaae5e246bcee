"""Checks of the arrays that equivariant features are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from eqkernels._types import Blocks, Floats, Ints
from eqkernels.so3 import Irrep
from eqkernels.structures.places import Places

_IRREP = re.compile(r"(0|[1-9][0-9]*)[eo]")
# The kernels of larger features overflow.
_LARGEST: dict[type, float] = {np.float64: 1e50, np.float32: 1e15}
# Rows that are checked together: a contiguous copy of them is small where the block is none.
_ROWS_PER_CHECK = 64


def as_dict(value: Any, name: str) -> dict[str, Any]:
    """Copy a dict, empty for None."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(value).__name__}")
    return dict(value or {})


def integers(values: ArrayLike, name: str) -> Ints:
    """Make a one-dimensional array of integers."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged
        raise ValueError(f"{name} is no array of integers: {error}") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64, copy=False)


def check_rows(species: Ints, structures: Ints, atoms: Ints, n_atoms: Ints) -> None:
    """Refuse rows that are not those of atoms of structures in ascending order, each atom once."""
    n_rows = len(species)
    for name, array in (("structures", structures), ("atoms", atoms)):
        if array.shape != (n_rows,):
            raise ValueError(f"{name} has shape {array.shape}, expected ({n_rows},) as species has")
    if np.any(n_atoms < 0):
        raise ValueError(f"n_atoms must not be negative, got {n_atoms.min()}")
    if np.any(structures[1:] < structures[:-1]):
        raise ValueError("structures must be ascending: sort the rows by structure")
    if not n_rows:
        return
    if not 0 <= structures[0] <= structures[-1] < len(n_atoms):
        raise ValueError(f"structures must lie between 0 and n_structures - 1 = {len(n_atoms) - 1}")
    if not 0 < species.min() <= species.max() < len(chemical_symbols):
        wrong = species[(species <= 0) | (species >= len(chemical_symbols))][0]
        raise ValueError(f"species contains {wrong}, which is no atomic number")
    outside = (atoms < 0) | (atoms >= n_atoms[structures])
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"atoms contains {atoms[row]} for structure {structures[row]}, which has {n_atoms[structures[row]]} atoms, "
            "counted from 0"
        )
    places = structures * (atoms.max() + 1) + atoms
    if np.any(places[1:] <= places[:-1]) and len(np.unique(places)) < n_rows:
        place = np.sort(places)[1:][np.diff(np.sort(places)) == 0][0]
        structure, atom = divmod(int(place), int(atoms.max()) + 1)
        raise ValueError(f"atom {atom} of structure {structure} has more than one row: drop all but one of them")


def check_blocks(blocks: Mapping[str, Any], n_rows: int) -> None:
    """Refuse blocks that are not arrays of floats, of the shape that their irrep and the rows say."""
    for key, block in blocks.items():
        if not isinstance(key, str) or not _IRREP.fullmatch(key):
            raise ValueError(f"block key {key!r} is not an irrep such as '0e' or '1o'")
        if not isinstance(block, np.ndarray) or block.dtype not in (np.float64, np.float32):
            found = block.dtype if isinstance(block, np.ndarray) else type(block).__name__
            raise TypeError(f"block {key!r} must be an array of float64 or float32, got {found}: convert it first")
        dim = Irrep.parse(key).dim
        if block.ndim != 3 or block.shape[:2] != (n_rows, dim):
            expected = f"({n_rows}, {dim}, n_features)"
            raise ValueError(f"block {key!r} has shape {block.shape}, expected {expected}")


def check_labels(labels: Mapping[str, Any], blocks: Blocks) -> None:
    """Refuse labels that are not structured arrays with an entry for each feature of a block."""
    for key, array in labels.items():
        if key not in blocks:
            raise ValueError(f"labels has {key!r}, which is none of the blocks {', '.join(blocks)}")
        if not isinstance(array, np.ndarray) or array.dtype.names is None:
            raise TypeError(f"labels[{key!r}] must be a structured array with a field for each property")
        if array.shape != blocks[key].shape[2:]:
            raise ValueError(f"labels[{key!r}] has shape {array.shape}, block {key!r} {blocks[key].shape}")


def unusable(block: Floats) -> tuple[int, str] | None:
    """First row of a block with a feature that is NaN, infinite, or so large that its powers overflow, and which."""
    largest = _LARGEST[block.dtype.type]
    for start in range(0, len(block), _ROWS_PER_CHECK):
        rows = block[start : start + _ROWS_PER_CHECK]
        part = rows.ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            if np.dot(part, part) <= largest**2:
                continue
        bad = np.flatnonzero(~(np.abs(rows) <= largest).all(axis=(1, 2)))
        if len(bad):
            finite = np.isfinite(rows[bad[0]]).all()
            return start + int(bad[0]), f"a feature beyond {largest:g}" if finite else "NaN or infinity"
    return None


def check_places(positions: Any, structures: Ints, n_structures: int) -> Places | None:
    """Places of the centers, from their positions, or from what features stored."""
    if isinstance(positions, Mapping):
        positions = Places.from_dict(dict(positions))
    if positions is None or isinstance(positions, Places):
        places = positions
    else:
        array = np.array(positions, dtype=float)
        if array.shape != (len(structures), 3) or not np.isfinite(array).all():
            raise ValueError(f"positions must be finite, of shape {(len(structures), 3)}, got {array.shape}")
        places = Places.of_positions(array, structures, n_structures)
    if places is not None and len(places) != len(structures):
        raise ValueError(f"positions are those of {len(places)} centers, the features have {len(structures)}")
    return places
