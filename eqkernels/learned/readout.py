"""The readout atom by atom: predictions without an array of features, and their derivatives by the features.

The sum over the atoms of a structure commutes with the readout, which leaves a few numbers of each atom to be summed.
"""

from __future__ import annotations

import numpy as np

from eqkernels._numeric import as_floats
from eqkernels.learned.objectives import ridge_weights
from eqkernels.learned.tape import Tape, Variable
from eqkernels.regression.ridge import TensorRidge
from eqkernels.so3 import Irrep


class Readout(TensorRidge):
    """Ridge on learned features, solved as in training: without the normal equations, for small noise."""

    def _fit_irreps(self, features, blocks, weight):
        alphas, self.coef_ = self._alphas(), {}
        for irrep, block in blocks.items():
            design = self._design(features, irrep)
            d, n_columns = design.shape[1:]
            root = 1.0 if weight is None else np.sqrt(np.repeat(weight, d))[:, None]
            rows, values = root * design.reshape(-1, n_columns), root * block.reshape(len(design) * d, -1)
            coefficients = ridge_weights(rows, values, alphas[irrep])
            self.coef_[irrep] = coefficients.reshape(len(self.species_), -1, values.shape[1])


def predict_tensors(network, readouts, read):
    """Predictions of several readouts of one network.

    Parameters
    ----------
    network : EquivariantNetwork
    readouts : dict of str to TensorRidge
        Fitted to features of the network as they are.
    read : Known

    Returns
    -------
    dict of str to ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
    """
    atoms = read.features({})  # which there are, without features: all that the tensors of known irreps need
    picked = {name: readout._rows_to_predict(atoms) for name, readout in readouts.items()}
    parts = _irreps_of_atoms(network, readouts, read.known)
    tensors = {}
    for name, readout in readouts.items():
        (rows, known), blocks = picked[name], {}
        for irrep in readout.coef_:
            values = np.concatenate([part[name, irrep] for part in parts])
            if not readout.per_atom_:
                blocks[irrep] = _sums(values, read.known.offsets, readout.aggregate == "mean")
            else:
                blocks[irrep] = values[known]
        tensors[name] = readout._by_structure(atoms, known, readout._tensors_of(rows, blocks))
    return tensors


def _sums(values, offsets, mean):
    """Sum, or average, over the atoms of each structure; zero without atoms."""
    n_atoms = np.diff(offsets)
    sums, some = np.zeros((len(n_atoms), *values.shape[1:])), n_atoms > 0
    sums[some] = np.add.reduceat(values, offsets[:-1][some]) if some.any() else 0.0
    return sums / np.maximum(n_atoms, 1)[:, None, None] if mean else sums


def _irreps_of_atoms(network, readouts, batch):
    """Readouts of the features of each atom, for parts of a batch: dicts of (property, irrep) to array."""
    weights = {
        (name, irrep): _weights_of_unscaled(network, readout, irrep)
        for name, readout in readouts.items()
        for irrep in readout.coef_
    }
    irreps = tuple(dict.fromkeys(Irrep.parse(irrep) for _, irrep in weights))
    constants = {name: Variable(array, wanted=False) for name, array in network.weights_.items()}
    model = network._model()

    def of_part(part, _):
        graph = network._graph(part)
        blocks = model.architecture(Tape(recording=False), constants, graph, model.neighbor_scale, irreps)
        return {key: _read_out(blocks[Irrep.parse(key[1])].value, graph, one) for key, one in weights.items()}

    return network._over_blocks(batch, of_part)


def _weights_of_unscaled(network, readout, irrep):
    """Weights for the features before they are scaled, of all species of the network: those of others are zero."""
    scales, coefficients = network.scales_[irrep], readout.coef_[irrep]
    weights = np.zeros((len(scales), *coefficients.shape[1:]))
    species = np.searchsorted(network.species_, readout.species_)
    weights[species] = scales[species, :, None] * coefficients
    return weights


def _read_out(block, graph, weights):
    """Features (n_atoms, 2 l + 1, n_features) times the weights of the species, in the order of the batch."""
    n_features, out = block.shape[2], np.empty((*block.shape[:2], weights.shape[2]))
    for rows, matrix in zip(graph.species, weights, strict=True):
        part = block[rows].reshape(-1, n_features) @ matrix[:n_features]
        # one feature more than the network makes: the constant
        part += matrix[n_features:].sum(axis=0)
        out[rows] = part.reshape(-1, *out.shape[1:])
    return out[graph.rank]


def feature_cotangents(readout, read, cotangents):
    """Differentiate sum(cotangents * predictions) of one readout by the features of all atoms.

    Parameters
    ----------
    readout : TensorRidge
    read : Known
    cotangents : array-like, or list of array-like
        Of the shape of the predictions.

    Returns
    -------
    dict of str to ndarray of shape (n_known_atoms, 2 l + 1, n_features)
    """
    tensor, batch = readout._tensor(), read.batch
    if readout.per_atom_:
        cotangents = np.concatenate([as_floats(one, f"cotangents[{k}]") for k, one in enumerate(cotangents)])
    given = as_floats(cotangents, "cotangents")
    shape = (batch.n_atoms if readout.per_atom_ else batch.n_structures, *tensor.shape)
    if given.shape != shape:
        raise ValueError(f"cotangents have shape {given.shape}, the predictions {shape}")
    structures, numbers = batch.structure_of_atom[read.atoms], batch.numbers[read.atoms]
    row = np.arange(batch.n_atoms)[read.atoms] if readout.per_atom_ else structures
    weights = np.ones(len(row))
    if readout.aggregate == "mean" and not readout.per_atom_:
        weights /= np.diff(read.known.offsets)[structures]
    blocks = {}
    for irrep, block in tensor.to_irreps(given).items():
        coefficients = np.zeros((len(weights), *readout.coef_[irrep].shape[1:]))
        known = np.isin(numbers, readout.species_)
        coefficients[known] = readout.coef_[irrep][np.searchsorted(readout.species_, numbers[known])]
        blocks[irrep] = weights[:, None, None] * np.einsum("imk,ifk->imf", block[row], coefficients)
    return blocks
