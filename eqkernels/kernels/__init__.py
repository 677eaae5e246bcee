"""Covariant kernels between structures, and the choice of representative environments."""

from eqkernels.kernels.algebra import Product, Scaled, Sum, TensorKernel
from eqkernels.kernels.atomic_dipoles import AtomicDipoleKernel
from eqkernels.kernels.blocks import KernelBlocks
from eqkernels.kernels.charges import ChargeKernel
from eqkernels.kernels.covariant import CovariantKernel
from eqkernels.kernels.restricted import Restricted
from eqkernels.kernels.sparse_points import select_sparse_points
from eqkernels.kernels.wigner_kernel import WignerKernel

__all__ = [
    "AtomicDipoleKernel",
    "ChargeKernel",
    "CovariantKernel",
    "KernelBlocks",
    "Product",
    "Restricted",
    "Scaled",
    "Sum",
    "TensorKernel",
    "WignerKernel",
    "select_sparse_points",
]
