"""Loop of the check of frames: whether anything in a batch needs a closer look, in one pass over its arrays."""

import numpy as np

from eqkernels._compile import njit


@njit(nogil=True)  # without fastmath, which may take it that nothing is NaN
def all_usable(positions, numbers, cells, pbc, flat_cell, largest):
    """Whether all atoms have finite positions and are elements, and all cells are finite, and span periodic directions.

    positions (n_atoms, 3), numbers (n_atoms), cells (n_structures, 3, 3), pbc (n_structures, 3); flat_cell: least
    determinant of the Gram matrix of the unit vectors along the periodic directions; largest: coordinate that is
    allowed.
    """
    for i in range(len(numbers)):
        if not (1 <= numbers[i] <= 118):
            return False
        for x in range(3):
            if not abs(positions[i, x]) <= largest:
                return False
    cosines = np.empty(3)
    for k in range(len(cells)):
        for axis in range(3):
            other = (axis + 1) % 3
            square, square_of_other, product = 0.0, 0.0, 0.0
            for x in range(3):
                square += cells[k, axis, x] ** 2
                square_of_other += cells[k, other, x] ** 2
                product += cells[k, axis, x] * cells[k, other, x]
            if not square <= largest * largest or (pbc[k, axis] and square == 0.0):
                return False
            both = pbc[k, axis] and pbc[k, other] and square_of_other > 0.0
            cosines[axis] = product / np.sqrt(square * square_of_other) if both else 0.0
        a, b, c = cosines
        if not 1 + 2 * a * b * c - a * a - b * b - c * c >= flat_cell:
            return False
    return True
