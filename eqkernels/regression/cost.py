"""What the fit of an exact model costs, from a sample of its kernel and the speed of BLAS, before it begins."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from eqkernels._memory import check_memory
from eqkernels._progress import Count, Meter, duration, reported_to, say
from eqkernels._warnings import warn
from eqkernels.descriptors import EquivariantFeatures

# Environments in the sample.
_SAMPLE = 700
# The sample is measured if its pairs are at most this part of all; else the work is too short to be worth it.
_PART = 1 / 40
# Seconds for each pair of environments of an irrep, where none are measured.
_SECONDS_PER_PAIR = 1e-7
# Size of the matrix product from which the speed of BLAS is measured.
_PRODUCT = 384
# Seconds from which users are warned.
_LONG = 60.0
# Seconds up to which the cost is a detail, logged for debugging only.
_SHORT = 2.0


@contextmanager
def announced(model, features, blocks, solver_flops, n_kernels, n_matrices):
    """Say what a fit will cost before it begins, and while it lasts how far it has come.

    Parameters
    ----------
    model : TensorRegressor
        With ``verbose`` and ``_kernel()``.
    features : EquivariantFeatures or KernelBlocks
    blocks : dict of str to ndarray of shape (n, 2 lambda + 1, multiplicity)
        Labels.
    solver_flops : float
        Operations for each cube of the number of components, of one irrep and one kernel.
    n_kernels : int
        How many kernels are fitted for each irrep.
    n_matrices : int
        Matrices of the size of the kernel that are held at once.

    Raises
    ------
    MemoryError
        If the kernel is larger than the memory.
    """
    name, sizes = type(model).__name__, [values.shape[0] * values.shape[1] for values in blocks.values()]
    memory = 8.0 * n_matrices * max(sizes) ** 2
    check_memory(
        memory,
        f"{name}: the exact kernel of {len(features)} structures or labelled atoms, with {max(sizes)} components,",
        "use SparseTensorGPR, TensorRidge or fewer structures",
    )
    measured, units = 0.0, 0.0
    if isinstance(features, EquivariantFeatures):
        for irrep in blocks:
            seconds, count = _kernel_cost(model._kernel(), features, irrep)
            measured, units = measured + n_kernels * seconds, units + n_kernels * count
    flops = n_kernels * solver_flops * sum(float(size) ** 3 for size in sizes)
    measured += flops / (_speed() if flops > 1e10 else 1e10)
    text = f"{len(features)} structures or labelled atoms, about {duration(measured)} and {memory / 2**30:.2g} GiB"
    say(f"{name}: {text}", model.verbose, logging.INFO if measured > _SHORT else logging.DEBUG)
    if measured > _LONG:
        warn(
            f"the fit of {name} to {text}, which grow with the third and second power of their number: SparseTensorGPR "
            "or fewer structures take less; verbose=1 shows progress"
        )
    with reported_to(Meter(name, units or None, verbose=model.verbose)):
        yield


def _kernel_cost(kernel, features, irrep):
    """Seconds for a kernel matrix of all structures, and in how much progress it will report."""
    pairs, n_centers = _pairs(features), len(features.species)
    step = max(1, round(n_centers / _SAMPLE))
    sample = features[np.arange(0, len(features), step)] if step > 1 else features
    pairs_of_sample = _pairs(sample)
    if pairs_of_sample > _PART * pairs:
        return _SECONDS_PER_PAIR * pairs, pairs
    kernel(sample[:2], irrep=irrep)  # compiles
    with reported_to(Count()) as count:
        start = time.perf_counter()
        kernel(sample, irrep=irrep)
        seconds = time.perf_counter() - start
    work = kernel.operations(features, irrep) / max(kernel.operations(sample, irrep), 1.0)
    return work * seconds, pairs / max(pairs_of_sample, 1) * count.total


def _pairs(features):
    """Pairs of environments of the same species, those of the upper triangle."""
    return float(np.sum(np.unique(features.species, return_counts=True)[1].astype(float) ** 2)) / 2


@lru_cache(maxsize=1)
def _speed():
    """Operations of a matrix product in a second."""
    matrix = np.ones((_PRODUCT, _PRODUCT))
    _ = matrix @ matrix
    start = time.perf_counter()
    for _ in range(3):
        _ = matrix @ matrix
    return 3 * 2 * _PRODUCT**3 / max(time.perf_counter() - start, 1e-9)
