"""Minimization of a loss: L-BFGS and Adam, watched by a monitor that knows when to stop."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext

import numpy as np
from scipy.optimize import minimize

from eqkernels.learned.training import LOG_NOISE_BOUNDS

_LBFGS_MEMORY = 20
_ADAM_DECAYS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8
# Stands for a loss that is not finite, in units of the first one.
_OVERFLOW = 1e6


class Monitor:
    """Watches the training: history, best weights, time budget, early stopping, progress."""

    def __init__(self, max_iter, time_budget, validate=None, patience=20, verbose=0):
        self.max_iter, self.time_budget, self.validate, self.patience = max_iter, time_budget, validate, patience
        self.verbose, self.begin = verbose, time.process_time()
        self.history = {"loss": [], "validation": [], "cpu_time": []}
        self.best, self.best_value, self.best_iteration = None, np.inf, 0

    @property
    def elapsed(self):
        """CPU seconds since the beginning."""
        return time.process_time() - self.begin

    @property
    def progress(self):
        """Part of the iterations, or of the time if that is more, that is over: 0 to 1."""
        of_time = 0.0 if self.time_budget is None else self.elapsed / self.time_budget
        return min(1.0, max(len(self.history["loss"]) / self.max_iter, of_time))

    def __call__(self, vector, loss):
        """Note one iteration; True: stop."""
        elapsed = self.elapsed
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
    values = []

    def function(vector):
        with np.errstate(over="ignore", invalid="ignore") if values else nullcontext():
            value, gradient = loss(vector)
        if values and not (np.isfinite(value) and np.isfinite(gradient).all()):
            # where the loss is flat, the search along a line may try weights that overflow: it then steps back
            return _OVERFLOW * max(1.0, abs(values[0])), np.zeros_like(gradient)
        check_finite(value, gradient, "at the start")
        values.append(value)
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
        Falls to a hundredth by a half cosine over the epochs, or the time budget if that ends first.

    Returns
    -------
    ndarray
    """
    vector, first, second, step = start.copy(), np.zeros_like(start), np.zeros_like(start), 0
    noises = slice(len(start) - n_noises, None)
    b1, b2 = _ADAM_DECAYS
    for epoch in range(monitor.max_iter):
        rate = learning_rate * (0.505 + 0.495 * np.cos(np.pi * monitor.progress))
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
            if monitor.time_budget is not None and monitor.elapsed > monitor.time_budget:
                break
        if monitor(vector, float(np.mean(values))):
            break
    return vector if monitor.validate is None else monitor.best
