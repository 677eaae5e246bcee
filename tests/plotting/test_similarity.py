import numpy as np
import pytest
from ase.build import molecule
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from eqkernels import CovariantKernel, EquivariantNetworkRegressor, LambdaSOAP, TensorKernelRidge, TensorRidge
from eqkernels.plotting.similarity import (
    atoms_of_centers,
    correlations,
    features_of,
    kernel_map,
    nearest_distances,
)
from eqkernels.regression.fitted_targets import is_per_atom, target_of

NAMES = ("H2O", "CH3OH", "NH3", "CH4", "HCOOH", "C2H6")


@pytest.fixture(scope="module")
def features():
    return LambdaSOAP(cutoff=3.0, n_max=3, l_max=2, irreps="0e").fit_transform([molecule(name) for name in NAMES])


def naive_kernel(X, Y, zeta=2):
    """Mean over pairs of environments of one species of the power of the cosine, scaled to 1 on the diagonal."""

    def kernel(a, b):
        total = 0.0
        for i, p in enumerate(a.blocks["0e"][:, 0]):
            for j, q in enumerate(b.blocks["0e"][:, 0]):
                if a.species[i] == b.species[j]:
                    total += (p @ q / np.linalg.norm(p) / np.linalg.norm(q)) ** zeta
        return total / (len(a.species) * len(b.species))

    values = [[kernel(a, b) / np.sqrt(kernel(a, a) * kernel(b, b)) for b in parts(Y)] for a in parts(X)]
    return np.array(values)


def parts(features):
    return [features[[k]] for k in range(len(features))]


def test_correlations_are_those_of_the_formula(features):
    np.testing.assert_allclose(correlations(features), naive_kernel(features, features), atol=1e-12)
    linear = correlations(features[:4], features[4:], CovariantKernel(zeta=1))
    np.testing.assert_allclose(linear, naive_kernel(features[:4], features[4:], 1), atol=1e-12)


def test_distances_to_the_nearest(features):
    naive = np.sqrt(2 - 2 * naive_kernel(features[3:], features[:3]))
    np.testing.assert_allclose(nearest_distances(features[3:], features[:3]), naive.min(axis=1), atol=1e-10)
    assert nearest_distances(features, features).max() < 1e-7


def test_environments_of_other_species_have_nothing_in_common(features):
    water, methane = features[0].split_centers(), features[3].split_centers()
    distances = nearest_distances(water, methane)
    assert distances[0] == pytest.approx(np.sqrt(2))  # oxygen
    assert (distances[1:] < 1.4).all()


def test_map_is_the_eigendecomposition_of_the_centered_kernel(features):
    coordinates, shares = kernel_map(features)
    centering = np.eye(6) - 1 / 6
    values, vectors = np.linalg.eigh(centering @ naive_kernel(features, features) @ centering)
    np.testing.assert_allclose(shares, values[:-3:-1] / values.sum(), atol=1e-12)
    for component in range(2):
        expected = vectors[:, -1 - component] * np.sqrt(values[-1 - component])
        sign = np.sign(expected @ coordinates[:, component])
        np.testing.assert_allclose(sign * coordinates[:, component], expected, atol=1e-10)


def test_map_of_one_structure_and_of_equal_ones(features):
    for same in (features[:1], features[[2, 2, 2]]):
        coordinates, shares = kernel_map(same)
        np.testing.assert_array_equal(coordinates, np.zeros((len(same), 2)))
        np.testing.assert_array_equal(shares, [0, 0])


def test_features_of_models_of_all_kinds(waters):
    frames, vector, *_ = waters
    descriptor = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2)
    expected = descriptor.fit(frames[:20], vector[:20]).transform(frames[20:]).blocks["0e"]
    models = [
        make_pipeline(descriptor, TensorRidge()),
        TensorKernelRidge(descriptor=descriptor),
        GridSearchCV(TensorRidge(descriptor=descriptor), {"alpha": [1e-3]}, cv=2),
    ]
    for model in models:
        features = features_of(model.fit(frames[:20], vector[:20]), frames[20:])
        np.testing.assert_allclose(features.blocks["0e"], expected, atol=1e-14)
        assert not is_per_atom(model)
    assert features_of(models[0], features) is features
    fitted_to_features = TensorRidge().fit(features, vector[20:])
    with pytest.raises(TypeError, match="TensorRidge has no descriptor that makes EquivariantFeatures"):
        features_of(fitted_to_features, frames)


def test_target_of_models_of_one_property_and_of_several(waters):
    frames, vector, _, scalar = waters
    network = EquivariantNetworkRegressor(channels=2, max_iter=2, random_state=0).fit(frames[:8], vector[:8])
    assert target_of(network).formula == "i"
    assert not is_per_atom(network)
    network.fit(frames[:8], {"a": vector[:8], "b": scalar[:8]})
    with pytest.raises(TypeError, match="does not say which tensor it predicts"):
        target_of(network)


def test_atoms_of_centers():
    frames = [molecule("H2O"), molecule("CH4"), molecule("NH3")]
    features = LambdaSOAP(cutoff=3.0, n_max=2, l_max=2, irreps="0e", center_species=[1]).fit_transform(frames)
    numbers = np.concatenate([atoms.numbers for atoms in frames])
    np.testing.assert_array_equal(atoms_of_centers(features), np.flatnonzero(numbers == 1))
