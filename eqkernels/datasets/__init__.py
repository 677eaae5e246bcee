"""Data sets in the package: molecules with dipoles, polarizabilities, shieldings and other tensors."""

from eqkernels.datasets.loaders import (
    load_chain_molecules,
    load_chiral_molecules,
    load_small_organics,
    load_water_clusters,
)

__all__ = ["load_chain_molecules", "load_chiral_molecules", "load_small_organics", "load_water_clusters"]
