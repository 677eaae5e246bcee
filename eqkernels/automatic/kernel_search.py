r"""Descriptor and kernel with the smallest leave-one-out error, found on growing parts of the data.

All candidates are compared on a few structures, the better half of them on four times as many, until one is left or
there are no more structures (successive halving: K. Jamieson, A. Talwalkar, AISTATS 51, 240 (2016)). An error is that
of kernel ridge regression in closed form,

.. math:: y_i - \hat y_{-i} = [G^{-1}]_{ii}^{-1} [G^{-1} y]_i , \quad G = K + \alpha W^{-1} ,

with the alpha of each irrep that makes it smallest.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eqkernels._progress import Meter
from eqkernels.automatic.facts import species_channels
from eqkernels.automatic.labelled_structures import Labelled
from eqkernels.descriptors import LambdaSOAP
from eqkernels.kernels import CovariantKernel
from eqkernels.regression import TensorKernelRidge
from eqkernels.structures.elements import MANY

# Components of the largest irrep on which all candidates are compared, and on which the last ones are.
_COMPONENTS = 450, 1800
_GROWTH = 4
# From short to long: what is in reach, and how finely it is resolved. The first is the library's default.
_DESCRIPTORS: tuple[dict[str, Any], ...] = (
    {"cutoff": 5.0},
    {"cutoff": 3.5, "n_max": 5, "l_max": 4},
    {"cutoff": 4.0, "n_max": 5, "l_max": 3},
    {"cutoff": 5.0, "n_max": 8, "sigma": 0.3, "scaling_scale": 2.0, "scaling_exponent": 4.0},
    {"cutoff": 6.5, "n_max": 8, "sigma": 0.5, "scaling_scale": 3.0, "scaling_exponent": 4.0},
)
_ZETAS = (2, 1, 3, 4)
# How far many elements learn from each other.
_SIMILARITIES = (0.0, 0.5, 1.0)
# Weights of inputs beside the default, 0.1.
_INPUT_WEIGHTS = (0.3, 1.0)


@dataclass(frozen=True)
class KernelSetting:
    """Parameters of a descriptor and of the kernel."""

    descriptor: dict[str, Any]
    zeta: int = 2
    center_similarity: float = 0.0

    def __str__(self):
        words = ", ".join(f"{name}={value}" for name, value in self.descriptor.items())
        alike = f", center_similarity={self.center_similarity:g}" if self.center_similarity else ""
        return f"LambdaSOAP({words}), zeta={self.zeta}{alike}"

    def parts(self, aggregate: str | None, n_jobs: int | None = None) -> dict[str, Any]:
        """Make the descriptor and the kernel, not fitted."""
        kernel = CovariantKernel(self.zeta, aggregate=aggregate or "sum", center_similarity=self.center_similarity)
        return {"descriptor": LambdaSOAP(**self.descriptor, n_jobs=n_jobs), "kernel": kernel}

    def others(self, n_species: int) -> list[KernelSetting]:
        """List the same with other kernels, and with other weights of the inputs."""
        settings = [replace(self, zeta=zeta) for zeta in _ZETAS]
        if n_species >= MANY:
            settings += [replace(self, center_similarity=similarity) for similarity in _SIMILARITIES]
        if "inputs" in self.descriptor:
            weighted = [{**self.descriptor, "input_weight": weight} for weight in _INPUT_WEIGHTS]
            settings += [replace(self, descriptor=descriptor) for descriptor in weighted]
        return [one for one in settings if one != self]


@dataclass
class KernelSearch:
    """Comparison of settings on one set of labels.

    Parameters
    ----------
    data : Labelled
    order : ndarray of int
        Structures in the order in which they are taken.
    components : float
        Components of the largest irrep that a structure has, in the mean.
    options : dict
        Of all models: target, per_atom, aggregate.
    n_species : int
        Elements, which learn from each other where they are many.
    over : callable
        Says whether the time is over.
    n_jobs : int, default=None
    bounds : pair of int
        Components on which all candidates are compared, and on which the last ones are.
    verbose : int
        Whether to say how far the first comparison is.
    inputs : dict of str to str, default=None
        Beyond the geometry.

    Attributes
    ----------
    tried : list of dict
        Setting, number of structures, error and CPU seconds of each comparison.
    """

    data: Labelled
    order: np.ndarray
    components: float
    options: dict[str, Any]
    n_species: int
    over: Callable[[], bool] = lambda: False
    n_jobs: int | None = None
    bounds: tuple[int, int] = _COMPONENTS
    verbose: int = 0
    inputs: dict[str, str] | None = None
    tried: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> KernelSetting:
        """Find the best descriptor, and the kernel that suits it."""
        n = self._structures(self.bounds[0])
        first = self._compare(candidate_settings(self.n_species, self.inputs), n)
        best = first[0]
        others = best.others(self.n_species)
        left = [*first[: (len(first) + 1) // 2], *others]
        more = min(_GROWTH * n, self._structures(self.bounds[1]))
        if self.over():
            return best
        return self._compare(left, more)[0] if more > n else self._compare(others, n, [best])[0]

    def _structures(self, components):
        return int(np.clip(components / self.components, min(10, len(self.order)), len(self.order)))

    def _compare(self, settings, n, known=()):
        """Sort settings by their errors on n structures; those for which there is no time are left out."""
        some = self.data.pick(np.sort(self.order[:n]))
        meter = Meter("comparison of descriptors", len(settings), "the candidates", self.verbose)
        for setting in settings:
            start = time.process_time()
            model = TensorKernelRidge(**setting.parts(self.options["aggregate"], self.n_jobs), **self.options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # candidates need not suit the data
                error = -some.fit(model).best_score_
            self._note(setting, n, error, time.process_time() - start)
            meter.advance(1)
            if self.over():
                break
        mine = [one for one in self.tried if one["n_structures"] == n and one["setting"] in [*settings, *known]]
        return [one["setting"] for one in sorted(mine, key=lambda one: one["rmse"])]

    def _note(self, setting, n, error, seconds):
        error = float(error) if np.isfinite(error) else np.inf
        self.tried.append({"setting": setting, "n_structures": n, "rmse": error, "seconds": seconds})


def candidate_settings(n_species: int, inputs: dict[str, str] | None = None) -> list[KernelSetting]:
    """List the settings to compare for data with so many elements, and with inputs beyond the geometry."""
    shared = {**species_channels(n_species), **({} if inputs is None else {"inputs": inputs})}
    return [KernelSetting({**parameters, **shared}) for parameters in _DESCRIPTORS]


def edges(setting: KernelSetting) -> list[str]:
    """Say which parameters are the largest or smallest that were tried."""
    found = []
    cutoffs = sorted(parameters["cutoff"] for parameters in _DESCRIPTORS)
    for name, value, tried in (
        ("cutoff", setting.descriptor["cutoff"], cutoffs), ("zeta", setting.zeta, sorted(_ZETAS)),
    ):  # fmt: skip
        if value in (tried[0], tried[-1]) and not (name == "zeta" and value == 1):
            end = "smallest" if value == tried[0] else "largest"
            found.append(f"{name}={value} is the {end} that is tried")
    return found
