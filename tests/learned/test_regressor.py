import copy
import pickle
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from eqkernels import CartesianTensor, CovariantKernel, TensorKernelRidge, TensorRidge
from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor, training
from eqkernels.learned.objectives import leave_one_out
from eqkernels.learned.targets import read_targets
from eqkernels.metrics import tensor_r2
from eqkernels.structures import StructureBatch
from eqkernels.testing import assert_equivariant, random_rotation
from tests.conftest import random_frames

SMALL = {"cutoff": 4.0, "channels": 4, "max_iter": 5, "n_radial": 5, "random_state": 0}
ARCHITECTURES = [
    {"architecture": "message_passing"},
    {"architecture": "message_passing", "products": False},
    {"architecture": "ace"},
]
IDS = ["message passing", "without products", "cluster expansion"]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=IDS)
def test_learns_vectors_matrices_and_scalars(waters, architecture):
    frames, *targets = waters
    for y in targets:
        model = EquivariantNetworkRegressor(**{**SMALL, "max_iter": 30}, **architecture).fit(frames[:30], y[:30])
        assert model.predict(frames[30:]).shape == y[30:].shape
        assert model.score(frames[30:], y[30:]) > 0.99
        assert_equivariant(model, frames[30:33])


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("n_species", [1, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=IDS)
def test_predictions_are_equivariant(periodic, n_species, architecture):
    frames = random_frames(n_species, n_frames=8, n_species=n_species, periodic=periodic)
    y = np.random.default_rng(0).normal(size=(8, 3, 3))
    model = EquivariantNetworkRegressor(**SMALL, **architecture, baseline="mean").fit(frames, y)
    assert model.readouts_["y"].target_ == "ij"
    assert_equivariant(model, frames)


@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=IDS[::2])
def test_labels_of_atoms(architecture):
    frames = random_frames(3, n_frames=8, n_species=3, periodic=True)
    random = np.random.default_rng(0)
    y = [random.normal(size=(len(atoms), 3, 3)) for atoms in frames]
    y[1][0] = np.nan
    model = EquivariantNetworkRegressor(**SMALL, **architecture).fit(frames, y)
    assert_equivariant(model, frames)


def test_pseudoscalars_tell_mirror_images_apart():
    frames = random_frames(4, n_frames=6, n_species=3, n_atoms=(4, 6))
    mirrored = [atoms.copy() for atoms in frames]
    for atoms in mirrored:
        atoms.positions[:, 2] *= -1
    y = np.random.default_rng(0).normal(size=6)
    # the triple product of three axial vectors: an antisymmetric tensor of rank 3 is a pseudoscalar
    tensors = y[:, None, None, None] * CartesianTensor("ijk=-jik=-ikj").change_of_basis.reshape(3, 3, 3)
    for architecture in ("ace", "message_passing"):
        model = EquivariantNetworkRegressor(**{**SMALL, "max_iter": 60}, architecture=architecture).fit(frames, tensors)
        got = model.predict(frames)
        assert np.abs(got - tensors).max() < 0.05 * np.abs(tensors).max()
        assert np.allclose(model.predict(mirrored), -got, atol=1e-9)


def test_same_seed_same_bits_other_seed_other_weights(waters):
    frames, y, *_ = waters
    models = [EquivariantNetworkRegressor(**{**SMALL, "random_state": seed}).fit(frames, y) for seed in (0, 0, 1)]
    first, second, other = (model.predict(frames) for model in models)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_readout_is_that_of_training(waters):
    frames, y, *_ = waters
    model = EquivariantNetworkRegressor(**SMALL, objective="loo", weight_decay=0.0).fit(frames, y)
    features = model.descriptor_.transform(frames)
    design = model.readouts_["y"]._design(features, "1o")
    values = CartesianTensor("i").to_irreps(y)["1o"]
    values = values / np.sqrt(np.mean(values**2))
    noise = np.log(model.descriptor_.noise_["y:1o"])
    assert leave_one_out(design, values, noise)[0] == pytest.approx(model.descriptor_.loss_, abs=1e-8)


def test_sample_weights_count_as_repetitions():
    frames = random_frames(1, n_frames=5, n_species=2)
    y = np.random.default_rng(0).normal(size=(5, 3))
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, y, sample_weight=[2, 1, 1, 1, 1])
    readout = model.readouts_["y"]
    weighted = readout.coef_["1o"]
    twice = model.descriptor_.transform([frames[0], *frames])
    readout._fit_irreps(twice, CartesianTensor("i").to_irreps(np.concatenate([y[:1], y])), None)
    assert np.allclose(weighted, readout.coef_["1o"], atol=1e-7)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_only_ratios_of_weights_matter(waters, solver):
    frames, y, *_ = (part[:12] for part in waters)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=12)
    weight[3] = 0.0
    predicted, noises = [], []
    for factor in (1.0, 1e-40, 1e40):
        model = EquivariantNetworkRegressor(**SMALL, solver=solver).fit(frames, y, factor * weight)
        predicted.append(model.predict(frames))
        noises.append(model.descriptor_.noise_["y:1o"] / factor)
    assert np.allclose(predicted, predicted[0], rtol=1e-6, atol=1e-9)
    assert np.allclose(noises, noises[0], rtol=1e-4)
    y[3] = 1e30  # without weight
    assert np.allclose(
        EquivariantNetworkRegressor(**SMALL, solver=solver).fit(frames, y, weight).predict(frames), predicted[0]
    )


@pytest.mark.parametrize("model", [EquivariantNetworkRegressor(**SMALL), TensorRidge()], ids=["learned", "ridge"])
@pytest.mark.parametrize("extreme", [1e300, 1e-300, 5e-324])
def test_weights_that_cannot_be_computed_with_are_refused(waters, model, extreme):
    frames, y, *_ = (part[:4] for part in waters)
    with pytest.raises(ValueError, match="for structure 2, beyond what can be computed with"):
        model.fit(frames, y, sample_weight=[1.0, 0.0, extreme, 1.0])


def test_held_structures_without_weight_leave_the_validation_finite(waters):
    frames, y, *_ = waters
    weight = np.zeros(40)
    weight[0] = 1.0
    model = EquivariantNetworkRegressor(**SMALL, early_stopping=True).fit(frames, y, sample_weight=weight)
    assert np.isfinite(model.history_["validation"]).all()


def test_without_iterations_the_weights_are_those_of_the_start(waters):
    frames, y, *_ = waters
    fitted = EquivariantNetwork(**{**SMALL, "max_iter": 0}).fit(frames, y)
    random = EquivariantNetwork(**SMALL, irreps="0e+1o").fit(frames)
    assert all(np.array_equal(array, random.weights_[name]) for name, array in fitted.weights_.items())


def test_works_in_searches_and_survives_pickling(waters):
    frames, y, *_ = waters
    model = EquivariantNetworkRegressor(**SMALL)
    assert clone(model).get_params() == model.get_params()
    search = GridSearchCV(model, {"channels": [2, 4]}, cv=2).fit(frames, y)
    assert search.best_score_ > 0.9
    assert np.isfinite(cross_val_score(model, frames, y, cv=2)).all()
    restored = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(restored.predict(frames), search.best_estimator_.predict(frames))


def test_several_properties(waters, tmp_path):
    """Each as the readout of one network; the same after storing without pickle."""
    frames, dipoles, *others = waters
    of_atoms = [atoms.get_center_of_mass() - atoms.positions for atoms in frames]
    y = {"dipole": dipoles, "other": others[0], "to the center": of_atoms}
    targets = {"dipole": "dipole", "other": "polarizability", "to the center": "forces"}
    model = EquivariantNetworkRegressor(**{**SMALL, "max_iter": 40}, target=targets)
    model.fit(frames[:30], {key: v[:30] for key, v in y.items()})
    test = {key: v[30:] for key, v in y.items()}
    predicted = model.predict(frames[30:])
    assert list(predicted) == list(y)
    assert predicted["dipole"].shape == dipoles[30:].shape
    assert [one.shape for one in predicted["to the center"]] == [one.shape for one in of_atoms[30:]]
    scores = [tensor_r2(test[name], predicted[name]) for name in y]
    assert model.score(frames[30:], test) == pytest.approx(np.mean(scores))
    assert min(scores[:2]) > 0.9
    with pytest.raises(ValueError, match="must be a dict of the properties"):
        model.score(frames[30:], dipoles[30:])
    skops = pytest.importorskip("skops.io")
    skops.dump(model, tmp_path / "model.skops")
    types = skops.get_untrusted_types(file=tmp_path / "model.skops")
    assert all(name.startswith("eqkernels.") for name in types)
    stored = skops.load(tmp_path / "model.skops", trusted=types).predict(frames[30:])
    assert all(np.array_equal(np.concatenate(stored[name]), np.concatenate(predicted[name])) for name in y)


def test_a_property_has_the_same_readout_alone_and_among_several(waters):
    """And no warning of matrices that are nearly singular, which the normal equations of small noise have."""
    frames, y, *_ = waters
    options = {**SMALL, "max_iter": 30}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        several = EquivariantNetworkRegressor(**options).fit(frames, {"dipole": y})
    alone = EquivariantNetworkRegressor(**options).fit(frames, y)
    assert np.array_equal(several.readouts_["dipole"].coef_["1o"], alone.readouts_["y"].coef_["1o"])
    assert np.array_equal(several.predict(frames)["dipole"], alone.predict(frames))


def test_predictions_are_the_readout_of_the_features(waters):
    """Summed atom by atom without scaled features, for labels of structures (sum, mean) and of atoms."""
    frames = random_frames(7, n_frames=9, n_species=3, periodic=True)
    random = np.random.default_rng(0)
    energies, of_atoms = random.normal(size=9), [random.normal(size=(len(atoms), 3)) for atoms in frames]
    of_atoms[0][:] = np.nan
    y = {"energy": energies, "tensor": random.normal(size=(9, 3, 3)), "of atoms": of_atoms}
    for aggregate in ("sum", "mean"):
        for baseline in ("composition", "mean", None):
            options = {**SMALL, "aggregate": aggregate, "baseline": baseline, "target": {"of atoms": "i"}}
            model = EquivariantNetworkRegressor(**options).fit(frames, y)
            got, features = model.predict(frames), model.descriptor_.transform(frames)
            for name, readout in model.readouts_.items():
                expected = readout.predict(features)
                pairs = zip(got[name], expected, strict=True)
                assert all(np.allclose(one, other, atol=1e-12, equal_nan=True) for one, other in pairs)


def test_kernels_with_any_normalization(waters):
    """The constant feature outweighs the others, so that dividing by the norm leaves what the network learned."""
    frames, y, *_ = waters
    network = EquivariantNetwork(**{**SMALL, "max_iter": 30}).fit(frames[:30], y[:30])
    scalars = network.transform(frames).blocks["0e"][:, 0]
    assert np.allclose(scalars[:, -1], scalars[0, -1])
    norms = np.linalg.norm(scalars, axis=1)
    assert norms.std() < 0.02 * norms.mean()
    errors = []
    for normalize in (False, "invariant"):
        model = make_pipeline(network, TensorKernelRidge(kernel=CovariantKernel(normalize=normalize)))
        errors.append(1 - model.fit(frames[:30], y[:30]).score(frames[30:], y[30:]))
    assert max(errors) < 1e-7


def test_state_is_made_of_arrays(waters):
    frames, y, *_ = waters
    network = EquivariantNetwork(**SMALL).fit(frames, y)

    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(one) for key, one in value.items())
        return isinstance(value, np.ndarray | float | int | str)

    state = {key: value for key, value in vars(network).items() if key.endswith("_")}
    assert state
    assert all(plain(value) for value in state.values())


def test_training_on_replaces_arrays_and_writes_into_none(waters):
    """So that a shallow copy of the model, or of its state, is a model of its own."""
    frames, y, *_ = waters
    model = EquivariantNetworkRegressor(**SMALL).fit(frames[:20], {"y": y[:20]})
    kept, before = copy.copy(model), model.predict(frames)["y"]
    parameters = kept.descriptor_.get_params()
    model.set_params(max_iter=7).partial_fit(frames, {"y": 2 * y})
    model.set_params(warm_start=True).fit(frames, {"y": 3 * y})
    assert np.array_equal(kept.predict(frames)["y"], before)
    assert kept.descriptor_.get_params() == parameters


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_predictions_depend_on_nothing_but_the_structure(periodic, architecture):
    """Alone, in a batch of many, rotated, or as a supercell; with the smallest noise that training may choose."""
    frames = random_frames(2, n_frames=8, n_species=3, periodic=periodic)
    for atoms in frames:
        atoms.pbc = periodic
    y = {"energy": [np.sum(atoms.numbers**0.5) + 1e-3 * k for k, atoms in enumerate(frames)],
         "tensor": np.random.default_rng(0).normal(size=(8, 3, 3))}  # fmt: skip
    model = EquivariantNetworkRegressor(**{**SMALL, "max_iter": 60}, architecture=architecture).fit(frames, y)
    expected = model.predict(frames)
    rotation = random_rotation(5)
    rotated = [atoms.copy() for atoms in frames]
    for atoms in rotated:
        atoms.set_cell(atoms.cell.array @ rotation.T)
        atoms.positions = atoms.positions @ rotation.T
    turned_back = model.predict(rotated)
    turned_back["tensor"] = np.einsum("ia,jb,nij->nab", rotation, rotation, turned_back["tensor"])
    alone = [model.predict([atoms]) for atoms in frames]
    others = [
        {name: np.concatenate([one[name] for one in alone]) for name in expected},
        {name: values[-8:] for name, values in model.predict(frames * 76).items()},
        turned_back,
    ]
    if periodic:
        supercells = model.predict([atoms * (2, 1, 3) for atoms in frames])
        others.append({name: values / 6 for name, values in supercells.items()})
    for other in others:
        for name, values in expected.items():
            assert np.abs(other[name] - values).max() < 1e-10 * np.std(values)


# -- bad luck -----------------------------------------------------------------------------------------------------


def test_one_structure():
    frames, y = [molecule("H2O")], np.array([[0.0, 0.0, -1.85]])
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, y)
    assert np.allclose(model.predict(frames), y, atol=0.1)
    assert_equivariant(model, frames)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_labels(value):
    frames = random_frames(2, n_frames=4, n_species=2)
    model = EquivariantNetworkRegressor(**SMALL, baseline="mean").fit(frames, np.full(4, value))
    assert np.allclose(model.predict(frames), value, atol=1e-8)
    zeros = EquivariantNetworkRegressor(**SMALL).fit(frames, np.zeros((4, 3)))
    assert np.abs(zeros.predict(frames)).max() == 0


def test_isolated_atoms_and_vanishing_features():
    frames = [Atoms("H"), Atoms("He"), molecule("H2")]
    model = EquivariantNetworkRegressor(**SMALL, baseline=None).fit(frames, np.array([1.0, 2.0, 2.5]))
    assert np.isfinite(model.predict(frames)).all()
    vectors = EquivariantNetworkRegressor(**SMALL).fit(frames, np.ones((3, 3)))
    assert np.abs(vectors.predict(frames)).max() < 1e-10


def test_features_that_vanish_by_symmetry_stay_small():
    """Not rounding that is scaled up to unit norm."""
    crystals = [bulk("NaCl", "rocksalt", a=a, cubic=True) for a in (5.0, 5.6)]
    network = EquivariantNetwork(**SMALL, irreps="0e+1o+2e").fit(crystals, np.array([1.0, 2.0]))
    blocks = network.transform(crystals).blocks
    assert max(np.abs(blocks[key]).max() for key in ("1o", "2e")) < 1e-10


def test_more_weights_than_data(waters):
    frames, y, *_ = waters
    model = EquivariantNetworkRegressor(**{**SMALL, "channels": 32}).fit(frames[:3], y[:3])
    assert np.abs(model.predict(frames)).max() < 10 * np.abs(y).max()


def test_labels_of_noise_do_not_send_the_weights_to_infinity(waters, monkeypatch):
    """The loss is nearly flat, and the search along a line tries weights for which it overflows."""
    frames, *_ = waters
    loss, sizes = training.Loss.__call__, []

    def fragile(self, vector):
        sizes.append(np.abs(vector - self.start).max())
        value, gradient = loss(self, vector)
        return (np.nan, gradient) if len(sizes) == 3 else (value, gradient)

    monkeypatch.setattr(training.Loss, "__call__", fragile)
    y = np.random.default_rng(0).normal(size=(40, 3))
    model = EquivariantNetworkRegressor(**{**SMALL, "max_iter": 10}).fit(frames, y)
    assert sizes[3] < sizes[2]
    assert len(model.history_["loss"]) > 3
    assert (np.diff(model.history_["loss"]) <= 1e-12).all()


def test_an_irrep_of_rounding_is_not_learned(waters):
    """An antisymmetric part of 1e-17 is not scaled up to labels of unit size."""
    frames, *_ = waters
    general = np.random.default_rng(0).normal(size=(40, 3, 3))
    symmetric = general + general.swapaxes(1, 2) + 1e-15 * general
    targets, _ = read_targets(symmetric, StructureBatch.from_frames(frames), "ij", None, "sum", None)
    assert {target.name: bool(target.values.any()) for target in targets} == {"y:0e": True, "y:1e": False, "y:2e": True}
    model = EquivariantNetworkRegressor(**SMALL, target="ij").fit(frames, symmetric)
    predicted = model.predict(frames)
    assert np.abs(predicted - predicted.swapaxes(1, 2)).max() < 1e-12


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_says_what_to_change(waters):
    frames, y, *_ = waters
    options = {**SMALL, "solver": "adam", "learning_rate": 1e200, "max_iter": 5}
    for kind in (FloatingPointError, ValueError):
        with pytest.raises(kind, match="learning_rate"):
            EquivariantNetworkRegressor(**options).fit(frames, y)


def test_unusable_input_is_named(waters):
    frames, y, *_ = waters
    with pytest.raises(ValueError, match="cutoff=-1.*channels=0"):
        EquivariantNetworkRegressor(cutoff=-1, channels=0).fit(frames, y)
    with pytest.raises(ValueError, match="cutoff=4e\\+20 must not exceed 1000: check its unit"):
        EquivariantNetworkRegressor(cutoff=4e20).fit(frames, y)
    with pytest.raises(TypeError, match="single ase.Atoms"):
        EquivariantNetworkRegressor(**SMALL).fit(frames[0], y)
    model = EquivariantNetworkRegressor(**SMALL).fit(frames, y)
    with pytest.raises(ValueError, match=r"species N \(first in structure 0, atom 0\)"):
        model.predict([molecule("NH3")])
    with pytest.raises(ValueError, match="cannot make the irreps 3o: increase"):
        EquivariantNetworkRegressor(**SMALL, architecture="ace", body_order=1).fit(frames, np.ones((40, 3, 3, 3)))
