"""Labels predicted from the other structures by a kernel or linear model, robustly, and the usual error of each."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from eqkernels._ranges import aggregate_rows
from eqkernels.descriptors import LambdaSOAP
from eqkernels.kernels import CovariantKernel
from eqkernels.kernels.environments import block_scale
from eqkernels.regression.fitted_targets import declare_target
from eqkernels.structures import by_structure
from eqkernels.symmetry.left_out import LeftOut, design_of_kernel

# Labels that are far off are left out, in so many rounds.
_ROUNDS = 4
# Labels of structures are learned by a kernel with so many components at most, else by a linear model.
_MOST_ROWS = 2500
# Factor of the columns of a baseline, which make it all but free of regularization.
_FREE = 1e3
# The usual error of a structure is the median of those that resemble it most, but not less than this part of the
# median of all.
_NEIGHBORS, _LEAST_SCALE = 15, 0.3
# At most this part of the structures is left out.
_MOST_LEFT_OUT = 0.35


class LabelPredictions:
    """Labels, one row a structure or labelled atom, and what a model predicts for each from the others.

    Parameters
    ----------
    frames : list of ase.Atoms
    labels : Labels
    descriptor : transformer or None
    aggregate : {"sum", "mean"}

    Attributes
    ----------
    values, predicted : ndarray of shape (n_rows, 3, ..., 3)
        Labels with their index symmetry, and predictions; NaN where a structure has an element that no other has.
    scale : ndarray of shape (n_rows, n_irreps)
        Error that is usual for a row.
    suspects : ndarray of int
        Structures that are far off and left out of the fit.
    structures, atoms : sequence of shape (n_rows,)
        Where each row belongs; atoms are None for labels of structures.
    """

    def __init__(self, frames, labels, descriptor, aggregate):
        self.frames, self.tensor, self.aggregate = frames, labels.tensor, aggregate
        self.descriptor = LambdaSOAP(cutoff=6.0, n_max=4, l_max=3) if descriptor is None else descriptor
        self.values = self.tensor.project(labels.values)
        self.per_atom, self.rows_of_atoms, self.n_atoms = labels.per_atom, labels.atoms, labels.n_atoms
        if self.per_atom:
            self.structures = np.repeat(np.arange(len(frames)), self.n_atoms)[labels.atoms]
            self.atoms = labels.atoms - (np.cumsum(self.n_atoms) - self.n_atoms)[self.structures]
            self.species = np.concatenate([atoms.numbers for atoms in frames])[labels.atoms]
        else:
            self.structures, self.species = np.arange(len(frames)), np.zeros(len(frames), dtype=int)
            self.atoms = [None] * len(frames)
        self._make_features()
        self.suspects = np.zeros(0, dtype=int)

    def _make_features(self):
        descriptor = declare_target(clone(self.descriptor), self.tensor, self.per_atom)
        self.features = descriptor.fit(self.frames, self._as_y(self.values)).transform(self.frames)
        self.left_out = {str(irrep): list(self._models(str(irrep))) for _, irrep in self.tensor.irreps}

    # -- fits -------------------------------------------------------------------------------------------------------

    def _as_y(self, values):
        """Labels as models take them: for atoms, one array for each structure."""
        if not self.per_atom:
            return values
        rows = np.full((self.n_atoms.sum(), *values.shape[1:]), np.nan)
        rows[self.rows_of_atoms] = values
        return by_structure(rows, self.n_atoms)

    def _models(self, irrep):
        """Yield rows, and the model that predicts them: of atoms, one for each species."""
        features = self.features
        block = features.block(irrep)
        block = block_scale(block, features.block("0e"), irrep, "invariant")[:, None, None] * block
        if not self.per_atom:
            yield np.arange(len(self.frames)), LeftOut(self._design(irrep, block), self.structures)
            return
        starts = np.cumsum(self.n_atoms) - self.n_atoms
        places = np.full(self.n_atoms.sum(), -1)
        places[starts[features.structures] + features.atoms] = np.arange(len(features.species))
        places = places[self.rows_of_atoms]
        for species in np.unique(self.species):
            rows = np.flatnonzero((self.species == species) & (places >= 0))
            design = block[places[rows]]
            if irrep == "0e":  # a mean of each species
                design = np.concatenate([design, _FREE * np.ones((len(rows), 1, 1))], axis=2)
            yield rows, LeftOut(design, self.structures[rows])

    def _design(self, irrep, block):
        """Return features of structures, of a kernel where they are few enough; of scalars, the composition, too."""
        n_rows = len(self.frames) * block.shape[1]
        if n_rows <= _MOST_ROWS:
            kernel = CovariantKernel(zeta=2, aggregate=self.aggregate)
            design = design_of_kernel(kernel(self.features, irrep=irrep))
        else:
            design = self._summed(block)
        if irrep != "0e":
            return design
        counts = self._summed(np.ones((len(self.features.species), 1, 1)))
        return np.concatenate([design, _FREE * counts], axis=2)

    def _summed(self, block):
        """Return sums or means over the atoms of each species."""
        parts = []
        for species in np.unique(self.features.species):
            rows = np.flatnonzero(self.features.species == species)
            offsets = np.searchsorted(self.features.structures[rows], np.arange(len(self.frames) + 1))
            parts.append(aggregate_rows(block[rows], offsets, "sum"))
        design = np.concatenate(parts, axis=2)
        return design / self.n_atoms[:, None, None] if self.aggregate == "mean" else design

    def _predictions(self, values, kept, alphas=None):
        """Predict each label from the other structures that are kept; choose alphas where they are not known."""
        blocks, chosen = {}, {}
        in_fit = np.isin(self.structures, kept)
        for irrep, block in self.tensor.to_irreps(values).items():
            blocks[irrep] = np.full_like(block, np.nan)
            for k, (rows, model) in enumerate(self.left_out[irrep]):
                alpha = model.choose(block[rows], in_fit[rows]) if alphas is None else alphas[irrep, k]
                blocks[irrep][rows], chosen[irrep, k] = model.predict(block[rows], in_fit[rows], alpha), alpha
        predicted = self.tensor.to_cartesian(blocks)
        predicted[~self._known(kept)] = np.nan
        return predicted, chosen

    def _known(self, kept):
        """Rows all of whose elements another of the kept structures has; of atoms, their own element."""
        elements = np.unique(np.concatenate([atoms.numbers for atoms in self.frames]))
        has = np.array([np.isin(elements, atoms.numbers) for atoms in self.frames])
        others = has[kept].sum(axis=0) - has * np.isin(np.arange(len(has)), kept)[:, None]
        if not self.per_atom:
            return (~has | (others > 0)).all(axis=1)
        return others[self.structures, np.searchsorted(elements, self.species)] > 0

    def predict(self, threshold):
        """Set predictions, usual errors, and the structures that are far off, which are left out of the fit.

        Parameters
        ----------
        threshold : float
        """
        self.suspects = np.zeros(0, dtype=int)
        order, alphas = self._neighbors(), None
        most = int(_MOST_LEFT_OUT * len(self.frames))
        for k in range(_ROUNDS):
            kept = np.setdiff1d(np.arange(len(self.frames)), self.suspects)
            # wrong labels make the first alphas too large
            self.predicted, alphas = self._predictions(self.values, kept, None if k < 2 else alphas)
            self.scale = self._usual_errors(order)
            deviations = self._deviations()
            far = np.flatnonzero(deviations > threshold)
            far = np.sort(far[np.argsort(-deviations[far])][:most])
            if np.array_equal(far, self.suspects):
                return
            self.suspects = far

    def _neighbors(self):
        """Structures that resemble each most."""
        invariants = self.features.invariants("mean")
        invariants = invariants / np.maximum(np.linalg.norm(invariants, axis=1, keepdims=True), 1e-300)
        n = min(_NEIGHBORS, len(invariants) - 1)
        return NearestNeighbors(n_neighbors=n).fit(invariants).kneighbors(return_distance=False)

    # -- deviations -------------------------------------------------------------------------------------------------

    def _norms(self, values, predicted):
        """Norm of the deviation in each irrep, (n, n_irreps), per component."""
        difference = (values - predicted).reshape(len(values), -1) @ self.tensor.change_of_basis.T
        parts = self.tensor.irreps.slices()
        return np.stack([np.sqrt(np.mean(difference[:, part] ** 2, axis=1)) for part in parts], axis=1)

    def _usual_errors(self, neighbors):
        """Error that is usual of each row, (n, n_irreps): of its species, times that of structures like its own."""
        norms = self._norms(self.values, self.predicted)
        size = np.nanmedian(np.abs(self.values)) + 1e-300
        scale = np.full_like(norms, np.nan)
        for species in np.unique(self.species):
            scale[self.species == species] = np.nanmedian(norms[self.species == species], axis=0)
        scale = np.fmax(scale, 1e-9 * size)
        of_structures = self._of_structures((norms / scale) ** 2) ** 0.5
        local = np.nanmedian(of_structures[neighbors], axis=1)
        local = np.fmax(local, _LEAST_SCALE * np.nanmedian(of_structures, axis=0))
        return scale * local[self.structures]

    def _of_structures(self, squares):
        """Mean over the rows of each structure; NaN without any."""
        known = np.isfinite(squares).all(axis=1)
        sums, counts = np.zeros((len(self.frames), squares.shape[1])), np.zeros((len(self.frames), 1))
        np.add.at(sums, self.structures[known], squares[known])
        np.add.at(counts, self.structures[known], 1.0)
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)

    def _deviations(self):
        """Deviation of each structure in multiples of what is usual, 0 where nothing is predicted."""
        squares = (self._norms(self.values, self.predicted) / self.scale) ** 2
        return np.nan_to_num(np.sqrt(self._of_structures(squares).mean(axis=1)))

    def misfit(self, rows, values):
        """Mean square of the deviation of labels of some rows, in multiples of what is usual.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
        values : ndarray of shape (n, 3, ..., 3)

        Returns
        -------
        float
        """
        return float(np.mean((self._norms(values, self.predicted[rows]) / self.scale[rows]) ** 2))

    def relative_error(self):
        """Median error relative to the median size of the labels, of the irreps that are not scalar.

        Returns
        -------
        float
            The largest of all irreps.
        """
        errors = np.nanmedian(self._norms(self.values, self.predicted), axis=0)
        sizes = np.median(self._norms(self.values, np.zeros_like(self.values)), axis=0)
        ratios = [
            error / size
            for error, size, (_, irrep) in zip(errors, sizes, self.tensor.irreps, strict=True)
            if irrep.l > 0 and size > 0
        ]
        return float(max(ratios, default=0.0))

    def read_as(self, tensor, values, structures):
        """Leave-one-out error of other values or of another target, relative to the spread of what is not scalar.

        Parameters
        ----------
        tensor : CartesianTensor
        values : ndarray of shape (n_rows, 3, ..., 3)
        structures : ndarray of int
            To learn from.

        Returns
        -------
        float
        """
        self.set_target(tensor)
        predicted, _ = self._predictions(values, structures)
        error = spread = 0.0
        rows = np.isin(self.structures, structures) & np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1)
        errors = tensor.to_irreps(values[rows] - predicted[rows])
        for key, block in tensor.to_irreps(values[rows]).items():
            if key != "0e":
                error += float(np.sum(errors[key] ** 2))
                spread += float(np.sum((block - block.mean(axis=0) * (block.shape[1] == 1)) ** 2))
        return float(np.sqrt(error / spread)) if spread else 1.0

    def set_target(self, tensor):
        """Take another target, of which the features are made.

        Parameters
        ----------
        tensor : CartesianTensor
        """
        if str(tensor.irreps) != str(self.tensor.irreps):
            self.tensor = tensor
            self._make_features()
        self.tensor = tensor
