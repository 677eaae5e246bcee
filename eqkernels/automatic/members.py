"""What the search chooses from in the end: a Gaussian process with the best kernel found, and a network.

Each is fitted to a part of the data, measured on the rest, and then fitted to everything within the time that is left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eqkernels.automatic.facts import LARGEST_EXACT
from eqkernels.automatic.kernel_search import KernelSetting
from eqkernels.automatic.labelled_structures import Labelled
from eqkernels.learned import EquivariantNetworkRegressor
from eqkernels.regression import SparseTensorGPR, TensorGPR

# Sparse points for each root of a second, and their bounds: the fit grows with the second power of their number.
_POINTS_PER_ROOT, _FEWEST_POINTS, _MOST_POINTS = 65, 200, 3000
# Exact fits of some thousand components grow with this power of their number, sparse ones with the first.
_POWER = 2.5
# Seconds below which a network learns nothing, and its part of the time that is left before the fit to everything.
_FEWEST_SECONDS, _FIRST, _SECOND = 1.0, 0.3, 0.5


@dataclass
class KernelMember:
    """Gaussian process, exact or sparse, whichever is possible in the time.

    Attributes
    ----------
    seconds : dict of int to float
        CPU time of fits by their number of structures. Those of the search for the kernel are known: an exact fit to
        few structures, which is mostly features (and compilation, when it is the first), says little of many.
    most : int
        Structures that fit into the time; the others are left out of the fit.
    """

    setting: KernelSetting
    options: dict[str, Any]
    components: float
    budget: float
    random_state: int
    n_jobs: int | None = None
    seconds: dict[int, float] = field(default_factory=dict)
    most: int = 10**9

    def fit(self, data: Labelled) -> Any:
        """Fit to the structures, or to the first of them that there is time for."""
        some = self.used(data)
        start = time.process_time()
        model = some.fit(self._model(some))
        self.seconds[len(some)] = time.process_time() - start
        return model

    def used(self, data: Labelled) -> Labelled:
        """Pick those that there is time for."""
        return data.pick(np.arange(min(len(data), self.most)))

    def plan(self, n: int) -> None:
        """Limit the structures so that a fit to n of them ends within half of the budget."""
        timed = max(self.seconds)
        power = _POWER if self._is_exact(n) else 1
        longest = (0.5 * self.budget / max(self.seconds[timed], 1e-3)) ** (1 / power)
        self.most = max(timed, int(timed * longest))

    def estimate(self, n: int) -> float:
        """CPU seconds of a fit to n structures."""
        timed = max(self.seconds)
        return self.seconds[timed] * (min(n, self.most) / timed) ** (_POWER if self._is_exact(n) else 1)

    def _is_exact(self, n):
        return min(n, self.most) * self.components <= LARGEST_EXACT

    def _model(self, data):
        parts = self.setting.parts(self.options["aggregate"], self.n_jobs)
        if self._is_exact(len(data)):
            return TensorGPR(random_state=self.random_state, **parts, **self.options)
        n_atoms = sum(map(len, data.frames))
        points = int(np.clip(_POINTS_PER_ROOT * np.sqrt(self.budget), _FEWEST_POINTS, _MOST_POINTS))
        return SparseTensorGPR(
            min(points, n_atoms), random_state=self.random_state, n_jobs=self.n_jobs, **parts, **self.options
        )


@dataclass
class NetworkMember:
    """Network that is trained on a part of the data in two runs, and then goes on with all of it."""

    options: dict[str, Any]
    random_state: int
    n_jobs: int | None = None
    inputs: dict[str, str] | None = None
    model: Any = None
    seconds: float = 0.0

    def fit(self, data: Labelled, seconds: float) -> Any:
        """Train for so many CPU seconds, from where the last call ended."""
        options = {**self.options, "aggregate": self.options["aggregate"] or "sum"}
        if self.model is None:
            self.model = EquivariantNetworkRegressor(
                random_state=self.random_state, warm_start=True, n_jobs=self.n_jobs, inputs=self.inputs, **options
            )
        # species of groups that were held back as a whole need weights of their own
        fitted, species = getattr(self.model, "descriptor_", None), np.concatenate([a.numbers for a in data.frames])
        goes_on = fitted is None or np.isin(species, fitted.species_).all()
        data.fit(self.model.set_params(time_budget=max(seconds, _FEWEST_SECONDS), warm_start=bool(goes_on)))
        self.seconds += seconds
        return self.model


def seconds_of_runs(left: float) -> tuple[float, float]:
    """CPU seconds of the two runs of a network before the fit to everything."""
    return _FIRST * left, (_SECOND - _FIRST) * left
