"""Sparse Gaussian process: its data are streamed in chunks that are folded into triangular factors."""
