"""Groups of structures: the point group of a molecule or crystal, the site group of an atom, the space group.

Crystals by spglib (A. Togo, K. Shinohara, I. Tanaka, Sci. Technol. Adv. Mater.: Methods 4, 2384822, 2024).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from eqkernels.symmetry.group_algebra import SAME, idealized
from eqkernels.symmetry.group_names import schoenflies_of
from eqkernels.symmetry.molecular_search import molecular_group
from eqkernels.symmetry.point_groups import Operation, PointGroup

#: Distance in Angstrom within which atoms are at the same place.
TOLERANCE = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class SpaceGroup:
    """Space group of a crystal, made by :func:`space_group`.

    Attributes
    ----------
    number : int
        In International Tables A.
    hermann_mauguin : str
        Short symbol, e.g. ``"P6_3mc"``.
    schoenflies : str
        E.g. ``"C6v^4"``.
    matrices : ndarray of shape (n, 3, 3)
        Cartesian matrices of the operations of the primitive cell, the identity first.
    translations : ndarray of shape (n, 3)
        Cartesian translation of each, in Angstrom.
    permutations : ndarray of int of shape (n, n_atoms)
        Atom i comes to the place of atom ``permutations[k, i]``, or of an image of it by a translation of the crystal;
        in a cell that is not primitive, of the first of the atoms that are images of one another.
    """

    number: int
    hermann_mauguin: str
    schoenflies: str
    matrices: NDArray[np.float64]
    translations: NDArray[np.float64]
    permutations: NDArray[np.int64]

    @property
    def operations(self) -> list[Operation]:
        """All operations."""
        rows = zip(self.matrices, self.translations, self.permutations, strict=True)
        return [Operation(*one) for one in rows]

    @property
    def point_group(self) -> PointGroup:
        """Crystal class: of each matrix, the first operation."""
        flat = self.matrices.reshape(-1, 9)
        first = np.unique(np.array([np.argmax(flat @ one > 3 - SAME) for one in flat]))
        return _selected(self, first)

    def __repr__(self) -> str:
        return f"SpaceGroup({self.number}, {self.hermann_mauguin!r}, {len(self.matrices)} operations)"


def point_group(atoms: Atoms, *, tolerance: float = TOLERANCE) -> PointGroup:
    """Point group of a molecule, or crystal class of a crystal or slab.

    Atoms are equivalent only if they are of the same element; charges and magnetic moments are not looked at.

    Parameters
    ----------
    atoms : ase.Atoms
        A molecule where no direction is periodic; slabs must be periodic in two directions. Crystals need spglib,
        ``pip install "eqkernels[symmetry]"``.
    tolerance : float, default=0.01
        Largest distance, in Angstrom, between where an operation takes an atom and the atom that is there. A larger one
        finds the symmetry of a structure that is less exact. Of operations of molecules that are no group,
        those with the largest errors are dropped.

    Returns
    -------
    PointGroup
        Its matrices are those of an exact group.

    Raises
    ------
    ImportError
        If a crystal is to be analysed and spglib is not installed.
    ValueError
        If the structure is periodic in one direction only, or atoms coincide.

    See Also
    --------
    site_group : of an atom.
    PointGroup.from_name : without a structure.

    Examples
    --------
    >>> from ase.build import molecule
    >>> point_group(molecule("NH3"))
    PointGroup('C3v', '3m', 6 operations)
    >>> point_group(molecule("CO2"))
    PointGroup('Dinfh', '∞/mm', continuous)
    """
    group = structure_group(atoms, tolerance)
    return group.point_group if isinstance(group, SpaceGroup) else group


def site_group(atoms: Atoms, i: int, *, tolerance: float = TOLERANCE) -> PointGroup:
    """Site group of an atom: the operations of the structure that leave it at its place.

    Parameters
    ----------
    atoms : ase.Atoms
    i : int
        Index of the atom.
    tolerance : float, default=0.01
        As for :func:`point_group`.

    Returns
    -------
    PointGroup

    Raises
    ------
    ValueError
        If there is no atom i.

    Examples
    --------
    >>> from ase.build import molecule
    >>> site_group(molecule("CH4"), 1)  # a hydrogen atom
    PointGroup('C3v', '3m', 6 operations)
    """
    return site_groups(atoms, [i], tolerance=tolerance)[0]


def site_groups(atoms, indices=None, *, tolerance=TOLERANCE):
    """Return the site groups of atoms, by default of all; one search for all of them."""
    group = structure_group(atoms, tolerance)
    indices = range(len(atoms)) if indices is None else [_index(i, len(atoms)) for i in indices]
    return [_stabilizer(group, atoms.positions[i], i) for i in indices]


def structure_group(atoms: Atoms, tolerance: float) -> PointGroup | SpaceGroup:
    """Space group of what is periodic, point group of a molecule."""
    tolerance = _checked(atoms, tolerance)
    if atoms.pbc.any():
        return space_group(atoms, tolerance=tolerance)
    return molecular_group(atoms.positions, atoms.numbers, tolerance)


def space_group(atoms: Atoms, *, tolerance: float = TOLERANCE) -> SpaceGroup:
    """Space group of a crystal.

    Of a slab, periodic in two directions, that of a stack of it, whose operations are those of the layer group.

    Parameters
    ----------
    atoms : ase.Atoms
        Periodic in two or three directions. Needs spglib, ``pip install "eqkernels[symmetry]"``.
    tolerance : float, default=0.01
        As for :func:`point_group`.

    Returns
    -------
    SpaceGroup

    Raises
    ------
    ImportError
        If spglib is not installed.
    ValueError
        If the structure is periodic in no or in one direction only, or atoms coincide.

    Examples
    --------
    >>> from ase.build import bulk
    >>> space_group(bulk("ZnO", "wurtzite", a=3.25, c=5.2))
    SpaceGroup(186, 'P6_3mc', 12 operations)
    """
    tolerance = _checked(atoms, tolerance)
    cell, first, dataset, kind = _analysed(atoms, tolerance)
    turns = cell.T @ dataset.rotations @ np.linalg.inv(cell.T)
    permutations = [
        first[_places(atoms, first, cell, turn, shift)]
        for turn, shift in zip(turns, dataset.translations @ cell, strict=True)
    ]
    rows = np.argsort([np.abs(turn - np.eye(3)).max() > SAME for turn in turns], kind="stable")
    different = np.unique(dataset.rotations, axis=0, return_index=True)[1]
    matrices = _exact(turns, different)
    return SpaceGroup(int(dataset.number), dataset.international, kind.schoenflies, matrices[rows],
                      (dataset.translations @ cell)[rows], np.array(permutations)[rows])  # fmt: skip


def _checked(atoms, tolerance):
    if not isinstance(atoms, Atoms):
        raise TypeError(f"atoms must be an ase.Atoms, got {type(atoms).__name__}")
    if not isinstance(tolerance, Real) or not 0 < float(tolerance) < 1:
        raise ValueError(f"tolerance={tolerance!r} must be a distance between 0 and 1 Angstrom")
    if not len(atoms):
        raise ValueError("atoms is empty: a structure without atoms has no symmetry to find")
    if not np.isfinite(atoms.positions).all():
        raise ValueError(f"atom {np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0]} has no finite position")
    return float(tolerance)


def _index(i, n_atoms):
    if not isinstance(i, Integral) or not -n_atoms <= i < n_atoms:
        raise ValueError(f"there is no atom {i!r}: the structure has {n_atoms} atoms")
    return int(i) % n_atoms


def _full_cell(atoms):
    """Cell vectors; along a direction that is not periodic, one that is long and perpendicular to the others."""
    if atoms.pbc.sum() < 2:
        raise ValueError(f"atoms is periodic in {atoms.pbc.sum()} directions, a space group takes two or three")
    cell = atoms.cell.array.copy()
    if np.linalg.matrix_rank(cell[atoms.pbc]) < atoms.pbc.sum():
        raise ValueError(f"cell vectors of periodic directions must be independent, got {cell[atoms.pbc].tolist()}")
    (free,) = np.nonzero(~atoms.pbc)
    for k in free:
        a, b = cell[k - 2], cell[k - 1]
        normal = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
        cell[k] = normal * (3 * np.ptp(atoms.positions @ normal) + 2 * max(np.linalg.norm([a, b], axis=1)) + 10)
    return cell


def _analysed(atoms, tolerance):
    """Primitive cell, the atoms in it, what spglib says about them: larger cells hide operations that change them."""
    cell = _full_cell(atoms)
    dataset, kind = _spglib_dataset(atoms, cell, tolerance)
    first = np.unique(dataset.mapping_to_primitive, return_index=True)[1]
    if len(first) < len(atoms):
        cell = dataset.primitive_lattice
        dataset, kind = _spglib_dataset(atoms[first], cell, tolerance)
    return cell, first, dataset, kind


def _spglib_dataset(atoms, cell, tolerance):
    try:
        import spglib
    except ImportError as error:
        raise ImportError('the symmetry of crystals needs spglib: pip install "eqkernels[symmetry]"') from error
    described = (cell, atoms.positions @ np.linalg.inv(cell), atoms.numbers)
    with _exceptions(spglib):
        try:
            dataset = spglib.get_symmetry_dataset(described, symprec=tolerance)
        except getattr(spglib, "SpglibError", ()):  # before 2.7 it returns None
            dataset = None
        if dataset is None:
            raise ValueError(
                f"spglib finds no symmetry of {atoms.symbols} within tolerance={tolerance}: look for atoms that are "
                "closer than the tolerance"
            )
        return dataset, spglib.get_spacegroup_type(dataset.hall_number)


@contextmanager
def _exceptions(spglib):
    """Errors as exceptions, for the time of a call: the default from 2.8 on, a switch in 2.7, not there before."""
    error: Any = getattr(spglib, "error", None)
    before = getattr(error, "OLD_ERROR_HANDLING", None)
    if before is None:
        yield
        return
    error.OLD_ERROR_HANDLING = False
    try:
        yield
    finally:
        error.OLD_ERROR_HANDLING = before


def _places(atoms, first, cell, matrix, translation):
    """Which of the atoms in the primitive cell is, or has an image, where an operation takes each atom."""
    steps = (atoms.positions @ matrix.T + translation)[:, None] - atoms.positions[first]
    fractional = steps @ np.linalg.inv(cell)
    distances = np.linalg.norm((fractional - fractional.round()) @ cell, axis=2)
    distances[atoms.numbers[:, None] != atoms.numbers[first]] = np.inf
    return distances.argmin(axis=1)


def _exact(turns, different):
    """Orthogonal matrices of an exact group next to those in a cell that is exact only within the tolerance."""
    exact = idealized(turns[different])
    nearest = np.einsum("nij,mij->nm", turns, exact).argmax(axis=1)
    return exact[nearest]


def _stabilizer(group, position, i):
    if isinstance(group, PointGroup) and group.continuous:
        return _linear_stabilizer(group, i)
    rows = np.flatnonzero(group.permutations[:, i] == group.permutations[0, i])
    stabilizer = _selected(group, rows)
    return PointGroup(stabilizer.schoenflies, stabilizer.matrices, position - stabilizer.matrices @ position,
                      stabilizer.permutations)  # fmt: skip


def _linear_stabilizer(group, i):
    rows = np.flatnonzero(group.permutations[:, i] == i)
    name = group.schoenflies if len(rows) == len(group.matrices) else "Cinfv"
    return PointGroup(name, group.matrices[rows], group.translations[rows], group.permutations[rows], group.frame)


def _selected(group, rows):
    """Point group of some operations, all different as matrices."""
    matrices = group.matrices[rows]
    return PointGroup(schoenflies_of(matrices), matrices, group.translations[rows], group.permutations[rows])
