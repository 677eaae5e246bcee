r"""Rows of derivatives by inputs in a sparse fit: of dipoles, where the input of the energies is an electric field.

The derivative of an energy by a component x of an input is linear in the coefficients of the energy,

.. math:: \frac{\partial E}{\partial x} = \sum_m \frac{\partial k(A, m)}{\partial x}\, c_m ,

so that its labels are further rows of the same least squares, with a noise of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eqkernels.descriptors.streamed_inputs import declared_inputs, iter_input_gradients
from eqkernels.regression.sparse.slopes import KernelSlope, add_slopes_of_part
from eqkernels.structures import StructureBatch
from eqkernels.structures.input_labels import read_input_derivatives

_PREFIX = "by "


def kind_of_input(name):
    """Kind of the labels that are derivatives by an input, e.g. ``"by electric_field"``."""
    return _PREFIX + name


def is_by_input(kind):
    """Whether labels of a kind are derivatives by an input."""
    return kind.startswith(_PREFIX)


def of_positions(labels):
    """Labels that are derivatives by positions or strain, and those by inputs.

    Parameters
    ----------
    labels : dict of str to DerivativeLabels

    Returns
    -------
    dict, dict
    """
    by_input = {kind: known for kind, known in labels.items() if is_by_input(kind)}
    return {kind: known for kind, known in labels.items() if kind not in by_input}, by_input


def read_all_input_derivatives(source, given, descriptor):
    """Check derivatives of energies by inputs.

    Parameters
    ----------
    source : Source
        Of frames.
    given : dict of str to sequence
        As ``input_derivatives`` of ``SparseTensorGPR.fit``.
    descriptor : transformer
        Which has these inputs.

    Returns
    -------
    dict of str to DerivativeLabels
        By kind, those of which any are known.

    Raises
    ------
    TypeError, ValueError
        If the descriptor has no such input, X are features, or the derivatives are unusable.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            "input_derivatives must be a dict from the names of inputs to derivatives, such as {'electric_field': "
            f"dipoles}}, got {type(given).__name__}"
        )
    if source.volumes is None:
        raise TypeError("input_derivatives need X to be frames, with whose inputs features change, not features")
    kinds, found = declared_inputs(descriptor), {}
    for name, derivatives in given.items():
        if name not in kinds:
            known = ", ".join(map(repr, kinds)) or "none"
            raise ValueError(
                f"the descriptor has no input {name!r} (its inputs: {known}): set it in inputs of the descriptor"
            )
        per_atom = len(source) > 0 and _belongs_to_atoms(source[0:1], name)
        labels = read_input_derivatives(derivatives, name, kinds[name], per_atom, source.n_atoms)
        if len(labels):
            found[kind_of_input(name)] = labels
    return found


def _belongs_to_atoms(frames, name):
    """Whether an input of a batch, or of a list of frames, is one of atoms."""
    return frames.inputs[name].per_atom if isinstance(frames, StructureBatch) else name in frames[0].arrays


def kernel_input_derivatives(descriptor, frames, features, kernel, points, labels, memory, irrep="0e"):
    """Differentiate the kernels with all points by the irreducible components of inputs.

    Parameters
    ----------
    descriptor, frames, features, kernel, points, memory, irrep
        As for :func:`~eqkernels.regression.sparse.derivatives.kernel_derivatives`.
    labels : dict of str to DerivativeLabels
        By kind; their owners are the atoms or structures by whose inputs derivatives are wanted.

    Returns
    -------
    dict of str to ndarray of shape (n_labels, n_components, 2 lambda + 1, n_points, 2 lambda + 1)
    """
    d, out, place = points.block_shape(irrep)[1], {}, {}
    for kind, known in labels.items():
        out[kind] = np.zeros((len(known), known.values.shape[1], d, len(points), d))
        place[kind] = np.full(len(features) if known.by_structure else features.n_atoms.sum(), -1)
        place[kind][known.owners] = np.arange(len(known))
    slopes = [KernelSlope(one, features, points, irrep) for one in kernel.gradient(features, points, irrep)]
    width = len(points) * (1 if irrep == "0e" else d * d + 1)
    for gradients in iter_input_gradients(descriptor, frames, memory, width, irrep):
        kind = kind_of_input(gradients.kind)
        if kind in out and len(gradients.centers):
            add_slopes_of_part(gradients, place[kind][gradients.targets], features, points, slopes, out[kind])
    return out
