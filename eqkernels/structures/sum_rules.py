r"""Laws that derivatives of tensors by positions obey: what they say of a wrong sign, order of indices, or unit.

A tensor T of a structure does not change when the structure is moved, which is the acoustic sum rule, and turns with a
molecule. With the derivatives :math:`D_{a i \ldots j} = \partial T_{i \ldots} / \partial r_{aj}`, therefore,

.. math:: \sum_a D_{a i \ldots j} = 0 , \quad
          \sum_a D_{a i \ldots j}\, \epsilon_{jkl}\, r_{al} = \epsilon_{ikl}\, T_{l \ldots} + \ldots

with one term on the right for each index of T (for dipoles: W. B. Person, J. H. Newton, J. Chem. Phys. 61, 1040
(1974)). Without T the left side must still be of this form, which transposed derivatives are not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eqkernels._warnings import warn
from eqkernels.structures.batch import StructureBatch

# Part of the derivatives by which they may break the sum rule without a word, and with no more than a warning.
_CONVERGED, _BROKEN = 0.05, 0.5
# Part of their terms by which derivatives may miss what rotations ask for without a word.
_TURNED = 0.1
# Derivatives with another sign, order of indices or unit are what is meant if they miss it by no more than this part of
# what those that are given miss, which must be more than what rounding and convergence leave.
_BETTER, _ROUNDING = 0.3, 0.01
# Molecules that are turned, evenly spaced among all.
_MOLECULES = 64
# Molecules of which both sides are this part of their terms tell nothing: their tensors vanish by symmetry.
_NOTHING = 1e-3
_LEVI_CIVITA = np.zeros((3, 3, 3))
for _i, _j, _k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    _LEVI_CIVITA[_i, _j, _k], _LEVI_CIVITA[_i, _k, _j] = 1.0, -1.0


def check_sum_rules(
    derivatives: NDArray[np.float64],
    n_atoms: NDArray[np.int64],
    batch_of: Callable[[NDArray[np.int64]], StructureBatch],
    tensors: NDArray[np.float64] | None = None,
) -> None:
    """Check that derivatives sum up to zero, and that they turn molecules as their tensors turn.

    Parameters
    ----------
    derivatives : ndarray of shape (n_atoms_in_all, 3, ..., 3)
        From :func:`read_derivatives`. Only structures without NaN are looked at.
    n_atoms : ndarray of int, shape (n_structures,)
    batch_of : callable
        Takes indices of structures and returns their StructureBatch.
    tensors : ndarray of shape (n_structures, 3, ..., 3), default=None
        Those whose derivatives they are; NaN where they are not known.

    Raises
    ------
    ValueError
        If the sum rule is broken by more than half of the derivatives, or derivatives with another sign, order of
        indices or unit would turn molecules as their tensors turn.
    """
    starts = np.concatenate([[0], np.cumsum(n_atoms)])
    flat = derivatives.reshape(len(derivatives), -1)
    whole = np.array([np.isfinite(flat[a:b]).all() for a, b in zip(starts, starts[1:], strict=False)], dtype=bool)
    whole &= n_atoms > 0
    good = _check_translation(derivatives, starts, whole)
    molecules = np.flatnonzero(good)
    if len(molecules) and derivatives.ndim > 2:
        molecules = molecules[np.unique(np.linspace(0, len(molecules) - 1, _MOLECULES).astype(int))]
        batch = batch_of(molecules)
        inside = np.flatnonzero(~batch.pbc.any(axis=1) & (np.diff(batch.offsets) > 1))
        _check_rotation([_Molecule.of(batch, k, molecules[k], derivatives, starts, tensors) for k in inside])


def _check_translation(derivatives, starts, whole):
    """Which structures obey the acoustic sum rule; a warning or an error if not all do."""
    good = whole.copy()
    structures = np.flatnonzero(whole)
    if not len(structures):
        return good
    norms = np.linalg.norm(derivatives.reshape(len(derivatives), -1), axis=1)
    sums = np.array([np.linalg.norm(derivatives[starts[k] : starts[k + 1]].sum(axis=0)) for k in structures])
    terms = np.array([norms[starts[k] : starts[k + 1]].sum() for k in structures])
    # structures whose derivatives are all small are no worse than others of the same error
    typical = np.mean(terms / np.diff(starts)[structures])
    part = sums / np.maximum(np.maximum(terms, typical), np.finfo(float).tiny)
    worst, broken = int(np.argmax(part)), int(np.sum(part > _CONVERGED))
    good[structures] = part <= _CONVERGED
    if not broken:
        return good
    a, b = starts[structures[worst]], starts[structures[worst] + 1]
    largest = np.abs(derivatives[a:b].sum(axis=0)).max()
    text = (
        f"the derivatives break the acoustic sum rule in {broken} of {len(structures)} structures, most in structure "
        f"{structures[worst]}: their sum over the atoms has components up to {largest:.3g}, the derivatives up to "
        f"{np.abs(derivatives[a:b]).max():.3g}, and must be zero, for a tensor does not change when all atoms move "
        "together. No model can follow them there: subtract the mean over the atoms of each structure (of an ion, "
        "whose dipole depends on the origin, that is the total charge over the number of atoms, which a ChargeKernel "
        'takes from atoms.info["charge"])'
    )
    if part[worst] > _BROKEN:
        raise ValueError(text + ", or check that they belong to these structures")
    warn(text)
    return good


class _Molecule:
    """Both sides of the law for rotations of one molecule, without the tensor if it is not known."""

    def __init__(self, number, derivatives, positions, tensor):
        self.number, self.tensor = number, tensor
        self.sides, rank = [], derivatives.ndim - 2
        for one in (derivatives, np.moveaxis(derivatives, 1, -1)):
            self.sides.append(np.einsum("a...j,jkl,al->...k", one, _LEVI_CIVITA, positions).ravel())
        self.terms = np.sum(np.linalg.norm(derivatives.reshape(len(positions), -1), axis=1)
                            * np.linalg.norm(positions, axis=1))  # fmt: skip
        self.generator = _generator(rank)

    @classmethod
    def of(cls, batch, k, number, derivatives, starts, tensors):
        """Molecule k of a batch, which is structure ``number`` of all."""
        positions = batch.positions[batch.offsets[k] : batch.offsets[k + 1]]
        tensor = None if tensors is None or not np.isfinite(tensors[number]).all() else tensors[number]
        own = derivatives[starts[number] : starts[number + 1]]
        return cls(int(number), own, positions - positions.mean(axis=0), tensor)

    @property
    def turned(self):
        """Right side of the law."""
        return self.generator @ self.tensor.ravel()

    def tells(self):
        """Whether the sides are more than rounding."""
        return max(np.linalg.norm(side) for side in self.sides) > _NOTHING * self.terms

    def beside(self, side):
        """Leave what of a left side is no right side of any tensor."""
        return side - self.generator @ np.linalg.lstsq(self.generator, side, rcond=None)[0]


def _generator(rank):
    """Matrix that takes a tensor to its changes by infinitesimal rotations about x, y and z."""
    out = np.zeros((*(3,) * rank, 3, *(3,) * rank))
    indices = "abcdef"[:rank]
    for p in range(rank):
        others = [np.eye(3)] * (rank - 1)
        left, right = indices.upper(), indices
        rest = [f"{left[q]}{right[q]}" for q in range(rank) if q != p]
        out += np.einsum(",".join([f"{left[p]}k{right[p]}", *rest]) + f"->{left}k{right}", _LEVI_CIVITA, *others)
    return out.reshape(3 ** (rank + 1), 3**rank)


def _check_rotation(molecules):
    molecules = [one for one in molecules if one.tells()]
    known = [one for one in molecules if one.tensor is not None]
    if known:
        _check_with_tensors(known)
    elif molecules:
        _check_without_tensors(molecules)


def _check_with_tensors(molecules):
    turned, terms = np.concatenate([one.turned for one in molecules]), np.linalg.norm([one.terms for one in molecules])
    sides = [np.concatenate([one.sides[c] for one in molecules]) for c in (0, 1)]
    missed = np.linalg.norm(sides[0] - turned)
    found = []
    for side, order in zip(sides, ("", "the direction in which the atom moves last instead of first"), strict=True):
        factor = side @ turned / max(turned @ turned, np.finfo(float).tiny)
        found.append((np.linalg.norm(side - factor * turned) / max(abs(factor), 1.0), factor, order))
    rest, factor, order = min(found)
    worst = max(molecules, key=lambda one: np.linalg.norm(one.sides[0] - one.turned) / one.terms)
    text = "the derivatives do not belong to y: they miss what it changes by when molecules are turned by "
    text += f"{missed / max(np.linalg.norm(turned), np.finfo(float).tiny):.0%}, most in structure {worst.number}"
    if missed > _ROUNDING * terms and rest < _BETTER * missed:
        changes = [order] if order else []
        if factor < 0:
            changes.append("the opposite sign")
        if abs(abs(factor) - 1) > _TURNED:
            changes.append(f"divided by {abs(factor):.4g} (a unit of y or of the positions?)")
        if changes:
            raise ValueError(
                f"{text}, but would not with {', and '.join(changes)}: derivatives[k][a, i, j] = dy_i / dr_aj"
            )
    if missed > _TURNED * terms:
        warn(f"{text}. Check that both are of the same structures, in the same frame and unit")


def _check_without_tensors(molecules):
    rests, terms = [], np.linalg.norm([one.terms for one in molecules])
    for c in (0, 1):
        rests.append(np.linalg.norm(np.concatenate([one.beside(one.sides[c]) for one in molecules])))
    missed, swapped = rests
    text = f"the derivatives are not those of a tensor that turns with the molecules, by {missed / terms:.0%}"
    if missed > _ROUNDING * terms and swapped < _BETTER * missed:
        raise ValueError(
            f"{text}, but would be with the direction in which the atom moves last instead of first: "
            "derivatives[k][a, i, j] = dy_i / dr_aj, so that np.moveaxis(derivatives[k], 1, -1) may be what is meant"
        )
    if missed > _TURNED * terms:
        warn(
            f"{text}, first in structure {molecules[0].number}. Check that they are of these structures, in their frame"
        )
