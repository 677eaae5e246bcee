"""Loops over bonds: which atoms they connect, and which periodic images belong together."""

import numpy as np

from eqkernels._compile import njit


@njit(nogil=True)
def connect(offsets, neighbors, shifts, groups, part, lifts):
    """Follow the pairs within groups from atom to atom, and return how many connected parts there are.

    Pairs ``offsets[i]:offsets[i + 1]`` of atom i lead to the images ``shifts`` of neighbors. part (n_atoms,) comes
    filled with -1, and leaves with the number of the part of each atom; lifts (n_atoms, 3): its image that is connected
    with the first atom of the part. That atom has the number -2 where the part is connected with an image of itself.
    """
    n_parts, stack = 0, np.empty(len(part), dtype=np.int64)
    for first in range(len(part)):
        if part[first] != -1:
            continue
        part[first], stack[0], size, endless = n_parts, first, 1, False
        while size > 0:
            size -= 1
            i = stack[size]
            for p in range(offsets[i], offsets[i + 1]):
                j = neighbors[p]
                if groups[j] != groups[i]:
                    continue
                if part[j] == -1:
                    part[j], stack[size] = n_parts, j
                    size += 1
                    for x in range(3):
                        lifts[j, x] = lifts[i, x] + shifts[p, x]
                else:
                    for x in range(3):
                        endless = endless or lifts[j, x] != lifts[i, x] + shifts[p, x]
        if endless:
            part[first] = -2
        n_parts += 1
    return n_parts
