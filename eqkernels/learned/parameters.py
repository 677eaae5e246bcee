"""Parameters of a network: what they mean, and their checks."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from eqkernels.learned.objectives import OBJECTIVES
from eqkernels.regression.baseline import BASELINES

NETWORK_PARAMETERS = """cutoff : float, default=6.0
        Distance up to which atoms are neighbors; each layer of message passing sees so much further.
    architecture : {"message_passing", "ace"}, default="message_passing"
        Layers of convolutions with learned radial functions, or products of up to ``body_order`` densities with learned
        radial and chemical contraction, which are several times cheaper and need no communication between atoms.
    channels : int, default=16
        Features of each irrep in each layer or order.
    l_max : int, default=2
        Highest degree of harmonics and features inside, at most 4.
    n_layers : int, default=2
        Layers of message passing.
    products : bool, default=True
        Whether the layers of message passing multiply messages with each other: they see angles earlier.
    body_order : int, default=3
        Number of densities that are multiplied with ``architecture="ace"``, 1 to 4.
    n_radial : int, default=6
        Radial basis functions.
    n_hidden : int, default=16
        Hidden units of the radial functions of message passing.
    target : str, CartesianTensor or dict, default=None
        The property, e.g. ``"polarizability"``, or its index symmetry, ``"ij=ji"``; None: found from y.
    baseline : {"composition", "mean", None}, default="composition"
        What is subtracted from the scalar part of the labels before training.
    aggregate : {"sum", "mean"}, default="sum"
        Whether the target is a sum of atomic contributions, or their mean. No effect for labels of atoms.
    objective : {"lml", "loo"}, default="lml"
        Loss: negative log marginal likelihood of the readout, or its leave-one-out error.
    solver : {"auto", "lbfgs", "adam"}, default="auto"
        L-BFGS on all structures at once, or Adam on batches; "auto": Adam above 100 structures, or above 131072 edges
        (pairs of neighbors, both directions) and atoms in all.
    max_iter : int, default=None
        Iterations of L-BFGS, or epochs of Adam; None: 200, or with a ``time_budget`` as many as it allows.
    time_budget : float, default=None
        CPU seconds (of all threads) that the whole fit may take, reading, all ``n_init`` runs and the readout included:
        training uses what these leave, unless L-BFGS converges, early stopping or ``max_iter`` ends it. Training goes
        on for one step at least. The result then depends on the speed of the machine; without it, the same
        ``random_state`` gives the same weights to the last bit.
    learning_rate : float, default=0.01
        Of Adam, at the start: it falls to a hundredth over ``max_iter`` epochs, or over the time budget.
    batch_size : int, default=32
        Structures in a batch of Adam. Smaller ones make more steps of an epoch. Fewer are taken, but four, where they
        have more than 32768 edges and atoms. With ``objective="loo"``, two structures at least.
    weight_decay : float, default=1e-4
        Strength of the pull of the weights to their random start. Larger learns less, which few data may need.
    early_stopping : bool, default=False
        Hold structures back, and keep the weights with the smallest leave-one-out error on them.
    validation_fraction : float, default=0.1
        Part that is held back.
    n_iter_no_change : int, default=20
        Iterations without improvement after which early stopping ends the training.
    n_init : int, default=1
        Number of random starts; the one with the smallest loss (validation error) is kept.
    warm_start : bool, default=False
        Start from the weights of the last fit.
    handle_unknown : {"error", "ignore"}, default="error"
        What to do with an atom of a species that was not seen at fit: raise an error that names it, or leave it out,
        as a center and as a neighbor, of features and predictions (of labels of atoms, its row is NaN). Training always
        refuses it.
    random_state : int, RandomState or None, default=None
        Seed of weights, batches and validation structures.
    n_jobs : int, default=None
        Threads of ``transform``, with joblib's meaning.
    verbose : int, default=0
        If positive, training reports its progress on standard error.
    per_atom : bool or dict, default=None
        Whether y (or each property of it) belongs to atoms; None: what the target says, or the only way in which it can
        be read."""


_INTEGERS = {
    "channels": (1, 1024),
    "l_max": (0, 4),
    "n_layers": (1, 8),
    "body_order": (1, 4),
    "n_radial": (1, 50),
    "n_hidden": (1, 1024),
    "batch_size": (1, 10**9),
    "n_init": (1, 10**6),
    "n_iter_no_change": (1, 10**9),
}
# Far beyond what neighbors are for, in any unit of length that positions come in.
_LARGEST_CUTOFF = 1000.0
_CHOICES = {
    "architecture": ("message_passing", "ace"),
    "solver": ("auto", "lbfgs", "adam"),
    "objective": tuple(OBJECTIVES),
    "aggregate": ("sum", "mean"),
    "baseline": BASELINES,
    "handle_unknown": ("error", "ignore"),
}


def check_parameters(network):
    """Refuse parameters that are out of range, all at once."""
    problems = [*_number_problems(network), *_choice_problems(network)]
    if problems:
        raise ValueError(f"{type(network).__name__}: " + "; ".join(problems))


def _number_problems(network):
    limits = _INTEGERS if network.max_iter is None else {**_INTEGERS, "max_iter": (0, 10**9)}
    for name, (low, high) in limits.items():
        value = getattr(network, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
            yield f"{name}={value!r} must be an integer between {low} and {high}"
    for name in ("cutoff", "learning_rate", *(["time_budget"] if network.time_budget is not None else [])):
        if not _is_number(getattr(network, name)) or getattr(network, name) <= 0:
            yield f"{name}={getattr(network, name)!r} must be a positive, finite number"
    if _is_number(network.cutoff) and network.cutoff > _LARGEST_CUTOFF:
        yield f"cutoff={network.cutoff!r} must not exceed {_LARGEST_CUTOFF:g}: check its unit, that of the positions"
    if not _is_number(network.weight_decay) or network.weight_decay < 0:
        yield f"weight_decay={network.weight_decay!r} must be a finite number, zero or positive"
    if not _is_number(network.validation_fraction) or not 0 < network.validation_fraction < 1:
        yield f"validation_fraction={network.validation_fraction!r} must be a number between 0 and 1"


def _choice_problems(network):
    for name in ("products", "early_stopping", "warm_start"):
        if not isinstance(getattr(network, name), bool | np.bool_):
            yield f"{name}={getattr(network, name)!r} must be True or False"
    for name, allowed in _CHOICES.items():
        value = getattr(network, name)
        if not (value is None or isinstance(value, str)) or value not in allowed:
            yield f"{name}={getattr(network, name)!r} must be one of {allowed}"


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(value)
