"""Errors on structures that were left out, against models that are fitted without them."""

import numpy as np
import pytest
from ase import Atoms
from sklearn.base import clone

from eqkernels import LambdaSOAP, SparseTensorGPR, TensorGPR, TensorRidge
from eqkernels.datasets import load_water_clusters
from eqkernels.metrics import frobenius_rmse, irrep_rmse
from eqkernels.structures.paired import paired_rows
from eqkernels.validation import ErrorTail, expected_error, extrapolated, held_back, held_back_errors


@pytest.fixture(scope="module")
def data():
    water = load_water_clusters()
    return water.frames[:50], water.dipole[:50]


SMALL = LambdaSOAP(cutoff=4.0, n_max=3, l_max=2)


def test_leave_one_out_is_that_of_models_fitted_without(data):
    frames, y = data[0][:15], data[1][:15]
    model = TensorGPR(descriptor=SMALL, optimizer=None, noise=1e-3, normalize_y=False).fit(frames, y)
    error = expected_error(model, frames, y)
    left_out = []
    for k in range(len(frames)):
        others = [j for j in range(len(frames)) if j != k]
        left_out.append(clone(model).fit([frames[j] for j in others], y[others]).predict([frames[k]])[0])
    assert error.rmse == pytest.approx(frobenius_rmse(y, np.array(left_out)), rel=1e-6)
    assert error.irreps["1o"] == pytest.approx(irrep_rmse(y, np.array(left_out), target="i")["1o"], rel=1e-6)
    assert error.spread == pytest.approx(np.sqrt(np.mean(np.sum(y**2, axis=1))))
    assert error.n_structures == 15
    assert error.how == "leave-one-out"


def test_held_back_structures_are_not_seen(data):
    seen = []

    class Spy(TensorRidge):
        def fit(self, X, y, sample_weight=None):
            seen.append({id(atoms) for atoms in X})
            return super().fit(X, y, sample_weight)

        def predict(self, X):
            assert not seen[-1] & {id(atoms) for atoms in X}
            return super().predict(X)

    frames, y = data
    error = expected_error(Spy(1e-6, descriptor=SMALL), frames, y)
    assert [len(one) for one in seen] == [20, *[40] * 5]  # few structures: all are held back, in parts
    assert error.n_structures == 50
    assert [n for n, _ in error.curve] == [20, 40, 50]
    groups = np.repeat(np.arange(5), 10)
    expected_error(Spy(1e-6, descriptor=SMALL), frames, y, groups=groups)
    assert len(seen[-1]) == 40
    assert len({groups[k] for k, atoms in enumerate(frames) if id(atoms) in seen[-1]}) == 4


def test_the_learning_curve_is_a_power_law():
    (_, first), (_, second), (n, last) = extrapolated([(40, 3.0), (80, 3.0 / np.sqrt(2))], 320)
    assert first == pytest.approx(np.sqrt(2))
    assert (second, n) == (1.0, 320)
    assert last == pytest.approx(0.5)
    assert extrapolated([(40, 1.0), (80, 2.0)], 160)[-1][1] == 1.0  # never rises
    assert extrapolated([(40, 9.0), (80, 1.0)], 160)[-1][1] == pytest.approx(0.5)  # at most the first power


def test_forces_and_per_atom_targets(data):
    frames = data[0][:40]
    energies = np.array([np.sum(atoms.positions**2) for atoms in frames])
    forces = [-2 * atoms.positions for atoms in frames]
    error = expected_error(SparseTensorGPR(20, descriptor=SMALL), frames, energies, forces=forces)
    assert 0 < error.forces < 2 * np.sqrt(np.mean(np.concatenate(forces) ** 2))
    vectors = [atoms.positions - atoms.get_center_of_mass() for atoms in frames]
    error = expected_error(TensorRidge(descriptor=SMALL, target="forces"), frames, vectors)
    assert error.rmse < error.spread
    assert list(error.irreps) == ["1o"]


def test_too_few(data):
    with pytest.raises(ValueError, match="from 4 structures: at least 5"):
        expected_error(TensorRidge(), data[0][:4], data[1][:4])


def test_models_are_compared_on_the_same_structures(data):
    frames, y = data
    rough, fine = TensorRidge(1e3, descriptor=SMALL), TensorRidge(1e-6, descriptor=SMALL)
    one, other = held_back_errors([rough, fine], frames, y)
    assert one > 2 * other
    learned, held = held_back(frames, None, 0)[0]
    assert not np.intersect1d(learned, held).size
    learned = np.sort(learned)
    model = clone(fine).fit([frames[k] for k in learned], y[learned])
    assert other == pytest.approx(frobenius_rmse(y[held], model.predict([frames[k] for k in held])), rel=1e-6)


def test_species_of_a_single_structure_are_learned_notheld_back():
    from ase.build import molecule

    frames = [molecule("H2O") for _ in range(30)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    frames[11] = molecule("NH3")
    y = np.array([atoms.positions[1] - atoms.positions[0] for atoms in frames])
    parts = held_back(frames, None, 0)
    assert len(parts) == 5
    assert all(11 not in held for _, held in parts)
    for learned, _ in parts:
        if 11 in learned:
            assert 11 in learned[:2]  # with the half of them too
    error = expected_error(TensorRidge(descriptor=SMALL), frames, y)
    assert error.n_structures == 29


def test_the_tail_of_errors():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(200, 3))
    wrong = 0.01 * rng.normal(size=(200, 3))
    wrong[17], wrong[90] = 5.0, -3.0
    tail = ErrorTail.of(paired_rows(true, true + wrong))
    norms = np.linalg.norm(wrong, axis=1)
    assert tail.median == pytest.approx(np.median(norms))
    assert tail.most == pytest.approx(np.quantile(norms, 0.95))
    assert tail.outliers == [17]  # it alone has more than half
    assert tail.without == pytest.approx(np.sqrt(np.mean(np.delete(norms, 17) ** 2)))
    assert tail.share == pytest.approx(75 / np.sum(norms**2))
    assert "1 structure has 73% of the squared error (17)" in tail.lines()[1]
    assert ErrorTail.of(paired_rows(true, true + 0.01)).outliers == []
    assert ErrorTail.of(paired_rows(true, true + wrong), factor=0.5).median == pytest.approx(0.5 * tail.median)


def test_the_tail_of_atoms_is_that_of_their_structures():
    rng = np.random.default_rng(0)
    true = [rng.normal(size=(n, 3)) for n in (2, 5, 3)]
    wrong = [rng.normal(size=one.shape) for one in true]
    made = np.empty(3, dtype=object)
    made[:] = [one + other for one, other in zip(true, wrong, strict=True)]
    tail = ErrorTail.of(paired_rows(true, made))
    assert tail.median == pytest.approx(np.median([np.sqrt(np.mean(np.sum(one**2, axis=1))) for one in wrong]))


def test_outliers_are_named_by_their_place_in_the_data(data):
    frames, y = data[0][:30], data[1][:30].copy()
    y[21] += 100.0
    assert expected_error(TensorGPR(descriptor=SMALL).fit(frames, y), frames, y).tail.outliers == [21]
    assert expected_error(TensorRidge(descriptor=SMALL), frames, y).tail.outliers == [21]


def test_the_interval_holds_the_error_on_other_structures():
    water = load_water_clusters()
    frames, y = [water.frames[k] for k in range(100, 400)], water.dipole[100:400]  # dimers
    order = np.random.default_rng(0).permutation(300)
    few, others = order[:60], order[60:]
    model = TensorRidge(descriptor=SMALL).fit([frames[k] for k in few], y[few])
    error = expected_error(model, [frames[k] for k in few], y[few])
    low, high = error.interval
    assert low < error.rmse < high
    assert low < frobenius_rmse(y[others], model.predict([frames[k] for k in others])) < high
    assert error.standard_error == pytest.approx(error.rmse * np.log(high / low) / 3.29)
    assert f"between {low:.3g} and {high:.3g}" in str(error)


def test_an_uncertain_learning_curve_widens_the_interval(data):
    """Leave-one-out knows all structures, held-back parts are continued to them."""
    frames, y = data
    model = TensorGPR(descriptor=SMALL).fit(frames, y)
    exact, continued = expected_error(model, frames, y), expected_error(TensorRidge(descriptor=SMALL), frames, y)
    assert exact.interval[0] < exact.rmse < exact.interval[1]
    assert continued.interval[0] < continued.rmse < continued.interval[1]


def test_structures_with_species_of_their_own_are_learned_from():
    frames = [Atoms("CO", [[0, 0, 0], [0, 0, 1.1 + 0.01 * k]]) for k in range(20)]
    for k, symbol in zip(range(0, 20, 5), ("N", "F", "S", "P"), strict=True):
        frames[k].symbols[0] = symbol
    for seed in range(5):
        for learned, held in held_back(frames, None, seed):
            np.testing.assert_array_equal(np.sort(np.concatenate([learned, held])), np.arange(20))
            assert set(range(0, 20, 5)) <= set(learned)
