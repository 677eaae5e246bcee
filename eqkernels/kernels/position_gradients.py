r"""Derivatives of kernels by the positions of centers at fixed features: those of multipoles, which positions multiply.

With the charges :math:`q_{im}` that an environment m gives to the centers i of a structure A, and the displacements
:math:`\mathbf d_i`, the multipole :math:`\sum_i q_{im}\, \mathbf d_i` of all m has the derivatives

.. math:: \sum_i q_{im} \frac{\partial d_i^\mu}{\partial \mathbf r_a}

(:meth:`eqkernels.structures.places.Whole.multipole_slopes`); for dipoles of a molecule in one piece these are the
charges themselves, less their mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eqkernels._types import Floats, Ints
from eqkernels.structures.places import Places


@dataclass(frozen=True)
class PositionGradient:
    """Derivatives by the positions of all centers of the structures, one structure at a time.

    Attributes
    ----------
    slopes : callable
        Takes the number of a structure of ``places.whole`` and returns its derivatives, an array (n_centers, 3,
        2 lambda + 1, n_points, 2 lambda + 1).
    places : Places
        Of the centers that the kernel sees.
    structures : ndarray of int, shape (n_rows,)
        The structure of ``places.whole`` of each row of the features, -1 where it is not known.
    factors : tuple
        Numbers, or arrays (n_rows, n_points), with two more axes for components, that multiply the derivatives.
    """

    slopes: Callable[[int], Floats]
    places: Places
    structures: Ints
    factors: tuple[Any, ...] = ()

    block = "positions"

    @classmethod
    def of(cls, slopes: Callable[[int], Floats], places: Places) -> PositionGradient:
        """Make the gradient of a kernel whose features have these places."""
        return cls(slopes, places, places.whole.structures[places.rows])

    def times(self, factor: Any) -> PositionGradient:
        """Gradient of the kernel times a number or an array with one row for each center."""
        if np.ndim(factor):
            used, first = np.unique(self.structures, return_index=True)
            factor = dict(zip(used.tolist(), np.asarray(factor)[first], strict=True))
        return replace(self, factors=(*self.factors, factor))

    def spread(self, rows: Ints, n_centers: int, columns: Any = None) -> PositionGradient:
        """Gradient for features of which some rows are those of this one."""
        structures = np.full(n_centers, -1)
        structures[rows] = self.structures
        return replace(self, structures=structures)

    def of_structure(self, structure: int) -> Floats | None:
        """Differentiate by one structure of ``places.whole``; None where the kernel sees none of its centers."""
        if not np.any(self.structures == structure):
            return None
        values = self.slopes(structure)
        for factor in self.factors:
            values = values * (_with_components(factor[structure]) if isinstance(factor, dict) else factor)
        return values

    def add(self, places: Places, rows: Ints, out: Floats) -> None:
        """Add the derivatives by the positions of some centers.

        Parameters
        ----------
        places : Places
            Of all centers of complete structures, those of ``self.places.whole``.
        rows : ndarray of int, shape (n_centers,)
            Row of ``out`` of each of them; negative: not wanted.
        out : ndarray of shape (n_rows, 3, 2 lambda + 1, n_points, 2 lambda + 1)
        """
        whole = places.whole
        of_whole = np.full(len(whole.positions), -1)
        of_whole[places.rows] = rows
        for structure in np.unique(whole.structures[places.rows]).tolist():
            wanted = of_whole[whole.offsets[structure] : whole.offsets[structure + 1]]
            there = np.flatnonzero(wanted >= 0)
            values = self.of_structure(structure) if len(there) else None
            if values is not None:
                out[wanted[there]] += values[there]


def _with_components(factor):
    """Factors (n_points,) or (n_points, d, d) for arrays (n_centers, 3, d, n_points, d)."""
    return factor[:, None] if factor.ndim == 1 else factor.transpose(1, 0, 2)
