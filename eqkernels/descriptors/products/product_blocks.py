"""Which kind of block holds the products of densities that couple to an irrep."""

from __future__ import annotations

from eqkernels.descriptors.products.field_products import LongRangeBlock
from eqkernels.descriptors.products.pairs import InvariantBlock, PairBlock
from eqkernels.descriptors.products.sectors import CrossBlock, SectorBlock
from eqkernels.descriptors.products.summed_species import SummedSpeciesBlock
from eqkernels.descriptors.products.triples import TripleBlock


def product_block(
    irrep, l_max, species, n_radial, group, compression=None, triple_contraction=None, n_far=0, channels=None, time=1
):
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
    channels : Channels, default=None
        All channels, where there are some that are made of inputs.
    time : {1, -1}, default=1
        Sign of the block under time reversal.

    Returns
    -------
    ProductBlock
    """
    if channels is not None and channels.roles:
        return _summed_with_inputs(irrep, l_max, channels, time)
    if n_far and channels is not None:
        return _fields_with_inputs(irrep, l_max, species, n_radial, group, triple_contraction, channels, time, n_far)
    if n_far:
        near = _block(irrep, l_max, species, n_radial, group, compression, triple_contraction)
        return LongRangeBlock(near, n_far)
    if channels is not None:
        return _with_inputs(irrep, l_max, species, n_radial, group, triple_contraction, channels, time)
    return _block(irrep, l_max, species, n_radial, group, compression, triple_contraction)


def _block(irrep, l_max, species, n_radial, group, compression=None, triple_contraction=None, extra=()):
    channels = irrep, l_max, species, n_radial, group, extra
    if compression == "mu1nu1":
        return SummedSpeciesBlock(*channels)
    if str(irrep) == "0o":
        return TripleBlock(*channels, triple_contraction)
    return InvariantBlock(*channels) if str(irrep) == "0e" else PairBlock(*channels)


def _with_inputs(irrep, l_max, species, n_radial, group, triple_contraction, channels, time):
    """Make a block of channels of several sectors, of which the first has those of the density."""
    labels, n_density, sectors = channels.labels, len(species) * n_radial, channels.sectors
    natural = _block(
        irrep, l_max, species, n_radial, group, None, triple_contraction, labels[n_density : sectors[0][1]]
    )
    if len(sectors) == 1 and time == 1:
        return natural
    within = [(natural, sectors[0][:2])]
    for first, stop, _ in sectors[1:]:
        if str(irrep) != "0o":
            within.append((_block(irrep, l_max, (), 1, stop - first, extra=labels[first:stop]), (first, stop)))
    across = [
        CrossBlock(irrep, l_max, channels, one[:2], two[:2], one[2][0] * two[2][0])
        for k, one in enumerate(sectors)
        for two in sectors[k + 1 :]
        if one[2][1] * two[2][1] == time
    ]
    return SectorBlock(irrep, channels, tuple(within if time == 1 else ()), tuple(across))


def _fields_with_inputs(irrep, l_max, species, n_radial, group, triple_contraction, channels, time, n_far):
    """Make a block of the products of all channels with inputs, and of these with fields of all atoms."""
    near = _with_inputs(irrep, l_max, species, n_radial, group, triple_contraction, channels, time)
    parts = (
        near if isinstance(near, SectorBlock) else SectorBlock(irrep, channels, ((near, channels.sectors[0][:2]),), ())
    )
    every = channels.of_fields(species, n_far)
    *sectors, fields = every.sectors
    far = [
        CrossBlock(irrep, l_max, every, one[:2], fields[:2], one[2][0], weight=1.0)
        for one in sectors
        if one[2][1] == time
    ]
    return SectorBlock(irrep, every, parts.within, (*parts.across, *far))


def _summed_with_inputs(irrep, l_max, channels, time):
    """Make a block of products of channels of species and inputs with sums over species and inputs, in this order."""
    across = [
        CrossBlock(irrep, l_max, channels, one[:2], two[:2], one[2][0] * two[2][0], weight=1.0)
        for one in channels.sectors
        for two in channels.sectors
        if one[2][1] * two[2][1] == time
    ]
    return SectorBlock(irrep, channels, (), tuple(across))
