import numpy as np
import pytest

from eqkernels import LambdaSOAP, select_sparse_points
from tests.conftest import random_frames


@pytest.fixture(scope="module")
def features():
    return LambdaSOAP(3.0, n_max=3, l_max=2, sigma=0.4, irreps="0e+1o").fit_transform(
        random_frames(3, n_frames=25, n_species=3, n_atoms=(4, 6))
    )


def unit(features):
    x = features.blocks["0e"][:, 0]
    return x / np.linalg.norm(x, axis=1)[:, None]


def distances(a, b):
    return np.linalg.norm(a[:, None] - b, axis=2)


def naive_farthest(x, first, n):
    """Gonzalez 1985: always the point whose distance to the nearest chosen one is largest."""
    chosen = [first]
    while len(chosen) < n:
        chosen.append(int(np.argmax([min(np.linalg.norm(one - x[k]) for k in chosen) for one in x])))
    return chosen


def test_farthest_points_are_those_of_the_definition(features):
    for species in (1, 6, 7):
        own = features.split_centers(np.flatnonzero(features.species == species))
        chosen = select_sparse_points(own, 7, random_state=1)
        x = unit(own)
        first = int(np.argmin(distances(x, unit(chosen)[:1])[:, 0]))
        np.testing.assert_allclose(unit(chosen), x[naive_farthest(x, first, 7)], atol=1e-14)


@pytest.mark.parametrize("selection", ["fps", "leverage", "random"])
def test_numbers_by_species(features, selection):
    counts = {z: int(np.sum(features.species == z)) for z in (1, 6, 7)}
    chosen = select_sparse_points(features, {"H": 5, "C": 3, 7: 4}, selection, random_state=0)
    assert [int(np.sum(chosen.species == z)) for z in (1, 6, 7)] == [5, 3, 4]
    assert len(np.unique(unit(chosen).round(10), axis=0)) == 12
    assert set(chosen.blocks) == {"0e", "1o"}
    assert distances(unit(chosen), unit(features)).min(axis=1).max() < 1e-12
    few = min(counts, key=lambda z: counts[z])
    total = 3 * counts[few] + 6  # the rarest cannot have its third, the others share the rest
    shared = select_sparse_points(features, total, selection, random_state=0)
    assert len(shared) == total
    assert counts[few] - np.sum(shared.species == few) <= 3 * (selection == "fps")  # those that coincide
    again = select_sparse_points(features, total, selection, random_state=0)
    np.testing.assert_array_equal(shared.blocks["1o"], again.blocks["1o"])
    everything = select_sparse_points(features, 10**6, selection, random_state=0)
    assert len(everything) >= len(features.species) - 5 * (selection == "fps")


def test_blocks_cover_the_data_as_well_as_all_at_once(features):
    n = len(features)

    def radius(chosen):
        return max(
            distances(unit(features)[features.species == z], unit(chosen)[chosen.species == z]).min(axis=1).max()
            for z in (1, 6, 7)
        )

    whole = radius(select_sparse_points(features, 18, random_state=0))
    stream = radius(select_sparse_points((features[k : k + 5] for k in range(0, n, 5)), 18, random_state=0))
    assert stream <= 2 * whole  # Gonzalez: any greedy cover is within twice the best
    assert whole < radius(select_sparse_points(features, 6, random_state=0))


def test_random_points_of_a_stream_are_uniform(features):
    own = features.split_centers(np.flatnonzero(features.species == 1)[:12])
    own.blocks["0e"] = np.eye(12)[:, None]
    hits = np.zeros(12)
    random = np.random.RandomState(0)
    for _ in range(600):
        chosen = select_sparse_points((own[k : k + 4] for k in (0, 4, 8)), 3, "random", random_state=random)
        hits += chosen.blocks["0e"][:, 0].sum(axis=0)
    assert np.all(np.abs(hits - 150) < 5 * np.sqrt(600 * 0.25 * 0.75))


def test_leverage_prefers_directions_that_are_rare(features):
    own = features.split_centers(np.flatnonzero(features.species == 1)[:20])
    own.blocks["0e"] = np.zeros((20, 1, 2))
    own.blocks["0e"][:, 0, 0] = 1.0
    own.blocks["0e"][7, 0] = [0.0, 1.0]  # leverage 1, the others have 1/19
    random = np.random.RandomState(0)
    hits = sum(
        select_sparse_points(own, 1, "leverage", random_state=random).blocks["0e"][0, 0, 1] == 1 for _ in range(400)
    )
    assert 160 < hits < 240


def test_environments_that_coincide_are_taken_once(features):
    twice = features[[0, 1, 0, 1, 0]]
    once = len(features[:2].species)
    chosen = select_sparse_points(twice, 1000, random_state=0)
    assert len(chosen) <= once
    assert distances(unit(twice), unit(chosen)).min(axis=1).max() < 1e-7


def test_errors_name_the_parameter(features):
    for arguments, message in (
        ((features, 0), "n_points=0 must be a positive integer"),
        ((features, {"H": 2}), "n_points has no entry for the species C, only for H"),
        ((features, 2), "n_points=2 is less than the number of species, 3"),
        ((features, 5, "kmeans"), "selection='kmeans' must be one of"),
        ((LambdaSOAP(irreps="1o").fit_transform(random_frames(0)), 5), "features has no block 0e"),
        (([], 5), "there is nothing to choose from"),
    ):
        with pytest.raises(ValueError, match=message):
            select_sparse_points(*arguments)
    with pytest.raises(TypeError, match="blocks of them, got int"):
        select_sparse_points([3], 5)
