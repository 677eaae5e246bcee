r"""The readout of learned features: a ridge of each irrep, solved as in training, and applied atom by atom.

The sum over the atoms of a structure commutes with the readout, which leaves a few numbers of each atom to be summed:
predictions need no array of features.

As a Gaussian process of the features :math:`\Phi` with the noise :math:`\alpha`, the ridge has error bars too
(C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, eq. 2.8),

.. math::
    C(\mathbf x, \mathbf x') = \sigma^2 \left[ \delta_{\mathbf x \mathbf x'} +
    \mathbf x^T (\Phi^T \Phi + \alpha)^{-1} \mathbf x' \right] , \quad
    \sigma^2 = \frac1n\, \mathbf y^T (\mathbf y - \Phi \mathbf w) .

Features that were learned from the same labels fit them better than those of other structures, which this knows nothing
of: a factor from structures that were held back does (:class:`EquivariantNetworkRegressor`).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.utils import gen_batches

from eqkernels._numeric import as_floats
from eqkernels._ranges import aggregate_rows
from eqkernels.learned.objectives import ridge_weights
from eqkernels.learned.tape import Tape
from eqkernels.regression.covariance import copies
from eqkernels.regression.independence import weigh_equivalents
from eqkernels.regression.uncertainty import UncertainTensorRegressor
from eqkernels.so3 import Irrep

# Rows of features of structures are made so many numbers at once, and as many rows as there are columns.
_NUMBERS = 2**22


class Readout(UncertainTensorRegressor):
    """Ridge on features of a network as they are, without the normal equations, for small noise.

    Parameters
    ----------
    noise : dict of str to float
        Of each irrep of the target, from training.
    aggregate : {"sum", "mean"}
    target : str or CartesianTensor
    baseline : {"composition", "mean", None}
    per_atom : bool
    n_channels : int, default=0
        Channels of the embedding of species by which the features were multiplied: they then share one readout.
    answers_unknown : bool, default=False
        Whether this is one for species that were not seen, too.
    error_bars : bool, default=False
        Whether to keep what error bars are made of.

    Attributes
    ----------
    coef_ : dict of str to ndarray of shape (n_species or 1, n_features, multiplicity)
        Weights of each irrep and central species, or of all.
    factors_, variance_ : dict of str to ndarray of shape (n_kinds, n_columns, n_columns), (n_kinds,)
        Triangular factors of the normal equations, and the variances of the noise: of each central species of per-atom
        targets, or one of all columns. Only with ``error_bars``.
    recalibration_ : dict of str to float
        Factors of the standard deviations.
    species_ : ndarray of int
        The central species.
    target_, axial_, per_atom_, baseline_
        As in :class:`TensorRidge`.
    """

    # of models that earlier versions saved
    n_channels, answers_unknown, error_bars = 0, False, False

    def __init__(
        self, noise, *, aggregate, target, baseline, per_atom, n_channels=0, answers_unknown=False, error_bars=False
    ):
        self.noise = noise
        self.aggregate = aggregate
        self.target = target
        self.baseline = baseline
        self.per_atom = per_atom
        self.n_channels = n_channels
        self.answers_unknown = answers_unknown
        self.error_bars = error_bars

    def _answers_unknown(self):
        return self.answers_unknown

    def _kinds(self, features):
        """Kinds of centers that have a readout of their own, and that of each center."""
        if self.n_channels:
            return np.zeros(1, dtype=int), np.zeros(len(features.species), dtype=int)
        return self.species_, features.species

    def _aggregate(self):
        return self.aggregate

    def _weight_of_atoms(self, features, weight):
        return weigh_equivalents(features, self.groups_, weight)[0]

    def _fit_irreps(self, features, blocks, weight):
        self.coef_, self.factors_, self.variance_ = {}, {}, {}
        self._reset_recalibration()
        for irrep, block in blocks.items():
            roots = np.ones(len(features)) if weight is None else np.sqrt(weight)
            fit = self._fit_atoms if self.per_atom_ else self._fit_structures
            coefficients = fit(features, irrep, roots[:, None, None], block)
            self.coef_[irrep] = coefficients.reshape(len(self._kinds(features)[0]), -1, block.shape[2])

    def _fit_atoms(self, features, irrep, roots, values):
        """Weights of each species, whose atoms have no features in common with those of others."""
        coefficients, (kinds, of_centers) = [], self._kinds(features)
        for kind in kinds:
            rows = np.flatnonzero(of_centers == kind)
            design, labels = (_flat(roots[rows] * block[rows]) for block in (features.blocks[irrep], values))
            coefficients.append(self._solve(irrep, design, labels, labels.size))
        return np.stack(coefficients)

    def _fit_structures(self, features, irrep, roots, values):
        """Weights of all species; of more rows than twice the columns, the triangular factor is kept instead."""
        width = len(self._kinds(features)[0]) * features.blocks[irrep].shape[2] + values.shape[2]
        rows, n_rows = np.empty((0, width)), max(2 * width, _NUMBERS // width)
        for part in gen_batches(len(features), max(1, n_rows // values.shape[1])):
            design = self._design(features[part], irrep)
            rows = np.vstack([rows, _flat(roots[part] * np.concatenate([design, values[part]], axis=2))])
            if len(rows) > 2 * width:
                rows = np.asarray(np.linalg.qr(rows, mode="r"))
        return self._solve(irrep, rows[:, : -values.shape[2]], rows[:, -values.shape[2] :], values.size)

    def _solve(self, irrep, design, labels, n_labels):
        """Weights, and what error bars are made of."""
        noise = self.noise[irrep]
        weights = ridge_weights(design, labels, noise)
        if self.error_bars:
            prior = np.sqrt(noise) * np.eye(design.shape[1])
            factor = np.asarray(np.linalg.qr(np.vstack([design, prior]), mode="r"))
            variance = max(float(np.sum(labels * (labels - design @ weights))), 0.0) / n_labels
            for name, value in (("factors_", factor[None]), ("variance_", np.array([variance]))):
                known = getattr(self, name)
                known[irrep] = np.concatenate([known[irrep], value]) if irrep in known else value
        return weights

    def _posterior(self, rows, joint, include_noise):
        """Means and covariances of each irrep."""
        if joint or not self.error_bars:
            what = "joint covariances" if joint else "error bars: fit with error_bars=True"
            raise ValueError(f"a readout has no {what}")
        means, covariances = self._predict_irreps(rows), {}
        for irrep, mean in means.items():
            block = np.zeros((len(rows), mean.shape[1], mean.shape[1]))
            for some, design, factor, variance in self._designs(rows, irrep):
                n, d, n_columns = design.shape
                roots = solve_triangular(factor, design.reshape(n * d, n_columns).T, trans="T", check_finite=False)
                roots = roots.reshape(n_columns, n, d)
                block[some] = variance * (np.einsum("cna,cnb->nab", roots, roots) + include_noise * np.eye(d))
            covariances[irrep] = copies(block, np.eye(mean.shape[2]))
        return means, covariances

    def _designs(self, rows, irrep):
        """Rows, their designs, and the factor and variance that belong to these."""
        factors, variances = self.factors_[irrep], self.variance_[irrep]
        if not self.per_atom_:
            yield slice(None), self._design(rows, irrep), factors[0], variances[0]
            return
        kinds, of_centers = self._kinds(rows)
        for kind, factor, variance in zip(kinds, factors, variances, strict=True):
            some = np.flatnonzero(of_centers == kind)
            yield some, rows.blocks[irrep][some], factor, variance

    def _predict_irreps(self, features):
        predicted, offsets, (kinds, of_centers) = {}, features.offsets, self._kinds(features)
        for irrep, coefficients in self.coef_.items():
            block = features.blocks[irrep]
            values = np.zeros((*block.shape[:2], coefficients.shape[2]))
            for kind, matrix in zip(kinds, coefficients, strict=True):
                rows = of_centers == kind
                values[rows] = block[rows] @ matrix
            predicted[irrep] = _sums(values, offsets, self.aggregate == "mean")
        return predicted

    def _design(self, features, irrep):
        """Aggregate features, the columns of each species side by side: (n, 2 l + 1, n_species * n_features)."""
        block = features.blocks[irrep]
        if self.aggregate == "mean":
            block = block * (1.0 / np.diff(features.offsets)[features.structures])[:, None, None]
        kinds, of_centers = self._kinds(features)
        design = np.empty((len(features), block.shape[1], len(kinds), block.shape[2]))
        for k, kind in enumerate(kinds):
            rows = np.flatnonzero(of_centers == kind)
            offsets = np.searchsorted(features.structures[rows], np.arange(len(features) + 1))
            design[:, :, k] = aggregate_rows(block[rows], offsets, "sum")
        return design.reshape(len(features), block.shape[1], -1)

    def tensors(self, read, irreps_of_atoms):
        """Predictions from the readouts of the features of each atom.

        Parameters
        ----------
        read : Known
        irreps_of_atoms : dict of str to ndarray of shape (n_known_atoms, 2 l + 1, multiplicity)

        Returns
        -------
        ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
        """
        atoms = read.features({})  # which there are: all that tensors of known irreps need
        rows, known = self._rows_to_predict(atoms)
        offsets, mean = read.known.offsets, self.aggregate == "mean"
        blocks = {
            irrep: values[known] if self.per_atom_ else _sums(values, offsets, mean)
            for irrep, values in irreps_of_atoms.items()
        }
        return self._by_structure(atoms, known, self._tensors_of(rows, blocks))

    def vjp(self, read, vectors):
        """Differentiate sum(vectors * predictions) by the features of all known atoms.

        Parameters
        ----------
        read : Known
        vectors : array-like, or list of array-like
            Of the shape of the predictions.

        Returns
        -------
        dict of str to ndarray of shape (n_known_atoms, 2 l + 1, n_features)
        """
        tensor, batch = self._tensor(), read.batch
        if self.per_atom_:
            vectors = np.concatenate([as_floats(array, f"cotangents[{k}]") for k, array in enumerate(vectors)])
        array = as_floats(vectors, "cotangents")
        shape = (batch.n_atoms if self.per_atom_ else batch.n_structures, *tensor.shape)
        if array.shape != shape:
            raise ValueError(f"cotangents have shape {array.shape}, the predictions {shape}")
        structures, numbers = batch.structure_of_atom[read.atoms], batch.numbers[read.atoms]
        row = np.arange(batch.n_atoms)[read.atoms] if self.per_atom_ else structures
        weights = np.ones(len(row))
        if self.aggregate == "mean" and not self.per_atom_:
            weights /= np.diff(read.known.offsets)[structures]
        known, blocks = np.isin(numbers, self.species_), {}
        known |= self.answers_unknown
        places = np.zeros(known.sum(), int) if self.n_channels else np.searchsorted(self.species_, numbers[known])
        for irrep, block in tensor.to_irreps(array).items():
            coefficients = np.zeros((len(weights), *self.coef_[irrep].shape[1:]))
            coefficients[known] = self.coef_[irrep][places]
            blocks[irrep] = weights[:, None, None] * np.einsum("imk,ifk->imf", block[row], coefficients)
        return blocks


def predict_tensors(network, readouts, read):
    """Predictions of several readouts of one network.

    Parameters
    ----------
    network : TrainedNetwork
    readouts : dict of str to Readout
    read : Known

    Returns
    -------
    dict of str to ndarray of shape (n_structures, 3, ..., 3), or ndarray of object, shape (n_structures,)
    """
    weights = {
        (name, irrep): _weights_of_unscaled(network, readout, irrep)
        for name, readout in readouts.items()
        for irrep in readout.coef_
    }
    irreps, constants = tuple(dict.fromkeys(Irrep.parse(irrep) for _, irrep in weights)), network.constants()
    architecture, neighbor_scale = network.model.architecture, network.model.neighbor_scale

    def of_part(part, _):
        graph = network.make_graph(part)
        blocks = architecture(Tape(recording=False), constants, graph, neighbor_scale, irreps)
        return {key: _read_out(blocks[Irrep.parse(key[1])].value, graph, matrix) for key, matrix in weights.items()}

    parts = network.over_parts(read.known, of_part)
    values = {key: np.concatenate([part[key] for part in parts]) for key in weights}
    return {
        name: readout.tensors(read, {irrep: values[name, irrep] for irrep in readout.coef_})
        for name, readout in readouts.items()
    }


def _weights_of_unscaled(network, readout, irrep):
    """Weights for the features before they are scaled, of all species of the network: those of others are zero."""
    scales, coefficients = network.model.scales[irrep], readout.coef_[irrep]
    if readout.n_channels:
        shared = (scales[0, :, None] * coefficients[0]).reshape(-1, readout.n_channels, coefficients.shape[2])
        return np.einsum("fkm,sk->sfm", shared, network.make_graph.keywords["embedding"])
    weights = np.zeros((len(scales), *coefficients.shape[1:]))
    species = np.searchsorted(network.species, readout.species_)
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


def _sums(values, offsets, mean):
    """Sum, or average, over the atoms of each structure; zero without atoms."""
    n_atoms = np.diff(offsets)
    sums, some = np.zeros((len(n_atoms), *values.shape[1:])), n_atoms > 0
    sums[some] = np.add.reduceat(values, offsets[:-1][some]) if some.any() else 0.0
    return sums / np.maximum(n_atoms, 1)[:, None, None] if mean else sums


def _flat(block):
    """Components of all samples one below the other: (n * (2 l + 1), ...)."""
    return block.reshape(-1, block.shape[2])
