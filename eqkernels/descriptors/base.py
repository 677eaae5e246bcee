"""Base classes of the density-based transformers: species and channels learned at fit, features block by block."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from eqkernels._fitted import check_fitted, whole_or_nothing
from eqkernels._numeric import real_array
from eqkernels._parameters import Choice, check_parameters, is_integer, is_number
from eqkernels._progress import Meter
from eqkernels._types import Blocks, Ints
from eqkernels.descriptors.density.compression import (
    channel_covariance,
    contraction,
    correlated_species,
    extended_contraction,
    is_periodic,
    is_stated,
    periodic_or_dict,
    species_weights,
)
from eqkernels.descriptors.density.expand import DensityExpansion, radial_table
from eqkernels.descriptors.density.gradients import (
    Derivatives,
    FeatureBlock,
    FeatureGradients,
    feature_gradients,
    vector_jacobian_product,
)
from eqkernels.descriptors.density.input_expansion import InputExpansion
from eqkernels.descriptors.density_parameters import DensityParameters
from eqkernels.descriptors.features import row_features
from eqkernels.descriptors.input_parameters import InputParameters
from eqkernels.descriptors.made_blocks import DENSITY
from eqkernels.descriptors.output import allocate
from eqkernels.structures import FramesTransformer, StructureBatch, each_frame, elements, symbols
from eqkernels.structures.elements import CHANNELS


class DensityTransformer(
    InputParameters, FramesTransformer, DensityParameters, metaclass=ABCMeta, auto_wrap_output_keys=None
):  # type: ignore[call-arg]
    """Base class of transformers of frames whose features are made of density coefficients."""

    #: how species are summed; a parameter of the products of two densities
    compression: str | None = None

    _constraints = {
        **DensityParameters._constraints,
        **InputParameters._input_constraints,
        "compression": Choice(None, "mu1nu1", "mu2"),
    }

    @abstractmethod
    def _block_shapes(self):
        """(2 lambda + 1, n_features) of every block, by its key."""

    @abstractmethod
    def _block_labels(self):
        """List what the features of every block are made of, by its key."""

    @abstractmethod
    def _fill(self, blocks, batch, is_center, expansion):
        """Write the blocks of all centers."""

    @abstractmethod
    def _contractor(self):
        """Make the function (density, cotangents, out) that adds to out the derivative of sum(cotangents * blocks)."""

    @whole_or_nothing
    def fit(self, X: Iterable[Atoms] | StructureBatch, y: Any = None) -> DensityTransformer:
        """Learn the species, and with ``n_species_channels`` or ``n_optimal`` the contraction of the channels.

        Parameters
        ----------
        X : sequence of ase.Atoms
            Structures, molecules or periodic in any directions; any iterable of them.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If parameters are out of range or do not go together, or where X lacks what ``fit`` is to learn from.
        """
        check_parameters(self, self._relations())
        batch = self._batch_to_fit(X)
        self._check_structures(batch)
        seen = [int(number) for number in batch.species]
        self.neighbor_species_ = self._species("neighbor_species", seen)
        self.center_species_ = self._species("center_species", seen)
        self.known_species_ = np.union1d(np.union1d(self.neighbor_species_, self.center_species_), seen)
        self.periodic_channels_ = self._choose_periodic()
        self.contraction_ = self._fit_contraction(batch)
        self._fit_inputs(batch)
        return self

    def _learn_species_weights(self, weights):
        """Learn what else is made of combinations of species: weights (n_species, n_combinations), None for none."""

    def _choose_periodic(self):
        """Count the channels of the periodic embedding, 0 without."""
        wanted, embedding = self.n_species_channels, self.species_embedding
        if self.handle_unknown == "embed" and not periodic_or_dict(self):
            raise ValueError(
                "handle_unknown='embed' answers by the vectors of an embedding: set species_embedding='periodic' or "
                "leave it 'auto', without n_species_channels and compression='mu2'"
            )
        if not is_periodic(self, self.neighbor_species_):
            return 0
        n_channels = CHANNELS if wanted is None or embedding == "auto" else wanted
        return int(elements.embedding(self.neighbor_species_, n_channels).shape[1])

    def _vectors(self, numbers):
        """Vectors of species in the embedding that is periodic or was stated."""
        if is_stated(self.species_embedding):
            return species_weights(self.species_embedding, numbers)
        return elements.embedding(self.neighbor_species_, self.periodic_channels_, numbers)

    def _fit_contraction(self, batch):
        self._learn_species_weights(None)
        n_species, wanted = len(self.neighbor_species_), self.n_species_channels
        stated = self.periodic_channels_ > 0 or is_stated(self.species_embedding)
        wanted = None if stated else wanted
        if wanted is None and not stated and self.n_optimal is None and self.compression is None:
            return None
        absent = np.setdiff1d(self.neighbor_species_, batch.numbers)
        if len(absent) and (wanted is not None or self.n_optimal is not None):
            raise ValueError(
                f"neighbor_species contains {symbols(absent)}, of which the structures of the fit have no atom to "
                "learn n_species_channels or n_optimal from: fit on structures with it, or set species_embedding"
            )
        if wanted is not None and wanted > n_species:
            raise ValueError(f"n_species_channels={wanted} is more than the {n_species} species seen at fit")
        weights = self._vectors(self.neighbor_species_) if stated else np.eye(n_species)
        is_center, expansion = among(self.center_species_, batch.numbers), self._expansion(contracted=False)
        shape = (self.l_max + 1, expansion.n_channels, expansion.n_channels)
        learns = wanted is not None or self.n_optimal is not None
        covariance = (
            channel_covariance(expansion, batch, is_center, self._progress(batch.n_structures)) if learns else None
        )
        if wanted is not None:
            weights = correlated_species(covariance, n_species, wanted)
        if self._embedded:
            self._learn_species_weights(weights)
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
        stated = self.n_species_channels is not None or is_stated(self.species_embedding)
        # models that were saved by earlier versions have no such number
        return stated or self.compression == "mu2" or getattr(self, "periodic_channels_", 0) > 0

    @property
    def _channels(self):
        """Species (or numbers of combinations of them) and number of radial functions of the channels."""
        n_radial = self.n_max if self.n_optimal is None else self.n_optimal
        if not self._embedded:
            return tuple(self.neighbor_species_.tolist()), n_radial
        n_summed = 1 if self.compression == "mu1nu1" else 0
        return tuple(range(self.contraction_.shape[2] // n_radial - n_summed)), n_radial

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        return tags

    def _species(self, name, seen):
        species = getattr(self, name)
        if species is None:
            return np.array(seen)
        return species_numbers(species, name)

    def _relations(self) -> Iterator[str]:
        yield from super()._relations()
        yield from self._input_relations()
        periodic = isinstance(self.species_embedding, str) and self.species_embedding == "periodic"
        chosen = self.n_species_channels is not None or is_stated(self.species_embedding) or periodic
        if isinstance(self.compression, str) and self.compression == "mu2" and chosen:
            yield "compression='mu2' leaves no species for n_species_channels or species_embedding: drop one of them"

    def _read(self, X):
        """Batch of the frames, which of its atoms are centers, and the expansion."""
        check_fitted(self)
        batch = self._batch(X)
        unknown = ~among(self.known_species_, batch.numbers)
        if unknown.any() and self.handle_unknown == "error":
            raise ValueError(self._unknown_message(batch, np.flatnonzero(unknown)))
        self._check_structures(batch)
        is_center, expansion = among(self.center_species_, batch.numbers), self._expansion()
        if not unknown.any() or self.handle_unknown == "ignore":
            return batch, is_center, expansion
        if self.center_species is None:
            is_center |= unknown
        if self.neighbor_species is None:
            expansion = self._with_species(expansion, np.unique(batch.numbers[unknown]))
        return batch, is_center, expansion

    def _with_species(self, expansion, numbers):
        """Expansion that takes further species by their vectors."""
        if not (getattr(self, "periodic_channels_", 0) or is_stated(self.species_embedding)):
            raise ValueError("handle_unknown='embed' was set after fit, which made no embedding: fit again")
        old, new = self._vectors(self.neighbor_species_), self._vectors(numbers)
        if self.compression == "mu1nu1":  # the total density is a channel, in which all count alike
            old, new = (np.column_stack([one, np.ones(len(one))]) for one in (old, new))
        further = extended_contraction(self.contraction_, old, new)
        species = np.concatenate([self.neighbor_species_, numbers])
        return replace(expansion, species=species, contraction=np.concatenate([self.contraction_, further], axis=1))

    def _check_structures(self, batch):
        """Refuse structures that this descriptor cannot describe."""

    def transform(self, X: Iterable[Atoms] | StructureBatch, out: Any = None) -> Any:
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
        shapes = {key: (n_rows, *shape) for key, shape in self._block_shapes().items()}
        blocks = allocate(shapes, self.dtype, f"the features of {n_rows} centers", out)
        self._fill(blocks, batch, is_center, expansion)
        return row_features(blocks, batch, is_center, self._block_labels())

    def iter_transform(self, X: Iterable[Atoms], memory_limit: float = 2**28) -> Iterator[Any]:
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
        if not is_number(memory_limit) or memory_limit <= 0:
            raise ValueError(f"memory_limit={memory_limit!r} must be a positive number of bytes")
        shapes = self._block_shapes()
        limit = memory_limit / sum(np.dtype(self.dtype).itemsize * np.prod(shape) for shape in shapes.values())
        part: list[Atoms] = []
        n_atoms, done = 0, 0
        for atoms in each_frame(X):
            if part and n_atoms + len(atoms) > limit:
                yield self.transform(self._batch(part, done))
                part, n_atoms, done = [], 0, done + len(part)
            part.append(atoms)
            n_atoms += len(atoms)
        if part:
            yield self.transform(self._batch(part, done))

    def vjp(self, X: Iterable[Atoms] | StructureBatch, cotangents: Any) -> Derivatives:
        """Vector-Jacobian product: derivatives of sum(cotangents * features).

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : EquivariantFeatures, or dict of str to ndarray of shape (n_centers, 2 lambda + 1, n_features)
            A number for each feature of some or all blocks of ``transform(X)``: for forces, the derivative of the
            energy by the feature. Those by the coefficients of the density that features are made of,
            (n_centers, (l_max + 1)^2, n_channels), have the key ``"density"``.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.
        """
        batch, is_center, expansion = self._read(X)
        shapes = {key: (int(is_center.sum()), *shape) for key, shape in self._block_shapes().items()}
        shapes[DENSITY] = int(is_center.sum()), (expansion.l_max + 1) ** 2, expansion.n_channels
        arrays = checked_cotangents(cotangents, shapes)
        contract_blocks, of_density = self._contractor(), arrays.pop(DENSITY, None)

        def contract(rows, density, out):
            contract_blocks(density, {key: array[rows] for key, array in arrays.items()}, out)
            if of_density is not None:
                out += of_density[rows]

        return vector_jacobian_product(expansion, batch, is_center, contract, self.n_jobs)

    def _unknown_message(self, batch, atoms):
        names, known = symbols(np.unique(batch.numbers[atoms])), symbols(self.known_species_)
        return (
            f"species {names} (first in {batch.where(atoms[0])}) was not seen at fit, which saw {known}: fit "
            "on structures that contain it, declare it with neighbor_species, set handle_unknown='ignore' to leave "
            "such atoms out, or fit with handle_unknown='embed' to take them for what is like them"
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
        numbers = int(self.n_max), int(self.l_max), float(self.center_weight)
        if self.inputs is None or not contracted:
            return DensityExpansion(table, *numbers, self.neighbor_species_, contraction)
        return InputExpansion(table, *numbers, self.neighbor_species_, contraction, self._all_inputs)

    @property
    def _all_inputs(self):
        """Channels of inputs beside those of the density; None without inputs."""
        species, n_radial = self._channels
        n_summed = n_radial if self.compression == "mu1nu1" else 0
        return None if self.inputs is None else self._input_channels(len(species) * n_radial + n_summed, n_summed)

    @property
    def input_channels_(self) -> list[str]:
        """Names of the channels that are made of inputs, whose species in labels is -2, -3, ..."""
        if self.inputs is None:
            return []
        species, n_radial = self._channels
        names = [f"combination {one}" if self._embedded else chemical_symbols[one] for one in species]
        return self._all_inputs.names(names, n_radial)

    def _progress(self, n_structures):
        return Meter(type(self).__name__, n_structures, f"{n_structures} structures", self.verbose).reach


class BlockTransformer(DensityTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class of transformers whose blocks are functions of the density of each center."""

    @abstractmethod
    def _blocks(self) -> dict[str, FeatureBlock]:
        """Make the blocks, by their keys."""

    def _block_shapes(self):
        return {key: block.shape for key, block in self._blocks().items()}

    def _block_labels(self):
        return {key: block.labels() for key, block in self._blocks().items()}

    def _fill(self, blocks, batch, is_center, expansion):
        made_by = self._blocks()

        def store(rows, density):
            for key, array in blocks.items():
                made_by[key].fill(density, array[rows])

        progress = self._progress(batch.n_structures)
        expansion.for_each_range(batch, is_center, store, self.n_jobs, progress, self.dtype)

    def gradients(self, X: Iterable[Atoms] | StructureBatch, strain: bool = False) -> FeatureGradients:
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
        return feature_gradients(expansion, batch, is_center, self._blocks(), self.n_jobs, strain)

    def _contractor(self):
        blocks = self._blocks()

        def contract(density, cotangents, out):
            for key, array in cotangents.items():
                blocks[key].contract(density, array, out)

        return contract


def checked_cotangents(cotangents: Any, shapes: Mapping[str, tuple[int, ...]]) -> Blocks:
    """Arrays of finite float64 of the shapes of some blocks, from features or a dict of arrays."""
    arrays = getattr(cotangents, "blocks", cotangents)
    if not isinstance(arrays, Mapping):
        raise TypeError(
            f"cotangents must be EquivariantFeatures or a dict of arrays by irrep, got {type(arrays).__name__}"
        )
    for key, array in arrays.items():
        if key not in shapes or np.shape(array) != shapes[key]:
            raise ValueError(f"cotangents[{key!r}] has shape {np.shape(array)}, the features have {shapes}")
    return {
        key: np.ascontiguousarray(real_array(array, f"cotangents[{key!r}]", finite=True))
        for key, array in arrays.items()
    }


def species_numbers(species: Any, name: str) -> Ints:
    """Atomic numbers, ascending, of a list of chemical symbols or numbers, or of a single one."""
    species = [species] if isinstance(species, str | Integral) else species
    if not isinstance(species, Iterable) or isinstance(species, bytes | Mapping):
        raise TypeError(f"{name}={species!r} must be None or a list of chemical symbols or atomic numbers")
    numbers = np.unique([species_number(value, name) for value in species])
    if not len(numbers):
        raise ValueError(f"{name} is empty: name at least one species, or None for all of them")
    return numbers


def species_number(species: Any, where: str) -> int:
    """Atomic number of a chemical symbol or number."""
    if isinstance(species, str) and species in atomic_numbers and species != "X":
        return atomic_numbers[species]
    if is_integer(species) and 0 < species < len(chemical_symbols):
        return int(species)
    raise ValueError(f"{where} contains {species!r}, which is neither a chemical symbol nor an atomic number")


def among(species: Ints, numbers: Ints) -> NDArray[np.bool_]:
    """Which atomic numbers are among some species; far faster than numpy.isin."""
    table = np.zeros(256, dtype=bool)
    table[species] = True
    return table[numbers]
