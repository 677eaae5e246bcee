r"""Training of a network and its readout on tensors together with their derivatives, by Adam or L-BFGS.

Derivatives are linear in the readout too, but its closed form would need those of every feature by every coordinate.
So the readout is a weight like the others (:mod:`eqkernels.learned.derivative_loss`), in units in which random weights
give derivatives of the size of the labels. Adam's last steps are small, and then it is as good as solved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from eqkernels._warnings import warn
from eqkernels.learned.architectures import Architecture
from eqkernels.learned.derivative_loss import DerivativeLoss
from eqkernels.learned.derivative_targets import DerivativeTargets, composition
from eqkernels.learned.fitting import _WORK_PER_BATCH, _WORK_PER_PART, Fit, work_of_structures
from eqkernels.learned.graph import Graph
from eqkernels.learned.optimizers import Monitor, train_adam, train_lbfgs
from eqkernels.learned.parameters import NetworkParameters
from eqkernels.learned.reports import Report
from eqkernels.learned.training import Loss, Model, Packing, TrainingSet, count_held, initial_vector, split_by_size
from eqkernels.regression.baseline import fit_baseline

# Spread of the weights of the readout at the start, in units in which spread one gives derivatives as large as labels.
# From small ones the features learn more: errors of forces on other structures are a sixth smaller than from 0.3 (20
# cells of an alloy).
_READOUT_START = 0.01
# Structures that these units are measured on.
_STRUCTURES_FOR_UNITS = 50
# Structures in a batch, if batch_size does not say: each has many labels.
_BATCH = 5
# With more structures solver="auto" takes mini-batches: with 30 and 60, errors are smaller after the same time.
_LBFGS_STRUCTURES = 20
# What is left to do after training, in units of an epoch.
_AFTER = 0.3


@dataclass
class DerivativeFit:
    """Training of one network on labels with derivatives; parameters as of :class:`Fit`.

    Parameters
    ----------
    network : NetworkParameters
    architecture : MessagePassing or ClusterExpansion
    targets : DerivativeTargets
    make_graph : callable
    begin : float
        CPU time at which the fit began.
    """

    network: NetworkParameters
    architecture: Architecture
    targets: DerivativeTargets
    make_graph: partial[Graph]
    begin: float

    def __post_init__(self):
        self.batch = self.targets.batch
        # of it are the sample, the limits of iterations and of the time, and what is kept of a run
        self.plain = Fit(
            self.network,
            self.architecture,
            self.batch,
            self.targets.placeholders(self.network.aggregate),
            self.make_graph,
            self.begin,
            False,
        )
        self.sample = self.plain.sample

    def run(self, random, neighbor_scale, previous=None):
        """Train, as :meth:`Fit.run` does; last in ``previous`` are readout and baseline, or None."""
        self.work = work_of_structures(self.batch, self.network.cutoff) * self.targets.n_components
        self.plain.work = self.work
        n_runs, best = 1 if previous is not None else int(self.network.n_init), None
        for k in range(n_runs):
            one = self._one(random, float(neighbor_scale), previous, k, n_runs)
            best = one if best is None or one.monitor.best_value < best.monitor.best_value else best
            if one.monitor.interrupted:
                warn(f"training was interrupted in iteration {len(one.monitor.history['loss']) + 1}")
            if one.monitor.interrupted or self.plain._is_over(one.monitor):
                break
        return self._state(best, previous)

    def _one(self, random, neighbor_scale, previous, k, n_runs):
        model = Model(self.architecture, neighbor_scale, {})
        of_sample = [target.pick(np.arange(self.sample.n_atoms)) for target in self.plain.targets]
        weights = self.architecture.initial_weights(random, self.sample) if previous is None else previous[0]
        model.set_scales(weights, self.sample, of_sample)
        known = None if previous is None or previous[3] is None else self._rescaled(previous, model)
        readouts = {key: random.normal(size=self._shape(model, key)) for key in self.targets.irreps}
        arrays = {**weights, **{f"readout:{key}": one for key, one in readouts.items()}}
        run = _Run(model, Packing(arrays), None, None, np.ones(len(readouts)))
        run.units = self._units(run, run.packing.pack(arrays))
        for unit, key in zip(run.units, readouts, strict=True):
            arrays[f"readout:{key}"] = _READOUT_START * readouts[key] if known is None else known[key] / unit
        self._minimize(run, run.packing.pack(arrays), random, k, n_runs)
        return run

    def _rescaled(self, previous, model):
        """Readouts for the scales of a model of those for other scales, such as those with a large constant."""
        old, new = previous[1], model.scales
        return {key: array * (old[key] / new[key])[..., None] for key, array in previous[3][0].items()}

    def _shape(self, model, key):
        return model.n_kinds, model.scales[key].shape[1], self.targets.irreps[key]

    def _loss(self, run, start, picked, weight_decay=0.0):
        sizes = self.work[picked]
        few = sizes.sum() <= _WORK_PER_PART
        parts = [
            self.targets.samples(part, run.units).weighted(len(part) / len(picked))
            for part in ([picked] if few else split_by_size(picked, sizes, _WORK_PER_PART))
        ]
        rest = self.make_graph, self.targets.irreps, self.network.aggregate == "mean", start, weight_decay
        loss = DerivativeLoss(run.model, run.packing, parts, *rest, self.network.n_jobs)
        loss.work = sizes.sum()
        return loss

    def _units(self, run, start):
        """Sizes of the derivatives of the labels over those of a random readout, for each irrep."""
        labelled = np.isfinite(self.targets.slopes).any(axis=(1, 2))
        some = np.isfinite(self.targets.strains).any(axis=(1, 2))
        some[self.batch.structure_of_atom[labelled]] = True
        picked = np.flatnonzero(some)[:_STRUCTURES_FOR_UNITS]
        squares, kind = self.targets.squares, "slopes" if labelled.any() else "strains"
        predicted = self._loss(run, start, picked).predictions(start)[kind]
        of_components = np.tile(self.targets.irrep_of_component, len(picked))
        if kind == "slopes":
            of_components = np.repeat(
                of_components, np.repeat(np.diff(self.batch.offsets)[picked], self.targets.n_components)
            )
        found = np.array([np.mean(predicted[of_components == k] ** 2) for k in range(len(run.units))])
        return np.sqrt(squares[kind] / np.where(found > 0, found, squares[kind]))

    def _minimize(self, run, start, random, k, n_runs):
        network, n_structures = self.network, self.batch.n_structures
        order = random.permutation(n_structures)
        n_held = count_held(n_structures, network.validation_fraction) if network.early_stopping else 0
        held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
        full = network.solver == "lbfgs" or (network.solver == "auto" and len(kept) <= _LBFGS_STRUCTURES)
        count = 1 if full else max(1, round(len(kept) / self._batch_size(kept)))
        run.vector, run.monitor = start, self._monitor(run, start, held, k, n_runs, count, kept)
        if self.plain.max_iter == 0:
            return
        decay = float(network.weight_decay)
        if full:
            run.vector = train_lbfgs(self._loss(run, start, kept, decay), start, 0, run.monitor)
            return

        def batches(epoch):
            for picked in np.array_split(random.permutation(kept), count):
                yield self._loss(run, start, np.sort(picked), decay)

        run.vector = train_adam(batches, start, 0, run.monitor, float(network.learning_rate))

    def _monitor(self, run, start, held, k, n_runs, count, kept):
        network, validate = self.network, None
        if len(held):
            validate = self._loss(run, start, held).squares
        iterations = self.plain.max_iter
        rest = n_runs, iterations * count, self.plain.budget, network.verbose
        report = Report("EquivariantNetwork", self.batch.n_structures, k + 1, *rest)
        monitor = Monitor(max(iterations, 1), None, validate, int(network.n_iter_no_change), report, self.begin)
        self.plain.step, self.plain.after = self.work[kept].sum() / count, _AFTER * self.work.sum()
        if self.plain.budget is not None:
            monitor.limit(self.plain.budget, n_runs - k, self.plain.after)
        return monitor

    def _batch_size(self, kept):
        wanted = _BATCH if self.network.batch_size is None else int(self.network.batch_size)
        return min(wanted, max(1, int(_WORK_PER_BATCH / self.work[kept].mean())))

    def _state(self, run, previous):
        baseline = self._baseline(run, previous)
        weights = {name: array.copy() for name, array in run.packing.unpack(run.vector).items()}
        readouts = {}
        for unit, key in zip(run.units, self.targets.irreps, strict=True):
            readouts[key] = unit * weights.pop(f"readout:{key}")
        noises, before = self._noises(run), run.model.scales.get("0e")
        run.model.enlarge_constant(weights, self.sample)
        if "0e" in readouts:
            readouts["0e"] = readouts["0e"] * (before / run.model.scales["0e"])[..., None]
        history = run.monitor.history
        return {
            "weights_": weights,
            "scales_": run.model.scales,
            "readout_": readouts,
            "baseline_": baseline,
            "noise_": noises,
            "history_": {key: np.array(values) for key, values in history.items()},
            "n_iter_": len(history["loss"]),
            "loss_": float(history["loss"][-1]) if history["loss"] else 0.0,
        }

    def _baseline(self, run, previous):
        """Contributions of the elements, with those that the errors of the network still have."""
        targets = self.targets
        if targets.baseline is None:
            return None
        known, scalar = np.flatnonzero(targets.known), list(targets.irreps).index("0e")
        columns = np.flatnonzero(targets.irrep_of_component == scalar)
        values = self._loss(run, run.vector, known).predictions(run.vector)["values"].reshape(len(known), -1)
        errors = targets.values[np.ix_(known, columns)] - run.units[scalar] * values[:, columns]
        design = composition(self.batch, self.network)[known]
        found = targets.baseline + fit_baseline(design, errors, None, targets.sample_weights[known])
        species = self.make_graph.keywords["species"]
        if self.network.baseline != "composition" or len(species) == len(found):
            return found
        whole = np.zeros((len(species), found.shape[1]))  # of those that are not in these structures, what it was
        if previous is not None and previous[3] is not None and previous[3][1] is not None:
            whole[:] = previous[3][1]
        whole[np.searchsorted(species, self.batch.species)] = found
        return whole

    def _noises(self, run):
        """Noise of each irrep of the values alone: the alpha of a ridge on the features, which error bars come from."""
        known = np.flatnonzero(self.targets.known)
        if len(known) < 2:
            return {}
        values = self.targets.of_values(self.network.aggregate)
        data = TrainingSet(self.batch[known], values, self.make_graph, self.work[known], _WORK_PER_PART)
        picked = np.searchsorted(known, self.plain._for_noise(known))
        objective, n_jobs = self.network.objective, self.network.n_jobs
        loss = Loss(run.model, run.packing, data.parts(picked), objective, 0.0, run.vector, False, n_jobs)
        start = initial_vector(run.packing, run.packing.unpack(run.vector), [one.name for one in values], {})
        found = loss.with_best_noises(start)[run.packing.size :]
        return {one.name: float(noise) for one, noise in zip(values, np.exp(found), strict=True)}


@dataclass
class _Run:
    """One training."""

    model: Model
    packing: Packing
    vector: np.ndarray | None
    monitor: Monitor | None
    units: np.ndarray
