"""The table of properties against group theory, and the words that are not in it."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from eqkernels import CartesianTensor, TensorKernelRidge
from eqkernels.datasets._storage import PROPERTIES as STORED
from eqkernels.metrics import irrep_rmse
from eqkernels.so3 import PROPERTIES, cartesian_tensor
from eqkernels.so3.properties import find_property

# as textbooks have them, e.g. Nye, Physical Properties of Crystals; Jerphagnon, Chemla, Bonneville (1978)
KNOWN = {
    "energy": "0e", "dipole": "1o", "polarizability": "0e+2e", "hyperpolarizability": "1o+3o",
    "second_hyperpolarizability": "0e+2e+4e", "dielectric": "0e+2e", "stress": "0e+2e", "elastic": "2x0e+2x2e+1x4e",
    "piezoelectric": "2x1o+1x2o+1x3o", "optical_rotation": "0o+1o+2o", "magnetic_moment": "1e", "magnetizability": "0e+2e",
    "forces": "1o", "charges": "0e", "born_charge": "0e+1e+2e", "shielding": "0e+1e+2e", "efg": "0e+2e",
    "atomic_magnetic_moment": "1e", "raman_tensor": "2x1o+1x2o+1x3o", "quadrupole": "0e+2e", "octupole": "1o+3o",
}  # fmt: skip


def group_of(formula):
    """All permutations of the indices that leave the tensor unchanged, by brute force."""
    first, *others = formula.split("=")
    group, size = {tuple(range(len(first)))}, 0
    generators = [tuple(first.index(letter) for letter in term) for term in others]
    while size != len(group):
        size = len(group)
        group |= {tuple(one[k] for k in other) for one, other in itertools.product(group, generators)}
    return group


def cycles(permutation):
    left, lengths = set(range(len(permutation))), []
    while left:
        start = k = min(left)
        length = 0
        while k in left:
            left.remove(k)
            k, length = permutation[k], length + 1
        assert k == start
        lengths.append(length)
    return lengths


def character(l, angle):
    return sum(np.cos(m * angle) for m in range(-l, l + 1))


@pytest.mark.parametrize("name", PROPERTIES)
def test_irreps_are_those_of_characters(name):
    """Multiplicity of l: the character of the symmetrized product of vectors, projected over all rotations."""
    known = PROPERTIES[name]
    group = group_of(known.formula)
    rank = len(known.formula.split("=")[0])
    parity = "eo"[(rank - len(known.axial)) % 2]
    angles = (np.arange(64) + 0.5) * np.pi / 64  # exact for products of so few cosines
    symmetrized = sum(np.prod([character(1, n * angles) for n in cycles(one)], axis=0) for one in group) / len(group)
    expected = {}
    for l in range(rank + 1):
        multiplicity = np.mean((1 - np.cos(angles)) * character(l, angles) * symmetrized)
        assert abs(multiplicity - round(multiplicity)) < 1e-12
        if round(multiplicity):
            expected[f"{l}{parity}"] = round(multiplicity)
    tensor = CartesianTensor(name)
    assert {str(irrep): multiplicity for multiplicity, irrep in tensor.irreps} == expected
    assert tensor.rank == rank
    assert tensor.dim == round(sum(3 ** len(cycles(one)) for one in group) / len(group))  # Polya
    assert f"{name}  " in CartesianTensor.__doc__


@pytest.mark.parametrize("name", KNOWN)
def test_irreps_are_those_of_textbooks(name):
    from eqkernels import Irreps

    assert CartesianTensor(name).irreps == Irreps(KNOWN[name])


def test_names_are_found():
    for given, name in {
        "dipoles": "dipole", "Dipole": "dipole", "dipole moment": "dipole", "polarizabilities": "polarizability",
        "polarisability": "polarizability", "first hyperpolarizability": "hyperpolarizability", "force": "forces",
        "born-charges": "born_charge", "Born effective charges": "born_charge", "bec": "born_charge",
        "shieldings": "shielding", "nmr_shielding": "shielding", "elastic_tensor": "elastic", "energies": "energy",
        "stresses": "stress", "charge": "charges", "electric field gradients": "efg", "dielectric_tensor": "dielectric",
        "spins": "atomic_magnetic_moment", "gprime": "optical_rotation",
    }.items():  # fmt: skip
        assert find_property(given).name == name, given
        assert cartesian_tensor(given).formula == PROPERTIES[name].formula
        assert CartesianTensor(given).irreps == CartesianTensor(PROPERTIES[name].formula, PROPERTIES[name].axial).irreps
    for formula in ("", "i", "ij", "ij=ji", "ijk", "abc", "ijab", "kij", "ikjl", "xyz", "pq", "ij = ji", "ij=-ji"):
        assert find_property(formula) is None
        assert cartesian_tensor(formula).formula == formula


def test_stored_properties_agree():
    for name, stored in STORED.items():
        known = find_property(name)
        assert (known.formula, known.axial, known.per_atom) == (stored.formula, stored.axial, stored.per_atom)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("dipol", "'dipole'"), ("polarizibility", "'polarizability'"), ("polar", "'polarizability'"), ("mu", "'dipole'"),
        ("alpha", "'polarizability'"), ("beta", "'hyperpolarizability'"), ("chi", "'magnetizability'"),
        ("born", "'born_charge'"), ("quad", "'quadrupole'"), ("magmoms", "'atomic_magnetic_moment'"),
        ("shield", "'shielding'"), ("hyperpolarisabilty", "'hyperpolarizability'"), ("qwert", "the names are 'energy'"),
    ],
)  # fmt: skip
def test_words_are_no_indices(word, near):
    for use in (
        lambda: CartesianTensor(word).irreps,
        lambda: cartesian_tensor(word),
        lambda: irrep_rmse(np.ones((1, 3)), np.ones((1, 3)), target=word),
        lambda: TensorKernelRidge(target=word).fit([], []),
    ):
        with pytest.raises(ValueError, match=f"{word}' is no property.*{near}"):
            use()


def test_names_in_the_readme():
    lines = (Path(__file__).parents[2] / "README.md").read_text().splitlines()
    start = lines.index(next(line for line in lines if line.startswith("| property | tensor | `target`")))
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :]))
    assert len(rows) > 8
    for row in rows:
        targets, irreps = row.split("|")[3:5]
        names = [name for name in re.findall(r'`"([^"]*)"`', targets) if name.isidentifier() and find_property(name)]
        assert names, row
        for name in names:
            found = str(CartesianTensor(name).irreps).replace("1x", "")
            assert found in irreps, (name, found)


def test_axial_indices_of_names():
    assert CartesianTensor("optical_rotation", axial="j").irreps == CartesianTensor("gprime").irreps
    with pytest.raises(ValueError, match="axial='i' contradicts the property 'optical_rotation'"):
        CartesianTensor("optical_rotation", axial="i").irreps  # noqa: B018
    rotated = CartesianTensor("polarizability")
    tensors = np.random.default_rng(0).normal(size=(4, 3, 3))
    np.testing.assert_allclose(rotated.project(tensors), (tensors + tensors.swapaxes(1, 2)) / 2)
