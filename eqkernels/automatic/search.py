"""The steps of the search, the time that each may take, and what is known of each model in the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eqkernels._progress import say
from eqkernels.automatic.facts import LARGEST_EXACT
from eqkernels.automatic.kernel_search import KernelSearch, KernelSetting
from eqkernels.automatic.labelled_structures import Labelled
from eqkernels.automatic.members import KernelMember, NetworkMember, seconds_of_runs
from eqkernels.automatic.stacking import scale_of_error_bars, stack
from eqkernels.error_distribution import RESAMPLINGS
from eqkernels.metrics import frobenius_rmse
from eqkernels.regression import TensorGPR
from eqkernels.structures.paired import paired_rows
from eqkernels.validation import ExpectedError, expected_error, extrapolated, held_back, measured

_NAMES = ("kernel", "network")
# Part of the time in which kernels are compared, with networks and without.
_COMPARING, _COMPARING_ALONE = 0.2, 0.6
# Seconds below which a network is not tried.
_FEWEST_SECONDS = 5.0
# Labels below which all are left out one by one in closed form, and networks are not tried.
_FEWEST_LABELS = 100
# Errors of a network that goes on training fall at most with this power of the time.
_STEEPEST_IN_TIME = 0.5
# Standard error of the logarithm of what errors are expected to fall by in the fit to everything, as part of it.
_UNSURE = 0.3


@dataclass
class Found:
    """Outcome of a search: fitted models, and what to expect of them."""

    models: dict[str, Any]
    weights: dict[str, float]
    error_bar_scale: float
    error: ExpectedError
    notes: list[str]


@dataclass
class Search:
    """Search on one set of data.

    Parameters
    ----------
    data : Labelled
    facts : object
        Numbers of labels, components and elements, as :mod:`eqkernels.automatic.facts` reads them.
    options : dict
        Of all models: target, per_atom, aggregate.
    groups : array-like or None
    seed : int
    begin : float
        CPU time at which it began.
    budget : float
        CPU seconds.
    n_jobs : int or None
    verbose : bool
    inputs : dict of str to str, default=None

    Attributes
    ----------
    tried : list of dict
        Rows of ``cv_results_``.
    setting : KernelSetting
        The best one.
    """

    data: Labelled
    facts: Any
    options: dict[str, Any]
    groups: Any
    seed: int
    begin: float
    budget: float
    n_jobs: int | None
    verbose: bool
    inputs: dict[str, str] | None = None
    tried: list[dict[str, Any]] = field(default_factory=list)
    setting: KernelSetting = KernelSetting({})

    def run(self) -> Found:
        """Take the three steps."""
        few = self.groups is None and self.facts.n_labels < _FEWEST_LABELS
        learned, held = held_back(self.data.frames, self.groups, self.seed)[0]
        self.setting = self._kernel_setting(
            np.concatenate([learned, held]) if few else learned, _COMPARING_ALONE if few else _COMPARING
        )
        # a mean of a fit to four fifths and to everything: each may take a fifth of the time
        kernel = KernelMember(
            self.setting, self.options, self._components, 0.4 * self.budget, self.seed, self.n_jobs, self._seconds
        )
        return self._left_out(kernel) if few else self._held_back(kernel, learned, held)

    @property
    def _components(self):
        return self.facts.largest / len(self.data)

    @property
    def _seconds(self):
        """CPU time of fits with the best kernel by number of structures, if those to come are exact like them."""
        if self.facts.largest > LARGEST_EXACT:
            return {}
        return {one["n_structures"]: one["seconds"] for one in self.tried if one["model"] == str(self.setting)}

    def _elapsed(self):
        return time.process_time() - self.begin

    def _say(self, text):
        say(f"AutoTensorRegressor, {self._elapsed():.0f} of {self.budget:.0f} s: {text}", self.verbose)

    def _kernel_setting(self, order, part):
        search = KernelSearch(
            self.data, order, self._components, self.options, self.facts.n_species,
            lambda: self._elapsed() > part * self.budget, self.n_jobs, inputs=self.inputs,
        )  # fmt: skip
        setting = search.run()
        self.tried += [
            {"model": str(one["setting"]), **{key: one[key] for key in ("n_structures", "rmse", "seconds")},
             "how": "one by one"}
            for one in search.tried
        ]  # fmt: skip
        self._say(f"best of {len(search.tried)} comparisons of kernels: {setting}")
        return setting

    def _left_out(self, kernel):
        """With few labels: a Gaussian process, whose errors are known in closed form."""
        note = f"{self.setting}: networks need {_FEWEST_LABELS} labels, there are {self.facts.n_labels}"
        return self._alone(kernel.fit(self.data), kernel.used(self.data), [note])

    def _alone(self, model, data, notes):
        """Take an exact Gaussian process, which leaves out all structures one by one."""
        error = expected_error(model, data.frames, data.y, target=self.options["target"])
        scale = scale_of_error_bars(data.y, *model.predict_left_out(return_std=True))
        return Found({"kernel": model}, {"kernel": 1.0}, scale, error, notes)

    def _held_back(self, kernel, learned, held):
        """With more labels: a Gaussian process and a network, and weights from structures that neither saw."""
        part, rest = self.data.pick(learned), self.data.pick(held)
        mean, std, curve = self._kernel_fits(kernel, part, rest)
        network, exponent = NetworkMember(self.options, self.seed, self.n_jobs, self.inputs), 0.0
        left = self.budget - self._elapsed() - kernel.estimate(len(self.data))
        predicted = [mean]
        if left > _FEWEST_SECONDS:
            exponent, values = self._network_fits(network, part, rest, left)
            predicted.append(values)
        gains = [gain := _gain(curve, min(len(self.data), kernel.most))]
        if len(predicted) == 2:
            before, last = network.seconds, max(self.budget - self._elapsed() - kernel.estimate(len(self.data)), 0.0)
            gains.append(gain * (1.0 + last / before) ** -exponent)
        projected = [rest.y + one * (values - rest.y) for one, values in zip(gains, predicted, strict=True)]
        weights, left_out = stack(rest.y, projected)
        self._say(f"weights of {' and '.join(_NAMES[: len(weights)])}: {', '.join(f'{one:.2f}' for one in weights)}")
        models = {"kernel": kernel.fit(self.data)}
        if weights[-1] > 0 and len(weights) == 2:
            models["network"] = network.fit(self.data, self.budget - self._elapsed())
        factor, used = 1.0, kernel.used(self.data)
        if self.groups is None and isinstance(models["kernel"], TensorGPR):
            if len(models) == 1:
                return self._alone(models["kernel"], used, self._notes(kernel, models, {}))
            # structures that are held back may be easier than others: the kernel knows its errors on all of them
            factor = _rmse(used.y, models["kernel"].predict_left_out()) / _rmse(rest.y, projected[0])
        found = {name: float(one) for name, one in zip(_NAMES, weights, strict=False) if name in models}
        how = f"{len(held)} structures held back" + ("" if self.groups is None else ", in whole groups")
        curve = [(len(self.data), factor)]
        error = measured(
            None, rest.y, left_out, self.options["target"], how, curve, numbers=held, factors=_factors(weights, gains)
        )
        scale = factor * scale_of_error_bars(rest.y, left_out, std)
        return Found(models, found, scale, error, self._notes(kernel, models, found))

    def _kernel_fits(self, kernel, part, rest):
        """Fit to a quarter, which tells the cost, and to all of a part; predictions, error bars, learning curve."""
        few = part.pick(np.arange(len(part) // 4))
        model = kernel.fit(few)
        error = self._measure(model, model.predict(rest.frames), rest, len(few), kernel.seconds[len(few)])
        kernel.plan(len(self.data))
        model, n = kernel.fit(part), min(len(part), kernel.most)
        mean, std = model.predict(rest.frames, return_std=True)
        curve = [(len(few), error), (n, self._measure(model, mean, rest, n, kernel.seconds[n]))]
        return mean, std, curve

    def _network_fits(self, network, part, rest, left):
        """Train in two runs; the power of the time with which the error falls, and predictions."""
        errors = []
        for seconds in seconds_of_runs(left):
            model = network.fit(part, seconds)
            values = model.predict(rest.frames)
            errors.append((network.seconds, self._measure(model, values, rest, len(part), network.seconds)))
        (early, before), (late, after) = errors
        return float(np.clip(np.log(before / after) / np.log(late / early), 0.0, _STEEPEST_IN_TIME)), values

    def _measure(self, model, values, rest, n, seconds):
        rmse, name = float(frobenius_rmse(rest.y, values)), type(model).__name__
        self.tried.append({"model": name, "n_structures": n, "rmse": rmse, "seconds": seconds, "how": "held back"})
        self._say(f"{name} of {n} structures, {seconds:.1f} s: {rmse:.4g}")
        return rmse

    def _notes(self, kernel, models, found):
        notes = [f"{type(models['kernel']).__name__}({self.setting})"]
        if "network" in models:
            notes.append(f"EquivariantNetworkRegressor, the mean's {found['network']:.0%}")
        if kernel.most < len(self.data):
            notes.append(f"the Gaussian process learns from {kernel.most} structures: there is no time for more")
        return notes


def _factors(weights, gains):
    """Sample of how far errors may be from those that are expected of the fit to everything."""
    return np.exp(_UNSURE * (weights @ np.log(gains)) * np.random.default_rng(0).normal(size=RESAMPLINGS))


def _rmse(y, predicted):
    """RMSE of the labels that were left out."""
    pairs = paired_rows(y, predicted)
    return float(frobenius_rmse(pairs.true, pairs.pred))


def _gain(curve, n):
    """Factor of the error of a fit to n structures over that of the last point of a learning curve."""
    (few, _), (many, _) = curve
    return extrapolated(curve, max(n, many))[-1][1] if many > few else 1.0
