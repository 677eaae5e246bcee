"""Fields of all atoms beside the density within the cutoff: the parameters, and what structures they are for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqkernels._parameters import Integer, Number, is_number
from eqkernels.descriptors.base import BlockTransformer
from eqkernels.descriptors.density.combined import CombinedExpansion
from eqkernels.descriptors.density.combined_inputs import CombinedInputExpansion
from eqkernels.descriptors.density.potential import PotentialExpansion, transform_table
from eqkernels.descriptors.density.reciprocal import MOST_WAVES, n_waves
from eqkernels.radial.power_laws import LARGEST_EXPONENT

# Parts of the cutoff: narrower atoms take too many wave vectors, within wider ones the field is the same everywhere.
_SMALLEST_SMEARING, _LARGEST_SMEARING = 0.02, 10.0


@dataclass(eq=False, repr=False, kw_only=True)
class LongRange(BlockTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class of descriptors made of products of the density with itself and, optionally, with fields of all atoms.

    Parameters
    ----------
    long_range : int, default=None
        Power p of the distance, 1 to 6: products of the density with the fields 1 / r^p of all atoms of the structure,
        images included, stand beside those of the density with itself. 1 is for charges, 6 for dispersion; None:
        nothing reaches beyond the cutoff.
    long_range_sigma : float, default=1.0
        Width over which the atoms that make the fields are smeared, in the units of the positions. Wider costs less in
        crystals, and resolves less nearby.
    long_range_n_max : int, default=None
        Number of radial functions of the fields, which are smoother than the density; None: ``n_max``.
    """

    long_range: int | None = None
    long_range_sigma: float = 1.0
    long_range_n_max: int | None = None

    _constraints = {
        **BlockTransformer._constraints,
        "long_range": Integer(1, LARGEST_EXPONENT, none=True),
        "long_range_sigma": Number(above=0),
        "long_range_n_max": Integer(1, 30, none=True),
    }

    def _relations(self) -> Iterator[str]:
        yield from super()._relations()
        if self.long_range is not None:
            if self.handle_unknown == "embed":
                yield "handle_unknown='embed' is not available with long_range: set one of them otherwise"
            yield from smearing_problems("long_range_sigma", self.long_range_sigma, self.cutoff)
            if self.compression is not None:
                yield f"compression={self.compression!r} is not available with long_range: set one of them to None"

    @property
    def _n_far(self):
        """Number of radial functions of the fields."""
        if self.long_range is None:
            return 0
        return int(self.n_max if self.long_range_n_max is None else self.long_range_n_max)

    def _learn_species_weights(self, weights):
        """Contract the species of the fields as those of the density."""
        self.far_contraction_ = None
        if self.long_range is not None and weights is not None:
            matrix = np.kron(weights, np.eye(self._n_far))
            self.far_contraction_ = np.repeat(matrix[None], self.l_max + 1, axis=0)

    def _check_structures(self, batch):
        if self.long_range is not None:
            check_fields(self, batch, self._n_far, self.long_range_sigma, self.long_range)

    def _near_expansion(self, contracted=True):
        return super()._expansion(contracted)

    def _expansion(self, contracted=True):
        near = self._near_expansion(contracted)
        if self.long_range is None or not contracted:
            return near
        far = potential_expansion(self, self._n_far, self.long_range_sigma, self.long_range, self.far_contraction_)
        numbers = near.n_max, near.l_max, near.center_weight, near.species
        kind = CombinedExpansion if self.inputs is None else CombinedInputExpansion
        return kind(near.table, *numbers, near.contraction, near.inputs, far=far)


def smearing_problems(name, sigma, cutoff):
    """Yield what is wrong with the width of smeared atoms."""
    if is_number(sigma) and is_number(cutoff) and cutoff > 0:
        low, high = _SMALLEST_SMEARING * cutoff, _LARGEST_SMEARING * cutoff
        if 0 < sigma < low or sigma > high:
            limits = f"{low:g} and {high:g} ({_SMALLEST_SMEARING:g} and {_LARGEST_SMEARING:g} times the cutoff)"
            yield f"{name}={sigma!r} must be between {limits} for fields of all atoms"


def _table_arguments(descriptor, n_max, sigma, exponent):
    numbers = int(n_max), int(descriptor.l_max), float(descriptor.cutoff), float(sigma), int(exponent)
    return descriptor.radial_basis, *numbers, float(descriptor.accuracy)


def potential_expansion(descriptor, n_max, sigma, exponent, contraction):
    """Expansion of the fields of all atoms with the parameters and species of a fitted descriptor."""
    parameters = _table_arguments(descriptor, n_max, sigma, exponent)
    numbers = int(n_max), int(descriptor.l_max), float(descriptor.center_weight)
    table: Any = None  # there are two others instead
    return PotentialExpansion(table, *numbers, descriptor.neighbor_species_, contraction, parameters=parameters)


def check_fields(descriptor, batch, n_max, sigma, exponent):
    """Refuse structures that are periodic in one or two directions, or whose sums would not end.

    Raises
    ------
    ValueError
        That names the first such structure, and says what to do.
    """
    periodic = batch.pbc.sum(axis=1)
    partly = np.flatnonzero((periodic == 1) | (periodic == 2))
    if len(partly):
        raise ValueError(
            f"structure {batch.number(partly[0])} is periodic along {periodic[partly[0]]} of three directions (pbc="
            f"{batch.pbc[partly[0]].tolist()}), where fields of all atoms are not available: describe a slab or a wire "
            "as a crystal with vacuum (atoms.center(vacuum=10, axis=...) and atoms.pbc = True), or as a finite piece "
            "with atoms.pbc = False"
        )
    crystals = np.flatnonzero(periodic == 3)
    if len(crystals):
        volumes = np.abs(np.linalg.det(batch.cells[crystals]))
        cutoff = transform_table(*_table_arguments(descriptor, n_max, sigma, exponent)).cutoff
        number, n = crystals[volumes.argmax()], n_waves(volumes.max(), cutoff)
        if n > MOST_WAVES:
            raise ValueError(
                f"the fields of all atoms of structure {batch.number(number)}, whose cell has a volume of "
                f"{volumes.max():.3g}, take {n:.1e} wave vectors, at most {MOST_WAVES:.0e} are possible: set "
                "atoms.pbc = False if it is a molecule, or take a larger width of "
                "the smeared atoms, fewer radial functions or a larger accuracy"
            )
