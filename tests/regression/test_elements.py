"""Models that answer for elements that they have not seen, and learn across elements."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from sklearn.base import clone

from eqkernels import CovariantKernel, LambdaSOAP, SparseTensorGPR, TensorGPR, TensorKernelRidge
from eqkernels.io import load_model, save_model

CELLS = {
    ("Li", "F"): 4.03,
    ("Li", "Cl"): 5.13,
    ("Na", "F"): 4.62,
    ("Na", "Br"): 5.97,
    ("K", "Cl"): 6.29,
    ("Rb", "Br"): 6.85,
}


def _crystals(pairs, n, seed=0):
    """Rock salts with displaced atoms, and charges of ions that depend on their surroundings."""
    frames, labels = [], []
    for k in range(n):
        for m, pair in enumerate(pairs):
            atoms = bulk("".join(pair), "rocksalt", CELLS[pair]) * (1, 1, 2)
            atoms.rattle(0.15, seed=seed + 100 * k + m)
            delta = atoms.positions[1] - atoms.positions[0]
            charge = np.where(np.isin(atoms.numbers, [3, 11, 19, 37]), 1.0, -1.0)
            own = np.eye(3) + 0.05 * np.outer(delta, delta)
            frames.append(atoms)
            labels.append(charge[:, None, None] * own)
    return frames, labels


KNOWN = [pair for pair in CELLS if pair != ("K", "Cl")]
TRAINING, TEST = _crystals(KNOWN, 4), _crystals([("K", "Cl")], 3, seed=7)
DESCRIPTOR = LambdaSOAP(4.0, n_max=2, l_max=2, handle_unknown="embed")
KERNEL = CovariantKernel(2, center_similarity=0.7)
SHARED = {"kernel": KERNEL, "target": "ij", "per_atom": True}


def _shared():
    return {**SHARED, "descriptor": clone(DESCRIPTOR)}


MODELS = {
    "ridge": lambda: TensorKernelRidge(1e-4, **_shared()),
    "exact": lambda: TensorGPR(noise=1e-4, noise_bounds="fixed", **_shared()),
    "sparse": lambda: SparseTensorGPR(40, noise=1e-4, random_state=0, **_shared()),
}


@pytest.mark.parametrize("name", MODELS)
def test_unseen_elements_are_answered(name):
    model = MODELS[name]().fit(*TRAINING)
    predicted = np.concatenate(list(model.predict(TEST[0])))
    expected = np.concatenate(TEST[1])
    # by family: alkali ions are positive, halides negative
    assert np.abs(predicted - expected).mean() < 0.2
    assert np.array_equal(np.sign(np.trace(predicted, axis1=1, axis2=2)), np.sign(np.trace(expected, axis1=1, axis2=2)))


@pytest.mark.parametrize("name", ["exact", "sparse"])
def test_their_error_bars_are_larger(name):
    model = MODELS[name]().fit(*TRAINING)
    spreads = [
        np.mean([np.mean(std) for std in model.predict(frames, return_std=True)[1]])
        for frames in (_crystals(KNOWN, 1, seed=900)[0], TEST[0])
    ]
    assert spreads[1] > 1.5 * spreads[0]


@pytest.mark.parametrize("handled", ["error", "ignore"])
def test_unless_the_descriptor_says_otherwise(handled):
    model = MODELS["ridge"]().set_params(descriptor__handle_unknown=handled).fit(*TRAINING)
    if handled == "error":
        with pytest.raises(ValueError, match="species K .* was not seen at fit"):
            model.predict(TEST[0])
        return
    for one, atoms in zip(model.predict(TEST[0]), TEST[0], strict=True):
        assert np.array_equal(np.isnan(one[:, 0, 0]), atoms.numbers == 19)


def test_a_kernel_of_the_same_species_does_not_answer():
    model = TensorKernelRidge(1e-4, **_shared() | {"kernel": CovariantKernel(2)}).fit(*TRAINING)
    assert np.isnan(model.predict(TEST[0])[0][TEST[0][0].numbers == 19]).all()
    assert not np.isnan(model.predict(TRAINING[0][:1])[0]).any()


def test_the_contribution_of_an_unseen_element_is_that_of_those_like_it():
    frames = [molecule(name) for name in ("H2O", "SH2", "CH4", "CH3OH", "C2H6", "CH3SH", "HF", "CH3Cl")]
    energies = [
        sum({"H": 1, "C": 6, "O": 8, "S": 8.5, "F": 9, "Cl": 9.5}[s] for s in f.get_chemical_symbols()) for f in frames
    ]
    model = TensorKernelRidge(1e-3, kernel=KERNEL, descriptor=clone(DESCRIPTOR)).fit(frames, energies)
    new = molecule("CH3OH")
    new.numbers[new.numbers == 8] = 34  # selenium, in the group of O and S
    assert abs(model.predict([new])[0] - (4 + 6 + 8.4)) < 0.7


@pytest.mark.parametrize("similarity", [0.5, 1.0])
def test_sparse_is_exact_with_all_environments(similarity):
    options = _shared() | {"kernel": CovariantKernel(2, center_similarity=similarity)}
    frames, labels = TRAINING[0][:8], TRAINING[1][:8]
    exact = TensorGPR(noise=1e-2, noise_bounds="fixed", **options).fit(frames, labels)
    sparse = SparseTensorGPR(10**4, noise=1e-2, random_state=0, **options).fit(frames, labels)
    for mine, yours in zip(sparse.predict(TEST[0]), exact.predict(TEST[0]), strict=True):
        assert np.allclose(mine, yours, atol=1e-7)


def test_points_are_fewer_than_elements():
    model = SparseTensorGPR(5, noise=1e-3, random_state=0, **_shared()).fit(*TRAINING)
    assert len(model.points_["species"]) == 5 < len(model.species_) == 6
    assert not np.isnan(np.concatenate(list(model.predict(TRAINING[0])))).any()
    rest = _crystals(KNOWN, 1, seed=50)
    model.partial_fit(*rest)
    with pytest.raises(ValueError, match="no sparse points for the species K"):
        model.partial_fit(*TEST)


@pytest.mark.parametrize("name", MODELS)
def test_saved_models_answer_alike(name, tmp_path):
    model = MODELS[name]().fit(*TRAINING)
    save_model(model, tmp_path / "model.eqk")
    again = load_model(tmp_path / "model.eqk")
    for mine, yours in zip(again.predict(TEST[0]), model.predict(TEST[0]), strict=True):
        assert np.allclose(mine, yours, atol=1e-12)


def test_forces_around_unseen_elements():
    frames = TRAINING[0][:8]
    energies = [np.sum(atoms.get_all_distances(mic=True)) * 0.01 for atoms in frames]
    model = SparseTensorGPR(30, noise=1e-4, kernel=KERNEL, descriptor=clone(DESCRIPTOR), random_state=0).fit(
        frames, energies
    )
    atoms, step = TEST[0][0], 1e-4
    forces = model.predict_forces([atoms])[0]
    moved = [atoms.copy() for _ in range(2)]
    for sign, one in zip((1, -1), moved, strict=True):
        one.positions[0, 1] += sign * step
    plus, minus = model.predict(moved)
    assert forces[0, 1] == pytest.approx(-(plus - minus) / (2 * step), rel=1e-4, abs=1e-7)
