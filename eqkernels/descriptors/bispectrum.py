"""The bispectrum and its equivariants: all features of three density factors."""

from __future__ import annotations

from eqkernels.descriptors.base import PARAMETERS
from eqkernels.descriptors.nbody import LAMBDA_MAX, NBodyFeatures


class Bispectrum(NBodyFeatures, auto_wrap_output_keys=None):  # type: ignore[call-arg]  # noqa: D101
    __doc__ = rf"""All features of three density factors: the bispectrum and, with other irreps, its equivariants.

    .. math:: b_{{q l, q' l', q'' l''}} = \sum_{{m m' m''}}
              \frac{{\langle l m\, l' m' | l'' m'' \rangle}}{{\sqrt{{2 l'' + 1}}}}\,
              c_{{qlm}}\, c_{{q'l'm'}}\, c_{{q''l''m''}}, \quad q = (a, n) .

    Each unordered triple of the scalars is kept once, with the weight that leaves scalar products unchanged: block
    0e has the triples of even l + l' + l'', block 0o (pseudoscalars, which tell mirror images apart) the others, the
    same as :class:`LambdaSOAP`. The scalar product of the block 0e of two environments is the average over all
    rotations, proper and improper, of the third power of the overlap of their densities, and distinguishes some that
    the power spectrum does not. The number of features grows with the third power of that of the channels: with more
    than a few of them, use :class:`NBodyFeatures`.

    Parameters
    ----------
    {PARAMETERS}
    {LAMBDA_MAX}
    irreps : "auto", str or Irreps, default="0e"
        Blocks to compute, as in :class:`LambdaSOAP`.
    per_atom : bool, default=None
        As in :class:`LambdaSOAP`.

    Attributes
    ----------
    irreps_ : str
        The irreps of the blocks.
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    References
    ----------
    A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), https://doi.org/10.1103/PhysRevB.87.184115;
    S. N. Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020), https://doi.org/10.1103/PhysRevLett.125.166001.

    Examples
    --------
    >>> from ase.build import molecule
    >>> Bispectrum(cutoff=4.0, n_max=2, l_max=3, irreps="0e+0o").fit_transform([molecule("H2O2")])
    EquivariantFeatures(1 structures, 4 centers, blocks: 0e (4, 1, 304), 0o (4, 1, 80))
    """

    def __init__(
        self,
        cutoff=5.0,
        n_max=6,
        l_max=4,
        sigma=0.3,
        *,
        lambda_max=None,
        irreps="0e",
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
        per_atom=None,
    ):
        super().__init__(
            cutoff,
            n_max,
            l_max,
            sigma,
            nu=3,
            n_components=None,
            lambda_max=lambda_max,
            irreps=irreps,
            radial_basis=radial_basis,
            cutoff_width=cutoff_width,
            center_weight=center_weight,
            scaling_scale=scaling_scale,
            scaling_rate=scaling_rate,
            scaling_exponent=scaling_exponent,
            center_species=center_species,
            neighbor_species=neighbor_species,
            n_species_channels=n_species_channels,
            species_embedding=species_embedding,
            n_optimal=n_optimal,
            handle_unknown=handle_unknown,
            accuracy=accuracy,
            dtype=dtype,
            n_jobs=n_jobs,
            verbose=verbose,
            per_atom=per_atom,
        )
