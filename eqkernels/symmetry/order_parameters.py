"""Which inputs must be added to a structure so that a model can reach a target of lower symmetry.

A model's output has every symmetry of its input. The target is left unchanged by the operations of H, a part of the
group G of the structure. An input x of degree l and parity p, at the atoms of a site or of the structure as a whole,
opens the way if the operations of G that leave it unchanged are all in H: it is invariant under H, and not under more.
Of crystals, inputs are sorted by the star of their wave vector, which G leaves apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import check_integer, real_array
from eqkernels.so3 import CartesianTensor, Irreps
from eqkernels.symmetry.acting_groups import ActingGroup, acting_group
from eqkernels.symmetry.group_names import hermann_mauguin_of, schoenflies_of
from eqkernels.symmetry.space_groups import TOLERANCE
from eqkernels.symmetry.target_spaces import target_space

# Part of the largest value of a target within which it is unchanged.
_UNCHANGED = 1e-3
# The same of fields made here, which are exact to rounding.
_EXACT = 1e-6
# So many inputs together are tried where fewer do not suffice.
_MOST_TOGETHER = 3
_LISTED = 6
_HARMONICS = {0: ["1"], 1: ["y", "z", "x"], 2: ["xy", "yz", "z2", "xz", "x2-y2"]}


@dataclass(frozen=True, eq=False, repr=False)
class OrderParameter:
    """A kind of input that breaks symmetry as the target does; made by :func:`order_parameters`.

    Attributes
    ----------
    irrep : str
    element : str or None
        Of the atoms that carry the input; None: it belongs to the structure.
    sites : ndarray of int, or None
        These atoms.
    wave_vectors : list of tuple of float
        In units of the reciprocal vectors of the cell; of molecules, (0, 0, 0).
    basis : ndarray of shape (dimension, n_sites, 2 l + 1)
        Orthonormal inputs that have the symmetry of the target and not that of the structure.
    n_operations : int
        Number of operations that remain with such an input.
    sufficient : bool
        Whether those are operations of the target only.
    parts : list of (tuple of float, str)
        Direction of the input at each wave vector.
    remaining : ndarray of bool
        Mask of these operations.
    """

    irrep: str
    element: str | None
    sites: NDArray[np.int64] | None
    wave_vectors: list[tuple[float, ...]]
    basis: NDArray[np.float64]
    n_operations: int
    sufficient: bool
    parts: list[tuple[tuple[float, ...], str]]
    remaining: NDArray[np.bool_]

    @property
    def dimension(self) -> int:
        """Number of independent inputs."""
        return len(self.basis)

    def __str__(self) -> str:
        where = "of the structure" if self.sites is None else f"on {self.element} (atom {self.sites[0]})"
        parts = [
            (f"wave vector ({_fractions(q)}), " if any(map(any, self.wave_vectors)) else "") + text
            for q, text in self.parts
        ]
        return f"{self.irrep} {where}: {'; '.join(parts)}"

    __repr__ = __str__


@dataclass(frozen=True, eq=False, repr=False)
class OrderParameters:
    """Inputs that open the way to a target, ``print`` them; made by :func:`order_parameters`.

    Attributes
    ----------
    group, target_group : str
        Hermann-Mauguin symbols of the point groups of the structure and of the target.
    index : int
        How many times fewer operations the target has, translations counted.
    all : list of OrderParameter
        All kinds of inputs up to ``l_max``, lowest degree first.
    choices : list of tuple of OrderParameter
        Smallest sets that suffice.
    amplitudes : dict of tuple to float
        Of a target at atoms: norm by wave vector, without what has the symmetry of the structure.
    """

    group: str
    target_group: str
    index: int
    all: list[OrderParameter]
    choices: list[tuple[OrderParameter, ...]]
    amplitudes: dict[tuple[float, ...], float]

    def __str__(self) -> str:
        if self.index == 1:
            return f"the target has the symmetry of the structure, {self.group}: nothing is to be added"
        lines = [f"{self.group} to {self.target_group}, {self.index} times fewer operations: add one of"]
        lines += ["- " + ", and ".join(map(str, choice)) for choice in self.choices[:_LISTED]]
        if len(self.choices) > _LISTED:
            lines.append(f"- or {len(self.choices) - _LISTED} more sets, see choices")
        return "\n".join(lines if self.choices else [*lines, "- nothing found: raise l_max"])

    __repr__ = __str__


def order_parameters(
    atoms: Atoms,
    y: ArrayLike,
    target: str | CartesianTensor | Irreps = "forces",
    *,
    per_atom: bool | None = None,
    supercell: tuple[int, int, int] = (1, 1, 1),
    l_max: int = 2,
    tolerance: float = TOLERANCE,
) -> OrderParameters:
    """Find the irreps that must be added to the input of a model, so that it can reach a target of lower symmetry.

    Parameters
    ----------
    atoms : ase.Atoms
        Structure of high symmetry; of a crystal, preferably the primitive cell.
    y : array-like of shape (n_atoms, 3, ..., 3) or (3, ..., 3)
        Target, e.g. displacements of the atoms of ``atoms.repeat(supercell)`` to a structure of lower symmetry. Their
        mean, a translation, is left out of displacements.
    target : str, CartesianTensor or Irreps, default="forces"
        What y is; displacements are vectors of atoms, as forces are.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: as the property has it.
    supercell : tuple of int, default=(1, 1, 1)
        Copies of a crystal's cell, for targets with a wave vector.
    l_max : int, default=2
        Largest degree of inputs.
    tolerance : float, default=0.01
        As for :func:`point_group`.

    Returns
    -------
    OrderParameters

    Raises
    ------
    ValueError
        If y has another shape than the target.

    References
    ----------
    T. E. Smidt, M. Geiger, B. K. Miller, Phys. Rev. Research 3, L012002 (2021), find the same by gradients of
    the loss by inputs that are zero.

    Examples
    --------
    >>> square = Atoms("H4", [[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
    >>> to_rectangle = 0.1 * square.positions * [1, -1, 0]
    >>> print(order_parameters(square, to_rectangle).choices[0][0])
    2e of the structure: x2-y2
    """
    check_integer(l_max, "l_max", 0, 6)
    space = target_space(target, per_atom)
    group = acting_group(atoms, supercell, tolerance, max(l_max, space.l_max))
    sites = np.arange(len(group.atoms)) if space.per_atom else None
    field = _field(y, space, sites)
    inside = (
        group.leaving(field, space.irreps, sites, _UNCHANGED) if field.any() else np.ones(len(group.matrices), bool)
    )
    stars = group.stars()
    found = []
    for l in range(l_max + 1):
        for parity in (1, -1):
            for place in [None, *group.orbits()]:
                found += _inputs(group, Irreps([(1, (l, parity))]), place, stars, inside)
    amplitudes = _amplitudes(group, field, space.irreps, sites)
    return OrderParameters(
        _name(group.matrices),
        _name(group.matrices[inside]),
        len(inside) // int(inside.sum()),
        found,
        _choices(found, inside, amplitudes),
        amplitudes,
    )


def _field(y, space, sites):
    values = real_array(y, "y")
    expected = (() if sites is None else (len(sites),)) + space.shape
    if values.shape != expected:
        raise ValueError(f"y has shape {values.shape}, expected {expected} for {space.name!r}")
    field = values.reshape(-1, space.rows.shape[1]) @ space.rows.T
    if str(space.irreps) == "1x1o" and sites is not None:
        field = field - field.mean(axis=0)
    return field


def _name(matrices):
    unique = matrices[np.unique(matrices.round(6).reshape(len(matrices), 9), axis=0, return_index=True)[1]]
    return hermann_mauguin_of(schoenflies_of(unique))


def _inputs(group: ActingGroup, irreps, sites, stars, inside):
    """Yield inputs of one irrep at one site, by the star of their wave vectors."""
    everything, members = np.arange(len(inside)), np.flatnonzero(inside)
    fields = group.invariants(irreps, sites, members)
    common = group.invariants(irreps, sites, everything)
    fields = _rows(fields - np.einsum("aij,bij,bkl->akl", fields, common, common))
    for star in stars:
        basis = _rows(group.at(fields, star, sites)) if len(fields) else fields
        if not len(basis):
            continue
        random = np.random.default_rng(0).normal(size=len(basis))
        remaining = group.leaving(np.tensordot(random, basis, 1), irreps, sites, _EXACT)
        yield OrderParameter(
            str(irreps[0][1]),
            None if sites is None else group.atoms.symbols[sites[0]],
            sites,
            [tuple(group.wave_vectors[q].tolist()) for q in star],
            basis,
            int(remaining.sum()),
            bool(not (remaining & ~inside).any()),
            list(_parts(group, basis, star, sites)),
            remaining,
        )


def _rows(fields):
    """Orthonormal basis of the fields (n, n_sites, dim)."""
    if not len(fields):
        return fields
    _, sizes, rows = np.linalg.svd(fields.reshape(len(fields), -1), full_matrices=False)
    return rows[sizes > _EXACT].reshape(-1, *fields.shape[1:])


def _parts(group, basis, star, sites):
    """Directions of the inputs at each wave vector, as text."""
    for q in star:
        number = group.number(group.phases[q].conj())
        if number < q and number in star:
            continue  # the same as its negative
        part = group.at(basis, np.unique([q, number]), sites)
        if np.abs(part).max() > _EXACT:
            yield tuple(group.wave_vectors[q].tolist()), _direction(part)


def _direction(part):
    """Components of the tensors of a field, if all atoms have the same but for a factor."""
    rows = part.reshape(-1, part.shape[-1])
    size, degree = np.linalg.svd(rows, compute_uv=False), (part.shape[-1] - 1) // 2
    if (size > _EXACT).sum() > 1:
        return f"{len(part)} independent"
    row = np.linalg.svd(rows)[2][0]
    row = row / row[np.argmax(np.abs(row))]
    if degree == 1:
        axis = row[[2, 0, 1]] * np.sign(row[[2, 0, 1]][np.flatnonzero(np.abs(row[[2, 0, 1]]) > _EXACT)[0]])
        whole = np.abs(axis - axis.round()).max() < 1e-4
        return f"axis [{' '.join(str(int(a)) if whole else f'{a:.3f}' for a in (axis.round() if whole else axis))}]"
    names = _HARMONICS.get(degree, [f"m={m}" for m in range(-degree, degree + 1)])
    terms = [f"{a:+.3g} {name}".replace("+1 ", "+ ").replace("-1 ", "- ") for a, name in zip(row, names, strict=True)
             if abs(a) > _EXACT]  # fmt: skip
    return " ".join(terms).removeprefix("+ ") if degree else "scalar"


def _choices(found, inside, amplitudes):
    """Smallest sets of inputs that leave operations of the target only."""
    if inside.all():
        return []
    for number in range(1, _MOST_TOGETHER + 1):
        sets = [
            some
            for some in combinations(found, number)
            if not (np.logical_and.reduce([one.remaining for one in some]) & ~inside).any()
        ]
        if sets:
            return sorted(sets, key=lambda some: _complexity(some, amplitudes))
    return []


def _complexity(inputs, amplitudes):
    """Sort key: with wave vectors that the target has, of one kind, of low degree, of the structure."""
    other = sum(not any(q in amplitudes for q in one.wave_vectors) for one in inputs) if amplitudes else 0
    kinds = len({(one.irrep, None if one.sites is None else int(one.sites[0])) for one in inputs})
    return (
        other,
        kinds,
        sum(one.dimension - 1 for one in inputs),
        sum(one.sites is not None for one in inputs),
        sum(int(one.irrep[:-1]) for one in inputs),
    )


def _amplitudes(group, field, irreps, sites):
    if sites is None:
        return {}
    common = group.invariants(irreps, sites, np.arange(len(group.matrices))) if len(sites) < 200 else None
    rest = field if common is None else field - np.einsum("ij,bij,bkl->kl", field, common, common)
    norms = {}
    for q in range(len(group.wave_vectors)):
        minus = group.number(group.phases[q].conj())
        size = float(np.linalg.norm(group.at(rest, np.unique([q, minus]), sites)))
        if minus >= q and size > _UNCHANGED * max(float(np.linalg.norm(rest)), 1e-300):
            norms[tuple(group.wave_vectors[q].tolist())] = size
    return norms


def _fractions(vector):
    return " ".join(str(Fraction(one).limit_denominator(24)) for one in vector)
