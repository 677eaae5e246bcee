"""The loss of a network: parts of bounded size, its gradient, and memory."""

import numpy as np
import pytest

from eqkernels.learned import EquivariantNetwork, fitting
from eqkernels.learned.training import split_by_size
from tests.conftest import random_frames

SMALL = {"cutoff": 4.0, "channels": 4, "max_iter": 5, "n_radial": 5, "random_state": 0}


def captured_loss(monkeypatch, edges, **parameters):
    """Loss of two properties, one of some atoms, with weights of structures, and the vector that training starts from."""
    frames = random_frames(11, n_frames=12, n_species=2, periodic=True)
    random = np.random.default_rng(0)
    of_atoms = [random.normal(size=(len(atoms), 3)) for atoms in frames]
    of_atoms[0][:] = np.nan
    of_atoms[3][0] = np.nan
    y = {"matrix": random.normal(size=(12, 3, 3)), "vectors": of_atoms, "nothing": np.zeros((12, 3))}
    found = []

    def capture(loss, start, n_noises, monitor):
        found.extend([loss, start + 0.1 * np.random.default_rng(1).normal(size=len(start))])
        monitor(start, 0.0)
        return start

    monkeypatch.setattr(fitting, "train_lbfgs", capture)
    monkeypatch.setattr(fitting, "_WORK_PER_PART", edges)
    parameters.setdefault("solver", "lbfgs")
    EquivariantNetwork(**SMALL, **parameters, target={"vectors": "i"}).fit(frames, y, np.arange(1.0, 13.0))
    return found


@pytest.mark.parametrize("objective", ["lml", "loo"])
@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_parts_are_the_whole(monkeypatch, architecture, objective):
    options = {"architecture": architecture, "objective": objective}
    whole, vector = captured_loss(monkeypatch, 2**17, **options)
    parts, same = captured_loss(monkeypatch, 50, **options)
    assert whole.keeps
    assert len(whole.parts) == 1
    assert len(parts.parts) > 3
    assert np.array_equal(vector, same)
    (value, gradient), (expected, slopes) = parts(vector), whole(vector)
    assert value == pytest.approx(expected, rel=1e-10)
    assert np.allclose(gradient, slopes, rtol=1e-7, atol=1e-9 * np.abs(slopes).max())
    monkeypatch.setattr(fitting, "_WORK_KEPT", 50)
    again, _ = captured_loss(monkeypatch, 50, **options)
    assert not again.keeps
    threads, _ = captured_loss(monkeypatch, 50, n_jobs=3, **options)
    for other in (again, threads):
        assert other(vector)[0] == value
        assert np.array_equal(other(vector)[1], gradient)


@pytest.mark.parametrize("objective", ["lml", "loo"])
@pytest.mark.parametrize("edges", [50, 2**17])
def test_gradient_of_the_loss(monkeypatch, edges, objective):
    loss, vector = captured_loss(monkeypatch, edges, objective=objective, weight_decay=0.1)
    direction = np.random.default_rng(2).normal(size=len(vector))
    step = 1e-5
    slope = (loss(vector + step * direction)[0] - loss(vector - step * direction)[0]) / (2 * step)
    assert loss(vector)[1] @ direction == pytest.approx(slope, rel=1e-5)
    decay = 0.05 * np.sum((vector - loss.start)[: loss.packing.size] ** 2)
    assert loss.objective_value(vector) == pytest.approx(loss(vector)[0] - decay, rel=1e-10)


def test_split_by_size():
    parts = split_by_size(np.arange(7), np.array([3, 1, 9, 2, 2, 2, 50]), 5)
    assert np.array_equal(np.concatenate(parts), np.arange(7))
    assert all(len(part) for part in parts)
    assert [part.tolist() for part in split_by_size(np.arange(4), np.array([2, 2, 2, 2]), 100)] == [[0, 1, 2, 3]]
