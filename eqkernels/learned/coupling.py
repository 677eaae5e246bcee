"""Lists of irreps: where their components stand, and the Clebsch-Gordan coefficients of their products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from eqkernels.descriptors.products.coupled_products import signed_irrep, time_sign
from eqkernels.so3 import Irrep, clebsch_gordan_sparse

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Coupling:
    """Entries of the Clebsch-Gordan product of two lists of irreps.

    ``first``, ``second`` and ``third`` are components of the factors and the product, ``path`` the number of the path
    (a, b) -> o that the entry belongs to, ``values`` the coefficients, divided by the root of the number of paths that
    end in o, so that the product of features of unit variance has unit variance.
    """

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray
    path: np.ndarray
    values: np.ndarray
    n_paths: int
    dim: int

    @property
    def entries(self) -> tuple[Array, Array, Array, Array, Array]:
        """The five lists, as the loops take them."""
        return self.first, self.second, self.third, self.path, self.values

    @cached_property
    def by_third(self) -> tuple[Array, Array, Array, Array]:
        """Entries of one path and third component together: rows (begin, end, path, component) and three lists."""
        groups, order = self._grouped(self.third)
        return groups, self.first[order], self.second[order], self.values[order]

    @cached_property
    def by_first(self) -> tuple[Array, Array, Array, Array]:
        """Entries of one path and first component together."""
        groups, order = self._grouped(self.first)
        return groups, self.third[order], self.second[order], self.values[order]

    @cached_property
    def by_second(self) -> tuple[Array, Array, Array, Array]:
        """Entries of one path and second component together."""
        groups, order = self._grouped(self.second)
        return groups, self.third[order], self.first[order], self.values[order]

    def _grouped(self, component):
        order = np.lexsort((component, self.path))
        keys = np.stack([self.path[order], component[order]], axis=1)
        begins = np.flatnonzero(np.concatenate([[True], (np.diff(keys, axis=0) != 0).any(axis=1)]))
        return np.column_stack([begins, np.append(begins[1:], len(keys)), keys[begins]]), order


@lru_cache(maxsize=256)
def coupling(left, right, output):
    """All paths from the irreps of two factors to those of the product.

    Parameters
    ----------
    left, right, output : tuple of Irrep

    Returns
    -------
    Coupling
    """
    paths = [
        (a, b, o)
        for a, one in enumerate(left)
        for b, other in enumerate(right)
        for o, result in enumerate(output)
        if result in one * other
    ]
    counts = np.bincount([o for _, _, o in paths], minlength=len(output))
    starts = [slices(irreps) for irreps in (left, right, output)]
    parts = []
    for path, (a, b, o) in enumerate(paths):
        m1, m2, m3, values = clebsch_gordan_sparse(left[a].l, right[b].l, output[o].l)
        places = (starts[0][a].start + m1, starts[1][b].start + m2, starts[2][o].start + m3)
        parts.append((*places, np.full(len(values), path), values / np.sqrt(counts[o])))
    first, second, third, path_of_entry, coefficients = (np.concatenate(column) for column in zip(*parts, strict=True))
    dim = sum(irrep.dim for irrep in output)
    return Coupling(first, second, third, path_of_entry, coefficients, len(paths), dim)


@lru_cache(maxsize=1024)
def slices(irreps):
    """Where the components of each irrep of a tuple stand."""
    ends = np.cumsum([0] + [irrep.dim for irrep in irreps]).tolist()
    return [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]


@lru_cache(maxsize=1024)
def irrep_of_component(irreps):
    """Which irrep of a tuple each component belongs to."""
    return np.repeat(np.arange(len(irreps)), [irrep.dim for irrep in irreps])


def position(irreps, irrep):
    """Slice of the components of one irrep."""
    return slices(irreps)[irreps.index(irrep)]


def natural(l_max):
    """Irreps of the harmonics up to l_max."""
    return tuple(Irrep.natural(l) for l in range(l_max + 1))


def working_irreps(l_max, outputs, incoming=()):
    """Irreps inside the network: of harmonics, outputs and what comes in, and of other signs where some have them.

    Signs are the parity and that under time reversal; products of features of other signs have both.
    """
    found = {*natural(l_max), *outputs, *incoming}
    if any(irrep.p != (-1) ** irrep.l for irrep in found):
        found |= {Irrep(l, -((-1) ** l)) for l in range(l_max + 1)}
    if any(time_sign(irrep) < 0 for irrep in found):
        found |= {signed_irrep(irrep.l, irrep.p, -1) for irrep in found if irrep.l <= l_max}
    return sort_irreps(found)


def sort_irreps(irreps):
    """Tuple of irreps by degree, time-even ones and those of the harmonics first: 0e is the first of all."""
    return tuple(sorted(irreps, key=lambda irrep: (irrep.l, time_sign(irrep) < 0, irrep.p != (-1) ** irrep.l)))


def reachable(left, right, wanted):
    """Those of the wanted irreps that a product of two lists contains."""
    made = {result for one in left for other in right for result in one * other}
    return tuple(irrep for irrep in wanted if irrep in made)
