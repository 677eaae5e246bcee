"""Parameters of a network: what they mean, and their checks."""

from __future__ import annotations

from eqkernels._parameters import Choice, Flag, Integer, Jobs, Number, Verbosity
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


NETWORK_CONSTRAINTS = {
    # larger cutoffs are far beyond what neighbors are for, in any unit of length that positions come in
    "cutoff": Number(above=0, high=1000.0, why=": check its unit, that of the positions"),
    "architecture": Choice("message_passing", "ace"),
    "channels": Integer(1, 1024),
    "l_max": Integer(0, 4),
    "n_layers": Integer(1, 8),
    "products": Flag(),
    "body_order": Integer(1, 4),
    "n_radial": Integer(1, 50),
    "n_hidden": Integer(1, 1024),
    "baseline": Choice(*BASELINES),
    "aggregate": Choice("sum", "mean"),
    "objective": Choice(*OBJECTIVES),
    "solver": Choice("auto", "lbfgs", "adam"),
    "max_iter": Integer(0, 10**9, none=True),
    "time_budget": Number(above=0, none=True),
    "learning_rate": Number(above=0),
    "batch_size": Integer(1, 10**9),
    "weight_decay": Number(low=0),
    "early_stopping": Flag(),
    "validation_fraction": Number(above=0, below=1),
    "n_iter_no_change": Integer(1, 10**9),
    "n_init": Integer(1, 10**6),
    "warm_start": Flag(),
    "handle_unknown": Choice("error", "ignore"),
    "n_jobs": Jobs(),
    "verbose": Verbosity(),
}
