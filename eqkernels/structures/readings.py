"""What labels can mean: the readings that their shapes allow, and the words for those that remain open.

Entry k of y has a shape, structure k a number of atoms. A reading is a tensor of rank r of the structure, (3, ..., 3),
or one of each of its atoms, (n_atoms, 3, ..., 3); either may have its indices written in one axis, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqkernels.so3.inference import SYMMETRY_TOLERANCE

_LARGEST_RANK = 6
_NAMES = ("scalar", "vector", "matrix")
_EXAMPLES = {
    (False, 0): "energy", (False, 1): "dipole", (False, 2): "polarizability", (False, 3): "hyperpolarizability",
    (False, 4): "elastic", (True, 0): "charges", (True, 1): "forces", (True, 2): "shielding",
}  # fmt: skip
#: Shapes of the Voigt notation of a tensor, by its rank.
VOIGT = {2: (6,), 3: (3, 6), 4: (6, 6)}
_VOIGT_CURES = {
    2: "np.array([ase.stress.voigt_6_to_full_3x3_stress(one) for one in y]) if it is xx, yy, zz, yz, xz, xy, as in ASE",
    3: "with v = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]]), np.asarray(y)[:, :, v] if it is xx, yy, zz, yz, xz, xy",
    4: "with v = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]]), np.asarray(y)[:, v[:, :, None, None], v] if it is "
    "xx, yy, zz, yz, xz, xy",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """One meaning of labels.

    Attributes
    ----------
    per_atom : bool
    rank : int
    flat : bool
        Whether the indices are written in one axis of length 3**rank.
    """

    per_atom: bool
    rank: int
    flat: bool = False

    def fits(self, shape, n_atoms):
        """Whether an entry of this shape, of a structure of so many atoms, can mean this."""
        return shape == ((n_atoms,) if self.per_atom else ()) + self.trailing

    @property
    def trailing(self):
        """Shape of one tensor as it is written."""
        return (3**self.rank,) if self.flat else (3,) * self.rank

    def __str__(self):
        name = _NAMES[self.rank] if self.rank < len(_NAMES) else f"tensor of rank {self.rank}"
        return f"one {name} of each {'atom' if self.per_atom else 'structure'}"


def possible_readings(shapes, rank=None, per_atom=None):
    """List all readings that fit every entry.

    Parameters
    ----------
    shapes : set of (tuple of int, int)
        Shape of each entry, and the number of atoms of its structure.
    rank : int, default=None
        Rank of the tensors where it is declared.
    per_atom : bool, default=None
        Whether they belong to atoms, where that is declared.

    Returns
    -------
    list of Reading
    """
    candidates = [
        Reading(of_atoms, one, flat)
        for of_atoms in ((False, True) if per_atom is None else (bool(per_atom),))
        for one in (range(_LARGEST_RANK + 1) if rank is None else (rank,))
        for flat in ((False, True) if one >= 2 else (False,))
    ]
    return [one for one in candidates if all(one.fits(shape, n) for shape, n in shapes)]


def readings_of_model(shapes, rank, per_atom, regular):
    """List the readings that a model may take: flat tensors and tables of scalars only if they are declared.

    Parameters
    ----------
    shapes, rank, per_atom
        As for :func:`possible_readings`.
    regular : bool
        Whether y is one array, which by contract holds a tensor of each structure unless that cannot be.

    Returns
    -------
    list of Reading
    """
    found = possible_readings(shapes, rank, per_atom)
    if rank is None:
        found = [one for one in found if not one.flat]
    if regular and rank is None and per_atom is None:
        found = [one for one in found if not (one.per_atom and one.rank == 0)]
    return found


def check_look_alike(shapes, reading):
    """Refuse scalars of atoms, in a list, that may be a flat tensor or Voigt's notation of one."""
    sizes = {shape for shape, _ in shapes}
    if not reading.per_atom or reading.rank or len(sizes) > 1:
        return
    ((size,),) = sizes
    others = {3**rank: rank for rank in (2, 3, 4)}
    if size in others:
        rank = others[size]
        raise ValueError(
            f"the entries of y have shape ({size},), which is that of scalars of {size} atoms, and that of a tensor of "
            f"rank {rank} written row by row: write per_atom=True for scalars of atoms, or for tensors "
            f"np.reshape(y, (-1{', 3' * rank})), or target={_EXAMPLES[False, rank]!r} (or a formula such as "
            f"{'ijkl'[:rank]!r}), which restores them"
        )
    if (size,) == VOIGT[2]:
        raise ValueError(
            "the entries of y have shape (6,), which is that of scalars of 6 atoms, and that of a symmetric matrix in "
            "Voigt's notation: write per_atom=True for scalars of atoms, or for matrices, of which you know the order, "
            f"{_VOIGT_CURES[2]}"
        )


def ambiguous(readings, shapes):
    """Error of labels that can be read in several ways, which says what to write for each."""
    sizes = sorted({n for _, n in shapes})
    ways = [
        f"target={_EXAMPLES.get((one.per_atom, one.rank), 'ijklmn'[: one.rank])!r}{_or_formula(one)} or "
        f"per_atom={one.per_atom} for {one}"
        for one in readings
    ]
    return ValueError(
        f"y can be read in {len(readings)} ways, for all structures have {', '.join(map(str, sizes))} atoms: write "
        + "; ".join(ways)
    )


def _or_formula(reading):
    return f" (or a formula such as {'ijklmn'[: reading.rank]!r})" if reading.rank else ""


def unreadable(shapes, rank, per_atom, regular):
    """Error of labels that fit nothing: where, what was expected, and what to do.

    Parameters
    ----------
    shapes : list of tuple of (tuple of int, int)
        Of each entry in its order.
    rank, per_atom, regular
        As for :func:`readings_of_model`.

    Returns
    -------
    ValueError
    """
    ndims = {len(shape) for shape, _ in shapes}
    if len(ndims) > 1:
        return ValueError(f"the entries of y have different numbers of axes: {sorted(ndims)}")
    shape, n = shapes[0]
    if per_atom is None:
        as_structure = all(one == (3,) * len(one) for one, _ in shapes) or len({one for one, _ in shapes}) == 1
        per_atom = not regular and (len(shape) == rank + 1 if rank is not None else not as_structure)
    if per_atom and len(shape) and (rank is None or {one for one, _ in shapes} != {(3,) * rank}):
        for k, (one, n) in enumerate(shapes):
            if one[0] != n and regular:
                return ValueError(
                    f"y has shape (n, {', '.join(map(str, one))}), but structure {k} has {n} atoms: an array with "
                    "per-atom targets needs structures of one size; give a list of one array for each structure"
                )
            if one[0] != n:
                return ValueError(
                    f"y[{k}] has {one[0]} rows, structure {k} has {n} atoms: one row for each atom is needed"
                )
            if not Reading(False, len(one) - 1 if rank is None else rank).fits(one[1:], n):
                return _wrong_shape(f"a row of y[{k}]", one[1:], rank, True)
    for k, (one, n) in enumerate(shapes):
        if not Reading(False, len(one) if rank is None else rank).fits(one, n):
            return _wrong_shape("y" if regular else f"y[{k}]", one, rank, False, n)
    return ValueError(
        f"y has one tensor of shape {shape} for each structure, but per_atom=True asks for one for each atom, "
        f"({n}, ...) for structure 0: give a list of one array for each structure, or leave per_atom=True out"
    )


def _wrong_shape(name, shape, rank, per_atom, n_atoms=None):
    wanted = "a tensor, (3,), (3, 3), ..., or none for a scalar" if rank is None else f"{(3,) * rank}, of rank {rank}"
    advice = ""
    flat = {3**one: one for one in (2, 3, 4)}
    if len(shape) == 1 and shape[0] in flat and rank in (None, flat[shape[0]]):
        axes = ", 3" * flat[shape[0]]
        advice = f": a flattened tensor is restored by y.reshape(-1{axes}){' of each' if per_atom else ''}, or by "
        advice += f"declaring the target, e.g. {_EXAMPLES.get((per_atom, flat[shape[0]]), 'ijkl'[: flat[shape[0]]])!r}"
    for one, voigt in VOIGT.items():
        if shape == voigt and rank in (None, one):
            advice = f": Voigt's notation, of which you know the order, is restored by {_VOIGT_CURES[one]}"
            advice = advice.replace("for one in y", f"for one in {name.split()[-1]}") if per_atom else advice
    if n_atoms is not None and len(shape) and shape[0] == n_atoms:
        advice += f"; if these are labels of the {n_atoms} atoms, write per_atom=True"
    return ValueError(f"{name} has trailing shape {shape}, expected that of {wanted}{advice}")


def structure_tensors(values):
    """Whether tensors (n, 3, ..., 3) have a symmetry of their first index, which rows of atoms have not."""
    rank, norm = values.ndim - 1, np.linalg.norm(values)
    if rank < 2 or not len(values):
        return False
    others = [values.swapaxes(1, axis) for axis in range(2, rank + 1)]
    if rank == 4:
        others.append(values.transpose(0, 3, 4, 1, 2))
    bound = 2 * SYMMETRY_TOLERANCE * norm
    return any(np.linalg.norm(values - sign * one) <= bound for one in others for sign in (1, -1))
