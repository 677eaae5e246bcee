"""The density coefficients themselves, as a transformer."""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors.base import PARAMETERS, DensityTransformer


class SphericalExpansion(DensityTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]  # noqa: D101
    __doc__ = rf"""Coefficients of the atomic density in radial functions and spherical harmonics.

    Block l holds :math:`c^i_{{anlm}}` (see :mod:`eqkernels.descriptors.density.expand`) with m along its second axis
    and the channels (species a, radial index n), n fastest, along its third. Its parity is :math:`(-1)^l`.

    Parameters
    ----------
    {PARAMETERS}

    Attributes
    ----------
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    References
    ----------
    A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), https://doi.org/10.1103/PhysRevB.87.184115.

    Examples
    --------
    >>> from ase.build import molecule
    >>> SphericalExpansion(n_max=4, l_max=2).fit_transform([molecule("H2O")])
    EquivariantFeatures(1 structures, 3 centers, blocks: 0e (3, 1, 8), 1o (3, 3, 8), 2e (3, 5, 8))
    """

    def __init__(
        self,
        cutoff=5.0,
        n_max=6,
        l_max=4,
        sigma=0.3,
        *,
        radial_basis="gto",
        cutoff_width=0.5,
        center_weight=1.0,
        scaling_scale=None,
        scaling_rate=1.0,
        scaling_exponent=4.0,
        center_species=None,
        neighbor_species=None,
        n_species_channels=None,
        species_embedding=None,
        n_optimal=None,
        handle_unknown="error",
        accuracy=1e-9,
        dtype="float64",
        n_jobs=None,
        verbose=0,
    ):
        self.cutoff = cutoff
        self.n_max = n_max
        self.l_max = l_max
        self.sigma = sigma
        self.radial_basis = radial_basis
        self.cutoff_width = cutoff_width
        self.center_weight = center_weight
        self.scaling_scale = scaling_scale
        self.scaling_rate = scaling_rate
        self.scaling_exponent = scaling_exponent
        self.center_species = center_species
        self.neighbor_species = neighbor_species
        self.n_species_channels = n_species_channels
        self.species_embedding = species_embedding
        self.n_optimal = n_optimal
        self.handle_unknown = handle_unknown
        self.accuracy = accuracy
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _block_shapes(self, expansion):
        return {f"{l}{'eo'[l % 2]}": (2 * l + 1, expansion.n_channels) for l in range(self.l_max + 1)}

    def _fill(self, key, density, out):
        out[...] = density[:, _components(key)]

    def _changing(self, key, n_channels, first, width):
        return np.arange(first, first + width)

    def _fill_derivatives(self, key, density, owners, changes, first, out):
        out[...] = changes[:, :, _components(key)]

    def _contract(self, key, density, cotangent, out):
        out[:, _components(key)] += cotangent

    def feature_labels(self, irrep):
        """Species and radial index of every channel.

        Parameters
        ----------
        irrep : str
            The block, e.g. ``"2e"``: the channels of all are the same.

        Returns
        -------
        structured ndarray of shape (n_channels,)
            Fields ``species, n``.
        """
        species, n_radial = self._channels
        labels = np.empty(len(species) * n_radial, dtype=[("species", np.int64), ("n", np.int64)])
        labels["species"] = np.repeat(species, n_radial)
        labels["n"] = np.tile(np.arange(n_radial), len(species))
        return labels


def _components(key):
    """Where the components of a degree stand among all (l, m)."""
    l = int(key[:-1])
    return slice(l * l, (l + 1) * (l + 1))
