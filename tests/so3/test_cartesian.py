import itertools
import pickle
from math import factorial

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression

from eqkernels.so3 import CartesianTensor, infer_formula
from eqkernels.testing import random_rotation

CASES = [
    ("", "", "0e"),
    ("i", "", "1o"),
    ("i", "i", "1e"),
    ("ij", "", "0e+1e+2e"),
    ("ij=ji", "", "0e+2e"),
    ("ij=-ji", "", "1e"),
    ("ij", "j", "0o+1o+2o"),
    ("ij=ji", "ij", "0e+2e"),
    ("ij=ji", "*", "0o+2o"),
    ("", "*", "0o"),
    ("i", "*", "1e"),
    ("ijk=jik=ikj", "", "1o+3o"),
    ("ijk=ikj", "", "2x1o+2o+3o"),
    ("ijk=-jik=-ikj", "", "0o"),
    ("ijkl=jikl=klij", "", "2x0e+2x2e+4e"),
    ("ijkl=jikl=ijlk", "", "2x0e+1e+3x2e+3e+4e"),
    ("ijkl=jikl=kjil=ljki", "", "0e+2e+4e"),
    ("ijklm", "m", None),
    ("ijklmn=jiklmn=ijlkmn=ijklnm", "", None),
    ("ijklmn", "", None),
]


@pytest.mark.parametrize(("formula", "axial", "irreps"), CASES, ids=lambda value: str(value))
def test_change_of_basis(formula, axial, irreps):
    tensor = CartesianTensor(formula, axial)
    if irreps is not None:
        assert tensor.irreps == irreps
    basis = tensor.change_of_basis
    np.testing.assert_allclose(basis @ basis.T, np.eye(tensor.dim), atol=1e-12)
    values = tensor.project(np.random.default_rng(0).normal(size=(2, 1, *tensor.shape)))
    blocks = tensor.to_irreps(values)
    np.testing.assert_allclose(tensor.to_cartesian(blocks), values, atol=1e-12)
    squares = sum(np.sum(block**2, axis=(-1, -2)) for block in blocks.values())
    np.testing.assert_allclose(squares, np.sum(values.reshape(2, 1, -1) ** 2, axis=-1), atol=1e-11)


@pytest.mark.parametrize(("formula", "axial", "irreps"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("sign", [1, -1])
def test_blocks_turn_by_their_irreps(formula, axial, irreps, sign):
    from eqkernels.so3 import wigner_d

    tensor = CartesianTensor(formula, axial)
    rotation = sign * random_rotation(3)
    values = tensor.project(np.random.default_rng(1).normal(size=(2, *tensor.shape)))
    turned = values
    for axis in range(1, values.ndim):
        turned = np.moveaxis(np.tensordot(turned, rotation, axes=(axis, 1)), -1, axis)
    turned = sign ** len(axial) * turned
    for key, block in tensor.to_irreps(values).items():
        expected = np.einsum("ab,nbk->nak", wigner_d(key, rotation), block)
        np.testing.assert_allclose(tensor.to_irreps(turned)[key], expected, atol=1e-11)


def test_signs_and_orders():
    vector = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(CartesianTensor("i").to_irreps(vector)["1o"].ravel(), [2, 3, 1])
    levi_civita = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        levi_civita[i, j, k], levi_civita[j, i, k] = 1, -1
    blocks = CartesianTensor("ij").to_irreps(levi_civita @ vector)
    np.testing.assert_allclose(blocks["1e"].ravel(), np.sqrt(2) * np.array([2, 3, 1]))
    assert CartesianTensor("ij=ji").to_irreps(np.eye(3))["0e"] == pytest.approx(np.sqrt(3))


def test_projection_and_asymmetry():
    values = np.random.default_rng(0).normal(size=(4, 3, 3))
    tensor = CartesianTensor("ij=ji")
    symmetric = (values + values.swapaxes(1, 2)) / 2
    np.testing.assert_allclose(tensor.project(values), symmetric)
    assert tensor.asymmetry(values) == pytest.approx(np.linalg.norm(values - symmetric) / np.linalg.norm(values))
    assert tensor.asymmetry(np.zeros((2, 3, 3))) == 0
    values[0, 0, 0] = np.nan
    assert np.isnan(tensor.asymmetry(values))


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
@pytest.mark.parametrize("sign", ["", "-"])
def test_projection_is_the_mean_over_permutations(rank, sign):
    """Twin of the fully symmetric and antisymmetric tensors: all permutations, with the parity of each as its sign."""
    letters = "ijklm"[:rank]
    swaps = [letters[:k] + letters[k + 1] + letters[k] + letters[k + 2 :] for k in range(rank - 1)]
    tensor = CartesianTensor("=".join([letters, *(sign + swap for swap in swaps)]))
    values = np.random.default_rng(rank).normal(size=(3,) * rank)
    mean = np.zeros_like(values)
    for permutation in itertools.permutations(range(rank)):
        parity = np.linalg.det(np.eye(rank)[list(permutation)]) if sign else 1.0
        mean += parity * values.transpose(permutation) / factorial(rank)
    if sign and rank > 3:
        with pytest.raises(ValueError, match="only the zero tensor"):
            tensor.project(values)
    else:
        np.testing.assert_allclose(tensor.project(values), mean, atol=1e-13)


def test_axial_index_named_twice_counts_once():
    assert CartesianTensor("ij", axial="jj").irreps == CartesianTensor("ij", axial="j").irreps


def test_in_a_transformed_target_regressor():
    random = np.random.default_rng(0)
    X = random.normal(size=(30, 4))
    y = np.einsum("nf,fab->nab", X, CartesianTensor("ij=ji").project(random.normal(size=(4, 3, 3))))
    model = TransformedTargetRegressor(LinearRegression(), transformer=CartesianTensor("ij=ji"))
    np.testing.assert_allclose(model.fit(X, y).predict(X), y, atol=1e-10)
    assert clone(model.transformer).formula == "ij=ji"
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("formula", "axial", "message"),
    [
        ("ii", "", "distinct letters"),
        ("ij=jk", "", "does not have the letters"),
        ("ij=-ij", "", "contradicts itself"),
        ("ijkl=-jikl=-ikjl=-ijlk", "", "only the zero tensor"),
        ("ij=ji", "j", "exchanges an axial with a polar index"),
        ("ij", "k", "names indices that formula 'ij' does not have"),
        ("ijklmno", "", "at most 6"),
    ],
)
def test_wrong_formulas(formula, axial, message):
    with pytest.raises(ValueError, match=message):
        _ = CartesianTensor(formula, axial).irreps


def test_wrong_shapes():
    tensor = CartesianTensor("ij=ji")
    with pytest.raises(ValueError, match=r"shape \(2, 9\), expected \(..., 3, 3\)"):
        tensor.to_irreps(np.zeros((2, 9)))
    with pytest.raises(ValueError, match=r"expected \(..., 6\)"):
        tensor.inverse_transform(np.zeros((2, 9)))
    with pytest.raises(ValueError, match="blocks has the irreps 0e"):
        tensor.to_cartesian({"0e": np.zeros((1, 1))})
    with pytest.raises(ValueError, match="block 2e has shape"):
        tensor.to_cartesian({"0e": np.zeros((1, 1)), "2e": np.zeros((3, 1))})


def test_infers_symmetries():
    random = np.random.default_rng(0)
    for formula in ("i", "ij", "ij=ji", "ij=-ji", "ijk=jik", "ijk=jik=kji=ikj", "ijkl=jikl=ijlk=klij"):
        values = CartesianTensor(formula).project(random.normal(size=(5, *CartesianTensor(formula).shape)))
        found = CartesianTensor(infer_formula(values))
        assert found.irreps == CartesianTensor(formula).irreps
        np.testing.assert_allclose(found.project(values), values, atol=1e-12)
        noisy = values + 1e-6 * random.normal(size=values.shape)
        assert CartesianTensor(infer_formula(noisy)).irreps == found.irreps
    assert infer_formula(np.zeros((4, 3, 3))) == "ij"


@pytest.mark.parametrize("formula", ["", "i", "ij=ji", "ij", "ijk=jik=ikj", "ijkl=jikl=klij"])
def test_signals_turn_with_tensors(formula):
    """f'(n) = f(R^-1 n); of vectors, n . v times the norm of the harmonics; of matrices, in closed form."""
    tensor, random = CartesianTensor(formula), np.random.default_rng(0)
    values, directions = tensor.project(random.normal(size=(2, *tensor.shape))), random.normal(size=(7, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rotation = random_rotation(3)
    turned = values
    for axis in range(1, values.ndim):
        turned = np.moveaxis(np.tensordot(turned, rotation, axes=(axis, 1)), -1, axis)
    signal = tensor.to_signal(values, directions)
    np.testing.assert_allclose(tensor.to_signal(turned, directions @ rotation.T), signal, atol=1e-12)
    if formula == "i":
        np.testing.assert_allclose(signal, np.sqrt(3 / (4 * np.pi)) * values @ directions.T, atol=1e-12)
    if formula == "ij=ji":  # trace / sqrt(3) times Y_00, and the rest as sqrt(15 / 8 pi) n M n
        trace = np.trace(values, axis1=1, axis2=2)[:, None]
        quadratic = np.einsum("ni,tij,nj->tn", directions, values, directions)
        expected = trace / np.sqrt(12 * np.pi) + np.sqrt(15 / (8 * np.pi)) * (quadratic - trace / 3)
        np.testing.assert_allclose(signal, expected, atol=1e-12)
    np.testing.assert_allclose(tensor.to_signal(values[0], 3 * directions), signal[0], atol=1e-12)


def test_signal_of_wrong_directions():
    with pytest.raises(ValueError, match="directions"):
        CartesianTensor("i").to_signal(np.zeros(3), np.zeros(3))
