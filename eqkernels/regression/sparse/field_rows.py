r"""Rows of energies, forces and dipoles in the expansion of an energy in powers of a field.

With the monomials :math:`\mathbf x^\lambda` of the field, the irreps :math:`\lambda` of the symmetric tensors
:math:`\mathbf F^{\otimes n} / n!`, and kernels :math:`k^\lambda` of the geometry alone,

.. math:: E = \sum_{n\lambda} \mathbf x^{n\lambda} \cdot \sum_m k^\lambda(A, m)\, \mathbf c_m^{n\lambda} , \quad
          \mathbf f_j = -\sum_{n\lambda} \mathbf x^{n\lambda} \cdot
                        \sum_m \frac{\partial k^\lambda(A, m)}{\partial \mathbf r_j}\, \mathbf c_m^{n\lambda} , \quad
          \frac{\partial E}{\partial F_i} = \sum_{n\lambda} \frac{\partial \mathbf x^{n\lambda}}{\partial F_i} \cdot
                        \sum_m k^\lambda(A, m)\, \mathbf c_m^{n\lambda} ,

all linear in the same coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import Any

import numpy as np

from eqkernels._ranges import structure_blocks
from eqkernels.regression.baseline import composition_design
from eqkernels.regression.sparse.derivatives import kernel_derivatives, points_of_rows
from eqkernels.regression.sparse.model import SparseModel
from eqkernels.regression.sparse.triangular import TriangularFactor
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import DerivativeLabels, atom_counts

#: Index symmetry of the response tensor of each order.
FORMULAS = ("", "i", "ij=ji")
# Bytes of the derivatives of the kernels of the atoms that are worked on at once.
_BYTES_AT_ONCE = 2.0**26


def monomials(field, order):
    """Irreps of the symmetric tensors F^n / n!.

    Parameters
    ----------
    field : ndarray of shape (n_structures, 3)
    order : int

    Returns
    -------
    dict of str to ndarray of shape (n_structures, 2 lambda + 1)
    """
    return _irreps(powers(field, order), order)


def powers(field, order):
    """Symmetric tensors F^n / n!, (n_structures, 3, ..., 3)."""
    tensors = np.ones(len(field))
    for _ in range(order):
        tensors = np.einsum("n...,ni->n...i", tensors, field)
    return tensors / factorial(order)


def monomial_derivatives(field, order):
    """Differentiate :func:`monomials` by x, y, z of the field: dict of str to (n_structures, 3, 2 lambda + 1)."""
    if order == 0:
        return {"0e": np.zeros((len(field), 3, 1))}
    lower = powers(field, order - 1)
    by_direction = [_symmetric(np.einsum("n...,i->n...i", lower, one)) for one in np.eye(3)]
    parts = [_irreps(tensors, order) for tensors in by_direction]
    return {irrep: np.stack([part[irrep] for part in parts], axis=1) for irrep in parts[0]}


def _symmetric(tensors):
    """Symmetric part of tensors (n, 3) or (n, 3, 3)."""
    return tensors if tensors.ndim < 3 else 0.5 * (tensors + tensors.transpose(0, 2, 1))


def _irreps(tensors, order):
    blocks = CartesianTensor(FORMULAS[order]).to_irreps(tensors)
    return {irrep: block[:, :, 0] for irrep, block in blocks.items()}


@dataclass
class FieldRows:
    """What makes structures into rows: kernels of all orders, a column of zeros, baseline, label.

    Attributes
    ----------
    models : list of SparseModel
        Of each order.
    descriptors : list of transformer
        Fitted, of each order.
    """

    models: list[SparseModel]
    descriptors: list[Any]

    def blocks(self):
        """Order and irrep of each block of columns, and which columns they are."""
        found, first = [], 0
        for order, model in enumerate(self.models):
            for irrep in model.multiplicities:
                found.append((order, irrep, slice(first, first + model.n_kernel(irrep))))
                first += model.n_kernel(irrep)
        return found

    @property
    def size(self):
        """Number of columns."""
        return self.blocks()[-1][2].stop + 1 + self.models[0].n_baseline("0e") + 1

    def factors(self, frames, fields, labels, progress=None):
        """Triangular factors of the labels of each kind.

        Parameters
        ----------
        frames : list of ase.Atoms
        fields : ndarray of shape (n_structures, 3)
        labels : dict of str to (ndarray or DerivativeLabels)
            Energies (n_structures,) as ``"energies"``; ``"forces"``; ``"dipoles"``, in x, y, z.
        progress : callable, default=None
            Called with the number of structures that are done.

        Returns
        -------
        dict of str to TriangularFactor
        """
        factors = {kind: TriangularFactor(self.size) for kind in labels}
        for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(atom_counts(frames))]), self._most_atoms()):
            for kind, rows in self.rows(frames, fields, labels, start, stop).items():
                factors[kind].fold(rows)
            if progress is not None:
                progress(stop)
        return factors

    def rows(self, frames, fields, labels, start, stop):
        """Rows (n_rows, size) of each kind of the structures start .. stop - 1."""
        part, field, ends = frames[start:stop], fields[start:stop], np.cumsum(atom_counts(frames))
        first, last = (int(ends[k - 1]) if k else 0 for k in (start, stop))
        forces = labels["forces"].between(first, last) if "forces" in labels else None
        dipoles = labels["dipoles"].between(start, stop) if "dipoles" in labels else None
        rows = {"energies": self._rows(labels["energies"][start:stop])}
        rows |= {} if forces is None else {"forces": self._rows(forces.values)}
        rows |= {} if dipoles is None else {"dipoles": self._rows(dipoles.values)}
        for order, (model, descriptor) in enumerate(zip(self.models, self.descriptors, strict=True)):
            features = descriptor.transform(part)
            slopes, values = monomial_derivatives(field, order), monomials(field, order)
            for irrep, columns in [(irrep, where) for n, irrep, where in self.blocks() if n == order]:
                kernel = _kernel(model, features, irrep)
                rows["energies"][:, columns] = np.einsum("ndp,nd->np", kernel, values[irrep])
                if dipoles is not None:
                    known = dipoles.owners
                    product = np.einsum("ndp,nxd->nxp", kernel[known], slopes[irrep][known])
                    rows["dipoles"][:, columns] = product.reshape(-1, kernel.shape[2])
                if forces is not None and len(forces):
                    product = _force_rows(model, descriptor, part, features, irrep, values[irrep], forces)
                    rows["forces"][:, columns] = product
            if order == 0 and model.n_baseline("0e"):
                design = composition_design(features.composition(model.species), model.baseline, model.kernel.aggregate)
                rows["energies"][:, -1 - design.shape[1] : -1] = design
        return rows

    def _rows(self, labels):
        rows = np.zeros((labels.size, self.size))
        rows[:, -1] = labels.ravel()
        return rows

    def _most_atoms(self):
        width = max(
            len(model.points) * model.dim(irrep) ** 2 for model in self.models for irrep in model.multiplicities
        )
        return max(1, int(_BYTES_AT_ONCE / (8 * 3 * width)))


def _kernel(model, features, irrep):
    """Kernels with the pivots, (n_structures, 2 lambda + 1, n_pivots)."""
    points, pivots = model.points_in_use(irrep)
    point, component = np.divmod(pivots, model.dim(irrep))
    kernel = model.kernel(features, points, irrep=irrep)
    return np.moveaxis(kernel[:, point, :, component], 0, 2)


def _force_rows(model, descriptor, frames, features, irrep, values, forces):
    """Rows of forces (3 n_labels, n_pivots)."""
    points, pivots = points_of_rows(model, irrep)
    point, component = np.divmod(pivots, model.dim(irrep))
    every = {"derivatives": DerivativeLabels(forces.values, forces.owners)}
    memory = 0.2 * model.bytes_of_block()
    slopes = kernel_derivatives(descriptor, frames, features, model.kernel, points, every, memory, irrep)["derivatives"]
    structures = np.repeat(np.arange(len(frames)), atom_counts(frames))[forces.owners]
    product = np.einsum("akdp,ad->akp", slopes[:, :, :, point, component], values[structures])
    return -product.reshape(-1, len(pivots))
