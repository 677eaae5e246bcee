"""Which components of a tensor a group leaves, by Neumann's principle, and tensors without the others.

The symmetric part of the mean of D(g) over operations of a group has the eigenvalue 1 for the components that
all of these operations leave unchanged, and for no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from eqkernels._numeric import real_array
from eqkernels.so3 import CartesianTensor, Irreps, wigner_d
from eqkernels.symmetry.point_groups import PointGroup
from eqkernels.symmetry.printed_forms import independent_components, relation_lines, voigt_matrix
from eqkernels.symmetry.space_groups import TOLERANCE, point_group, site_groups, structure_group
from eqkernels.symmetry.target_spaces import TargetSpace, target_space

# Other eigenvalues of finite groups are 0, of the generators of continuous ones below 1 - 1e-4 up to high degrees.
_INVARIANT = 1 - 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class AllowedComponents:
    """Components of a tensor that a group leaves, made by :func:`allowed_components`.

    ``print`` writes them as crystallographers do: a matrix, in Voigt's notation for ranks 3 and 4 with symmetric pairs
    of indices, or the relations between the components.

    Attributes
    ----------
    group : PointGroup
    target : str
    basis : ndarray of shape (dimension, 3, ..., 3)
        Orthonormal tensors that the group leaves unchanged; of irreps, (dimension, dim).
    names : tuple of str
        Of all components: ``"xx"``, or ``"2e,-1"`` of irreps (degree and parity, then m).
    """

    group: PointGroup
    target: str
    basis: NDArray[np.float64]
    names: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """Number of independent components."""
        return len(self.basis)

    @property
    def projector(self) -> NDArray[np.float64]:
        """Matrix (3**rank, 3**rank) that projects flat tensors on those allowed; of irreps, (dim, dim)."""
        flat = self.basis.reshape(self.dimension, len(self.names))
        return flat.T @ flat

    @property
    def relations(self) -> dict[str, dict[str, float]]:
        """Each component that may be other than zero as a combination of independent ones.

        Examples
        --------
        >>> allowed_components("3", "polarizability").relations["yy"]
        {'xx': 1.0}
        """
        rows, matrix = independent_components(self.basis, self.names)
        return {
            name: {self.names[k]: round(float(factor), 12) for k, factor in zip(rows, column, strict=True) if factor}
            for name, column in zip(self.names, matrix.T, strict=True)
            if column.any()
        }

    @property
    def independent(self) -> list[str]:
        """Names of independent components, as many as the dimension."""
        return [self.names[k] for k in independent_components(self.basis, self.names)[0]]

    def project(self, tensors: ArrayLike) -> NDArray[np.float64]:
        """Part of tensors (..., 3, ..., 3), or of components (..., dim) of irreps, that the group allows."""
        tensors = real_array(tensors, "tensors")
        shape = self.basis.shape[1:]
        if tensors.shape[tensors.ndim - len(shape) :] != shape:
            raise ValueError(f"tensors have shape {tensors.shape}, expected (..., {', '.join(map(str, shape))})")
        batch = tensors.shape[: tensors.ndim - len(shape)]
        return (tensors.reshape(*batch, len(self.names)) @ self.projector).reshape(tensors.shape)

    @property
    def form(self) -> list[str]:
        """Lines of the matrix, or the relations, that ``print`` shows."""
        return voigt_matrix(self.basis, self.names) or relation_lines(self.basis, self.names)

    def __str__(self) -> str:
        head = f"{self.target} in {self.group.hermann_mauguin} ({self.group.schoenflies}): "
        if not self.dimension:
            return head + "zero"
        number = f"{self.dimension} independent component{'s' * (self.dimension > 1)}"
        return "\n".join([head + number, *self.form])

    def __repr__(self) -> str:
        return f"AllowedComponents({self.target!r}, {self.group.hermann_mauguin!r}, dimension={self.dimension})"


def allowed_components(
    group_or_atoms: str | PointGroup | Atoms,
    target: str | CartesianTensor | Irreps,
    *,
    per_atom: bool | None = None,
    tolerance: float = TOLERANCE,
) -> AllowedComponents | list[AllowedComponents]:
    """Components of a tensor that symmetry allows, and the relations between them (Neumann's principle).

    Parameters
    ----------
    group_or_atoms : str, PointGroup or ase.Atoms
        A group by its name is in the standard setting of :meth:`PointGroup.from_name`. Of a structure it is that of
        :func:`point_group`, and components are along the axes of its positions.
    target : str, CartesianTensor or Irreps
        A property such as ``"piezoelectric"`` or ``"gyration"``, index symmetries such as ``"ij=ji"``, or irreps such
        as ``"2e+4e"``.
    per_atom : bool, default=None
        For structures: whether each atom has a tensor, of which its site group decides. None: as the property has it;
        formulas and irreps are of the structure.
    tolerance : float, default=0.01
        For structures, as for :func:`point_group`.

    Returns
    -------
    AllowedComponents, or a list of one for each atom

    See Also
    --------
    symmetrize : project tensors.
    explain_zero : the operations that are responsible.

    References
    ----------
    J. F. Nye, Physical Properties of Crystals, Oxford University Press (1985).

    Examples
    --------
    >>> print(allowed_components("32", "piezoelectric"))  # doctest: +NORMALIZE_WHITESPACE
    piezoelectric in 32 (D3): 2 independent components
     11  -11    0   14    0    0
      0    0    0    0  -14  -11
      0    0    0    0    0    0
    Voigt: 1 .. 6 are xx, yy, zz, yz, xz, xy; entries are components of the tensor, without factors of 2
    >>> from ase.build import molecule
    >>> allowed_components(molecule("H2O"), "dipole").dimension
    1
    """
    space = target_space(target, per_atom)
    if not isinstance(group_or_atoms, Atoms):
        if per_atom:
            raise ValueError("per_atom=True takes a structure; the site group of an atom can be passed by itself")
        group = group_or_atoms if isinstance(group_or_atoms, PointGroup) else PointGroup.from_name(group_or_atoms)
        return allowed_of_group(group, space)
    if space.per_atom:
        return allowed_at_sites(group_or_atoms, space, tolerance)
    return allowed_of_group(point_group(group_or_atoms, tolerance=tolerance), space)


def allowed_at_sites(atoms: Atoms, space: TargetSpace, tolerance: float) -> list[AllowedComponents]:
    """Return the allowed components of each atom."""
    return [allowed_of_group(group, space) for group in site_groups(atoms, tolerance=tolerance)]


def allowed_of_group(group: PointGroup, space: TargetSpace) -> AllowedComponents:
    """Return the allowed components of a space of tensors."""
    invariant = invariant_components(group.elements(space.l_max)[0], space.irreps)
    flat = invariant @ space.rows
    rows, matrix = independent_components(flat, space.names)
    basis = np.linalg.qr(matrix.T)[0].T if len(rows) else flat
    return AllowedComponents(group, space.name, basis.reshape(len(basis), *space.shape), space.names)


def invariant_components(matrices: NDArray[np.float64], irreps: Irreps) -> NDArray[np.float64]:
    """Orthonormal components (dimension, dim) of irreps that operations leave unchanged."""
    blocks = []
    for part, (_, irrep) in zip(_single_slices(irreps), _singles(irreps), strict=True):
        mean = wigner_d(irrep, matrices).mean(axis=0)
        values, vectors = np.linalg.eigh((mean + mean.T) / 2)
        rows = np.zeros(((values > _INVARIANT).sum(), irreps.dim))
        rows[:, part] = vectors[:, values > _INVARIANT].T
        blocks.append(rows)
    return np.concatenate(blocks) if blocks else np.zeros((0, irreps.dim))


def _singles(irreps):
    return [(1, irrep) for multiplicity, irrep in irreps for _ in range(multiplicity)]


def _single_slices(irreps):
    ends = np.cumsum([0] + [irrep.dim for _, irrep in _singles(irreps)])
    return [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]


def symmetrize(
    atoms: Atoms,
    tensor: ArrayLike,
    target: str | CartesianTensor | Irreps,
    *,
    per_atom: bool | None = None,
    tolerance: float = TOLERANCE,
) -> NDArray[np.float64]:
    """Mean of tensors over the operations of their structure.

    Parameters
    ----------
    atoms : ase.Atoms
    tensor : array-like of shape (3, ..., 3) or (n_atoms, 3, ..., 3)
        Of the structure or of each atom; of irreps, (dim,) or (n_atoms, dim).
    target, per_atom, tolerance
        As for :func:`allowed_components`.

    Returns
    -------
    ndarray of the same shape
        What the group does not allow is zero; equivalent atoms have tensors that the operations take into each other.

    Raises
    ------
    ValueError
        If the shape is not that of the target.

    Examples
    --------
    >>> from ase.build import molecule
    >>> symmetrize(molecule("H2O"), [0.1, -0.2, -1.8], "dipole").round(12) + 0.0
    array([ 0. ,  0. , -1.8])
    """
    space = target_space(target, per_atom)
    values = real_array(tensor, "tensor")
    expected = ((len(atoms),) if space.per_atom else ()) + space.shape
    if values.shape != expected:
        owner = "of each atom" if space.per_atom else "of the structure"
        raise ValueError(f"tensor has shape {values.shape}, expected {expected} for {space.name!r} {owner}")
    components = values.reshape(-1, space.rows.shape[1]) @ space.rows.T
    if space.per_atom:
        components = _averaged(atoms, components, space, tolerance)
    else:
        group = point_group(atoms, tolerance=tolerance)
        invariant = invariant_components(group.elements(space.l_max)[0], space.irreps)
        components = components @ invariant.T @ invariant
    return (components @ space.rows).reshape(values.shape)


def _averaged(atoms, components, space, tolerance):
    """Mean over operations of the tensors that each takes to an atom."""
    group = structure_group(atoms, tolerance)
    matrices, permutations = group.matrices, np.asarray(group.permutations)
    if isinstance(group, PointGroup):
        if group.schoenflies == "Kh":
            invariant = invariant_components(matrices, space.irreps)
            return components @ invariant.T @ invariant
        matrices, permutations = map(np.asarray, group.elements(space.l_max))
    # in a cell that is not primitive, atoms that are images of one another have equal tensors
    _, images = np.unique(permutations[0], return_inverse=True)
    members = np.eye(images.max() + 1)[images]
    components = members @ ((members.T @ components) / members.sum(axis=0)[:, None])
    rotations = wigner_d(space.irreps, matrices)
    return np.mean([components[places] @ d for d, places in zip(rotations, permutations, strict=True)], axis=0)
