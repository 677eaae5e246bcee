"""Radial side of the density expansion: bases, exact integrals and the tables that replace them."""

from eqkernels.radial.basis import GTO, LaplacianEigenstates
from eqkernels.radial.integrals import RadialIntegrals
from eqkernels.radial.table import RadialTable

__all__ = ["GTO", "LaplacianEigenstates", "RadialIntegrals", "RadialTable"]
