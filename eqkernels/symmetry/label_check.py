"""Labels that do not follow their own structures: in another frame, order, handedness, parity, unit or sign.

A linear equivariant model is fitted to nine tenths of the structures and predicts the others, all in turn. Labels far
from their predictions are left out, the model is fitted again, and each of them is compared with what the usual
mistakes would make of the prediction.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.neighbors import NearestNeighbors

from eqkernels.descriptors import LambdaSOAP
from eqkernels._numeric import check_positive
from eqkernels.regression import TensorRidge
from eqkernels.regression.base import declare_target
from eqkernels.so3 import CartesianTensor
from eqkernels.so3.inference import SYMMETRY_TOLERANCE
from eqkernels.structures import as_list, atom_counts, by_structure, read_labels
from eqkernels.symmetry.label_hypotheses import Hypothesis, fixed_hypotheses, rotated, scaled

# Structures are predicted a tenth at a time. Labels that are far off are left out, in so many rounds.
_FOLDS, _ROUNDS = 10, 4
_FEWEST = 20
# The usual error of a structure is the median of those that resemble it most, but not less than this part of the
# median of all.
_NEIGHBORS, _LEAST_SCALE = 15, 0.3
# A mistake explains a label if it takes away this part of the deviation, and the rest is below this part of the
# threshold. Without an explanation, deviations are reported from this multiple of the threshold.
_EXPLAINED, _REST, _UNEXPLAINED = 0.3, 0.7, 3.0
# At most this part of the structures is left out.
_MOST_LEFT_OUT = 0.35
# All labels are compared with other readings where a part of the spread as large as this is not learned; another
# reading has at most half of the error. So many structures are enough to see it.
_UNRELATED, _BETTER, _ENOUGH = 0.3, 0.5, 150


@dataclass(frozen=True)
class LabelFinding:
    """A label that breaks the symmetry of its structure.

    Attributes
    ----------
    structure : int or None
        Index of the structure; None: all of them.
    atom : int or None
        Index of the atom; None: the structure, or all of its atoms.
    kind : str
        "sign", "unit", "transposed", "component order", "Voigt order", "mirrored", "rotated", "parity",
        "index symmetry" or "unexplained".
    size : float
        Deviation from the prediction, in multiples of the usual error of structures like it; for all structures the
        factor by which the error becomes smaller; for "index symmetry" the part of the norm that breaks it.
    text : str
        What the label looks like.
    """

    structure: int | None
    atom: int | None
    kind: str
    size: float
    text: str

    def __str__(self):
        where = "all structures" if self.structure is None else f"structure {self.structure}"
        where += "" if self.atom is None else f", atom {self.atom}"
        return f"{where}: {self.text}"


class LabelReport(list):
    """List of findings that prints one on each line.

    Examples
    --------
    >>> print(LabelReport([LabelFinding(3, None, "sign", 80.0, "the sign is reversed")]))
    structure 3: the sign is reversed
    """

    def __str__(self):
        return "\n".join(map(str, self)) or "no label breaks the symmetry of its structure"


def check_labels(
    frames: Sequence[Atoms],
    y: Any,
    target: str | CartesianTensor | None = None,
    *,
    per_atom: bool | None = None,
    descriptor: Any = None,
    aggregate: str = "sum",
    threshold: float = 10.0,
) -> LabelReport:
    """Find labels in another frame, order of components, handedness, parity, unit or sign than the others.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        At least 20, of which most resemble others of them.
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
        Labels, as for ``fit``.
    target : str or CartesianTensor, default=None
        The property or its index symmetry; None: found from y.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: what the target says, or the only way in which y can be read.
    descriptor : transformer, default=None
        Features of the linear model; None: ``LambdaSOAP(cutoff=4.0, n_max=4, l_max=3)``.
    aggregate : {"sum", "mean"}, default="sum"
        Mean for properties that do not grow with the structure, such as a dielectric tensor.
    threshold : float, default=10.0
        How far a label may deviate from its prediction, in multiples of the usual error of structures like it. Smaller
        values find smaller mistakes, and sooner call a structure wrong that is only unlike the others.

    Returns
    -------
    LabelReport
        A list of :class:`LabelFinding`, those of all structures first; empty if nothing was found.

    Raises
    ------
    ValueError
        With fewer than 20 structures, or labels that cannot be read.

    See Also
    --------
    eqkernels.symmetry.check_equivariance : The same question for models.

    Notes
    -----
    What cannot be seen in the data is not found: a sign or a unit that is wrong in all labels, the transposition of all
    polar tensors, or the inversion of a tensor of even rank, which does not change it. A mistake is found where it moves
    a label by more than ``threshold`` times the error of the model.

    Examples
    --------
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> dipole = data.dipole[:100].copy()
    >>> dipole[7] = dipole[7, [1, 2, 0]]
    >>> print(check_labels(data.frames[:100], dipole, "dipole"))
    structure 7: components in the order y z x (e3nn) instead of x y z
    """
    check_positive(threshold, "threshold")
    frames = as_list(frames)
    if len(frames) < _FEWEST:
        raise ValueError(f"frames are {len(frames)} structures: at least {_FEWEST} are needed to know what is usual")
    labels = read_labels(y, atom_counts(frames), target, per_atom)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of models that are fitted to wrong labels
        problem = _Problem(frames, labels, descriptor, aggregate)
        report = LabelReport(problem.asymmetric())
        report += problem.of_all()
        problem.predict(threshold)
        for structure in problem.suspects:
            report += problem.of_structure(structure, threshold)
    return report


class _Problem:
    """Labels, one row a structure or labelled atom, and what a model predicts for them."""

    def __init__(self, frames, labels, descriptor, aggregate):
        self.frames, self.tensor, self.aggregate = frames, labels.tensor, aggregate
        self.descriptor = LambdaSOAP(cutoff=4.0, n_max=4, l_max=3) if descriptor is None else descriptor
        self.given, self.values = labels.values, self.tensor.project(labels.values)
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
        descriptor = declare_target(self.descriptor, self.tensor, self.per_atom)
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
        """Predictions, usual errors, and the structures that are far off, which are left out of the fit."""
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

    def _misfit(self, rows, values):
        """Mean square of the deviation of some rows, in multiples of what is usual."""
        return float(np.mean((self._norms(self.tensor.project(values), self.predicted[rows]) / self.scale[rows]) ** 2))

    # -- findings ---------------------------------------------------------------------------------------------------

    def asymmetric(self):
        """Labels that do not have the index symmetry which is declared, or that the others have."""
        for row, (given, kept) in enumerate(zip(self.given, self.values, strict=True)):
            broken = np.linalg.norm(given - kept) / max(np.linalg.norm(given), 1e-300)
            if broken > SYMMETRY_TOLERANCE * 10:
                yield LabelFinding(
                    int(self.structures[row]), self._atom(row), "index symmetry", float(broken),
                    f"{broken:.1%} of its norm breaks the index symmetry {self.tensor.formula!r}",
                )  # fmt: skip

    def _atom(self, row):
        return None if self.atoms[row] is None else int(self.atoms[row])

    def of_all(self):
        """Mistakes that all labels share, which are undone."""
        some = np.sort(np.random.default_rng(0).permutation(len(self.frames))[:_ENOUGH])
        error = self._error(self.values, some)
        if error < _UNRELATED or self.tensor.rank == 0:
            return []
        best = (_BETTER * error, None, self.values)
        for one in self._fixed():
            if one.kind not in ("sign", "transposed"):
                values = one.undo(self.values)
                best = min(best, (self._error(values, some), one, values), key=lambda trial: trial[0])
        other, kept = self._of_other_parity(), (self.tensor, self.features)
        self.tensor, of_kept = other, self.tensor
        self._make_features()
        of_other = self._error(self.given, some)
        if of_other < best[0]:
            axial = f"axial={other.axial!r}" if other.axial else "no axial index"
            self.values = self.given
            text = (
                f"they are tensors {other.formula!r} with {axial}, not {of_kept.formula!r} with {of_kept.axial!r} axial"
            )
            return [LabelFinding(None, None, "parity", error / of_other, text)]
        (self.tensor, self.features), self.values = kept, best[2]
        return [] if best[1] is None else [LabelFinding(None, None, best[1].kind, error / best[0], best[1].text)]

    def _of_other_parity(self):
        letters = self.tensor.formula.split("=")[0]
        return CartesianTensor(letters, axial="" if self.tensor.axial else letters[-1])

    def _error(self, values, structures):
        """Leave-one-out error relative to the spread, of what is not scalar."""
        model = self._fitted(values, structures)
        squares = {
            str(irrep): (
                irrep.dim * multiplicity * np.array([model.loo_rmse_[str(irrep)], model.spread_[str(irrep)]]) ** 2
            )
            for multiplicity, irrep in self.tensor.irreps
        }
        squares = {key: pair for key, pair in squares.items() if key != "0e"} or squares
        error, spread = np.sum(list(squares.values()), axis=0)
        return float(np.sqrt(error / spread)) if spread else 0.0

    def of_structure(self, structure, threshold):
        """Findings of one structure that is far off, or of its atoms."""
        rows = np.flatnonzero((self.structures == structure) & np.isfinite(self.scale).all(axis=1)
                              & np.isfinite(self.predicted.reshape(len(self.predicted), -1)).all(axis=1))  # fmt: skip
        found = self._explained(rows, threshold)
        if found is None and self.per_atom:
            of_atoms = [(row, self._explained(np.array([row]), threshold)) for row in rows]
            if any(one is not None for _, one in of_atoms):
                return [LabelFinding(int(structure), self._atom(row), *one) for row, one in of_atoms if one is not None]
        if found is None:
            size = self._misfit(rows, self.values[rows]) ** 0.5
            if size < _UNEXPLAINED * threshold:
                return []
            found = ("unexplained", size, f"{size:.0f} times as far from its prediction as is usual")
        return [LabelFinding(int(structure), None, *found)]

    def _explained(self, rows, threshold):
        """Kind, size and text of the simplest mistake that explains some rows; None if there is none."""
        values = self.values[rows]
        before = self._misfit(rows, values)
        if before < threshold**2:
            return None
        allowed = min(_EXPLAINED**2 * before, (_REST * threshold) ** 2)
        misfits = []
        for one in self._hypotheses(rows):
            misfits.append((self._misfit(rows, one.undo(values)), one))
        least = min(misfit for misfit, _ in misfits)
        if least > allowed:
            return None
        # of those that are as good as the best, the first is the simplest
        one = next(one for misfit, one in misfits if misfit <= min(allowed, 4 * least + 4))
        return one.kind, before**0.5, one.text

    def _fixed(self):
        symmetric = self.tensor.rank == 2 and "=" in self.tensor.formula
        return fixed_hypotheses(self.tensor.rank, symmetric, len(self.tensor.axial))

    def _hypotheses(self, rows):
        """Mistakes that change these rows, the simplest first."""
        values, predicted = self.values[rows], self.predicted[rows]
        hypotheses: list[Hypothesis | None] = [*self._fixed(), scaled(values, predicted)]
        if self.tensor.rank > 0:
            odd = (self.tensor.rank - len(self.tensor.axial)) % 2 == 1
            for improper in (False, True)[: 1 + odd]:
                hypotheses.append(rotated(values, lambda turned: self._misfit(rows, turned), improper))
        return [one for one in hypotheses if one is not None]
