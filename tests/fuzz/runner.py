"""Runs a law on random cases, and keeps what was tried and how far it was broken."""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, Phase, given, reject, seed, settings

# What a descriptor or model may refuse, though every parameter is in its range: asked for more than there is.
REFUSALS = (
    r"has no features at",
    r"only \d+ features (differ|are independent)",
    r"is more than the \d+ (features|samples|species)",
    r"n_components=\d+ is more than",
    r"no atom of X is a center",
    r"to learn n_species_channels or n_optimal from",
    r"could not be tabulated",
    r"exclude each other",
    r"has a label but is no center",
    r"no structure .*was left out by",
    r"the network cannot make the irreps",
)
# Cases of a test of each kind without --fuzz-minutes.
EXAMPLES = 12


class Fuzz:
    """Runs a check on random cases, and keeps what was tried and the largest violation, relative to the tolerance."""

    def __init__(self, name, minutes=0.0, record=None):
        self.name, self.minutes, self.record = name, minutes, record
        self.tried, self.refused, self.worst, self.worst_case = Counter(), Counter(), {}, {}
        self.case = None

    def run(self, strategy, check, examples=EXAMPLES):
        """Try ``check(self, case)`` for cases of a strategy, until the time is over if there is any."""
        try:
            self._run(strategy, check, examples)
        finally:
            if self.record is not None:
                self.record("fuzz", self.summary())

    def _run(self, strategy, check, examples):
        def body(case):
            self.case = case
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    check(self, case)
            except ValueError as error:
                if not re.search("|".join(REFUSALS), str(error)):
                    raise
                self.refused[kind_of(case)] += 1
                reject()
            self.tried[kind_of(case)] += 1

        options = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck),
                   "phases": (Phase.generate, Phase.shrink), "report_multiple_bugs": False}  # fmt: skip
        if not self.minutes:
            settings(max_examples=examples, derandomize=True, **options)(given(strategy)(body))()
            return
        end, number = time.monotonic() + 60 * self.minutes, np.random.SeedSequence().entropy
        while time.monotonic() < end:
            number += 1
            seed(number)(settings(max_examples=20, **options)(given(strategy)(body)))()

    def compare(self, law, violation, tolerance):
        """Assert that a violation is within its tolerance."""
        part = float(violation) / tolerance
        if not part <= self.worst.get(law, (-1.0,))[0]:
            self.worst[law] = part, self.case
        assert part <= 1, f"{law}: {violation:.2e}, allowed {tolerance:.0e}"

    def summary(self):
        """One line of what was tried."""
        tried = ", ".join(f"{kind} {n}" for kind, n in sorted(self.tried.items()))
        refused = f"; refused {sum(self.refused.values())}" if self.refused else ""
        worst = ", ".join(f"{law} {part:.1e}" for law, (part, _) in sorted(self.worst.items()))
        return f"{self.name}: {tried}{refused}; largest violation over tolerance: {worst}"


def kind_of(case):
    model = case.model
    return "+".join(type(step).__name__ for _, step in model.steps) if hasattr(model, "steps") else type(model).__name__
