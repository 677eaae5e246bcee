"""Fitting of a network: random starts, the solver and its batches, the time that they may take, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eqkernels._warnings import warn
from eqkernels.learned.architectures import Architecture
from eqkernels.learned.graph import Graph
from eqkernels.learned.optimizers import Monitor, train_adam, train_lbfgs
from eqkernels.learned.parameters import NetworkParameters
from eqkernels.learned.reports import Report
from eqkernels.learned.symmetric_samples import with_counts
from eqkernels.learned.targets import Target
from eqkernels.learned.training import Loss, Model, Packing, TrainingSet, count_held, initial_vector, split_by_size
from eqkernels.structures import StructureBatch, find_neighbors

# With more training structures than this, solver="auto" takes mini-batches: the errors of dipoles and polarizabilities
# after the same seconds are then a tenth to a third smaller; with fewer structures they are about equal.
_LBFGS_STRUCTURES = 100
# The work of structures is counted in edges and atoms. So much goes through the network together in training: the
# radial functions of all paths take some kilobytes an edge. So much is kept for the gradient, what is more is computed
# again; with more, solver="auto" takes mini-batches too.
_WORK_KEPT = 2**17
# A part goes through the network at once; threads share the parts.
_WORK_PER_PART = 2**13
# Structures in a batch of Adam, if batch_size does not say.
_BATCH = 32
# A batch of Adam is so large (a few tenths of a second), or a few structures, whatever their size: it is from
# differences between structures that their labels are learned. Per-atom targets differ within one.
_WORK_PER_BATCH = 2**15
_FEWEST_IN_BATCH = 4
# So many settle the noises after mini-batches.
_STRUCTURES_FOR_NOISE = 3000
_WORK_FOR_NOISE = 2**20
# Atoms that the scales of features, and the start of a contraction, are computed from (at least one structure).
_ATOMS_TO_SCALE = 3000
# Iterations without a time budget, if max_iter does not say.
_ITERATIONS = 200
# What is left to do after training, features without their gradients and small factorizations, in units of a step of
# training on the same structures.
_AFTER = 0.7
# Operations in a second of the factorizations of all structures after training, which are large with many elements.
_OPERATIONS_PER_SECOND = 1.5e10


@dataclass
class Fit:
    """Training of one network on one set of structures.

    Parameters
    ----------
    network : EquivariantNetwork
        Its parameters are read, nothing else, and not changed.
    architecture : MessagePassing or ClusterExpansion
    batch : StructureBatch
    targets : list of Target
    make_graph : callable
        Graph of a batch.
    begin : float
        CPU time at which the fit began, of which ``time_budget`` is counted.
    readout : bool
        Whether the features of all structures are needed afterwards, within the time budget.
    """

    network: NetworkParameters
    architecture: Architecture
    batch: StructureBatch
    targets: list[Target]
    make_graph: Callable[..., Graph]
    begin: float
    readout: bool

    def __post_init__(self):
        n_sampled = int(np.searchsorted(self.batch.offsets, _ATOMS_TO_SCALE, side="right")) - 1
        self.sample = self.make_graph(self.batch.select(0, max(1, n_sampled)))
        self.teaches = any(target.values.any() for target in self.targets)
        budget, iterations = self.network.time_budget, self.network.max_iter
        self.budget = None if budget is None else float(budget)
        unlimited = _ITERATIONS if budget is None else np.inf
        self.max_iter = unlimited if iterations is None else iterations

    def run(self, random, neighbor_scale, previous=None):
        """Train from random weights, or from those of an earlier fit.

        Parameters
        ----------
        random : RandomState
        neighbor_scale : float
        previous : tuple of dict, default=None
            Weights, scales and noises to go on from.

        Returns
        -------
        dict of str to object
            Attributes of the fitted network.
        """
        model = Model(self.architecture, float(neighbor_scale), {})
        trains = self.max_iter > 0 and self.teaches
        if trains:
            self.work = work_of_structures(self.batch, self.network.cutoff)
        best, self.n_runs = None, 1 if previous is not None else int(self.network.n_init)
        for k in range(self.n_runs):
            if best is not None and self._is_over(best.monitor):
                break
            one = self._one(random, model, previous, self.n_runs - k, trains)
            best = one if best is None or one.value < best.value else best
            if one.monitor is not None and one.monitor.interrupted:
                warn(
                    f"training was interrupted in iteration {len(one.monitor.history['loss']) + 1}: the best weights "
                    "so far are kept"
                )
                break
        return self._state(best)

    def _is_over(self, monitor):
        """Whether the time does not suffice for a step of another run and what follows."""
        if self.budget is None or monitor is None:
            return False
        return monitor.elapsed + monitor.seconds_of(self.step + self.after) > self.budget

    def _one(self, random, model, previous, runs_left, trains):
        if previous is None:
            weights, atoms = model.architecture.initial_weights(random, self.sample), np.arange(self.sample.n_atoms)
            model = Model(model.architecture, model.neighbor_scale, {})
            model.set_scales(weights, self.sample, [target.pick(atoms) for target in self.targets])
        else:
            weights, scales = previous[:2]
            model = Model(model.architecture, model.neighbor_scale, scales)
        packing, names = Packing(weights), [target.name for target in self.targets]
        start = initial_vector(packing, weights, names, {} if previous is None else previous[2])
        if not trains:
            return _Run(np.inf, start, model, packing, None, None)
        if runs_left == self.n_runs:
            self.targets = with_counts(model, weights, self.targets, self._parts())
        return self._minimize(model, packing, start, random, runs_left)

    def _parts(self):
        """All structures in their order, part by part, as graphs, their targets, and the structure of each atom."""
        data = TrainingSet(self.batch, self.targets, self.make_graph, self.work, _WORK_PER_PART)
        for block in split_by_size(np.arange(self.batch.n_structures), self.work, _WORK_PER_PART):
            for graph, targets in data.parts(block):
                yield graph, targets, np.repeat(block, np.diff(self.batch.offsets)[block])

    def _minimize(self, model, packing, start, random, runs_left):
        network, n_structures = self.network, self.batch.n_structures
        order = random.permutation(n_structures)
        n_held = count_held(n_structures, network.validation_fraction) if network.early_stopping else 0
        held, kept = order[:n_held], np.sort(order[n_held:])
        data = TrainingSet(self.batch, self.targets, self.make_graph, self.work, _WORK_PER_PART)

        def loss_of(picked, objective=network.objective):
            keeps = self.work[picked].sum() <= _WORK_KEPT
            rest = float(network.weight_decay), start, keeps, network.n_jobs
            return Loss(model, packing, data.parts(picked), objective, *rest)

        full = network.solver == "lbfgs" or (network.solver == "auto" and self._few(kept))
        for_noise = None if full else self._for_noise(order[n_held:])
        validate = loss_of(np.sort(held), "loo").objective_value if n_held else None
        count = 1 if full else max(1, round(len(kept) / self._batch_size(kept)))
        report = self._report(runs_left, count)
        monitor = Monitor(self.max_iter, None, validate, int(network.n_iter_no_change), report, self.begin)
        self.step = self.work[kept].sum() / count
        self.after = _AFTER * (self.readout * self.work.sum() + (0 if full else self.work[for_noise].sum()))
        if self.budget is not None:
            monitor.limit(self.budget - _seconds_of_factorizations(self.targets, model.scales), runs_left, self.after)
        if full:
            vector = train_lbfgs(loss_of(kept), start, len(self.targets), monitor)
            return _Run(monitor.best_value, vector, model, packing, monitor, None)

        def batches(epoch):
            for picked in np.array_split(random.permutation(kept), count):
                yield loss_of(np.sort(picked))

        vector = train_adam(batches, start, len(self.targets), monitor, float(network.learning_rate))
        return _Run(monitor.best_value, vector, model, packing, monitor, lambda: loss_of(for_noise))

    def _report(self, runs_left, steps_per_iteration):
        run, n_steps = self.n_runs - runs_left + 1, self.max_iter * steps_per_iteration
        rest = self.n_runs, n_steps, self.budget, self.network.verbose
        return Report("EquivariantNetwork", self.batch.n_structures, run, *rest)

    def _few(self, kept):
        return len(kept) <= _LBFGS_STRUCTURES and self.work[kept].sum() <= _WORK_KEPT

    def _batch_size(self, kept):
        """Structures in a batch: those asked for, or as many as make a step of bounded length."""
        wanted = _BATCH if self.network.batch_size is None else int(self.network.batch_size)
        of_atoms = all(target.per_atom for target in self.targets)
        fewest = min(wanted, 1 if of_atoms else _FEWEST_IN_BATCH)
        size = min(wanted, max(fewest, int(_WORK_PER_BATCH / self.work[kept].mean())))
        # of a structure alone nothing is left to predict when it is left out
        return max(size, 2) if self.network.objective == "loo" and not of_atoms else size

    def _for_noise(self, kept):
        within = np.cumsum(self.work[kept]) <= max(_WORK_FOR_NOISE, self.work[kept[0]])
        return np.sort(kept[within][:_STRUCTURES_FOR_NOISE])

    def _state(self, run):
        model, packing, vector = run.model, run.packing, run.vector
        if run.noise_loss is not None:
            vector = run.noise_loss().with_best_noises(vector)
        weights = {name: array.copy() for name, array in packing.unpack(vector[: packing.size]).items()}
        model.enlarge_constant(weights, self.sample)
        names = [target.name for target in self.targets]
        history = {"loss": [], "validation": [], "cpu_time": []} if run.monitor is None else run.monitor.history
        return {
            "weights_": weights,
            "scales_": model.scales,
            "noise_": dict(zip(names, np.exp(vector[packing.size :]).tolist(), strict=True)),
            "history_": {key: np.array(values) for key, values in history.items()},
            "n_iter_": len(history["loss"]),
            "loss_": float(history["loss"][-1]) if history["loss"] else 0.0,
        }


@dataclass
class _Run:
    """One training: its loss (validation error), vector, and the loss that settles noises after mini-batches."""

    value: float
    vector: np.ndarray
    model: Model
    packing: Packing
    monitor: Monitor | None
    noise_loss: Callable[[], Loss] | None


def _seconds_of_factorizations(targets, scales):
    """Seconds that the noises and the readout of labels of structures take; those of atoms are small problems."""
    operations = 0.0
    for target in targets:
        if not target.per_atom:
            few, many = sorted([target.values.shape[0] * target.values.shape[1], scales[str(target.irrep)].size])
            operations += 4.0 * many * few**2 + 20.0 * few**3
    return operations / _OPERATIONS_PER_SECOND


def work_of_structures(batch, cutoff):
    """Edges and atoms of each structure, which the time and the memory of a network grow with."""
    sizes, work = np.diff(batch.offsets), []
    for block in split_by_size(np.arange(batch.n_structures), sizes, _ATOMS_TO_SCALE):
        part = batch.select(block[0], block[-1] + 1)
        work.append(np.diff(find_neighbors(part, float(cutoff)).offsets[part.offsets]) + np.diff(part.offsets))
    return np.concatenate(work)
