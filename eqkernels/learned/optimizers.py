"""Minimization of a loss: L-BFGS and Adam, watched by a monitor that knows when to stop."""

from __future__ import annotations

import time
from collections import deque
from contextlib import nullcontext

import numpy as np
from scipy.optimize import minimize

from eqkernels.learned.training import LOG_NOISE_BOUNDS

_LBFGS_MEMORY = 20
_ADAM_DECAYS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8
# Stands for a loss that is not finite, in units of the first one.
_OVERFLOW = 1e6
# The longest of so many steps is what the next one is expected to take.
_STEPS_REMEMBERED = 5


class LossError(FloatingPointError, ValueError):
    """The loss overflows: parameters are to be changed."""


class OutOfTimeError(Exception):
    """Another step of training would not fit into the time budget."""


class Monitor:
    """Watches the training: history, best weights, time budget, early stopping.

    Parameters
    ----------
    max_iter : int or inf
    time_budget : float or None
        CPU seconds since the beginning at which the training must have ended.
    validate : callable, default=None
        Validation error of a vector.
    patience : int, default=20
        Iterations without improvement of the validation error, after which to stop.
    report : Report, default=None
        Gets the time of the second step, and the loss of every iteration.
    begin : float, default=None
        CPU time of the beginning; None: now.
    """

    def __init__(self, max_iter, time_budget, validate=None, patience=20, report=None, begin=None):
        self.max_iter, self.time_budget, self.validate, self.patience = max_iter, time_budget, validate, patience
        self.report, self.interrupted = report, False
        self.begin = time.process_time() if begin is None else begin
        self.history: dict[str, list[float]] = {"loss": [], "validation": [], "cpu_time": []}
        self.best, self.best_value, self.best_iteration = None, np.inf, 0
        self.start = self.now = self.elapsed
        self._seconds_per_work: deque[float] = deque(maxlen=_STEPS_REMEMBERED)
        self._n_steps, self._work_after = 0, 0.0

    def limit(self, time_budget, n_runs, work_after):
        """Share the time that is left of a budget among some runs, and keep what follows the last one free.

        Parameters
        ----------
        time_budget : float
            CPU seconds since the beginning.
        n_runs : int
            Runs that are left, this one included.
        work_after : float
            Work of what follows, in that of the steps of training.
        """
        self.time_budget = self.start + max(time_budget - self.start, 0.0) / n_runs
        # each run leaves its share of what follows them all
        self._work_after = work_after / n_runs

    @property
    def elapsed(self):
        """CPU seconds since the beginning."""
        return time.process_time() - self.begin

    def note_step(self, work):
        """Note that a step of some work ended."""
        before, self.now = self.now, self.elapsed
        self._n_steps += 1
        if self._n_steps == 2:  # the first one may have compiled loops
            self._seconds_per_work.clear()
            if self.report is not None:
                self.report.cost(self.now, self.now - before)
        self._seconds_per_work.append((self.now - before) / work)

    def seconds_of(self, work):
        """CPU seconds that some work is expected to take."""
        return max(self._seconds_per_work, default=0.0) * work

    def is_late(self, work):
        """Whether the next step, of some work, would leave too little time for what follows the training."""
        if self.time_budget is None or not self._n_steps:
            return False
        if self._n_steps == 1:
            return self.now - self.start > 0.5 * (self.time_budget - self.start)
        return self.now + self.seconds_of(work + self._work_after) > self.time_budget

    @property
    def progress(self):
        """Part of the iterations, or of the time if that is more, that is over: 0 to 1."""
        of_time = 0.0
        if self.time_budget is not None:
            available = self.time_budget - self.seconds_of(self._work_after) - self.start
            of_time = (self.now - self.start) / max(available, 1e-9)
        return min(1.0, max(len(self.history["loss"]) / self.max_iter, of_time))

    def __call__(self, vector, loss):
        """Note one iteration; True: stop."""
        score = loss if self.validate is None else self.validate(vector)
        self.history["loss"].append(loss)
        self.history["validation"].append(np.nan if self.validate is None else score)
        self.history["cpu_time"].append(self.elapsed)
        done = len(self.history["loss"])
        if score < self.best_value:
            self.best, self.best_value, self.best_iteration = vector.copy(), score, done
        if self.report is not None:
            self.report.iteration(self.progress, loss)
        stale = self.validate is not None and done - self.best_iteration >= self.patience
        return stale or done >= self.max_iter


def check_finite(value, gradient, when):
    """Refuse a loss that is NaN or infinite, and say what to change."""
    if not np.isfinite(value) or not np.isfinite(gradient).all():
        raise LossError(
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
    first: list[float] = []
    lowest = [np.inf, start]

    def function(vector):
        if monitor.is_late(loss.work):
            raise OutOfTimeError
        with np.errstate(over="ignore", invalid="ignore") if first else nullcontext():
            value, gradient = loss(vector)
        monitor.note_step(loss.work)
        if first and not (np.isfinite(value) and np.isfinite(gradient).all()):
            # where the loss is flat, the search along a line may try weights that overflow: it then steps back
            return _OVERFLOW * max(1.0, abs(first[0])), np.zeros_like(gradient)
        check_finite(value, gradient, "at the start")
        first.append(value)
        if value < lowest[0]:
            lowest[:] = value, vector.copy()
        return value, gradient

    def callback(intermediate_result):
        if monitor(intermediate_result.x, float(intermediate_result.fun)):
            raise StopIteration

    bounds = [(None, None)] * (len(start) - n_noises) + [LOG_NOISE_BOUNDS] * n_noises
    max_iter = int(min(monitor.max_iter, 10**9))
    options = {"maxiter": max_iter, "maxfun": 10**9, "maxcor": _LBFGS_MEMORY, "ftol": 1e-13, "gtol": 1e-9}
    try:
        found = minimize(
            function, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options, callback=callback
        )
    except (OutOfTimeError, KeyboardInterrupt) as reason:
        monitor.interrupted = isinstance(reason, KeyboardInterrupt)
        if monitor.validate is None and lowest[0] < monitor.best_value:  # within the search along a line
            monitor.best_value, monitor.best = lowest
        return start if monitor.best is None else monitor.best
    return monitor.best if monitor.best is not None else found.x


def train_adam(batches, start, n_noises, monitor, learning_rate):
    """Minimize with Adam (Kingma and Ba, arXiv:1412.6980) over mini-batches; returns the best vector.

    Parameters
    ----------
    batches : callable
        ``batches(epoch)`` yields the losses of the mini-batches of an epoch.
    start : ndarray
    n_noises : int
    monitor : Monitor
        Called with the mean loss of every epoch.
    learning_rate : float
        Falls to a hundredth by a half cosine over the epochs, or the time budget if that ends first.

    Returns
    -------
    ndarray
    """
    state = _Adam(start, n_noises)
    epoch, late = 0, False
    try:
        while not late and epoch < monitor.max_iter:
            progress = monitor.progress
            values: list[float] = []
            for loss in batches(epoch):
                if monitor.time_budget is not None:  # which may allow few epochs
                    progress = monitor.progress
                with np.errstate(over="ignore", invalid="ignore"):
                    value, gradient = loss(state.vector)
                    check_finite(value, gradient, f"in epoch {epoch}")
                    state.step(gradient, learning_rate * (0.505 + 0.495 * np.cos(np.pi * progress)))
                values.append(value)
                monitor.note_step(loss.work)
                late = monitor.is_late(loss.work)
                if late:
                    break
            late |= monitor(state.vector, float(np.mean(values)))
            epoch += 1
    except KeyboardInterrupt:
        monitor.interrupted = True
    return state.vector if monitor.validate is None or monitor.best is None else monitor.best


class _Adam:
    """Vector with the running moments of its gradients."""

    def __init__(self, start, n_noises):
        self.vector, self.first, self.second = start.copy(), np.zeros_like(start), np.zeros_like(start)
        self.noises, self.n_steps = slice(len(start) - n_noises, None), 0

    def step(self, gradient, rate):
        """Move against the gradient."""
        b1, b2 = _ADAM_DECAYS
        self.n_steps += 1
        self.first = b1 * self.first + (1 - b1) * gradient
        self.second = b2 * self.second + (1 - b2) * gradient**2
        corrected = np.sqrt(self.second / (1 - b2**self.n_steps)) + _ADAM_EPSILON
        vector = self.vector - rate * self.first / (1 - b1**self.n_steps) / corrected
        vector[self.noises] = np.clip(vector[self.noises], *LOG_NOISE_BOUNDS)
        self.vector = vector
