import pickle
import time

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
from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor, fitting, optimizers
from eqkernels.learned.graph import make_graph
from eqkernels.learned.objectives import log_marginal_likelihood
from eqkernels.learned.readout import Readout
from eqkernels.learned.tape import Tape, Variable
from eqkernels.learned.trained import TrainedNetwork
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
    linear = TensorRidge(descriptor=network, normalize=False).fit(frames[:30], y[:30])
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
    models = [EquivariantNetworkRegressor(**options).fit(frames[:30], y[:30]) for _ in range(2)]
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
    noise = {"1o": network.noise_["y:1o"]}
    readout = Readout(noise, aggregate="sum", target="i", baseline=None, per_atom=False)
    design = readout.fit(features, noisy)._design(features, "1o")
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
    model = EquivariantNetworkRegressor(**SMALL)
    for _ in range(3):
        model.partial_fit(frames, y)
    assert model.score(frames, y) > EquivariantNetworkRegressor(**SMALL).fit(frames, y).score(frames, y)


def test_warm_start_refuses_another_architecture(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**SMALL, warm_start=True).fit(frames, y)
    with pytest.raises(ValueError, match="warm_start"):
        network.set_params(channels=5).fit(frames, y)


def test_training_that_is_refused_leaves_the_model_as_it_was(waters):
    frames, vector, matrix, _ = waters
    model = EquivariantNetworkRegressor(**SMALL, warm_start=True).fit(frames, vector)
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
    model = EquivariantNetworkRegressor(**SMALL, per_atom=False).partial_fit(frames, general)
    assert model.partial_fit(frames, symmetric).readouts_["y"].target_ == "ij"
    several = EquivariantNetworkRegressor(**SMALL, per_atom=False).partial_fit(frames, y)
    assert several.partial_fit(frames, {"general": symmetric}).readouts_["general"].target_ == "ij"
    with pytest.raises(ValueError, match="earlier labels"):
        several.partial_fit(frames, {"new": symmetric})
    warm = EquivariantNetwork(**SMALL, warm_start=True).fit(frames, np.ones(40))
    assert np.array_equal(warm.fit([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])] * 3, np.ones(3)).species_, [1, 8])


def test_frames_may_come_from_an_iterator(waters):
    frames, y, *_ = waters
    model = EquivariantNetworkRegressor(**SMALL).fit(iter(frames), y)
    assert np.array_equal(
        model.predict(iter(frames)), EquivariantNetworkRegressor(**SMALL).fit(frames, y).predict(frames)
    )
    assert np.array_equal(EquivariantNetwork(**SMALL).fit(iter(frames), y).weights_["species"],
                          model.descriptor_.weights_["species"])  # fmt: skip


def test_the_learning_rate_falls_with_the_time_budget(monkeypatch):
    """Not only over the epochs, of which a budget may allow few."""
    rates, clock = [], iter(np.arange(0.0, 1000.0, 0.5))
    monkeypatch.setattr(optimizers.time, "process_time", lambda: next(clock))
    monitor = optimizers.Monitor(10**6, 20.0)

    class Flat:
        work = 1.0

        def __call__(self, vector):
            rates.append(vector[0])
            return 0.0, np.ones(1)

    optimizers.train_adam(lambda epoch: [Flat()], np.zeros(1), 0, monitor, 1.0)
    steps = -np.diff(rates)
    assert len(steps) > 5
    assert (np.diff(steps) < 0).all()
    assert steps[-1] < 0.2


def test_best_of_several_starts(waters):
    frames, y, *_ = waters
    several = EquivariantNetwork(**SMALL, n_init=3).fit(frames, y)
    assert several.loss_ <= EquivariantNetwork(**SMALL).fit(frames, y).loss_ + 1e-12


@pytest.mark.parametrize("options", [{"solver": "lbfgs"}, {"solver": "adam", "batch_size": 8, "n_init": 2}], ids=str)
def test_time_budget_is_kept_and_used(options):
    """By the whole fit, its readout included; labels of noise have no end that L-BFGS could converge to so soon."""
    frames, *_ = water_set(150, seed=1)
    y = np.random.default_rng(0).normal(size=(150, 3, 3))
    model = EquivariantNetworkRegressor(4.0, channels=8, random_state=0, target="ij", **options)
    model.set_params(max_iter=1).fit(frames, y)  # loads the loops
    before = time.process_time()
    model.set_params(max_iter=None, time_budget=2.0).fit(frames, y)
    assert 1.2 < time.process_time() - before < 2.4
    assert len(model.history_["loss"]) > 1


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_time_budget_of_nothing_and_its_end_within_a_step(waters, solver):
    frames, y, *_ = waters
    options = {**SMALL, "max_iter": None, "solver": solver, "n_init": 3}
    assert EquivariantNetworkRegressor(**options, time_budget=1e-9).fit(frames, y).score(frames, y) > 0.5


def test_the_monitor_leaves_time_for_what_follows(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(optimizers.time, "process_time", lambda: clock[0])

    def steps(seconds, work, budget, n_runs, work_after):
        monitor, clock[0], done = optimizers.Monitor(10**6, None, begin=0.0), 10.0, 0
        monitor.now = monitor.start = monitor.elapsed
        monitor.limit(budget, n_runs, work_after)
        while not monitor.is_late(work):
            clock[0] += 5.0 if done == 0 else seconds  # the first one loads or compiles loops
            monitor.note_step(work)
            done += 1
        return done

    # 90 s are left: the first step takes 5, what follows 4 * (6 / 2) = 12, which leaves 36 of 2 s
    assert steps(2.0, 2.0, 100.0, 1, 12.0) == 1 + 36
    # of the half for one of two runs, half of what follows is kept: 45 - 5 - 6 = 34
    assert steps(2.0, 2.0, 100.0, 2, 12.0) == 1 + 17
    assert steps(2.0, 2.0, 12.0, 1, 1000.0) == 1


def test_a_time_budget_includes_the_factorizations_of_many_elements(monkeypatch):
    """Of 6 vectors (18 rows) with 3 species times 8 features: few = 18, many = 24."""
    frames, limits = random_frames(5, n_frames=6, n_species=3), []
    monkeypatch.setattr(optimizers.Monitor, "limit", lambda self, budget, *rest: limits.append(budget))
    random = np.random.default_rng(0)
    for y in (random.normal(size=(6, 3)), [random.normal(size=(len(atoms), 3)) for atoms in frames]):
        EquivariantNetwork(**SMALL, time_budget=50.0, target="i").fit(frames, y)
    assert 50.0 - limits[0] == pytest.approx((4 * 24 * 18**2 + 20 * 18**3) / fitting._OPERATIONS_PER_SECOND, rel=1e-3)
    assert limits[1] == 50.0


def captured_batches(monkeypatch, frames, y, **options):
    """Numbers of structures in the batches of an epoch of Adam."""
    found = []

    def capture(batches, start, n_noises, monitor, learning_rate):
        found.extend(sum(len(one[0].values) for _, one in loss.parts) for loss in batches(0))
        monitor(start, 0.0)
        return start

    monkeypatch.setattr(fitting, "train_adam", capture)
    EquivariantNetwork(**{**SMALL, **options}).fit(frames, y)
    return found


def test_batches_and_solver_follow_the_size_of_the_structures(waters, monkeypatch):
    frames, y, *_ = waters
    work = fitting.work_of_structures(StructureBatch.from_frames(frames), 4.0)
    assert (work == 9).all()  # three atoms, six directed pairs
    assert captured_batches(monkeypatch, frames, y) == []  # L-BFGS
    monkeypatch.setattr(fitting, "_WORK_KEPT", 9 * 39)
    assert captured_batches(monkeypatch, frames, y) == [40]
    monkeypatch.setattr(fitting, "_WORK_PER_BATCH", 9 * 10)
    assert captured_batches(monkeypatch, frames, y) == [10] * 4
    assert captured_batches(monkeypatch, frames, y, batch_size=8) == [8] * 5
    monkeypatch.setattr(fitting, "_WORK_PER_BATCH", 9)
    assert captured_batches(monkeypatch, frames, y) == [4] * 10
    assert captured_batches(monkeypatch, frames, y, batch_size=1) == [1] * 40
    assert captured_batches(monkeypatch, frames, y, batch_size=1, objective="loo") == [2] * 20
    of_atoms = [np.ones((3, 3, 3)) * np.arange(3)[:, None, None] for _ in frames]
    assert captured_batches(monkeypatch, frames, of_atoms, target="ij") == [3] * 40  # three labels of one structure


@pytest.mark.parametrize("batch_size", [1, 2, 39, 40, 41, 1000])
@pytest.mark.parametrize("objective", ["lml", "loo"])
def test_any_batch_size(waters, batch_size, objective):
    frames, y, *_ = waters
    options = {**SMALL, "solver": "adam", "max_iter": 3, "objective": objective, "batch_size": batch_size}
    assert EquivariantNetworkRegressor(**options).fit(frames, y).score(frames, y) > 0.9


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_ctrl_c_keeps_the_best_weights(waters, solver, monkeypatch):
    frames, y, *_ = waters
    loss, values = fitting.Loss.__call__, []

    def interrupted(self, vector):
        if len(values) == 8:
            raise KeyboardInterrupt
        value = loss(self, vector)
        values.append(value[0])
        return value

    monkeypatch.setattr(fitting.Loss, "__call__", interrupted)
    options = {**SMALL, "max_iter": 50, "n_init": 3, "batch_size": 100, "solver": solver}
    model = EquivariantNetworkRegressor(**options)
    with pytest.warns(UserWarning, match="training was interrupted in iteration .*: the best weights so far are kept"):
        model.fit(frames, y)
    assert model.score(frames, y) > 0.9
    assert len(values) == 8
    if solver == "adam":
        assert np.array_equal(model.history_["loss"], values)
    else:
        assert model.history_["loss"][-1] >= min(values)


# -- species that were not seen at fit --------------------------------------------------------------------------------


def with_strangers(frames):
    """The same frames with an atom of nitrogen each, and one that has nothing else."""
    strangers = [atoms + Atoms("N", [[2.0, 1.0, 0.1 * k]]) for k, atoms in enumerate(frames)]
    return [*strangers, Atoms("N2", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])]


@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_unknown_atoms_are_left_out_if_so_wished(waters, architecture, aggregate):
    frames, vector, _, scalar = (part[:6] for part in waters)
    options = {**SMALL, "architecture": architecture, "aggregate": aggregate, "handle_unknown": "ignore"}
    others, nothing = with_strangers(frames), np.zeros((1, 3))
    model = EquivariantNetworkRegressor(**options).fit(frames, {"vector": vector, "scalar": scalar})
    expected, got = model.predict(frames), model.predict(others)
    assert np.allclose(got["vector"], np.concatenate([expected["vector"], nothing]), atol=1e-12)
    assert np.allclose(got["scalar"], [*expected["scalar"], 0.0], atol=1e-12)
    assert np.array_equal(model.predict(others[-1:])["vector"], nothing)
    features = model.descriptor_.transform(others)
    assert features.n_atoms.tolist() == [4] * 6 + [2]
    assert np.allclose(model.readouts_["scalar"]._predict_features(features), got["scalar"], atol=1e-12)
    cotangents = {"vector": np.ones((7, 3)), "scalar": np.ones(7)}
    slopes = model.vjp(others, cotangents).positions
    known = np.concatenate([atoms.numbers for atoms in others]) != 7
    alone = model.vjp(frames, {name: array[:6] for name, array in cotangents.items()}).positions
    assert np.allclose(slopes[known], alone, atol=1e-12)
    assert not slopes[~known].any()


def test_unknown_atoms_among_labels_of_atoms_and_in_training(waters):
    frames = waters[0][:6]
    others, y = with_strangers(frames), [atoms.positions.copy() for atoms in frames]
    model = EquivariantNetworkRegressor(**SMALL, target="i", handle_unknown="ignore").fit(frames, y)
    for one, atoms, expected in zip(model.predict(others), others, [*model.predict(frames), []], strict=True):
        assert np.isnan(one[atoms.numbers == 7]).all()
        assert np.allclose(one[atoms.numbers != 7], np.reshape(expected, (-1, 3)), atol=1e-12)
    assert np.isfinite(model.vjp(others, [np.ones((len(atoms), 3)) for atoms in others]).positions).all()
    labels = [np.ones((len(atoms), 3)) for atoms in others]
    with pytest.raises(ValueError, match="species N .* was not seen at fit, which saw H, O: fit on structures"):
        model.partial_fit(others, labels)
    with pytest.raises(ValueError, match="set handle_unknown='ignore' to leave such atoms out"):
        EquivariantNetwork(**SMALL).fit(frames).transform(others)
    with pytest.raises(ValueError, match="handle_unknown='drop' must be one of"):
        EquivariantNetwork(**SMALL, handle_unknown="drop").fit(frames)


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
    blocks = TrainedNetwork.of(network).model.features(tape, weights, graph)
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


class LearnedOfRows(RegressorOfRows, EquivariantNetworkRegressor):
    def partial_fit(self, X, y=None, **arguments):
        first = not hasattr(self, "descriptor_")
        return super().partial_fit(molecules_of_rows(validate_data(self, X, dtype=float, reset=first)), y, **arguments)


TINY = {"cutoff": 5.0, "channels": 8, "n_radial": 6, "solver": "lbfgs", "max_iter": 10, "random_state": 0}


@parametrize_with_checks([LearnedOfRows(**TINY)])
def test_scikit_learn_check(estimator, check):
    check(estimator)
