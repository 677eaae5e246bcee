r"""Loss of tensors together with their derivatives by positions and strain, and its gradient by all weights.

A component of a tensor is a scalar of its structure, :math:`E = \sum_i \mathbf w \cdot \mathbf x_i` with the readout w
of the features x of its atoms. The loss adds the squares of the errors of values, forces (derivatives by positions) and
stress. Its gradient by a weight needs mixed second derivatives, but only along one displacement of all edges, the slope
of the loss by the predicted derivatives :math:`\mathbf g_e = \partial E / \partial \mathbf r_e`,

.. math::
    \frac{\partial L}{\partial \theta} = \sum_s c_s \frac{\partial E_s}{\partial \theta}
    + \frac{d}{d\epsilon} \frac{\partial E(\mathbf r_e + \epsilon\, \mathbf u_e)}{\partial \theta} , \quad
    c_s = \frac{\partial L}{\partial E_s} , \quad \mathbf u_e = \frac{\partial L}{\partial \mathbf g_e} .

The derivative by :math:`\epsilon` is a difference of two gradients, of the structures as they are, which gives the
forces too, and of displaced edges: twice the cost of a gradient without forces, and a relative error of some 1e-6 in
double precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eqkernels._ranges import over_ranges
from eqkernels.learned import operations as op
from eqkernels.learned.tape import Tape, Variable
from eqkernels.so3 import Irrep
from eqkernels.structures import StructureBatch

# Length of the longest displacement of an edge, in units of the cutoff. The error of the difference grows with it, and
# that of rounding, 1e-16 of the derivative of the energy, with its inverse.
_STEP = 3e-7


@dataclass(frozen=True)
class Samples:
    """Structures with the labels of one component of a tensor each; with several components, a structure is repeated.

    Attributes
    ----------
    batch : StructureBatch
    component : ndarray of int, shape (n_samples,)
        Component of the tensor, counted over the components of its irreps one after the other.
    values : ndarray of shape (n_samples,)
        NaN where there is no label, as in the others.
    slopes : ndarray of shape (n_atoms, 3)
        Derivatives by positions.
    strains : ndarray of shape (n_samples, 3, 3)
        Derivatives by the strain, which are symmetric.
    weights : dict of str to ndarray
        Weights of the squares of errors of ``"values"`` (n_samples,), ``"slopes"`` (n_atoms,), ``"strains"``
        (n_samples,).
    """

    batch: StructureBatch
    component: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    strains: np.ndarray
    weights: dict[str, np.ndarray]

    def labels(self):
        """Labels of each kind."""
        return {"values": self.values, "slopes": self.slopes, "strains": self.strains}

    def weighted(self, factor):
        """Make the same with other weights."""
        return replace(self, weights={name: factor * one for name, one in self.weights.items()})


class DerivativeLoss:
    r"""Loss as a function of the flat vector of weights: returns its value and gradient.

    Half the weighted sum of the squares of all errors, L, with a decay towards the start that is as strong as that of a
    log likelihood, :math:`L e^{\gamma |\theta - \theta_0|^2}`.

    Parameters
    ----------
    model : Model
    packing : Packing
        Of the weights, and of the readouts, ``"readout:irrep"`` of shape (n_kinds, n_features, multiplicity).
    parts : list of Samples
    make_graph : callable
        ``make_graph(batch, tape=tape)`` makes the graph.
    irreps : dict of str to int
        Multiplicities of the irreps of the tensor.
    mean : bool
        Whether a value is the mean over the atoms, instead of the sum.
    start : ndarray
        Vector that the decay pulls to.
    weight_decay : float, default=0.0
    n_jobs : int, default=None
        Threads that share the parts; their gradients are added in their order, so that this changes no bit.
    """

    def __init__(self, model, packing, parts, make_graph, irreps, mean, start, weight_decay=0.0, n_jobs=None):
        self.model, self.packing, self.parts, self.make_graph = model, packing, parts, make_graph
        self.irreps, self.mean, self.start = irreps, mean, start
        self.weight_decay, self.n_jobs = weight_decay, n_jobs
        self.work = 1.0

    def __call__(self, vector):
        """Value and gradient."""
        away, total, gradient = vector - self.start, 0.0, np.zeros_like(vector)
        by_name = self.packing.unpack(gradient)
        for value, arrays in self._over_parts(lambda samples: self._of_part(vector, samples)):
            total += value
            for name, array in arrays.items():
                by_name[name] += array
        # the decay of the logarithm, as of a log likelihood: it then fades with the errors
        factor = np.exp(self.weight_decay * away @ away)
        return factor * total, factor * (gradient + 2 * self.weight_decay * total * away)

    def _over_parts(self, function):
        results = [None] * len(self.parts)

        def work(begin, stop):
            for k in range(begin, stop):
                results[k] = function(self.parts[k])

        over_ranges(len(self.parts), 1, work, self.n_jobs)
        return results

    def _of_part(self, vector, samples):
        tape = Tape()
        first = _Pass(self, vector, samples, tape, self.make_graph(samples.batch, tape=tape))
        first.backward(np.ones(len(samples.values)))
        loss, by_values, by_edges = first.loss()
        size = np.sqrt((by_edges**2).sum(axis=1).max(initial=0.0))
        # without errors of derivatives the displaced edges are those that there are, and the difference is zero
        inverse = size / (_STEP * self.make_graph.keywords["cutoff"])
        displacements = by_edges / inverse if size > 0 else by_edges
        second = _Pass(self, vector, samples, Tape(), first.graph.displaced(displacements))
        second.backward(by_values + inverse)
        here, there = first.gradients(), second.gradients()
        return loss, {name: there[name] - inverse * here[name] for name in there}

    def squares(self, vector):
        """Half the weighted sum of squares of the errors."""
        return sum(self._over_parts(lambda samples: self._known(vector, samples).loss()[0]))

    def predictions(self, vector):
        """Values (n_samples,), derivatives by positions (n_atoms, 3) and by strain (n_samples, 3, 3), by their kind."""
        parts = self._over_parts(lambda samples: self._known(vector, samples).predictions())
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _known(self, vector, samples):
        """Pass with derivatives by the edges alone."""
        tape = Tape()
        one = _Pass(self, vector, samples, tape, self.make_graph(samples.batch, tape=tape), trains=False)
        one.backward(np.ones(len(samples.values)))
        return one


class _Pass:
    """One pass of samples through the network, and back."""

    def __init__(self, loss, vector, samples, tape, graph, trains=True):
        self.samples, self.tape, self.graph = samples, tape, graph
        self.weights = {name: Variable(array, trains) for name, array in loss.packing.unpack(vector).items()}
        self.structures = samples.batch.structure_of_atom[graph.order]
        counts = np.diff(samples.batch.offsets)
        self.shares = 1.0 / counts[self.structures] if loss.mean else np.ones(len(self.structures))
        self.outputs = self._read_out(loss)
        of_atoms = self.shares * sum(one.value for one in self.outputs)
        self.values = np.bincount(self.structures, of_atoms, len(counts))

    def _read_out(self, loss):
        model, graph, outputs, start = loss.model, self.graph, [], 0
        blocks = model.unscaled(self.tape, self.weights, graph, tuple(Irrep.parse(key) for key in loss.irreps))
        kinds, components = model.kinds(graph), self.samples.component[self.structures]
        for key, multiplicity in loss.irreps.items():
            irrep = Irrep.parse(key)
            block = op.scale(self.tape, blocks[irrep], model.scales[key][kinds][:, None])
            groups = _groups(components - start, kinds, irrep.dim, multiplicity)
            outputs.append(read_out(self.tape, block, self.weights[f"readout:{key}"], groups))
            start += irrep.dim * multiplicity
        return outputs

    def backward(self, cotangents):
        """Differentiate sum(cotangents * values)."""
        for one in self.outputs:
            one.gradient = cotangents[self.structures] * self.shares
        self.tape.backward()

    def gradients(self):
        """Gradients by the weights on which the values depend."""
        return {name: one.gradient for name, one in self.weights.items() if one.gradient is not None}

    def predictions(self):
        """Values and derivatives; those by positions in the order of the batch."""
        batch, graph = self.samples.batch, self.graph
        (centers, neighbors), edges = graph.edges[:2], graph.vectors.value
        by_edge = np.zeros_like(edges) if graph.vectors.gradient is None else graph.vectors.gradient
        slopes, strains = np.empty((batch.n_atoms, 3)), np.empty((batch.n_structures, 3, 3))
        owners = self.structures[centers]
        for i in range(3):
            slopes[:, i] = np.bincount(neighbors, by_edge[:, i], batch.n_atoms)
            slopes[:, i] -= np.bincount(centers, by_edge[:, i], batch.n_atoms)
            for j in range(3):
                strains[:, i, j] = np.bincount(owners, by_edge[:, i] * edges[:, j], batch.n_structures)
        strains = 0.5 * (strains + strains.transpose(0, 2, 1))
        return {"values": self.values, "slopes": slopes[graph.rank], "strains": strains}

    def loss(self):
        """Half the weighted sum of squares, and its derivatives by the values and by those by the edges."""
        samples, predictions, total, slopes = self.samples, self.predictions(), 0.0, {}
        for name, labels in samples.labels().items():
            errors = np.nan_to_num(predictions[name] - labels)
            slopes[name] = samples.weights[name].reshape(-1, *[1] * (errors.ndim - 1)) * errors
            total += 0.5 * np.sum(slopes[name] * errors)
        (centers, neighbors), moved = self.graph.edges[:2], slopes["slopes"][self.graph.order]
        by_edges = moved[neighbors] - moved[centers]
        if slopes["strains"].any():
            of_edges = slopes["strains"][self.structures[centers]]
            by_edges += np.einsum("eij,ej->ei", of_edges, self.graph.vectors.value)
        return total, slopes["values"], by_edges


def read_out(tape, block, weights, groups):
    """Numbers of atoms: a component of their features times the readout of their kind.

    Parameters
    ----------
    tape : Tape
    block : Variable of shape (n_atoms, 2 l + 1, n_features)
    weights : Variable of shape (n_kinds, n_features, multiplicity)
    groups : list of (rows, component, kind, column)
        Atoms for which the integers are the same.

    Returns
    -------
    Variable of shape (n_atoms,)
        Zero for those in no group.
    """
    value = np.zeros(len(block.value))
    for rows, m, kind, column in groups:
        value[rows] = block.value[rows, m] @ weights.value[kind, :, column]

    def pullback(gradient):
        to_block, to_weights = np.zeros(block.value.shape), np.zeros(weights.value.shape)
        for rows, m, kind, column in groups:
            to_block[rows, m] = gradient[rows, None] * weights.value[kind, :, column]
            to_weights[kind, :, column] += gradient[rows] @ block.value[rows, m]
        return to_block, to_weights

    return tape.record(value, [block, weights], pullback)


def _groups(components, kinds, dim, multiplicity):
    """Atoms of one kind whose structures want one component of an irrep: rows, component, kind and copy."""
    size = dim * multiplicity
    numbers = np.where((components >= 0) & (components < size), kinds * size + components, -1)
    return [
        (np.flatnonzero(numbers == one), one % size // multiplicity, one // size, one % multiplicity)
        for one in np.unique(numbers[numbers >= 0])
    ]
