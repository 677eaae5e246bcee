r"""Rows of forces and stress of a sparse fit: derivatives of the kernels with the sparse environments.

A force is minus the derivative of the energy by the position of an atom, a stress its derivative by the strain of the
cell over the volume, so that they are linear in the same coefficients:

.. math:: \mathbf f_j = - \sum_m \frac{\partial k(A, m)}{\partial \mathbf r_j} c_m , \quad
          \sigma = \frac 1 V \sum_m \frac{\partial k(A, m)}{\partial \epsilon} c_m

(A. P. Bartok, G. Csanyi, Int. J. Quantum Chem. 115, 1051 (2015)). With the derivatives of the features of a few
centers at a time, and the gradient of the kernel (:mod:`eqkernels.kernels.gradients`), they are matrix products.
"""

from __future__ import annotations

import numpy as np

from eqkernels._ranges import structure_blocks
from eqkernels.descriptors.scalar_gradients import iter_scalar_gradients
from eqkernels.regression.sparse._derivative_loops import add_slopes
from eqkernels.structures import atom_counts, cell_volumes, read_forces, read_stress

#: Components of one label of each kind.
COMPONENTS = {"forces": 3, "stress": 6}
# Neighbors of an atom, when work is estimated before they are counted.
_TYPICAL_NEIGHBORS = 50
# Arrays of the size (atoms of a block, points): slopes and what they are made of, 3 rows an atom and their copy.
_ARRAYS_PER_ATOM = 14


def factor_key(kind):
    """Name of the factor of a kind of rows: they belong to the irrep 0e."""
    return f"0e {kind}"


def read_derivatives(source, forces, stress, per_atom):
    """Check forces and stress.

    Parameters
    ----------
    source : Source
    forces, stress
        As for ``SparseTensorGPR.fit``, or None.
    per_atom : bool
        Whether the other targets are per atom.

    Returns
    -------
    dict of str to DerivativeLabels
        ``"forces"`` and ``"stress"``, as far as any are known.

    Raises
    ------
    TypeError, ValueError
        If X are features, other targets are per atom, or forces and stress are unusable.
    """
    if source.volumes is None:
        raise TypeError("forces and stress need X to be frames, with which features change, not features")
    if per_atom:
        raise ValueError("forces and stress are derivatives of scalars of structures, but y has per-atom targets")
    known = {
        "forces": None if forces is None else read_forces(forces, source.n_atoms),
        "stress": None if stress is None else read_stress(stress, source.volumes),
    }
    return {kind: labels for kind, labels in known.items() if labels is not None and len(labels)}


def derivative_work(model, n_atoms, labels):
    """Work of the rows of each structure, in units of the work of folding a label of its energy.

    Parameters
    ----------
    model : SparseModel
    n_atoms : ndarray of int, shape (n_structures,)
    labels : dict of str to DerivativeLabels

    Returns
    -------
    ndarray of shape (n_structures,)
    """
    ends = np.concatenate([[0], np.cumsum(n_atoms)])
    rows = np.zeros(len(n_atoms))
    for kind, known in labels.items():
        bounds = ends if kind == "forces" else np.arange(len(ends))
        rows += COMPONENTS[kind] * np.diff(np.searchsorted(known.owners, bounds))
    gradients = 3 * np.minimum(n_atoms, _TYPICAL_NEIGHBORS) * n_atoms * model.work_per_center()
    return rows + gradients * (rows > 0)


def derivative_rows(job, block, features):
    """Make the rows of forces and stress of some structures.

    Parameters
    ----------
    job : FoldJob
    block : Part
        Structures in memory.
    features : EquivariantFeatures
        Theirs.

    Yields
    ------
    kind : str
    rows : ndarray of shape (n_rows, n_columns of the factor)
    """
    model, memory = job.model, 0.2 * job.model.bytes_of_block()
    limit = max(1, int(memory / (8 * _ARRAYS_PER_ATOM * max(1, model.n_kernel("0e")))))
    points = model.points[model.pivots["0e"]]
    n_atoms = features.n_atoms
    for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(n_atoms)]), limit):
        part = block.block(start, stop, n_atoms)
        if not any(len(known) for known in part.derivatives.values()):
            continue
        kernels = kernel_derivatives(
            job.descriptor, part.X, features[start:stop], model.kernel, points, part.derivatives, memory
        )  # fmt: skip
        for kind, kernel in kernels.items():
            yield kind, _rows(part, kind, kernel, model.size("0e"))


def kernel_derivatives(descriptor, frames, features, kernel, points, labels, memory):
    """Differentiate the kernels with all points by positions and strain.

    Parameters
    ----------
    descriptor : DensityTransformer, or EquivariantUnion of them
    frames : list of ase.Atoms
    features : EquivariantFeatures
        Of the frames.
    kernel : TensorKernel
    points : EquivariantFeatures
        Each a structure of its own.
    labels : dict of str to DerivativeLabels
        Their owners are the atoms and structures whose derivatives are wanted.
    memory : float
        Bytes for the derivatives of features.

    Returns
    -------
    dict of str to ndarray of shape (n_labels, n_components, n_points)
    """
    out = {kind: np.zeros((len(known), COMPONENTS[kind], len(points))) for kind, known in labels.items()}
    sizes = {"forces": features.n_atoms.sum(), "stress": len(features)}
    place = {kind: np.full(sizes[kind], -1) for kind in labels}
    for kind, known in labels.items():
        place[kind][known.owners] = np.arange(len(known))
    slopes = kernel.gradient(features, points)
    strain = len(labels.get("stress", ())) > 0
    for gradients in iter_scalar_gradients(descriptor, frames, memory, len(points), strain):
        if gradients.kind not in out:
            continue
        rows = place[gradients.kind][gradients.targets]
        for species in np.unique(points.species):
            entries = np.flatnonzero((rows >= 0) & (features.species[gradients.centers] == species))
            if len(entries):
                columns = np.flatnonzero(points.species == species)
                chosen, first = rows[entries], rows[entries].min()
                target = np.zeros((chosen.max() + 1 - first, COMPONENTS[gradients.kind], len(columns)))
                _add(gradients, entries, chosen - first, features, points, slopes, columns, target)
                out[gradients.kind][first : first + len(target), :, columns] += target
    return out


def _add(gradients, entries, rows, features, points, slopes, columns, out):
    every = len(entries) == len(gradients.centers)
    values, centers = (x if every else x[entries] for x in (gradients.values, gradients.centers))
    first = centers.min()
    here = slice(first, centers.max() + 1)
    for slope in slopes:
        low, high = (0, np.inf) if slope.columns is None else slope.columns
        inside = (gradients.columns >= low) & (gradients.columns < high)
        if not inside.any():
            continue
        part = values if inside.all() else np.ascontiguousarray(values[:, :, inside])
        ids = gradients.columns[inside]
        n, k, width = part.shape
        environments = points.blocks["0e"][np.ix_(columns, [0], ids)][:, 0].astype(float, copy=False)
        products = (part.reshape(n * k, width) @ environments.T).reshape(n, k, len(columns))
        own_features = features.blocks["0e"][here, 0][:, ids].astype(float)
        pair = (np.ascontiguousarray(x[here][:, columns]) for x in (slope.points, slope.own))
        add_slopes(part, products, own_features, centers - first, rows, *pair, out)


def _rows(part, kind, kernel, size):
    known = part.derivatives[kind]
    n, k, n_kernel = kernel.shape
    if kind == "forces":
        structures = np.repeat(np.arange(len(part.X)), atom_counts(part.X))[known.owners]
        factor = -np.ones(n)
    else:
        structures = known.owners
        factor = 1.0 / cell_volumes(part.X)[structures]
    columns = np.zeros((size, n, k))
    np.multiply(kernel.transpose(2, 0, 1), factor[:, None], out=columns[:n_kernel])
    columns[-1] = known.values
    if part.weight is not None:
        columns *= np.sqrt(part.weight[structures])[:, None]
    return columns.reshape(size, n * k).T
