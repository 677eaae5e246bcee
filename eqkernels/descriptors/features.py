"""Equivariant features: one array for each irrep, with the structure, atom and species of every row."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from eqkernels.descriptors.made_blocks import BlockMaker, MadeBlocks
from eqkernels.so3 import Irrep
from eqkernels.structures.batch import structure_number

_ROW_ARRAYS = ("species", "structures", "atoms")
_IRREP = re.compile(r"(0|[1-9][0-9]*)[eo]")
# The kernels of larger features overflow.
_LARGEST = {np.float64: 1e50, np.float32: 1e15}
# Products of three densities up to this are not larger.
_LARGEST_DENSITY = 1e4
# Rows that are checked together: a contiguous copy of them is small where the block is none.
_ROWS_PER_CHECK = 64


class EquivariantFeatures:
    """Blocks of features by irrep, indexed by structure like any other X of scikit-learn.

    Parameters
    ----------
    blocks : dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
        Features that transform like the irrep that is their key, e.g. ``"2e"``; components m = -lambda .. lambda.
        Those of :class:`LambdaSOAP` are made of density coefficients when they are asked for.
    species : array-like of int, shape (n_centers,)
        Atomic number of the center of each row.
    structures : array-like of int, shape (n_centers,)
        Structure of each row, ascending.
    atoms : array-like of int, shape (n_centers,)
        Index of the center within its structure.
    n_atoms : array-like of int, shape (n_structures,)
        Number of atoms of each structure, centers or not.
    parts : dict of str to dict of str to (int, int), default=None
        Named ranges of features: for each name and irrep the first column and the one after the last, as
        :class:`EquivariantUnion` gives them.
    labels : dict of str to structured ndarray of shape (n_features,), default=None
        What the features of some blocks are made of, in fields of integers such as ``species_1, n_1, l_1``.

    Attributes
    ----------
    offsets : ndarray of shape (n_structures + 1,)
        Rows ``offsets[k]:offsets[k + 1]`` belong to structure k.
    origin : int or ndarray of int, shape (n_structures,)
        Index of the structures in the input of the user, for messages: of the first where they are consecutive.

    Raises
    ------
    TypeError
        If an array has another type than its own: blocks are float64 or float32, the others integers.
    ValueError
        If the arrays do not fit together.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from eqkernels.descriptors import LambdaSOAP
    >>> features = LambdaSOAP(n_max=2, l_max=2, irreps="0e+1o").fit_transform([molecule("H2O"), molecule("CH4")])
    >>> features
    EquivariantFeatures(2 structures, 8 centers, blocks: 0e (8, 1, 63), 1o (8, 3, 72))
    >>> features[1].species
    array([6, 1, 1, 1, 1])
    """

    origin: int | np.ndarray = 0

    def __init__(
        self,
        blocks: Mapping[str, NDArray[Any]],
        species: ArrayLike,
        structures: ArrayLike,
        atoms: ArrayLike,
        n_atoms: ArrayLike,
        parts: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
        labels: Mapping[str, NDArray[Any]] | None = None,
    ):
        self.blocks = _dict(blocks, "blocks")
        self.species = _integers(species, "species")
        self.structures = _integers(structures, "structures")
        self.atoms = _integers(atoms, "atoms")
        self.n_atoms = _integers(n_atoms, "n_atoms")
        self.parts = _dict(parts, "parts")
        self.labels = _dict(labels, "labels")
        self._check_rows()
        self._check_blocks()
        self._check_labels()
        self.offsets = np.searchsorted(self.structures, np.arange(len(self.n_atoms) + 1))

    @classmethod
    def of_checked(
        cls,
        blocks: Any,
        species: NDArray[np.int64],
        structures: NDArray[np.int64],
        atoms: NDArray[np.int64],
        n_atoms: NDArray[np.int64],
        parts: dict[str, Any] | None = None,
        labels: dict[str, NDArray[Any]] | None = None,
        density: NDArray[Any] | None = None,
        maker: dict[str, Any] | None = None,
    ) -> EquivariantFeatures:
        """Features of arrays that need no more checks: they were made here, come from features, or from ``stored``."""
        self = cls.__new__(cls)
        self.blocks = blocks if density is None else MadeBlocks(density, BlockMaker(**(maker or {})))
        self.parts, self.labels = parts or {}, labels or {}
        self.species, self.structures, self.atoms, self.n_atoms = species, structures, atoms, n_atoms
        self.offsets = np.searchsorted(structures, np.arange(len(n_atoms) + 1))
        return self

    def _check_rows(self):
        n_rows = len(self.species)
        for name in _ROW_ARRAYS:
            if getattr(self, name).shape != (n_rows,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected ({n_rows},) as species has")
        if np.any(self.n_atoms < 0):
            raise ValueError(f"n_atoms must not be negative, got {self.n_atoms.min()}")
        if np.any(self.structures[1:] < self.structures[:-1]):
            raise ValueError("structures must be ascending: sort the rows by structure")
        if not n_rows:
            return
        if not 0 <= self.structures[0] <= self.structures[-1] < len(self.n_atoms):
            raise ValueError(f"structures must lie between 0 and n_structures - 1 = {len(self.n_atoms) - 1}")
        if not 0 < self.species.min() <= self.species.max() < len(chemical_symbols):
            wrong = self.species[(self.species <= 0) | (self.species >= len(chemical_symbols))][0]
            raise ValueError(f"species contains {wrong}, which is no atomic number")
        outside = (self.atoms < 0) | (self.atoms >= self.n_atoms[self.structures])
        if outside.any():
            row = int(outside.argmax())
            raise ValueError(
                f"atoms contains {self.atoms[row]} for structure {self.structures[row]}, which has "
                f"{self.n_atoms[self.structures[row]]} atoms, counted from 0"
            )
        places = self.structures * (self.atoms.max() + 1) + self.atoms
        if np.any(places[1:] <= places[:-1]) and len(np.unique(places)) < n_rows:
            place = np.sort(places)[1:][np.diff(np.sort(places)) == 0][0]
            structure, atom = divmod(int(place), int(self.atoms.max()) + 1)
            raise ValueError(f"atom {atom} of structure {structure} has more than one row: drop all but one of them")

    def _check_blocks(self):
        n_rows = len(self.species)
        for key, block in self.blocks.items():
            if not isinstance(key, str) or not _IRREP.fullmatch(key):
                raise ValueError(f"block key {key!r} is not an irrep such as '0e' or '1o'")
            if not isinstance(block, np.ndarray) or block.dtype not in (np.float64, np.float32):
                found = block.dtype if isinstance(block, np.ndarray) else type(block).__name__
                raise TypeError(f"block {key!r} must be an array of float64 or float32, got {found}: convert it first")
            dim = Irrep.parse(key).dim
            if block.ndim != 3 or block.shape[:2] != (n_rows, dim):
                expected = f"({n_rows}, {dim}, n_features)"
                raise ValueError(f"block {key!r} has shape {block.shape}, expected {expected}")

    @property
    def density(self) -> MadeBlocks | None:
        """Density coefficients that stand for all blocks, MadeBlocks; None where blocks are there, or were changed."""
        return self.blocks if isinstance(self.blocks, MadeBlocks) and self.blocks.untouched else None

    def block_shape(self, key: str) -> tuple[int, int, int]:
        """Shape (n_centers, 2 lambda + 1, n_features) of a block, which need not be there."""
        return self.blocks.shape(key) if isinstance(self.blocks, MadeBlocks) else self.blocks[key].shape

    def block(self, key: str) -> NDArray[Any]:
        """Block for those who only read it: users of ``blocks`` may change what they get."""
        return self.blocks.block(key) if isinstance(self.blocks, MadeBlocks) else self.blocks[key]

    def block_rows(self, key: str, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Pick rows of a block, of which the others need not be there."""
        return self.blocks.rows(key, rows) if isinstance(self.blocks, MadeBlocks) else self.blocks[key][rows]

    def check_values(self) -> None:
        """Refuse features that no model can use, in a single pass over them (over the densities they are made of).

        Raises
        ------
        ValueError
            If a feature is NaN, infinite, or so large that its powers overflow; the message names the first.
        """
        made_of = self.density
        if made_of is not None and np.abs(made_of.density).max(initial=0.0) <= _LARGEST_DENSITY:
            return
        for key, block in self.blocks.items():
            largest = _LARGEST[block.dtype.type]
            for start in range(0, len(block), _ROWS_PER_CHECK):
                part = block[start : start + _ROWS_PER_CHECK].ravel()
                with np.errstate(over="ignore", invalid="ignore"):
                    fine = np.dot(part, part) <= largest**2
                if not fine:
                    self._check_values_of(key, start, largest)

    def _check_values_of(self, key, start, largest):
        bad = ~(np.abs(self.blocks[key][start : start + _ROWS_PER_CHECK]) <= largest).all(axis=(1, 2))
        if bad.any():
            row = start + int(bad.argmax())
            values = self.blocks[key][row]
            what = f"a feature beyond {largest:g}" if np.isfinite(values).all() else "NaN or infinity"
            raise ValueError(
                f"the features contain {what} in block {key!r}, first for structure {self.structures[row]}, atom "
                f"{self.atoms[row]}: make them anew, or remove the structure"
            )

    def _check_labels(self):
        for key, labels in self.labels.items():
            if key not in self.blocks:
                raise ValueError(f"labels has {key!r}, which is none of the blocks {', '.join(self.blocks)}")
            if not isinstance(labels, np.ndarray) or labels.dtype.names is None:
                raise TypeError(f"labels[{key!r}] must be a structured array with a field for each property")
            if labels.shape != self.block_shape(key)[2:]:
                raise ValueError(f"labels[{key!r}] has shape {labels.shape}, block {key!r} {self.block_shape(key)}")

    def _current_labels(self):
        """Pick the labels of the blocks that still have their width: users may have put others in their place."""
        return {
            key: labels
            for key, labels in self.labels.items()
            if key in self.blocks and labels.shape == self.block_shape(key)[2:]
        }

    @property
    def shape(self) -> tuple[int, int]:
        """(n_structures, number of feature channels of all blocks)."""
        return len(self.n_atoms), sum(self.block_shape(key)[2] for key in self.blocks)

    def __len__(self) -> int:
        return len(self.n_atoms)

    def __repr__(self) -> str:
        blocks = ", ".join(f"{key} {self.block_shape(key)}" for key in self.blocks)
        return f"EquivariantFeatures({len(self)} structures, {len(self.species)} centers, blocks: {blocks})"

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "EquivariantFeatures cannot become one array: each block transforms differently under rotation. Take one "
            "of them, e.g. features.blocks['1o'], or give other models the invariant part, "
            "features.invariants('mean') or SOAP(aggregate='mean')"
        )

    def __getitem__(self, key: Any) -> EquivariantFeatures:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._range(start, max(start, stop))
        if isinstance(key, str | dict | float):
            raise TypeError(f"{key!r} is no index of structures; blocks are features.blocks[key]")
        picked = np.arange(len(self))[key]
        return self._pick(np.atleast_1d(picked))

    def _range(self, start, stop):
        rows = slice(self.offsets[start], self.offsets[stop])
        return self._rows(rows, self.structures[rows] - start, self.n_atoms[start:stop])

    def _pick(self, picked):
        counts = np.diff(self.offsets)[picked]
        ends = np.cumsum(counts)
        rows = np.repeat(self.offsets[picked] - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
        return self._rows(rows, np.repeat(np.arange(len(picked)), counts), self.n_atoms[picked])

    def _rows(self, rows, structures, n_atoms, atoms=None):
        rest = self.parts, self._current_labels()
        made = isinstance(self.blocks, MadeBlocks)
        blocks = self.blocks.pick(rows) if made else {key: block[rows] for key, block in self.blocks.items()}
        atoms = self.atoms[rows] if atoms is None else atoms
        return EquivariantFeatures.of_checked(blocks, self.species[rows], structures, atoms, n_atoms, *rest)

    def part(self, name: str) -> EquivariantFeatures:
        """Features of one descriptor of a union.

        Parameters
        ----------
        name : str
            Its name in the union.

        Returns
        -------
        EquivariantFeatures
        """
        if not isinstance(name, str) or name not in self.parts:
            known = ", ".join(self.parts) or "none: join descriptors with EquivariantUnion"
            raise ValueError(f"the features have no part {name!r}; their parts are {known}")
        ranges = {key: slice(*pair) for key, pair in self.parts[name].items()}
        blocks = {key: self.blocks[key][:, :, columns] for key, columns in ranges.items()}
        current = self._current_labels()
        labels = {key: current[key][columns] for key, columns in ranges.items() if key in current}
        rows = self.species, self.structures, self.atoms, self.n_atoms
        return EquivariantFeatures.of_checked(blocks, *rows, labels=labels)

    def centers(self, rows: NDArray[np.int64]) -> EquivariantFeatures:
        """Features of the centers in some rows only, of the same structures."""
        return self._rows(rows, self.structures[rows], self.n_atoms)

    def __or__(self, other: EquivariantFeatures) -> EquivariantFeatures:
        if not isinstance(other, EquivariantFeatures):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in (*_ROW_ARRAYS, "n_atoms"))
        if not same:
            raise ValueError("features can be joined only when they describe the same centers of the same structures")
        blocks, parts = dict(self.blocks), dict(self.parts)
        width = {key: block.shape[2] for key, block in blocks.items()}
        for name, ranges in other.parts.items():
            parts[name] = {key: (start + width.get(key, 0), stop + width.get(key, 0))
                           for key, (start, stop) in ranges.items()}  # fmt: skip
        ours, theirs = self._current_labels(), other._current_labels()
        labels = {**theirs, **ours}
        for key, block in other.blocks.items():
            if key in blocks:
                blocks[key] = np.concatenate([blocks[key], block], axis=2)
                labels.pop(key, None)
                if key in ours and key in theirs:
                    labels[key] = _joined_labels(ours[key], theirs[key])
            else:
                blocks[key] = block
        return EquivariantFeatures(blocks, self.species, self.structures, self.atoms, self.n_atoms, parts, labels)

    def invariants(self, aggregate: str | None = None) -> NDArray[Any]:
        """Plain 2-D array of the scalar block.

        Parameters
        ----------
        aggregate : {None, "sum", "mean"}, default=None
            A row for each center, or their sum or mean for each structure.

        Returns
        -------
        ndarray of shape (n_centers or n_structures, n_features)
        """
        if "0e" not in self.blocks:
            raise KeyError(f"there is no scalar block '0e' among {list(self.blocks)}: ask for it with irreps='0e+...'")
        if not (aggregate is None or (isinstance(aggregate, str) and aggregate in ("sum", "mean"))):
            raise ValueError(f"aggregate={aggregate!r} must be None, 'sum' or 'mean'")
        return aggregate_rows(self.blocks["0e"][:, 0], self.offsets, aggregate)

    def composition(self, species: Sequence[int]) -> NDArray[np.float64]:
        """Count the centers of each of the species in every structure, shape (n_structures, n_species)."""
        counts = np.zeros((len(self), len(species)))
        for column, number in enumerate(species):
            counts[:, column] = np.bincount(self.structures[self.species == number], minlength=len(self))
        return counts

    def split_centers(self, rows: NDArray[np.int64] | None = None) -> EquivariantFeatures:
        """Make every center, or each of the given rows, a structure of its own."""
        rows = np.arange(len(self.species)) if rows is None else rows
        ones = np.ones(len(rows), dtype=np.int64)
        return self._rows(rows, np.arange(len(rows)), ones, 0 * ones)

    def where(self, row: int) -> str:
        """Name the center of a row in a message."""
        return f"structure {structure_number(self.origin, self.structures[row])}, atom {self.atoms[row]}"

    def copy(self) -> EquivariantFeatures:
        """Features that share no array with these."""
        made = isinstance(self.blocks, MadeBlocks)
        blocks = self.blocks.copy() if made else {key: block.copy() for key, block in self.blocks.items()}
        rows = {name: getattr(self, name).copy() for name in (*_ROW_ARRAYS, "n_atoms")}
        labels = {key: one.copy() for key, one in self._current_labels().items()}
        parts = {name: dict(part) for name, part in self.parts.items()}
        return EquivariantFeatures.of_checked(blocks, **rows, parts=parts, labels=labels)

    def to_dict(self) -> dict[str, Any]:
        """Arguments of the constructor: a dict of arrays, and of dicts of them by irrep, or by part and irrep."""
        arrays = {name: getattr(self, name) for name in (*_ROW_ARRAYS, "n_atoms", "parts")}
        return {"blocks": dict(self.blocks), **arrays, "labels": self._current_labels()}

    def stored(self) -> dict[str, Any]:
        """Arguments of :meth:`of_checked`, with densities in the place of blocks that nobody has asked for."""
        arrays = {name: getattr(self, name) for name in (*_ROW_ARRAYS, "n_atoms", "parts")}
        made_of = self.density
        if made_of is None:
            return self.to_dict()
        return {"blocks": None, **arrays, "labels": {}, "density": made_of.density, "maker": made_of.maker.to_dict()}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, Any]) -> EquivariantFeatures:
        """Features from what :meth:`to_dict` returned."""
        arrays = _dict(arrays, "arrays")
        missing = {"blocks", *_ROW_ARRAYS, "n_atoms"} - set(arrays)
        unknown = set(arrays) - {"blocks", *_ROW_ARRAYS, "n_atoms", "parts", "labels"}
        if missing or unknown:
            raise ValueError(f"arrays lacks the keys {sorted(missing)} and has the unknown keys {sorted(unknown)}")
        return cls(**arrays)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an ``.npz`` file, readable with :meth:`load` and by numpy alone."""
        arrays = {f"block {key}": block for key, block in self.blocks.items()}
        arrays |= {f"labels {key}": labels for key, labels in self._current_labels().items()}
        for name, ranges in self.parts.items():
            arrays |= {f"part {key} {name}": np.array(pair) for key, pair in ranges.items()}
        np.savez(path, **arrays, **{name: getattr(self, name) for name in (*_ROW_ARRAYS, "n_atoms")})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EquivariantFeatures:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            missing = {*_ROW_ARRAYS, "n_atoms"} - set(getattr(arrays, "files", ()))
            if missing:
                raise ValueError(f"{path} lacks the arrays {sorted(missing)}: it was not written by save")
            blocks, labels = (
                {key.removeprefix(kind): arrays[key] for key in arrays.files if key.startswith(kind)}
                for kind in ("block ", "labels ")
            )
            parts: dict[str, dict] = {}
            for key, name in (one.split(" ", 2)[1:] for one in arrays.files if one.startswith("part ")):
                parts.setdefault(name, {})[key] = tuple(arrays[f"part {key} {name}"].tolist())
            rows = {name: arrays[name] for name in (*_ROW_ARRAYS, "n_atoms")}
            return cls(blocks, **rows, parts=parts, labels=labels)

    def to_metatensor(self) -> Any:
        """Convert to a TensorMap with featomic's labels, see :mod:`eqkernels.descriptors.interop`.

        Returns
        -------
        metatensor.TensorMap
        """
        from eqkernels.descriptors.interop import to_metatensor

        return to_metatensor(self)

    @classmethod
    def from_metatensor(cls, tensor_map: Any, n_atoms: ArrayLike | None = None) -> EquivariantFeatures:
        """Features from a TensorMap such as featomic's, see :mod:`eqkernels.descriptors.interop`.

        Parameters
        ----------
        tensor_map : metatensor.TensorMap
            With the keys ``o3_lambda, o3_sigma, center_type`` (or center_type among the samples).
        n_atoms : array-like of int, shape (n_structures,), default=None
            Number of atoms of each structure; None: every atom is a center.

        Returns
        -------
        EquivariantFeatures
        """
        from eqkernels.descriptors.interop import from_metatensor

        return cls(**from_metatensor(tensor_map, n_atoms))


def _dict(given, name):
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(given).__name__}")
    return dict(given or {})


def _integers(values, name):
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged
        raise ValueError(f"{name} is no array of integers: {error}") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64, copy=False)


def _joined_labels(ours, theirs):
    """Labels of two blocks side by side, -1 in fields that only the other one has."""
    names = list(dict.fromkeys((*ours.dtype.names, *theirs.dtype.names)))
    joined = np.full(len(ours) + len(theirs), -1, dtype=[(name, np.int64) for name in names])
    for rows, labels in ((slice(len(ours)), ours), (slice(len(ours), None), theirs)):
        for name in labels.dtype.names:
            joined[name][rows] = labels[name]
    return joined


def aggregate_rows(rows, offsets, aggregate):
    """Sum or average rows (n_centers, ...) over the centers of each structure; unchanged for None."""
    if aggregate is None:
        return rows
    # scipy adds whole rows, many times faster than numpy.add.reduceat
    ones = np.ones(len(rows), dtype=rows.dtype)
    membership = csr_array((ones, np.arange(len(rows)), offsets), shape=(len(offsets) - 1, len(rows)))
    sums = membership @ rows.reshape(len(rows), math.prod(rows.shape[1:]))
    sums = sums.reshape(len(offsets) - 1, *rows.shape[1:])
    if aggregate == "mean":
        sums /= np.maximum(np.diff(offsets), 1).reshape(-1, *[1] * (rows.ndim - 1))
    return sums


def row_features(blocks, batch, is_center, labels):
    """Blocks with the structure, atom and species of each center of a batch."""
    atoms = is_center.nonzero()[0]
    features = EquivariantFeatures.of_checked(
        blocks,
        batch.numbers[atoms],
        batch.structure_of_atom[atoms],
        batch.atom_in_structure[atoms],
        batch.offsets[1:] - batch.offsets[:-1],
        labels=labels,
    )
    features.origin = batch.origin
    return features
