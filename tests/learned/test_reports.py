import logging
import re

import numpy as np
import pytest

from eqkernels.learned import EquivariantNetwork
from eqkernels.learned.reports import Report

OPTIONS = {"cutoff": 4.0, "channels": 4, "n_radial": 5, "random_state": 0, "max_iter": 8}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"solver": "lbfgs"}, "the training"),
        ({"solver": "adam", "batch_size": 4}, "the training"),
        ({"solver": "adam", "batch_size": 40}, "the training"),
        ({"solver": "lbfgs", "n_init": 2}, r"run [12] of 2"),
    ],
    ids=str,
)
def test_the_cost_comes_first_then_progress(waters, monkeypatch, capsys, caplog, options, part):
    frames, y, *_ = waters
    monkeypatch.setattr("eqkernels._progress._PAUSE", 0.0)
    with caplog.at_level(logging.INFO, logger="eqkernels"):
        network = EquivariantNetwork(**OPTIONS, **options, verbose=1).fit(frames, y)
    cost, *lines = (line for line in capsys.readouterr().err.splitlines() if "structures" in line or "%" in line)
    n = len(frames)
    assert re.fullmatch(rf"EquivariantNetwork: {n} structures, at most about \d.* (s|min|h) of CPU time", cost)
    assert caplog.messages.count(cost) == 1
    pattern = rf"EquivariantNetwork: (\d+)% of {part}, .* left, loss [-\d.e]+"
    parts = [int(re.fullmatch(pattern, line).group(1)) for line in lines]
    assert parts[-1] == 100
    if options.get("n_init") is None:
        assert parts == sorted(parts)
        assert len(parts) >= network.n_iter_ - 1
        assert lines[-1].endswith(f"loss {network.loss_:.5g}")


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_reports_change_no_bits(waters, capsys, solver):
    frames, y, *_ = waters
    quiet, loud = (EquivariantNetwork(**OPTIONS, solver=solver, verbose=k).fit(frames, y) for k in (0, 1))
    assert capsys.readouterr().err.count("CPU time") == 1
    assert all(np.array_equal(loud.weights_[name], weights) for name, weights in quiet.weights_.items())


def test_the_cost_of_all_runs_ends_with_the_time_budget(capsys):
    Report("N", 7, 1, 3, 100, None, 1).cost(3.0, 0.5)
    Report("N", 7, 2, 3, 100, None, 1).cost(3.0, 0.5)  # was said in the first run
    Report("N", 7, 1, 1, np.inf, 60.0, 1).cost(3.0, 0.5)
    assert capsys.readouterr().err.splitlines() == [
        "N: 7 structures, at most about 2.5 min of CPU time",
        "N: 7 structures, at most about 60 s of CPU time",
    ]
