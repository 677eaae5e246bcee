import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from eqkernels import CovariantKernel, LambdaSOAP
from eqkernels.io import load_model, save_model
from eqkernels.regression import SparseFieldGPR
from eqkernels.regression.sparse.field_rows import monomial_derivatives, monomials
from eqkernels.response import input_derivatives
from eqkernels.so3 import CartesianTensor

SOAP = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2, sigma=0.4, accuracy=1e-12)
CHARGES = {8: -0.8, 1: 0.4}


def water(n, seed=0):
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.rattle(0.05, rng=random)
        atoms.info["electric_field"] = random.normal(size=3)
        frames.append(atoms)
    return frames


def polarizability(atoms):
    bonds = atoms.positions[1:] - atoms.positions[0]
    return 0.3 * np.eye(3) + 0.1 * bonds.T @ bonds


def energy(atoms):
    dipole = sum(CHARGES[z] * r for z, r in zip(atoms.numbers, atoms.positions, strict=True))
    field = atoms.info["electric_field"]
    return -dipole @ field - 0.5 * field @ polarizability(atoms) @ field


def slope(atoms):
    """Derivative of the energy by the field."""
    dipole = sum(CHARGES[z] * r for z, r in zip(atoms.numbers, atoms.positions, strict=True))
    return -dipole - polarizability(atoms) @ atoms.info["electric_field"]


def moved(atoms, index, step):
    copy = atoms.copy()
    copy.positions[index] += step
    return copy


def in_field(atoms, component, step):
    copy = atoms.copy()
    copy.info["electric_field"] = atoms.info["electric_field"] + step * np.eye(3)[component]
    return copy


def forces(atoms, step=1e-5):
    out = np.zeros((len(atoms), 3))
    for index in np.ndindex(*out.shape):
        out[index] = (energy(moved(atoms, index, -step)) - energy(moved(atoms, index, step))) / (2 * step)
    return out


FRAMES = water(30)
ENERGIES = np.array([energy(one) for one in FRAMES])
SLOPES = np.array([slope(one) for one in FRAMES])
FORCES = [forces(one) for one in FRAMES]


def model(**options):
    return SparseFieldGPR(**{"n_points": (45, 20, 10), "descriptor": SOAP, "random_state": 0, **options})


@pytest.fixture(scope="module")
def fitted():
    return model().fit(FRAMES[:15], ENERGIES[:15], forces=FORCES[:15], dipoles=SLOPES[:15])


@pytest.mark.parametrize("order", [0, 1, 2])
def test_monomials_contract_as_powers_of_the_field_do(order):
    random = np.random.default_rng(order)
    fields, tensors = random.normal(size=(4, 3)), random.normal(size=(4, *[3] * order))
    tensor = CartesianTensor(("", "i", "ij=ji")[order])
    tensors = tensor.project(tensors) if order else tensors
    blocks = {irrep: block[:, :, 0] for irrep, block in tensor.to_irreps(tensors).items()}

    def value(fields):
        parts = monomials(fields, order)
        return sum(np.sum(parts[irrep] * block, axis=1) for irrep, block in blocks.items())

    exact = [
        np.ones(4) * tensors if order == 0 else tensors[k] @ fields[k] if order == 1
        else 0.5 * fields[k] @ tensors[k] @ fields[k]
        for k in range(4)
    ]  # fmt: skip
    np.testing.assert_allclose(value(fields), exact[0] if order == 0 else exact, atol=1e-12)
    found = sum(
        np.einsum("nxd,nd->nx", monomial_derivatives(fields, order)[irrep], block) for irrep, block in blocks.items()
    )
    for k in range(3):
        step = 1e-5 * np.eye(3)[k]
        difference = (value(fields + step) - value(fields - step)) / 2e-5
        np.testing.assert_allclose(np.broadcast_to(found, (4, 3))[:, k], difference, atol=1e-8)


def test_all_labels_are_predicted(fitted):
    test = FRAMES[15:]
    assert np.abs(fitted.predict(test) - ENERGIES[15:]).max() < 0.01
    assert np.abs(fitted.predict_dipoles(test) - SLOPES[15:]).max() < 5e-3
    exact = [-polarizability(one) for one in test]
    assert np.abs(fitted.predict_polarizabilities(test) - exact).max() < 5e-3
    assert np.abs(np.array(fitted.predict_forces(test)) - FORCES[15:]).max() < 0.1
    assert set(fitted.noise_) == {"energies", "forces", "dipoles"}


def test_dipoles_make_the_energies_better():
    test = FRAMES[15:]

    def errors(**labels):
        one = model().fit(FRAMES[:15], ENERGIES[:15], **labels)
        return np.abs(one.predict(test) - ENERGIES[15:]).max(), np.abs(one.predict_dipoles(test) - SLOPES[15:]).max()

    alone, both = errors(), errors(dipoles=SLOPES[:15])
    assert both[0] < 0.5 * alone[0]
    assert both[1] < 0.5 * alone[1]


def test_derivatives_are_those_of_the_energy(fitted):
    atoms, step = FRAMES[20], 1e-4
    found = fitted.vjp([atoms], [2.0])

    def difference(plus, minus):
        return 2.0 * np.diff(fitted.predict([minus, plus]))[0] / (2 * step)

    for index in np.ndindex(3, 3):
        expected = difference(moved(atoms, index, step), moved(atoms, index, -step))
        assert found.positions.reshape(3, 3)[index] == pytest.approx(expected, abs=1e-5)
    for k in range(3):
        expected = difference(in_field(atoms, k, step), in_field(atoms, k, -step))
        assert found.inputs["electric_field"][0, k] == pytest.approx(expected, abs=1e-6)
        plus, minus = (fitted.predict_dipoles([in_field(atoms, k, s)])[0] for s in (step, -step))
        np.testing.assert_allclose(
            fitted.predict_polarizabilities([atoms])[0, k], (plus - minus) / (2 * step), atol=1e-6
        )
    slopes = input_derivatives(fitted, FRAMES[15:18], "electric_field")
    np.testing.assert_allclose(slopes, fitted.predict_dipoles(FRAMES[15:18]), atol=1e-12)


def test_coefficients_are_those_of_the_least_squares_of_all_rows():
    frames, y, noise, scale = FRAMES[:6], ENERGIES[:6], {"noise": 1e-3, "force_noise": 1e-2, "dipole_noise": 3e-2}, 0.7
    given = SLOPES[:6].copy()
    given[1] = np.nan
    one = model(n_points=(6, 4, 2), baseline=None, field_scale=scale, kernel=CovariantKernel(zeta=2), **noise)
    one.fit(frames, y, forces=FORCES[:6], dipoles=given)

    def kernel(some, others, fields, of_points):
        """Kernels of energies with the components of points, from those of tensors, order by order."""
        parts = []
        for order, response in enumerate(one.responses_):
            points = response._model().points
            values = monomials(fields, order)
            for irrep in values:
                features = points if of_points else response.descriptor_.transform(some)
                block = response._kernel()(features, points, irrep=irrep)
                n, m, d, _ = block.shape
                block = np.eye(n * d).reshape(n, d, -1) if of_points is None else block.transpose(0, 2, 1, 3)
                parts.append((scale ** (2 * order), block.reshape(n, d, m * d), values[irrep]))
        return parts

    def design(some):
        fields = np.array([atoms.info["electric_field"] for atoms in some])
        return np.hstack([w * np.einsum("ndp,nd->np", b, x) for w, b, x in kernel(some, None, fields, False)])

    fields, step = np.zeros((1, 3)), 1e-4
    prior = [w * b.reshape(-1, b.shape[2]) for w, b, _ in kernel(None, None, fields, True)]
    size = sum(len(block) for block in prior)
    matrix, first = np.zeros((size, size)), 0
    for block in prior:
        matrix[first : first + len(block), first : first + len(block)] = block
        first += len(block)
    by_field = np.stack([
        (design([in_field(a, k, step) for a in frames]) - design([in_field(a, k, -step) for a in frames])) / (2 * step)
        for k in range(3)
    ], axis=1)  # fmt: skip
    by_position = np.stack([
        (design([moved(a, index, -step) for a in frames]) - design([moved(a, index, step) for a in frames])) / (2 * step)
        for index in np.ndindex(3, 3)
    ], axis=1)  # fmt: skip
    known = np.isfinite(given[:, 0])
    rows = [design(frames), by_position.reshape(-1, size), by_field[known].reshape(-1, size)]
    labels = [y, np.ravel(FORCES[:6]), given[known].ravel()]
    left, right = matrix.copy(), 0.0
    for A, b, weight in zip(rows, labels, noise.values(), strict=True):
        left, right = left + A.T @ A / weight, right + A.T @ b / weight
    coef = np.linalg.lstsq(left, right, rcond=1e-14)[0]
    np.testing.assert_allclose(one.predict(FRAMES[20:]), design(FRAMES[20:]) @ coef, atol=2e-4)


def test_energies_are_invariant_and_dipoles_turn(fitted):
    rotation = Rotation.random(random_state=1).as_matrix()
    for turn in (rotation, -rotation):
        turned = [one.copy() for one in FRAMES[20:24]]
        for atoms in turned:
            atoms.positions = atoms.positions @ turn.T
            atoms.info["electric_field"] = turn @ atoms.info["electric_field"]
        np.testing.assert_allclose(fitted.predict(turned), fitted.predict(FRAMES[20:24]), atol=1e-9)
        slopes = fitted.predict_dipoles(FRAMES[20:24]) @ turn.T
        np.testing.assert_allclose(fitted.predict_dipoles(turned), slopes, atol=1e-9)


def test_a_model_of_first_order_has_no_polarizability():
    one = model(n_points=20, order=1).fit(FRAMES[:10], ENERGIES[:10], dipoles=SLOPES[:10])
    assert not one.predict_polarizabilities(FRAMES[:2]).any()
    turned = [in_field(FRAMES[0], 0, s) for s in (0.0, 1.0, 2.0)]
    assert abs(np.diff(one.predict(turned), n=2)[0]) < 1e-9


def test_saved_models_predict_the_same_bits(fitted, tmp_path):
    save_model(fitted, tmp_path / "model.skops")
    np.testing.assert_array_equal(load_model(tmp_path / "model.skops").predict(FRAMES), fitted.predict(FRAMES))


def test_what_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="n_points=.* must be an integer or 3 of them"):
        model(n_points=(10, 5)).fit(FRAMES, ENERGIES)
    with pytest.raises(ValueError, match="the descriptor has inputs"):
        model(descriptor=LambdaSOAP(inputs={"electric_field": "1o"})).fit(FRAMES, ENERGIES)
    with pytest.raises(ValueError, match="'field' of structure 0 is missing"):
        model(field="field").fit(FRAMES, ENERGIES)
    with pytest.raises(ValueError, match="has 4 entries for 30 structures"):
        model().fit(FRAMES, ENERGIES, dipoles=SLOPES[:4])
    with pytest.raises(ValueError, match="order"):
        model(order=3).fit(FRAMES, ENERGIES)
