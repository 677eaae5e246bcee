"""A baseline that is a model: the same as subtracting and adding by hand, in every regressor."""

import functools
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from eqkernels import (
    SOAP as RowSOAP,
)
from eqkernels import (
    AutoTensorRegressor,
    ChargeKernel,
    CovariantKernel,
    EquivariantNetworkRegressor,
    LambdaSOAP,
    SparseTensorGPR,
    TensorCalculator,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    TensorVotingRegressor,
    summary,
)
from eqkernels.regression import CalculatorBaseline
from eqkernels.validation import expected_error
from tests.conftest import random_frames, water_set

SOAP = LambdaSOAP(cutoff=3.0, n_max=3, l_max=2)
FRAMES = random_frames(seed=3, n_frames=16, n_species=2)
TEST = FRAMES[5:9] + random_frames(seed=4, n_frames=3, n_species=2)
MODELS = {
    "ridge": TensorRidge(1e-3, descriptor=SOAP),
    "kernel": TensorKernelRidge(1e-5, descriptor=SOAP),
    "gpr": TensorGPR(CovariantKernel(), descriptor=SOAP, optimizer=None, noise=1e-3),
    "sparse": SparseTensorGPR(12, descriptor=SOAP, noise=1e-3, random_state=0),
    "committee": TensorCommittee(TensorRidge(1e-3, descriptor=SOAP), n_estimators=4, random_state=0),
    "network": EquivariantNetworkRegressor(3.0, channels=4, n_layers=1, max_iter=3, random_state=0),
}
DIFFERENTIABLE = [name for name in MODELS if name != "committee"]


def moments(frames):
    """Dipoles of fixed charges."""
    return np.array([a.numbers @ (a.positions - a.positions.mean(axis=0)) for a in frames])


def inertia(frames):
    """A symmetric tensor."""
    centered = [a.positions - a.positions.mean(axis=0) for a in frames]
    return np.array([np.einsum("i,ij,ik->jk", a.numbers, r, r) for a, r in zip(frames, centered, strict=True)])


def cheap(frames):
    """What the baseline knows of it."""
    return 0.7 * inertia(frames) + 2.0 * np.eye(3)


class Cheap:
    """A baseline with derivatives, by the formula; of crystals it does not know the stress."""

    def predict(self, frames):
        return cheap(frames)

    def predict_derivatives(self, frames):
        out = []
        for atoms in frames:
            r, z = atoms.positions - atoms.positions.mean(axis=0), atoms.numbers
            weights = z[:, None] * r - z @ r / len(atoms)  # d/dr of the centered moments
            out.append(
                0.7 * (np.einsum("aj,ik->aijk", weights, np.eye(3)) + np.einsum("ai,jk->aijk", weights, np.eye(3)))
            )
        return out


def with_baseline(name, baseline):
    model = clone(MODELS[name])
    return model.set_params(**{"estimator__baseline" if name == "committee" else "baseline": baseline})


@functools.cache
def fitted(name):
    return with_baseline(name, Cheap()).fit(FRAMES, inertia(FRAMES))


@functools.cache
def of_rest(name):
    return clone(MODELS[name]).fit(FRAMES, inertia(FRAMES) - cheap(FRAMES))


@pytest.mark.parametrize("name", MODELS)
def test_subtracted_and_added(name):
    model, rest = fitted(name), of_rest(name)
    np.testing.assert_allclose(model.predict(TEST), rest.predict(TEST) + cheap(TEST), rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.predict(TEST[:1])[0], model.predict(TEST)[0], atol=1e-8)
    function = with_baseline(name, cheap).fit(FRAMES, inertia(FRAMES))
    np.testing.assert_allclose(function.predict(TEST), model.predict(TEST), atol=1e-12)


@pytest.mark.parametrize("name", ["gpr", "sparse", "committee"])
def test_error_bars_are_those_of_the_rest(name):
    model, rest = fitted(name), of_rest(name)
    for option in ("return_std", "return_cov"):
        mean, bars = model.predict(TEST, **{option: True})
        np.testing.assert_allclose(mean, model.predict(TEST), atol=1e-10)
        np.testing.assert_allclose(bars, rest.predict(TEST, **{option: True})[1], rtol=1e-8, atol=1e-12)
    if name == "committee":
        return
    mean, cov = model.predict(TEST, return_cov="joint")
    np.testing.assert_allclose(mean, model.predict(TEST), atol=1e-10)
    means, _ = model.predict_irreps(TEST)
    np.testing.assert_allclose(model._tensor().to_cartesian(means), model.predict(TEST), atol=1e-10)
    some = TEST[:4]  # without degenerate eigenvectors
    drawn, other = model.sample_y(some, 3), rest.sample_y(some, 3)
    np.testing.assert_allclose(drawn, other + cheap(some)[..., None], atol=1e-8)


def test_error_bars_of_networks():
    frames = water_set(24, seed=1)[0]
    network = EquivariantNetworkRegressor(3.0, channels=2, n_layers=1, max_iter=2, error_bars=True, random_state=0)
    model = clone(network).set_params(baseline=cheap).fit(frames, inertia(frames))
    rest = network.fit(frames, inertia(frames) - cheap(frames))
    (mean, std), (other, same) = model.predict(frames, return_std=True), rest.predict(frames, return_std=True)
    np.testing.assert_allclose(mean, other + cheap(frames), atol=1e-8)
    np.testing.assert_allclose(std, same, rtol=1e-6)


def test_left_out():
    model, rest = fitted("gpr"), of_rest("gpr")
    np.testing.assert_allclose(model.predict_left_out(), rest.predict_left_out() + cheap(FRAMES), atol=1e-9)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name):
    model, atoms, h = fitted(name), TEST[-1], 1e-5
    found, random = model.predict_derivatives([atoms])[0], np.random.default_rng(0)
    cotangent = random.normal(size=(3, 3))
    derivatives = model.vjp([atoms], cotangent[None])
    for atom, direction in [(0, 0), (1, 2)]:
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[atom, direction] += h
        moved[1].positions[atom, direction] -= h
        values = model.predict(moved)
        np.testing.assert_allclose(found[atom, ..., direction], (values[0] - values[1]) / (2 * h), rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(derivatives.positions, np.einsum("aijk,ij->ak", found, cotangent), atol=1e-8)
    strain = random.normal(size=(3, 3))
    strained = [Atoms(atoms.numbers, atoms.positions @ (np.eye(3) + s * h * strain).T) for s in (1, -1)]
    change = np.subtract(*model.predict(strained)) / (2 * h)
    np.testing.assert_allclose(np.sum(derivatives.strain[0] * strain), np.sum(change * cotangent), rtol=1e-4)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_functions_have_no_derivatives(name):
    model = with_baseline(name, cheap).fit(FRAMES, inertia(FRAMES))
    for method in (model.predict_derivatives, lambda X: model.vjp(X, np.zeros((len(X), 3, 3)))):
        with pytest.raises(
            TypeError, match=r"baseline=cheap has no derivatives .* give it a method predict_derivatives"
        ):
            method(TEST)


def test_fitted_baselines_survive_clones_and_refits():
    """A clone keeps what the baseline has learned, and a fit of the baseline anew does not reach the model."""
    baseline = TensorRidge(1e-3, descriptor=SOAP).fit(FRAMES, inertia(FRAMES))
    known = baseline.predict(FRAMES)
    model = TensorKernelRidge(1e-5, descriptor=SOAP, baseline=baseline).fit(FRAMES[:8], inertia(FRAMES[:8]))
    cloned = clone(make_pipeline(model))[0]
    assert cloned.baseline is baseline
    assert not hasattr(cloned, "dual_coef_")
    before = model.predict(TEST)
    np.testing.assert_allclose(cloned.fit(FRAMES[:8], inertia(FRAMES[:8])).predict(TEST), before, atol=1e-10)
    rest = TensorKernelRidge(1e-5, descriptor=SOAP).fit(FRAMES[:8], inertia(FRAMES[:8]) - known[:8])
    np.testing.assert_allclose(before, rest.predict(TEST) + baseline.predict(TEST), atol=1e-8)
    baseline.fit(FRAMES, np.zeros((len(FRAMES), 3, 3)))
    np.testing.assert_allclose(model.predict(TEST), before, atol=1e-12)


def test_unfitted_baselines_are_fitted_to_the_same_labels():
    baseline, weight = TensorRidge(1e-2, descriptor=SOAP), np.linspace(1, 2, len(FRAMES))
    model = TensorGPR(CovariantKernel(), descriptor=SOAP, optimizer=None, baseline=baseline)
    model.fit(FRAMES, inertia(FRAMES), sample_weight=weight)
    with pytest.raises(NotFittedError):
        baseline.predict(FRAMES)
    of_labels = clone(baseline).fit(FRAMES, inertia(FRAMES), sample_weight=weight)
    np.testing.assert_allclose(model.baseline_model_.predict(TEST), of_labels.predict(TEST))
    assert "fitted to all labels, also for leave-one-out errors; then composition" in str(summary(model))
    assert clone(model).baseline is not baseline
    model.set_params(baseline__alpha=1.0)
    with pytest.raises(NotFittedError, match="baseline__alpha was changed"):
        model.predict(TEST)
    words = TensorRidge(1e-2, descriptor=SOAP, baseline="mean")
    assert words.fit(FRAMES, inertia(FRAMES)).baseline_model_ is None
    changed = clone(model).fit(FRAMES, inertia(FRAMES)).set_params(baseline="composition").fit(FRAMES, inertia(FRAMES))
    np.testing.assert_array_equal(
        changed.predict(TEST),
        clone(model).set_params(baseline="composition").fit(FRAMES, inertia(FRAMES)).predict(TEST),
    )


def test_the_rest_has_a_composition():
    """Energies whose atoms the baseline has wrong are learned, whatever the size."""
    counts = np.array([[np.sum(a.numbers == z) for z in np.unique(FRAMES[0].numbers)] for a in FRAMES + TEST])
    energies = counts @ [-13.6, -1030.0]
    model = TensorRidge(1e3, descriptor=SOAP, baseline=lambda frames: np.zeros(len(frames)))
    model.fit(FRAMES, energies[: len(FRAMES)])
    np.testing.assert_allclose(model.predict(TEST), energies[len(FRAMES) :], rtol=1e-10)
    assert model.baseline_.shape == (2, 1)


def of_atoms(frames):
    return [a.positions * a.numbers[:, None] for a in frames]


class Partly(BaseEstimator):
    """Per-atom vectors, fitted: a factor."""

    def fit(self, frames, y):
        self.factor_ = float(np.nanmean(np.concatenate(list(y)) / np.concatenate(of_atoms(frames))))
        return self

    def predict(self, frames):
        return [self.factor_ * one for one in of_atoms(frames)]


@pytest.mark.parametrize("name", MODELS)
def test_per_atom_targets(name):
    y = [one + 0.1 * np.sin(one) for one in of_atoms(FRAMES)]
    y[2] = None
    y[3][1] = np.nan
    model = with_baseline(name, Partly()).set_params(per_atom=True).fit(FRAMES, y)
    known = [k for k in range(len(FRAMES)) if k != 2]
    baseline = Partly().fit([FRAMES[k] for k in known], [y[k] for k in known])
    rest = clone(MODELS[name]).set_params(per_atom=True)
    rest.fit(FRAMES, [None if one is None else one - b for one, b in zip(y, baseline.predict(FRAMES), strict=True)])
    for found, one, base in zip(model.predict(TEST), rest.predict(TEST), baseline.predict(TEST), strict=True):
        np.testing.assert_allclose(found, one + base, atol=1e-7)
    if name == "gpr":
        for found, one, base in zip(
            model.predict_left_out(), rest.predict_left_out(), baseline.predict(FRAMES), strict=True
        ):
            np.testing.assert_allclose(found, one + base, atol=1e-9)
        means, _ = model.predict_irreps(TEST)
        np.testing.assert_allclose(model._tensor().to_cartesian(means), np.concatenate(model.predict(TEST)), atol=1e-9)
    if name in DIFFERENTIABLE:
        with pytest.raises(TypeError, match="give it a method vjp"):
            model.vjp(TEST, [np.zeros((len(a), 3)) for a in TEST])


def crystals(n):
    frames = [bulk("Cu", cubic=True) for _ in range(n)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.08, seed=k)
        atoms.set_cell(atoms.cell * (1 + 0.004 * (k % 3)), scale_atoms=True)
    return frames


def expensive(frames):
    """Energies, forces and stress of EMT plus a harmonic term of each atom's neighbors through EMT itself."""
    found = [(a.get_potential_energy(), a.get_forces(), a.get_stress(voigt=False)) for a in map(_with_emt, frames)]
    energies, forces, stress = (list(one) for one in zip(*found, strict=True))
    return 1.3 * np.array(energies) - 14.0, [1.3 * one for one in forces], 1.3 * np.array(stress)


def _with_emt(atoms):
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms


def test_energies_with_forces_and_stress_from_a_calculator():
    frames = crystals(10)
    energies, forces, stress = expensive(frames)
    baseline = CalculatorBaseline(EMT(), "energy")
    sparse = SparseTensorGPR(20, descriptor=SOAP, random_state=0, noise=1e-4, force_noise=1e-4, stress_noise=1e-4)
    forces[3] = None
    energies_known = [None, *energies[1:8]]
    labels = {"forces": forces[:8], "stress": stress[:8]}
    model = clone(sparse).set_params(baseline=baseline).fit(frames[:8], energies_known, **labels)
    base_forces, base_stress = baseline.predict_forces(frames), baseline.predict_stress(frames)
    rest = clone(sparse).fit(
        frames[:8],
        [None, *(energies - baseline.predict(frames))[1:8]],
        forces=[None if k == 3 else forces[k] - base_forces[k] for k in range(8)],
        stress=stress[:8] - base_stress[:8],
    )
    test = frames[8:]
    np.testing.assert_allclose(model.predict(test), rest.predict(test) + baseline.predict(test), atol=1e-9)
    for found, one, base in zip(model.predict_forces(test), rest.predict_forces(test), base_forces[8:], strict=True):
        np.testing.assert_allclose(found, one + base, atol=1e-9)
    np.testing.assert_allclose(model.predict_stress(test), rest.predict_stress(test) + base_stress[8:], atol=1e-10)
    np.testing.assert_allclose(model.predict(test), energies[8:], atol=0.05)
    test[0].calc = TensorCalculator(model)
    np.testing.assert_allclose(test[0].get_forces(), model.predict_forces(test)[0], atol=1e-9)
    np.testing.assert_allclose(test[0].get_stress(voigt=False), model.predict_stress(test)[0], atol=1e-10)


def test_derivative_labels_and_parts():
    """Derivatives of tensors are labels, too; parts of the data share the baseline of the first."""
    rows, values = Cheap().predict_derivatives(FRAMES), inertia(FRAMES)
    derivatives = [one / 0.7 for one in rows]
    derivatives[1] = None
    sparse = SparseTensorGPR(12, descriptor=SOAP, noise=1e-3, derivative_noise=1e-3, random_state=0, target="ij=ji")
    model = clone(sparse).set_params(baseline=Cheap()).fit(FRAMES, values, derivatives=derivatives)
    rest = clone(sparse).fit(
        FRAMES,
        values - cheap(FRAMES),
        derivatives=[None if k == 1 else (1 / 0.7 - 1) * one for k, one in enumerate(rows)],
    )
    np.testing.assert_allclose(model.predict(TEST), rest.predict(TEST) + cheap(TEST), atol=1e-8)
    parts = clone(sparse).set_params(baseline=TensorRidge(1e-2, descriptor=SOAP))
    parts.partial_fit(FRAMES[:9], values[:9])
    first = parts.baseline_model_
    parts.partial_fit(FRAMES[9:], values[9:])
    assert parts.baseline_model_ is first
    with pytest.raises(ValueError, match="is not fitted, and there is no label y"):
        clone(parts).fit(FRAMES, None, derivatives=rows)


def test_cross_validation_and_voting():
    model = TensorRidge(1e-3, descriptor=SOAP, baseline=TensorRidge(1.0, descriptor=SOAP))
    predicted = cross_val_predict(model, FRAMES, inertia(FRAMES), cv=4)
    fourth = clone(model).fit(FRAMES[4:], inertia(FRAMES[4:])).predict(FRAMES[:4])
    np.testing.assert_allclose(predicted[:4], fourth, atol=1e-8)
    voting = TensorVotingRegressor([("a", clone(model)), ("b", with_baseline("kernel", cheap))])
    voting.fit(FRAMES, inertia(FRAMES))
    singles = [clone(one).fit(FRAMES, inertia(FRAMES)).predict(TEST) for _, one in voting.estimators]
    np.testing.assert_allclose(voting.predict(TEST), np.mean(singles, axis=0), atol=1e-8)


def test_automatic_model():
    frames = water_set(20, seed=2)[0]
    y = inertia(frames)
    model = AutoTensorRegressor(2.0, baseline=cheap, random_state=0).fit(frames, y)
    rest = AutoTensorRegressor(2.0, random_state=0).fit(frames, y - cheap(frames))
    mean, std = model.predict(frames, return_std=True)
    spread = np.std(y - cheap(frames))
    np.testing.assert_allclose(mean, rest.predict(frames) + cheap(frames), atol=0.2 * spread)
    assert std.shape == mean.shape
    assert model.estimators_[0].baseline == "composition"


def test_labels_that_the_baseline_explains():
    """Nothing is left to learn, and rounding is not learned."""
    for name in MODELS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is nothing to learn
            model = with_baseline(name, inertia).fit(FRAMES, inertia(FRAMES))
        np.testing.assert_allclose(model.predict(TEST), inertia(TEST), rtol=1e-12, atol=1e-12)


def test_lazy_sequences():
    class Lazy:
        def __len__(self):
            return len(FRAMES)

        def __getitem__(self, key):
            return FRAMES[key]

    model = with_baseline("sparse", cheap).fit(Lazy(), inertia(FRAMES))
    np.testing.assert_allclose(model.predict(Lazy()), fitted("sparse").predict(FRAMES), atol=1e-9)
    generated = with_baseline("ridge", cheap).fit((a for a in FRAMES), inertia(FRAMES))
    np.testing.assert_allclose(generated.predict(iter(TEST)), fitted("ridge").predict(TEST), atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("baseline", "error", "message"),
    [
        ("linear", (TypeError, ValueError), r"must be one of .*, a model with predict\(frames\), or a function"),
        (TensorRidge, (TypeError, ValueError), "is a class: make an object"),
        (EMT(), (TypeError, ValueError), "is an ASE calculator: wrap it, CalculatorBaseline"),
        (lambda frames: np.zeros((len(frames), 3)), ValueError, r"structure 0 has shape \(3,\), expected \(3, 3\)"),
        (lambda frames: [np.eye(3 - (k == 2)) for k, _ in enumerate(frames)], ValueError, r"structure 2 has shape \(2, 2\)"),
        (lambda frames: np.zeros((2, 3, 3)), ValueError, "has 2 entries for 16 structures"),
        (lambda frames: 1.0, TypeError, "must be an array or a list, got float"),
        (lambda frames: np.full((len(frames), 3, 3), np.nan), ValueError, "NaN or infinity for structure 0"),
        (lambda frames: np.array([np.diag([1.0, 1], 1)] * len(frames)), ValueError, "predicts breaks the declared symmetry"),
    ],
)  # fmt: skip
def test_bad_baselines(name, baseline, error, message):
    with pytest.raises(error, match=message):
        with_baseline(name, baseline).fit(FRAMES, inertia(FRAMES))


def test_features_and_properties_are_refused():
    features = SOAP.fit(FRAMES, inertia(FRAMES)).transform(FRAMES)
    for model in (with_baseline(name, cheap) for name in MODELS if name != "network"):
        with pytest.raises(TypeError, match=r"state the descriptor in the model, .*\(descriptor=LambdaSOAP"):
            model.fit(features, inertia(FRAMES))
    with pytest.raises(TypeError, match="predicts from frames"):
        fitted("ridge").predict(features)
    several = with_baseline("network", cheap)
    with pytest.raises(TypeError, match="is that of one property"):
        several.fit(FRAMES, {"a": inertia(FRAMES), "b": moments(FRAMES)})


def test_calculators():
    frames = crystals(3)
    baseline = CalculatorBaseline(EMT())
    assert clone(baseline).calculator is baseline.calculator
    assert "property" in baseline.get_params()
    np.testing.assert_allclose(baseline.predict(frames), [_with_emt(a).get_potential_energy() for a in frames])
    forces = CalculatorBaseline(EMT(), "forces").predict(frames)
    np.testing.assert_allclose(forces[1], _with_emt(frames[1]).get_forces())
    np.testing.assert_allclose(CalculatorBaseline(EMT(), "stress").predict(frames), baseline.predict_stress(frames))
    assert all(atoms.calc is None for atoms in frames)
    with pytest.raises(TypeError, match="only that of an energy has"):
        CalculatorBaseline(EMT(), "dipole").predict_forces(frames)
    with pytest.raises(TypeError, match="must be an ASE calculator"):
        CalculatorBaseline("emt").predict(frames)


def test_pipelines_have_the_derivatives_of_their_last_step():
    pipeline = make_pipeline(clone(SOAP), TensorRidge(1e-3)).fit(FRAMES, inertia(FRAMES))
    inside = TensorRidge(1e-3, descriptor=SOAP).fit(FRAMES, inertia(FRAMES))
    models = [
        TensorRidge(1e-4, descriptor=SOAP, baseline=one).fit(FRAMES, inertia(FRAMES)) for one in (pipeline, inside)
    ]
    for found, expected in zip(*(model.predict_derivatives(TEST) for model in models), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8)
    cotangents = np.ones((len(TEST), 3, 3))
    for found, expected in zip(*(model.vjp(TEST, cotangents) for model in models), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8)
    calculator = TensorCalculator({"polarizability": models[0]})
    atoms = TEST[0].copy()
    calculator.calculate(atoms, ["raman_tensors"])
    np.testing.assert_allclose(
        calculator.results["raman_tensors"], models[1].predict_derivatives([atoms])[0], atol=1e-8
    )


def test_expected_errors_hold_labels_back_from_the_baseline():
    """Left out in closed form, they would be known to a baseline that was fitted to them."""
    frames = water_set(24, seed=3)[0]
    noise = np.random.default_rng(0).normal(size=(len(frames), 3, 3))
    y = noise + noise.transpose(0, 2, 1)
    flexible = TensorRidge(1e-9, descriptor=SOAP, target="ij=ji")
    model = TensorGPR(descriptor=SOAP, optimizer=None, noise=1.0, target="ij=ji", baseline=flexible).fit(frames, y)
    error = expected_error(model, frames, y)
    assert "held back" in error.how
    assert error.rmse > 0.8 * error.spread


def test_charged_molecules_have_their_moment_once():
    """Neutral molecules have charges of the atoms beside a baseline; charged ones are refused."""
    kernel, y = CovariantKernel() + ChargeKernel(), moments(FRAMES)
    plain = TensorKernelRidge(1e-4, kernel=kernel, descriptor=SOAP)
    model = clone(plain).set_params(baseline=lambda frames: 0.9 * moments(frames)).fit(FRAMES, y)
    rest = clone(plain).fit(FRAMES, 0.1 * y)
    np.testing.assert_allclose(model.predict(TEST), rest.predict(TEST) + 0.9 * moments(TEST), atol=1e-8)
    for found, expected in zip(model.predict_charges(TEST), rest.predict_charges(TEST), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8)
    ions = [atoms.copy() for atoms in FRAMES]
    ions[3].info["charge"] = 1
    for one in (model, TensorCommittee(model, n_estimators=2)):
        with pytest.raises(ValueError, match="structure 3 has a total charge: its moment would be counted twice"):
            clone(one).fit(ions, y)
    with pytest.raises(ValueError, match="structure 3 has a total charge"):
        model.predict(ions)


def test_compositions_keep_what_was_fitted():
    """Clones of a committee, a mean, a pipeline or a search have the fitted baseline; unfitted ones are searched."""
    baseline = TensorRidge(1e-1, descriptor=SOAP).fit(FRAMES, inertia(FRAMES))
    model = TensorRidge(1e-3, descriptor=SOAP, baseline=baseline)
    committee, voting = TensorCommittee(model), TensorVotingRegressor([("a", model)])
    search = GridSearchCV(model, {"alpha": [1e-3]}, cv=3)
    assert clone(committee).estimator.baseline is baseline
    assert clone(voting).estimators[0][1].baseline is baseline
    assert clone(search).estimator.baseline is baseline
    grid = {"baseline": ["composition", None, TensorRidge(1e-2, descriptor=SOAP)]}
    found = GridSearchCV(TensorRidge(1e-3, descriptor=SOAP), grid, cv=3).fit(FRAMES, inertia(FRAMES))
    assert found.best_estimator_.predict(TEST).shape == (len(TEST), 3, 3)
    nested = GridSearchCV(clone(model).set_params(baseline=clone(baseline)), {"baseline__alpha": [1e-3, 1e3]}, cv=3)
    assert nested.fit(FRAMES, inertia(FRAMES)).best_params_["baseline__alpha"] in (1e-3, 1e3)
    assert "baseline=TensorRidge" in repr(model)


def test_networks_go_on_with_the_same_baseline():
    network = EquivariantNetworkRegressor(
        3.0, channels=2, n_layers=1, max_iter=2, random_state=0, baseline=TensorRidge(1e-2, descriptor=SOAP)
    )
    network.fit(FRAMES[:12], inertia(FRAMES[:12]))
    first = network.baseline_model_
    network.partial_fit(FRAMES, inertia(FRAMES))
    assert network.baseline_model_ is first
    rest = network.descriptor_.formulas_
    assert rest == {"y": "ij=ji"}
    network.set_params(baseline="mean").fit(FRAMES, inertia(FRAMES))
    assert network.baseline_model_ is None


def test_models_of_scikit_learn():
    """Pipelines to rows, and fitted models that stay fitted in a grid."""
    energies = np.trace(inertia(FRAMES), axis1=1, axis2=2)
    rows = make_pipeline(RowSOAP(cutoff=3.0, n_max=2, l_max=1, aggregate="sum"), Ridge(1e-2)).fit(FRAMES, energies)
    model = TensorRidge(1e-3, descriptor=SOAP, baseline=rows).fit(FRAMES, energies)
    rest = TensorRidge(1e-3, descriptor=SOAP).fit(FRAMES, energies - rows.predict(FRAMES))
    np.testing.assert_allclose(model.predict(TEST), rest.predict(TEST) + rows.predict(TEST), rtol=1e-9)
    assert clone(model).fit(FRAMES, energies).baseline_model_.steps[-1][1] is rows[-1]
    frozen = pytest.importorskip("sklearn.frozen").FrozenEstimator(rows)
    grid = GridSearchCV(TensorRidge(1e-3, descriptor=SOAP), {"baseline": [frozen]}, cv=3).fit(FRAMES, energies)
    np.testing.assert_allclose(grid.predict(TEST), model.predict(TEST), rtol=1e-9)
