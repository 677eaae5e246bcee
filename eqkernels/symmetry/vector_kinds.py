"""The eight kinds of quantities with an axis, by how they answer inversion, rotation, reflection and time reversal.

A quantity along an axis n keeps or reverses its sign under inversion, under a rotation by 180 degrees about a line
perpendicular to n, and under time reversal; a reflection in a plane that contains n is the product of the first two. A
component m = 0 of degree l and parity p is multiplied by p and by (-1)^l: odd degrees are vectors, even ones directors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eqkernels._numeric import real_array
from eqkernels.so3 import CartesianTensor, Irreps, wigner_d
from eqkernels.symmetry.target_spaces import target_space

# Answers are 1 or -1; a quantity with more than one kind, or with another axis, is in between.
_CLEAR = 1e-6


@dataclass(frozen=True)
class VectorKind:
    """One of the eight kinds; made by :func:`vector_kinds` and :func:`measured_kind`.

    Attributes
    ----------
    name : str
        ``"vector"``, ``"pseudovector"``, ``"director"`` or ``"helix"``, each also ``"time-odd"``. The first four are
        properties that models take as targets.
    symbol : str
        Hlinka's letter: P, G, N, C; time-odd T, M, L, F.
    inversion, rotation, reflection, time_reversal : int
        1 where the operation leaves the quantity, -1 where it reverses it: inversion, a rotation by 180 degrees about a
        line perpendicular to the axis, a reflection in a plane that contains it.
    irrep : str
        Lowest one in which the axis can be seen.
    group : str
        Symmetry of the quantity, 1' being time reversal.
    example : str

    Examples
    --------
    >>> VectorKind.of_answers(inversion=1, rotation=-1, time_reversal=-1).example
    'magnetization'
    """

    name: str
    symbol: str
    inversion: int
    rotation: int
    time_reversal: int
    irrep: str
    group: str
    example: str

    @property
    def reflection(self) -> int:  # noqa: D102  in Attributes
        return self.inversion * self.rotation

    @classmethod
    def of_answers(cls, inversion: int, rotation: int, time_reversal: int = 1) -> VectorKind:
        """Kind with these answers.

        Parameters
        ----------
        inversion, rotation, time_reversal : {1, -1}

        Returns
        -------
        VectorKind
        """
        for one in VECTOR_KINDS:
            if (one.inversion, one.rotation, one.time_reversal) == (inversion, rotation, time_reversal):
                return one
        raise ValueError(
            f"inversion={inversion!r}, rotation={rotation!r} and time_reversal={time_reversal!r} must be 1 or -1 each"
        )

    def __str__(self) -> str:
        signs = ["-+"[sign > 0] for sign in (self.inversion, self.rotation, self.reflection, self.time_reversal)]
        return f"{self.name} ({self.symbol}, {self.irrep}): {' '.join(signs)}"


#: In the order of table I of the reference of :func:`vector_kinds`: those even under time reversal first.
VECTOR_KINDS = (
    VectorKind("director", "N", 1, 1, 1, "2e", "∞/mm1'", "nematic order"),
    VectorKind("vector", "P", -1, -1, 1, "1o", "∞m1'", "electric dipole"),
    VectorKind("helix", "C", -1, 1, 1, "2o", "∞21'", "optical rotation along an axis"),
    VectorKind("pseudovector", "G", 1, -1, 1, "1e", "∞/m1'", "ferroaxial rotation of a sublattice"),
    VectorKind("time-odd director", "L", 1, 1, -1, "2e", "∞/mm", "antiferromagnetic order of hematite"),
    VectorKind("time-odd vector", "T", -1, -1, -1, "1o", "∞/m'm", "toroidal moment"),
    VectorKind("time-odd helix", "F", -1, 1, -1, "2o", "∞/m'm'", "magnetization in a parallel electric field"),
    VectorKind("time-odd pseudovector", "M", 1, -1, -1, "1e", "∞/mm'", "magnetization"),
)


def vector_kinds(target: str | CartesianTensor | Irreps, *, time_reversal: int = 1) -> dict[str, VectorKind]:
    """Kinds of the parts of a target: what each irrep is when it has an axis.

    Parameters
    ----------
    target : str, CartesianTensor or Irreps
        A property such as ``"dipole"`` or ``"helix"``, index symmetries or irreps.
    time_reversal : {1, -1}, default=1
        -1 for quantities that reverse with time, such as a magnetization. The features of structures without spins
        are even.

    Returns
    -------
    dict of str to VectorKind
        By irrep. Scalars are directors of degree zero, pseudoscalars such helices.

    See Also
    --------
    measured_kind : of a tensor and an axis.
    allowed_components : which of them a group has.

    References
    ----------
    J. Hlinka, Phys. Rev. Lett. 113, 165502 (2014). T. E. Smidt, Trends Chem. 3, 82 (2021), figure 1.

    Examples
    --------
    >>> for irrep, kind in vector_kinds("optical_rotation").items():  # inversion, rotation, reflection, time
    ...     print(irrep, kind)
    0o helix (C, 2o): - + - +
    1o vector (P, 1o): - - + +
    2o helix (C, 2o): - + - +
    """
    irreps = {str(irrep): irrep for _, irrep in target_space(target).irreps}
    return {key: VectorKind.of_answers(one.p, (-1) ** one.l, time_reversal) for key, one in irreps.items()}


def measured_kind(
    tensor: ArrayLike,
    target: str | CartesianTensor | Irreps,
    axis: ArrayLike = (0.0, 0.0, 1.0),
    *,
    time_reversal: int = 1,
) -> VectorKind:
    """Kind of a tensor with an axis, by what the operations make of it.

    Parameters
    ----------
    tensor : array-like of shape (3, ..., 3)
        Of irreps, (dim,).
    target : str, CartesianTensor or Irreps
    axis : array-like of shape (3,), default=(0, 0, 1)
    time_reversal : {1, -1}, default=1

    Returns
    -------
    VectorKind

    Raises
    ------
    ValueError
        If the tensor is zero, is not symmetric about the axis, or is of several kinds.

    Examples
    --------
    >>> measured_kind([[0, 1, 0], [-1, 0, 0], [0, 0, 0]], "ij").name  # an antisymmetric polar tensor of rank 2
    'pseudovector'
    """
    space = target_space(target)
    value, direction = real_array(tensor, "tensor"), real_array(axis, "axis")
    if value.shape != space.shape or direction.shape != (3,) or not np.linalg.norm(direction) > 0:
        raise ValueError(
            f"tensor has shape {value.shape}, expected {space.shape}; axis is {direction}, expected a vector"
        )
    components = space.rows @ value.ravel()
    operations = _operations(direction / np.linalg.norm(direction))
    moved = wigner_d(space.irreps, operations) @ components
    square = components @ components
    answers = moved @ components / square if square > 0 else np.zeros(3)
    if np.abs(np.abs(answers) - 1).max() > _CLEAR or answers[2] < 0:
        raise ValueError(
            f"the tensor is zero, is of several kinds or has another axis than {np.round(direction, 4)}: inversion, a "
            f"perpendicular rotation and a rotation about the axis leave {', '.join(f'{a:.4f}' for a in answers)} of it"
        )
    return VectorKind.of_answers(round(answers[0]), round(answers[1]), time_reversal)


def _operations(axis):
    """Inversion, a rotation by 180 degrees about a line perpendicular to the axis, and a rotation about it."""
    normal = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    normal /= np.linalg.norm(normal)
    half = 2 * np.outer(normal, normal) - np.eye(3)
    cross = np.cross(np.eye(3), axis)  # by one radian, no part of a full turn
    about = np.cos(1.0) * np.eye(3) + np.sin(1.0) * cross + (1 - np.cos(1.0)) * np.outer(axis, axis)
    return np.array([-np.eye(3), half, about])
