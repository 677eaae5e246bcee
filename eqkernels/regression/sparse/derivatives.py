r"""Rows of derivatives in a sparse fit: those of the kernels with the sparse environments by positions and strain.

The derivative of a tensor by the position of an atom, of which a force is the negative one for an energy, and a stress,
that by the strain of the cell over its volume, are linear in the coefficients of the tensor:

.. math:: \frac{\partial y^\lambda}{\partial \mathbf r_j} =
          \sum_m \frac{\partial k^\lambda(A, m)}{\partial \mathbf r_j}\, c_m , \quad
          \sigma = \frac 1 V \sum_m \frac{\partial k(A, m)}{\partial \epsilon}\, c_m

(A. P. Bartok, G. Csanyi, Int. J. Quantum Chem. 115, 1051 (2015)). With the derivatives of the features of a few
centers at a time, and the gradient of the kernel (:mod:`eqkernels.kernels.gradients`), they are matrix products.
"""

from __future__ import annotations

import numpy as np

from eqkernels._ranges import structure_blocks
from eqkernels.descriptors.streamed_gradients import iter_gradients
from eqkernels.kernels.charges import known_places
from eqkernels.regression.sparse.element_charges import contrasts, element_slopes
from eqkernels.regression.sparse.input_rows import kernel_input_derivatives, of_positions
from eqkernels.regression.sparse.slopes import KernelSlope, add_slopes_of_part
from eqkernels.so3 import Irrep
from eqkernels.structures import DerivativeLabels, atom_counts, cell_volumes, read_forces, read_stress

#: Rows for one component of a tensor that one label of each kind makes.
COMPONENTS = {"forces": 3, "stress": 6, "derivatives": 3}
# Neighbors of an atom, when work is estimated before they are counted.
_TYPICAL_NEIGHBORS = 50
# Arrays of the size (atoms of a block, points): slopes and what they are made of, 3 rows an atom and their copy.
_ARRAYS_PER_ATOM = 14


def factor_key(irrep, kind):
    """Name of the factor of a kind of rows of an irrep."""
    return f"{irrep} {kind}"


def read_forces_and_stress(source, forces, stress, per_atom):
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
    if forces is None and stress is None:
        return {}
    check_derivatives_possible(source, per_atom)
    known = {
        "forces": None if forces is None else read_forces(forces, source.n_atoms),
        "stress": None if stress is None else read_stress(stress, source.volumes),
    }
    return {kind: labels for kind, labels in known.items() if labels is not None and len(labels)}


def check_derivatives_possible(source, per_atom):
    """Refuse derivatives of features, or of targets of atoms."""
    if source.volumes is None:
        raise TypeError("forces, stress and derivatives need X to be frames, with which features change, not features")
    if per_atom:
        raise ValueError(
            "forces, stress and derivatives are those of tensors of structures, but y has per-atom targets"
        )


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
    for known in labels.values():
        bounds = np.arange(len(ends)) if known.by_structure else ends
        rows += known.values.shape[1] * np.diff(np.searchsorted(known.owners, bounds))
    gradients = 3 * np.minimum(n_atoms, _TYPICAL_NEIGHBORS) * n_atoms * model.work_per_center()
    return rows + gradients * (rows > 0)


def derivative_rows(job, block, features):
    """Make the rows of derivatives of some structures.

    Parameters
    ----------
    job : FoldJob
    block : Part
        Structures in memory.
    features : EquivariantFeatures
        Theirs.

    Yields
    ------
    key : str
        Name of the factor.
    rows : ndarray of shape (n_rows, n_columns of the factor)
    """
    model, memory, n_atoms = job.model, 0.2 * job.model.bytes_of_block(), features.n_atoms
    for irrep in model.multiplicities:
        points, pivots = points_of_rows(model, irrep)
        width = max(1, len(points)) * model.dim(irrep) ** 2
        limit = max(1, int(memory / (8 * _ARRAYS_PER_ATOM * width)))
        for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(n_atoms)]), limit):
            part = block.block(start, stop, n_atoms)
            if not any(len(known) for known in part.derivatives.values()):
                continue
            of_part = job.descriptor, part.X, features[start:stop], model.kernel, points
            by_position, by_input = of_positions(part.derivatives)
            kernels = kernel_derivatives(*of_part, by_position, memory, irrep) if by_position else {}
            kernels |= kernel_input_derivatives(*of_part, by_input, memory, irrep) if by_input else {}
            offset = offset_slopes(model.kernel, features[start:stop], irrep)
            design = _baseline_slopes(model, features[start:stop], irrep)
            for kind, kernel in kernels.items():
                yield factor_key(irrep, kind), _rows(part, kind, irrep, kernel, pivots, model, (design, offset))


def atoms_of_centers(features):
    """Atom of each center, counted over all atoms."""
    return (np.cumsum(features.n_atoms) - features.n_atoms)[features.structures] + features.atoms


def offset_slopes(kernel, features, irrep):
    """Differentiate what the kernel knows without learning, such as the dipole of the total charge.

    Parameters
    ----------
    kernel : TensorKernel
    features : EquivariantFeatures
        Of complete structures.
    irrep : str

    Returns
    -------
    ndarray of shape (n_atoms, 3, 2 lambda + 1), or None
        None: it knows nothing.
    """
    if not kernel.uses_positions or kernel.offset(features, irrep) is None:
        return None
    d, atoms = Irrep.parse(irrep).dim, atoms_of_centers(features)
    out = np.zeros((features.n_atoms.sum(), 3, d))
    for component, cotangent in enumerate(np.eye(d)):
        cotangents = np.broadcast_to(cotangent[:, None], (len(features), d, 1))
        out[atoms, :, component] = kernel.offset_vjp(features, irrep, cotangents)[known_places(features).rows]
    return out


def _baseline_slopes(model, features, irrep):
    """Differentiate the dipoles of charges of elements, (n_atoms, 3, 2 lambda + 1, n_species - 1), or None."""
    if irrep == "0e" or not model.n_baseline(irrep):
        return None
    out = np.zeros((features.n_atoms.sum(), 3, 3, len(model.species) - 1))
    out[atoms_of_centers(features)] = element_slopes(features, model.species) @ contrasts(len(model.species))
    return out


def spread_of_derivatives(descriptor, frames, features, kernel, spread, kind, noise, volumes, memory):
    """Covariances of derivatives, a few structures at a time.

    Parameters
    ----------
    descriptor, frames, features, kernel, memory
        As for :func:`kernel_derivatives`.
    spread : SparseCovariance
        Of one irrep.
    kind : str
    noise : float
        In units of the signal variance.
    volumes : ndarray of shape (n_structures,), or None
        By which stress is divided.

    Yields
    ------
    ndarray of shape (n, 2 lambda + 1, 2 lambda + 1)
        One for each atom, or structure, and direction.
    """
    n_atoms, d = features.n_atoms, spread.points.block_shape(spread.irrep)[1]
    limit = max(1, int(memory / (8 * _ARRAYS_PER_ATOM * len(spread.points) * d * d)))
    for start, stop in structure_blocks(np.concatenate([[0], np.cumsum(n_atoms)]), limit):
        owners = np.arange(stop - start if kind == "stress" else n_atoms[start:stop].sum())
        every = {kind: DerivativeLabels(np.zeros((len(owners), COMPONENTS[kind])), owners, kind == "stress")}
        part = frames[start:stop], features[start:stop], kernel, spread.points, every, memory, spread.irrep
        cross = kernel_derivatives(descriptor, *part)[kind]
        if volumes is not None:
            cross /= volumes[start:stop, None, None, None, None]
        yield spread.of_derivatives(cross.reshape(len(owners) * COMPONENTS[kind], d, -1), noise)


def points_of_rows(model, irrep):
    """Sparse points of an irrep, and its pivots counted in them: for scalars in the order of the columns."""
    if irrep == "0e":
        return model.points[model.pivots[irrep]], np.arange(model.n_kernel(irrep))
    return model.points_in_use(irrep)


def kernel_derivatives(descriptor, frames, features, kernel, points, labels, memory, irrep="0e"):
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
        Their owners are the atoms and structures whose derivatives are wanted; strain only for scalars.
    memory : float
        Bytes for the derivatives of features.
    irrep : str, default="0e"

    Returns
    -------
    dict of str to ndarray of shape (n_labels, n_components, 2 lambda + 1, n_points, 2 lambda + 1)
    """
    d = points.block_shape(irrep)[1]
    out = {kind: np.zeros((len(known), COMPONENTS[kind], d, len(points), d)) for kind, known in labels.items()}
    sizes = {"stress": len(features)}
    place = {kind: np.full(sizes.get(kind, features.n_atoms.sum()), -1) for kind in labels}
    for kind, known in labels.items():
        place[kind][known.owners] = np.arange(len(known))
    gradients = kernel.gradient(features, points, irrep)
    slopes = [KernelSlope(one, features, points, irrep) for one in gradients if one.block != "positions"]
    for one in gradients:
        if one.block == "positions":
            _add_by_positions(one, features, place, out)
    strain, width = len(labels.get("stress", ())) > 0, len(points) * (1 if irrep == "0e" else d * d + 1)
    for gradients in iter_gradients(descriptor, frames, memory, width, strain, irrep, kernel.more_irreps):
        for kind in ("stress",) if gradients.kind == "stress" else ("forces", "derivatives"):
            if kind in out:
                add_slopes_of_part(gradients, place[kind][gradients.targets], features, points, slopes, out[kind])
    return out


def _add_by_positions(gradient, features, place, out):
    """Add derivatives by positions at fixed features."""
    atoms = atoms_of_centers(features)
    for kind in ("forces", "derivatives"):
        if kind in out:
            gradient.add(features.places, place[kind][atoms], out[kind])


def _rows(part, kind, irrep, kernel, pivots, model, known_slopes):
    """Rows of the factor of an irrep from the derivatives of its kernels: without those whose label is missing.

    ``known_slopes`` are derivatives of the baseline (n_atoms, 3, 2 lambda + 1, n_columns), and of what is known without
    learning (n_atoms, 3, 2 lambda + 1); None for nothing.
    """
    known = part.derivatives[kind]
    n, k, d = kernel.shape[:3]
    structures = known.owners
    if not known.by_structure:
        structures = np.repeat(np.arange(len(part.X)), atom_counts(part.X))[structures]
    factor = (-1.0 if kind == "forces" else 1.0) * np.ones(n)
    if kind == "stress":
        factor /= cell_volumes(part.X)[structures]
    columns = np.zeros((model.size(irrep), n, k, d))
    point, component = np.divmod(pivots, d)
    np.multiply(np.moveaxis(kernel[:, :, :, point, component], 3, 0), factor[:, None, None], out=columns[: len(pivots)])
    labels, (design, offset) = known.of_irrep(irrep, model.multiplicities), known_slopes
    if design is not None and kind == "derivatives":
        columns[len(pivots) + 1 : -labels.shape[3]] = np.moveaxis(design[known.owners], 3, 0)
    if offset is not None and kind == "derivatives":
        labels = labels - offset[known.owners][..., None]
    columns[-labels.shape[3] :] = np.moveaxis(labels, 3, 0)
    if part.weight is not None:
        columns *= np.sqrt(part.weight[structures])[:, None, None]
    rows = columns.reshape(len(columns), n * k * d).T
    there = np.isfinite(rows[:, -1])
    return rows if there.all() else rows[there]
