"""Similarity of elements: the periodic table as chemists know it, and the algebra of embeddings."""

import numpy as np
import pytest
from ase.data import atomic_numbers

from eqkernels.structures.elements import HEAVIEST, element_similarity, embedding, group_and_period, shares

ALL = np.arange(1, HEAVIEST + 1)


@pytest.mark.parametrize(
    ("symbol", "group", "period"),
    [("H", 1, 1), ("He", 18, 1), ("Be", 2, 2), ("B", 13, 2), ("Ar", 18, 3), ("Sc", 3, 4), ("Zn", 12, 4), ("I", 17, 5),
     ("La", 3, 6), ("Hf", 4, 6), ("Hg", 12, 6), ("Rn", 18, 6), ("Ra", 2, 7), ("Ac", 3, 7)],
)  # fmt: skip
def test_places_in_the_periodic_table(symbol, group, period):
    assert group_and_period(atomic_numbers[symbol]) == (group, period)


def test_f_elements_lie_between_their_groups():
    groups = [group_and_period(number)[0] for number in range(57, 73)]
    assert groups[0] == 3
    assert groups[-1] == 4
    assert np.all(np.diff(groups) > 0)


def test_similarity_is_a_kernel_of_which_every_power_is_positive_definite():
    similarity = element_similarity(ALL, ALL)
    assert np.allclose(similarity, similarity.T, atol=0)
    assert np.allclose(np.diag(similarity), 1.0, atol=0)
    for power in (0.2, 1.0, 3.7):
        assert np.linalg.eigvalsh(similarity**power)[0] > -1e-12


@pytest.mark.parametrize(
    ("one", "near", "far"), [("Cl", "Br", "Na"), ("K", "Rb", "Br"), ("Ti", "Zr", "O"), ("La", "Y", "S")]
)
def test_elements_of_a_group_are_alike(one, near, far):
    of_near, of_far = element_similarity([atomic_numbers[one]], [atomic_numbers[near], atomic_numbers[far]])[0]
    assert of_near > 0.2
    assert of_far < 0.02


def test_all_channels_give_the_similarity_back():
    seen = np.array([1, 6, 7, 8, 17, 26])
    vectors = embedding(seen, len(seen))
    assert np.allclose(vectors @ vectors.T, element_similarity(seen, seen), atol=1e-12)


def test_an_embedding_of_seen_elements_is_that_of_the_interpolation():
    seen = np.array([3, 8, 9, 11, 17, 19, 22, 29, 30, 35])
    assert np.allclose(embedding(seen, 5), embedding(seen, 5, seen), atol=1e-12)
    assert np.allclose(np.linalg.norm(embedding(seen, 5, ALL), axis=1), 1.0, atol=1e-12)


def test_unseen_elements_are_near_those_like_them():
    seen = np.array([atomic_numbers[one] for one in ("Li", "Na", "Rb", "O", "S", "F", "Br", "Ti", "Hf")])
    new = [atomic_numbers[one] for one in ("K", "Se", "Cl", "Zr")]
    overlaps = embedding(seen, 6, new) @ embedding(seen, 6).T
    assert np.isin(seen[overlaps[0].argmax()], [11, 37])
    assert seen[overlaps[1].argmax()] == 16
    assert np.isin(seen[overlaps[2].argmax()], [35, 9])
    assert np.isin(seen[overlaps[3].argmax()], [22, 72])
    weights = shares(seen, new)
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert np.array_equal(weights.argmax(axis=1), element_similarity(new, seen).argmax(axis=1))


def test_elements_without_data_are_refused():
    with pytest.raises(ValueError, match="no covalent radius is known of the element 101, only of those up to 96"):
        element_similarity([8], [101])
