"""The bispectrum and its equivariants: all features of three density factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eqkernels._parameters import Integer
from eqkernels.descriptors.irrep_parameters import IrrepParameters
from eqkernels.descriptors.nbody import RecursiveTransformer


@dataclass(eq=False, repr=False, kw_only=True)
class Bispectrum(RecursiveTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    r"""All features of three density factors: the bispectrum and, with other irreps, its equivariants.

    .. math:: b_{q l, q' l', q'' l''} = \sum_{m m' m''}
              \frac{\langle l m\, l' m' | l'' m'' \rangle}{\sqrt{2 l'' + 1}}\,
              c_{qlm}\, c_{q'l'm'}\, c_{q''l''m''}, \quad q = (a, n) .

    Each unordered triple of the scalars is kept once, with the weight that leaves scalar products unchanged: block
    0e has the triples of even l + l' + l'', block 0o (pseudoscalars, which distinguish mirror images) the others, the
    same as :class:`LambdaSOAP`. The scalar product of the block 0e of two environments is the average over all
    rotations, proper and improper, of the third power of the overlap of their densities, and distinguishes some that
    the power spectrum does not. The number of features grows with the third power of that of the channels: with more
    than a few of them, use :class:`NBodyFeatures`.

    Parameters
    ----------
    cutoff : float, default=5.0
        Distance up to which neighbors count.
    n_max, l_max : int, default=6, 4
        Number of radial functions for every l, and highest angular momentum of the density expansion.
    sigma : float, default=0.3
        Width of the Gaussian on each atom.
    lambda_max : int, default=None
        As in :class:`NBodyFeatures`.
    irreps : "auto", str or Irreps, default="0e"
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
    neighbor_species_, center_species_, known_species_ : ndarray of int
        Atomic numbers of the channels, of the centers, and of all atoms that may occur.

    See Also
    --------
    NBodyFeatures : The same products contracted to principal components, and products of higher order.
    SOAP : Invariants of two density factors.

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

    lambda_max: int | None = None
    irreps: Any = "0e"

    _constraints = {
        **RecursiveTransformer._constraints,
        **IrrepParameters._irrep_constraints,
        "lambda_max": Integer(0, 10**9, none=True),
    }

    # no contraction: all products of three factors
    nu, n_components, n_products = 3, None, None
