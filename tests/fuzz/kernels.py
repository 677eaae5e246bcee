"""Laws of kernels: they are symmetric, positive, rotate with both structures, and agree with each other."""

from __future__ import annotations

import numpy as np
from hypothesis import reject
from sklearn.base import clone

from eqkernels import CovariantKernel, EquivariantFeatures
from eqkernels.so3 import wigner_d
from eqkernels.testing import random_rotation, transformed


def flat(kernel):
    n, m, d, _ = kernel.shape
    return kernel.transpose(0, 2, 1, 3).reshape(n * d, m * d)


def size_of_kernel(kernel, invariant):
    """Largest entry, at least a part of that of scalars: blocks that vanish by symmetry are rounding errors of them."""
    return max(np.abs(kernel).max(), 1e-4 * invariant) + 1e-280


def check_kernels(fuzz, case):
    structures = [one.atoms() for one in case.fit]
    descriptor = clone(case.more["descriptor"]).fit(structures)
    X, kernel = descriptor.transform(structures), case.model
    rotation = random_rotation(np.random.RandomState(case.seed % 2**31)) * (-1) ** (case.seed % 2)
    turned = descriptor.transform([transformed(atoms, rotation) for atoms in structures])
    half = len(structures) // 2 + 1
    invariant = np.abs(kernel(X, irrep="0e")).max()
    for irrep in X.blocks:
        square = kernel(X, irrep=irrep)
        size = size_of_kernel(square, invariant)
        assert np.isfinite(square).all()
        fuzz.compare("symmetric", np.abs(flat(square) - flat(square).T).max() / size, 1e-13)
        values = np.linalg.eigvalsh(flat(square))
        # the error of an eigenvalue is that of the matrix: its size times eps, here of up to 35 rows; in structures that
        # are nearly symmetric, environments cancel, and leave the rounding of each
        alone = np.abs(kernel(X.split_centers(), irrep=irrep)).max() * np.max(np.diff(X.offsets)) ** 2
        fuzz.compare("positive", max(0.0, -values[0]) / (values[-1] + 1e-3 * alone + 1e-280), 1e-12)
        fuzz.compare("cross kernel", np.abs(kernel(X[:half], X, irrep=irrep) - square[:half]).max() / size, 1e-13)
        diagonal = np.array([square[k, k] for k in range(len(X))])
        gap = np.abs(kernel.diag(X, irrep=irrep) - diagonal).max()
        fuzz.compare("diagonal", gap / (size + 1e-2 * alone), 1e-13)
        expected = wigner_d(irrep, rotation) @ square
        # a block that is a part of the invariant one has the rounding of that, which normalization magnifies with it
        tolerance = 1e-10 + (1e-14 / smallest_part(X, irrep) if normalizes(kernel) else 0.0)
        fuzz.compare("kernel rotates", np.abs(kernel(turned, X, irrep=irrep) - expected).max() / size, tolerance)


def check_density_kernels(fuzz, case):
    structures = [one.atoms() for one in case.fit]
    descriptor = clone(case.more["descriptor"])
    if descriptor.compression is not None:
        reject()
    coefficients, inner = descriptor.fit_transform(structures), case.model
    X = EquivariantFeatures.from_dict(coefficients[:].to_dict())
    while not isinstance(inner, CovariantKernel):
        inner = inner.get_params()["k1" if hasattr(inner, "k1") else "kernel"]
    invariant = np.abs(inner(X, irrep="0e")).max()
    for irrep in X.blocks:
        one, two = inner(X, irrep=irrep), inner(coefficients, irrep=irrep)
        size = size_of_kernel(one, invariant)
        part = smallest_part(X, irrep) if inner.normalize is True else 1.0
        if part < 1e-4:
            continue
        tolerance = 1e-10 + 1e-14 / part**2  # overlaps cancel
        fuzz.compare("from densities", np.abs(one - two).max() / size, tolerance)
        two = inner(coefficients[:1], coefficients, irrep=irrep)
        fuzz.compare("from densities, of two", np.abs(one[:1] - two).max() / size, tolerance)


def smallest_part(X, irrep):
    """Smallest norm of a block relative to the invariant block of its environment."""
    sizes = [np.linalg.norm(X.blocks[key], axis=(1, 2)) for key in (irrep, "0e")]
    parts = np.divide(*sizes, out=np.zeros(len(sizes[0])), where=sizes[1] > 0)
    return np.min(parts[parts > 1e-12], initial=1.0)  # what is smaller counts as zero


def normalizes(kernel):
    """Whether blocks of vectors and tensors are divided by their own norm."""
    inner = [value for value in kernel.get_params(deep=False).values() if hasattr(value, "get_params")]
    return getattr(kernel, "normalize", None) is True or any(normalizes(one) for one in inner)
