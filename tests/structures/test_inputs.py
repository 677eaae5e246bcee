"""Inputs of frames: their kinds, their irreps, and what is refused."""

import numpy as np
import pytest
from ase.build import molecule

from eqkernels.so3 import wigner_d
from eqkernels.structures import StructureBatch
from eqkernels.structures.inputs import InputKind, cartesian_derivatives, input_kinds, turned_inputs, with_inputs
from eqkernels.testing import random_rotation


def frames():
    made = [molecule("H2O"), molecule("NH3")]
    for k, atoms in enumerate(made):
        random = np.random.default_rng(k)
        atoms.info["field"] = random.normal(size=3)
        atoms.arrays["charge"] = random.normal(size=len(atoms))
        atoms.arrays["tensor"] = random.normal(size=(len(atoms), 3, 3))
    return made


@pytest.mark.parametrize(
    ("text", "irreps", "shape", "time"),
    [
        ("0e", ["0e"], (), 1),
        ("0o", ["0o"], (), 1),
        ("1o", ["1o"], (3,), 1),
        ("1e time-odd", ["1e"], (3,), -1),
        ("0e+2e", ["0e", "2e"], (3, 3), 1),
        ("ij=ji", ["0e", "2e"], (3, 3), 1),
        ("ij", ["0e", "1e", "2e"], (3, 3), 1),
        ("2o", ["2o"], (5,), 1),
        ("2x1o", ["1o", "1o"], (6,), 1),
    ],
)
def test_kinds(text, irreps, shape, time):
    kind = InputKind(text)
    assert ([str(one) for one in kind.irreps], kind.shape, kind.time) == (irreps, shape, time)
    np.testing.assert_allclose(kind.matrix @ kind.matrix.T, np.eye(kind.dim), atol=1e-14)


def test_components_rotate_like_their_irreps():
    kinds = input_kinds({"field": "1o", "charge": "0e", "tensor": "ij"})
    texts = {name: kind.text for name, kind in kinds.items()}
    batch = with_inputs(frames(), kinds)
    for rotation in (random_rotation(0), -random_rotation(1)):
        turned = frames()
        for atoms in turned:
            for name, values in turned_inputs(atoms, rotation, texts).items():
                (atoms.arrays if name in atoms.arrays else atoms.info)[name] = values
        np.testing.assert_allclose(turned[0].info["field"], rotation @ frames()[0].info["field"], atol=1e-14)
        expected = np.einsum("xi,nij,yj->nxy", rotation, frames()[1].arrays["tensor"], rotation)
        np.testing.assert_allclose(turned[1].arrays["tensor"], expected, atol=1e-13)
        other = with_inputs(turned, kinds)
        for name, kind in kinds.items():
            for irrep, part in zip(kind.irreps, kind.slices(), strict=True):
                moved = batch.inputs[name].values[:, part] @ wigner_d(irrep, rotation).T
                np.testing.assert_allclose(other.inputs[name].values[:, part], moved, atol=1e-13)


def test_axial_and_time_odd_inputs_keep_or_change_their_sign():
    atoms = molecule("H2O")
    atoms.info["B"], atoms.info["chi"] = np.array([1.0, 2.0, 3.0]), 2.0
    kinds = {"B": "1e time-odd", "chi": "0o"}
    turned = turned_inputs(atoms, -np.eye(3), kinds)
    np.testing.assert_allclose(turned["B"], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(turned["chi"], -2.0)
    np.testing.assert_allclose(turned_inputs(atoms, np.eye(3), kinds, time_reversed=True)["B"], [-1.0, -2.0, -3.0])


def test_batches_keep_the_inputs_of_their_structures():
    batch = with_inputs(frames(), input_kinds({"field": "1o", "charge": "0e"}))
    assert batch.inputs["charge"].per_atom
    assert not batch.inputs["field"].per_atom
    for part in (batch.select(1, 2), batch[[1]], batch[1:]):
        np.testing.assert_array_equal(part.inputs["charge"].values[:, 0], frames()[1].arrays["charge"])
        assert part.inputs["field"].values.shape == (4, 3)


def test_derivatives_are_those_of_the_numbers_of_a_tensor():
    kind, random = InputKind("ij=ji"), np.random.default_rng(0)
    slopes, tensor = random.normal(size=(3, kind.dim)), random.normal(size=(3, 3))
    tensor = tensor + tensor.T
    by_structure = cartesian_derivatives(slopes, kind, False, [0, 3])
    expected = np.sum(slopes @ (kind.matrix @ tensor.ravel()))
    np.testing.assert_allclose(np.sum(by_structure[0] * tensor), expected)
    assert cartesian_derivatives(slopes, kind, True, [0, 3]).shape == (3, 3, 3)


def drop(frames):
    del frames[1].info["field"]


def reshape(frames):
    frames[1].info["field"] = np.zeros(4)


def make_nan(frames):
    frames[1].arrays["charge"][2] = np.nan


def move(frames):
    frames[1].arrays["field"] = np.zeros((4, 3))
    del frames[1].info["field"]


def double(frames):
    frames[1].arrays["field"] = np.zeros((4, 3))


def infinite(frames):
    frames[1].info["field"] = [0.0, np.inf, 0.0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, "the input 'field' of structure 1 is missing"),
        (reshape, r"the input 'field' of structure 1 has shape \(4,\), expected \(3,\)"),
        (make_nan, "the input 'charge' of structure 1, atom 2, is NaN"),
        (move, "the input 'field' of structure 1 is in atoms.arrays, that of structure 0 in atoms.info"),
        (double, "the input 'field' of structure 1 is both"),
        (infinite, "the input 'field' of structure 1 is NaN, infinite"),
    ],
)
def test_bad_inputs_are_named(damage, message):
    made = frames()
    damage(made)
    with pytest.raises(ValueError, match=message):
        with_inputs(made, input_kinds({"field": "1o", "charge": "0e"}))


def test_asymmetric_tensors_are_refused():
    with pytest.raises(ValueError, match="'tensor' of structure 0, atom 0, does not have the symmetry 'ij=ji'"):
        with_inputs(frames(), input_kinds({"tensor": "ij=ji"}))


@pytest.mark.parametrize("text", ["", "3", "1x", "ii", "a dipole of some kind", "1o even"])
def test_unknown_irreps_are_refused(text):
    with pytest.raises(ValueError, match=r"inputs\['field'\]"):
        input_kinds({"field": text})


def test_a_batch_without_inputs_is_refused():
    with pytest.raises(ValueError, match="has no input 'field'"):
        with_inputs(StructureBatch.from_frames(frames()), input_kinds({"field": "1o"}))
