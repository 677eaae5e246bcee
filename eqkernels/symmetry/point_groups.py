"""Point groups: their operations and names, found in structures or made from a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eqkernels.symmetry.group_algebra import closure, operation_symbol
from eqkernels.symmetry.group_names import generators_of, hermann_mauguin_of, read_name


@dataclass(frozen=True, eq=False)
class Operation:
    """A symmetry operation: x becomes ``matrix @ x + translation``.

    Attributes
    ----------
    matrix : ndarray of shape (3, 3)
        Cartesian, orthogonal.
    translation : ndarray of shape (3,)
        Cartesian, in Angstrom.
    permutation : ndarray of int of shape (n_atoms,), or None
        Atom i comes to the place of atom ``permutation[i]``; None for groups by name.
    """

    matrix: NDArray[np.float64]
    translation: NDArray[np.float64]
    permutation: NDArray[np.int64] | None = None

    def __str__(self) -> str:
        return operation_symbol(self.matrix)


@dataclass(frozen=True, eq=False, repr=False)
class PointGroup:
    """A point group, finite or continuous.

    Made by :func:`point_group`, :func:`site_group` or :meth:`from_name`.

    Attributes
    ----------
    schoenflies : str
        E.g. ``"D6h"``; ``"Cinfv"`` and ``"Dinfh"`` of linear molecules, ``"Kh"`` of an atom.
    matrices : ndarray of shape (n, 3, 3)
        Cartesian matrices of all operations, the identity first; of continuous groups, those of generators.
    translations : ndarray of shape (n, 3)
        Translation of each, in Angstrom.
    permutations : ndarray of int of shape (n, n_atoms), or None
        Atom i comes to the place of atom ``permutations[k, i]``; None for groups by name.
    frame : ndarray of shape (3, 3), or None
        Rotation from the standard setting of a continuous group to this one.

    Examples
    --------
    >>> PointGroup.from_name("4/mmm")
    PointGroup('D4h', '4/mmm', 16 operations)
    >>> print(*PointGroup.from_name("mm2").operations, sep=", ")
    E, C2 [0 0 1], m [1 0 0], m [0 1 0]
    """

    schoenflies: str
    matrices: NDArray[np.float64]
    translations: NDArray[np.float64]
    permutations: NDArray[np.int64] | None = None
    frame: NDArray[np.float64] | None = None

    @classmethod
    def from_name(cls, name: str) -> PointGroup:
        """Point group of a name, in the standard setting of Nye.

        Monoclinic axis y, all other principal axes z; 2 along x in 32, -3m and -42m, m perpendicular to x in 3m and
        -6m2. Other settings by their names: 312, 31m, -31m, -62m, -4m2, 2mm, m2m.

        Parameters
        ----------
        name : str
            Hermann-Mauguin or Schoenflies symbol of a crystal class, of any axial or icosahedral group, or of one of
            Curie's continuous groups (``"Cinfv"`` or ``"∞m"``, ``"Kh"``, ...).

        Returns
        -------
        PointGroup

        Raises
        ------
        ValueError
            If the name is not known.
        """
        schoenflies, turn = read_name(name)
        generators = generators_of(schoenflies)
        frame = np.eye(3) if turn is None else turn
        continuous = "inf" in schoenflies or schoenflies[0] == "K"
        matrices = frame @ (generators if continuous else closure(generators)) @ frame.T
        return cls(schoenflies, matrices, np.zeros((len(matrices), 3)), frame=frame if continuous else None)

    @property
    def hermann_mauguin(self) -> str:
        """Short Hermann-Mauguin symbol."""
        return hermann_mauguin_of(self.schoenflies)

    @property
    def continuous(self) -> bool:
        """Whether it has an axis of all rotations."""
        return self.frame is not None

    @property
    def order(self) -> float:
        """Number of operations; infinite for continuous groups."""
        return float("inf") if self.continuous else len(self.matrices)

    @property
    def operations(self) -> list[Operation]:
        """All operations; of continuous groups, generators."""
        permutations = [None] * len(self.matrices) if self.permutations is None else self.permutations
        return [Operation(*one) for one in zip(self.matrices, self.translations, permutations, strict=True)]

    def elements(self, l_max: int) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Operations that stand for the group where degrees do not exceed l_max.

        On such tensors, all rotations about an axis leave the same ones unchanged as those by multiples of
        360 / (l_max + 1) degrees. For K and Kh they are generators.

        Parameters
        ----------
        l_max : int

        Returns
        -------
        matrices : ndarray of shape (n, 3, 3)
        permutations : ndarray of int of shape (n, n_atoms), or None
        """
        if self.frame is None or self.schoenflies[0] == "K":
            return self.matrices, self.permutations
        finite = self.schoenflies.replace("inf", str(max(l_max + 1, 3)))
        standard = closure(generators_of(finite))
        matrices = self.frame @ standard @ self.frame.T
        if self.permutations is None:
            return matrices, None
        axis = self.frame[:, 2]
        turning = self.permutations[np.argmin(axis @ self.matrices @ axis)]
        staying = np.arange(len(turning))
        return matrices, np.array([turning if one[2, 2] < 0 else staying for one in standard])

    def __repr__(self) -> str:
        number = "continuous" if self.continuous else f"{len(self.matrices)} operations"
        return f"PointGroup({self.schoenflies!r}, {self.hermann_mauguin!r}, {number})"
