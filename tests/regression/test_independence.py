"""Symmetry-equivalent atoms and forbidden components: what labels count, and that likelihoods know of it."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorGPR
from eqkernels.regression.independence import allowed_parts, shares_of_equivalents

SOAP = LambdaSOAP(cutoff=4.0, n_max=3, l_max=3, irreps="0e+1o+2e")


def structures():
    quartz = crystal(
        ["Si", "O"],
        [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)],
        spacegroup=152,
        cellpar=[4.916, 4.916, 5.405, 90, 90, 120],
    )
    perovskite = crystal(["Sr", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=3.9)
    salt = bulk("NaCl", "rocksalt", a=5.64)
    return [quartz, perovskite, salt, molecule("CH3CH2OH"), molecule("C6H6"), molecule("H2O")]


@pytest.mark.parametrize("made", [True, False], ids=["densities", "features"])
@pytest.mark.parametrize("k", range(6))
def test_equivalent_atoms_are_those_that_operations_map_onto_each_other(k, made):
    """Orbits by spglib, and by the point group of molecules."""
    pytest.importorskip("spglib")
    from eqkernels.symmetry import point_group, space_group

    atoms = structures()[k]
    group = space_group(atoms) if atoms.pbc.all() else point_group(atoms)
    onto = np.zeros((len(atoms), len(atoms)), dtype=bool)
    for permutation in group.permutations:
        onto[np.arange(len(atoms)), permutation] = True
    atoms.rotate(37.0, (1, 2, 3), rotate_cell=True)
    features = SOAP.fit([atoms]).transform([atoms, atoms])
    if not made:
        features.blocks["0e"]
    shares = shares_of_equivalents(features.split_centers(), features.structures)
    np.testing.assert_allclose(shares, np.tile(1.0 / onto.sum(axis=1), 2))


def test_displaced_atoms_are_not_equivalent():
    atoms = structures()[1].repeat(2)
    atoms.rattle(1e-2, seed=0)
    features = SOAP.fit([atoms]).transform([atoms])
    np.testing.assert_array_equal(shares_of_equivalents(features.split_centers(), features.structures), 1.0)


@pytest.mark.parametrize(
    ("name", "counts"),
    # allowed components of l = 0, 1, 2: 32 point groups, Nye (1985), here Oh, C2v of water and Cs
    [
        ("cubic", {"0e": 1, "1o": 0, "2e": 0}),
        ("water", {"0e": 1, "1o": 1, "2e": 2}),
        ("bent", {"0e": 1, "1o": 2, "2e": 3}),
    ],
)
def test_forbidden_components_are_not_counted(name, counts):
    atoms = {"cubic": structures()[2], "water": molecule("H2O")}.get(name)
    if atoms is None:
        atoms = Atoms("OH2", [[0, 0, 0], [0.9, 0.1, 0.3], [-0.4, 1.0, 0.2]])
    atoms.rotate(71.0, (3, 1, 2), rotate_cell=True)
    features = SOAP.fit([atoms]).transform([atoms])
    random = np.random.default_rng(0)
    for irrep, count in counts.items():
        own = CovariantKernel().diag(features, irrep=irrep)
        size = len(atoms) * np.mean(CovariantKernel().diag(features.split_centers(), irrep="0e"))
        values = random.normal(size=(1, own.shape[1], 2))
        allowed, found = allowed_parts(own, size, values)
        assert found == [count]
        again, _ = allowed_parts(own, size, allowed)
        np.testing.assert_allclose(again, allowed, atol=1e-12)
        # what is left is orthogonal to all that kernels give
        np.testing.assert_allclose(own[0] @ (values - allowed)[0], 0.0, atol=1e-10 * own.max() + 1e-12)


def crystals(n, seed=0):
    """Distorted crystals of 4 atoms, and each twice as large: the same environments, two of each."""
    random, small = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("NaCl", "rocksalt", a=random.uniform(5.3, 5.9)).repeat((2, 1, 1))
        atoms.positions += 0.15 * random.normal(size=atoms.positions.shape)
        small.append(atoms)
    return small, [atoms.repeat((1, 1, 2)) for atoms in small]


def labels(frames):
    """Vectors of atoms that a short cutoff cannot explain: some of what decides is beyond it."""
    out = []
    for atoms in frames:
        whole = atoms.repeat(3)
        center = whole.positions[len(atoms) * 13 : len(atoms) * 14]
        moves = whole.positions[None] - center[:, None]
        far = np.linalg.norm(moves, axis=2)
        near = (far > 0.1) & (far < 8.0)
        weights = np.where(near, np.exp(-far / 3.0), 0.0) * np.where(whole.numbers == 11, 1.0, -0.6)
        out.append(np.einsum("ab,abx->ax", weights, moves / np.maximum(far, 0.1)[..., None]))
    return out


EXACT = {"optimizer": None, "noise": 0.03, "signal_variance": 0.8, "normalize_y": False, "target": "i"}


def test_criteria_are_those_of_one_label_for_each_set():
    small, large = crystals(6)
    soap = LambdaSOAP(cutoff=3.5, n_max=3, l_max=2).fit(small)
    y = labels(small)
    twice = [np.tile(one, (2, 1)) for one in y]
    once, doubled = (TensorGPR(descriptor=soap, **EXACT).fit(*data) for data in ((small, y), (large, twice)))
    assert once.shares_ is None
    np.testing.assert_allclose(doubled.shares_, 0.5)
    names = ("lml", "loo_density", "loo_error")
    for name in names:
        value, slopes = once._evaluate(name, once.theta_ if once.theta_.size else None, True)
        wanted, others = doubled._evaluate(name, None, True)
        np.testing.assert_allclose(wanted, value, rtol=1e-8)
        np.testing.assert_allclose(others, slopes, rtol=1e-7, atol=1e-9)
    mean, std = once.predict(small, return_std=True)
    mean_of_large, std_of_large = doubled.predict(small, return_std=True)
    for a, b in ((mean, mean_of_large), (std, std_of_large)):
        np.testing.assert_allclose(np.concatenate(b), np.concatenate(a), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_sparse_fit_of_repeated_cells_is_that_of_the_cells(weighted):
    small, large = crystals(10)
    y = labels(small)
    twice = [np.tile(one, (2, 1)) for one in y]
    weight = np.random.default_rng(1).uniform(0.5, 2.0, size=10) if weighted else None
    options = {"n_points": 40, "random_state": 0, "target": "i", "descriptor": LambdaSOAP(cutoff=3.5, n_max=3, l_max=2)}
    once = SparseTensorGPR(**options).fit(small, y, weight)
    doubled = SparseTensorGPR(**options).fit(large, twice, weight)
    assert doubled.label_totals_["1o"][0] == once.label_totals_["1o"][0] == 40
    assert doubled.noise_["1o"] == pytest.approx(once.noise_["1o"], rel=0.1)
    assert doubled.noise_["1o"] > 1e-6
    same = SparseTensorGPR(**options | {"noise": 1e-3}).fit(small, y, weight)
    again = SparseTensorGPR(**options | {"noise": 1e-3}).fit(large, twice, weight)
    assert again.log_marginal_likelihood_value_ == pytest.approx(same.log_marginal_likelihood_value_, rel=1e-3)
    assert again.signal_variance_["1o"] == pytest.approx(same.signal_variance_["1o"], rel=1e-3)


def test_equal_labels_of_equivalent_atoms_do_not_hide_the_noise():
    """Charges of atoms in symmetric crystals that positions within the cutoff do not decide: no exact fit."""
    random = np.random.default_rng(0)
    frames, y = [], []
    for k in range(40):
        atoms = bulk(("NaCl", "MgO", "LiF")[k % 3], "rocksalt", a=random.uniform(4.2, 5.8), cubic=True)
        atoms.rotate(*((random.uniform(0, 90), random.normal(size=3))), rotate_cell=True)
        frames.append(atoms)
        y.append(np.where(atoms.numbers == atoms.numbers[0], 1.0, -1.0) * (1.0 + 0.2 * random.normal()))
    for model in (
        SparseTensorGPR(n_points=200, descriptor=SOAP, target="", per_atom=True, random_state=0),
        TensorGPR(descriptor=SOAP, target="", per_atom=True, criterion="lml"),
    ):
        model.fit(frames, y)
        residual = np.concatenate(model.predict(frames)) - np.concatenate(y)
        assert np.std(residual) > 0.1


def test_a_fit_to_structures_forgets_the_atoms_of_an_earlier_one():
    _, large = crystals(6)
    y, scalars = [np.tile(one, (2, 1)) for one in labels(crystals(6)[0])], np.arange(6.0)
    soap, options = LambdaSOAP(cutoff=3.5, n_max=3, l_max=2).fit(large), {"noise": 0.03, "optimizer": None}
    again = TensorGPR(descriptor=soap, **options).fit(large, y).fit(large, scalars)
    assert again.shares_ is None
    np.testing.assert_array_equal(
        again.predict(large), TensorGPR(descriptor=soap, **options).fit(large, scalars).predict(large)
    )
