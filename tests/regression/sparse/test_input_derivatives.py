import numpy as np
import pytest
from ase.build import molecule

from eqkernels import CovariantKernel, EquivariantUnion, LambdaSOAP, SparseTensorGPR
from eqkernels.io import load_model, save_model
from eqkernels.kernels import Restricted
from eqkernels.regression.sparse.input_rows import kernel_input_derivatives, kind_of_input
from eqkernels.response import input_derivatives
from eqkernels.structures import DerivativeLabels
from eqkernels.structures.inputs import InputKind

SMALL = {"cutoff": 3.0, "n_max": 2, "l_max": 2, "sigma": 0.5, "accuracy": 1e-12}
FIELD = {"electric_field": "1o"}
SOAP = LambdaSOAP(**SMALL, inputs=FIELD)
CHARGES = {8: -0.8, 1: 0.4}


def water(n, seed=0):
    """Molecules with a field and a symmetric matrix each, and a scalar of each atom."""
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.rattle(0.05, rng=random)
        atoms.info["electric_field"] = random.normal(size=3)
        matrix = random.normal(size=(3, 3))
        atoms.info["strain"] = matrix + matrix.T
        atoms.arrays["charge"] = random.normal(size=len(atoms))
        frames.append(atoms)
    return frames


def dipoles(frames):
    return np.array([sum(CHARGES[z] * r for z, r in zip(a.numbers, a.positions, strict=True)) for a in frames])


def energies(frames):
    """Energies of which the dipole is minus the derivative by the field."""
    return np.array([-one @ a.info["electric_field"] for a, one in zip(frames, dipoles(frames), strict=True)])


def model(**options):
    return SparseTensorGPR(**{"n_points": 30, "descriptor": SOAP, "random_state": 0, **options})


def changed(frames, name, component, step):
    """Copies of the frames with another component of an input."""
    copies = [atoms.copy() for atoms in frames]
    for atoms in copies:
        place = atoms.arrays if name in atoms.arrays else atoms.info
        place[name] = np.array(place[name], dtype=float)
        place[name][component] += step
    return copies


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("irrep", ["0e", "1o"])
def test_kernels_change_with_inputs_as_their_differences(union, irrep):
    kinds = {"electric_field": "1o", "strain": "0e+2e", "charge": "0e"}
    descriptor = LambdaSOAP(**SMALL, inputs=kinds, irreps="0e+1o", input_weight=0.4)
    kernel = CovariantKernel(zeta=3) + 0.3 * CovariantKernel(zeta=1, normalize=False)
    if union:
        members = [("plain", LambdaSOAP(**SMALL, irreps="0e+1o")), ("inputs", descriptor)]
        descriptor, kernel = EquivariantUnion(members), kernel + Restricted(CovariantKernel(), part="inputs")
    frames = water(3)
    features = descriptor.fit(frames).transform(frames)
    points = features.split_centers(np.arange(0, 9, 2))
    sizes = {"electric_field": (3, 3, True), "strain": (3, 6, True), "charge": (9, 1, False)}
    labels = {
        kind_of_input(name): DerivativeLabels(np.zeros((n, k)), np.arange(n), by_structure)
        for name, (n, k, by_structure) in sizes.items()
    }
    found = kernel_input_derivatives(descriptor, frames, features, kernel, points, labels, 2e4, irrep)
    step = 1e-4

    def difference(name, component):
        plus, minus = (
            kernel(descriptor.transform(changed(frames, name, component, s)), points, irrep=irrep)
            for s in (step, -step)
        )
        return (plus - minus).transpose(0, 2, 1, 3) / (2 * step)

    def by_numbers(name):
        return np.einsum("nkapb,kx->nxapb", found[kind_of_input(name)], InputKind(kinds[name]).matrix)

    field, strain = by_numbers("electric_field"), by_numbers("strain")
    for k in range(3):
        np.testing.assert_allclose(field[:, k], difference("electric_field", k), atol=2e-7)
    both = difference("strain", ([0, 1], [1, 0]))  # a symmetric matrix changes on both sides
    np.testing.assert_allclose(strain[:, 1] + strain[:, 3], both, atol=2e-7)
    np.testing.assert_allclose(strain[:, 8], difference("strain", (2, 2)), atol=2e-7)
    for k in range(3):
        np.testing.assert_allclose(found["by charge"][k::3, 0], difference("charge", k), atol=2e-7)


def test_coefficients_are_those_of_the_least_squares_of_all_rows():
    frames, noise, input_noise = water(6), 1e-3, 2e-2
    given = -dipoles(frames)
    given[2] = np.nan
    one = model(n_points=8, noise=noise, input_noise=input_noise, baseline=None, kernel=CovariantKernel(zeta=2))
    one.fit(frames, energies(frames), input_derivatives={"electric_field": given})

    def of_points(some):
        terms = one._kernel_terms("0e")
        return one._kernel()(one.descriptor_.transform(some), terms[1])[:, :, 0, 0]

    rows, step = [], 1e-4
    for k in range(3):
        moved = (of_points(changed(frames, "electric_field", k, s)) for s in (step, -step))
        rows.append(np.subtract(*moved) / (2 * step))
    K, points = of_points(frames), one._kernel_terms("0e")[1]
    known = np.isfinite(given[:, 0])
    slopes, labels = np.stack(rows, axis=1)[known].reshape(-1, K.shape[1]), given[known].ravel()
    prior = one._kernel()(points)[:, :, 0, 0]
    matrix = K.T @ K / noise + slopes.T @ slopes / input_noise + prior
    coef = np.linalg.solve(matrix, K.T @ energies(frames) / noise + slopes.T @ labels / input_noise)
    new = water(4, seed=1)
    np.testing.assert_allclose(one.predict(new), of_points(new) @ coef, atol=1e-5)


def test_dipoles_make_a_model_of_energies_better():
    frames = water(60)
    train, test = frames[:15], frames[20:]
    labels = {"electric_field": -dipoles(train)}

    def error(**given):
        one = model(n_points=45).fit(train, energies(train), **given)
        return np.abs(-input_derivatives(one, test, "electric_field") - dipoles(test)).max()

    assert error(input_derivatives=labels) < 0.3 * error()


def test_parts_equal_the_whole_and_missing_labels_are_left_out(tmp_path):
    frames = water(12)
    given = [None if k % 3 == 0 else list(one) for k, one in enumerate(-dipoles(frames))]
    y = energies(frames)
    whole = model(n_points=20).fit(frames, y, input_derivatives={"electric_field": given})
    assert set(whole.noise_) == {"0e", "0e by electric_field"}
    assert whole.derivative_totals_["by electric_field"][0] == 24
    parts = model(n_points=20).partial_fit(frames, y, solve=False)
    parts.partial_fit(frames, np.full(12, np.nan), input_derivatives={"electric_field": given})
    np.testing.assert_allclose(parts.predict(frames), whole.predict(frames), atol=1e-6)
    threads = model(n_points=20, n_jobs=2).fit(frames, y, input_derivatives={"electric_field": given})
    np.testing.assert_array_equal(threads.predict(frames), whole.predict(frames))
    save_model(whole, tmp_path / "model.skops")
    np.testing.assert_array_equal(load_model(tmp_path / "model.skops").predict(frames), whole.predict(frames))


def test_weights_count_as_copies():
    frames, weight = water(6), np.array([1.0, 2.0, 1.0, 1.0, 3.0, 0.0])
    settings = {"n_points": 8, "noise": 1e-3, "input_noise": 1e-2, "baseline": None}
    labels = -dipoles(frames)
    weighted = model(**settings).fit(frames, energies(frames), weight, input_derivatives={"electric_field": labels})
    nothing = {"electric_field": np.full((6, 3), np.nan)}
    one = model(**settings).partial_fit(frames, np.full(6, np.nan), input_derivatives=nothing, solve=False)
    again = [frames[k] for k in np.repeat(np.arange(6), weight.astype(int))]
    one.partial_fit(again, energies(again), input_derivatives={"electric_field": -dipoles(again)})
    np.testing.assert_allclose(one.predict(frames), weighted.predict(frames), atol=1e-7)


def test_derivatives_by_inputs_of_atoms():
    frames = water(30)
    factor = {8: 0.7, 1: -0.2}
    y = np.array([sum(factor[z] * q for z, q in zip(a.numbers, a.arrays["charge"], strict=True)) for a in frames])
    slopes = [np.array([factor[z] for z in a.numbers]) for a in frames]
    descriptor = LambdaSOAP(**SMALL, inputs={"charge": "0e"})
    one = model(descriptor=descriptor).fit(frames[:10], y[:10], input_derivatives={"charge": slopes[:10]})
    found = one.vjp(frames[10:], np.ones(20)).inputs["charge"].ravel()
    np.testing.assert_allclose(found, np.concatenate(slopes[10:]), atol=0.06)


def test_forces_and_dipoles_together():
    frames = water(30)
    y, labels = energies(frames), -dipoles(frames)
    forces = [np.outer([CHARGES[z] for z in a.numbers], a.info["electric_field"]) for a in frames]
    one = model(n_points=60).fit(
        frames[:15], y[:15], forces=forces[:15], input_derivatives={"electric_field": labels[:15]}
    )
    assert set(one.noise_) == {"0e", "0e forces", "0e by electric_field"}
    found = np.array(one.predict_forces(frames[15:]))
    assert np.abs(found - forces[15:]).max() < 0.1 * np.abs(forces).max()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"field": np.zeros((4, 3))}, ValueError, "the descriptor has no input 'field' .its inputs: 'electric_field'."),
        (np.zeros((4, 3)), TypeError, "input_derivatives must be a dict from the names of inputs"),
        ({"electric_field": np.zeros((3, 3))}, ValueError, "has 3 entries for 4 structures"),
        ({"electric_field": np.zeros((4, 2))}, ValueError, r"\[0\] has shape \(2,\), expected \(3,\)"),
        ({"electric_field": [[0, 0, 1], [0, np.nan, 0], None, None]}, ValueError, "structure 1 by 'electric_field'"),
        ({"electric_field": "dipole"}, TypeError, "must be a sequence with one array for each structure"),
    ],
)
def test_unusable_derivatives_are_refused(given, error, message):
    frames = water(4)
    with pytest.raises(error, match=message):
        model().fit(frames, energies(frames), input_derivatives=given)


def test_derivatives_by_symmetric_matrices_are_symmetric():
    frames = water(4)
    descriptor = LambdaSOAP(**SMALL, inputs={"strain": "0e+2e"})
    uneven = np.zeros((4, 3, 3))
    uneven[2, 0, 1] = 1.0
    with pytest.raises(ValueError, match="structure 2 by 'strain' has not the index symmetry"):
        model(descriptor=descriptor).fit(frames, np.zeros(4), input_derivatives={"strain": uneven})


def test_dipoles_of_tensors_and_features_are_refused():
    frames = water(4)
    labels = {"electric_field": np.zeros((4, 3))}
    with pytest.raises(ValueError, match="scalar|energ"):
        model().fit(frames, dipoles(frames), input_derivatives=labels)
    with pytest.raises(TypeError, match="need X to be frames"):
        model().fit(SOAP.fit(frames).transform(frames), np.zeros(4), input_derivatives=labels)
