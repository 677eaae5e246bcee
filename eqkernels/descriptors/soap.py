"""The SOAP power spectrum as plain rows of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, vstack

from eqkernels._fitted import check_fitted
from eqkernels._numeric import real_array
from eqkernels._parameters import Choice, Flag
from eqkernels._types import Floats
from eqkernels.descriptors.density.gradients import Derivatives, vector_jacobian_product
from eqkernels.descriptors.density.input_channels import FIRST_LABEL
from eqkernels.descriptors.long_range import LongRange
from eqkernels.descriptors.output import allocate
from eqkernels.descriptors.products._product_loops import sum_rows
from eqkernels.descriptors.products.product_blocks import product_block
from eqkernels.descriptors.products.sectors import Channels
from eqkernels.so3 import Irrep
from eqkernels.structures import StructureBatch

_SCALAR = Irrep(0, 1)
# Rows that are summed and dropped take this many bytes at once: they stay in the caches.
_ROW_BYTES = 2**20


@dataclass(eq=False, repr=False, kw_only=True)
class SOAP(LongRange, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]
    r"""Smooth overlap of atomic positions: the rotation-invariant power spectrum, a row for any model.

    .. math:: p_{an, a'n', l} = \frac{1}{\sqrt{2l + 1}} \sum_m c_{anlm}\, c_{a'n'lm} ,

    with each unordered pair of channels (a n), (a' n') kept once and pairs of different channels weighted by
    :math:`\sqrt 2`, so that scalar products are those of the full set. The features are ordered by l, then (a n), then
    (a' n').

    Parameters
    ----------
    cutoff : float, default=5.0
        Distance up to which neighbors count.
    n_max, l_max : int, default=6, 4
        Number of radial functions for every l, and highest angular momentum of the density expansion.
    sigma : float, default=0.3
        Width of the Gaussian on each atom.
    compression : {None, "mu1nu1", "mu2"}, default=None
        Density summed over species: in one factor of each product, so that the number of features grows linearly with
        the species, or in both, which makes them blind to the species of neighbors.
    aggregate : {None, "sum", "mean"}, default=None
        None: a row for each center, structure after structure. ``"sum"`` or ``"mean"``: a row for each structure, as
        models of properties of structures need them.
    sparse : bool, default=False
        Whether to return a ``scipy.sparse.csr_array``, which pays for many species.
    long_range : int, default=None
        Power p of the distance, 1 to 6: products of the density with the fields 1 / r^p of all atoms of the structure,
        images included, stand behind those of the density with itself. 1 is for charges, 6 for dispersion; None:
        nothing reaches beyond the cutoff.
    long_range_sigma, long_range_n_max : float, int, default=1.0, None
        Width over which the atoms that make the fields are smeared, and number of radial functions of the fields (None:
        ``n_max``).
    inputs, input_weight, neighbor_inputs
        Tensors beside the geometry that the features depend on, e.g. ``{"electric_field": "1o"}``: see
        :class:`~eqkernels.descriptors.input_parameters.InputParameters`.
    radial_basis, cutoff_width, center_weight, scaling_scale, scaling_rate, scaling_exponent, center_species
        Further parameters of the density: see :class:`~eqkernels.descriptors.density_parameters.DensityParameters`,
        for those above too.
    neighbor_species, n_species_channels, species_embedding, n_optimal, handle_unknown, accuracy, dtype, n_jobs, verbose
        Further parameters of the species and of the computation: see there.

    Attributes
    ----------
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    See Also
    --------
    LambdaSOAP : The same features for tensors of any irrep, in blocks that models of this package take.
    Bispectrum : Invariants of three density factors.

    References
    ----------
    A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), https://doi.org/10.1103/PhysRevB.87.184115.

    Examples
    --------
    Heats of formation from the averaged power spectrum and any regressor of scikit-learn:

    >>> from ase.build import molecule
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> frames = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    >>> model = make_pipeline(SOAP(cutoff=4.0, n_max=4, l_max=3, aggregate="mean"), Ridge(1e-6))
    >>> model.fit(frames, [-57.8, -17.9, -11.0]).predict(frames).round(1)
    array([-57.8, -17.9, -11. ])
    """

    compression: str | None = None
    aggregate: str | None = None
    sparse: bool = False

    _constraints = {**LongRange._constraints, "aggregate": Choice(None, "sum", "mean"), "sparse": Flag()}

    @property
    def _block(self):
        species, n_radial = self._channels
        inputs = self._all_inputs
        channels = None if inputs is None else Channels.of_arrays(**inputs.arrays(species, n_radial))
        rest = self.n_max, self.compression, None, self._n_far, channels
        return product_block(_SCALAR, self.l_max, species, n_radial, *rest)

    def _blocks(self):
        return {"0e": self._block}

    def transform(self, X: Iterable[Atoms] | StructureBatch, out: Floats | None = None) -> Floats | csr_array:
        """Power spectrum of all centers, or of all structures.

        Parameters
        ----------
        X : sequence of ase.Atoms
        out : ndarray, default=None
            Array of the right shape and type to write into, for repeated calls; None: a new one.

        Returns
        -------
        ndarray, or sparse array with ``sparse=True``, of shape (n_centers, n_features) or (n_structures, n_features)
        """
        batch, is_center, expansion = self._read(X)
        if self.sparse:
            if out is not None:
                raise ValueError(
                    "out is not available with sparse=True, where the size of the result is not known before"
                )
            return self._sparse(batch, is_center, expansion)
        block = self._block
        n_rows = int(is_center.sum()) if self.aggregate is None else batch.n_structures
        wanted = None if out is None else {"0e": out}
        out = allocate({"0e": (n_rows, block.width)}, self.dtype, "the power spectrum", wanted)["0e"]
        progress = self._progress(batch.n_structures)
        if self.aggregate is None:

            def store(rows, density):
                block.fill(density, out[rows, None])

            expansion.for_each_range(batch, is_center, store, self.n_jobs, progress, self.dtype)
            return out
        out[...] = 0
        structures = batch.structure_of_atom[is_center]
        self._aggregate_into(out, batch, is_center, expansion, structures, progress)
        if self.aggregate == "mean":
            out /= np.maximum(np.bincount(structures, minlength=n_rows), 1)[:, None].astype(self.dtype)
        return out

    def _aggregate_into(self, out, batch, is_center, expansion, structures, progress):
        """Add the rows of all centers to those of their structures."""
        ends = np.searchsorted(structures, np.arange(batch.n_structures + 1))
        block = self._block
        shared: list[tuple[int, int, Floats]] = []

        def add(rows, density):
            present, members = np.unique(structures[rows], return_inverse=True)
            sums = self._sums(block, density, members)
            whole = (ends[present] >= rows.start) & (ends[present + 1] <= rows.stop)
            out[present[whole]] = sums[whole]
            shared.extend((rows.start, present[k], sums[k].copy()) for k in np.flatnonzero(~whole))

        expansion.for_each_range(batch, is_center, add, self.n_jobs, progress, self.dtype)
        # a structure may span several ranges: added in their order, whichever thread was first
        for _, structure, row in sorted(shared, key=lambda entry: entry[:2]):
            out[structure] += row

    def _sums(self, block, density, members):
        """Add up the centers of each structure, so few at once that their rows stay in the cache."""
        width = block.width
        size = max(1, _ROW_BYTES // (width * np.dtype(self.dtype).itemsize))
        scratch, sums = np.empty((size, 1, width), self.dtype), np.zeros((members[-1] + 1, width), self.dtype)
        for start in range(0, len(density), size):
            part = density[start : start + size]
            rows = scratch[: len(part)]
            block.fill(part, rows)
            sum_rows(rows[:, 0], members[start : start + size], sums)
        return sums

    def _sparse(self, batch, is_center, expansion):
        """Rows as a scipy.sparse array: features of species that do not occur take no room."""
        parts, block = [], self._block

        def store(rows, density):
            features = np.empty((len(density), 1, block.width), self.dtype)
            block.fill(density, features)
            parts.append((rows.start, csr_array(features[:, 0])))

        progress = self._progress(batch.n_structures)
        expansion.for_each_range(batch, is_center, store, self.n_jobs, progress, self.dtype)
        none = csr_array((0, block.width), dtype=self.dtype)  # no structure may have a center
        rows = vstack([none, *(part for _, part in sorted(parts, key=lambda part: part[0]))], format="csr")
        return rows if self.aggregate is None else self._averages(batch, is_center) @ rows

    def _averages(self, batch, is_center):
        """Matrix (n_structures, n_centers) that sums or averages over the centers of each structure."""
        structures = batch.structure_of_atom[is_center]
        counts = np.maximum(np.bincount(structures, minlength=batch.n_structures), 1)
        weights = np.ones(len(structures)) if self.aggregate == "sum" else 1.0 / counts[structures]
        shape = (batch.n_structures, len(structures))
        return csr_array((weights.astype(self.dtype), (structures, np.arange(len(structures)))), shape=shape)

    def vjp(self, X: Iterable[Atoms] | StructureBatch, cotangents: ArrayLike) -> Derivatives:
        """Vector-Jacobian product: derivatives of sum(cotangents * transform(X)).

        Parameters
        ----------
        X : sequence of ase.Atoms
        cotangents : ndarray of the shape of ``transform(X)``
            A number for each feature: for forces, the derivative of the energy by the feature.

        Returns
        -------
        Derivatives
            By the positions of all atoms, and by the strain of each structure.

        Examples
        --------
        The forces of a linear model of the energy:

        >>> from ase.build import molecule
        >>> frames = [molecule("H2O"), molecule("NH3")]
        >>> soap = SOAP(n_max=4, l_max=3, aggregate="sum").fit(frames)
        >>> weights = np.full((len(frames), soap.transform(frames).shape[1]), 1e-3)
        >>> forces = -soap.vjp(frames, weights).positions
        >>> forces.shape, bool(np.abs(forces[:3].sum(axis=0)).max() < 1e-12)  # no net force on the first molecule
        ((7, 3), True)
        """
        batch, is_center, expansion = self._read(X)
        cotangents = real_array(cotangents, "cotangents", finite=True)
        n_rows = int(is_center.sum()) if self.aggregate is None else batch.n_structures
        block = self._block
        expected = (n_rows, block.width)
        if cotangents.shape != expected:
            raise ValueError(f"cotangents has shape {cotangents.shape}, expected {expected}, that of transform(X)")
        structures = batch.structure_of_atom[is_center]
        counts = np.bincount(structures, minlength=batch.n_structures) if self.aggregate == "mean" else None

        def contract(rows, density, out):
            part = cotangents[rows] if self.aggregate is None else cotangents[structures[rows]]
            part = part if counts is None else part / counts[structures[rows], None]
            block.contract(density, np.ascontiguousarray(part)[:, None], out)

        return vector_jacobian_product(expansion, batch, is_center, contract, self.n_jobs)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names such as ``"O0 H3 l2"``: species and radial index of the two factors, and l; ``H~3`` is a field.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str objects, shape (n_features,)
        """
        check_fitted(self)
        labels = self._block.labels()
        species = self._channels[0]
        symbols = {k: f"({k})" if self._embedded else chemical_symbols[k] for k in species} | {-1: "*"}
        symbols |= {FIRST_LABEL - k: name.replace(" ", "_") for k, name in enumerate(self.input_channels_)}
        n_radial = self._channels[1]
        names = []
        for label in labels:
            second = symbols[label["species_2"]]
            second += f"{label['n_2']}" if label["n_2"] < n_radial else f"~{label['n_2'] - n_radial}"
            names.append(f"{symbols[label['species_1']]}{label['n_1']} {second} l{label['l_1']}")
        return np.array(names, dtype=object)
