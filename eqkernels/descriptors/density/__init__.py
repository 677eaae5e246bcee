"""Density coefficients of atomic environments, their contraction over channels and their derivatives."""
