"""The density coefficients themselves, as a transformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqkernels._parameters import Choice, Integer
from eqkernels.descriptors.base import BlockTransformer
from eqkernels.descriptors.long_range import check_fields, potential_expansion, smearing_problems
from eqkernels.radial.power_laws import LARGEST_EXPONENT
from eqkernels.so3 import Irrep


@dataclass(eq=False, repr=False, kw_only=True)
class SphericalExpansion(BlockTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    r"""Coefficients of the atomic density in radial functions and spherical harmonics.

    Block l holds :math:`c^i_{anlm}` (see :mod:`eqkernels.descriptors.density.expand`) with m along its second axis
    and the channels (species a, radial index n), n fastest, along its third. Its parity is :math:`(-1)^l`.

    Parameters
    ----------
    cutoff : float, default=5.0
        Distance up to which neighbors count.
    n_max, l_max : int, default=6, 4
        Number of radial functions for every l, and highest angular momentum of the density expansion.
    sigma : float, default=0.3
        Width of the Gaussian on each atom.
    density : {"gaussian", "potential"}, default="gaussian"
        What is expanded: Gaussians on the neighbors within the cutoff, or the fields 1 / r^exponent of all atoms of the
        structure, smeared over ``sigma``, images included (see :mod:`eqkernels.descriptors.density.potential`); the
        cutoff is then the radius of the radial functions, and cutoff_width and the radial scaling have no effect.
    exponent : int, default=1
        With ``density="potential"``, the power of the distance, 1 to 6: 1 for charges, 6 for dispersion.
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
    SOAP : Invariant products of these coefficients, as rows.
    LambdaSOAP : Products of these coefficients for any irrep.

    References
    ----------
    A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), https://doi.org/10.1103/PhysRevB.87.184115.
    A. Grisafi, M. Ceriotti, J. Chem. Phys. 151, 204105 (2019), https://doi.org/10.1063/1.5128375;
    K. K. Huguenin-Dumittan, P. Loche, N. Haoran, M. Ceriotti, J. Phys. Chem. Lett. 14, 9612 (2023),
    https://doi.org/10.1021/acs.jpclett.3c02375, for the potential density.

    Examples
    --------
    >>> from ase.build import molecule
    >>> SphericalExpansion(n_max=4, l_max=2).fit_transform([molecule("H2O")])
    EquivariantFeatures(1 structures, 3 centers, blocks: 0e (3, 1, 8), 1o (3, 3, 8), 2e (3, 5, 8))
    """

    density: str = "gaussian"
    exponent: int = 1

    _constraints = {
        **BlockTransformer._constraints,
        "density": Choice("gaussian", "potential"),
        "exponent": Integer(1, LARGEST_EXPONENT),
    }

    def _relations(self) -> Iterator[str]:
        yield from super()._relations()
        if self.density == "potential":
            if self.inputs is not None:
                yield "inputs are not available with density='potential': set it to 'gaussian'"
            yield from smearing_problems("sigma", self.sigma, self.cutoff)
            if self.scaling_scale is not None:
                yield "scaling_scale has no effect on density='potential': set it to None"

    def _expansion(self, contracted=True):
        if self.density != "potential":
            return super()._expansion(contracted)
        contraction = self.contraction_ if contracted else None
        return potential_expansion(self, self.n_max, self.sigma, self.exponent, contraction)

    def _check_structures(self, batch):
        if self.density == "potential":
            check_fields(self, batch, self.n_max, self.sigma, self.exponent)

    def _blocks(self):
        degrees, channels, inputs = range(self.l_max + 1), self._channels, self._all_inputs
        if inputs is None:
            return {f"{l}{'eo'[l % 2]}": DegreeBlock(l, *channels) for l in degrees}
        species, n_radial = channels
        arrays = inputs.arrays(species, n_radial)
        labels: Any = tuple(map(tuple, arrays["labels"].tolist()))
        blocks = {}
        for sign in (1, -1):
            of_sign = np.zeros(inputs.n_channels, dtype=bool)
            for first, stop, (sigma, _) in inputs.sectors():
                of_sign[first:stop] = sigma == sign
            for l in degrees:
                chosen = np.flatnonzero(of_sign & (arrays["live"][:, l] > 0))
                if len(chosen):
                    block = DegreeBlock(l, species, n_radial, labels, tuple(chosen.tolist()))
                    blocks[str(Irrep(l, sign * (-1) ** l))] = block
        return blocks

    def feature_labels(self, irrep: str) -> np.ndarray:
        """Species and radial index of every channel.

        Parameters
        ----------
        irrep : str
            The block, e.g. ``"2e"``: the channels of all are the same, but for those of inputs.

        Returns
        -------
        structured ndarray of shape (n_channels,)
            Fields ``species, n``.
        """
        blocks = self._blocks()
        if irrep not in blocks:
            raise ValueError(f"irrep={irrep!r} must be one of the blocks {', '.join(blocks)}")
        return blocks[irrep].labels()


@dataclass(frozen=True)
class DegreeBlock:
    """Coefficients of one degree, with the methods of :class:`~eqkernels.descriptors.density.gradients.FeatureBlock`.

    Attributes
    ----------
    degree : int
    species : tuple of int
    n_radial : int
        Radial functions of each species.
    channel_labels : tuple of (int, int), default=None
        Species and radial index of all channels, where some are made of inputs.
    channels : tuple of int, default=None
        The channels of this block among them.
    """

    degree: int
    species: tuple[int, ...]
    n_radial: int
    channel_labels: tuple[tuple[int, int], ...] | None = None
    channels: tuple[int, ...] | None = None

    @property
    def shape(self):
        """(2 l + 1, n_channels)."""
        return 2 * self.degree + 1, len(self.species) * self.n_radial if self.channels is None else len(self.channels)

    @property
    def _chosen(self):
        return slice(None) if self.channels is None else np.array(self.channels)

    @property
    def _rows(self):
        """Where the components of the degree stand among all (l, m)."""
        return slice(self.degree**2, (self.degree + 1) ** 2)

    def labels(self):
        """Species and radial index of every channel."""
        labels = np.empty(self.shape[1], dtype=[("species", np.int64), ("n", np.int64)])
        if self.channels is not None:
            labels["species"], labels["n"] = np.array(self.channel_labels)[self._chosen].T
            return labels
        labels["species"] = np.repeat(self.species, self.n_radial)
        labels["n"] = np.tile(np.arange(self.n_radial), len(self.species))
        return labels

    def fill(self, density, out):
        """Write the coefficients."""
        out[...] = density[:, self._rows][:, :, self._chosen]

    def changing(self, first, width):
        """Channels that change with the channels ``first`` .. ``first + width - 1``: these."""
        if self.channels is None:
            return np.arange(first, first + width)
        return np.flatnonzero((self._chosen >= first) & (self._chosen < first + width))

    def fill_derivatives(self, density, owners, changes, first, out):
        """Write the changes themselves."""
        changing = changes[:, :, self._rows]
        if self.channels is not None:
            changing = changing[..., self._chosen[self.changing(first, changes.shape[3])] - first]
        out[...] = changing

    def contract(self, density, cotangent, out):
        """Add the cotangent."""
        part = np.zeros((*cotangent.shape[:2], density.shape[2]))
        part[:, :, self._chosen] = cotangent
        out[:, self._rows] += part
