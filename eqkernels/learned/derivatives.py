r"""Derivatives of learned features by the positions of atoms and the strain of the cell: forces and stresses.

The same operations as in training, on a tape where the vectors of the edges are the variables and the weights are
constants. From the gradient g of a number by the vectors follow its derivatives by positions and strain,

.. math:: \frac{\partial}{\partial \mathbf r_k} = \sum_{j \to k} \mathbf g_{jk} - \sum_{k \to j} \mathbf g_{kj} , \quad
    \frac{\partial}{\partial \epsilon_{xy}} = \sum_{ij} g_{ij,x}\, r_{ij,y} .
"""

from __future__ import annotations

import numpy as np

from eqkernels.descriptors import Derivatives
from eqkernels.learned.tape import Tape


def vector_jacobian_product(model, weights, make_graph, batch, vectors):
    """Differentiate sum(vectors * features) of one batch.

    Parameters
    ----------
    model : Model
    weights : dict of str to Variable
        Constants.
    make_graph : callable
        ``make_graph(batch, tape=tape)`` makes the graph.
    batch : StructureBatch
    vectors : dict of str to ndarray of shape (n_atoms, 2 l + 1, n_features)

    Returns
    -------
    Derivatives
    by_inputs : ndarray of shape (n_atoms, components, n_copies), or None
        By the features that inputs beyond the geometry are.
    """
    tape = Tape()
    graph = make_graph(batch, tape=tape)
    for irrep, block in model.features(tape, weights, graph).items():
        if str(irrep) in vectors and block.wanted:
            block.gradient = vectors[str(irrep)][graph.order]
    tape.backward()
    positions, strain = np.zeros((batch.n_atoms, 3)), np.zeros((batch.n_structures, 3, 3))
    edges, by_edge = graph.vectors.value, graph.vectors.gradient
    if by_edge is not None:
        centers, neighbors = (graph.order[ranks] for ranks in graph.edges[:2])
        np.add.at(positions, neighbors, by_edge)
        np.subtract.at(positions, centers, by_edge)
        np.add.at(strain, batch.structure_of_atom[centers], by_edge[:, :, None] * edges[:, None, :])
    if graph.groups is not None:
        graph.groups.add_derivatives(positions, strain)
    by_inputs = None
    if graph.inputs is not None:
        gradient = graph.inputs.gradient
        by_inputs = np.zeros(graph.inputs.value.shape) if gradient is None else gradient[graph.rank]
    return Derivatives(positions, strain), by_inputs
