"""Which model to take for data, and why.

What decides is how much there is to learn from, how many kinds of molecules or crystals it is made of, and what is
wanted of the model:

- exact Gaussian processes are the most accurate with few data, and have error bars; their cost grows with the third
  power of the number of components (structures times 2 lambda + 1);
- sparse Gaussian processes take any number of structures, and forces;
- networks learn features too, which takes some hundred labels and minutes; where they could be the more accurate ones,
  both are fitted to a part of the data, and compared by their errors on structures that were held back, with the mean
  of the labels too.

The descriptor and the exponent of the kernel are those with the smallest leave-one-out error on a part of the data, of
the candidates of :class:`~eqkernels.AutoTensorRegressor`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from eqkernels._parameters import is_number
from eqkernels.automatic.facts import LARGEST_EXACT, choose_aggregate, read_facts
from eqkernels.automatic.kernel_search import KernelSearch
from eqkernels.automatic.labelled_structures import Labelled
from eqkernels.descriptors.input_parameters import InputKinds
from eqkernels.learned import EquivariantNetworkRegressor
from eqkernels.metrics import isotropic_mean
from eqkernels.regression import SparseTensorGPR, TensorCommittee, TensorGPR
from eqkernels.so3 import CartesianTensor
from eqkernels.structures import as_list, by_structure
from eqkernels.structures.inputs import input_kinds, with_inputs
from eqkernels.validation import held_back_errors

# Fewest structures, or labelled atoms, from which a network may be the more accurate one.
_FEWEST_FOR_NETWORK = 300
# Structures on which they are compared, and seconds for the network at most.
_COMPARED, _SECONDS = 500, 30.0
# Components on which descriptors and kernels are compared.
_PROBED_COMPONENTS = 600
# Sparse points, and operations (rows of equations times the square of the points) up to which energies with forces have
# as many as the second: some minutes. An atom has a row for each component of its force.
_POINTS, _OPERATIONS = (1000, 2000), 2e11
_MINUTES, _MEMBERS = 2.0, 4


@dataclass(frozen=True)
class Recommendation:
    """A model and the reasons for it.

    Attributes
    ----------
    model : estimator
        Not fitted; it takes frames.
    reasons : list of str
        One sentence for each choice.
    """

    model: Any
    reasons: list[str]

    def __str__(self):
        return "\n".join([repr(self.model), *(f"- {reason}" for reason in self.reasons)])


def recommend(
    frames: Any,
    y: Any,
    *,
    target: str | CartesianTensor | None = None,
    per_atom: bool | None = None,
    forces: bool = False,
    minutes: float | None = None,
    n_jobs: int | None = None,
    random_state: Any = 0,
    verbose: int = 0,
    inputs: dict[str, str] | None = None,
) -> Recommendation:
    """Recommend a model for data.

    Parameters
    ----------
    frames : sequence of ase.Atoms
    y : array-like of shape (n_structures, 3, ..., 3), or list of array-like of shape (n_atoms, 3, ..., 3)
    target : str or CartesianTensor, default=None
        Name of the property or its index symmetry; None: found from y.
    per_atom : bool, default=None
        Whether y belongs to atoms; None: as the target or y says.
    forces : bool, default=False
        Whether the model is to be fitted to forces too, or to predict them: y are energies.
    minutes : float, default=None
        Time for networks, which learn more in more time; None: two minutes.
    n_jobs : int, default=None
    random_state : int, RandomState or None, default=0
    verbose : int, default=0
        If positive, say on standard error what is being compared.
    inputs : dict of str to str, default=None
        Inputs beyond the geometry, as of :class:`LambdaSOAP`.

    Returns
    -------
    Recommendation
        ``recommend(frames, y).model.fit(frames, y)``; printed, it shows the reasons.

    Raises
    ------
    TypeError, ValueError
        If frames or labels are unusable, as in ``fit`` of all models.

    See Also
    --------
    eqkernels.validation.expected_error : What error the model will make.

    Examples
    --------
    >>> from eqkernels.datasets import load_water_clusters
    >>> data = load_water_clusters()
    >>> advice = recommend(data.frames[:60], data.dipole[:60], target="dipole")
    >>> type(advice.model).__name__, advice.model.target
    ('TensorGPR', 'dipole')
    """
    if minutes is not None and not (is_number(minutes) and minutes > 0):
        raise ValueError(f"minutes={minutes!r} must be a positive number")
    facts = read_facts(as_list(frames), y, target, per_atom)
    inputs = None if inputs is None else _checked_inputs(inputs, facts.frames)
    aggregate, why_aggregate = choose_aggregate(facts, target)
    shared = {"target": target, "per_atom": per_atom, "aggregate": aggregate}
    parts, why_descriptor = _parts(facts, aggregate, n_jobs, verbose, inputs)
    if forces or facts.largest > LARGEST_EXACT:
        model = SparseTensorGPR(_n_points(facts, forces), random_state=random_state, n_jobs=n_jobs, **parts, **shared)
        why = "SparseTensorGPR: forces need its derivatives" if forces else (
            f"SparseTensorGPR: {facts.largest} components are too many for an exact Gaussian process "
            f"(at most {LARGEST_EXACT})"
        )  # fmt: skip
    else:
        model = TensorGPR(random_state=random_state, **parts, **shared)
        why = (
            f"TensorGPR: with {facts.n_structures} structures of {facts.n_compositions} compositions an exact Gaussian "
            "process is accurate, and has error bars"
        )
    if not forces and facts.n_labels >= _FEWEST_FOR_NETWORK:
        network, seconds = _network(minutes, random_state, n_jobs, {**shared, "inputs": inputs})
        errors = _compared(facts, model, network.estimator, random_state, verbose)
        names = type(model).__name__, "EquivariantNetworkRegressor", "mean of the labels"
        listed = ", ".join(f"{name} {error:.3g}" for name, error in zip(names, errors, strict=False))
        compared, best = f"errors on structures held back: {listed}", int(np.argmin(errors))
        if best == 1:
            why = f"{names[1]}: {_MEMBERS} of them, {seconds:.0f} s each, for error bars"
            return Recommendation(network, [why, compared, *why_aggregate])
        if best == 2:
            model.set_params(baseline="mean")
            compared += ": nothing is learned that carries over to other structures, check the labels"
        return Recommendation(model, [why, compared, why_descriptor, *why_aggregate])
    return Recommendation(model, [why, why_descriptor, *why_aggregate])


def _n_points(facts, forces):
    """Sparse points: forces say more than what the fewest of them can express."""
    few, many = _POINTS
    most = int(np.clip(np.sqrt(_OPERATIONS / (3 * facts.n_centers)), few, many)) if forces else few
    return min(most, facts.n_centers)


def _network(minutes, random_state, n_jobs, shared):
    """Committee of networks, and the seconds that each may take."""
    shared = {**shared, "aggregate": shared["aggregate"] or "sum"}
    seconds = 60 * (_MINUTES if minutes is None else minutes) / _MEMBERS
    network = EquivariantNetworkRegressor(time_budget=seconds, random_state=random_state, **shared)
    committee = TensorCommittee(
        network, n_estimators=_MEMBERS, max_samples=0.8, random_state=random_state, n_jobs=n_jobs,
        per_atom=shared["per_atom"],
    )  # fmt: skip
    return committee, seconds


def _compared(facts, model, network, random_state, verbose):
    """Errors of a model, of a network and of the mean, on a part of the data."""
    some = np.random.default_rng(0).permutation(facts.n_structures)[:_COMPARED]
    network = clone(network).set_params(time_budget=min(network.time_budget, _SECONDS))
    frames, labels = [facts.frames[k] for k in some], facts.labels[some]
    models = [clone(one).set_params(target=facts.tensor, per_atom=facts.per_atom) for one in (model, network)]
    models.append(_Mean(facts.per_atom))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return held_back_errors(models, frames, labels, random_state=random_state, verbose=verbose)


def _checked_inputs(inputs, frames):
    """Check that all structures have the inputs beyond the geometry."""
    problem = InputKinds().problem(inputs)
    if problem is not None:
        raise ValueError(f"inputs={inputs!r} {problem}")
    with_inputs(frames, input_kinds(inputs))
    return inputs


def _parts(facts, aggregate, n_jobs, verbose, inputs):
    """Descriptor and kernel with the smallest leave-one-out error on a part of the data."""
    options = {"target": facts.tensor, "per_atom": facts.per_atom, "aggregate": aggregate}
    search = KernelSearch(
        Labelled(facts.frames, facts.labels), np.random.default_rng(0).permutation(facts.n_structures),
        facts.largest / facts.n_structures, options, facts.n_species, n_jobs=n_jobs,
        bounds=(_PROBED_COMPONENTS, _PROBED_COMPONENTS), verbose=verbose, inputs=inputs,
    )  # fmt: skip
    best = search.run()
    errors = np.sort([one["rmse"] for one in search.tried])
    n = search.tried[0]["n_structures"]
    return best.parts(aggregate, n_jobs), (
        f"{best}: smallest leave-one-out error on {n} structures, {errors[0]:.3g}, of {len(errors)}, up to "
        f"{errors[-1]:.3g}"
    )


class _Mean(BaseEstimator):
    """The mean of the labels, of which models have to be better."""

    def __init__(self, per_atom):
        self.per_atom = per_atom

    def fit(self, frames, y):
        values = np.concatenate(list(y)) if self.per_atom else y
        self.mean_ = isotropic_mean(values[np.isfinite(values.reshape(len(values), -1)).all(axis=1)])
        return self

    def predict(self, frames):
        whole = np.broadcast_to(
            self.mean_, (sum(map(len, frames)) if self.per_atom else len(frames), *self.mean_.shape)
        )
        return by_structure(whole, np.array([len(atoms) for atoms in frames])) if self.per_atom else whole
