"""Why symmetry makes components of a tensor zero or equal: the operations that are responsible."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from eqkernels.so3 import CartesianTensor, Irreps, wigner_d
from eqkernels.symmetry.allowed import AllowedComponents, allowed_at_sites, allowed_of_group
from eqkernels.symmetry.group_algebra import operation_symbol
from eqkernels.symmetry.point_groups import Operation, PointGroup
from eqkernels.symmetry.space_groups import TOLERANCE, point_group, structure_group
from eqkernels.symmetry.target_spaces import TargetSpace, target_space

_INVARIANT = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What symmetry requires of a tensor, and by which operations; ``print`` it. Made by :func:`explain_zero`.

    Attributes
    ----------
    owner : str
        Whose tensor it is: the formula of the structure, or an atom.
    allowed : AllowedComponents
        Components that the group leaves.
    operations : list of Operation
        A few operations that suffice: what they leave, the whole group leaves.
    zero_components : list of str
        Names of components that must be zero.
    n_components : int
        Number of independent components without any symmetry.
    scalar : bool
        Whether no operation changes the value, so that equivalent atoms have equal ones.
    equivalent : dict of int to Operation
        Atoms that have the same tensor but for the operation that takes this atom to them.
    """

    owner: str
    allowed: AllowedComponents
    operations: list[Operation]
    zero_components: list[str]
    n_components: int
    scalar: bool
    equivalent: dict[int, Operation] = field(default_factory=dict)

    @property
    def zero(self) -> bool:
        """Whether the whole tensor must be zero."""
        return self.allowed.dimension == 0

    def __str__(self) -> str:
        group, target = self.allowed.group, self.allowed.target
        head = f"{target} of {self.owner}, {group.hermann_mauguin} ({group.schoenflies}): "
        names = " and ".join(str(one) for one in self.operations)
        if self.zero:
            text = f"zero, since {names} {'leaves' if len(self.operations) == 1 else 'leave'} no component unchanged"
        elif not self.operations:
            text = "symmetry restricts no component"
        else:
            number = f"{self.allowed.dimension} of {self.n_components}"
            text = "\n".join([f"independent components {number}, because of {names}", *self.allowed.form])
        return head + text + self._equivalent_atoms()

    def _equivalent_atoms(self):
        if not self.equivalent or self.zero:
            return ""
        same = "equal values" if self.scalar else "the same tensor, turned by the operation,"
        atoms = [f"{atom} by {str(one).replace('E', 'translation')}" for atom, one in self.equivalent.items()]
        return f"\n{same} at equivalent atoms: {', '.join(atoms)}"

    def __repr__(self) -> str:
        return f"Explanation({self.owner!r}, {self.allowed!r}, operations={[str(one) for one in self.operations]})"


def explain_zero(
    atoms: Atoms,
    target: str | CartesianTensor | Irreps,
    *,
    per_atom: bool | None = None,
    tolerance: float = TOLERANCE,
) -> Explanation | list[Explanation]:
    r"""Explain why a model must return zero, or equal values, for a structure.

    Parameters
    ----------
    atoms : ase.Atoms
    target, per_atom, tolerance
        As for :func:`allowed_components`.

    Returns
    -------
    Explanation, or a list of one for each set of equivalent atoms

    Examples
    --------
    >>> from ase.build import molecule
    >>> print(explain_zero(molecule("CO2"), "dipole"))
    dipole of CO2, ∞/mm (Dinfh): zero, since i leaves no component unchanged
    >>> print(*explain_zero(molecule("H2O"), "charges"), sep="\n")
    charges of atom 0 (O), mm2 (C2v): symmetry restricts no component
    charges of atom 1 (H), m (Cs): symmetry restricts no component
    equal values at equivalent atoms: 2 by C2 [0 0 1]
    """
    space = target_space(target, per_atom)
    if not space.per_atom:
        group = point_group(atoms, tolerance=tolerance)
        return _explained(str(atoms.symbols), allowed_of_group(group, space), space)
    whole = structure_group(atoms, tolerance)
    allowed = allowed_at_sites(atoms, space, tolerance)
    return [
        _explained(f"atom {first} ({atoms.symbols[first]})", allowed[first], space, equivalent)
        for first, equivalent in _orbits(whole, len(atoms)).items()
    ]


def _orbits(group, n_atoms):
    """First atom of each set of equivalent ones, and by which operation it comes to each other one."""
    orbits: dict[int, dict[int, Operation]] = {}
    seen: set[int] = set()
    operations = group.operations
    images = group.permutations[0]
    for first in range(n_atoms):
        if first in seen:
            continue
        orbits[first] = {}
        for operation in operations:
            for atom in np.flatnonzero(images == operation.permutation[first]).tolist():
                if atom != first:
                    orbits[first].setdefault(atom, operation)
        seen |= {first, *orbits[first]}
    return {first: dict(sorted(others.items())) for first, others in orbits.items()}


def _explained(owner, allowed, space, equivalent=None):
    own = np.abs(space.rows).max(axis=0) > _INVARIANT
    left = set(allowed.relations)
    zeros = [name for name, one in zip(space.names, own, strict=True) if one and name not in left]
    operations = _responsible(allowed.group, space, allowed.dimension)
    return Explanation(owner, allowed, operations, zeros, space.irreps.dim, space.irreps == "0e", equivalent or {})


def _responsible(group: PointGroup, space: TargetSpace, dimension: int) -> list[Operation]:
    """Few operations that leave no more than the group: each time the one that leaves least."""
    candidates = _candidates(group)
    rotations = wigner_d(space.irreps, np.array([one.matrix for one in candidates]))
    left = np.eye(space.irreps.dim)
    chosen: list[Operation] = []
    while len(left) > dimension:
        best, k = min(((len(_invariant(left, one)), k) for k, one in enumerate(rotations)))
        if best == len(left):
            break
        left = _invariant(left, rotations[k])
        chosen.append(candidates[k])
    return chosen


def _invariant(left, rotation):
    """Rows of the space of those left that an operation leaves, too."""
    restricted = left @ rotation @ left.T
    values, vectors = np.linalg.eigh((restricted + restricted.T) / 2)
    return vectors[:, values > 1 - _INVARIANT].T @ left


def _candidates(group):
    """Operations of a group, the simplest first; of continuous ones generators, and inversion if they have it."""
    operations = group.operations
    if group.continuous and group.schoenflies.endswith("h"):
        center = np.linalg.lstsq((np.eye(3) - group.matrices).reshape(-1, 3), group.translations.ravel(), rcond=None)[0]
        operations.append(Operation(-np.eye(3), 2 * center, operations[-1].permutation))
    return sorted(operations, key=lambda one: _complexity(one.matrix))


def _complexity(matrix):
    """Inversion and reflections before rotations, which come by their order."""
    name = operation_symbol(matrix).split()[0]
    return name not in ("i", "m"), len(name), name
