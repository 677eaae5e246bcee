"""Covariant kernels between structures."""

from eqkernels.kernels.algebra import Product, Scaled, Sum, TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.covariant import CovariantKernel

__all__ = ["CovariantKernel", "KernelBlocks", "Product", "Scaled", "Sum", "TensorKernel"]
