"""Networks with inputs: their formula, symmetry, derivatives, what they learn, and how they are stored."""

import pickle

import numpy as np
import pytest
from ase import Atoms

from eqkernels import EquivariantUnion, LambdaSOAP, TensorCalculator, TensorRidge
from eqkernels.io import load_model, save_model
from eqkernels.learned import EquivariantNetwork, EquivariantNetworkRegressor
from eqkernels.learned.graph import edge_harmonics, radial_basis
from eqkernels.learned.input_features import InputLayout, input_copies, signed
from eqkernels.learned.tape import Tape, Variable
from eqkernels.learned.trained import TrainedNetwork
from eqkernels.response import input_derivatives
from eqkernels.so3 import Irrep, clebsch_gordan
from eqkernels.structures import StructureBatch, find_neighbors
from eqkernels.testing import assert_equivariant, transformed
from tests.descriptors.test_input_channels import OF_ATOMS, cotangents, frames_with_inputs, kinds, place
from tests.learned.test_derivatives import assert_derivatives
from tests.test_response import LORENTZ, particles

SMALL = {"cutoff": 3.0, "channels": 4, "max_iter": 5, "n_radial": 4, "random_state": 0}
ARCHITECTURES = [
    {"architecture": "message_passing"},
    {"architecture": "message_passing", "products": False, "n_layers": 3},
    {"architecture": "ace", "body_order": 3},
]
SETS = [
    ("field",), ("charge",), ("spin",), ("strain", "matrix"),
    ("field", "magnetic", "charge"), ("velocity", "magnetic", "chirality"),
]  # fmt: skip
IRREPS = "0e+1o+1e+2e"


def labels(frames, shape=(3, 3)):
    return np.random.default_rng(0).normal(size=(len(frames), *shape))


def difference(total, frames, name, change, k=1, h=3e-4):
    """Five-point difference of total(frames) along a change of an input of structure k."""
    values = []
    for step in (-2, -1, 1, 2):
        moved = [atoms.copy() for atoms in frames]
        place(moved[k], name)[name] = place(moved[k], name)[name] + step * h * change
        values.append(total(moved))
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)


def assert_input_derivatives(total, derivatives, frames, names):
    random, first, n = np.random.default_rng(3), len(frames[0]), len(frames[1])
    for name in names:
        change = random.normal(size=np.shape(place(frames[1], name)[name]))
        change = change + change.T if name == "strain" else change
        found = derivatives[name][first : first + n] if name in OF_ATOMS else derivatives[name][1]
        size = np.abs(found).max()
        assert size > 1e-6, name
        expected = difference(total, frames, name, change)
        np.testing.assert_allclose(np.sum(found * change), expected, rtol=1e-7, atol=1e-7 * size)


def total_of(network, weights):
    def total(moved):
        return sum(np.sum(weights[key] * block) for key, block in network.transform(moved).blocks.items())

    return total


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("names", SETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_symmetry_and_derivatives(architecture, names, periodic):
    frames = frames_with_inputs(periodic)
    network = EquivariantNetwork(**SMALL, **architecture, irreps=IRREPS, inputs=kinds(names), baseline="mean")
    if "magnetic" in names and not architecture.get("products", True):
        with pytest.raises(ValueError, match="cannot depend on the input ('velocity', )?'magnetic': set products=True"):
            network.fit(frames)
        return
    network.fit(frames, labels(frames))
    assert_equivariant(network, frames, n_transformations=2, inputs=kinds(names))
    weights = cotangents(network.transform(frames).blocks)
    total, derivatives = total_of(network, weights), network.vjp(frames, weights)
    assert_input_derivatives(total, derivatives.inputs, frames, names)
    assert_derivatives(total, derivatives, frames, periodic)


@pytest.mark.parametrize("time_odd", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=str)
def test_time_reversal(architecture, time_odd):
    names = ["velocity", "magnetic", "charge"]
    frames, inputs = frames_with_inputs(), kinds(names)
    network = EquivariantNetwork(**SMALL, **architecture, irreps="0e+1o+1e", inputs=inputs, time_odd=time_odd)
    network.fit(frames, labels(frames, (3,)))
    before = network.transform(frames).blocks
    after = network.transform([transformed(one, inputs=inputs, time_reversed=True) for one in frames]).blocks
    for key in ("0e", "1o", "1e"):
        sign = -1 if time_odd and key != "0e" else 1
        assert np.abs(before[key]).max() > 1e-3
        np.testing.assert_allclose(after[key], sign * before[key], atol=1e-12)
    assert_equivariant(network, frames, n_transformations=2, inputs=inputs)


def test_an_even_velocity_is_looked_at_in_space_alone():
    """Without the word, an odd number of velocities makes even features too."""
    frames = frames_with_inputs()
    for kind, changes in (("1o time-odd", False), ("1o", True)):
        network = EquivariantNetwork(**SMALL, irreps="0e", inputs={"velocity": kind}).fit(frames)
        reversed_frames = [atoms.copy() for atoms in frames]
        for atoms in reversed_frames:
            atoms.arrays["velocity"] = -atoms.arrays["velocity"]
        blocks = [network.transform(some).blocks["0e"] for some in (frames, reversed_frames)]
        assert np.allclose(*blocks, atol=1e-12) is not changes


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("name", "irreps"), [
    ("charge", "0e+1o+2e"), ("velocity", "1o+1e+2e"), ("field", IRREPS), ("matrix", IRREPS),
])  # fmt: skip
def test_densities_are_their_formula(name, irreps, periodic):
    """A naive twin of the expansion of order one: the density, inputs of the center, and those of its neighbors."""
    frames = frames_with_inputs(periodic)
    time = -1 if name == "velocity" else 1
    options = {**SMALL, "architecture": "ace", "body_order": 1, "time_odd": time == -1}
    network = EquivariantNetwork(**options, irreps=irreps, inputs=kinds([name])).fit(frames)
    weights, batch = network.weights_, StructureBatch.from_frames(frames)
    species = np.searchsorted(network.species_, batch.numbers)
    pairs = find_neighbors(batch, 3.0)
    tape, vectors = Tape(recording=False), Variable(pairs.vectors, False)
    harmonics = edge_harmonics(tape, vectors, 2).value
    radial = radial_basis(tape, vectors, 3.0, 4).value
    architecture = TrainedNetwork.of(network).model.architecture
    order, table = list(architecture.orders[0]), architecture.input_table
    layout = InputLayout(input_copies(kinds([name])))
    kind, values = network_kind(name), read_values(frames, name)
    values = network.input_scales_[name] * np.sqrt(kind.dim) * values @ kind.matrix.T
    mixed = {}  # of every irrep: (n_atoms, 2 l + 1, channels)
    for a, irrep in enumerate(layout.irreps):
        parts = [values[:, part] for one, part in zip(layout.copies, kind.slices(), strict=True) if one == irrep]
        matrices = weights["inputs"][species, a, : len(parts)]
        mixed[irrep] = np.einsum("kim,ikc->imc", np.array(parts), matrices)
    functions = network.neighbor_scale_ * (radial @ weights["radial_inputs"]).reshape(len(radial), table.n_paths, 4)
    paths = [
        (one, l, out)
        for one in layout.irreps
        for l in range(3)
        for out in order
        if abs(one.l - l) <= out.l <= one.l + l and one.p * (-1) ** l == out.p and type(one) is type(out)
    ]  # fmt: skip
    expected = {}
    for out in order:
        messages, count = np.zeros((batch.n_atoms, out.dim, 4)), sum(path[2] == out for path in paths)
        for p, (one, l, target) in enumerate(paths):
            if target == out:
                coefficients = clebsch_gordan(one.l, l, out.l) / np.sqrt(count)
                for e, (i, j) in enumerate(zip(pairs.centers, pairs.neighbors, strict=True)):
                    y = harmonics[e, l * l : (l + 1) ** 2]
                    messages[i] += np.einsum("abm,ac,b,c->mc", coefficients, mixed[one][j], y, functions[e, p])
        block = np.einsum("imc,icd->imd", messages, weights["message_inputs"][species, order.index(out)])
        if out in mixed:
            mixing = weights["self_inputs"][species, layout.irreps.index(out)]
            block += np.einsum("imc,icd->imd", mixed[out], mixing)
        if out.p == (-1) ** out.l and out.l <= 2 and type(out).__name__ == "Irrep":
            density = np.zeros((batch.n_atoms, out.dim, len(network.species_), 4))
            for e, (i, j) in enumerate(zip(pairs.centers, pairs.neighbors, strict=True)):
                density[i, :, species[j]] += harmonics[e, out.l**2 : (out.l + 1) ** 2, None] * radial[e]
            flat = density.reshape(batch.n_atoms, out.dim, -1)
            block += np.einsum("imf,ifd->imd", flat, weights["contraction"][species, out.l])
        expected[str(out)] = block
    for key, block in network.transform(frames).blocks.items():
        scaled = expected[str(signed(Irrep.parse(key), time))] * network.scales_[key][species][:, None, :4]
        np.testing.assert_allclose(block[:, :, :4], scaled, atol=1e-11 * np.abs(scaled).max())


def network_kind(name):
    from eqkernels.structures.inputs import InputKind

    return InputKind(kinds([name])[name])


def read_values(frames, name):
    rows = [np.reshape(place(atoms, name)[name], (len(atoms) if name in OF_ATOMS else 1, -1)) for atoms in frames]
    return np.concatenate([np.broadcast_to(one, (len(a), one.shape[1])) for one, a in zip(rows, frames, strict=True)])


def test_isolated_atoms_know_their_inputs():
    """Without neighbors features depend on the species and the inputs, which rotate with them."""
    random = np.random.default_rng(0)
    frames = [Atoms("H", info={"field": random.normal(size=3)}) for _ in range(4)]
    for architecture in ARCHITECTURES:
        network = EquivariantNetwork(**SMALL, **architecture, irreps="0e+1o", inputs={"field": "1o"}).fit(frames)
        block = network.transform(frames).blocks["1o"]
        assert np.abs(block).max() > 1e-3
        fields = np.array([atoms.info["field"][[1, 2, 0]] for atoms in frames])  # a vector of each channel along it
        assert np.abs(np.cross(block.transpose(0, 2, 1), fields[:, None])).max() < 1e-12 * np.abs(block).max()


@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=str)
@pytest.mark.parametrize("target", ["energy", "dipole", "of atoms"])
def test_predictions(target, architecture):
    frames, names, random = frames_with_inputs(periodic=True, n_frames=5), ("field", "charge"), np.random.default_rng(0)
    shape = () if target == "energy" else (3,)
    y = [random.normal(size=(len(a), 3)) for a in frames] if target == "of atoms" else labels(frames, shape)
    model = EquivariantNetworkRegressor(**SMALL, **architecture, inputs=kinds(names)).fit(frames, y)
    assert_equivariant(model, frames[:3], n_transformations=2, inputs=kinds(names))
    weights = [random.normal(size=np.shape(one)) for one in y]

    def total(moved):
        return sum(np.sum(a * b) for a, b in zip(weights, model.predict(moved), strict=True))

    derivatives = model.vjp(frames, weights if target == "of atoms" else np.array(weights))
    assert_input_derivatives(total, derivatives.inputs, frames, names)
    assert_derivatives(total, derivatives, frames, True)
    if target == "energy":
        dipoles = -input_derivatives(model, frames, "field")
        np.testing.assert_allclose(-dipoles, model.vjp(frames, np.ones(5)).inputs["field"])
        assert np.concatenate(model.predict_forces(frames)).shape == (sum(map(len, frames)), 3)


@pytest.mark.parametrize("options", [{"species_embedding": "periodic"}, {"handle_unknown": "ignore"}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=str)
def test_embedded_and_unknown_species(architecture, options):
    frames, names = frames_with_inputs(periodic=True, n_frames=4), ("field", "charge")
    network = EquivariantNetwork(**SMALL, **architecture, **options, irreps="0e+1o", inputs=kinds(names))
    network.fit(frames, labels(frames, (3,)))
    if "handle_unknown" in options:
        frames[1].numbers[::2], frames[2].numbers[:] = 9, 9
    assert_equivariant(network, frames, n_transformations=2, inputs=kinds(names))
    weights = cotangents(network.transform(frames).blocks)
    derivatives, total = network.vjp(frames, weights), total_of(network, weights)
    assert_input_derivatives(total, derivatives.inputs, frames, names)
    if "handle_unknown" in options:
        starts = np.cumsum([0, *map(len, frames)])
        assert not derivatives.inputs["charge"][starts[1] : starts[2] : 2].any()
        assert not derivatives.inputs["field"][2].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=str)
def test_results_do_not_depend_on_threads_parts_or_files(architecture, tmp_path):
    frames, inputs = frames_with_inputs(n_frames=4), kinds(["velocity", "magnetic", "charge"])
    y = labels(frames, (3,))
    model = EquivariantNetworkRegressor(**SMALL, **architecture, inputs=inputs).fit(frames * 3, np.tile(y, (3, 1)))
    threads = EquivariantNetworkRegressor(**SMALL, **architecture, inputs=inputs, n_jobs=2)
    threads.fit(frames * 3, np.tile(y, (3, 1)))
    predicted, slopes = model.predict(frames), model.vjp(frames, y).inputs
    np.testing.assert_array_equal(threads.predict(frames), predicted)
    np.testing.assert_array_equal(threads.vjp(frames, y).inputs["velocity"], slopes["velocity"])
    many = model.vjp(frames * 60, np.tile(y, (60, 1))).inputs
    np.testing.assert_allclose(many["velocity"], np.tile(slopes["velocity"], (60, 1)), atol=1e-12)
    np.testing.assert_allclose(many["magnetic"], np.tile(slopes["magnetic"], (60, 1)), atol=1e-12)
    np.testing.assert_allclose(model.predict(frames[2:3])[0], predicted[2], atol=1e-12)
    save_model(model, tmp_path / "model.eqk")
    for copy in (load_model(tmp_path / "model.eqk"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.predict(frames), predicted)
        np.testing.assert_array_equal(copy.vjp(frames, y).inputs["magnetic"], slopes["magnetic"])


def test_training_on_batches_and_held_back_structures():
    """Parts of the structures take their inputs along: what is predicted stays equivariant, and is better than none."""
    frames = frames_with_inputs(n_frames=80)
    y = np.array([a.info["field"] * a.arrays["charge"].sum() for a in frames])
    options = {
        **SMALL,
        "max_iter": 60,
        "channels": 8,
        "solver": "adam",
        "batch_size": 8,
        "early_stopping": True,
        "error_bars": True,
    }
    model = EquivariantNetworkRegressor(**options, inputs=kinds(["field", "charge"])).fit(frames[:60], y[:60])
    assert model.score(frames[60:], y[60:]) > 0.8
    assert model.predict(frames[60:], return_std=True)[1].shape == (20, 3)
    model.partial_fit(frames[:40], y[:40])
    assert_equivariant(model, frames[:3], tolerance=1e-9, inputs=kinds(["field", "charge"]))


@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=str)
def test_the_lorentz_force_is_learned(architecture):
    """F = q v x B of single charges: with the right parity of the field, and as a force that is even in time."""

    def error(inputs, **options):
        (train, forces), (test, expected) = particles(60, 0), particles(50, 1)
        network = {**SMALL, "max_iter": 200, "l_max": 1, "channels": 8, "weight_decay": 0.0}
        model = EquivariantNetworkRegressor(**network, **architecture, inputs=inputs, target="i", **options)
        predicted = model.fit(train, forces).predict(test)
        return np.linalg.norm(predicted - expected) / np.linalg.norm(expected)

    assert error(LORENTZ) < (1e-4 if architecture["architecture"] == "ace" else 0.02)
    plain = {name: text.removesuffix(" time-odd") for name, text in LORENTZ.items()}
    assert error({**plain, "magnetic_field": "1o"}) > 0.5
    assert error({"charge": "0e", "magnetic_field": "1e time-odd"}) > 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES[::2], ids=str)
def test_moments_that_are_odd_in_time(architecture):
    """Magnetization, odd in time, beside an energy, which is even, of one network."""
    frames, inputs = frames_with_inputs(n_frames=30), kinds(["magnetic"])
    y = {"moment": np.array([len(a) * a.info["magnetic"] for a in frames]), "energy": labels(frames, ())}
    model = EquivariantNetworkRegressor(**{**SMALL, "max_iter": 20}, **architecture, inputs=inputs, time_odd=True)
    model.set_params(target={"moment": "pseudovector"}).fit(frames, y)
    after = [transformed(one, inputs=inputs, time_reversed=True) for one in frames]
    one, other = model.predict(frames), model.predict(after)
    np.testing.assert_allclose(other["moment"], -one["moment"], atol=1e-10)
    np.testing.assert_allclose(other["energy"], one["energy"], atol=1e-10)
    assert np.abs(one["moment"] - y["moment"]).max() < 0.2 * np.abs(y["moment"]).max()


def test_in_unions_and_linear_models():
    frames, inputs = frames_with_inputs(n_frames=8), kinds(["field", "charge"])
    y, network = labels(frames, (3,)), EquivariantNetwork(**SMALL, inputs=inputs)
    fixed = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, inputs=kinds(["spin"]))
    union = EquivariantUnion([("learned", network), ("fixed", fixed)])
    model = TensorRidge(1e-3, descriptor=union, normalize=False).fit(frames, y)
    assert_equivariant(model, frames[:3], tolerance=1e-9, inputs={**inputs, "spin": "1e"})
    assert set(model.vjp(frames, y).inputs) == {"field", "charge", "spin"}


def test_going_on_with_the_inputs_of_the_first_fit():
    frames = frames_with_inputs(n_frames=6)
    y, options = labels(frames, (3,)), {**SMALL, "inputs": kinds(["field", "charge"]), "warm_start": True}
    network = EquivariantNetwork(**options).fit(frames, y)
    scales = dict(network.input_scales_)
    for atoms in frames:
        atoms.info["field"] = 2 * atoms.info["field"]
    assert network.fit(frames, y).input_scales_ == scales
    with pytest.raises(ValueError, match="cannot be trained further"):
        EquivariantNetwork(**options).fit(frames, y).set_params(inputs=kinds(["charge", "field"])).fit(frames, y)
    for atoms in frames:
        atoms.info["charge"] = float(atoms.arrays.pop("charge")[0])
    with pytest.raises(ValueError, match=r"'charge' is in atoms.info, at fit it was in atoms.arrays"):
        network.partial_fit(frames, y)
    network.set_params(warm_start=False).fit(frames, y)
    assert network.input_per_atom_["charge"] == 0.0


def test_the_calculator_notices_a_new_field():
    frames = frames_with_inputs(n_frames=6)
    model = EquivariantNetworkRegressor(**SMALL, inputs=kinds(["field"])).fit(frames, labels(frames, ()))
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator(model)
    first = atoms.get_potential_energy()
    atoms.info["field"] = -atoms.info["field"]
    np.testing.assert_allclose(atoms.get_potential_energy(), model.predict([atoms])[0])
    assert atoms.get_potential_energy() != first
    np.testing.assert_allclose(atoms.get_forces(), model.predict_forces([atoms])[0], atol=1e-12)


BAD = [
    ({"inputs": "1o"}, "must be None or a dict"),
    ({"inputs": {"field": "1"}}, r"inputs\['field'\]='1'"),
    ({"inputs": {"field": "1o"}, "input_weight": -1.0}, "input_weight=-1.0 must be a positive"),
    ({"inputs": {"field": "1o"}, "input_weight": {"charge": 1.0}}, "input_weight has the names"),
    ({"inputs": {"strain": "0e+2e"}, "l_max": 1}, "degree 2, more than l_max=1"),
    ({"inputs": {"absent": "1o"}}, "the input 'absent' of structure 0 is missing"),
    ({"time_odd": True}, "time_odd=True needs inputs"),
    ({"inputs": {"field": "1o"}, "time_odd": True}, "time_odd=True needs inputs"),
]


@pytest.mark.parametrize("make", [EquivariantNetwork, EquivariantNetworkRegressor])
@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_parameters(make, options, message):
    frames = frames_with_inputs()
    with pytest.raises(ValueError, match=message):
        make(**{**SMALL, **options}).fit(frames, labels(frames, (3,)))


def test_batches_of_the_geometry_are_refused():
    frames = frames_with_inputs()
    network = EquivariantNetwork(**SMALL, inputs=kinds(["field"])).fit(frames)
    with pytest.raises(ValueError, match="the batch has no input 'field'"):
        network.transform(StructureBatch.from_frames(frames))
    assert len(network.fit_transform(frames)) == 3
