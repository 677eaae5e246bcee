r"""Derivatives of learned features by the positions of atoms and the strain of the cell: forces and stresses.

The same operations as in training, on a tape where the vectors of the edges are the variables and the weights are
constants. From the gradient g of a number by the vectors follow its derivatives by positions and strain,

.. math:: \frac{\partial}{\partial \mathbf r_k} = \sum_{j \to k} \mathbf g_{jk} - \sum_{k \to j} \mathbf g_{kj} , \quad
    \frac{\partial}{\partial \epsilon_{xy}} = \sum_{ij} g_{ij,x}\, r_{ij,y} .
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eqkernels.learned.tape import Tape, Variable


class Derivatives(NamedTuple):
    """Derivatives of one number, such as an energy.

    Attributes
    ----------
    positions : ndarray of shape (n_atoms, 3)
        By the positions of all atoms, structure after structure: minus the forces of an energy.
    strain : ndarray of shape (n_structures, 3, 3)
        By the strain of each structure: the stress of an energy times the volume of its cell.
    """

    positions: np.ndarray
    strain: np.ndarray


def vector_jacobian_product(model, weights, make_graph, batch, cotangents):
    """Differentiate sum(cotangents * features) of one batch.

    Parameters
    ----------
    model : Model
    weights : dict of str to ndarray
    make_graph : callable
        ``make_graph(batch, tape)`` makes the graph.
    batch : StructureBatch
    cotangents : dict of str to ndarray of shape (n_atoms, 2 l + 1, n_features)

    Returns
    -------
    Derivatives
    """
    tape = Tape()
    graph = make_graph(batch, tape)
    blocks = model.features(tape, {name: Variable(array, wanted=False) for name, array in weights.items()}, graph)
    for irrep, block in blocks.items():
        if str(irrep) in cotangents and block.wanted:
            block.gradient = cotangents[str(irrep)][graph.order]
    tape.backward()
    positions, strain = np.zeros((batch.n_atoms, 3)), np.zeros((batch.n_structures, 3, 3))
    vectors, slopes = graph.vectors.value, graph.vectors.gradient
    if slopes is not None:
        centers, neighbors = (graph.order[ranks] for ranks in graph.edges[:2])
        np.add.at(positions, neighbors, slopes)
        np.subtract.at(positions, centers, slopes)
        np.add.at(strain, batch.structure_of_atom[centers], slopes[:, :, None] * vectors[:, None, :])
    return Derivatives(positions, strain)
