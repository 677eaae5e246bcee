"""What every public estimator keeps to: what was fitted is what predicts, whatever happens to parameters and arrays."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

import eqkernels
from eqkernels import (
    SOAP,
    AutoTensorRegressor,
    Bispectrum,
    CartesianTensor,
    CovariantKernel,
    EquivariantFeatures,
    EquivariantNetwork,
    EquivariantNetworkRegressor,
    EquivariantPCA,
    EquivariantUnion,
    FeatureSelection,
    FunctionFeatures,
    LambdaSOAP,
    MACEFeatures,
    MultiScale,
    NBodyFeatures,
    SparseTensorGPR,
    SphericalExpansion,
    TensorCommittee,
    TensorGPR,
    TensorKernelRidge,
    TensorRidge,
    TensorVotingRegressor,
    TholePolarizability,
    WignerKernel,
)
from tests.conftest import random_frames
from tests.fake_networks import FakeMACE, rows

SMALL = {"cutoff": 3.0, "n_max": 3, "l_max": 2}
NETWORK = {"cutoff": 4.0, "channels": 4, "n_layers": 1, "max_iter": 3, "random_state": 0}


def soap(**others):
    return LambdaSOAP(**SMALL, irreps="0e+1o", **others)


ESTIMATORS = {
    "SphericalExpansion": lambda: SphericalExpansion(**SMALL),
    "SphericalExpansion of fields": lambda: SphericalExpansion(**SMALL, density="potential", sigma=0.7),
    "SOAP": lambda: SOAP(**SMALL, aggregate="mean"),
    "SOAP of long range": lambda: SOAP(**SMALL, aggregate="mean", long_range=1),
    "SOAP contracted": lambda: SOAP(**SMALL, n_species_channels=1, n_optimal=2),
    "LambdaSOAP": lambda: LambdaSOAP(**SMALL),
    "LambdaSOAP compressed": lambda: soap(compression="mu1nu1", species_embedding={"H": [1.0, 0.5], "C": [0.2, 1.0]}),
    "LambdaSOAP of long range": lambda: soap(long_range=6, long_range_n_max=2, n_species_channels=1),
    "NBodyFeatures": lambda: NBodyFeatures(**{**SMALL, "n_max": 2}, n_components=20, n_products=100),
    "Bispectrum": lambda: Bispectrum(**{**SMALL, "n_max": 2}),
    "FunctionFeatures": lambda: FunctionFeatures(rows, "3x0e+3x1o+3x2e"),
    "MACEFeatures": lambda: MACEFeatures(FakeMACE(dtype="float64")),
    "EquivariantUnion": lambda: EquivariantUnion([("a", soap()), ("b", soap().set_params(cutoff=4.0))]),
    "MultiScale": lambda: MultiScale(soap(), cutoff=(2.0, 3.5)),
    "FeatureSelection": lambda: FeatureSelection(5),
    "EquivariantPCA": lambda: EquivariantPCA(5),
    "EquivariantNetwork": lambda: EquivariantNetwork(**NETWORK),
    "TensorRidge": lambda: TensorRidge(alpha=1e-3, descriptor=soap()),
    "TensorKernelRidge": lambda: TensorKernelRidge(alpha=1e-6, kernel=CovariantKernel(), descriptor=soap()),
    "chosen alpha": lambda: TensorKernelRidge([1e-6, 1e-3], kernel=CovariantKernel(), descriptor=soap()),
    "WignerKernel": lambda: TensorKernelRidge(kernel=WignerKernel(), descriptor=soap()),
    "TensorRidge of the rest": lambda: TensorRidge(
        1e-3, descriptor=soap(), baseline=TensorRidge(1.0, descriptor=soap())
    ),
    "TholePolarizability": lambda: TholePolarizability(a=2.0),
    "TensorRidge auto": lambda: TensorRidge(descriptor=soap()),
    "TensorGPR": lambda: TensorGPR(CovariantKernel(), descriptor=soap(), random_state=np.random.RandomState(0)),
    "SparseTensorGPR": lambda: SparseTensorGPR(12, kernel=CovariantKernel(), descriptor=soap(), random_state=0),
    "TensorCommittee": lambda: TensorCommittee(TensorKernelRidge(descriptor=soap()), n_estimators=4, random_state=0),
    "TensorVotingRegressor": lambda: TensorVotingRegressor([("a", TensorRidge(1e-3, descriptor=soap()))]),
    "AutoTensorRegressor": lambda: AutoTensorRegressor(600, random_state=0),
    "EquivariantNetworkRegressor": lambda: EquivariantNetworkRegressor(**NETWORK),
}
MODELS = [name for name, make in ESTIMATORS.items() if hasattr(make(), "predict")]
OF_FRAMES = ["EquivariantNetworkRegressor", "AutoTensorRegressor", "TensorRidge of the rest", "TholePolarizability"]
OF_FEATURES = ["FeatureSelection", "EquivariantPCA"]
# what is decided anew by each call, with no part in what was learned
CHANGED_AT_WILL = {"n_jobs", "verbose", "memory", "random_state", "handle_unknown"}


def vectors(frames):
    """Dipoles of fixed charges."""
    return np.array([(0.4 * a.numbers) @ (a.positions - a.positions.mean(axis=0)) for a in frames])


def labels(name, frames=None):
    """What a model is fitted to: dipoles, or for those that know of nothing else polarizabilities."""
    frames = FRAMES if frames is None else frames
    if name != "TholePolarizability":
        return vectors(frames)
    return np.array([10.0 * len(a) * np.eye(3) + a.positions.T @ a.positions for a in frames])


FRAMES = random_frames(seed=3, n_frames=14, n_species=2)
TEST = FRAMES[5:9] + random_frames(seed=4, n_frames=3, n_species=2)


def inputs(name, frames):
    return soap().fit(FRAMES).transform(frames) if name in OF_FEATURES else frames


def fitted(name):
    model = ESTIMATORS[name]()
    return model.fit(inputs(name, FRAMES), labels(name))


def result(name, model, frames=TEST):
    X = inputs(name, frames)
    out = model.predict(X) if name in MODELS else model.transform(X)
    return dict(out.blocks) if isinstance(out, EquivariantFeatures) else {"": np.asarray(out)}


def assert_equal(first, second, exact=True):
    assert first.keys() == second.keys()
    for key, array in first.items():
        if exact:
            np.testing.assert_array_equal(array, second[key])
        else:
            np.testing.assert_allclose(array, second[key], rtol=0, atol=1e-8 * np.std(array))


def other_values(value):
    """Values that a parameter may be set to by mistake, of its own type and of another."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str):
        yield from ("mean", "laplacian", "lbfgs", "i", "mu2", "float32", "ignore", "lml", "ace", "random", "0e")
    elif value is None:
        yield from (1, 2.0, "mean")
    yield None
    yield [1]


def test_every_public_estimator_is_here():
    public = [getattr(eqkernels, name) for name in eqkernels.__all__]
    estimators = {
        one.__name__
        for one in public
        if inspect.isclass(one)
        and issubclass(one, BaseEstimator)
        and hasattr(one, "fit")
        and one is not CartesianTensor
    }
    assert {type(make()).__name__ for make in ESTIMATORS.values()} == estimators


@pytest.mark.parametrize("name", ESTIMATORS)
def test_parameters_changed_after_fit(name):
    """The old features or predictions, or a refusal that names the parameter; and the old ones when it is set back."""
    model = fitted(name)
    before = result(name, model)
    refused = []
    for parameter, value in model.get_params(deep=True).items():
        kept = copy.deepcopy(value)
        for other in other_values(value):
            if parameter in CHANGED_AT_WILL and not isinstance(other, int):
                continue
            model.set_params(**{parameter: other})
            try:
                after = result(name, model)
            except NotFittedError as error:
                refused.append((parameter, str(error)))
            else:
                assert_equal(before, after)
            model.set_params(**{parameter: value})
        if not parameter.endswith("random_state"):
            model.set_params(**{parameter: kept})  # an equal one will do
        assert_equal(before, result(name, model))
    for parameter, message in refused:
        assert parameter in message
        assert "fit again" in message
    assert refused or name == "EquivariantUnion"  # which has its own copies of all


@pytest.mark.parametrize("name", ["TensorKernelRidge", "TensorGPR", "SparseTensorGPR"])
def test_kernels_changed_in_place(name):
    model = fitted(name)
    model.kernel.zeta = 5
    with pytest.raises(NotFittedError, match="kernel__zeta was changed from 2 to 5"):
        model.predict(TEST)


def test_arrays_and_dicts_changed_in_place():
    embedding = {"H": np.array([1.0, 0.5]), "C": np.array([0.2, 1.0])}
    model = LambdaSOAP(**SMALL, species_embedding=embedding).fit(FRAMES)
    embedding["H"][0] = 3.0
    with pytest.raises(NotFittedError, match="species_embedding"):
        model.transform(TEST)


def test_shared_descriptors_may_serve_others():
    descriptor = soap()
    model = TensorKernelRidge(descriptor=descriptor).fit(FRAMES, vectors(FRAMES))
    before = model.predict(TEST)
    descriptor.set_params(cutoff=4.0)
    np.testing.assert_array_equal(model.predict(TEST), before)


def bad_inputs(name):
    """Structures and labels that are refused early and late."""
    frames = [atoms.copy() for atoms in FRAMES]
    frames[-1].positions[0, 0] = np.nan
    y = labels(name)
    if name in OF_FEATURES:
        yield frames, y
        return
    yield frames, y
    close = [atoms.copy() for atoms in FRAMES]
    close[-1].positions[1] = close[-1].positions[0]  # seen when neighbors are searched
    searches_neighbors = (name in MODELS and name != "TholePolarizability") or name in (
        "SOAP contracted",
        "NBodyFeatures",
    )
    if searches_neighbors:
        yield close, y
    if name in MODELS:
        yield FRAMES, np.where(np.arange(len(y)).reshape(-1, *[1] * (y.ndim - 1)) == 5, np.nan, y)
        yield FRAMES, y[:-1]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fits_that_fail(name):
    """They leave the model as it was: unfitted, or fitted as before."""
    for X, y in bad_inputs(name):
        model = ESTIMATORS[name]()
        with pytest.raises((TypeError, ValueError)):
            model.fit(X, y)
        assert vars(model).keys() == vars(ESTIMATORS[name]()).keys()
        with pytest.raises(NotFittedError):
            result(name, model)
        model = fitted(name)
        before = result(name, model)
        with pytest.raises((TypeError, ValueError)):
            model.fit(X, y)
        assert_equal(before, result(name, model))


class Interrupted(CovariantKernel):
    """A kernel that fails at a later call, in the middle of a fit."""

    calls = 0

    def __call__(self, *arguments, **named):
        type(self).calls += 1
        if type(self).calls > 1:
            raise KeyboardInterrupt
        return super().__call__(*arguments, **named)


@pytest.mark.parametrize("name", ["TensorKernelRidge", "chosen alpha", "TensorGPR", "SparseTensorGPR"])
def test_fits_that_are_interrupted(name):
    model = fitted(name)
    before, kernel = result(name, model), model.kernel
    Interrupted.calls = 0
    polarizabilities = np.einsum("na,nb->nab", vectors(FRAMES), vectors(FRAMES))
    with pytest.raises(KeyboardInterrupt):
        model.set_params(kernel=Interrupted(), descriptor=LambdaSOAP(**SMALL)).fit(FRAMES, polarizabilities)
    with pytest.raises(NotFittedError, match="kernel"):
        result(name, model)
    assert_equal(before, result(name, model.set_params(kernel=kernel)))


@pytest.mark.parametrize("method", ["partial_fit"])
@pytest.mark.parametrize("name", ["SparseTensorGPR", "EquivariantNetworkRegressor", "EquivariantNetwork"])
def test_partial_fits_that_fail(name, method):
    model = fitted(name)
    before = result(name, model)
    for X, y in bad_inputs(name):
        with pytest.raises((TypeError, ValueError)):
            getattr(model, method)(X, y)
        assert_equal(before, result(name, model))


@pytest.mark.parametrize(
    "changed",
    [{"kernel": CovariantKernel(zeta=4)}, {"kernel__zeta": 4}, {"descriptor__cutoff": 4.0}, {"baseline": None},
     {"n_points": 5}, {"target": "ij"}, {"selection": "random"}],
    ids=str,
)  # fmt: skip
def test_partial_fit_with_other_parameters(changed):
    model = SparseTensorGPR(10, kernel=CovariantKernel(), descriptor=soap(), random_state=0)
    model.partial_fit(FRAMES[:7], vectors(FRAMES[:7]))
    before = model.predict(TEST)
    old = {name: model.get_params()[name] for name in changed}
    with pytest.raises(ValueError, match=f"{next(iter(changed))}.* was changed from"):
        model.set_params(**changed).partial_fit(FRAMES[7:], vectors(FRAMES[7:]))
    np.testing.assert_array_equal(model.set_params(**old).predict(TEST), before)
    model.set_params(noise=1e-5, memory=0.5, verbose=0).partial_fit(FRAMES[7:], vectors(FRAMES[7:]))
    assert {sums[1] for sums in model.label_totals_.values()} == {len(FRAMES)}


def spoil(value):
    """Overwrite everything in what a caller passed or got."""
    if isinstance(value, EquivariantFeatures):
        for array in (*value.blocks.values(), value.species, value.atoms, value.n_atoms):
            array[...] = 1
    elif isinstance(value, np.ndarray) and value.dtype != object:
        value[...] = 7
    elif isinstance(value, list | np.ndarray):
        for one in value:
            spoil(one.positions if hasattr(one, "positions") else one)


@pytest.mark.parametrize("of_features", [False, True])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_arrays_belong_to_the_caller(name, of_features):
    """Frames, features, labels and weights may be overwritten after a fit, and so may what predict returns."""
    takes_features = name in MODELS and name not in OF_FRAMES
    if of_features and not (takes_features or name in OF_FEATURES):
        pytest.skip("takes frames")
    if not of_features and name in OF_FEATURES:
        pytest.skip("takes features")
    descriptor = soap().fit(FRAMES)
    frames = [atoms.copy() for atoms in FRAMES]
    X = descriptor.transform(frames) if of_features else frames
    y, weight = labels(name), np.linspace(1, 2, len(FRAMES))
    model = ESTIMATORS[name]()
    arguments = {"sample_weight": weight} if name in MODELS else {}
    model.fit(X, y, **arguments)

    def predicted():
        test = descriptor.transform(TEST) if of_features else TEST
        return model.predict(test) if name in MODELS else model.transform(test)

    def values(out):
        return dict(out.blocks) if isinstance(out, EquivariantFeatures) else {"": np.asarray(out)}

    out = predicted()
    before = copy.deepcopy(values(out))
    for one in (out, X, y, weight):
        spoil(one)
    assert_equal(before, values(predicted()))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_alone_in_a_batch_and_rotated(name):
    model = fitted(name)
    together = result(name, model)
    alone = [result(name, model, [atoms]) for atoms in TEST]
    assert_equal(together, {key: np.concatenate([one[key] for one in alone]) for key in together}, exact=False)
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))  # proper or not
    moved = [atoms.copy() for atoms in TEST]
    for atoms in moved:
        atoms.positions = atoms.positions @ rotation.T
    turned = result(name, model, moved)
    for key, array in together.items():
        if name == "TholePolarizability":
            np.testing.assert_allclose(turned[key], rotation @ array @ rotation.T, atol=1e-8 * np.std(array))
        elif key in ("", "1o") and name in MODELS:
            np.testing.assert_allclose(turned[key], array @ rotation.T, rtol=0, atol=1e-8 * np.std(array))
        elif key in ("", "0e"):
            np.testing.assert_allclose(turned[key], array, rtol=0, atol=1e-8 * np.std(array))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_copies(name):
    """A clone has the parameters and nothing learned; pickles and deep copies predict the same bits."""
    model = fitted(name)
    fresh = clone(model)
    assert fresh.get_params().keys() == model.get_params().keys()
    with pytest.raises(NotFittedError):
        result(name, fresh)
    before = result(name, model)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert_equal(before, result(name, other))
