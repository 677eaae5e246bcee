"""Features of any body order, by recursion from the density coefficients and contraction to principal components."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.linalg import eigh

from eqkernels._fitted import whole_or_nothing
from eqkernels._parameters import Integer
from eqkernels._progress import say
from eqkernels._ranges import over_ranges, structure_blocks
from eqkernels._types import Blocks, Floats, Ints
from eqkernels.descriptors.base import DensityTransformer
from eqkernels.descriptors.irrep_parameters import IrrepParameters
from eqkernels.descriptors.output import allocate
from eqkernels.descriptors.products.coupled_products import signed_irrep
from eqkernels.descriptors.products.recursion import Recursion
from eqkernels.so3 import Irrep
from eqkernels.structures import StructureBatch

_NU_LIMIT = 8
# Centers are read in chunks: at most so many, and so few that their products take at most so many bytes.
_CENTERS_PER_CHUNK, _BYTES_PER_CHUNK = 4096, 2**28
# A task of one thread. Fixed, because the last bits of a matrix product depend on the number of its rows.
_CENTERS_PER_TASK = 32


class RecursiveTransformer(IrrepParameters, DensityTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base class of features of order ``nu``: subclasses say how many products and components there are of each."""

    nu: int
    n_components: int | None
    n_products: int | None
    lambda_max: int | None

    @whole_or_nothing
    def fit(self, X: Iterable[Atoms] | StructureBatch, y: Any = None) -> RecursiveTransformer:
        """Learn the species, with ``irreps="auto"`` the irreps from y, and the principal components of every order.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like of shape (n_structures, 3, ..., 3), or list of arrays (n_atoms, 3, ..., 3), default=None
            Cartesian tensors of the structures or of their atoms.

        Returns
        -------
        self
        """
        X = self._batch_to_fit(X)
        super().fit(X)
        self._choose_irreps(X, y)
        self.contractions_: dict[str, Blocks] = {}
        self.variances_: dict[str, Blocks] = {}
        self.kept_: dict[str, dict[str, float]] = {}
        batch, is_center, expansion = self._read(X)
        for order in range(1, self.nu + 1) if self.n_components is not None else ():
            self._fit_order(order, batch, is_center, expansion)
        made = self._recursion().n_products_of(self.nu)
        missing = ", ".join(key for key, irrep in self._signed().items() if irrep not in made)
        if missing:
            raise ValueError(
                f"irrep {missing} has no features at nu={self.nu}, l_max={self.l_max}, n_max={self.n_max}, "
                f"lambda_max={self.lambda_max} with {len(self.neighbor_species_)} species: increase one of them"
            )
        return self

    def _fit_order(self, order, batch, is_center, expansion):
        if not is_center.any():
            raise ValueError(
                f"no atom of X is a center of center_species={self.center_species!r}, and n_components needs some to "
                "learn from: fit on structures that have them, or set n_components=None"
            )
        say(f"{type(self).__name__}: covariances of order {order}", self.verbose, logging.DEBUG)
        covariances = self._covariances(order, batch, is_center, expansion)
        self.contractions_[str(order)], self.variances_[str(order)], self.kept_[str(order)] = {}, {}, {}
        for irrep, covariance in covariances.items():
            covariance /= is_center.sum() * irrep.dim
            weights, variances = principal_components(covariance, self.n_components)
            total = np.trace(covariance)
            self.contractions_[str(order)][str(irrep)] = weights
            self.variances_[str(order)][str(irrep)] = variances
            self.kept_[str(order)][str(irrep)] = float(min(1.0, variances.sum() / total) if total > 0 else 1.0)

    def _covariances(self, order, batch, is_center, expansion):
        """Second moments of the products of an order, summed over centers and m."""
        recursion = self._recursion()
        sizes = recursion.n_products_of(order)
        what = f"the covariances of the products of order {order} (n_products={self.n_products})"
        covariances = allocate({irrep: (size, size) for irrep, size in sizes.items()}, float, what)
        for covariance in covariances.values():
            covariance[...] = 0
        for _, density in self._chunks(recursion, order, batch, is_center, expansion):
            products = {irrep: np.empty((len(density), irrep.dim, size)) for irrep, size in sizes.items()}
            self._in_tasks(recursion.fill_products, density, order, products)
            blocks = list(products.items())

            def add(first, last, blocks=blocks):
                for irrep, block in blocks[first:last]:
                    rows = block.reshape(-1, block.shape[2])
                    covariances[irrep] += rows.T @ rows

            # threads share out irreps, not ranges: the order of a sum does not depend on their number
            over_ranges(len(blocks), 1, add, self.n_jobs)
        return covariances

    def _block_shapes(self):
        return {key: (irrep.dim, self._n_features(irrep)) for key, irrep in self._signed().items()}

    def _block_labels(self):
        return {key: self.feature_labels(key) for key in self._block_shapes()}

    def _fill(self, blocks, batch, is_center, expansion):
        recursion = self._recursion()
        for rows, density in self._chunks(recursion, self.nu, batch, is_center, expansion):
            parts = {irrep: blocks[key][rows] for key, irrep in self._signed().items()}
            self._in_tasks(recursion.fill_features, density, self.nu, parts)

    def _n_features(self, irrep):
        if self.n_components is not None:
            return len(self.variances_[str(self.nu)][str(irrep)])
        return self._recursion().n_features(self.nu)[irrep]

    def _contractor(self):
        recursion, signed = self._recursion(), self._signed()

        def contract(density, cotangents, out):
            blocks = {signed[key]: array for key, array in cotangents.items()}
            for start in range(0, len(density), _CENTERS_PER_TASK):
                rows = slice(start, start + _CENTERS_PER_TASK)
                recursion.vjp(
                    density[rows], self.nu, {irrep: block[rows] for irrep, block in blocks.items()}, out[rows]
                )

        return contract

    def _recursion(self):
        return Recursion(
            self.nu,
            list(self._signed().values()),
            self.nu * self.l_max if self.lambda_max is None else min(self.lambda_max, self.nu * self.l_max),
            self._places(),
            self.n_products,
            None if self.n_components is None else self.contractions_,
            self.variances_,
        )

    def _signed(self):
        """Irreps of the blocks with their sign under time reversal, by the keys of the blocks."""
        time = -1 if self.time_odd else 1
        return {str(one): signed_irrep(one.l, one.p, 1 if str(one) == "0e" else time) for one in self._irreps()}

    def _places(self):
        """Irreps of the density coefficients, and which channels have them."""
        species, n_radial = self._channels
        inputs, degrees = self._all_inputs, range(self.l_max + 1)
        if inputs is None:
            return {Irrep(l, (-1) ** l): np.arange(len(species) * n_radial) for l in degrees}
        live = inputs.arrays(species, n_radial)["live"]
        found = {
            signed_irrep(l, sigma * (-1) ** l, time): first + np.flatnonzero(live[first:stop, l])
            for first, stop, (sigma, time) in inputs.sectors()
            for l in degrees
        }
        return {irrep: channels for irrep, channels in found.items() if len(channels)}

    def _chunks(self, recursion, order, batch, is_center, expansion):
        """Rows of centers and their density coefficients (n_centers, (l_max + 1)^2, n_channels), chunk by chunk."""
        sizes = [recursion.n_products_of(k) for k in range(1, order + 1)]
        bytes_per_center = sum(8 * irrep.dim * size for of_order in sizes for irrep, size in of_order.items())
        step = min(_CENTERS_PER_CHUNK, max(1, _BYTES_PER_CHUNK // bytes_per_center))
        report, first_row = self._progress(batch.n_structures), 0
        for start, stop in structure_blocks(batch.offsets, _CENTERS_PER_CHUNK):
            block = batch.select(start, stop)
            centers = np.flatnonzero(is_center[batch.offsets[start] : batch.offsets[stop]])
            for first in range(0, len(centers), step):
                chosen = np.zeros(block.n_atoms, dtype=bool)
                chosen[centers[first : first + step]] = True
                density = np.empty((chosen.sum(), (self.l_max + 1) ** 2, expansion.n_channels))

                def store(rows, coefficients, density=density):
                    density[rows] = coefficients

                expansion.for_each_range(block, chosen, store, self.n_jobs)
                yield slice(first_row + first, first_row + first + len(density)), density
            first_row += len(centers)
            report(stop)

    def _in_tasks(self, fill, density, order, out):
        """Call ``fill(density, order, out)`` for parts of the centers, in several threads."""

        def work(a, b):
            fill(density[a:b], order, {irrep: block[a:b] for irrep, block in out.items()})

        over_ranges(len(density), _CENTERS_PER_TASK, work, self.n_jobs)

    def feature_labels(self, irrep: str) -> np.ndarray:
        """List what every feature of a block is made of.

        Parameters
        ----------
        irrep : str
            The block, e.g. ``"2e"``.

        Returns
        -------
        structured ndarray of shape (n_features,)
            With a contraction the field ``component``. Without, ``species_k, n_k, l_k`` of the factors k = 1 .. nu, and
            ``lambda_k``, 1 < k < nu, the degree that the first k of them are coupled to.
        """
        parsed = self._signed()[str(self._parsed_block(irrep))]
        if self.n_components is not None:
            return np.arange(self._n_features(parsed)).astype([("component", np.int64)])
        factors = self._recursion().factors(self.nu)[parsed]
        columns: dict[str, Ints] = {}
        species, n_radial = self._channels
        names = np.array([(one, n) for one in species for n in range(n_radial)])
        names = names if self.inputs is None else self._all_inputs.arrays(species, n_radial)["labels"]
        places = self._places()
        degrees, starts = np.array([one.l for one in places]), np.cumsum([0, *map(len, places.values())])
        channels = np.concatenate(list(places.values()))
        for k, (place, q, lam) in enumerate(factors.transpose(1, 2, 0), start=1):
            of_factor = names[channels[starts[place] + q]]
            columns |= {f"species_{k}": of_factor[:, 0], f"n_{k}": of_factor[:, 1], f"l_{k}": degrees[place]}
            columns |= {f"lambda_{k}": lam} if 1 < k < self.nu else {}
        labels = np.empty(len(factors), dtype=[(name, np.int64) for name in columns])
        for name, column in columns.items():
            labels[name] = column
        return labels


@dataclass(eq=False, repr=False, kw_only=True)
class NBodyFeatures(RecursiveTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    r"""Equivariant features of body order nu + 1, contracted to their principal components at every order.

    The features of order nu + 1 are products of those of order nu with the density coefficients (order 1), coupled to
    every irrep,

    .. math:: V^{\nu + 1}_{\lambda\mu; (\lambda' k, l q)} =
              \sum_{m'm} \langle \lambda' m'\, l m | \lambda\mu \rangle\, V^\nu_{\lambda' m' k}\, V^1_{l m q} ,

    so that order 2 is :class:`LambdaSOAP`, and the scalars of order 3 are the :class:`Bispectrum`. Of each irrep of
    each order, ``fit`` keeps the principal components: the combinations of features, the same for all m, that carry
    most of the sum of squares over the environments of X. They are orthonormal and not centered, hence equivariant, and
    scalar products with all components kept are those of the products. ``fit`` reads X once for each order,
    ``transform`` once, in chunks of bounded memory.

    Derivatives are available as the vector-Jacobian product :meth:`vjp`.

    Without truncation, the scalar product of the block 0e of two environments is the average over all rotations, proper
    and improper, of the power nu of the overlap of their densities; 0e and 0o together average over proper rotations.

    Parameters
    ----------
    cutoff : float, default=5.0
        Distance up to which neighbors count.
    n_max, l_max : int, default=6, 4
        Number of radial functions for every l, and highest angular momentum of the density expansion.
    sigma : float, default=0.3
        Width of the Gaussian on each atom.
    nu : int, default=3
        Number of density factors: 1 sees distances, 2 angles, 3 dihedral angles and chirality (block ``0o``).
    n_components : int, default=100
        Principal components to keep of each irrep of each order, fewer where there are fewer products. None: all
        products, without a contraction; every order multiplies their number by that of the channels.
    n_products : int, default=1000
        Products to compute of each irrep of each order before their contraction: those of the largest product of the
        variances of their factors. The covariance matrix has this size. None: all. It has no effect with
        ``n_components=None``.
    lambda_max : int, default=None
        Highest degree of the features of the orders in between, to save time; None: as high as contributes.
    irreps : "auto", str or Irreps, default="auto"
        Blocks to compute, as in :class:`LambdaSOAP`.
    per_atom : bool, default=None
        As in :class:`LambdaSOAP`.
    time_odd : bool, default=False
        As in :class:`LambdaSOAP`.
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
    irreps_ : str
        The irreps of the blocks.
    contractions_ : dict of str to dict of str to ndarray of shape (n_products, n_components)
        Weights of the products in the components, by order (``"1"`` to ``str(nu)``) and irrep; empty without a
        contraction.
    variances_ : dict of str to dict of str to ndarray of shape (n_components,)
        Mean square of every component over environments and m, descending.
    kept_ : dict of str to dict of str to float
        Part of the mean square of the products that their components carry: how much the contraction kept.
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    See Also
    --------
    Bispectrum : All features of order 3, without a contraction.
    LambdaSOAP : Features of order 2, whose single features can be differentiated.

    References
    ----------
    J. Nigam, S. Pozdnyakov, M. Ceriotti, J. Chem. Phys. 153, 121101 (2020), https://doi.org/10.1063/5.0021116.

    Examples
    --------
    >>> from ase.build import molecule
    >>> frames = [molecule("H2O2"), molecule("CH3OH")]
    >>> descriptor = NBodyFeatures(cutoff=4.0, n_max=2, l_max=3, nu=4, n_components=20, irreps="0e+0o+1o")
    >>> descriptor.fit_transform(frames)
    EquivariantFeatures(2 structures, 10 centers, blocks: 0e (10, 1, 20), 0o (10, 1, 20), 1o (10, 3, 20))
    """

    nu: int = 3
    n_components: int | None = 100
    n_products: int | None = 1000
    lambda_max: int | None = None

    _constraints = {
        **DensityTransformer._constraints,
        **IrrepParameters._irrep_constraints,
        "nu": Integer(1, _NU_LIMIT),
        "n_components": Integer(1, 10**9, none=True),
        "n_products": Integer(1, 10**9, none=True),
        "lambda_max": Integer(0, 10**9, none=True),
    }


def principal_components(covariance: Floats, n_components: Any) -> tuple[Floats, Floats]:
    """Eigenvectors of the largest eigenvalues as columns, and these, descending."""
    size = len(covariance)
    values, vectors = eigh(covariance, subset_by_index=[max(0, size - n_components), size - 1])
    vectors = vectors[:, ::-1]
    # the sign of an eigenvector is arbitrary, and may differ between machines
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors * signs), np.maximum(values[::-1], 0.0)
