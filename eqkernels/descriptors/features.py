"""Equivariant features: one array for each irrep, with the structure, atom and species of every row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._ranges import aggregate_rows
from eqkernels.descriptors.feature_checks import (
    as_dict,
    check_blocks,
    check_labels,
    check_places,
    check_rows,
    integers,
    unusable,
)
from eqkernels.descriptors.made_blocks import BlockMaker, MadeBlocks
from eqkernels.structures.batch import structure_number
from eqkernels.structures.places import Places

_ROWS = ("species", "structures", "atoms", "n_atoms")
# Products of three densities up to this are not too large for any kernel.
_LARGEST_DENSITY = 1e4


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
    positions : ndarray of shape (n_centers, 3), or Places, default=None
        Positions of the centers of molecules, which kernels of charges need.

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
    places: Places | None = None

    def __init__(
        self,
        blocks: Mapping[str, NDArray[Any]],
        species: ArrayLike,
        structures: ArrayLike,
        atoms: ArrayLike,
        n_atoms: ArrayLike,
        parts: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
        labels: Mapping[str, NDArray[Any]] | None = None,
        positions: NDArray[np.float64] | Mapping[str, NDArray[Any]] | Places | None = None,
    ):
        self.blocks: Any = as_dict(blocks, "blocks")
        self.species = integers(species, "species")
        self.structures = integers(structures, "structures")
        self.atoms = integers(atoms, "atoms")
        self.n_atoms = integers(n_atoms, "n_atoms")
        self.parts = as_dict(parts, "parts")
        self.labels = as_dict(labels, "labels")
        check_rows(self.species, self.structures, self.atoms, self.n_atoms)
        check_blocks(self.blocks, len(self.species))
        check_labels(self.labels, self.blocks)
        self.offsets = np.searchsorted(self.structures, np.arange(len(self.n_atoms) + 1))
        self.places = check_places(positions, self.structures, len(self.n_atoms))

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
        positions: dict[str, NDArray[Any]] | Places | None = None,
    ) -> EquivariantFeatures:
        """Features of arrays that need no more checks: they were made here, come from features, or from ``stored``."""
        self = cls.__new__(cls)
        self.blocks = blocks if density is None else MadeBlocks(density, BlockMaker(**(maker or {})))
        self.parts, self.labels = parts or {}, labels or {}
        self.species, self.structures, self.atoms, self.n_atoms = species, structures, atoms, n_atoms
        self.offsets = np.searchsorted(structures, np.arange(len(n_atoms) + 1))
        self.places = Places.from_dict(positions) if isinstance(positions, dict) else positions
        return self

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """Positions of the centers, shape (n_centers, 3); None where the features do not know them."""
        return None if self.places is None else self.places.positions

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
            problem = unusable(block)
            if problem is not None:
                row, what = problem
                raise ValueError(
                    f"the features contain {what} in block {key!r}, first for structure {self.structures[row]}, atom "
                    f"{self.atoms[row]}: make them anew, or remove the structure"
                )

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
            "features.invariants('mean') or SOAP(aggregate='mean'); descriptors are joined by EquivariantUnion, not by "
            "FeatureUnion"
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
        places = None if self.places is None else self.places.pick(rows)
        return EquivariantFeatures.of_checked(
            blocks, self.species[rows], structures, atoms, n_atoms, *rest, positions=places
        )

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
        return EquivariantFeatures.of_checked(blocks, *rows, labels=labels, positions=self.places)

    def centers(self, rows: NDArray[np.int64]) -> EquivariantFeatures:
        """Features of the centers in some rows only, of the same structures."""
        return self._rows(rows, self.structures[rows], self.n_atoms)

    def __or__(self, other: EquivariantFeatures) -> EquivariantFeatures:
        if not isinstance(other, EquivariantFeatures):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _ROWS)
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
        rows = self.species, self.structures, self.atoms, self.n_atoms
        return EquivariantFeatures(blocks, *rows, parts, labels, self.places or other.places)

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
        rows = {name: getattr(self, name).copy() for name in _ROWS}
        labels = {key: array.copy() for key, array in self._current_labels().items()}
        parts = {name: dict(part) for name, part in self.parts.items()}
        places = None if self.places is None else self.places.to_dict()
        return EquivariantFeatures.of_checked(blocks, **rows, parts=parts, labels=labels, positions=places)

    def to_dict(self, positions: bool = True) -> dict[str, Any]:
        """Arguments of the constructor: a dict of arrays, and of dicts of them by irrep, or by part and irrep.

        Parameters
        ----------
        positions : bool, default=True
            Whether to keep the positions, if they are known.

        Returns
        -------
        dict
        """
        arrays = {name: getattr(self, name) for name in (*_ROWS, "parts")}
        placed = {"positions": self.places.to_dict()} if positions and self.places is not None else {}
        return {"blocks": dict(self.blocks), **arrays, "labels": self._current_labels(), **placed}

    def stored(self, positions: bool = False) -> dict[str, Any]:
        """Arguments of :meth:`of_checked`, with densities in the place of blocks that nobody has asked for."""
        made_of = self.density
        if made_of is None:
            return self.to_dict(positions)
        arrays = {name: getattr(self, name) for name in (*_ROWS, "parts")}
        placed = {"positions": self.places.to_dict()} if positions and self.places is not None else {}
        made = {"density": made_of.density, "maker": made_of.maker.to_dict()}
        return {"blocks": None, **arrays, "labels": {}, **made, **placed}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, Any]) -> EquivariantFeatures:
        """Features from what :meth:`to_dict` returned."""
        arrays = as_dict(arrays, "arrays")
        missing = {"blocks", *_ROWS} - set(arrays)
        unknown = set(arrays) - {"blocks", *_ROWS, "parts", "labels", "positions"}
        if missing or unknown:
            raise ValueError(f"arrays lacks the keys {sorted(missing)} and has the unknown keys {sorted(unknown)}")
        return cls(**arrays)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an ``.npz`` file, readable with :meth:`load` and by numpy alone."""
        arrays = {f"block {key}": block for key, block in self.blocks.items()}
        arrays |= {f"labels {key}": labels for key, labels in self._current_labels().items()}
        for name, ranges in self.parts.items():
            arrays |= {f"part {key} {name}": np.array(pair) for key, pair in ranges.items()}
        if self.places is not None:
            arrays |= {f"places {key}": array for key, array in self.places.to_dict().items()}
        np.savez(path, **arrays, **{name: getattr(self, name) for name in _ROWS})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EquivariantFeatures:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            missing = set(_ROWS) - set(getattr(arrays, "files", ()))
            if missing:
                raise ValueError(f"{path} lacks the arrays {sorted(missing)}: it was not written by save")
            blocks, labels = (
                {key.removeprefix(kind): arrays[key] for key in arrays.files if key.startswith(kind)}
                for kind in ("block ", "labels ")
            )
            parts: dict[str, dict] = {}
            for key, name in (file.split(" ", 2)[1:] for file in arrays.files if file.startswith("part ")):
                parts.setdefault(name, {})[key] = tuple(arrays[f"part {key} {name}"].tolist())
            rows = {name: arrays[name] for name in _ROWS}
            places = {key[7:]: arrays[key] for key in arrays.files if key.startswith("places ")}
            return cls(blocks, **rows, parts=parts, labels=labels, positions=places or None)

    def to_metatensor(self) -> Any:
        """Convert to a TensorMap with featomic's labels, see :mod:`eqkernels.descriptors.interop`.

        Returns
        -------
        metatensor.TensorMap
        """
        from eqkernels.descriptors.interop import to_metatensor

        return to_metatensor(self)

    @classmethod
    def from_metatensor(
        cls, tensor_map: Any, n_atoms: ArrayLike | None = None, frames: Sequence[Atoms] | None = None
    ) -> EquivariantFeatures:
        """Features from a TensorMap such as featomic's, see :mod:`eqkernels.descriptors.interop`.

        Parameters
        ----------
        tensor_map : metatensor.TensorMap
            With the keys ``o3_lambda, o3_sigma, center_type`` (or center_type among the samples, or from the frames),
            or a single block of scalars.
        n_atoms : array-like of int, shape (n_structures,), default=None
            Number of atoms of each structure; None: that of the frames, or every atom is a center.
        frames : sequence of ase.Atoms, default=None
            The structures, which say the species of the centers where the tensor map does not.

        Returns
        -------
        EquivariantFeatures
        """
        from eqkernels.descriptors.interop import from_metatensor

        return cls(**from_metatensor(tensor_map, n_atoms, frames))


def _joined_labels(ours, theirs):
    """Labels of two blocks side by side, -1 in fields that only the other one has."""
    names = list(dict.fromkeys((*ours.dtype.names, *theirs.dtype.names)))
    joined = np.full(len(ours) + len(theirs), -1, dtype=[(name, np.int64) for name in names])
    for rows, labels in ((slice(len(ours)), ours), (slice(len(ours), None), theirs)):
        for name in labels.dtype.names:
            joined[name][rows] = labels[name]
    return joined


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
        positions=Places.of_batch(batch, atoms),
    )
    features.origin = batch.origin
    return features
