"""Networks whose elements are embedded: symmetry, derivatives, unseen elements, saved models."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from eqkernels import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.io import load_model, save_model
from eqkernels.learned import operations as op
from eqkernels.learned.tape import Tape, Variable

FRAMES = [molecule(name) for name in ("H2O", "NH3", "CH3OH", "HF", "CH3Cl", "SH2")] + [bulk("NaCl", "rocksalt", 5.64)]
UNSEEN = [molecule("SiH4"), bulk("KBr", "rocksalt", 6.6)]
for _k, _atoms in enumerate([*FRAMES, *UNSEEN]):
    _atoms.rattle(0.1, seed=_k)
RANDOM = np.random.default_rng(0)
DIPOLES = RANDOM.normal(size=(len(FRAMES), 3))
CHARGES = [RANDOM.normal(size=(len(atoms), 3, 3)) for atoms in FRAMES]
SMALL = {"cutoff": 3.5, "channels": 3, "l_max": 2, "n_radial": 3, "n_hidden": 4, "max_iter": 3, "random_state": 0,
         "handle_unknown": "embed", "n_species_channels": 3}  # fmt: skip
KINDS = [{"architecture": "message_passing"}, {"architecture": "ace", "body_order": 2}]


def _turned(frames, turn):
    turned = [atoms.copy() for atoms in frames]
    for atoms in turned:
        atoms.set_cell(atoms.cell @ turn.T)
        atoms.positions = atoms.positions @ turn.T
    return turned


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["dipoles", "charges"])
def test_equivariance_with_unseen_elements(kind, target):
    y = DIPOLES if target == "dipoles" else CHARGES
    model = EquivariantNetworkRegressor(**SMALL, **kind).fit(FRAMES, y)
    frames = [*FRAMES, *UNSEEN]
    before = model.predict(frames)
    for turn in (Rotation.random(random_state=1).as_matrix(), -np.eye(3)):
        after = model.predict(_turned(frames, turn))
        if target == "dipoles":
            assert np.allclose(after, before @ turn.T, atol=1e-10)
        else:
            for one, other in zip(after, before, strict=True):
                assert np.allclose(one, turn @ other @ turn.T, atol=1e-10)
    alone = model.predict(frames[-1:])
    assert np.allclose(alone[0], before[-1], atol=1e-10)
    from_features = model.predict(model.descriptor_.transform(frames))
    for one, other in zip(from_features, before, strict=True):
        assert np.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_around_unseen_elements(kind):
    model, atoms = EquivariantNetworkRegressor(**SMALL, **kind).fit(FRAMES, DIPOLES), UNSEEN[0]
    direction, step, values = RANDOM.normal(size=atoms.positions.shape), 1e-4, []
    for factor in (-2, -1, 1, 2):
        moved = atoms.copy()
        moved.positions += factor * step * direction
        values.append(model.predict([moved])[0] @ [1.0, -0.5, 2.0])
    expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    slopes = model.vjp([atoms], [[1.0, -0.5, 2.0]]).positions
    assert np.sum(slopes * direction) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("y", [DIPOLES, CHARGES], ids=["dipoles", "charges"])
def test_gradient_of_the_loss(kind, y):
    """The loss of a step along the gradient of training, by the change of weights of gradient descent."""
    from eqkernels.learned import fitting

    losses = []

    class Kept(fitting.Loss):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            losses.append(self)

    original, fitting.Loss = fitting.Loss, Kept
    try:
        EquivariantNetwork(**{**SMALL, "solver": "lbfgs"}, **kind).fit(FRAMES, y)
    finally:
        fitting.Loss = original
    loss = losses[0]
    vector = loss.start + 0.1 * RANDOM.normal(size=len(loss.start))
    direction = RANDOM.normal(size=len(vector))
    gradient = loss(vector)[1]
    step = 1e-5
    values = [loss(vector + factor * step * direction)[0] for factor in (-2, -1, 1, 2)]
    expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    assert gradient @ direction == pytest.approx(expected, rel=1e-5)


def test_operations_are_their_formulas():
    tape, vectors = Tape(), RANDOM.normal(size=(4, 3))
    weights, x = Variable(RANDOM.normal(size=(3, 2, 5))), Variable(RANDOM.normal(size=(4, 2, 5)))
    mixed = op.of_species(tape, weights, vectors)
    assert np.allclose(mixed.value, np.einsum("sk,kab->sab", vectors, weights.value))
    joined = op.times_vectors(tape, x, vectors)
    assert np.allclose(joined.value, np.einsum("idc,ik->idck", x.value, vectors).reshape(4, 2, 15))
    density = op.embed_density(tape, Variable(RANDOM.normal(size=(6, 2, 8))), vectors)
    assert density.value.shape == (6, 2, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_networks_answer_alike(kind, tmp_path):
    model = EquivariantNetworkRegressor(**SMALL, **kind).fit(FRAMES, CHARGES)
    save_model(model, tmp_path / "network.eqk")
    again = load_model(tmp_path / "network.eqk")
    for one, other in zip(again.predict(UNSEEN), model.predict(UNSEEN), strict=True):
        assert np.allclose(one, other, atol=1e-12)


def test_few_elements_have_weights_of_their_own():
    options = {**SMALL, "handle_unknown": "error", "n_species_channels": None}
    default = EquivariantNetwork(**options).fit(FRAMES, DIPOLES)
    without = EquivariantNetwork(**options, species_embedding=None).fit(FRAMES, DIPOLES)
    assert default.species_channels_ == 0
    assert all(np.array_equal(default.weights_[name], without.weights_[name]) for name in without.weights_)


def test_weights_do_not_grow_with_the_elements():
    network = EquivariantNetwork(**SMALL).fit(FRAMES, DIPOLES)
    fewer = EquivariantNetwork(**SMALL).fit(FRAMES[:4], DIPOLES[:4])
    assert {name: a.shape for name, a in network.weights_.items()} == {
        name: a.shape for name, a in fewer.weights_.items()
    }


def test_unseen_elements_without_an_embedding():
    with pytest.raises(ValueError, match="handle_unknown='embed' answers by an embedding"):
        EquivariantNetwork(**SMALL, species_embedding=None).fit(FRAMES, DIPOLES)
    network = EquivariantNetwork(**{**SMALL, "handle_unknown": "error"}).fit(FRAMES, DIPOLES)
    with pytest.raises(ValueError, match="species Si, K, Br .* was not seen at fit"):
        network.transform(UNSEEN)
    with pytest.raises(ValueError, match="was set after fit, which made no embedding"):
        network.set_params(handle_unknown="embed").transform(UNSEEN)
