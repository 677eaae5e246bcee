import logging
import time
import warnings

import numpy as np
import pytest

from eqkernels import CovariantKernel, LambdaSOAP, TensorGPR, TensorKernelRidge
from eqkernels._progress import Count, Meter, duration, reported_to
from eqkernels.regression import cost
from tests.conftest import random_frames

SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 2, "sigma": 0.4}
MODELS = [TensorKernelRidge, TensorGPR]


@pytest.fixture(scope="module")
def features():
    frames = random_frames(1, n_frames=60, n_species=2)
    return LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames), np.random.default_rng(0).normal(size=(60, 3))


@pytest.mark.parametrize("model", MODELS)
def test_the_cost_is_logged_and_printed_on_demand(features, model, caplog, capsys):
    X, y = features
    with caplog.at_level(logging.DEBUG, logger="eqkernels"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(target="i").fit(X, y)
    pattern = f"{model.__name__}: 60 structures or labelled atoms, about "
    assert any(one.message.startswith(pattern) for one in caplog.records)
    assert capsys.readouterr().err == ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(target="i", verbose=1).fit(X, y)
    assert capsys.readouterr().err.startswith(pattern)


@pytest.mark.parametrize("model", MODELS)
def test_long_work_is_told_before(features, model, monkeypatch):
    monkeypatch.setattr(cost, "_SECONDS_PER_PAIR", 1.0)
    X, y = features
    with pytest.warns(UserWarning, match=r"the fit of .* about .* (min|h) and .* GiB.*SparseTensorGPR or fewer"):
        model(target="i").fit(X, y)
    monkeypatch.setattr(cost, "_SECONDS_PER_PAIR", 1e-7)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the fit of")
        warnings.filterwarnings("ignore", message="the best alpha")
        model(target="i").fit(X, y)


@pytest.mark.parametrize("model", MODELS)
def test_more_than_the_memory_is_refused_before(features, model, monkeypatch):
    X, y = features
    monkeypatch.setattr("eqkernels._memory.memory_limit", lambda: 1e5)
    monkeypatch.setattr(CovariantKernel, "__call__", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(MemoryError, match=rf"{model.__name__}: the exact kernel of 60 .* would take .*SparseTensorGPR"):
        model(target="i").fit(X, y)


@pytest.mark.parametrize("density", [False, True])
def test_estimates_of_samples_are_those_of_the_whole(density, monkeypatch):
    frames = random_frames(2, n_frames=900, n_species=2)
    kernel = CovariantKernel() if density else CovariantKernel() + CovariantKernel(1) * CovariantKernel(3)
    X = LambdaSOAP(**SMALL, irreps="0e+1o").fit_transform(frames)
    if density:
        monkeypatch.setattr("eqkernels.kernels.environments._LARGE", -1)
    monkeypatch.setattr(cost, "_SAMPLE", 400)
    seconds, units = cost._kernel_cost(kernel, X, "1o")
    with reported_to(Count()) as count:
        start = time.perf_counter()
        kernel(X, irrep="1o")
        taken = time.perf_counter() - start
    assert 0.5 < units / count.total < 2
    assert 0.2 < seconds / taken < 5


def test_progress_is_told_with_the_time_left(features, monkeypatch, capsys):
    monkeypatch.setattr("eqkernels._progress._PAUSE", 0.0)
    monkeypatch.setattr("eqkernels.kernels.environments._ROWS_PER_PRODUCT", 60)
    X, y = features
    TensorKernelRidge(target="i", verbose=1).fit(X, y)
    lines = capsys.readouterr().err.splitlines()[1:]
    parts = [int(line.split(": ")[1].split("%")[0]) for line in lines]
    assert parts == sorted(parts)
    assert len(parts) > 5
    assert all(line.startswith("TensorKernelRidge: ") and line.endswith(" left") for line in lines)
    assert [duration(s) for s in (0.123, 59.0, 104.0, 125.0, 7300.0)] == [
        "0.12 s", "59 s", "104 s", "2.1 min", "2.0 h",
    ]  # fmt: skip
    quiet = Meter("name", 10)
    monkeypatch.setattr("eqkernels._progress._PAUSE", 1e9)
    quiet.advance(5)
    assert capsys.readouterr().err == ""


def test_an_interrupt_stops_the_kernel(features, monkeypatch):
    X, y = features
    monkeypatch.setattr("eqkernels.kernels.environments._ROWS_PER_PRODUCT", 6)

    class Interrupted:
        def advance(self, amount):
            raise KeyboardInterrupt

    with reported_to(Interrupted()), pytest.raises(KeyboardInterrupt):
        TensorKernelRidge(target="i").fit(X, y)
    TensorKernelRidge(target="i").fit(X, y)
