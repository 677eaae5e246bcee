"""Which model is recommended, and that the reasons are those of the data."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from sklearn.base import clone

from eqkernels import recommend, recommendation
from eqkernels.datasets import load_water_clusters


@pytest.fixture(scope="module")
def water():
    data = load_water_clusters()
    return data.frames[:40], data.dipole[:40]


def test_few_structures_take_an_exact_gaussian_process(water):
    advice = recommend(*water, target="dipole")
    assert type(advice.model).__name__ == "TensorGPR"
    assert advice.model.fit(*water).predict(water[0][:2]).shape == (2, 3)
    assert "leave-one-out" in str(advice)


def test_forces_and_many_structures_take_the_sparse_one(water, monkeypatch):
    monkeypatch.setattr(recommendation, "held_back_errors", lambda *_, **options: [1.0, 2.0])
    frames = water[0]
    energies = np.array([np.sum(atoms.positions**2) for atoms in frames])
    with_forces = recommend(frames, energies, target="energy", forces=True).model
    assert type(with_forces).__name__ == "SparseTensorGPR"
    assert with_forces.n_points == sum(map(len, frames))
    many, y = frames * 50, np.concatenate([np.einsum("ni,nj->nij", water[1], water[1])] * 50)
    assert type(recommend(many, y).model).__name__ == "SparseTensorGPR"


@pytest.fixture(scope="module")
def alloys():
    symbols = ["Cu", "Ag", "Au", "Ni", "Pd", "Pt", "Al", "Pb", "Rh", "Ir", "Ca", "Sr"]
    frames = [bulk(symbol).repeat((1, 1, k)) for symbol in symbols for k in range(1, 6)] * 5
    random = np.random.default_rng(0)
    for atoms in frames:
        atoms.rattle(0.01, seed=int(random.integers(1000)))
    y = random.normal(size=(len(frames), 3, 3))
    return frames, y + y.swapaxes(1, 2)


@pytest.mark.parametrize("best", ["kernel", "network", "mean"])
def test_kernels_and_networks_are_compared(alloys, monkeypatch, best):
    seen = []

    def errors(models, frames, y, **options):
        seen.extend(models)
        return {"kernel": [2.0, 3.0, 4.0], "network": [2.0, 1.0, 4.0], "mean": [2.0, 3.0, 1.0]}[best]

    monkeypatch.setattr(recommendation, "held_back_errors", errors)
    advice = recommend(*alloys, target="dielectric", minutes=10)
    assert [type(one).__name__ for one in seen] == ["TensorGPR", "EquivariantNetworkRegressor", "_Mean"]
    assert seen[1].time_budget == 30  # for the comparison
    assert all(one.aggregate == "mean" for one in seen[:2])
    assert clone(seen[0]).kernel.aggregate == "mean"
    if best == "network":
        assert advice.model.estimator.time_budget == 150
        assert advice.model.estimator.aggregate == "mean"
    else:
        assert type(advice.model).__name__ == "TensorGPR"
        assert advice.model.baseline == ("mean" if best == "mean" else "composition")
    compared = next(reason for reason in advice.reasons if "TensorGPR 2, EquivariantNetworkRegressor" in reason)
    assert ("nothing is learned" in compared) == (best == "mean")


@pytest.mark.parametrize("per_atom", [False, True])
def test_the_mean_of_the_labels(per_atom):
    frames = [molecule(name) for name in ("H2O", "CH4", "NH3")]
    y = [np.eye(3) * k + np.triu(np.ones((3, 3)), 1) for k in range(3)]
    labels = np.array(y)
    if per_atom:
        labels = np.empty(3, dtype=object)
        labels[:] = [np.repeat(one[None], len(atoms), axis=0) for one, atoms in zip(y, frames, strict=True)]
        labels[0][1] = np.nan
    made = recommendation._Mean(per_atom).fit(frames, labels).predict(frames[1:])
    mean = (5 * 1 + 4 * 2) / 11 if per_atom else 1.0
    assert [one.shape for one in made] == [one.shape for one in labels[1:]]
    np.testing.assert_allclose(made[0], np.broadcast_to(mean * np.eye(3), made[0].shape), atol=1e-12)


def test_the_better_of_both_is_taken(water):
    """Nearly noiseless dipoles of one molecule are learned by a Gaussian process in a second, not by a network."""
    frames = [molecule("H2O") for _ in range(300)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    dipoles = np.array([atoms.positions[1:].sum(axis=0) - 2 * atoms.positions[0] for atoms in frames])
    advice = recommend(frames, dipoles, target="dipole", minutes=0.05)
    assert type(advice.model).__name__ == "TensorGPR"
    assert any("EquivariantNetworkRegressor" in reason for reason in advice.reasons)


def test_labels_that_do_not_grow_with_the_structure_take_the_mean():
    frames = [molecule(name) for name in ("H2O", "CH4", "C2H6", "NH3", "CH3OH", "C2H4", "C6H6", "CO2")] * 2
    for k, atoms in enumerate(frames):
        atoms.rattle(0.03, seed=k)
    sizes = np.array([len(atoms) for atoms in frames], dtype=float)
    random = np.random.default_rng(0)
    y = 5 + random.normal(size=len(frames))
    assert recommend(frames, y).model.aggregate == "mean"
    assert recommend(frames, y * sizes).model.aggregate is None
    assert recommend(frames, y * sizes, target="band_gap").model.aggregate == "mean"


@pytest.mark.parametrize(("n_centers", "forces", "expected"), [
    (300, True, 300), (6000, True, 2000), (30000, True, 1490), (10**7, True, 1000), (6000, False, 1000),
])  # fmt: skip
def test_forces_take_more_points_where_that_is_cheap(n_centers, forces, expected):
    facts = type("Facts", (), {"n_centers": n_centers})
    assert recommendation._n_points(facts, forces) == expected


def test_bad_input(water):
    with pytest.raises(ValueError, match="minutes=0 must be a positive number"):
        recommend(*water, minutes=0)
    with pytest.raises(ValueError, match="40"):
        recommend(water[0], water[1][:39])
