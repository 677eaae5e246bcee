"""Labels of the fuzz tests: tensors of any rank and parity, of structures and of atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.neighborlist import neighbor_list

from eqkernels import CartesianTensor

TARGETS = [("", ""), ("i", ""), ("i", "i"), ("ij=ji", ""), ("ij", ""), ("ij=-ji", ""),
           ("ijk=-jik=-ikj", ""), ("ijk=jik=ikj", ""), ("ij", "j")]  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """Labels of structures or atoms: random ones, or tensors that a sum over neighbors makes ("physical")."""

    kind: str
    formula: str
    axial: str
    per_atom: bool
    seed: int

    @property
    def target(self):
        """Declared target."""
        return CartesianTensor(self.formula, axial=self.axial)

    def of(self, structures):
        """Make labels for a list of structures."""
        random = np.random.default_rng(self.seed)
        if self.kind == "random":
            shapes = [(len(atoms), *self.target.shape) if self.per_atom else self.target.shape for atoms in structures]
            values = [self.target.project(random.normal(size=shape)) for shape in shapes]
        else:
            values = [self._of_atoms(atoms) for atoms in structures]
            values = values if self.per_atom else [self.target.project(one.sum(axis=0)) for one in values]
        return values if self.per_atom else np.array(values)

    def _of_atoms(self, atoms):
        i, j, d, vectors = neighbor_list("ijdD", atoms, 4.0)
        units, smooth = vectors / d[:, None], (1 - d / 4.0) ** 3
        weights = [
            (1 + atoms.numbers[j]) ** power * smooth * np.cos(wave * d)
            for power, wave in ((0.3, 0.0), (0.5, 1.0), (0.1, 2.0))
        ]
        a, b, c = (_by_atom(i, w[:, None] * units, len(atoms)) for w in weights)
        matrix = _by_atom(i, weights[0][:, None, None] * units[:, :, None] * units[:, None, :], len(atoms))
        axial = np.cross(a, b)
        chiral = np.einsum("ix,ix->i", axial, c)
        scalar = 0.1 * atoms.numbers + np.trace(matrix, axis1=1, axis2=2)
        out = {
            ("", ""): scalar,
            ("i", ""): a,
            ("i", "i"): axial,
            ("ij", "j"): a[:, :, None] * axial[:, None, :],
            ("ij=ji", "j"): b[:, :, None] * axial[:, None, :] + chiral[:, None, None] * np.eye(3),
        }.get((self.formula, self.axial))
        if out is None and len(self.target.shape) == 2:
            out = matrix + a[:, :, None] * b[:, None, :]
        if out is None:
            out = np.einsum("ia,ib,ic->iabc", a, b, c) + np.einsum("ia,ibc->iabc", c, matrix)
        return self.target.project(out)


def _by_atom(owners, values, n):
    out = np.zeros((n, *values.shape[1:]))
    np.add.at(out, owners, values)
    return out
