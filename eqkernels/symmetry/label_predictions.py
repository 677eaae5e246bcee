"""Labels predicted from the other structures by a linear model, robustly, with the error that is usual of each."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from eqkernels.descriptors import LambdaSOAP
from eqkernels.regression import TensorRidge
from eqkernels.regression.base import declare_target
from eqkernels.structures import by_structure

# Structures are predicted a tenth at a time. Labels that are far off are left out, in so many rounds.
_FOLDS, _ROUNDS = 10, 4
# The usual error of a structure is the median of those that resemble it most, but not less than this part of the
# median of all.
_NEIGHBORS, _LEAST_SCALE = 15, 0.3
# At most this part of the structures is left out.
_MOST_LEFT_OUT = 0.35


class LabelPredictions:
    """Labels, one row a structure or labelled atom, and what a linear model predicts for each from the others.

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
        self.elements = [set(atoms.numbers.tolist()) for atoms in self.frames]

    # -- fits -------------------------------------------------------------------------------------------------------

    def _as_y(self, values):
        """Labels as models take them: for atoms, one array for each structure."""
        if not self.per_atom:
            return values
        rows = np.full((self.n_atoms.sum(), *values.shape[1:]), np.nan)
        rows[self.rows_of_atoms] = values
        return by_structure(rows, self.n_atoms)

    def _fitted(self, values, structures, alpha="auto"):
        model = TensorRidge(alpha, aggregate=self.aggregate, target=self.tensor, per_atom=self.per_atom)
        return model.fit(self.features[structures], self._as_y(values)[structures])

    def _left_out(self, kept):
        """Predict each structure by a model that is fitted to those of the kept ones that are in other folds."""
        alpha = self._fitted(self.values, kept).alpha_
        predicted = np.full_like(self.values, np.nan)
        folds = np.random.default_rng(0).permutation(len(self.frames)) % _FOLDS
        for fold in range(_FOLDS):
            model = self._fitted(self.values, kept[folds[kept] != fold], alpha)
            known = set(model.species_.tolist())
            of_fold = [k for k in np.flatnonzero(folds == fold) if self.per_atom or self.elements[k] <= known]
            if of_fold:
                rows = np.flatnonzero(np.isin(self.structures, of_fold))
                part = model.predict(self.features[np.array(of_fold)])
                predicted[rows] = self._labelled(part, of_fold) if self.per_atom else part
        return predicted

    def _labelled(self, part, structures):
        whole = np.full((self.n_atoms.sum(), *self.values.shape[1:]), np.nan)
        wanted = np.repeat(np.isin(np.arange(len(self.frames)), structures), self.n_atoms)
        whole[wanted] = np.concatenate(part)
        return whole[self.rows_of_atoms][np.isin(self.structures, structures)]

    def predict(self, threshold):
        """Set predictions, usual errors, and the structures that are far off, which are left out of the fit.

        Parameters
        ----------
        threshold : float
        """
        self.suspects = np.zeros(0, dtype=int)
        order = self._neighbors()
        most = int(_MOST_LEFT_OUT * len(self.frames))
        for _ in range(_ROUNDS):
            kept = np.setdiff1d(np.arange(len(self.frames)), self.suspects)
            self.predicted = self._left_out(kept)
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
        blocks = self.tensor.to_irreps(values - predicted)
        return np.stack([np.sqrt(np.mean(block**2, axis=(1, 2))) for block in blocks.values()], axis=1)

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
        return float(np.mean((self._norms(self.tensor.project(values), self.predicted[rows]) / self.scale[rows]) ** 2))

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
        model = self._fitted(values, structures)
        error = spread = 0.0
        for multiplicity, irrep in tensor.irreps:
            if irrep.l > 0 or irrep.p < 0:
                error += irrep.dim * multiplicity * model.loo_rmse_[str(irrep)] ** 2
                spread += irrep.dim * multiplicity * model.spread_[str(irrep)] ** 2
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
