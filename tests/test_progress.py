"""What is said of long work: lines in a log, a bar on a terminal, nothing of what is short."""

import io
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from eqkernels import _progress
from eqkernels._progress import LineHandler, Meter, say


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(_progress.time, "monotonic", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    terminal = Terminal()
    # not sys.stderr, which pytest replaces again
    monkeypatch.setattr(_progress, "sys", SimpleNamespace(stderr=terminal, __stderr__=terminal))
    return terminal


def work(clock, seconds, steps=10, **options):
    meter = Meter("SOAP", steps, "the structures", **options)
    for done in range(1, steps + 1):
        clock.now += seconds / steps
        meter.reach(done)


def test_short_work_is_silent(clock, capsys, caplog):
    with caplog.at_level(logging.INFO, logger="eqkernels"):
        work(clock, 1.9)
    assert capsys.readouterr().err == ""
    assert not caplog.messages


def test_lines_with_the_time_left(clock, capsys, caplog):
    work(clock, 10.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "SOAP: 20% of the structures, 8 s left"
    assert len(lines) == 5
    work(clock, 10.0, verbose=0)
    assert capsys.readouterr().err == ""
    with caplog.at_level(logging.INFO, logger="eqkernels"):
        work(clock, 10.0, verbose=0)
    assert caplog.messages == lines


def test_lines_become_rarer(clock, capsys):
    work(clock, 24 * 3600.0, steps=50000)
    assert 50 < len(capsys.readouterr().err.splitlines()) < 150


def test_work_of_unknown_length(clock, capsys):
    meter = Meter("TensorGPR", None, "evaluations")
    for _ in range(10):
        clock.now += 1.0
        meter.advance(1)
    assert capsys.readouterr().err.splitlines()[0] == "TensorGPR: evaluations: 2, 2 s so far"


def test_a_bar_on_a_terminal(clock, terminal):
    work(clock, 10.0, steps=100)
    pictures = terminal.getvalue().split("\x1b[K\r")
    assert "\n" not in terminal.getvalue()
    assert any(one.startswith("SOAP: [============            ] 5") for one in pictures)
    assert pictures[-2:] == ["", ""]  # is erased
    assert all(len(one) < 80 for one in pictures)


def test_a_log_on_a_terminal_is_not_written_twice(clock, terminal):
    handler = LineHandler()
    _progress.logger.addHandler(handler)
    _progress.logger.setLevel(logging.INFO)
    try:
        work(clock, 10.0)
        say("a remark", verbose=1)
    finally:
        _progress.logger.removeHandler(handler)
        _progress.logger.setLevel(logging.NOTSET)
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\x1b[K\ra remark\n")


def test_a_log_of_ones_own_on_standard_error_has_no_bar(clock, terminal):
    handler = logging.StreamHandler(terminal)
    _progress.logger.addHandler(handler)
    _progress.logger.setLevel(logging.INFO)
    try:
        work(clock, 10.0)
    finally:
        _progress.logger.removeHandler(handler)
        _progress.logger.setLevel(logging.NOTSET)
    assert terminal.getvalue().count("% of the structures") == 5
    assert "[=" not in terminal.getvalue()


@pytest.mark.parametrize("verbose", [0, 1])
def test_compilation_is_told_once(verbose, tmp_path):
    (tmp_path / "loops.py").write_text(
        "from eqkernels._compile import njit\n"
        "@njit()\ndef add(x):\n    return x + 1\n"
        "@njit()\ndef double(x):\n    return 2 * add(x)\n"
    )
    code = f"from eqkernels._progress import ask; ask({verbose}); import loops; loops.double(1); loops.double(1.5)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    for expected in (verbose, 0):  # the second time, it is loaded
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert run.stderr.count("compiling loops, once") == expected
