"""What a training says of itself: its cost as soon as a step was timed, then every few seconds how far it is."""

from __future__ import annotations

from dataclasses import dataclass

from eqkernels._progress import Meter, duration, say


@dataclass
class Report:
    """Messages of one run of the training; it only reads clocks, and changes no number.

    Parameters
    ----------
    name : str
        What messages begin with.
    n_structures : int
    run, n_runs : int
        Number of this run, from 1, of all random starts.
    n_steps : float
        Steps of a run at most; infinity where the time budget ends it.
    time_budget : float or None
        CPU seconds of the whole fit.
    verbose : int
        0: the cost and the progress go to the log alone.
    """

    name: str
    n_structures: int
    run: int
    n_runs: int
    n_steps: float
    time_budget: float | None
    verbose: int

    def __post_init__(self) -> None:
        part = "the training" if self.n_runs == 1 else f"run {self.run} of {self.n_runs}"
        self.meter, self.cost_is_said = Meter(self.name, 1.0, part, self.verbose), False

    def cost(self, elapsed: float, seconds_per_step: float) -> None:
        """Say what all runs take, after the second step of the first: the step before may have compiled loops."""
        self.cost_is_said = True
        if self.run > 1:
            return
        seconds = elapsed + seconds_per_step * max(self.n_runs * self.n_steps - 2, 0)
        if self.time_budget is not None:
            seconds = min(seconds, self.time_budget)
        text = f"{self.n_structures} structures, at most about {duration(seconds)} of CPU time"
        say(f"{self.name}: {text}", self.verbose)

    def iteration(self, part: float, loss: float) -> None:
        """Say how much of the run is over, 0 to 1, if the last line was some seconds ago."""
        if self.cost_is_said:
            self.meter.reach(part, f", loss {loss:.5g}")
