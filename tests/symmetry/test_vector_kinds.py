"""Vector-like quantities against the tables of Hlinka and Smidt, and as targets of models."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from eqkernels import CartesianTensor, LambdaSOAP, TensorRidge
from eqkernels.so3 import Irreps
from eqkernels.symmetry import (
    VECTOR_KINDS,
    VectorKind,
    allowed_components,
    check_equivariance,
    measured_kind,
    point_group,
    vector_kinds,
)
from tests.conftest import random_frames

# T. E. Smidt, Trends Chem. 3, 82 (2021), figure 1C, after J. Hlinka: an arrow, a disk with a sense of rotation, a
# double-headed arrow and a spiral, under inversion, a rotation by 180 degrees about a perpendicular line and a
# reflection in a plane through the axis.
FIGURE_1C = [
    ("vector", "1o", -1, -1, 1),
    ("pseudovector", "1e", 1, -1, -1),
    ("director", "2e", 1, 1, 1),
    ("helix", "2o", -1, 1, -1),
]
# The octet of the abstract of Phys. Rev. Lett. 113, 165502: polar P and T, axial G and M, chiral C and F, achiral N and L.
OCTET = {"vector": "PT", "pseudovector": "GM", "helix": "CF", "director": "NL"}


@pytest.mark.parametrize(("name", "irrep", "inversion", "rotation", "reflection"), FIGURE_1C)
def test_figure_1c(name, irrep, inversion, rotation, reflection):
    even = VectorKind.of_answers(inversion, rotation)
    odd = VectorKind.of_answers(inversion, rotation, -1)
    assert (even.name, even.irrep, even.reflection) == (name, irrep, reflection)
    assert (even.symbol + odd.symbol, odd.name) == (OCTET[name], f"time-odd {name}")
    assert irrep in vector_kinds(name)  # a target that can be declared
    assert vector_kinds(name)[irrep] == even


def test_all_eight_are_distinct():
    answers = {(one.inversion, one.rotation, one.time_reversal) for one in VECTOR_KINDS}
    assert len(answers) == len(VECTOR_KINDS) == 8


def pinwheel():
    """Three bent arms in a plane: C3h, a sense of rotation but no handedness."""
    arms = [(np.cos(a), np.sin(a), 0) for a in 2 * np.pi * np.arange(3) / 3]
    hands = [(1.4 * np.cos(a), 1.4 * np.sin(a), 0) for a in 2 * np.pi * np.arange(3) / 3 + 0.6]
    return Atoms("BO3H3", np.array([(0, 0, 0), *arms, *hands]))


def twisted_ethane():
    atoms = molecule("C2H6")
    axis = atoms.positions[1] - atoms.positions[0]
    turned = atoms[[1, 5, 6, 7]] if np.linalg.norm(atoms.positions[5] - atoms.positions[1]) < 1.3 else None
    assert turned is not None
    turned.rotate(15, axis, center=atoms.positions[0])
    atoms.positions[[1, 5, 6, 7]] = turned.positions
    return atoms


@pytest.mark.parametrize(
    ("atoms", "group", "kinds"),
    [
        (molecule("HCl"), "Cinfv", {"vector", "director"}),
        (molecule("N2"), "Dinfh", {"director"}),
        (pinwheel(), "C3h", {"pseudovector", "director"}),
        (twisted_ethane(), "D3", {"helix", "director"}),
    ],
    ids=["arrow", "double-headed arrow", "disk with a sense of rotation", "spiral"],
)
def test_objects_of_the_figure(atoms, group, kinds):
    """Structures with the symmetry of the figure's objects have such quantities, and no others."""
    found = point_group(atoms)
    assert found.schoenflies == group
    assert {name for name, irrep, *_ in FIGURE_1C if allowed_components(found, Irreps(irrep)).dimension} == kinds


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 2, -3)])
def test_kinds_of_tensors(axis):
    n = np.array(axis) / np.linalg.norm(axis)
    cross = np.cross(np.eye(3), n)
    dyad = np.outer(n, n)
    assert measured_kind(n, "dipole", axis).name == "vector"
    assert measured_kind(n, "magnetic_moment", axis, time_reversal=-1).symbol == "M"
    assert measured_kind(n, "forces", axis, time_reversal=-1).symbol == "T"
    assert measured_kind(dyad, "polarizability", axis).name == "director"
    assert measured_kind(dyad, "gyration", axis).name == "helix"
    assert measured_kind(cross, "ij", axis).name == "pseudovector"
    assert measured_kind(cross, CartesianTensor("ij", axial="j"), axis).name == "vector"
    assert measured_kind(np.einsum("i,j,k->ijk", n, n, n), "octupole", axis).name == "vector"


def test_not_of_one_kind():
    with pytest.raises(ValueError, match="several kinds"):
        measured_kind(np.diag([1.0, 2.0, 3.0]), "ij")  # no axis
    with pytest.raises(ValueError, match="several kinds"):
        measured_kind([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], "ij")
    with pytest.raises(ValueError, match="expected a vector"):
        measured_kind([1.0, 0, 0], "dipole", [0, 0, 0])
    with pytest.raises(ValueError, match="must be 1 or -1"):
        vector_kinds("dipole", time_reversal=0)


def made(name, frames):
    """A quantity of each kind, from weighted sums of positions."""
    values = []
    for atoms in frames:
        x = atoms.positions - atoms.positions.mean(axis=0)
        weights = atoms.numbers * np.exp(-np.sum(x**2, axis=1) / 4)
        a, b = weights @ x, (weights**2 / 8) @ (x * np.linalg.norm(x, axis=1)[:, None])
        normal = np.cross(a, b)
        values.append({
            "vector": a,
            "pseudovector": normal,
            "director": np.outer(a, a),
            "helix": np.outer(a, normal) + np.outer(normal, a),
        }[name])  # fmt: skip
    return np.array(values)


@pytest.mark.parametrize("name", [row[0] for row in FIGURE_1C])
def test_models_learn_each_kind(name):
    frames = random_frames(2, n_frames=60, n_species=2, periodic=False, n_atoms=(3, 6))
    y = made(name, frames)
    descriptor = LambdaSOAP(6.0, n_max=4, l_max=3, irreps=str(CartesianTensor(name).irreps + Irreps("0e")))
    model = TensorRidge(1e-8, descriptor=descriptor, target=name, per_atom=False).fit(frames, y)
    assert model.score(frames, y) > 0.9
    report = check_equivariance(model, frames[:3], name)
    assert {"rotation", "inversion", "translation", "permutation"}.isdisjoint(report.broken)
    others = {"vector": "pseudovector", "pseudovector": "vector", "director": "helix", "helix": "director"}
    assert "inversion" in check_equivariance(model, frames[:3], others[name]).broken
