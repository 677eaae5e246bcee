"""Descriptors with inputs: their formula, symmetry, derivatives, and what they can and cannot learn."""

import numpy as np
import pytest

from eqkernels import (
    SOAP,
    Bispectrum,
    CovariantKernel,
    EquivariantUnion,
    LambdaSOAP,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorCalculator,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
)
from eqkernels.io import load_model, save_model
from eqkernels.so3 import clebsch_gordan, spherical_harmonics
from eqkernels.structures import StructureBatch, find_neighbors
from eqkernels.testing import assert_equivariant, transformed
from tests.conftest import random_frames

SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 2}
# a field, a magnetic field, a strain; charges, velocities, spins, pseudoscalars, and general matrices of atoms
KINDS = {
    "field": "1o", "magnetic": "1e time-odd", "strain": "0e+2e",
    "charge": "0e", "velocity": "1o time-odd", "spin": "1e", "chirality": "0o", "matrix": "ij",
}  # fmt: skip
OF_ATOMS = {"charge": (), "velocity": (3,), "spin": (3,), "chirality": (), "matrix": (3, 3)}
SETS = [
    ("field",), ("magnetic",), ("strain",), ("charge",), ("velocity",), ("spin",), ("chirality",),
    ("field", "magnetic", "charge"), ("velocity", "magnetic", "spin"),
]  # fmt: skip


def kinds(names):
    return {name: KINDS[name] for name in names}


def frames_with_inputs(periodic=False, n_frames=3, n_species=2):
    frames = random_frames(seed=5, n_frames=n_frames, n_species=n_species, periodic=periodic)
    random = np.random.default_rng(0)
    for atoms in frames:
        strain = random.normal(size=(3, 3))
        atoms.info.update(field=random.normal(size=3), magnetic=random.normal(size=3), strain=strain + strain.T)
        for name, shape in OF_ATOMS.items():
            atoms.arrays[name] = random.normal(size=(len(atoms), *shape))
    return frames


def cotangents(blocks):
    random = np.random.default_rng(1)
    return {key: random.normal(size=block.shape) for key, block in blocks.items()}


def place(atoms, name):
    return atoms.arrays if name in atoms.arrays else atoms.info


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("name", ["charge", "velocity", "spin", "chirality"])
def test_channels_are_their_formula(periodic, name):
    """A naive twin of the sum over neighbors, coupled with the tensor of each."""
    frames = frames_with_inputs(periodic)
    expansion = SphericalExpansion(**SMALL, inputs=kinds([name])).fit(frames)
    blocks, plain = expansion.transform(frames).blocks, SphericalExpansion(**SMALL).fit(frames)
    batch = StructureBatch.from_frames(frames)
    pairs, table = find_neighbors(batch, 3.0), plain._expansion().table
    scale, degree, parity = expansion.input_scales_[name], int(KINDS[name][0]), 1 if KINDS[name][1] == "e" else -1
    values = scale * np.concatenate([atoms.arrays[name].reshape(len(atoms), -1) for atoms in frames])
    values = values if degree == 0 else values[:, [1, 2, 0]]
    radial = table(pairs.distances).reshape(len(pairs.distances), 3, 2)
    harmonics = spherical_harmonics(pairs.vectors, 2)
    for shift in range(-degree, degree + 1):
        for l in range(3):
            source = l + shift
            if not (0 <= source <= 2 and abs(source - l) <= degree <= source + l):
                continue
            expected = np.zeros((batch.n_atoms, 2 * l + 1, 2, 2))
            for p, (i, j) in enumerate(zip(pairs.centers, pairs.neighbors, strict=True)):
                y = harmonics[p, source**2 : (source + 1) ** 2]
                coupled = np.einsum("sMm,s,M->m", clebsch_gordan(source, degree, l), y, values[j])
                species = list(plain.neighbor_species_).index(batch.numbers[j])
                expected[i, :, species] += coupled[:, None] * radial[p, source]
            key = f"{l}{'e' if parity * (-1) ** source == 1 else 'o'}"
            labels, names = expansion.feature_labels(key), expansion.input_channels_
            wanted = [f"{name}({symbol}){f' l{shift:+d}' if shift else ''}" for symbol in "HC"]
            columns = np.flatnonzero([s < -1 and names[-2 - s] in wanted for s in labels["species"]])
            np.testing.assert_allclose(blocks[key][:, :, columns], expected.reshape(*expected.shape[:2], 4), atol=1e-8)
    own = f"{degree}{KINDS[name][1]}"
    column = [s < -1 and expansion.input_channels_[-2 - s] == name for s in expansion.feature_labels(own)["species"]]
    np.testing.assert_allclose(blocks[own][:, :, column][:, :, 0], values, atol=1e-14)


@pytest.mark.parametrize("names", SETS)
def test_features_rotate_with_their_inputs(names):
    frames, options = frames_with_inputs(periodic=True), {**SMALL, "inputs": kinds(names)}
    irreps = "0e+1o+1e+2e+2o"
    for descriptor in (
        LambdaSOAP(**options, irreps=irreps + "+0o", max_pseudoscalars=100),
        SphericalExpansion(**options),
        SOAP(**options),
        NBodyFeatures(**options, irreps=irreps + "+0o", n_components=6, n_products=30),
    ):
        assert_equivariant(descriptor.fit(frames), frames, n_transformations=2, inputs=kinds(names))


def test_all_products_of_three_rotate():
    frames, inputs = frames_with_inputs(n_frames=2), kinds(["field", "magnetic"])
    options = {"cutoff": 3.0, "n_max": 1, "l_max": 1, "neighbor_inputs": False, "inputs": inputs}
    made = Bispectrum(**options, irreps="0e+0o+1o+1e").fit(frames)
    assert_equivariant(made, frames, n_transformations=2, inputs=inputs)
    assert min(made.feature_labels("1e")[f"species_{k}"].min() for k in (1, 2, 3)) == -3


@pytest.mark.parametrize("time_odd", [False, True])
@pytest.mark.parametrize("make", [LambdaSOAP, NBodyFeatures])
def test_time_reversal(make, time_odd):
    names = ["velocity", "magnetic", "charge"]
    frames, inputs = frames_with_inputs(), kinds(names)
    options = {"n_components": 6, "n_products": 30} if make is NBodyFeatures else {}
    descriptor = make(**SMALL, irreps="0e+1o+1e", inputs=inputs, time_odd=time_odd, **options).fit(frames)
    before = descriptor.transform(frames).blocks
    after = descriptor.transform([transformed(one, inputs=inputs, time_reversed=True) for one in frames]).blocks
    for key in ("0e", "1o", "1e"):
        sign = -1 if time_odd and key != "0e" else 1
        assert np.abs(before[key]).max() > 0
        np.testing.assert_allclose(after[key], sign * before[key], atol=1e-12)


def test_scalar_products_are_those_of_all_ordered_products():
    """Each unordered pair of channels of any two sectors is kept once, with its weight."""
    frames, inputs = frames_with_inputs(n_frames=2), kinds(["field", "spin"])
    coefficients = SphericalExpansion(**SMALL, inputs=inputs, neighbor_inputs=False).fit_transform(frames).blocks
    descriptor = LambdaSOAP(**SMALL, irreps="0e+1o+1e+2o", inputs=inputs, neighbor_inputs=False)
    for key, block in descriptor.fit_transform(frames).blocks.items():
        lam, every = int(key[0]), []
        for one, left in coefficients.items():
            for two, right in coefficients.items():
                l1, l2 = int(one[0]), int(two[0])
                if (one[1] == two[1]) == (key[1] == "e") and abs(l1 - l2) <= lam <= l1 + l2:
                    product = np.einsum("abm,iaq,ibp->imqp", clebsch_gordan(l1, l2, lam), left, right)
                    every.append(product.reshape(*product.shape[:2], -1))
        every = np.concatenate(every, axis=2)
        expected = np.einsum("iaf,jbf->iajb", every, every)
        np.testing.assert_allclose(np.einsum("iaf,jbf->iajb", block, block), expected, atol=1e-12)


OPTIONS = [
    {}, {"neighbor_inputs": False}, {"n_species_channels": 1}, {"n_optimal": 1}, {"compression": "mu2"},
    {"center_species": ["C"]}, {"neighbor_species": ["C"]}, {"input_weight": 0.3, "radial_basis": "laplacian"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("names", [("field",), ("charge", "field"), ("spin",), ("velocity", "magnetic")])
def test_derivatives_are_differences(names, options):
    frames = frames_with_inputs(periodic=True, n_frames=2)
    descriptor = LambdaSOAP(**{**SMALL, "l_max": 1}, irreps="0e+1o+1e", inputs=kinds(names), **options).fit(frames)
    weights = cotangents(descriptor.transform(frames).blocks)
    assert_derivatives(descriptor, frames, names, weights)


@pytest.mark.parametrize("name", ["strain", "matrix", "chirality"])
def test_derivatives_by_other_tensors(name):
    frames = frames_with_inputs(n_frames=2)
    descriptor = LambdaSOAP(**SMALL, irreps="0e+1o", inputs=kinds([name])).fit(frames)
    assert_derivatives(descriptor, frames, [name], cotangents(descriptor.transform(frames).blocks))


def assert_derivatives(descriptor, frames, names, weights):
    """Both kinds of derivatives, by positions and inputs, against five-point differences."""

    def total(moved):
        blocks = descriptor.transform(moved).blocks
        return sum(np.sum(weights[key] * blocks[key]) for key in weights)

    def difference(change, h=2e-3):
        values = []
        for step in (-2, -1, 1, 2):
            moved = [atoms.copy() for atoms in frames]
            change(moved, step * h)
            values.append(total(moved))
        return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)

    vjp, forward = descriptor.vjp(frames, weights), descriptor.gradients(frames, strain=True)
    random, k = np.random.default_rng(3), 1
    first, n = len(frames[0]), len(frames[1])
    step = random.normal(size=(n, 3))

    def move(moved, h):
        moved[k].positions += h * step

    size = max(np.abs(vjp.positions).max(), 1.0)
    np.testing.assert_allclose(np.sum(vjp.positions[first:] * step), difference(move), atol=1e-5 * size)
    for name in names:
        values = np.array(place(frames[k], name)[name])
        change = random.normal(size=values.shape)
        change = change + change.T if name == "strain" else change

        def shift(moved, h, name=name, values=values, change=change):
            place(moved[k], name)[name] = values + h * change

        expected, of_atoms = difference(shift, 1e-2), name in OF_ATOMS
        found = vjp.inputs[name][first:] if of_atoms else vjp.inputs[name][k]
        size = max(np.abs(vjp.inputs[name]).max(), 1.0)
        np.testing.assert_allclose(np.sum(found * change), expected, atol=1e-7 * size)
        part = forward.inputs[name]
        rows = part.structures == k
        flat = change.reshape(n if of_atoms else 1, -1)[part.atoms[rows] if of_atoms else np.zeros(rows.sum(), int)]
        slopes = sum(
            np.einsum("exmf,emf,ex->", part.blocks[key][rows], weights[key][part.centers[rows]], flat)
            for key in weights
        )
        np.testing.assert_allclose(slopes, expected, atol=1e-7 * size)
    assert_forward_is_vjp(forward, vjp, frames, weights)


def assert_forward_is_vjp(forward, vjp, frames, weights):
    positions, starts = np.zeros_like(vjp.positions), np.cumsum([0, *map(len, frames)])
    for part in forward.parts:
        for key, block in part.blocks.items():
            slopes = np.einsum("exmf,emf->ex", block, weights[key][part.centers][:, :, part.columns[key]])
            np.add.at(positions, starts[part.structures] + part.atoms, slopes)
    np.testing.assert_allclose(positions, vjp.positions, atol=1e-10 * np.abs(positions).max())
    strain = sum(np.einsum("ixymf,imf->xy", forward.strain[key], weights[key]) for key in weights)
    np.testing.assert_allclose(strain, vjp.strain.sum(axis=0), atol=1e-10 * np.abs(strain).max())


@pytest.mark.parametrize("names", [("field",), ("velocity", "magnetic")])
def test_derivatives_of_other_descriptors(names):
    frames, inputs = frames_with_inputs(n_frames=2), kinds(names)
    for descriptor in (
        NBodyFeatures(**SMALL, inputs=inputs, irreps="0e+1o", n_components=8, n_products=40),
        NBodyFeatures(cutoff=3.0, n_max=1, l_max=1, inputs=inputs, irreps="0e+1o", n_components=None, nu=3),
        SphericalExpansion(**SMALL, inputs=inputs),
        SOAP(**SMALL, inputs=inputs),
    ):
        made = descriptor.fit(frames).transform(frames)
        blocks = {"": made} if isinstance(made, np.ndarray) else made.blocks
        weights = cotangents(blocks)
        found = descriptor.vjp(frames, weights.get("", weights)).inputs
        for name in names:
            step, values = np.random.default_rng(2).normal(size=np.shape(place(frames[1], name)[name])), []
            for h in (-2, -1, 1, 2):
                moved = [atoms.copy() for atoms in frames]
                place(moved[1], name)[name] = place(moved[1], name)[name] + 0.01 * h * step
                made = descriptor.transform(moved)
                made = {"": made} if isinstance(made, np.ndarray) else made.blocks
                values.append(sum(np.sum(weights[key] * made[key]) for key in weights))
            expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 0.12
            part = found[name][len(frames[0]) :] if name in OF_ATOMS else found[name][1]
            np.testing.assert_allclose(np.sum(part * step), expected, atol=1e-7 * max(1.0, np.abs(part).max()))


def test_without_inputs_nothing_changes():
    """Inputs that are zero add features that are zero; those of the density are the same."""
    frames = frames_with_inputs()
    for atoms in frames:
        atoms.info["field"] = np.zeros(3)
    plain = LambdaSOAP(**SMALL).fit_transform(frames)
    descriptor = LambdaSOAP(**SMALL, inputs=kinds(["field"])).fit(frames)
    with_field = descriptor.transform(frames)
    for key, block in plain.blocks.items():
        labels = descriptor.feature_labels(key)
        kept = (labels["species_1"] > 0) & (labels["species_2"] > 0)
        np.testing.assert_allclose(with_field.blocks[key][:, :, kept], block, rtol=1e-13, atol=1e-15)
        assert np.all(with_field.blocks[key][:, :, ~kept] == 0)


def test_results_do_not_depend_on_threads_parts_or_precision():
    frames, inputs = frames_with_inputs(n_frames=4), kinds(["velocity", "magnetic"])
    descriptor = LambdaSOAP(**SMALL, irreps="0e+1e", inputs=inputs).fit(frames)
    whole, weights = descriptor.transform(frames), cotangents(descriptor.transform(frames).blocks)
    slopes = descriptor.vjp(frames, weights)
    parts = [one.blocks["1e"] for one in descriptor.iter_transform(iter(frames), memory_limit=1e4)]
    np.testing.assert_allclose(np.concatenate(parts), whole.blocks["1e"], atol=1e-13)
    single = LambdaSOAP(**SMALL, irreps="0e+1e", inputs=inputs, dtype="float32").fit(frames).transform(frames)
    np.testing.assert_allclose(single.blocks["1e"], whole.blocks["1e"], atol=1e-4 * np.abs(whole.blocks["1e"]).max())
    descriptor.set_params(n_jobs=2)
    np.testing.assert_array_equal(descriptor.transform(frames).blocks["1e"], whole.blocks["1e"])
    np.testing.assert_array_equal(descriptor.vjp(frames, weights).inputs["velocity"], slopes.inputs["velocity"])


def dipoles(frames):
    return np.array([a.info["field"] + a.arrays["charge"] @ (a.positions - a.positions.mean(axis=0)) for a in frames])


@pytest.mark.parametrize(
    "model",
    [
        TensorRidge(1e-6), TensorKernelRidge(1e-6), TensorGPR(CovariantKernel(), optimizer=None),
        TensorKernelRidge(1e-6, kernel=CovariantKernel(zeta=3, normalize=False)),
        SparseTensorGPR(12, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)  # fmt: skip
@pytest.mark.parametrize("names", [("field", "charge"), ("field", "spin")])
def test_models_rotate_with_their_inputs(model, names):
    frames = frames_with_inputs(n_frames=8)
    descriptor = LambdaSOAP(**SMALL, inputs=kinds(names))
    model = model.set_params(descriptor=descriptor).fit(frames, dipoles(frames))
    assert_equivariant(model, frames[:3], tolerance=1e-9, n_transformations=2, inputs=kinds(names))


def test_a_union_passes_inputs_on():
    frames = frames_with_inputs()
    parts = [("field", LambdaSOAP(**SMALL, inputs=kinds(["field"]))), ("plain", LambdaSOAP(**SMALL))]
    union = EquivariantUnion(parts).fit(frames)
    assert_equivariant(union, frames, n_transformations=2, inputs=kinds(["field"]))


def test_derivatives_of_energies_by_the_field():
    """The polarization of a model of the energy is the derivative of what it predicts."""
    frames = frames_with_inputs(n_frames=10)
    energies = np.array([np.sum(a.info["field"] * dipoles([a])[0]) for a in frames])
    descriptor = LambdaSOAP(**SMALL, inputs=kinds(["field", "charge"]))
    model = SparseTensorGPR(40, descriptor=descriptor, noise=1e-6, random_state=0).fit(frames, energies)
    found, step = model.vjp(frames, np.ones(10)).inputs["field"], 1e-3
    for x in range(3):
        values = []
        for h in (-2, -1, 1, 2):
            moved = [atoms.copy() for atoms in frames]
            for atoms in moved:
                atoms.info["field"] = atoms.info["field"] + h * step * np.eye(3)[x]
            values.append(model.predict(moved))
        expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        np.testing.assert_allclose(found[:, x], expected, atol=1e-7 * np.abs(found).max())


@pytest.mark.parametrize("names", [("field", "charge"), ("velocity", "magnetic")])
def test_models_with_inputs_are_stored(names, tmp_path):
    frames = frames_with_inputs(n_frames=6)
    descriptor = LambdaSOAP(**SMALL, inputs=kinds(names))
    model = TensorKernelRidge(1e-6, descriptor=descriptor).fit(frames, dipoles(frames))
    save_model(model, tmp_path / "model.eqk")
    np.testing.assert_array_equal(load_model(tmp_path / "model.eqk").predict(frames), model.predict(frames))


def test_the_calculator_notices_a_new_field():
    frames = frames_with_inputs(n_frames=6)
    energies = [np.sum(a.info["field"] * dipoles([a])[0]) for a in frames]
    descriptor = LambdaSOAP(**SMALL, inputs=kinds(["field", "charge"]))
    model = SparseTensorGPR(20, descriptor=descriptor, noise=1e-6, random_state=0).fit(frames, energies)
    atoms = frames[0].copy()
    atoms.calc = TensorCalculator(model)
    first = atoms.get_potential_energy()
    atoms.info["field"] = -atoms.info["field"]
    np.testing.assert_allclose(atoms.get_potential_energy(), model.predict([atoms])[0])
    assert atoms.get_potential_energy() != first


def test_features_have_names():
    soap = SOAP(**SMALL, inputs=kinds(["field", "charge"])).fit(frames_with_inputs())
    names = soap.get_feature_names_out()
    assert len(set(names)) == soap.transform(frames_with_inputs()).shape[1] == len(names)
    assert "H0 field0 l1" in names
    assert "charge(C)1 field0 l1" in names or "field0 charge(C)1 l1" in names


BAD = [
    ({"inputs": "1o"}, "must be None or a dict"),
    ({"inputs": {}}, "must be None or a dict"),
    ({"inputs": {"field": "1"}}, r"inputs\['field'\]='1'"),
    ({"inputs": {"field": "1o"}, "input_weight": -1.0}, "input_weight=-1.0 must be a positive"),
    ({"inputs": {"field": "1o"}, "input_weight": {"charge": 1.0}}, "input_weight has the names"),
    ({"inputs": {"strain": "0e+2e"}, "l_max": 1}, "degree 2, more than l_max=1"),
    ({"inputs": {"absent": "1o"}}, "the input 'absent' of structure 0 is missing"),
    ({"inputs": {"field": "1o"}, "neighbor_inputs": "no"}, "neighbor_inputs='no' must be True or False"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        LambdaSOAP(**{**SMALL, **options}).fit(frames_with_inputs())


def test_an_input_that_moved_since_fit_is_refused():
    frames = frames_with_inputs()
    descriptor = LambdaSOAP(**SMALL, inputs=kinds(["charge"])).fit(frames)
    atoms = frames[0].copy()
    del atoms.arrays["charge"]
    atoms.info["charge"] = 1.0
    with pytest.raises(ValueError, match=r"'charge' is in atoms.info, at fit it was in atoms.arrays"):
        descriptor.transform([atoms])
