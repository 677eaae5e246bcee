"""What decides about models of data: numbers of labels and elements, sizes of structures, how labels grow with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eqkernels.so3 import CartesianTensor
from eqkernels.so3.properties import find_property
from eqkernels.structures import StructureBatch, atom_counts, read_labels
from eqkernels.structures.elements import MANY

# Components of an irrep up to which an exact Gaussian process is fitted within a minute on one core.
LARGEST_EXACT = 3500
# More elements than this share channels, of which there are so many, unless they are embedded by the periodic table.
_SPECIES, _CHANNELS = 6, 4
_INTENSIVE = {"band_gap", "dielectric", "stress", "elastic", "piezoelectric", "second_harmonic", "conductivity",
              "thermal_expansion", "polarization", "g_tensor"}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What decides: see the names."""

    n_atoms: np.ndarray
    frames: list[Any]
    y: Any
    target: Any
    per_atom: bool
    tensor: CartesianTensor
    n_labels: int
    n_compositions: int
    n_species: int
    norms: np.ndarray
    labels: np.ndarray

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.frames)

    @property
    def n_centers(self) -> int:
        """Number of atoms."""
        return int(self.n_atoms.sum())

    @property
    def largest(self) -> int:
        """Components of the largest irrep."""
        return self.n_labels * max(irrep.dim for _, irrep in self.tensor.irreps)


def read_facts(frames: list[Any], y: Any, target: Any, per_atom: bool | None) -> Facts:
    """Read frames and labels, and what decides about models of them."""
    n_atoms = atom_counts(StructureBatch.from_frames(frames))
    labels = read_labels(y, n_atoms, target, per_atom)
    formulas = {tuple(np.unique(atoms.numbers, return_counts=True)[0]) + tuple(
        np.unique(atoms.numbers, return_counts=True)[1]) for atoms in frames}  # fmt: skip
    norms = np.linalg.norm(labels.values.reshape(len(labels.values), -1), axis=1)
    return Facts(
        n_atoms, frames, y, target, labels.per_atom, labels.tensor, len(labels.values), len(formulas),
        len({int(number) for atoms in frames for number in atoms.numbers}), norms, labels.given(),
    )  # fmt: skip


def choose_aggregate(facts: Facts, target: Any) -> tuple[str | None, list[str]]:
    """Choose the sum or mean over atoms, for targets of structures of different sizes."""
    if facts.per_atom or len(np.unique(facts.n_atoms)) == 1:
        return None, []
    known = find_property(target) if isinstance(target, str) else None
    if known is not None and known.name in _INTENSIVE:
        return "mean", [f"aggregate='mean': {known.name} does not grow with the structure"]
    if known is not None and known.name != "energy":
        return None, []
    slope = np.polyfit(np.log(facts.n_atoms), np.log(np.maximum(facts.norms, 1e-300)), 1)[0]
    if slope < 0.5 and facts.tensor.formula != "i":
        return "mean", [f"aggregate='mean': the labels do not grow with the structures (n_atoms^{slope:.1f})"]
    return None, []


def species_channels(n_species: int) -> dict[str, Any]:
    """Parameters of descriptors by which more than a few elements share channels; many are embedded by default."""
    return {"n_species_channels": _CHANNELS} if _SPECIES < n_species < MANY else {}
