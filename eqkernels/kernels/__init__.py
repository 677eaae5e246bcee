"""Covariant kernels between structures."""

from eqkernels.kernels.algebra import Product, Scaled, Sum, TensorKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.covariant import CovariantKernel
from eqkernels.kernels.restricted import Restricted

__all__ = ["CovariantKernel", "KernelBlocks", "Product", "Restricted", "Scaled", "Sum", "TensorKernel"]
