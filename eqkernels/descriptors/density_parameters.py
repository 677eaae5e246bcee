"""Parameters that everything made of atomic densities shares: written, documented and checked once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from eqkernels._parameters import Choice, Integer, Jobs, Number, Verbosity, is_integer, is_number
from eqkernels.descriptors.density.expand import RADIAL_BASES
from eqkernels.radial.table import length_problems

_L_MAX_LIMIT = 30
_N_MAX_LIMIT = 30
_DTYPES = "float64", "float32", np.float64, np.float32
# Coarser tables than this distort the features.
_LARGEST_ACCURACY = 1e-2
# Beside a larger one the neighbors are lost in rounding.
_LARGEST_CENTER_WEIGHT = 1e6


class Precision:
    """The type of single or double precision, or its name."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        known = isinstance(value, str | type | np.dtype) and value in _DTYPES
        return None if known else "must be 'float64' or 'float32'"


class Cutoff(Number):
    """A positive number; several are those of another class."""

    def problem(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        more = ": several cutoffs are those of MultiScale(descriptor, cutoff=(3.0, 6.0))"
        problem = super().problem(value)
        return problem + more if problem is not None and isinstance(value, list | tuple | np.ndarray) else problem


@dataclass(eq=False, repr=False, kw_only=True)
class DensityParameters(BaseEstimator):
    """Parameters of the density expansion, those that all descriptors have.

    Parameters
    ----------
    cutoff : float, default=5.0
        Distance up to which neighbors count, in the units of the positions. Larger sees more and costs more.
    n_max : int, default=6
        Number of radial functions for every l.
    l_max : int, default=4
        Highest angular momentum of the density expansion.
    sigma : float, default=0.3
        Width of the Gaussian on each atom. Smaller resolves more and needs more functions and data.
    radial_basis : {"gto", "laplacian"}, default="gto"
        Radial functions: :class:`~eqkernels.radial.GTO` or :class:`~eqkernels.radial.LaplacianEigenstates`.
    cutoff_width : float, default=0.5
        Width of the shell below the cutoff in which the weight of a neighbor falls from 1 to 0 (shifted cosine), at
        least 0.001 of the cutoff: features are continuous, and atoms of a shell at the cutoff all count alike.
    center_weight : float, default=1.0
        Weight of the central atom in its own density.
    scaling_scale : float, default=None
        Distance at which the radial scaling ``rate / (rate + (r / scale)**exponent)`` sets in; None: no scaling.
    scaling_rate, scaling_exponent : float, default=1.0, 4.0
        Shape of the radial scaling.
    center_species, neighbor_species : sequence of str or int, default=None
        Species that are centers, or that count as neighbors; None: all that are seen at fit.
    n_species_channels : int, default=None
        Number of combinations of species that take the place of the species of the neighbors, learned from their
        correlation on the structures passed to ``fit``, or of ``species_embedding="periodic"``; None: every species is
        a channel of its own, or 8 of that embedding.
    species_embedding : "auto", "periodic", dict of str to array-like, or None, default="auto"
        The combinations themselves. ``"periodic"``: by the similarity of group, period, covalent radius and
        electronegativity, so that elements learn from those like them. A dict: a vector of the same length for each
        chemical symbol. ``"auto"``: periodic from 20 elements on, unless channels are reduced in another way.
    n_optimal : int, default=None
        Number of radial functions after contraction to those that keep the most variance on the structures passed to
        ``fit``; None: the ``n_max`` functions of the basis.
    handle_unknown : {"error", "ignore", "embed"}, default="error"
        What to do at transform with an atom of a species that was not seen at fit: raise an error that names it, leave
        it out, as a center and as a neighbor, or take it by its vector of ``species_embedding``, which ``"auto"`` then
        makes periodic for any number of elements. Where ``center_species`` or ``neighbor_species`` are stated, it is
        none of them.
    accuracy : float, default=1e-9
        Bound on the error of the tabulated radial integrals, relative to the largest value of each.
    dtype : {"float64", "float32"}, default="float64"
        Type of the features. Single precision halves their memory and costs about seven digits.
    n_jobs : int, default=None
        Number of threads, with joblib's meaning. The result does not depend on it.
    verbose : int, default=0
        If positive, long work reports its progress on standard error.
    """

    cutoff: float = field(default=5.0, kw_only=False)
    n_max: int = 6
    l_max: int = 4
    sigma: float = 0.3
    radial_basis: str = "gto"
    cutoff_width: float = 0.5
    center_weight: float = 1.0
    scaling_scale: float | None = None
    scaling_rate: float = 1.0
    scaling_exponent: float = 4.0
    center_species: Sequence[str | int] | None = None
    neighbor_species: Sequence[str | int] | None = None
    n_species_channels: int | None = None
    species_embedding: Mapping[str, Any] | str | None = "auto"
    n_optimal: int | None = None
    handle_unknown: str = "error"
    accuracy: float = 1e-9
    dtype: Any = "float64"
    n_jobs: int | None = None
    verbose: int = 0

    _constraints = {
        "cutoff": Cutoff(above=0),
        "n_max": Integer(1, _N_MAX_LIMIT),
        "l_max": Integer(0, _L_MAX_LIMIT),
        "sigma": Number(above=0),
        "radial_basis": Choice(*RADIAL_BASES),
        "cutoff_width": Number(low=0),
        "center_weight": Number(low=0, high=_LARGEST_CENTER_WEIGHT),
        "scaling_scale": Number(above=0, none=True),
        "scaling_rate": Number(above=0),
        "scaling_exponent": Number(above=0),
        "n_species_channels": Integer(1, 118, none=True),
        "n_optimal": Integer(1, _N_MAX_LIMIT, none=True),
        "handle_unknown": Choice("error", "ignore", "embed"),
        "accuracy": Number(above=0, high=_LARGEST_ACCURACY),
        "dtype": Precision(),
        "n_jobs": Jobs(),
        "verbose": Verbosity(),
    }

    def _relations(self) -> Iterator[str]:
        """Problems of parameters that do not go together."""
        lengths = self.cutoff, self.cutoff_width, self.sigma
        if all(map(is_number, lengths)) and self.cutoff > 0 and self.cutoff_width >= 0 and self.sigma > 0:
            yield from length_problems(*lengths)
        if (
            self.n_optimal is not None
            and all(map(is_integer, (self.n_optimal, self.n_max)))
            and self.n_optimal > self.n_max
        ):
            yield f"n_optimal={self.n_optimal!r} must not exceed n_max={self.n_max}"
        if self.n_species_channels is not None and isinstance(self.species_embedding, Mapping):
            yield "n_species_channels and species_embedding exclude each other: set only one of them"
