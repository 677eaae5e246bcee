"""Networks with inputs and attention, without gates, of groups, trained on forces, and on what a model leaves."""

import numpy as np
import pytest

from eqkernels import TensorCommittee
from eqkernels.io import load_model, save_model
from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.response import input_derivatives
from eqkernels.structures import StructureBatch
from eqkernels.structures.inputs import input_kinds, with_inputs
from eqkernels.testing import assert_equivariant, transformed
from tests.descriptors.test_input_channels import cotangents, frames_with_inputs, kinds
from tests.learned.test_derivatives import assert_derivatives
from tests.learned.test_network_inputs import assert_input_derivatives, labels, total_of

SMALL = {"cutoff": 3.0, "channels": 4, "max_iter": 3, "n_radial": 4, "random_state": 0}
KINDS = [
    {"attention": 2},
    {"attention": True, "nonlinearity": "tensor_product"},
    {"architecture": "ace", "attention": 2},
    {"pooling": "part"},
    {"pooling": "part", "attention": 2, "architecture": "ace"},
]
IRREPS = "0e+1o+1e+2e"


def grouped(periodic=False, n_frames=3):
    """Structures with inputs, and two groups in each."""
    frames = frames_with_inputs(periodic=periodic, n_frames=n_frames)
    for atoms in frames:
        atoms.arrays["part"] = np.arange(len(atoms)) // 2 % 2
    return frames


@pytest.mark.parametrize("names", [("field", "charge"), ("velocity", "magnetic", "chirality")])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_symmetry_and_derivatives(kind, names):
    frames = grouped()
    network = EquivariantNetwork(**SMALL, **kind, irreps=IRREPS, inputs=kinds(names), baseline="mean")
    network.fit(frames, labels(frames))
    assert_equivariant(network, frames, n_transformations=2, inputs=kinds(names))
    weights = cotangents(network.transform(frames).blocks)
    total, derivatives = total_of(network, weights), network.vjp(frames, weights)
    assert_input_derivatives(total, derivatives.inputs, frames, names)
    assert_derivatives(total, derivatives, frames, False)


@pytest.mark.parametrize("time_odd", [False, True])
@pytest.mark.parametrize("kind", KINDS[1:4], ids=str)
def test_time_reversal(kind, time_odd, tmp_path):
    frames, inputs = grouped(), kinds(["velocity", "magnetic", "charge"])
    network = EquivariantNetwork(**SMALL, **kind, irreps="0e+1o+1e", inputs=inputs, time_odd=time_odd)
    network.fit(frames, labels(frames, (3,)))
    before = network.transform(frames).blocks
    after = network.transform([transformed(one, inputs=inputs, time_reversed=True) for one in frames]).blocks
    for key in ("0e", "1o", "1e"):
        sign = -1 if time_odd and key != "0e" else 1
        assert np.abs(before[key]).max() > 1e-3
        np.testing.assert_allclose(after[key], sign * before[key], atol=1e-12)
    save_model(network, tmp_path / "network.eqk")
    np.testing.assert_array_equal(load_model(tmp_path / "network.eqk").transform(frames).blocks["1o"], before["1o"])


def test_groups_carry_the_inputs_of_others():
    """Beyond the reach of messages between atoms, features change with a charge of another group."""
    frames = grouped()[:1]
    atoms = frames[0]
    half = len(atoms) // 2
    atoms.arrays["part"] = (np.arange(len(atoms)) >= half).astype(int)
    atoms.positions[half:] += [8.0, 0.0, 0.0]
    changed = [atoms.copy()]
    changed[0].arrays["charge"][half:] += 1.0
    for pooling, carries in ((None, False), ("part", True)):
        options = {**SMALL, "irreps": "0e+1o", "inputs": kinds(["charge"]), "pooling": pooling, "pooling_cutoff": 12.0}
        network = EquivariantNetwork(**options).fit(frames)
        blocks = [network.transform(some).blocks["1o"][:half] for some in (frames, changed)]
        assert bool(np.abs(blocks[0] - blocks[1]).max() > 1e-6) is carries


def test_batches_of_groups_and_inputs():
    """What was not read is named."""
    frames, inputs = grouped(), kinds(["field"])
    network = EquivariantNetwork(**SMALL, irreps="0e", pooling="part", inputs=inputs).fit(frames)
    expected = network.transform(frames).blocks["0e"]
    np.testing.assert_array_equal(network.transform(network._batch(frames)).blocks["0e"], expected)
    with pytest.raises(ValueError, match="the batch has no array 'part'"):
        network.transform(with_inputs(frames, input_kinds(inputs)))
    with pytest.raises(ValueError, match="the batch has no input 'field'"):
        network.transform(StructureBatch.from_frames(frames))


@pytest.mark.parametrize("architecture", ["message_passing", "ace"])
def test_invariant_networks_of_charges(architecture):
    """With l_max=0 scalars of atoms are inputs, of which a vector is refused."""
    frames = frames_with_inputs(n_frames=3)
    network = EquivariantNetwork(**SMALL, architecture=architecture, irreps="0e", l_max=0, inputs=kinds(["charge"]))
    network.fit(frames, np.arange(3.0))
    weights = cotangents(network.transform(frames).blocks)
    derivatives = network.vjp(frames, weights)
    assert_input_derivatives(total_of(network, weights), derivatives.inputs, frames, ["charge"])
    with pytest.raises(ValueError, match="the input 'field' has degree 1, more than l_max=0"):
        network.set_params(inputs=kinds(["field"])).fit(frames, np.arange(3.0))


def charged(n, seed=0):
    """Atoms with charges in a field, and energies of pairs with their forces.

    With g = exp(-r^2 / 4) and the differences of charges q of a pair, the energy of a pair is -g q r . F.
    """
    random, frames, energies, forces = np.random.default_rng(seed), [], [], []
    for atoms in frames_with_inputs(n_frames=n):
        atoms.arrays["charge"] = random.normal(size=len(atoms))
        field, charge, r = atoms.info["field"], atoms.arrays["charge"], atoms.positions
        vectors, charges = r[:, None] - r[None], charge[:, None] - charge[None]
        weights = charges * np.exp(-np.sum(vectors**2, axis=2) / 4)
        energies.append(-0.5 * np.sum(weights * (vectors @ field)))
        along = (weights * (vectors @ field))[:, :, None] * vectors
        forces.append(weights.sum(axis=1)[:, None] * field - 0.5 * along.sum(axis=1))
        frames.append(atoms)
    return frames, np.array(energies), forces


@pytest.mark.parametrize("kind", [{}, {"architecture": "ace"}, {"attention": 2}], ids=str)
def test_forces_in_a_field(kind):
    """Forces of charges in a field, which follow from no geometry, are learned with the inputs and not without."""
    frames, energies, forces = charged(24)
    errors = {}
    options = {**SMALL, **kind, "cutoff": 6.0, "channels": 8, "max_iter": 200, "solver": "lbfgs", "weight_decay": 0.0}
    for inputs in (None, kinds(["field", "charge"])):
        model = EquivariantNetworkRegressor(**options, inputs=inputs)
        model.fit(frames, energies, forces=forces)
        found = np.concatenate(model.predict_forces(frames)) - np.concatenate(forces)
        errors[inputs is None] = np.sqrt(np.mean(found**2))
    assert errors[False] < 0.6 * errors[True]
    assert_equivariant(model, frames[:2], n_transformations=2, inputs=kinds(["field", "charge"]))
    weights = np.ones(3)
    derivatives = model.vjp(frames[:3], weights)

    def total(moved):
        return model.predict(moved).sum()

    assert_input_derivatives(total, derivatives.inputs, frames[:3], ["field", "charge"])


@pytest.mark.parametrize("kind", [{}, {"architecture": "ace"}, {"attention": 2}], ids=str)
def test_gradient_of_the_loss_of_forces_with_inputs(kind):
    """The gradient by all weights is that of differences."""
    from eqkernels.learned import derivative_loss
    from eqkernels.learned.derivative_training import DerivativeFit

    frames, energies, forces = charged(4)
    losses = []

    class Caught(Exception):
        pass

    def catch(self, run, start, *rest):
        losses.append((self._loss(run, start, np.arange(4)), start))
        raise Caught

    original = DerivativeFit._minimize
    DerivativeFit._minimize = catch
    try:
        with pytest.raises(Caught):
            EquivariantNetworkRegressor(**SMALL, **kind, inputs=kinds(["field", "charge"])).fit(
                frames, energies, forces=forces
            )
    finally:
        DerivativeFit._minimize = original
    loss, start = losses[0]
    assert isinstance(loss, derivative_loss.DerivativeLoss)
    random = np.random.default_rng(0)
    vector = start + 0.1 * random.normal(size=len(start))
    direction = random.normal(size=len(start))
    step = 1e-5
    difference = (loss(vector + step * direction)[0] - loss(vector - step * direction)[0]) / (2 * step)
    assert loss(vector)[1] @ direction == pytest.approx(difference, rel=1e-5)


def test_groups_in_a_field_are_not_trained_on_forces():
    frames = grouped(n_frames=4)
    forces = [np.zeros((len(atoms), 3)) for atoms in frames]
    model = EquivariantNetworkRegressor(**SMALL, pooling="part", inputs=kinds(["field"]))
    with pytest.raises(ValueError, match="pooling='part': networks of groups of atoms are not trained on forces"):
        model.fit(frames, np.arange(4.0), forces=forces)


def test_what_a_model_leaves_in_a_field():
    """Baseline and network read their own inputs, and derivatives by these are sums."""
    frames, energies, _ = charged(24)
    names = ["field", "charge"]
    baseline = EquivariantNetworkRegressor(**SMALL, inputs=kinds(["field"]))
    model = EquivariantNetworkRegressor(**SMALL, inputs=kinds(names), baseline=baseline).fit(frames, energies)
    derivatives = model.vjp(frames[:3], np.ones(3))
    assert_input_derivatives(lambda moved: model.predict(moved).sum(), derivatives.inputs, frames[:3], names)


def test_committees_have_derivatives_by_inputs():
    frames, energies, _ = charged(12)
    network = EquivariantNetworkRegressor(**SMALL, inputs=kinds(["field"]))
    committee = TensorCommittee(network, n_estimators=2, random_state=0).fit(frames, energies)
    derivatives = committee.vjp(frames[:3], np.ones(3))
    assert_input_derivatives(lambda moved: committee.predict(moved).sum(), derivatives.inputs, frames[:3], ["field"])
    np.testing.assert_allclose(input_derivatives(committee, frames[:3], "field"), derivatives.inputs["field"])
    assert len(committee.predict_forces(frames[:3])) == 3
