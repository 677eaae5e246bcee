r"""What error to expect of a model on new structures, from structures that it did not see.

A Gaussian process leaves out each structure in closed form. Other models are fitted without a part of the data, twice:
on all of the rest and on half of it, which gives the exponent of the learning curve

.. math:: \mathrm{RMSE}(n) = a\, n^{-b}

and with it the error of the model that is fitted to everything (C. Cortes et al., NIPS 6, 327 (1993)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

from eqkernels._fitted import last_step
from eqkernels.metrics import frobenius_rmse, irrep_rmse, isotropic_mean
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import as_list, is_by_structure
from eqkernels.structures.paired import paired_rows

# Held back of data that are not left out in closed form: a fifth, at most so many structures.
_HELD_BACK, _MOST_HELD_BACK = 0.2, 1000
# Learning curves fall at most with the first power of the number of structures (b), and do not rise.
_STEEPEST = 1.0
_RESAMPLINGS = 200
# Structures from which a part is worth a point of the learning curve.
_FEWEST = 10


@dataclass(frozen=True)
class ExpectedError:
    """Error to expect on new structures that resemble the training set.

    Attributes
    ----------
    rmse : float
        Root mean square of the Frobenius norm of the error, in the units of y.
    standard_error : float
        Of `rmse`, from the number of structures that it was measured on.
    spread : float
        `rmse` of the best constant: the mean of the scalar part.
    irreps, spreads : dict of str to float
        RMSE per component of each irrep, and that of the constant.
    n_structures : int
        Structures that were predicted.
    curve : list of (int, float)
        Number of structures to learn from and `rmse`, ascending; the last is that of the fitted model.
    how : str
        How the structures were left out.
    forces : float or None
        RMSE of a component of the forces, if there are any; with four fifths of the structures.
    """

    rmse: float
    standard_error: float
    spread: float
    irreps: dict[str, float]
    spreads: dict[str, float]
    n_structures: int
    curve: list[tuple[int, float]]
    how: str
    forces: float | None = None

    def __str__(self):
        lines = [f"{'irrep':>8} {'RMSE':>12} {'spread':>12}   per component"]
        lines += [f"{key:>8} {self.irreps[key]:12.4g} {self.spreads[key]:12.4g}" for key in self.irreps]
        lines.append(
            f"{'tensor':>8} {self.rmse:12.4g} {self.spread:12.4g}   Frobenius norm, +- {self.standard_error:.2g}"
        )
        if self.forces is not None:
            lines.append(f"{'forces':>8} {self.forces:12.4g} {'':12}   per component")
        return "\n".join([*lines, self.how])


def expected_error(
    model: Any,
    frames: Any,
    y: Any,
    *,
    groups: Any = None,
    target: Any = None,
    forces: Any = None,
    random_state: Any = 0,
) -> ExpectedError:
    """Estimate the error of a model on structures that it was not fitted to.

    Parameters
    ----------
    model : estimator
        Fitted to frames and y, or not yet: a fitted :class:`~eqkernels.TensorGPR` says its leave-one-out errors at no
        cost. All others are fitted anew, to four and two fifths of the structures.
    frames : sequence of ase.Atoms
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
    groups : array-like of shape (n_structures,), default=None
        Structures that are left out together, such as those of a trajectory.
    target : str or CartesianTensor, default=None
        Index symmetry, which decides what the irreps are; None: that of the fitted model.
    forces : list of array-like of shape (n_atoms, 3), default=None
        That the model is fitted to, if it is a :class:`~eqkernels.SparseTensorGPR`.
    random_state : int, RandomState or None, default=0
        For the structures that are held back.

    Returns
    -------
    ExpectedError

    Raises
    ------
    ValueError
        With fewer than five structures, or than two groups.

    See Also
    --------
    eqkernels.recommend : Which model to take.

    Examples
    --------
    >>> from eqkernels import TensorGPR
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> model = TensorGPR().fit(data.frames[:60], data.dipole[:60])
    >>> error = expected_error(model, data.frames[:60], data.dipole[:60])
    >>> error.n_structures, error.rmse < 0.1 * error.spread
    (60, True)
    """
    frames, y = as_list(frames), _as_labels(y)
    if groups is None and forces is None and hasattr(model, "predict_left_out") and hasattr(model, "X_fit_"):
        return _left_out(model, frames, y, target)
    learned, held = _held_back(len(frames), groups, random_state)
    errors, predicted, rmse_of_forces = [], None, None
    for n in (len(learned) // 2, len(learned)):
        some = learned[:n]
        extra = {} if forces is None else {"forces": [forces[k] for k in some]}
        fitted = clone(model).fit([frames[k] for k in some], y[some], **extra)
        predicted = fitted.predict([frames[k] for k in held])
        errors.append((n, frobenius_rmse(y[held], predicted)))
    how = f"{len(held)} structures held back" + ("" if groups is None else ", in whole groups")
    if forces is not None:
        pairs = zip(fitted.predict_forces([frames[k] for k in held]), (forces[k] for k in held), strict=True)
        differences = np.concatenate([(np.asarray(one) - other).ravel() for one, other in pairs])
        rmse_of_forces = float(np.sqrt(np.nanmean(differences**2)))
    return _measured(fitted, y[held], predicted, target, how, _extrapolated(errors, len(frames)), rmse_of_forces)


def _left_out(model, frames, y, target):
    """Leave-one-out error, and that of the same model fitted to parts of the structures."""
    order, curve = np.random.default_rng(0).permutation(len(frames)), []
    predicted = model.predict_left_out()
    rmse = frobenius_rmse(*_known(y, predicted))
    for n in (len(frames) // 4, len(frames) // 2):
        if n >= _FEWEST:
            some = np.sort(order[:n])
            part = clone(model).fit([frames[k] for k in some], y[some])
            curve.append((n, frobenius_rmse(*_known(y[some], part.predict_left_out())) / rmse if rmse else 1.0))
    return _measured(model, y, predicted, target, "leave-one-out", [*curve, (len(frames), 1.0)])


def _known(y, predicted):
    """Labels and predictions without those that are left out of the fit."""
    pairs = paired_rows(y, predicted)
    return pairs.true, pairs.pred


def _held_back(n, groups, random_state):
    """Structures to learn from, in random order, and those that are held back."""
    if n < 5:
        raise ValueError(f"an error cannot be estimated from {n} structures: at least 5 are needed")
    splitter = ShuffleSplit if groups is None else GroupShuffleSplit
    size = _HELD_BACK if n * _HELD_BACK <= _MOST_HELD_BACK else _MOST_HELD_BACK / n
    learned, held = next(splitter(1, test_size=size, random_state=random_state).split(np.zeros(n), groups=groups))
    return np.random.default_rng(0).permutation(learned), held


def _extrapolated(errors, n):
    """Learning curve relative to its last error, up to n structures."""
    (few, before), (many, after) = errors
    if not after > 0:
        return [(few, 1.0), (many, 1.0), (n, 1.0)]
    exponent = float(np.clip(np.log(before / after) / np.log(many / few), 0.0, _STEEPEST))
    return [(few, before / after), (many, 1.0), (n, (many / n) ** exponent)]


def _as_labels(y):
    """Labels that can be picked: an array, or for per-atom targets an object array."""
    if is_by_structure(y):
        whole = np.empty(len(y), dtype=object)
        whole[:] = list(y)
        return whole
    return np.asarray(y)


def _measured(model, y, predicted, target, how, curve, rmse_of_forces=None):
    """Errors of predictions, with the last factor of a curve relative to them."""
    target = target if target is not None else _target_of(model)
    pairs = paired_rows(y, predicted)
    factor, constant = curve[-1][1], isotropic_mean(pairs.true)
    norms = np.linalg.norm((pairs.true - pairs.pred).reshape(len(pairs.true), -1), axis=1)
    rmse = float(np.sqrt(np.mean(norms**2)))
    constant = np.broadcast_to(constant, pairs.true.shape)
    irreps, spreads = (irrep_rmse(pairs.true, other, target=target) for other in (pairs.pred, constant))
    spread = frobenius_rmse(pairs.true, constant)
    return ExpectedError(
        factor * rmse, factor * _standard_error(norms, pairs.structures), spread,
        {key: factor * value for key, value in irreps.items()}, spreads, len(np.unique(pairs.structures)),
        [(n, part * rmse) for n, part in curve], how, rmse_of_forces,
    )  # fmt: skip


def _target_of(model):
    final = last_step(model)
    formula = getattr(final, "target_", None)
    return None if formula is None else CartesianTensor(formula, axial=getattr(final, "axial_", ""))


def _standard_error(norms, structures):
    """Resample the structures: the standard deviation of their root mean square."""
    _, which = np.unique(structures, return_inverse=True)
    squares, counts = np.bincount(which, norms**2), np.bincount(which)
    drawn = np.random.default_rng(0).integers(len(counts), size=(_RESAMPLINGS, len(counts)))
    return float(np.std(np.sqrt(squares[drawn].sum(axis=1) / counts[drawn].sum(axis=1))))
