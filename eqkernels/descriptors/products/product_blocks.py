"""Which kind of block holds the products of densities that couple to an irrep."""

from __future__ import annotations

from eqkernels.descriptors.products.field_products import LongRangeBlock
from eqkernels.descriptors.products.pairs import InvariantBlock, PairBlock
from eqkernels.descriptors.products.summed_species import SummedSpeciesBlock
from eqkernels.descriptors.products.triples import TripleBlock


def product_block(irrep, l_max, species, n_radial, group, compression=None, triple_contraction=None, n_far=0):
    """Make the block of an irrep.

    Parameters
    ----------
    irrep : Irrep
    l_max : int
    species : tuple of int
        Atomic numbers of the channels, or numbers of the combinations of species.
    n_radial : int
        Radial functions of each of them.
    group : int
        So many channels at a time are skipped where they are all zero, as those of an absent species.
    compression : {None, "mu1nu1", "mu2"}, default=None
        As of :class:`~eqkernels.descriptors.LambdaSOAP`.
    triple_contraction : ndarray of shape (l_max + 1, n_channels, n_components), default=None
        What the channels of the block 0o are contracted with.
    n_far : int, default=0
        Radial functions of the fields of all atoms of each species, which are multiplied with the density too.

    Returns
    -------
    ProductBlock
    """
    if n_far:
        near = product_block(irrep, l_max, species, n_radial, group, compression, triple_contraction)
        return LongRangeBlock(near, n_far)
    channels = irrep, l_max, species, n_radial, group
    if compression == "mu1nu1":
        return SummedSpeciesBlock(*channels)
    if str(irrep) == "0o":
        return TripleBlock(*channels, triple_contraction)
    return InvariantBlock(*channels) if str(irrep) == "0e" else PairBlock(*channels)
