"""Structures rotated, mirrored, moved and with their atoms in another order, for checks of symmetry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import real_array
from eqkernels.structures.inputs import turned_inputs


def random_rotation(random_state: int | np.random.RandomState | None = None) -> NDArray[np.float64]:
    """Proper rotation matrix, uniform over all of them.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState or None
        Seed.

    Returns
    -------
    ndarray of shape (3, 3)
    """
    random = random_state if isinstance(random_state, np.random.RandomState) else np.random.RandomState(random_state)
    q, r = np.linalg.qr(random.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def transformed(
    atoms: Atoms,
    rotation: ArrayLike | None = None,
    translation: ArrayLike | None = None,
    order: ArrayLike | None = None,
    inputs: Mapping[str, str] | None = None,
    time_reversed: bool = False,
) -> Atoms:
    """Copy of a structure, its positions and cell rotated (or mirrored), then moved, its atoms reordered.

    Labels of the atoms follow them: arrays of integers and strings, such as residue numbers and names.

    Parameters
    ----------
    atoms : ase.Atoms
    rotation : ndarray of shape (3, 3), default=None
        Orthogonal matrix, proper or improper.
    translation : ndarray of shape (3,), default=None
    order : ndarray of int, shape (n_atoms,), default=None
        The atom at position k of the copy is ``order[k]`` of the original.
    inputs : dict of str to str, default=None
        Kinds of the inputs of the structure (keys of ``atoms.info`` and ``atoms.arrays``) that are to follow it.
    time_reversed : bool, default=False
        Whether inputs that are odd under time reversal change their sign.

    Returns
    -------
    ase.Atoms
    """
    if not isinstance(atoms, Atoms):
        raise TypeError(f"atoms is a {type(atoms).__name__}, expected ase.Atoms")
    rotation = np.eye(3) if rotation is None else real_array(rotation, "rotation", finite=True)
    translation = np.zeros(3) if translation is None else real_array(translation, "translation", finite=True)
    if rotation.shape != (3, 3) or translation.shape != (3,):
        raise ValueError(f"rotation has shape {rotation.shape}, expected (3, 3); translation {translation.shape}, (3,)")
    positions = atoms.positions @ rotation.T + translation
    order = np.arange(len(atoms)) if order is None else np.asarray(order)
    if order.ndim != 1 or order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(len(atoms))):
        raise ValueError(f"order={order!r} must be a permutation of the {len(atoms)} atoms")
    cell = atoms.cell.array @ rotation.T
    new = Atoms(numbers=atoms.numbers[order], positions=positions[order], cell=cell, pbc=atoms.pbc)
    for name, values in atoms.arrays.items():
        if name != "numbers" and values.ndim == 1 and values.dtype.kind in "iuUS":
            new.arrays[name] = values[order]
    for name, values in turned_inputs(atoms, rotation, inputs or {}, time_reversed).items():
        if name in atoms.arrays:
            new.arrays[name] = values[order]
        else:
            new.info[name] = values
    return new
