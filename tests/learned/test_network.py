import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from eqkernels import CartesianTensor, CovariantKernel, EquivariantUnion, LambdaSOAP, TensorKernelRidge, TensorRidge
from eqkernels.learned import EquivariantNetwork, LearnedTensorRegressor, fitting, optimizers
from eqkernels.learned.geometry import make_graph
from eqkernels.learned.objectives import log_marginal_likelihood
from eqkernels.learned.readout import Readout
from eqkernels.learned.tape import Tape, Variable
from eqkernels.structures import StructureBatch
from eqkernels.testing import assert_equivariant
from tests.conftest import random_frames, water_set
from tests.test_sklearn_checks import RegressorOfRows, molecules_of_rows

SMALL = {"cutoff": 4.0, "channels": 4, "max_iter": 5, "n_radial": 5, "random_state": 0}
ALL = "0e+0o+1o+1e+2e+2o"
ARCHITECTURES = [
    {"architecture": "message_passing", "products": True},
    {"architecture": "message_passing", "products": False, "n_layers": 3},
    *({"architecture": "ace", "body_order": nu} for nu in (3, 4)),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_random_and_trained_features_of_all_irreps_are_equivariant(frames, architecture):
    random = EquivariantNetwork(**SMALL, **architecture, irreps=ALL).fit(frames)
    assert_equivariant(random, frames)
    y = np.random.default_rng(0).normal(size=(len(frames), 3, 3))
    trained = EquivariantNetwork(**SMALL, **architecture, irreps=ALL, baseline="mean").fit(frames, y)
    assert set(trained.transform(frames).blocks) == set(ALL.split("+"))
    assert_equivariant(trained, frames)


@pytest.mark.parametrize("body_order", [1, 2])
def test_low_body_orders(frames, body_order):
    network = EquivariantNetwork(**SMALL, architecture="ace", body_order=body_order, irreps="0e+1o+2e").fit(frames)
    assert_equivariant(network, frames)


def test_body_order_one_sees_distances_only():
    """A sum over neighbors of functions of the distance: the scalar of two neighbors is the sum of those of one."""
    frames = [Atoms("H3", positions=[[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [0.0, 1.7, 0.0]])]
    network = EquivariantNetwork(**SMALL, architecture="ace", body_order=1, irreps="0e").fit(frames)
    pairs = [frames[0][[0, 1]], frames[0][[0, 2]]]
    blocks = [network.transform([atoms]).blocks["0e"] for atoms in (frames[0], *pairs)]
    whole, *parts = (block[0, 0, :-1] for block in blocks)  # without the constant
    assert np.allclose(whole, parts[0] + parts[1], atol=1e-12)


def test_features_do_not_depend_on_the_batch_or_the_threads(molecules):
    network = EquivariantNetwork(**SMALL, irreps="0e+1o").fit(molecules)
    together = network.transform(molecules * 20)
    alone = network.transform(molecules[3:4]).blocks["1o"]
    assert np.allclose(together[3].blocks["1o"], alone, atol=1e-13)
    threads = EquivariantNetwork(**SMALL, irreps="0e+1o", n_jobs=2).fit(molecules).transform(molecules * 20)
    assert np.array_equal(threads.blocks["1o"], together.blocks["1o"])


def test_feed_kernels_and_join_other_features(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**{**SMALL, "max_iter": 20})
    union = EquivariantUnion([("learned", network), ("fixed", LambdaSOAP(cutoff=3.0, n_max=3, l_max=2))])
    for features in (network, union):
        model = make_pipeline(features, TensorKernelRidge(alpha=1e-6, kernel=CovariantKernel(zeta=2)))
        assert model.fit(frames[:30], y[:30]).score(frames[30:], y[30:]) > 0.99
        assert_equivariant(model, frames[30:33], tolerance=1e-8)
    linear = TensorRidge(features=network, normalize=False).fit(frames[:30], y[:30])
    assert linear.score(frames[30:], y[30:]) > 0.99


def test_search_through_a_pipeline(waters):
    frames, y, *_ = waters
    model = make_pipeline(EquivariantNetwork(**SMALL), TensorKernelRidge(alpha=1e-6))
    grid = {"equivariantnetwork__n_layers": [1, 2], "tensorkernelridge__alpha": [1e-6, 1e-3]}
    assert GridSearchCV(model, grid, cv=2).fit(frames, y).best_score_ > 0.9


def test_invariants_feed_any_model(waters):
    frames, _, _, scalar = waters
    network = EquivariantNetwork(**{**SMALL, "max_iter": 20}).fit(frames[:30], scalar[:30])
    train, test = (network.transform(part).invariants("sum") for part in (frames[:30], frames[30:]))
    assert Ridge(alpha=1e-4).fit(train, scalar[:30]).score(test, scalar[30:]) > 0.95


def test_several_targets_at_once(waters):
    frames, vector, matrix, scalar = waters
    random = np.random.default_rng(0)
    of_atoms = [random.normal(size=(3, 3)) for _ in frames]
    y = {"dipole": vector, "polarizability": matrix, "energy": scalar, "force": of_atoms}
    network = EquivariantNetwork(**SMALL, target={"force": "i"}).fit(frames, y)
    assert network.formulas_ == {"dipole": "i", "polarizability": "ij=ji", "energy": "", "force": "i"}
    assert set(network.noise_) == {
        "dipole:1o", "polarizability:0e", "polarizability:2e", "energy:0e", "force:1o",
    }  # fmt: skip
    assert_equivariant(network, frames[:3])


def test_labels_that_cannot_be_used_are_named(waters):
    frames, y, *_ = waters
    with pytest.raises(ValueError, match="property 'dipole': y contains NaN"):
        EquivariantNetwork(**SMALL).fit(frames, {"energy": y[:, 0], "dipole": np.full((40, 3), np.nan)})
    with pytest.raises(ValueError, match="target declares the symmetry of 'dipol', but y has"):
        EquivariantNetwork(**SMALL, target={"dipol": "i"}).fit(frames, {"dipole": y})
    with pytest.raises(ValueError, match="but y is not a dict"):
        EquivariantNetwork(**SMALL, target={"dipole": "i"}).fit(frames, y)
    with pytest.raises(TypeError, match="names of the properties"):
        EquivariantNetwork(**SMALL).fit(frames, {1: y})
    with pytest.raises(ValueError, match="irreps='' is empty"):
        EquivariantNetwork(**SMALL, irreps="").fit(frames)
    with pytest.raises(ValueError, match="products='no'.*early_stopping=1"):
        EquivariantNetwork(**SMALL, products="no", early_stopping=1).fit(frames)
    with pytest.raises(ValueError, match="irreps='0e' lacks 1o"):
        EquivariantNetwork(**SMALL, irreps="0e").fit(frames, y)
    with pytest.raises(ValueError, match="validation_fraction"):
        EquivariantNetwork(**SMALL, early_stopping=True).fit(frames[:3], y[:3])


# -- training -----------------------------------------------------------------------------------------------------


def test_training_improves_the_features(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**{**SMALL, "max_iter": 30}).fit(frames, y)
    assert network.history_["loss"][-1] < network.history_["loss"][0] - 0.5
    assert (np.diff(network.history_["loss"]) <= 1e-12).all()
    assert (np.diff(network.history_["cpu_time"]) >= 0).all()


def test_adam_on_batches(waters):
    frames, y, *_ = waters
    options = {**SMALL, "solver": "adam", "batch_size": 10, "max_iter": 40}
    models = [LearnedTensorRegressor(**options).fit(frames[:30], y[:30]) for _ in range(2)]
    assert models[0].score(frames[30:], y[30:]) > 0.99
    assert np.array_equal(models[0].predict(frames), models[1].predict(frames))
    assert len(models[0].history_["loss"]) == 40


def test_noise_after_batches_is_that_of_all_structures(waters):
    """A batch of few labels is explained by the features alone: only all of them show the noise."""
    frames, y, *_ = waters
    random = np.random.default_rng(0)
    noisy = y + 0.3 * np.sqrt(np.mean(y**2)) * random.normal(size=y.shape)
    options = {**SMALL, "solver": "adam", "batch_size": 4, "max_iter": 20}
    network = EquivariantNetwork(**options).fit(frames, noisy)
    features = network.transform(frames)
    design = Readout(normalize=False).fit(features, noisy)._design(features, "1o")
    values = CartesianTensor("i").to_irreps(noisy)["1o"]
    values = values / np.sqrt(np.mean(values**2))
    found = np.log(network.noise_["y:1o"])
    losses = [log_marginal_likelihood(design, values, found + step)[0] for step in (0.0, -0.5, 0.5)]
    assert losses[0] < min(losses[1:])


@pytest.mark.parametrize(("n", "expected"), [(100, "lbfgs"), (101, "adam")])
def test_many_structures_are_learned_in_batches(monkeypatch, n, expected):
    used = []
    for name in ("lbfgs", "adam"):
        train = getattr(fitting, f"train_{name}")
        monkeypatch.setattr(fitting, f"train_{name}", lambda *a, t=train, s=name: (used.append(s), t(*a))[1])
    frames, y, *_ = water_set(n, seed=1)
    EquivariantNetwork(**{**SMALL, "max_iter": 1}).fit(frames, y)
    assert used == [expected]


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_early_stopping_keeps_the_best(waters, solver):
    frames, y, *_ = waters
    options = {**SMALL, "max_iter": 60, "n_iter_no_change": 3, "validation_fraction": 0.3, "channels": 8}
    network = EquivariantNetwork(**options, early_stopping=True, solver=solver).fit(frames, y)
    scores = network.history_["validation"]
    assert np.isfinite(scores).all()
    assert len(scores) == 60 or len(scores) - 1 - np.argmin(scores) == 3


def test_warm_start_and_partial_fit_continue(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**{**SMALL, "max_iter": 20}, warm_start=True).fit(frames, y)
    reached = network.loss_
    network.fit(frames, y)
    assert network.history_["loss"][0] < reached + 0.3
    online = EquivariantNetwork(**SMALL)
    losses = [online.partial_fit(frames, y).history_["loss"][0] for _ in range(4)]
    assert losses[3] < losses[0]
    model = LearnedTensorRegressor(**SMALL)
    for _ in range(3):
        model.partial_fit(frames, y)
    assert model.score(frames, y) > LearnedTensorRegressor(**SMALL).fit(frames, y).score(frames, y)


def test_warm_start_refuses_another_architecture(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**SMALL, warm_start=True).fit(frames, y)
    with pytest.raises(ValueError, match="warm_start"):
        network.set_params(channels=5).fit(frames, y)


def test_training_that_is_refused_leaves_the_model_as_it_was(waters):
    frames, vector, matrix, _ = waters
    model = LearnedTensorRegressor(**SMALL, warm_start=True).fit(frames, vector)
    network = EquivariantNetwork(**SMALL, warm_start=True).fit(frames, vector)
    before, features = model.predict(frames), network.transform(frames).blocks["1o"]
    others = [molecule("NH3"), molecule("CH4")]  # as many species as in water
    for fitted in (model, network):
        with pytest.raises(ValueError, match="new: C, N"):
            fitted.fit(others, vector[:2])
        with pytest.raises(ValueError, match="were 0e"):
            fitted.fit(frames, matrix)
        with pytest.raises(ValueError, match="lacks 2e|of rank 1"):
            fitted.partial_fit(frames, matrix)
    assert np.array_equal(model.predict(frames), before)
    assert np.array_equal(network.transform(frames).blocks["1o"], features)


def test_partial_fit_keeps_the_symmetry_of_the_labels(waters):
    """A batch whose general tensors happen to be symmetric, and one that lacks a species."""
    frames, *_ = waters
    general = np.random.default_rng(0).normal(size=(40, 3, 3))
    symmetric = general + general.swapaxes(1, 2)
    y = {"general": general, "other": general}
    model = LearnedTensorRegressor(**SMALL).partial_fit(frames, general)
    assert model.partial_fit(frames, symmetric).target_ == "ij"
    several = LearnedTensorRegressor(**SMALL).partial_fit(frames, y)
    assert several.partial_fit(frames, {"general": symmetric}).readouts_["general"].target_ == "ij"
    with pytest.raises(ValueError, match="earlier labels"):
        several.partial_fit(frames, {"new": symmetric})
    warm = EquivariantNetwork(**SMALL, warm_start=True).fit(frames, np.ones(40))
    assert np.array_equal(warm.fit([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])] * 3, np.ones(3)).species_, [1, 8])


def test_frames_may_come_from_an_iterator(waters):
    frames, y, *_ = waters
    model = LearnedTensorRegressor(**SMALL).fit(iter(frames), y)
    assert np.array_equal(model.predict(iter(frames)), LearnedTensorRegressor(**SMALL).fit(frames, y).predict(frames))
    assert np.array_equal(EquivariantNetwork(**SMALL).fit(iter(frames), y).weights_["species"],
                          model.features_.weights_["species"])  # fmt: skip


def test_the_learning_rate_falls_with_the_time_budget(monkeypatch):
    """Not only over the epochs, of which a budget may allow few."""
    rates, clock = [], iter(np.arange(0.0, 1000.0, 0.5))
    monkeypatch.setattr(optimizers.time, "process_time", lambda: next(clock))
    monitor = optimizers.Monitor(10**6, 20.0)

    def loss(vector):
        rates.append(vector[0])
        return 0.0, np.ones(1)

    optimizers.train_adam(lambda epoch: [loss], np.zeros(1), 0, monitor, 1.0)
    steps = -np.diff(rates)
    assert len(steps) > 5
    assert (np.diff(steps) < 0).all()
    assert steps[-1] < 0.2


def test_best_of_several_starts(waters):
    frames, y, *_ = waters
    several = EquivariantNetwork(**SMALL, n_init=3).fit(frames, y)
    assert several.loss_ <= EquivariantNetwork(**SMALL).fit(frames, y).loss_ + 1e-12


def test_time_budget_ends_training():
    frames, y, *_ = water_set(100, seed=1)
    network = EquivariantNetwork(**{**SMALL, "max_iter": 10**6}, time_budget=0.2).fit(frames, y)
    assert 0.2 <= network.history_["cpu_time"][-1] < 1.5


def test_state_survives_pickling_and_restores_from_arrays(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**SMALL).fit(frames, y)
    expected = network.transform(frames).blocks["1o"]
    assert np.array_equal(pickle.loads(pickle.dumps(network)).transform(frames).blocks["1o"], expected)
    restored = EquivariantNetwork(**network.get_params())
    for key, value in vars(network).items():
        if key.endswith("_"):
            setattr(restored, key, value)
    assert np.array_equal(restored.transform(frames).blocks["1o"], expected)


# -- derivatives by positions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_features_have_the_slopes_of_finite_differences(architecture):
    """The same operations, with edges that are variables: what forces need."""
    frames = random_frames(5, n_frames=2, n_species=2, periodic=True)
    network = EquivariantNetwork(**SMALL, **architecture, irreps="0e+1o").fit(frames)
    weights = {name: Variable(array, wanted=False) for name, array in network.weights_.items()}
    batch = StructureBatch.from_frames(frames)
    tape = Tape()
    graph = make_graph(batch, network.species_, network.cutoff, network.n_radial, network.l_max, tape)
    blocks = network._model().features(tape, weights, graph)
    random = np.random.default_rng(0)
    weight = {irrep: random.normal(size=block.value.shape) for irrep, block in blocks.items()}
    for irrep, block in blocks.items():
        block.gradient = weight[irrep][graph.order]
    tape.backward()
    slopes = np.zeros((batch.n_atoms, 3))
    np.add.at(slopes, graph.order[graph.edges[1]], graph.vectors.gradient)
    np.add.at(slopes, graph.order[graph.edges[0]], -graph.vectors.gradient)

    def total(moved):
        features = network.transform(moved)
        return sum(np.sum(weight[irrep] * features.blocks[str(irrep)]) for irrep in weight)

    step, direction = 1e-5, random.normal(size=frames[0].positions.shape)
    sums = []
    for sign in (1, -1):
        moved = [atoms.copy() for atoms in frames]
        moved[0].positions += sign * step * direction
        sums.append(total(moved))
    expected = (sums[0] - sums[1]) / (2 * step)
    assert np.sum(slopes[: len(frames[0])] * direction) == pytest.approx(expected, rel=1e-6)


# -- scikit-learn -------------------------------------------------------------------------------------------------------


class LearnedOfRows(RegressorOfRows, LearnedTensorRegressor):
    def partial_fit(self, X, y=None, **arguments):
        first = not hasattr(self, "features_")
        return super().partial_fit(molecules_of_rows(validate_data(self, X, dtype=float, reset=first)), y, **arguments)


TINY = {"cutoff": 5.0, "channels": 8, "n_radial": 6, "solver": "lbfgs", "max_iter": 10, "random_state": 0}


@parametrize_with_checks([LearnedOfRows(**TINY)])
def test_scikit_learn_check(estimator, check):
    check(estimator)
