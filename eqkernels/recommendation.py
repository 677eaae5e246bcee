"""Which model to take for data, and why.

What decides is how much there is to learn from, how many kinds of molecules or crystals it is made of, and what is
wanted of the model:

- exact Gaussian processes are the most accurate with few data, and have error bars; their cost grows with the third
  power of the number of components (structures times 2 lambda + 1);
- sparse Gaussian processes take any number of structures, and forces;
- networks learn features too, which takes some hundred labels and minutes; where they could be the more accurate ones,
  both are fitted to a part of the data, and compared by their errors on structures that were held back.

The cutoff and the radial functions are those of a few candidates with the smallest leave-one-out error on a part of the
data.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from eqkernels._parameters import is_number
from eqkernels._progress import Meter
from eqkernels.descriptors import LambdaSOAP
from eqkernels.descriptors.input_parameters import InputKinds
from eqkernels.learned import EquivariantNetworkRegressor
from eqkernels.regression import SparseTensorGPR, TensorCommittee, TensorGPR, TensorKernelRidge
from eqkernels.so3 import CartesianTensor
from eqkernels.so3.properties import find_property
from eqkernels.structures import StructureBatch, as_list, atom_counts, read_labels
from eqkernels.structures.inputs import input_kinds, with_inputs
from eqkernels.validation import held_back_errors

# Components of an irrep up to which an exact Gaussian process is fitted within a minute on one core.
LARGEST_EXACT = 3500
# Fewest structures, or labelled atoms, from which a network may be the more accurate one.
_FEWEST_FOR_NETWORK = 300
# Structures on which they are compared, and seconds for the network at most.
_COMPARED, _SECONDS = 500, 30.0
# More elements than this share channels, of which there are so many.
_SPECIES, _CHANNELS = 6, 4
# Structures and components on which candidates are compared.
_PROBED, _PROBED_COMPONENTS = 150, 600
_POINTS = 1000
_MINUTES, _MEMBERS = 2.0, 4
# Candidates, of which the first is the default.
_DESCRIPTORS: tuple[dict[str, Any], ...] = (
    {"cutoff": 5.0},
    {"cutoff": 4.0, "n_max": 5, "l_max": 3},
    {"cutoff": 6.5, "n_max": 8, "sigma": 0.5, "scaling_scale": 3.0, "scaling_exponent": 4.0},
)
_INTENSIVE = {"band_gap", "dielectric", "stress", "elastic", "piezoelectric", "second_harmonic", "conductivity",
              "thermal_expansion", "polarization", "g_tensor"}  # fmt: skip


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
    descriptor, why_descriptor = _descriptor(facts, aggregate, verbose, inputs)
    descriptor.set_params(n_jobs=n_jobs)
    if forces or facts.largest > LARGEST_EXACT:
        model = SparseTensorGPR(
            min(_POINTS, facts.n_centers), descriptor=descriptor, random_state=random_state, n_jobs=n_jobs, **shared
        )
        why = "SparseTensorGPR: forces need its derivatives" if forces else (
            f"SparseTensorGPR: {facts.largest} components are too many for an exact Gaussian process "
            f"(at most {LARGEST_EXACT})"
        )  # fmt: skip
    else:
        model = TensorGPR(descriptor=descriptor, random_state=random_state, **shared)
        why = (
            f"TensorGPR: with {facts.n_structures} structures of {facts.n_compositions} compositions an exact Gaussian "
            "process is accurate, and has error bars"
        )
    if not forces and facts.n_labels >= _FEWEST_FOR_NETWORK:
        network, seconds = _network(minutes, random_state, n_jobs, {**shared, "inputs": inputs})
        errors = _compared(facts, model, network.estimator, random_state, verbose)
        names = type(model).__name__, "EquivariantNetworkRegressor"
        compared = f"errors on structures held back: {names[0]} {errors[0]:.3g}, {names[1]} {errors[1]:.3g}"
        if errors[1] < errors[0]:
            why = f"{names[1]}: {_MEMBERS} of them, {seconds:.0f} s each, for error bars"
            return Recommendation(network, [why, compared, *why_aggregate])
        return Recommendation(model, [why, compared, why_descriptor, *why_aggregate])
    return Recommendation(model, [why, why_descriptor, *why_aggregate])


@dataclass(frozen=True)
class _Facts:
    """What decides: see the names."""

    n_atoms: np.ndarray
    frames: list[Any]
    y: Any
    target: Any
    per_atom: bool
    tensor: CartesianTensor
    n_labels: int
    n_compositions: int
    n_species: int
    norms: np.ndarray
    labels: np.ndarray

    @property
    def n_structures(self):
        return len(self.frames)

    @property
    def n_centers(self):
        return int(self.n_atoms.sum())

    @property
    def largest(self):
        """Components of the largest irrep."""
        return self.n_labels * max(irrep.dim for _, irrep in self.tensor.irreps)


def read_facts(frames, y, target, per_atom):
    """Read frames and labels, and what decides about models of them."""
    n_atoms = atom_counts(StructureBatch.from_frames(frames))
    labels = read_labels(y, n_atoms, target, per_atom)
    formulas = {tuple(np.unique(atoms.numbers, return_counts=True)[0]) + tuple(
        np.unique(atoms.numbers, return_counts=True)[1]) for atoms in frames}  # fmt: skip
    norms = np.linalg.norm(labels.values.reshape(len(labels.values), -1), axis=1)
    return _Facts(
        n_atoms, frames, y, target, labels.per_atom, labels.tensor, len(labels.values), len(formulas),
        len({int(number) for atoms in frames for number in atoms.numbers}), norms, labels.given(),
    )  # fmt: skip


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
    """Errors of a model and of a network on a part of the data."""
    some = np.random.default_rng(0).permutation(facts.n_structures)[:_COMPARED]
    network = clone(network).set_params(time_budget=min(network.time_budget, _SECONDS))
    frames, y = [facts.frames[k] for k in some], [facts.y[k] for k in some]
    models = [clone(one).set_params(target=facts.tensor, per_atom=facts.per_atom) for one in (model, network)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = y if facts.per_atom else np.asarray(y)
        return held_back_errors(models, frames, labels, random_state=random_state, verbose=verbose)


def choose_aggregate(facts, target):
    """Choose the sum or mean over atoms, for targets of structures of different sizes."""
    if facts.per_atom or len(np.unique(facts.n_atoms)) == 1:
        return None, []
    known = find_property(target) if isinstance(target, str) else None
    if known is not None and known.name in _INTENSIVE:
        return "mean", [f"aggregate='mean': {known.name} does not grow with the structure"]
    if known is not None and known.name != "energy":
        return None, []
    slope = np.polyfit(np.log(facts.n_atoms), np.log(np.maximum(facts.norms, 1e-300)), 1)[0]
    if slope < 0.5 and facts.tensor.formula != "i":
        return "mean", [f"aggregate='mean': the labels do not grow with the structures (n_atoms^{slope:.1f})"]
    return None, []


def species_channels(n_species: int) -> dict[str, Any]:
    """Parameters of descriptors by which more than a few elements share channels."""
    return {"n_species_channels": _CHANNELS} if n_species > _SPECIES else {}


def _checked_inputs(inputs, frames):
    """Check that all structures have the inputs beyond the geometry."""
    problem = InputKinds().problem(inputs)
    if problem is not None:
        raise ValueError(f"inputs={inputs!r} {problem}")
    with_inputs(frames, input_kinds(inputs))
    return inputs


def _descriptor(facts, aggregate, verbose, inputs):
    """Descriptor with the smallest leave-one-out error on a part of the data."""
    shared = {**species_channels(facts.n_species), **({} if inputs is None else {"inputs": inputs})}
    n = min(_PROBED, max(10, _PROBED_COMPONENTS * facts.n_structures // max(facts.largest, 1)))
    some = np.random.default_rng(0).permutation(facts.n_structures)[:n]
    frames, y = [facts.frames[k] for k in some], [facts.y[k] for k in some]
    errors, meter = [], Meter("comparison of descriptors", len(_DESCRIPTORS), "the candidates", verbose)
    for parameters in _DESCRIPTORS:
        model = TensorKernelRidge(
            descriptor=LambdaSOAP(**parameters, **shared), target=facts.tensor, per_atom=facts.per_atom,
            aggregate=aggregate,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            errors.append(-model.fit(frames, y if facts.per_atom else np.asarray(y)).best_score_)
        meter.advance(1)
    best = int(np.argmin(errors))
    words = ", ".join(f"{name}={value}" for name, value in {**_DESCRIPTORS[best], **shared}.items())
    listed = ", ".join(f"{error:.3g}" for error in errors)
    return LambdaSOAP(**_DESCRIPTORS[best], **shared), (
        f"LambdaSOAP({words}): smallest leave-one-out error of {len(errors)} on {len(some)} structures ({listed})"
    )
