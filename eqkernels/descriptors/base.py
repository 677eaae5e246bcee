"""What all density-based transformers share: parameters, their checks, and the species learned at fit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from sklearn.base import BaseEstimator

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._numeric import real_array
from eqkernels.descriptors.density.compression import (
    channel_covariance,
    contraction,
    correlated_species,
    species_weights,
)
from eqkernels.descriptors.density.expand import RADIAL_BASES, DensityExpansion, radial_table
from eqkernels.descriptors.density.gradients import feature_gradients, vector_jacobian_product
from eqkernels.descriptors.features import row_features
from eqkernels.descriptors.output import allocate
from eqkernels.radial.table import length_problems
from eqkernels.structures import FramesTransformer, StructureBatch, each_frame, symbols

_L_MAX_LIMIT = 30
_N_MAX_LIMIT = 30
_DTYPES = "float64", "float32", np.float64, np.float32
# Coarser tables than this distort the features.
_LARGEST_ACCURACY = 1e-2
# Beside a larger one the neighbors are lost in rounding.
_LARGEST_CENTER_WEIGHT = 1e6

PARAMETERS = """cutoff : float, default=5.0
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
        Number of combinations of species that take the place of the species of the neighbors, found from their
        correlation on the structures given to ``fit``; None: every species is a channel of its own.
    species_embedding : dict of str to array-like, default=None
        The combinations given: a vector of the same length for each chemical symbol.
    n_optimal : int, default=None
        Number of radial functions after contraction to those that keep the most variance on the structures given to
        ``fit``; None: the ``n_max`` functions of the basis.
    handle_unknown : {"error", "ignore"}, default="error"
        What to do at transform with an atom of a species that was not seen at fit: raise an error that names it, or
        leave it out, as a center and as a neighbor.
    accuracy : float, default=1e-9
        Bound on the error of the tabulated radial integrals, relative to the largest value of each.
    dtype : {"float64", "float32"}, default="float64"
        Type of the features. Single precision halves their memory and costs about seven digits.
    n_jobs : int, default=None
        Number of threads, with joblib's meaning. The result does not depend on it.
    verbose : int, default=0
        If positive, long work reports its progress on standard error."""


class DensityTransformer(FramesTransformer, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class: subclasses list the parameters in ``__init__`` and say what the blocks are.

    Their methods ``_block_shapes``, ``_fill``, ``_fill_derivatives`` and ``_contract`` are those of
    :class:`~eqkernels.descriptors.products.pairs.ProductBlocks`.
    """

    @whole_or_nothing
    def fit(self, X, y=None):
        """Learn the species, and what else the subclass needs.

        Parameters
        ----------
        X : sequence of ase.Atoms
            Structures, molecules or periodic in any directions; everything that gives them one after the other.
        y : array-like, default=None
            Tensors, used only where the docstring of the class says so.

        Returns
        -------
        self
        """
        self._check_parameters()
        batch = StructureBatch.from_frames(X)
        seen = [int(number) for number in batch.species]
        self.neighbor_species_ = self._species("neighbor_species", seen)
        self.center_species_ = self._species("center_species", seen)
        self.known_species_ = np.union1d(np.union1d(self.neighbor_species_, self.center_species_), seen)
        self.contraction_ = self._fit_contraction(batch)
        return self

    def _fit_contraction(self, batch):
        n_species, wanted, embedding = len(self.neighbor_species_), self.n_species_channels, self.species_embedding
        if wanted is None and embedding is None and self.n_optimal is None and self.compression is None:
            return None
        absent = np.setdiff1d(self.neighbor_species_, batch.numbers)
        if len(absent) and (wanted is not None or self.n_optimal is not None):
            raise ValueError(
                f"neighbor_species contains {symbols(absent)}, of which the structures of the fit have no atom to "
                "learn n_species_channels or n_optimal from: fit on structures with it, or give a species_embedding"
            )
        if wanted is not None and wanted > n_species:
            raise ValueError(f"n_species_channels={wanted} is more than the {n_species} species seen at fit")
        weights = np.eye(n_species) if embedding is None else species_weights(embedding, self.neighbor_species_)
        is_center, expansion = among(self.center_species_, batch.numbers), self._expansion(contracted=False)
        shape = (self.l_max + 1, expansion.n_channels, expansion.n_channels)
        learns = wanted is not None or self.n_optimal is not None
        covariance = (
            channel_covariance(expansion, batch, is_center, self._progress(batch.n_structures)) if learns else None
        )
        if wanted is not None:
            weights = correlated_species(covariance, n_species, wanted)
        covariance = np.zeros(shape) if covariance is None else covariance
        if self.compression is None:
            return contraction(weights, covariance, self.n_optimal)
        total = contraction(np.ones((n_species, 1)), covariance, self.n_optimal)
        if self.compression == "mu2":
            return total
        return np.concatenate([contraction(weights, covariance, self.n_optimal), total], axis=2)

    @property
    def _embedded(self):
        """Whether the channels are combinations of species."""
        return self.n_species_channels is not None or self.species_embedding is not None or self.compression == "mu2"

    @property
    def _channels(self):
        """Species (or numbers of combinations of them) and number of radial functions of the channels."""
        n_radial = self.n_max if self.n_optimal is None else self.n_optimal
        if not self._embedded:
            return tuple(self.neighbor_species_.tolist()), n_radial
        n_summed = 1 if self.compression == "mu1nu1" else 0
        return tuple(range(self.contraction_.shape[2] // n_radial - n_summed)), n_radial

    #: only products of densities have one
    compression: str | None = None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags

    def _species(self, name, seen):
        given = getattr(self, name)
        if given is None:
            return np.array(seen)
        return species_numbers(given, name)

    def _check_parameters(self):
        problems = [*self._number_problems(), *self._choice_problems()]
        if problems:
            raise ValueError(f"{type(self).__name__}: " + "; ".join(problems))

    def _number_problems(self):
        for name, low, high in (("n_max", 1, _N_MAX_LIMIT), ("l_max", 0, _L_MAX_LIMIT)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
                yield f"{name}={value!r} must be an integer between {low} and {high}"
        positive = ["cutoff", "sigma", "accuracy", "scaling_rate", "scaling_exponent"]
        if self.scaling_scale is not None:
            positive.append("scaling_scale")
        for name in positive:
            if not _is_number(getattr(self, name)) or not getattr(self, name) > 0:
                yield f"{name}={getattr(self, name)!r} must be a positive, finite number"
        for name, largest in (("n_species_channels", 118), ("n_optimal", self.n_max)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < 1):
                yield f"{name}={value!r} must be a positive integer, or None"
            elif value is not None and isinstance(largest, Integral) and value > largest:
                yield f"{name}={value!r} must not exceed {largest}"
        for name in ("cutoff_width", "center_weight"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0:
                yield f"{name}={getattr(self, name)!r} must be a finite number, zero or positive"
        if _is_number(self.accuracy) and self.accuracy > _LARGEST_ACCURACY:
            yield f"accuracy={self.accuracy!r} must not exceed {_LARGEST_ACCURACY:g}"
        if self.n_jobs is not None and not (isinstance(self.n_jobs, Integral) and self.n_jobs != 0):
            yield f"n_jobs={self.n_jobs!r} must be None or an integer other than 0, the number of threads (-1: all)"
        if not isinstance(self.verbose, Integral):
            yield f"verbose={self.verbose!r} must be an integer or a bool"
        if _is_number(self.center_weight) and self.center_weight > _LARGEST_CENTER_WEIGHT:
            yield f"center_weight={self.center_weight!r} must not exceed {_LARGEST_CENTER_WEIGHT:g}"
        lengths = self.cutoff, self.cutoff_width, self.sigma
        if all(map(_is_number, lengths)) and self.cutoff > 0 and self.cutoff_width >= 0 and self.sigma > 0:
            yield from length_problems(*lengths)

    def _choice_problems(self):
        if not isinstance(self.radial_basis, str) or self.radial_basis not in RADIAL_BASES:
            yield f"radial_basis={self.radial_basis!r} must be one of {sorted(RADIAL_BASES)}"
        if self.n_species_channels is not None and self.species_embedding is not None:
            yield "n_species_channels and species_embedding exclude each other: give one of them"
        if not is_choice(self.compression, (None, "mu1nu1", "mu2")):
            yield f"compression={self.compression!r} must be None, 'mu1nu1' or 'mu2'"
        elif self.compression == "mu2" and (self.n_species_channels is not None or self.species_embedding is not None):
            yield "compression='mu2' leaves no species for n_species_channels or species_embedding: drop one of them"
        if not is_choice(self.handle_unknown, ("error", "ignore")):
            yield f"handle_unknown={self.handle_unknown!r} must be 'error' or 'ignore'"
        if not isinstance(self.dtype, str | type | np.dtype) or self.dtype not in _DTYPES:
            yield f"dtype={self.dtype!r} must be 'float64' or 'float32'"

    def _read(self, X):
        """Batch of the frames, which of its atoms are centers, and the expansion."""
        check_fitted(self)
        batch = StructureBatch.from_frames(X)
        unknown = ~among(self.known_species_, batch.numbers)
        if unknown.any() and self.handle_unknown != "ignore":
            raise ValueError(self._unknown_message(batch, np.flatnonzero(unknown)))
        return batch, among(self.center_species_, batch.numbers), self._expansion()

    def transform(self, X, out=None):
        """Features of all centers.

        Parameters
        ----------
        X : sequence of ase.Atoms
        out : EquivariantFeatures or dict of str to ndarray, default=None
            Arrays of the right shapes and type to write the blocks into, for repeated calls; None: new ones.

        Returns
        -------
        EquivariantFeatures
        """
        batch, is_center, expansion = self._read(X)
        n_rows = int(is_center.sum())
        shapes = {key: (n_rows, *shape) for key, shape in self._block_shapes(expansion).items()}
        blocks = allocate(shapes, self.dtype, f"the features of {n_rows} centers", out)

        def store(rows, density):
            for key, block in blocks.items():
                self._fill(key, density, block[rows])

        progress = self._progress(batch.n_structures)
        expansion.for_each_range(batch, is_center, store, self.n_jobs, progress, self.dtype)
        labels = {key: self.feature_labels(key) for key in blocks}
        return row_features(blocks, batch, is_center, labels)

    def iter_transform(self, X, memory_limit=2**28):
        """Transform structures in parts, one after the other, for sets whose features do not fit into memory.

        Parameters
        ----------
        X : iterable of ase.Atoms
            May be a generator, such as ``ase.io.iread(...)``: no more than one part of it is held.
        memory_limit : int, default=2**28
            Bytes that the features of one part may take (at least one structure is taken).

        Yields
        ------
        What ``transform`` returns, for consecutive structures
        """
        check_fitted(self)
        if not _is_number(memory_limit) or memory_limit <= 0:
            raise ValueError(f"memory_limit={memory_limit!r} must be a positive number of bytes")
        shapes = self._block_shapes(self._expansion())
        limit = memory_limit / sum(np.dtype(self.dtype).itemsize * np.prod(shape) for shape in shapes.values())
        part, n_atoms, done = [], 0, 0
        for atoms in each_frame(X):
            if part and n_atoms + len(atoms) > limit:
                yield self.transform(StructureBatch.from_frames(part, done))
                part, n_atoms, done = [], 0, done + len(part)
            part.append(atoms)
            n_atoms += len(atoms)
        if part:
            yield self.transform(StructureBatch.from_frames(part, done))

    def gradients(self, X, strain=False):
        """Differentiate the features of all centers by the positions of the atoms, and by the strain of the cell.

        They take some hundred times the memory of the features; where only their product with one number per feature is
        needed, as for forces, :meth:`vjp` is far cheaper.

        Parameters
        ----------
        X : sequence of ase.Atoms
        strain : bool, default=False
            Whether to make the derivatives by the strain too.

        Returns
        -------
        FeatureGradients
        """
        batch, is_center, expansion = self._read(X)
        return feature_gradients(expansion, batch, is_center, self, strain)

    def vjp(self, X, cotangents):
        """Vector-Jacobian product: derivatives of sum(cotangents * features).

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : EquivariantFeatures, or dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
            A number for each feature of some or all blocks of ``transform(X)``: for forces, the derivative of the
            energy by the feature.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.
        """
        batch, is_center, expansion = self._read(X)
        shapes = {key: (int(is_center.sum()), *shape) for key, shape in self._block_shapes(expansion).items()}
        given = checked_cotangents(cotangents, shapes)
        contract_blocks = self._contractor()

        def contract(rows, density, out):
            contract_blocks(density, {key: array[rows] for key, array in given.items()}, out)

        return vector_jacobian_product(expansion, batch, is_center, contract, self.n_jobs)

    def _contractor(self):
        """Make the function (density, cotangents, out) that adds to out the derivative of sum(cotangents * blocks)."""

        def contract(density, cotangents, out):
            for key, array in cotangents.items():
                self._contract(key, density, array, out)

        return contract

    def _unknown_message(self, batch, atoms):
        names, known = symbols(np.unique(batch.numbers[atoms])), symbols(self.known_species_)
        return (
            f"species {names} (first in {batch.where(atoms[0])}) was not seen at fit, which saw {known}: fit "
            "on structures that contain it, declare it with neighbor_species, or set handle_unknown='ignore' to leave "
            "such atoms out"
        )

    def _expansion(self, contracted=True):
        scaling = (float(self.scaling_rate), self.scaling_scale, float(self.scaling_exponent))
        table = radial_table(
            self.radial_basis,
            int(self.n_max),
            int(self.l_max),
            float(self.sigma),
            float(self.cutoff),
            float(self.cutoff_width),
            scaling,
            float(self.accuracy),
        )
        contraction = self.contraction_ if contracted else None
        return DensityExpansion(table, int(self.n_max), int(self.l_max), float(self.center_weight),
                                self.neighbor_species_, contraction)  # fmt: skip

    def _progress(self, n_structures):
        if not self.verbose:
            return None

        def report(done):
            print(f"{type(self).__name__}: {done} of {n_structures} structures", file=sys.stderr)

        return report


def checked_cotangents(cotangents, shapes):
    """Arrays of finite float64 of the shapes of some blocks, from features or a dict of arrays."""
    given = getattr(cotangents, "blocks", cotangents)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"cotangents must be EquivariantFeatures or a dict of arrays by irrep, got {type(given).__name__}"
        )
    for key, array in given.items():
        if key not in shapes or np.shape(array) != shapes[key]:
            raise ValueError(f"cotangents[{key!r}] has shape {np.shape(array)}, the features have {shapes}")
    return {
        key: np.ascontiguousarray(real_array(array, f"cotangents[{key!r}]", finite=True))
        for key, array in given.items()
    }


def is_choice(value, choices):
    """Whether a value is None or a string among the choices, whatever else it may be."""
    return (value is None or isinstance(value, str)) and value in choices


def species_numbers(given, name):
    """Atomic numbers, ascending, of a list of chemical symbols or numbers, or of a single one."""
    given = [given] if isinstance(given, str | Integral) else given
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise TypeError(f"{name}={given!r} must be None or a list of chemical symbols or atomic numbers")
    numbers = np.unique([species_number(one, name) for one in given])
    if not len(numbers):
        raise ValueError(f"{name} is empty: name at least one species, or None for all of them")
    return numbers


def species_number(species, where):
    """Atomic number of a chemical symbol or number."""
    if isinstance(species, str) and species in atomic_numbers and species != "X":
        return atomic_numbers[species]
    if isinstance(species, Integral) and not isinstance(species, bool) and 0 < species < len(chemical_symbols):
        return int(species)
    raise ValueError(f"{where} contains {species!r}, which is neither a chemical symbol nor an atomic number")


def among(species, numbers):
    """Which atomic numbers are among some species; far faster than numpy.isin."""
    table = np.zeros(256, dtype=bool)
    table[species] = True
    return table[numbers]


def _is_number(value):
    # the concrete types first: abstract ones are slow to look up
    return isinstance(value, (float, int, Real)) and not isinstance(value, bool) and math.isfinite(value)
