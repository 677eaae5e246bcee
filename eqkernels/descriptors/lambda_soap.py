"""The equivariant power spectrum: features that rotate like the tensor they are to predict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from eqkernels._fitted import whole_or_nothing
from eqkernels._parameters import Integer
from eqkernels._types import Blocks
from eqkernels.descriptors.base import among
from eqkernels.descriptors.density.compression import channel_covariance, leading
from eqkernels.descriptors.features import EquivariantFeatures, row_features
from eqkernels.descriptors.irrep_parameters import IrrepParameters
from eqkernels.descriptors.long_range import LongRange
from eqkernels.descriptors.made_blocks import BlockMaker, MadeBlocks
from eqkernels.descriptors.output import allocate
from eqkernels.descriptors.products.channels import most_triple_channels, n_features
from eqkernels.so3 import Irrep
from eqkernels.structures import StructureBatch

_PSEUDOSCALAR = Irrep(0, -1)


@dataclass(eq=False, repr=False, kw_only=True)
class LambdaSOAP(IrrepParameters, LongRange, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    r"""Symmetry-adapted generalization of SOAP: features for tensors of any irrep.

    .. math:: p^{\lambda\mu}_{q l, q' l'} =
              \sum_{mm'} \langle l m\, l' m' | \lambda\mu \rangle\, c_{qlm}\, c_{q'l'm'},
              \quad \text{parity}\ (-1)^{l + l'},\ q = (a, n) .

    Each unordered pair of factors is kept once with the weight that leaves scalar products unchanged; see
    :mod:`eqkernels.descriptors.products.channels` for their order. The block ``0e`` is the SOAP power spectrum. The
    block ``0o`` (pseudoscalars, which no two factors can make) couples three factors, and grows with the third power
    of the number of channels: beyond ``max_pseudoscalars`` features it is made of fewer, contracted channels.

    Parameters
    ----------
    cutoff : float, default=5.0
        Distance up to which neighbors count.
    n_max, l_max : int, default=6, 4
        Number of radial functions for every l, and highest angular momentum of the density expansion.
    sigma : float, default=0.3
        Width of the Gaussian on each atom.
    irreps : "auto", str or Irreps, default="auto"
        Blocks to compute, e.g. ``"0e+2e"``. ``"auto"`` takes those that the targets y passed to ``fit`` are made of
        (a dipole: 1o; a symmetric matrix: 0e+2e), or 0e+1o+2e without y, and always 0e, which kernels with zeta > 1
        need. Where y can be read in several ways (vectors of three atoms or a matrix of the structure), those of each.
    per_atom : bool, default=None
        Whether y belongs to atoms, for ``irreps="auto"``; None: either.
    compression : {None, "mu1nu1", "mu2"}, default=None
        Density summed over species: in one factor of each product, so that the number of features grows linearly with
        the species, or in both, which makes them blind to the species of neighbors.
    max_pseudoscalars : int, default=5000
        Most features of the block ``0o``. If all triples of channels are more, the channels of each degree are
        contracted, for this block alone, to so many principal components (of the density coefficients on the
        structures passed to ``fit``) that they are not. More features resolve more; memory and time grow with them.
        None: all triples, which with eight species and the other defaults are 415,904.
    long_range : int, default=None
        Power p of the distance, 1 to 6: products of the density with the fields 1 / r^p of all atoms of the structure,
        images included, stand beside those of the density with itself (but for 0o). 1 is for charges, 6 for dispersion;
        None: nothing reaches beyond the cutoff.
    long_range_sigma, long_range_n_max : float, int, default=1.0, None
        Width over which the atoms that make the fields are smeared, and number of radial functions of the fields (None:
        ``n_max``).
    time_odd : bool, default=False
        Whether the target changes sign under time reversal, as a magnetization or a velocity does: all blocks but
        ``0e`` are then made of an odd number of time-odd inputs. False: of an even number.
    inputs : dict of str to str, default=None
        Tensors of structures or of atoms, beside the geometry, that the features depend on: by their key in
        ``atoms.info`` or ``atoms.arrays`` their irreps, e.g. ``{"electric_field": "1o"}``.
    input_weight, neighbor_inputs
        Further parameters of them, see :class:`~eqkernels.descriptors.input_parameters.InputParameters`.
    radial_basis, cutoff_width, center_weight, scaling_scale, scaling_rate, scaling_exponent, center_species
        Further parameters of the density: see :class:`~eqkernels.descriptors.density_parameters.DensityParameters`,
        for those above too.
    neighbor_species, n_species_channels, species_embedding, n_optimal, handle_unknown, accuracy, dtype, n_jobs, verbose
        Further parameters of the species and of the computation: see there.

    Attributes
    ----------
    irreps_ : str
        The irreps of the blocks.
    triple_contraction_ : ndarray of shape (l_max + 1, n_channels, n_components), or None
        The principal components that the block ``0o`` is made of; None: of the channels themselves.
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    See Also
    --------
    SOAP : Block 0e alone, as rows for any regressor.
    NBodyFeatures : Products of more than two densities.
    EquivariantUnion : Several descriptors side by side.

    References
    ----------
    A. Grisafi, D. M. Wilkins, G. Csanyi, M. Ceriotti, Phys. Rev. Lett. 120, 036002 (2018),
    https://doi.org/10.1103/PhysRevLett.120.036002.

    Examples
    --------
    >>> import numpy as np
    >>> from ase.build import molecule
    >>> frames = [molecule("H2O"), molecule("CO2")]
    >>> descriptor = LambdaSOAP(cutoff=4.0, n_max=4, l_max=3, irreps="0e+1o")
    >>> dipole_like = descriptor.fit_transform(frames).blocks["1o"]
    >>> bool(np.abs(dipole_like[3]).max() < 1e-12)  # the carbon of CO2 stands at a center of inversion
    True
    """

    compression: str | None = None
    max_pseudoscalars: int | None = 5000

    _constraints = {
        **LongRange._constraints,
        "max_pseudoscalars": Integer(1, 10**9, none=True),
        **IrrepParameters._irrep_constraints,
    }

    @whole_or_nothing
    def fit(self, X: Iterable[Atoms] | StructureBatch, y: Any = None) -> LambdaSOAP:
        """Learn the species, and with ``irreps="auto"`` the irreps from y.

        Parameters
        ----------
        X : sequence of ase.Atoms
        y : array-like of shape (n_structures, 3, ..., 3), or list of arrays (n_atoms, 3, ..., 3), default=None
            Cartesian tensors of the structures or of their atoms.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If parameters are out of range or do not go together, or where there are no features of an irrep.
        """
        X = self._batch_to_fit(X)
        super().fit(X)
        self._choose_irreps(X, y)
        self.triple_contraction_ = None
        for key, block in self._blocks().items():
            self._check_block(key, block)
        if _PSEUDOSCALAR in self._irreps():
            self.triple_contraction_ = self._fit_triples(X)
        return self

    def transform(
        self, X: Iterable[Atoms] | StructureBatch, out: EquivariantFeatures | Blocks | None = None
    ) -> EquivariantFeatures:
        """Features of all centers, as density coefficients of which a block is made when it is asked for.

        Parameters
        ----------
        X : sequence of ase.Atoms
        out : EquivariantFeatures or dict of str to ndarray, default=None
            Arrays of the right shapes and type to write the blocks into, for repeated calls; all are made at once then.

        Returns
        -------
        EquivariantFeatures
        """
        if out is not None:
            return super().transform(X, out)
        batch, is_center, expansion = self._read(X)
        n_rows = int(is_center.sum())
        shape = (n_rows, (self.l_max + 1) ** 2, expansion.n_channels)
        density = allocate({"density": shape}, self.dtype, f"the density coefficients of {n_rows} centers")["density"]

        def store(rows, coefficients):
            density[rows] = coefficients

        progress = self._progress(batch.n_structures)
        expansion.for_each_range(batch, is_center, store, self.n_jobs, progress, self.dtype)
        return row_features(MadeBlocks(density, self._maker()), batch, is_center, self._block_labels())

    def _check_block(self, irrep, block):
        if self.compression == "mu1nu1" and irrep == str(_PSEUDOSCALAR):
            raise ValueError("irrep 0o, of three factors, is not available with compression='mu1nu1'")
        if block.width == 0:
            species, n_radial = self._channels
            raise ValueError(
                f"irrep {irrep} has no features at l_max={self.l_max} with {n_radial} radial functions of "
                f"{len(species)} species: increase l_max or n_max"
            )

    def _fit_triples(self, batch):
        """Principal components of the channels of each degree, if all their triples are too many."""
        species, n_radial = self._channels
        n_channels = len(species) * n_radial if self.inputs is None else self._all_inputs.sectors()[0][1]
        n_kept = most_triple_channels(self.l_max, n_channels, self.max_pseudoscalars)
        if n_kept == n_channels:
            return None
        if n_features(self.l_max, n_kept, _PSEUDOSCALAR) == 0:
            raise ValueError(
                f"max_pseudoscalars={self.max_pseudoscalars} leaves no feature of the irrep 0o: increase it"
            )
        is_center = among(self.center_species_, batch.numbers)
        covariance = channel_covariance(self._near_expansion(), batch, is_center, self._progress(batch.n_structures))
        return np.array([leading(part[:n_channels, :n_channels], n_kept) for part in covariance])

    def _blocks(self):
        return self._maker().blocks

    def _maker(self):
        (species, n_radial), triples = self._channels, self.triple_contraction_
        numbers = self.irreps_, self.l_max, self.n_max
        inputs = self._all_inputs
        channels = None if inputs is None else inputs.arrays(species, n_radial)
        time = -1 if self.time_odd else 1
        rest: Any = self.compression, triples, self.n_jobs, self._n_far, channels, time
        return BlockMaker(*numbers, species, n_radial, *rest)

    def feature_labels(self, irrep: str) -> np.ndarray:
        """Species, radial index and degree of the factors of every feature of a block.

        Parameters
        ----------
        irrep : str
            The block, e.g. ``"2e"``.

        Returns
        -------
        structured ndarray of shape (n_features,)
            Fields ``species_1, n_1, l_1, species_2, n_2, l_2`` (and of a third factor for 0o).
        """
        return self._blocks()[str(self._parsed_block(irrep))].labels()
