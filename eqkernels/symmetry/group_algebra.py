"""Groups of orthogonal matrices: products, closure, exact matrices from measured ones, a name for each operation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

#: Elements of exact groups agree to rounding; different ones of groups of reasonable order are further apart.
SAME = 1e-4
# Averaging converges quadratically.
_AVERAGES = 6
_LARGEST_ORDER = 2000
# Fractions of a turn. The irrational angle of continuous groups is further from all fractions of this size.
_LARGEST_DENOMINATOR = 500
_SAME_ANGLE = 3e-7


def rotation(axis, angle):
    """Rotation matrix about an axis of any length by an angle in radians."""
    x, y, z = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def reflection(normal):
    """Mirror matrix of a plane with the normal of any length."""
    normal = np.asarray(normal, dtype=float) / np.linalg.norm(normal)
    return np.eye(3) - 2 * np.outer(normal, normal)


def closure(generators):
    """Return all products of generators, the identity first.

    Parameters
    ----------
    generators : array-like of shape (n, 3, 3)

    Returns
    -------
    ndarray of shape (order, 3, 3)
    """
    elements = [np.eye(3)]
    for element in elements:  # which grows
        for generator in generators:
            product = element @ generator
            if np.abs(np.array(elements) - product).max(axis=(1, 2)).min() > SAME:
                elements.append(product)
        if len(elements) > _LARGEST_ORDER:
            raise ValueError(f"generators make more than {_LARGEST_ORDER} operations")
    return np.array(elements)


def idealized(matrices):
    """Exact group next to the matrices of an approximate one.

    The mean over h of M(g h) M(h)^-1, orthogonalized, is closer to a representation than M(g).

    Parameters
    ----------
    matrices : ndarray of shape (n, 3, 3)
        All operations of a group, each with an error that is small against the distance between two of them.

    Returns
    -------
    ndarray of shape (n, 3, 3)
    """
    flat = matrices.reshape(len(matrices), 9)
    products = np.einsum("gij,hjk->ghik", matrices, matrices).reshape(-1, 9)
    table = np.array([np.argmax(flat @ one) for one in products]).reshape(2 * [len(matrices)])
    for _ in range(_AVERAGES):
        u, _, v = np.linalg.svd(np.einsum("ghij,hkj->gik", matrices[table], matrices))
        matrices = u @ v
    return matrices


def order(matrix):
    """Smallest power of an operation that is the identity."""
    power, product = 1, matrix
    while np.abs(product - np.eye(3)).max() > SAME:
        power, product = power + 1, product @ matrix
        if power > _LARGEST_ORDER:
            raise ValueError("the operation has no finite order")
    return power


def axis_of(matrix):
    """Return the axis of a rotation, proper or not, as a unit vector; of a reflection, the normal of its plane."""
    proper = matrix * np.sign(np.linalg.det(matrix))
    values, vectors = np.linalg.eigh((proper + proper.T) / 2)
    axis = vectors[:, np.argmax(values)]
    return axis * (1 if axis[np.abs(axis) > SAME][-1] > 0 else -1)


def operation_symbol(matrix):
    """Schoenflies symbol of an operation, with its axis.

    Examples
    --------
    >>> operation_symbol(np.diag([-1, 1, 1])), operation_symbol(rotation([1, 1, 0], np.pi))
    ('m [1 0 0]', 'C2 [1 1 0]')
    """
    sign = round(np.linalg.det(matrix))
    if np.abs(sign * matrix - np.eye(3)).max() < SAME:
        return "E" if sign > 0 else "i"
    turns = np.arccos(np.clip((np.trace(matrix) - sign) / 2, -1, 1)) / (2 * np.pi)
    fraction = Fraction(turns).limit_denominator(_LARGEST_DENOMINATOR)
    if abs(fraction - turns) > _SAME_ANGLE:
        name = "C∞" if sign > 0 else "S∞"
    elif fraction == 0:
        name = "m"
    else:
        power = f"^{fraction.numerator}" if fraction.numerator > 1 else ""
        name = f"{'C' if sign > 0 else 'S'}{fraction.denominator}{power}"
    return f"{name} {_direction(axis_of(matrix))}"


def _direction(axis):
    """Small integers where an axis has them."""
    smallest = np.abs(axis)[np.abs(axis) > 0.05].min()
    for factor in (1, 2, 3):
        scaled = axis / smallest * factor
        if np.abs(scaled - scaled.round()).max() < 1e-3:
            return f"[{' '.join(str(int(one)) for one in scaled.round())}]"
    return f"[{' '.join(f'{one + 0.0:.3f}' for one in axis)}]"
