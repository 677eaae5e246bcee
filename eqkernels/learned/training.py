r"""Training: the loss as a function of one flat vector of weights, and its minimization.

The vector holds all weights of the network and, for each irrep of each target, the logarithm of its noise. The loss is
the mean over the targets of an objective of :mod:`eqkernels.learned.objectives`, plus the weight decay
:math:`\tfrac12 \gamma |\theta - \theta_0|^2`, a pull to the random weights that training starts from (to zero it
would be a pull to features that vanish).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from eqkernels.learned import operations as op
from eqkernels.learned.objectives import OBJECTIVES
from eqkernels.learned.tape import Tape, Variable

# Noise variance in units of the variance of the labels: exp(-20) = (4.5e-5)^2 is below what labels are worth.
LOG_NOISE_BOUNDS = (-20.0, 2.0)
_LOG_NOISE_START = -6.0
# Mean square of features that vanish by symmetry (initial ones are about 1): they are not scaled up, being rounding.
_VANISHING = 1e-18
_LBFGS_MEMORY = 20
_ADAM_DECAYS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8


class Packing:
    """Names and shapes of arrays that are laid out in one vector."""

    def __init__(self, arrays):
        self.shapes = {name: np.shape(array) for name, array in arrays.items()}
        self.size = sum(int(np.prod(shape)) for shape in self.shapes.values())

    def pack(self, arrays):
        """Vector of a dict of arrays."""
        return np.concatenate([np.ravel(arrays[name]) for name in self.shapes])

    def unpack(self, vector):
        """Make a dict of arrays, views of a vector."""
        arrays, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + int(np.prod(shape))
            arrays[name], start = vector[start:end].reshape(shape), end
        return arrays


@dataclass
class Model:
    """What turns weights and a graph into features: architecture, scale of sums over neighbors, scales of features."""

    architecture: object
    neighbor_scale: float
    scales: dict

    def features(self, tape, weights, graph):
        """Scaled features of atoms by irrep; the last scalar is the constant 1, scaled."""
        blocks = self.unscaled(tape, weights, graph, self.architecture.outputs)
        return {
            irrep: op.scale(tape, block, self.scales[str(irrep)][graph.species_of_atom][:, None])
            for irrep, block in blocks.items()
        }

    def unscaled(self, tape, weights, graph, irreps):
        """Features of some irreps before they are scaled."""
        blocks = self.architecture(tape, weights, graph, self.neighbor_scale, irreps)
        for irrep in blocks:
            if str(irrep) == "0e":
                constant = Variable(np.ones((graph.n_atoms, 1, 1)), wanted=False)
                blocks[irrep] = op.join(tape, [blocks[irrep], constant])
        return blocks

    def aggregate(self, tape, block, target, graph):
        """Features of the samples of a target, before they are scaled: (n_samples, 2 l + 1, n_species * n_features)."""
        order, n_species = graph.order, self.architecture.n_species
        arguments = (target.segments[order], graph.species_of_atom, n_species, target.row_weights[order])
        return op.segment_sum(tape, block, *arguments, len(target.values))

    def set_scales(self, weights, graph, targets):
        """Scale the features so that each aggregate over a sample has about unit norm, with the given weights."""
        self.scales = {}
        constants = {name: Variable(array, wanted=False) for name, array in weights.items()}
        blocks = self.unscaled(Tape(recording=False), constants, graph, self.architecture.outputs)
        n_species = self.architecture.n_species
        for irrep, block in blocks.items():
            matching = [target for target in targets if target.irrep == irrep]
            if matching:
                sums = self.aggregate(Tape(recording=False), block, matching[0], graph).value
            else:
                sums = np.zeros((graph.n_atoms, block.value.shape[1], n_species, block.value.shape[2]))
                sums[np.arange(graph.n_atoms), :, graph.species_of_atom] = block.value
            squares = np.mean(sums**2, axis=(0, 1)).ravel()
            level = squares.mean() if squares.mean() > _VANISHING else 1.0
            scale = 1.0 / np.sqrt((squares + 0.1 * level) * len(squares))
            self.scales[str(irrep)] = scale.reshape(n_species, -1)


class Loss:
    """The loss of one set of structures, callable on the flat vector: returns its value and gradient."""

    def __init__(self, model, packing, graph, targets, objective, weight_decay, start):
        self.model, self.packing, self.graph = model, packing, graph
        self.targets = [target for target in targets if len(target.values)]
        # a target whose labels are all zero (or the same) has nothing to teach
        self.targets = [target for target in self.targets if target.values.any()]
        self.positions = [[one.name for one in targets].index(target.name) for target in self.targets]
        self.objective, self.weight_decay = OBJECTIVES[objective], weight_decay
        self.start = start

    def __call__(self, vector):
        """Value and gradient."""
        size = self.packing.size
        weights = {name: Variable(array) for name, array in self.packing.unpack(vector[:size]).items()}
        tape = Tape()
        irreps = tuple({target.irrep: None for target in self.targets})
        blocks = self.model.unscaled(tape, weights, self.graph, irreps)
        total, gradient = 0.0, np.zeros_like(vector)
        for target, position in zip(self.targets, self.positions, strict=True):
            # a readout of scaled sums is that of scaled features, with fewer numbers to scale
            sums = self.model.aggregate(tape, blocks[target.irrep], target, self.graph)
            features = op.scale(tape, sums, self.model.scales[str(target.irrep)].reshape(-1))
            root = target.sample_weights[:, None, None]
            arguments = (root * features.value, root * target.values, vector[size + position])
            value, to_features, to_log_noise = self.objective(*arguments)
            total += value
            features.accumulate(root * to_features)
            gradient[size + position] = to_log_noise
        tape.backward()
        for name, array in self.packing.unpack(gradient[:size]).items():
            if weights[name].gradient is not None:
                array[...] = weights[name].gradient
        away = vector[:size] - self.start[:size]
        gradient[:size] += self.weight_decay * away
        return total + 0.5 * self.weight_decay * away @ away, gradient


class Monitor:
    """Watches the training: history, best weights, time budget, early stopping, progress."""

    def __init__(self, max_iter, time_budget, validate=None, patience=20, verbose=0):
        self.max_iter, self.time_budget, self.validate, self.patience = max_iter, time_budget, validate, patience
        self.verbose, self.begin = verbose, time.process_time()
        self.history = {"loss": [], "validation": [], "cpu_time": []}
        self.best, self.best_value, self.best_iteration = None, np.inf, 0

    def __call__(self, vector, loss):
        """Note one iteration; True: stop."""
        elapsed = time.process_time() - self.begin
        score = loss if self.validate is None else self.validate(vector)
        self.history["loss"].append(loss)
        self.history["validation"].append(np.nan if self.validate is None else score)
        self.history["cpu_time"].append(elapsed)
        done = len(self.history["loss"])
        if score < self.best_value:
            self.best, self.best_value, self.best_iteration = vector.copy(), score, done
        if self.verbose and (done % 10 == 0 or done == 1):
            print(f"EquivariantNetwork: iteration {done}, loss {loss:.5g}, {elapsed:.1f} s CPU", file=sys.stderr)
        late = self.time_budget is not None and elapsed > self.time_budget
        stale = self.validate is not None and done - self.best_iteration >= self.patience
        return late or stale or done >= self.max_iter


def check_finite(value, gradient, when):
    """Refuse a loss that is NaN or infinite, and say what to change."""
    if not np.isfinite(value) or not np.isfinite(gradient).all():
        raise FloatingPointError(
            f"the loss or its gradient is not finite {when}: raise weight_decay, lower learning_rate (solver='adam'), "
            "or change random_state"
        )


def train_lbfgs(loss, start, n_noises, monitor):
    """Minimize with L-BFGS-B; returns the best vector.

    Parameters
    ----------
    loss : Loss
    start : ndarray
    n_noises : int
        Number of logarithms of noises at the end of the vector.
    monitor : Monitor

    Returns
    -------
    ndarray
    """

    def function(vector):
        value, gradient = loss(vector)
        check_finite(value, gradient, f"after {len(monitor.history['loss'])} iterations")
        return value, gradient

    def callback(intermediate_result):
        if monitor(intermediate_result.x, float(intermediate_result.fun)):
            raise StopIteration

    bounds = [(None, None)] * (len(start) - n_noises) + [LOG_NOISE_BOUNDS] * n_noises
    options = {"maxiter": monitor.max_iter, "maxfun": 10**9, "maxcor": _LBFGS_MEMORY, "ftol": 1e-13, "gtol": 1e-9}
    result = minimize(function, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options, callback=callback)
    return monitor.best if monitor.best is not None else result.x


def train_adam(batches, start, n_noises, monitor, learning_rate):
    """Minimize with Adam (Kingma and Ba, arXiv:1412.6980) over mini-batches; returns the best vector.

    Parameters
    ----------
    batches : callable
        ``batches(epoch)`` yields the losses of the mini-batches of an epoch.
    start : ndarray
    n_noises : int
    monitor : Monitor
        Told the mean loss of every epoch.
    learning_rate : float
        Falls to a hundredth by a half cosine over ``monitor.max_iter`` epochs.

    Returns
    -------
    ndarray
    """
    vector, first, second, step = start.copy(), np.zeros_like(start), np.zeros_like(start), 0
    noises = slice(len(start) - n_noises, None)
    b1, b2 = _ADAM_DECAYS
    for epoch in range(monitor.max_iter):
        rate = learning_rate * (0.505 + 0.495 * np.cos(np.pi * epoch / monitor.max_iter))
        values = []
        for loss in batches(epoch):
            value, gradient = loss(vector)
            check_finite(value, gradient, f"in epoch {epoch}")
            step += 1
            first = b1 * first + (1 - b1) * gradient
            second = b2 * second + (1 - b2) * gradient**2
            corrected = np.sqrt(second / (1 - b2**step)) + _ADAM_EPSILON
            vector = vector - rate * first / (1 - b1**step) / corrected
            vector[noises] = np.clip(vector[noises], *LOG_NOISE_BOUNDS)
            values.append(value)
            if monitor.time_budget is not None and time.process_time() - monitor.begin > monitor.time_budget:
                break
        if monitor(vector, float(np.mean(values))):
            break
    return vector if monitor.validate is None else monitor.best


def initial_vector(packing, weights, names, noise):
    """Flat vector to start from: weights, and the logarithm of the noise of each target, where it is known."""
    logarithms = [np.log(noise[name]) if name in noise else _LOG_NOISE_START for name in names]
    return np.concatenate([packing.pack(weights), np.clip(logarithms, *LOG_NOISE_BOUNDS)])
