r"""What error to expect of a model on new structures, from structures that it did not see.

A Gaussian process leaves out each structure in closed form. Other models are fitted without a part of the data, twice:
on all of the rest and on half of it, which gives the exponent of the learning curve

.. math:: \mathrm{RMSE}(n) = a\, n^{-b}

and with it the error of the model that is fitted to everything (C. Cortes et al., NIPS 6, 327 (1993)).

A few structures that are far from all others may make up most of the mean square. It is then not known well, from
whatever sample: the interval in which it lies is wide (:mod:`eqkernels.error_distribution`), and the median of the
errors, which is known well, is said too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupShuffleSplit, KFold, ShuffleSplit

from eqkernels._fitted import last_step
from eqkernels._progress import say
from eqkernels.error_distribution import (
    RESAMPLINGS,
    ErrorTail,
    interval_of,
    largest_of_more,
    resampled_rmse,
    squares_of_structures,
    standard_error_of,
)
from eqkernels.metrics import frobenius_rmse, irrep_rmse, isotropic_mean
from eqkernels.regression.delta import is_fitted_within
from eqkernels.regression.fitted_targets import target_of
from eqkernels.structures import as_list, is_by_structure
from eqkernels.structures.paired import paired_rows

# Held back of data that are not left out in closed form: a fifth, at most so many structures.
_HELD_BACK, _MOST_HELD_BACK = 0.2, 1000
# Learning curves fall at most with the first power of the number of structures (b), and do not rise.
_STEEPEST, _TINY = 1.0, np.finfo(float).tiny
# Structures that are held back in all, if there are so many, in so many parts at most: few say little.
_ENOUGH_HELD_BACK, _MOST_PARTS = 100, 5
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
        Of `rmse`: a third of the width of `interval`, on a logarithmic scale.
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
    tail : ErrorTail or None
        How the errors are distributed over the structures.
    interval : (float, float) or None
        Which holds the error over all structures like these in nine of ten cases: `rmse` is that of as many structures
        as were predicted, of which a few may have most of it, continued along the learning curve.
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
    tail: ErrorTail | None = None
    interval: tuple[float, float] | None = None

    def __str__(self):
        lines = [f"{'irrep':>8} {'RMSE':>12} {'spread':>12}   per component"]
        lines += [f"{key:>8} {self.irreps[key]:12.4g} {self.spreads[key]:12.4g}" for key in self.irreps]
        between = f", between {self.interval[0]:.3g} and {self.interval[1]:.3g}" if self.interval else ""
        lines.append(f"{'tensor':>8} {self.rmse:12.4g} {self.spread:12.4g}   Frobenius norm{between}")
        if self.forces is not None:
            lines.append(f"{'forces':>8} {self.forces:12.4g} {'':12}   per component")
        return "\n".join([*lines, *(self.tail.lines() if self.tail is not None else []), self.how])


def expected_error(
    model: Any,
    frames: Any,
    y: Any,
    *,
    groups: Any = None,
    target: Any = None,
    forces: Any = None,
    random_state: Any = 0,
    verbose: int = 0,
) -> ExpectedError:
    """Estimate the error of a model on structures that it was not fitted to.

    Parameters
    ----------
    model : estimator
        Fitted to frames and y, or not yet: a fitted :class:`~eqkernels.TensorGPR` says its leave-one-out errors at no
        cost. All others are fitted anew, to four and two fifths of the structures, and where these are few to
        other four fifths too.
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
    verbose : int, default=0
        If positive, say on standard error which fit is being made.

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
    closed = hasattr(model, "predict_left_out") and hasattr(model, "X_fit_") and not is_fitted_within(model)
    if groups is None and forces is None and closed:
        return _left_out(model, frames, y, target)
    parts = held_back(frames, groups, random_state)
    errors, of_part, predicted, differences = [], [], [], []
    fits = [(parts[0], len(parts[0][0]) // 2), *((part, len(part[0])) for part in parts)]
    for k, ((learned, held), n) in enumerate(fits):
        say(f"expected error: fit {k + 1} of {len(fits)}, to {n} structures", verbose)
        some, others = learned[:n], [frames[k] for k in held]
        extra = {} if forces is None else {"forces": [forces[k] for k in some]}
        fitted = clone(model).fit([frames[k] for k in some], y[some], **extra)
        made = fitted.predict(others)
        errors.append((n, frobenius_rmse(y[held], made)))
        if k < 2:
            of_part.append(_resampled(y[held], made))
        if k > 0:
            predicted.append(_as_labels(made))
            if forces is not None:
                pairs = zip(fitted.predict_forces(others), (forces[k] for k in held), strict=True)
                differences += [(np.asarray(one) - other).ravel() for one, other in pairs]
    rmse_of_forces = float(np.sqrt(np.nanmean(np.concatenate(differences) ** 2))) if differences else None
    held = np.concatenate([held for _, held in parts])
    how = f"{len(held)} structures held back" + (f", in {len(parts)} parts" if len(parts) > 1 else "")
    how += "" if groups is None else ", in whole groups"
    curve = extrapolated(errors[:2], len(frames))
    sizes = (errors[0][0], errors[1][0], len(frames))
    factors = _growth(of_part[0], of_part[1], sizes) / curve[-1][1]
    joined = np.concatenate(predicted)
    return measured(fitted, y[held], joined, target, how, curve, rmse_of_forces, held, factors)


def held_back_errors(
    models: Any, frames: Any, y: Any, *, groups: Any = None, random_state: Any = 0, verbose: int = 0
) -> list[float]:
    """Compare models by their errors on the same structures, which none of them was fitted to.

    Parameters
    ----------
    models : list of estimators
    frames : sequence of ase.Atoms
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
    groups : array-like of shape (n_structures,), default=None
        Structures that are held back together.
    random_state : int, RandomState or None, default=0
    verbose : int, default=0
        If positive, say on standard error which model is fitted.

    Returns
    -------
    list of float
        Root mean square of the Frobenius norm of the error, of each model, fitted to four fifths of the structures.

    Raises
    ------
    ValueError
        With fewer than five structures, or than two groups.

    Examples
    --------
    >>> from eqkernels import LambdaSOAP, TensorRidge
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> models = [TensorRidge(descriptor=LambdaSOAP(n_max=n_max, l_max=2)) for n_max in (1, 4)]
    >>> rough, fine = held_back_errors(models, data.frames[:60], data.dipole[:60])
    >>> bool(fine < rough)
    True
    """
    frames, y = as_list(frames), _as_labels(y)
    learned, held = held_back(frames, groups, random_state)[0]
    learned = np.sort(learned)
    known, unknown, errors = [frames[k] for k in learned], [frames[k] for k in held], []
    for k, model in enumerate(models):
        say(f"comparison: {type(last_step(model)).__name__}, {k + 1} of {len(models)}", verbose)
        errors.append(frobenius_rmse(y[held], clone(model).fit(known, y[learned]).predict(unknown)))
    return errors


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
    return measured(model, y, predicted, target, "leave-one-out", [*curve, (len(frames), 1.0)])


def _known(y, predicted):
    """Labels and predictions without those that are left out of the fit."""
    pairs = paired_rows(y, predicted)
    return pairs.true, pairs.pred


def held_back(frames, groups, random_state):
    """Parts of the data: structures to learn from, in random order, and those that are held back.

    Structures with the only atoms of a species are not held back, and come first in what is learned from.
    """
    n = len(frames)
    if n < 5:
        raise ValueError(f"an error cannot be estimated from {n} structures: at least 5 are needed")
    size = _HELD_BACK if n * _HELD_BACK <= _MOST_HELD_BACK else _MOST_HELD_BACK / n
    n_parts = int(np.clip(np.ceil(_ENOUGH_HELD_BACK / (size * n)), 1, _MOST_PARTS))
    if groups is None:
        splits = KFold(_MOST_PARTS, shuffle=True, random_state=random_state).split(np.zeros(n))
        if n_parts == 1:
            splits = ShuffleSplit(1, test_size=size, random_state=random_state).split(np.zeros(n))
    else:
        n_parts = min(n_parts, len(np.unique(groups)))
        splits = GroupShuffleSplit(n_parts, test_size=size, random_state=random_state).split(np.zeros(n), groups=groups)
    parts, species = [], [frozenset(atoms.numbers.tolist()) for atoms in frames]
    for learned, held in islice(splits, n_parts):
        known = frozenset().union(*(species[k] for k in learned))
        unknown = np.array([not species[k] <= known for k in held])
        if unknown.all():
            raise ValueError("all structures that are held back have species of their own: use larger groups")
        # a group is not learned from in part
        order = np.random.default_rng(0).permutation([*learned, *([] if groups is not None else held[unknown])])
        first = _with_all_species(species, order)
        parts.append((np.concatenate([first, order[~np.isin(order, first)]]), held[~unknown]))
    return parts


def _with_all_species(species, order):
    """First structures of an order that have all of its species together."""
    seen: set[int] = set()
    first = []
    for k in order:
        if not species[k] <= seen:
            first.append(k)
            seen |= species[k]
    return np.array(first, dtype=int)


def extrapolated(errors, n):
    """Continue a learning curve, relative to its last error, up to n structures."""
    (few, before), (many, after) = errors
    if not after > 0:
        return [(few, 1.0), (many, 1.0), (n, 1.0)]
    return [(few, before / after), (many, 1.0), (n, float(_growth(before, after, (few, many, n))))]


def _growth(before, after, sizes):
    """Factor from the second to the third size on the power law through errors at the first and the second."""
    few, many, n = sizes
    ratio = np.maximum(before, _TINY) / np.maximum(after, _TINY)
    return (many / n) ** np.clip(np.log(ratio) / np.log(many / few), 0.0, _STEEPEST)


def _resampled(y, predicted):
    """Root mean squares of the errors of further samples, the same ones for all predictions."""
    pairs = paired_rows(y, predicted)
    _, squares, counts = squares_of_structures(pairs, pairs.true - pairs.pred)
    drawn = np.random.default_rng(1).integers(len(counts), size=(RESAMPLINGS, len(counts)))
    return np.sqrt(squares[drawn].sum(axis=1) / counts[drawn].sum(axis=1))


def _as_labels(y):
    """Labels that can be picked: an array, or for per-atom targets an object array."""
    if is_by_structure(y):
        whole = np.empty(len(y), dtype=object)
        whole[:] = list(y)
        return whole
    return np.asarray(y)


def measured(model, y, predicted, target, how, curve, rmse_of_forces=None, numbers=None, factors=1.0):
    """Errors of predictions, with the last factor of a curve relative to them, and how well it is known by factors."""
    target = target if target is not None else _target_of(model)
    pairs = paired_rows(y, predicted)
    factor, constant = curve[-1][1], np.broadcast_to(isotropic_mean(pairs.true), pairs.true.shape)
    _, squares, counts = squares_of_structures(pairs, pairs.true - pairs.pred)
    _, deviations, _ = squares_of_structures(pairs, pairs.true - constant)
    rmse = float(np.sqrt(squares.sum() / counts.sum()))
    others = factors * resampled_rmse(squares, counts, limit=largest_of_more(deviations / counts))
    interval = interval_of(factor * rmse, factor * others)
    irreps, spreads = (irrep_rmse(pairs.true, other, target=target) for other in (pairs.pred, constant))
    return ExpectedError(
        factor * rmse, standard_error_of(factor * rmse, interval), frobenius_rmse(pairs.true, constant),
        {key: factor * value for key, value in irreps.items()}, spreads, len(counts),
        [(n, part * rmse) for n, part in curve], how, rmse_of_forces, ErrorTail.of(pairs, numbers, factor), interval,
    )  # fmt: skip


def _target_of(model):
    try:
        return target_of(model)
    except TypeError:  # a model of others
        return None
